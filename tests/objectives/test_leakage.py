"""The linear leak: the held-out R² of a ridge probe, and a penalty that closes it."""

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ShapeError
from latens.objectives.covariance import covariance
from latens.objectives.dependence import distance_correlation
from latens.objectives.leakage import LinearLeak

K, SPREAD = 60, 0.13


def batch(step: int, rows: int = 32, knows: float = SPREAD) -> tuple[torch.Tensor, torch.Tensor]:
    """Sixty latents that each know a little of one quantity."""
    stream = NoiseStream(7, step)
    t = stream.normal((rows, 2), torch.float64)
    direction = NoiseStream(8, 0).normal((K,), torch.float64).sign()
    return stream.normal((rows, K), torch.float64) + knows * t[:, :1] * direction, t


def filled(knows: float = SPREAD) -> LinearLeak:
    leak = LinearLeak(K, 2, shrinkage=1e-6).double()
    for step in range(400):
        leak(*batch(step, knows=knows))
    return leak.eval()


def test_it_is_the_share_that_a_probe_explains_on_new_rows():
    """R² = c² K / (1 + c² K) for K latents that know c each: .50 at c = .13."""
    expected = K * SPREAD**2 / (1 + K * SPREAD**2)
    found = filled()(*batch(10_000, 20_000))
    assert abs(float(found) - expected) < 0.03
    assert distance_correlation(*(v[:400] for v in batch(10_000, 400))) < 0.15


def test_nothing_is_read_where_nothing_is():
    assert abs(float(filled(0.0)(*batch(10_000, 20_000, knows=0.0)))) < 0.02


def test_the_first_batch_costs_nothing_and_evaluation_remembers_nothing():
    leak = LinearLeak(K, 2).double()
    assert leak(*batch(0)) == 0
    leak.eval()
    before = leak.second.clone()
    assert leak(*batch(1)) != 0
    assert torch.equal(leak.second, before)


def test_the_gradient_is_that_of_the_covariance_with_the_probe():
    leak = filled()
    r, t = batch(3)
    r.requires_grad_()
    (found,) = torch.autograd.grad(leak(r, t), r)
    weights, variance = leak.probe()
    joint = covariance(torch.cat([r @ weights, t], 1))
    (expected,) = torch.autograd.grad((joint[:2, 2:].diagonal() / variance).sum(), r)
    torch.testing.assert_close(found, expected)


def test_descent_closes_the_leak():
    """A linear encoder that starts with the leak above loses it in a few hundred steps."""
    leak = LinearLeak(K, 2, shrinkage=1e-3).double()
    carried = (SPREAD * NoiseStream(8, 0).normal((K,), torch.float64).sign()).requires_grad_()
    optimiser = torch.optim.SGD([carried], lr=0.02)
    for step in range(500):
        stream = NoiseStream(9, step)
        t = stream.normal((32, 1), torch.float64)
        rest = stream.normal((32, K), torch.float64) + t * carried
        optimiser.zero_grad()
        value = leak(rest, torch.cat([t, t], 1))
        if step:
            value.backward()
            optimiser.step()
    remaining = float(carried.detach().square().sum())
    assert remaining / (1 + remaining) < 0.05


def test_rows_that_do_not_pair():
    with pytest.raises(ShapeError, match="two or more"):
        LinearLeak(2, 1)(torch.zeros(1, 2), torch.zeros(1, 1))
