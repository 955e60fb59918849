"""What posteriors state: densities against torch, and the parts of an ensemble's variance."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import ReshapeTransform

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ShapeError
from latens.evaluation import evaluate
from latens.evaluation.beliefs import belief_rows
from latens.evaluation.null_space import measure_null_space
from latens.inference import (
    Calibrated,
    Calibration,
    Ensemble,
    EnsemblePosterior,
    Posterior,
    WienerSolver,
    as_solver,
)
from latens.metrics import member_variance_components, metric, nll
from latens.problems import GaussianNoise, Identity, Inpainting, InverseProblem

SHAPE = (1, 12, 12)
NOISE = 0.5
PROBLEM = InverseProblem(Identity(SHAPE), GaussianNoise(NOISE))
VARIANCE = NOISE**2 / (1 + NOISE**2)
ENTROPY = 0.5 * math.log(2 * math.pi * math.e * VARIANCE)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, len(shape)).normal(shape)


def exact(y: torch.Tensor) -> Independent:
    """Of white images, N(0, 1), in white noise."""
    return diagonal_normal(y / (1 + NOISE**2), torch.full_like(y, VARIANCE**0.5), 3)


def shifted(shift: torch.Tensor | float, scale: float):
    return as_solver(lambda y: diagonal_normal(y + shift, torch.full_like(y, scale), 3))


def test_an_exact_posterior_scores_its_entropy():
    x = normal(60, *SHAPE)
    found = evaluate(exact, PROBLEM, x)
    error = math.sqrt(0.5 / x.numel())
    for name in ("nll", "nll_pixel"):
        assert metric(name).value(found.rows[name]) == pytest.approx(ENTROPY, abs=4 * error)
    np.testing.assert_allclose(found.rows["nll"], found.rows["nll_pixel"], rtol=1e-5)
    overconfident = as_solver(
        lambda y: Independent(Normal(exact(y).mean, 0.5 * exact(y).stddev), 3)
    )
    worse = metric("nll").value(evaluate(overconfident, PROBLEM, x).rows["nll"])
    assert worse == pytest.approx(ENTROPY + 1.5 - math.log(2), abs=16 * error)


def test_a_joint_density_is_that_of_the_whole_image():
    x, y = normal(5, 1, 3, 4), normal(5, 1, 3, 4, seed=1)
    covariance = 0.5 * torch.eye(12) + 0.5
    reshape = ReshapeTransform((12,), (1, 3, 4))

    def solver(y: torch.Tensor) -> TransformedDistribution:
        return TransformedDistribution(MultivariateNormal(y.flatten(1), covariance), [reshape])

    posterior = as_solver(solver)(y)
    assert isinstance(posterior, Posterior)
    rows = belief_rows(posterior, x)
    joint = MultivariateNormal(y.flatten(1), covariance).log_prob(x.flatten(1))
    assert set(rows) == {"nll"}  # its elements depend on each other
    torch.testing.assert_close(rows["nll"][:, 0], -joint.double() / 12)


def test_an_ensemble_is_scored_as_the_mixture_it_is():
    x = normal(6, *SHAPE)
    posterior = Ensemble([shifted(0.0, 0.5), shifted(1.0, 2.0)])(x, seed=1)
    assert isinstance(posterior, EnsemblePosterior)
    rows = belief_rows(posterior, x + 0.3)
    loc = torch.stack([x, x + 1], 1)
    scale = torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1).expand_as(loc)
    whole = MixtureSameFamily(Categorical(torch.ones(6, 2)), Independent(Normal(loc, scale), 3))
    torch.testing.assert_close(rows["nll"][:, 0], -whole.log_prob(x + 0.3).double() / 144)
    last = (loc.movedim(1, -1), scale.movedim(1, -1))
    pixel = MixtureSameFamily(Categorical(torch.ones(6, *SHAPE, 2)), Normal(*last))
    expected = -pixel.log_prob(x + 0.3).double().mean((1, 2, 3))
    torch.testing.assert_close(rows["nll_pixel"][:, 0], expected)
    assert (rows["nll"] < rows["nll_pixel"] - 0.1).all()  # one member made the whole image


def test_draws_have_no_density_and_one_member_without_takes_that_of_all():
    x = normal(4, *SHAPE)
    drawn = as_solver(lambda y, n: y + normal(n, *y.shape))
    for solver in (drawn, Ensemble([drawn, shifted(0.0, 1.0)])):
        posterior = solver(x)
        assert isinstance(posterior, Posterior)
        assert not {"nll", "nll_pixel"} & set(belief_rows(posterior, x))
    assert not {"nll", "nll_pixel"} & set(evaluate(lambda y: y, PROBLEM, x).rows)


def test_a_truth_outside_the_support_of_a_foreign_distribution():
    positive = as_solver(
        lambda y: Independent(torch.distributions.Exponential(torch.ones_like(y)), 3)
    )
    posterior = positive(normal(2, *SHAPE))
    assert isinstance(posterior, Posterior)
    assert set(belief_rows(posterior, torch.ones(2, *SHAPE))) == {"nll", "nll_pixel"}
    assert belief_rows(posterior, -torch.ones(2, *SHAPE)) == {}


def test_wiener_knows_its_marginals():
    x = normal(400, *SHAPE, seed=3)
    y = x + NOISE * normal(400, *SHAPE, seed=4)
    wiener = WienerSolver.fit(PROBLEM, x, y)
    rows = evaluate(wiener, PROBLEM, x[:100], y=y[:100]).rows
    assert "nll" not in rows
    assert metric("nll_pixel").value(rows["nll_pixel"]) == pytest.approx(ENTROPY, abs=0.02)


def test_variance_of_an_ensemble_adds_up():
    x = normal(6, *SHAPE)
    solver = Ensemble([shifted(0.0, 0.5), shifted(1.0, 1.0), shifted(5.0, 2.0)])
    rows = evaluate(solver, PROBLEM, x).rows
    between, within = np.var([0.0, 1.0, 5.0]), (0.25 + 1 + 4) / 3
    np.testing.assert_allclose(rows["variance_between"], between, rtol=1e-4)
    np.testing.assert_allclose(rows["variance_within"], within, rtol=1e-4)
    share = metric("between_share").value(rows["between_share"])
    assert share == pytest.approx(between / (between + within), rel=1e-4)
    posterior = solver(x)
    assert isinstance(posterior, EnsemblePosterior)
    total = rows["variance_between"][:, 0] + rows["variance_within"][:, 0]
    np.testing.assert_allclose(total, posterior.variance.mean((1, 2, 3)), rtol=1e-5)
    widened = Calibration("split", "std", 0.9, 1.2, 0.9, 0.9, None, 100, 100, SHAPE)
    calibrated = Calibrated(solver, widened)(x)
    np.testing.assert_allclose(
        belief_rows(calibrated, x)["between_share"], rows["between_share"], rtol=1e-5
    )


def test_one_member_is_no_ensemble():
    with pytest.raises(ShapeError, match="at least 2"):
        member_variance_components(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    with pytest.raises(ShapeError, match="variances"):
        member_variance_components(torch.ones(3, 2, 3), torch.ones(2, 2, 3))
    with pytest.raises(ShapeError, match="log_prob"):
        nll(torch.ones(2, 3), torch.ones(2, 3))


@pytest.mark.parametrize(("where", "share"), [("seen", 0.0), ("unseen", 1.0), ("both", None)])
def test_what_members_disagree_about_is_split_into_range_and_null_space(where, share):
    """A mask: its null space is the pixels that it hides."""
    operator = Inpainting(SHAPE, 0.5)
    problem = InverseProblem(operator, GaussianNoise(0.05))
    kept = operator.A_adjoint(operator.A(torch.ones(1, *SHAPE)))[0] > 0.5
    hidden = float((~kept).float().mean())
    shift = {"seen": kept.float(), "unseen": (~kept).float(), "both": torch.ones(SHAPE)}[where]
    x = normal(20, *SHAPE)

    def around(sign: float):
        return as_solver(
            lambda y: diagonal_normal(
                operator.A_adjoint(y) + sign * shift, torch.full((len(y), *SHAPE), 0.7), 3
            )
        )

    solver = Ensemble([around(-1.0), around(1.0)])
    with torch.no_grad():
        y = problem.simulate(x, normal(20, *problem.noise_shape, seed=2))
    found = measure_null_space(solver, problem, x, y, range(20), 0, threshold=0.5)
    assert found.rank == int(kept.sum())
    value = metric("null_variance_between").value(found.rows["null_variance_between"])
    assert value == pytest.approx(hidden if share is None else share, abs=1e-6)
    value = metric("null_variance_within").value(found.rows["null_variance_within"])
    assert value == pytest.approx(hidden, abs=0.01)  # the same variance everywhere
