"""The penalty of DIP-VAE-II: unbiased by enumeration and by Monte Carlo, in float64."""

from itertools import permutations, product
from math import sqrt

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ShapeError
from latens.objectives.covariance import (
    CovarianceBuffer,
    covariance,
    squared_covariance,
    squares,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, 5).normal(shape, torch.float64)


def correlated(*rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that are skewed and correlated, `(*rows, 3)`, and their covariance."""
    mix = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.3, 0.5, 0.7]]).double()
    free = normal(*rows, 3, seed=seed)
    return ((free.square() - 1) / sqrt(2)) @ mix.T, mix @ mix.T


def test_closed_form_is_the_mean_over_four_different_rows():
    x = normal(6, 3)
    total = torch.zeros(3, 3, dtype=torch.float64)
    count = 0
    for a, b, c, d in permutations(range(6), 4):
        left, right = torch.outer(x[a] - x[b], x[a] - x[b]), torch.outer(x[c] - x[d], x[c] - x[d])
        total += left * right / 4
        count += 1
    torch.testing.assert_close(squared_covariance(x), total / count, rtol=1e-11, atol=1e-12)


def test_unbiased_over_every_sample_of_a_small_population():
    """All 3⁴ samples of four rows from three points: an exact mean; plain squares have a bias."""
    points = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
    centred = points - points.mean(0)
    truth = (centred.T @ centred / 3).square()
    samples = [points[list(rows)] for rows in product(range(3), repeat=4)]
    unbiased = torch.stack([squared_covariance(s) for s in samples]).mean(0)
    plain = torch.stack([covariance(s).square() for s in samples]).mean(0)
    torch.testing.assert_close(unbiased, truth, rtol=1e-11, atol=1e-12)
    assert ((plain - truth) > 0.05 * truth).all()


def test_both_norms_are_unbiased_for_skewed_rows():
    """z-test over 4000 batches; posterior variances depend on the means."""
    rows, true = correlated(4000, 8, seed=3)
    variance = 0.1 + 0.2 * rows.square() / (1 + rows.square())
    mean_variance = 0.1 + 0.2 * (lambda x: x.square() / (1 + x.square()))(
        correlated(400_000, seed=4)[0]
    ).mean(0)
    goal = {
        "off_diagonal": float(true.square().sum() - true.diagonal().square().sum()),
        "diagonal": float((true.diagonal() + mean_variance - 1).square().sum()),
    }
    found = [squares(x, v) for x, v in zip(rows, variance, strict=True)]
    for name, expected in goal.items():
        values = torch.stack([getattr(f, name) for f in found])
        score = (values.mean() - expected) / (values.std() / sqrt(len(values)))
        assert abs(score) < 3.5, (name, float(values.mean()), expected)


def test_noise_floor_of_independent_latents():
    """k (k−1) v² / (B−1), which the plain squares pay and the unbiased ones do not."""
    k, size, v = 12, 6, 0.8
    found = [squares(v**0.5 * x, torch.ones_like(x)) for x in normal(3000, size, k, seed=7)]
    floor = torch.stack([f.floor for f in found])
    off = torch.stack([f.off_diagonal for f in found])
    expected = k * (k - 1) * v**2 / (size - 1)
    assert abs(floor.mean() - expected) < 4 * floor.std() / sqrt(3000)
    assert abs(off.mean()) < 4 * off.std() / sqrt(3000)
    assert expected > 8 * off.std() / sqrt(3000)


@pytest.mark.parametrize("name", ["off_diagonal", "diagonal"])
def test_gradients_by_finite_differences(name):
    loc, scale = normal(5, 3).requires_grad_(), (0.3 * normal(5, 3, seed=1)).exp().requires_grad_()

    def value(m: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return getattr(squares(m, s.square()), name)

    assert torch.autograd.gradcheck(value, (loc, scale), eps=1e-6, atol=1e-7)


def test_the_buffer_estimates_the_squared_norm():
    rows, true = correlated(3000, 4, seed=9)
    buffer = CovarianceBuffer(3, decay=0.98).double()
    values = [buffer(x, torch.full_like(x, 0.2)) for x in rows][300:]
    off = torch.stack([v.off_diagonal for v in values])
    diagonal = torch.stack([v.diagonal for v in values])
    blocks = off.reshape(-1, 300).mean(1)  # neighbours share their average
    expected = true.square().sum() - true.diagonal().square().sum()
    assert abs(blocks.mean() - expected) < 4 * blocks.std() / sqrt(len(blocks))
    blocks = diagonal.reshape(-1, 300).mean(1)
    expected = (true.diagonal() + 0.2 - 1).square().sum()
    assert abs(blocks.mean() - expected) < 4 * blocks.std() / sqrt(len(blocks))


def test_the_gradient_of_the_buffer_is_that_of_the_norm():
    """Twice ⟨C, ∇S⟩; the average passes no gradient and is left alone outside training."""
    buffer = CovarianceBuffer(3).double()
    rows = normal(400, 3, seed=2)
    buffer(rows, torch.ones_like(rows))
    buffer.eval()
    before = buffer.average.clone()
    loc = normal(6, 3, seed=3).requires_grad_()
    (found,) = torch.autograd.grad(buffer(loc, torch.ones_like(loc)).off_diagonal, loc)
    known = before / buffer.weight
    known = known - torch.diag(known.diagonal())
    (inner,) = torch.autograd.grad((known * covariance(loc)).sum(), loc)
    torch.testing.assert_close(found, 2 * inner)
    assert torch.equal(buffer.average, before)


def test_the_first_batch_costs_nothing():
    x = normal(8, 3)
    found = CovarianceBuffer(3).double()(x, torch.ones_like(x))
    assert found.off_diagonal == 0
    assert found.diagonal == 0
    assert found.floor > 0


def test_float32_inside_autocast():
    loc = normal(16, 6).float()
    variance = torch.full_like(loc, 0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = squares(loc.bfloat16(), variance.bfloat16())
        buffered = CovarianceBuffer(6)(loc, variance)
    exact = squares(loc.bfloat16().double(), variance.bfloat16().double())
    assert mixed.off_diagonal.dtype == torch.float32
    torch.testing.assert_close(mixed.off_diagonal.double(), exact.off_diagonal, rtol=1e-4, atol=0)
    torch.testing.assert_close(mixed.diagonal.double(), exact.diagonal, rtol=1e-4, atol=0)
    assert buffered.floor.dtype == torch.float32


def test_too_few_rows():
    x = normal(3, 2)
    with pytest.raises(ShapeError, match="B ≥ 4"):
        squares(x, x.square())
    with pytest.raises(ShapeError, match="B ≥ 2"):
        CovarianceBuffer(2).double()(x[:1], x[:1].square())
