"""Metrics from draws: exact in the limit, careful with few."""

import pytest
import torch

from latens.errors import ConfigError, ShapeError
from latens.inference.samplers import Metric, estimate_metric
from latens.inference.samplers.metric import adjoint, forward, leading_variance


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


COVARIANCE = torch.tensor([[4.0, 1.5, 0.0], [1.5, 1.0, 0.05], [0.0, 0.05, 0.01]]).double()


def correlated(count, problems=1, chains=2):
    factor = torch.linalg.cholesky(COVARIANCE)
    return normal(count, problems, chains, 3) @ factor.T


def covariance_of(metric):
    factor = metric.factor if metric.is_dense else torch.diag_embed(metric.factor)
    return factor @ factor.mT


def test_reaches_the_covariance():
    dense = covariance_of(estimate_metric(correlated(200_000), "dense"))[0]
    torch.testing.assert_close(dense, COVARIANCE, rtol=0.02, atol=0.002)
    diagonal = covariance_of(estimate_metric(correlated(200_000), "diagonal"))[0]
    torch.testing.assert_close(diagonal, torch.diag(COVARIANCE.diag()), rtol=0.02, atol=0)


def test_few_draws_are_shrunk_and_stay_positive_definite():
    draws = correlated(2, chains=2)[..., :].repeat(1, 1, 1, 20)  # 60 dimensions from 4 draws
    metric = estimate_metric(draws, "dense")
    assert torch.linalg.eigvalsh(covariance_of(metric)).min() > 0


def test_problems_do_not_see_each_other():
    both = torch.cat([correlated(50), 100 * normal(50, 1, 2, 3, seed=5)], 1)
    for shape in ("diagonal", "dense"):
        together = estimate_metric(both, shape).factor
        for p in range(2):
            alone = estimate_metric(both[:, p : p + 1], shape).factor
            torch.testing.assert_close(together[p : p + 1], alone)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_problem_that_never_moved_keeps_the_identity(bad):
    draws = correlated(50, problems=2)
    draws[:, 1] = bad
    for shape in ("diagonal", "dense"):
        covariance = covariance_of(estimate_metric(draws, shape))
        torch.testing.assert_close(covariance[1], torch.eye(3).double())
        assert covariance[0].isfinite().all()
    assert leading_variance(draws, Metric.identity(2, 3, draws))[1] == 1


@pytest.mark.parametrize("shape", ["diagonal", "dense"])
def test_maps_agree(shape):
    metric = estimate_metric(correlated(50, problems=2), shape)
    r, g = normal(2, 5, 3, seed=1), normal(2, 5, 3, seed=2)
    torch.testing.assert_close(metric.inverse(forward(metric.factor, r)), r)
    left = (forward(metric.factor, r) * g).sum(-1)
    torch.testing.assert_close(left, (r * adjoint(metric.factor, g)).sum(-1))


def test_leading_variance_is_not_inflated_by_few_draws():
    """100 draws in 50 dimensions: the largest sample eigenvalue of white noise is near 2.9."""
    found = torch.stack(
        [
            leading_variance(normal(25, 1, 4, 50, seed=s), Metric.identity(1, 50, normal(1)))[0]
            for s in range(20)
        ]
    )
    assert 0.95 < found.mean() < 1.35
    wide = normal(25, 1, 4, 50)
    wide[..., 7] *= 5
    assert 15 < leading_variance(wide, Metric.identity(1, 50, wide))[0] < 40


def test_refuses():
    with pytest.raises(ConfigError, match="diagonal or dense"):
        estimate_metric(correlated(9), "low-rank")
    with pytest.raises(ShapeError):
        Metric(torch.zeros(3))
    with pytest.raises(ShapeError):
        Metric(torch.zeros(1, 3, 2))


@pytest.mark.parametrize("shape", ["diagonal", "dense"])
def test_gradients_tell_the_metric_before_the_chains_have_settled(shape):
    """x ~ N(0, C) under a density N(0, Σ): the mean of C and (Σ⁻¹ C Σ⁻¹)⁻¹ is Σ for every C."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    wanted, spread = mixing @ mixing.mT + torch.eye(4)
    if shape == "diagonal":
        wanted, spread = wanted.diagonal().diag(), spread.diagonal().diag()
    noise = torch.randn(2000, 1, 20, 4, generator=generator, dtype=torch.float64)
    draws = noise @ torch.linalg.cholesky(spread).mT + 3
    forces = -(draws - 7) @ torch.linalg.inv(wanted)
    factor = estimate_metric(draws, shape, forces).factor[0]
    found = factor.square().diag() if shape == "diagonal" else factor @ factor.mT
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    assert (spread / wanted - 1).diagonal().abs().max() > 0.3
