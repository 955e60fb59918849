"""Recorded reconstructions: the same answers for the same measurements, and no others."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, LatensError, ShapeError, UnsupportedError
from latens.evaluation import Context
from latens.evaluation.measure import image_rows
from latens.inference import (
    MarginalPosterior,
    PointEstimate,
    Recorded,
    RecordedPosterior,
    Recording,
)

SHAPE = (1, 12, 12)


def normal(*shape, seed=0):
    return NoiseStream(seed, *shape).normal(shape)


X, Y = normal(6, *SHAPE), normal(6, 3, 5, seed=1)
DRAWS = X + 0.5 * normal(50, 6, *SHAPE, seed=2)


def test_rows_are_found_by_their_measurement_whatever_the_keys():
    solver = Recorded(Recording(mean=X), Y)
    found = solver(Y[[4, 1]], keys=[0, 1])
    assert isinstance(found, PointEstimate)
    assert torch.equal(found.mean, X[[4, 1]])


def test_keys_decide_between_equal_measurements():
    y = Y.clone()
    y[3] = y[2]
    solver = Recorded(Recording(mean=X), y)
    assert torch.equal(solver(y[[2, 3]], keys=[2, 3]).mean, X[[2, 3]])
    assert torch.equal(solver(y[[3]], keys=[77]).mean, X[[2]])


def test_other_measurements_are_refused():
    solver = Recorded(Recording(mean=X), Y)
    with pytest.raises(UnsupportedError, match=r"latens\.evaluate"):
        solver(Y + 1e-6)
    with pytest.raises(UnsupportedError):
        solver.mean_of(Y, range(6), 0)


def test_draws_are_spread_and_moments_are_of_all():
    posterior = Recorded(Recording(draws=DRAWS), Y)(Y[2:4], keys=[2, 3])
    assert isinstance(posterior, RecordedPosterior)
    torch.testing.assert_close(posterior.mean, DRAWS[:, 2:4].mean(0))
    torch.testing.assert_close(posterior.std, DRAWS[:, 2:4].std(0))
    sample = posterior.sample()
    assert sample.shape == (39, 2, *SHAPE)
    places = [next(i for i in range(50) if torch.equal(DRAWS[i, 2:4], draw)) for draw in sample]
    assert places[0] == 0
    assert places[-1] == 49
    assert set(np.diff(places)) <= {1, 2}
    assert torch.equal(posterior.sample(50), DRAWS[:, 2:4])
    with pytest.raises(UnsupportedError, match="at most the 50"):
        posterior.sample(51)


def test_a_recorded_mean_comes_before_that_of_the_draws():
    posterior = Recorded(Recording(mean=X, std=2 + 0 * X, draws=DRAWS), Y)(Y)
    assert torch.equal(posterior.mean, X)
    torch.testing.assert_close(posterior.std, 2 + 0 * X)


def test_a_spread_per_pixel_says_nothing_of_regions():
    posterior = Recorded(Recording(mean=X, std=0.5 + 0 * X), Y)(Y)
    assert isinstance(posterior, MarginalPosterior)
    context = Context(4.0, normal(3, *SHAPE, seed=9), None)
    found = set(image_rows(posterior, X, Y, context))
    whole = set(image_rows(Recorded(Recording(draws=DRAWS), Y)(Y), X, Y, context))
    assert {"coverage_pixel", "crps", "spread_skill", "ause"} <= found
    lost = whole - found
    assert lost >= {"coverage_region", "coverage_principal", "energy_score", "variogram_score"}
    joint = ("_score", "_draw")  # of whole images
    assert all("region" in m or "principal" in m or m.endswith(joint) for m in lost)


def test_a_spread_of_zero_is_no_error():
    posterior = Recorded(Recording(mean=X, std=0 * X), Y)(Y)
    torch.testing.assert_close(posterior.sample()[5], X)


WRONG = {
    "nothing": lambda: Recording(),
    "a std alone": lambda: Recording(std=X),
    "too few draws": lambda: Recording(draws=DRAWS[:38]),
    "a negative std": lambda: Recording(mean=X, std=-X.abs()),
    "a mean of another shape": lambda: Recording(mean=X[:5], draws=DRAWS),
    "a std of another shape": lambda: Recording(mean=X, std=X[:5].abs()),
    "too few measurements": lambda: Recorded(Recording(mean=X), Y[:5]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit(name):
    with pytest.raises((ConfigError, ShapeError)) as caught:
        WRONG[name]()
    assert isinstance(caught.value, LatensError)
    assert "\n" not in str(caught.value)
