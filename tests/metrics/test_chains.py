"""Chain diagnostics against ArviZ, and on chains whose answer is known."""

import arviz
import numpy as np
import pytest
import torch

from latens.errors import ShapeError
from latens.metrics import bulk_ess, e_bfmi, mean_ess, nested_rhat, rhat, tail_ess


def autoregressive(draws, chains, coefficient, seed=0, events=()):
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(draws, chains, *events))
    x = noise.copy()
    for t in range(1, draws):
        x[t] = coefficient * x[t - 1] + np.sqrt(1 - coefficient**2) * noise[t]
    return torch.from_numpy(x)


def arviz_of(function, draws, **options):
    """A function of ArviZ for every quantity of `(S, K, E)`."""
    values = draws.numpy()
    return np.array(
        [function(values[:, :, e].T.copy(), **options) for e in range(values.shape[2])]
    )


def cases():
    ties = autoregressive(101, 4, 0.5, events=(3,))
    ties[1:] = (
        torch.where(torch.rand(100, 4, 1, generator=torch.manual_seed(0)) < 0.3, 0, 1)
        * (ties[1:] - ties[:1])
        + ties[:1]
    )
    shifted = autoregressive(50, 4, 0.3, events=(3,))
    shifted[:, 0] += 2
    return {
        "independent": autoregressive(200, 4, 0.0, events=(5,)),
        "sticky": autoregressive(200, 4, 0.9, events=(5,)),
        "very sticky": autoregressive(61, 2, 0.99, events=(5,)),
        "antithetic": autoregressive(200, 4, -0.7, events=(5,)),
        "nearly alternating": autoregressive(200, 4, -0.99, events=(5,)),
        "one chain": autoregressive(300, 1, 0.4, events=(5,)),
        "many short chains": autoregressive(8, 64, 0.4, events=(5,)),
        "shifted": shifted,
        "ties": ties,
        "heavy tails": torch.tan(autoregressive(300, 4, 0.3, events=(4,))),
    }


@pytest.mark.parametrize("name", cases())
def test_agrees_with_arviz(name):
    draws = cases()[name]
    for ours, method in [(bulk_ess, "bulk"), (tail_ess, "tail"), (mean_ess, "mean")]:
        np.testing.assert_allclose(
            ours(draws), arviz_of(arviz.ess, draws, method=method), rtol=1e-10
        )
    if draws.shape[1] > 1:  # ArviZ has no R̂ of one chain, though it splits it
        np.testing.assert_allclose(rhat(draws), arviz_of(arviz.rhat, draws), rtol=1e-10)
    for e in range(draws.shape[2]):
        energy = draws[:, :, e]
        np.testing.assert_allclose(e_bfmi(energy), arviz.bfmi(energy.numpy().T), rtol=1e-10)


def test_float32_draws_give_what_float64_draws_give():
    draws = autoregressive(200, 4, 0.5, events=(3,)).float()
    for function in (bulk_ess, tail_ess, rhat):
        torch.testing.assert_close(
            function(draws).double(), function(draws.double()), rtol=1e-5, atol=0
        )


def test_ess_of_an_autoregression():
    draws = autoregressive(20_000, 8, 0.8, events=(20,))
    expected = 20_000 * 8 * (1 - 0.8) / (1 + 0.8)
    assert abs(mean_ess(draws).mean() / expected - 1) < 0.03


@pytest.mark.parametrize("events", [(), (2,), (2, 3)])
def test_one_number_per_quantity(events):
    draws = autoregressive(40, 4, 0.2, events=events)
    for function in (rhat, bulk_ess, tail_ess, mean_ess):
        assert function(draws).shape == events
    assert nested_rhat(draws, 2).shape == events


def test_nested_rhat_is_one_for_chains_that_forgot_and_large_for_those_that_did_not():
    forgot = autoregressive(1, 512, 0.0, events=(200,))
    # between superchains: var of a mean of M draws, 1/M of within, so R² ≈ 1 + 1/M
    expected = np.sqrt(1 + 1 / 16)
    assert abs(nested_rhat(forgot, 32).mean() - expected) < 0.01
    starts = autoregressive(1, 32, 0.0, seed=1, events=(200,)).repeat_interleave(16, 1)
    kept = nested_rhat(starts + 0.5 * forgot, 32)  # R² ≈ 1 + (1 + .25/16)/.25
    assert abs(kept.square().mean() - 5.06) < 0.15


def test_nested_rhat_of_single_chains_is_plain_rhat():
    draws = autoregressive(100, 8, 0.5, events=(3,))
    within, between = draws.var(0).mean(0), draws.mean(0).var(0)
    torch.testing.assert_close(nested_rhat(draws, 8), (1 + between / within).sqrt())


def test_not_finite_and_frozen_quantities_are_nan():
    draws = autoregressive(50, 4, 0.2, events=(3,))
    draws[7, 1, 0] = float("nan")
    draws[:, :, 1] = 3.0
    for function in (rhat, bulk_ess, mean_ess):
        value = function(draws)
        assert value[:2].isnan().all()
        assert value[2].isfinite()


@pytest.mark.parametrize(
    "call",
    [
        lambda: rhat(torch.zeros(3, 4)),
        lambda: bulk_ess(torch.zeros(9)),
        lambda: nested_rhat(torch.zeros(9, 6), 4),
        lambda: nested_rhat(torch.zeros(1, 6), 6),
        lambda: nested_rhat(torch.zeros(9, 6), 1),
    ],
)
def test_refuses_what_it_cannot_measure(call):
    with pytest.raises(ShapeError):
        call()
