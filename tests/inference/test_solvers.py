"""What solvers return: posteriors that are consistent, point estimates that refuse."""

import math

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream, Purpose, diagonal_normal, draw, row_noise
from latens.errors import ConfigError, UnsupportedError
from latens.evaluation import simulate
from latens.inference import (
    DEFAULT_DRAWS,
    Amortised,
    Ensemble,
    EnsemblePosterior,
    MonteCarloDropout,
    PointEstimate,
    Posterior,
    Predictive,
    Regression,
    Solver,
    TikhonovSolver,
    TotalVariationSolver,
    WienerSolver,
    as_solver,
)
from latens.inference.latent_posterior import collapsed_variance
from latens.models import Latent
from latens.nets import Linear
from latens.problems import (
    GaussianBlur,
    GaussianNoise,
    Identity,
    InverseProblem,
    choose_weight,
    tikhonov,
)
from latens.problems.wiener import IterativeWiener
from latens.store import Status
from models.model_cases import LATENT_MODELS, SHAPE, make_model, make_pairs, make_problem

X, Y = make_pairs(10, seed=1)


def gaussian(shift: float = 0.0, scale: float = 0.3):
    """y → N(y + shift, scale²)."""
    return as_solver(lambda y: diagonal_normal(y + shift, torch.full_like(y, scale), 3))


@pytest.mark.parametrize(
    ("varying", "expected"),
    [((), (1, 1, 1)), ((0,), (2, 1, 1)), ((1,), (2, 4, 6)), ((0, 2), (2, 4, 6))],
)
def test_the_variance_of_a_decoder_is_kept_no_larger_than_it_varies(varying, expected):
    scale = torch.ones(3, 2, 4, 6)  # (B, C, *spatial)
    for axis in varying:
        size = scale.shape[axis + 1]
        scale = scale * torch.arange(1, size + 1).reshape(-1, *[1] * (2 - axis))
    found = collapsed_variance(diagonal_normal(torch.zeros(5, 3, 2, 4, 6), scale, 3))
    assert found.shape == (5, 3, *expected)


def zero_boundary() -> InverseProblem:
    """A problem whose conditional variance is a dense matrix."""
    return InverseProblem(GaussianBlur(SHAPE, 0.8, "zero"), GaussianNoise(0.1))


def wiener_iterative() -> WienerSolver:
    """A Wiener filter by conjugate gradients, as for operators too large for a matrix."""
    solver = WienerSolver.fit(zero_boundary(), *make_pairs(20))
    wiener = solver.wiener
    solver.wiener = IterativeWiener(
        wiener.operator, wiener.prior, wiener.noise_variance, wiener.offset
    )
    return solver


POSTERIORS = {
    **{
        name: lambda n=name: Amortised(make_model(n), None)
        for name in LATENT_MODELS
        if not name.startswith("latent")
    },
    "latent": lambda: Amortised(make_model("latent"), make_problem()),
    "latent-pixel": lambda: Amortised(make_model("latent-pixel"), make_problem()),
    "latent-decoder": lambda: Amortised(make_model("latent"), None),
    "latent-dense": lambda: Amortised(make_model("latent-linear"), zero_boundary()),
    "ensemble": lambda: Ensemble([Amortised(make_model("cvae", s), None) for s in (0, 1)]),
    "distribution": gaussian,
    "predictive": lambda: Predictive(make_model("unet")),
    "predictive-ensemble": lambda: Ensemble([Predictive(make_model("unet", s)) for s in (0, 1)]),
    "dropout": lambda: MonteCarloDropout(make_model("unet-dropout")),
    "latent-flow": lambda: Amortised(make_model("latent-flow"), make_problem()),
    "latent-spline": lambda: Amortised(make_model("latent-spline"), None),
    "wiener": lambda: WienerSolver.fit(make_problem(), *make_pairs(20)),
    "wiener-dense": lambda: WienerSolver.fit(zero_boundary(), *make_pairs(20)),
    "wiener-iterative": wiener_iterative,
}
POINTS = {
    "tikhonov": lambda: TikhonovSolver.fit(make_problem(), *make_pairs(20)),
    "tv": lambda: TotalVariationSolver(make_problem(), 0.01),
    "regression": lambda: Regression(make_model("unet")),
    "function": lambda: as_solver(lambda y: 2 * y),
    "ensemble": lambda: Ensemble([as_solver(lambda y: y), as_solver(lambda y: 3 * y)]),
}


@pytest.mark.parametrize("name", list(POINTS))
def test_point_estimates_have_no_uncertainty(name):
    estimate = POINTS[name]()(Y)
    assert isinstance(estimate, PointEstimate)
    assert not estimate.is_posterior
    assert estimate.mean.shape == X.shape
    assert not estimate.mean.requires_grad
    for what in (lambda: estimate.std, estimate.interval, estimate.sample):
        with pytest.raises(UnsupportedError, match="point estimate") as caught:
            what()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(POSTERIORS))
def test_a_posterior_agrees_with_itself(name):
    posterior = POSTERIORS[name]()(Y, seed=2)
    assert isinstance(posterior, Posterior)
    draws = posterior.sample()
    assert draws.shape == (DEFAULT_DRAWS, *X.shape)
    assert not draws.requires_grad
    assert torch.equal(draws, posterior.sample())
    assert posterior.mean.shape == posterior.std.shape == X.shape
    # moments of 39 draws lie about the posterior's own
    error = (draws.mean(0) - posterior.mean) / posterior.std * math.sqrt(DEFAULT_DRAWS)
    assert error.square().mean().sqrt() < 1.5
    ratio = (draws.var(0).mean() / posterior.std.square().mean()).sqrt()
    assert 0.75 < ratio < 1.3
    interval = posterior.interval(0.95)
    assert interval.level == pytest.approx(0.95)
    assert torch.equal(interval.lower, draws.amin(0))  # M = 39: the extreme draws
    assert torch.equal(interval.upper, draws.amax(0))
    half = posterior.interval(0.5)
    assert (half.lower >= interval.lower).all()
    assert (half.upper - half.lower < interval.upper - interval.lower).all()
    few = posterior.sample(5)
    assert few.shape == (5, *X.shape)
    assert torch.equal(few, posterior.sample(5))
    assert len(few.flatten(1).unique(dim=0)) == 5


@pytest.mark.parametrize("name", list(POSTERIORS))
def test_results_do_not_depend_on_the_batch(name):
    solver = POSTERIORS[name]()
    whole = solver(Y, keys=range(30, 40), seed=2)
    parts = [solver(Y[i : i + 5], keys=np.arange(30 + i, 35 + i), seed=2) for i in (0, 5)]
    for read in (lambda p: p.mean, lambda p: p.std, lambda p: p.sample().movedim(1, 0)):
        together = torch.cat([read(part) for part in parts])
        torch.testing.assert_close(together, read(whole), rtol=1e-4, atol=1e-4)
    for other in (solver(Y, keys=range(10), seed=2), solver(Y, keys=range(30, 40), seed=3)):
        assert not torch.allclose(other.sample(), whole.sample(), atol=1e-3)


@pytest.mark.parametrize("name", list(POINTS))
def test_points_do_not_depend_on_the_batch(name):
    solver = POINTS[name]()
    parts = torch.cat([solver(Y[:5]).mean, solver(Y[5:]).mean])
    torch.testing.assert_close(parts, solver(Y, seed=4).mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("level", "needed"), [(0.99, "M = 199"), (0.93, "M = 199")])
def test_a_level_out_of_reach_names_the_draws_it_needs(level, needed):
    posterior = gaussian()(Y)
    with pytest.raises(ConfigError, match=needed):
        posterior.interval(level)


def test_the_status_of_a_fit_is_handed_on():
    assert Amortised(make_model("cvae"), None, Status.COLLAPSED)(Y).status is Status.COLLAPSED
    assert Regression(make_model("unet"), Status.STOPPED)(Y).status is Status.STOPPED
    members = [Amortised(make_model("cvae"), None, s) for s in (Status.NAN, Status.STOPPED)]
    assert Ensemble(members)(Y).status is Status.NAN


@pytest.mark.parametrize("architecture", ["circular", "zero"])
def test_latent_draws_are_conditioned_on_the_measurement(architecture):
    # p(x | z, y) of a linear-Gaussian problem, solved densely in float64
    shape = (1, 5, 6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Latent(shape, shape, dim=2, architecture=Linear()).double()
    x = NoiseStream(0).normal((40, *shape), torch.float64)
    model.fit_units(x, x)
    problem = InverseProblem(GaussianBlur(shape, 0.5, architecture), GaussianNoise(0.3))
    y = problem.simulate(x[:2], NoiseStream(1).normal((2, *shape), torch.float64))
    posterior = Amortised(model, problem)(y, seed=1)
    with torch.no_grad():
        count = 4000
        z = posterior.latent_draws(count)
        decoded = model.decode(z, y)
        a, variance = problem.operator.matrix(), decoded.variance[0, 0, 0, 0, 0]
        gain = (
            variance * a.mT @ torch.linalg.inv(variance * a @ a.mT + 0.09 * torch.eye(30).double())
        )
        loc = decoded.mean.flatten(2)
        expected = loc + (y.flatten(1) - loc @ a.mT) @ gain.mT
        covariance = variance * (torch.eye(30).double() - gain @ a)
        residual = posterior.sample(count).flatten(2) - expected
    error = residual.mean(0) / covariance.diagonal().sqrt() * math.sqrt(count)
    assert error.abs().max() < 4.5
    sampled = residual[:, 0].mT @ residual[:, 0] / count
    assert (sampled - covariance).abs().max() < 0.1 * covariance.max()
    draws = posterior.make_draws(50)
    if architecture == "circular":  # moments in closed form
        torch.testing.assert_close(
            draws.loc.flatten(2), _conditional_mean(model, posterior, y, a, gain)
        )
        exact = covariance.diagonal().reshape(shape).expand_as(draws.loc)
        torch.testing.assert_close(draws.variance.expand_as(draws.loc), exact)


def _conditional_mean(model, posterior, y, a, gain):
    with torch.no_grad():
        loc = model.decode(posterior.latent_draws(50), y).mean.flatten(2)
        return loc + (y.flatten(1) - loc @ a.mT) @ gain.mT


def test_without_a_problem_draws_come_from_the_decoder():
    model = make_model("latent")
    posterior = Amortised(model, None)(Y, seed=2)
    with torch.no_grad():
        decoded = model.decode(posterior.latent_draws(7), Y)
        noise = row_noise((2, 1), range(10), (7, *SHAPE))
        torch.testing.assert_close(posterior.sample(7), draw(decoded, noise))


def test_posterior_noise_is_not_that_of_the_measurement():
    # one seed for simulated measurements and for draws: no draw may know the true noise
    problem = InverseProblem(Identity(SHAPE), GaussianNoise(1.0))
    y = simulate(problem, X, seed=0)
    posterior = Amortised(make_model("latent"), problem)(y, seed=0)
    truth = (y - X).flatten()
    for purpose in (Purpose.LATENT, Purpose.SIGNAL, Purpose.MEASUREMENT):
        drawn = posterior.noise(purpose, 3, SHAPE, y).flatten(1)
        correlation = torch.corrcoef(torch.cat([truth[None], drawn]))[0, 1:]
        assert correlation.abs().max() < 0.15


class Fixed(Solver):
    """Draws that are all equal."""

    def __init__(self, value: float) -> None:
        self.value = value

    def solve(self, y, keys, seed):
        return as_solver(
            lambda y: diagonal_normal(torch.full_like(y, self.value), 1e-6 + 0 * y, 3)
        )(y, keys=keys, seed=seed)


def test_an_ensemble_is_a_mixture():
    shifts, scales = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.5, 1.0, 2.0])
    members = [gaussian(float(a), float(b)) for a, b in zip(shifts, scales, strict=True)]
    posterior = Ensemble(members)(Y)
    assert isinstance(posterior, EnsemblePosterior)
    variance = scales.square().mean() + shifts.var(correction=0)
    torch.testing.assert_close(posterior.mean, Y + shifts.mean(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(posterior.std, variance.sqrt().expand_as(Y), rtol=1e-4, atol=1e-4)
    draws = posterior.sample(4000) - Y
    assert draws.mean() == pytest.approx(2.0, abs=0.05)
    assert draws.var() == pytest.approx(float(variance), rel=0.05)


def test_each_draw_comes_from_one_member():
    members = [Fixed(value) for value in (-100.0, 0.0, 100.0)]
    draws = Ensemble(members)(Y).sample(600)  # (600, 10, 1, 12, 12)
    modes = (draws / 100).round()
    torch.testing.assert_close(draws, 100 * modes, rtol=0, atol=1e-3)
    assert (modes == modes[:, :, :, :1, :1]).all()  # a whole image from one member
    modes = modes[:, :, 0, 0, 0]
    for value in (-1, 0, 1):
        share = (modes == value).double().mean()
        assert abs(share - 1 / 3) < 4 * math.sqrt(2 / 9 / 6000)
        of_row = (modes == value).double().mean(0)
        assert (abs(of_row - 1 / 3) < 4.5 * math.sqrt(2 / 9 / 600)).all()
    together = torch.corrcoef(modes.mT)[~torch.eye(10, dtype=torch.bool)]
    assert together.abs().max() < 4.5 / math.sqrt(600)  # rows choose on their own


def test_two_point_masses_keep_both_modes():
    posterior = Ensemble([Fixed(-100.0), Fixed(100.0)])(Y)
    pixel = posterior.sample()[:, :, 0, 0, 0]
    assert ((pixel < -99).any(0) & (pixel > 99).any(0)).all()
    assert ((pixel.abs() - 100).abs() < 1e-3).all()
    torch.testing.assert_close(posterior.mean, torch.zeros_like(Y), rtol=0, atol=1e-3)
    torch.testing.assert_close(posterior.std, torch.full_like(Y, 100.0))
    assert (posterior.interval(0.95).upper > 99).all()


def test_members_have_noise_of_their_own():
    posterior = Ensemble([gaussian(), gaussian()])(Y)
    assert isinstance(posterior, EnsemblePosterior)
    first, second = (member.sample() - Y for member in posterior.members)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.05


def test_ensembles_that_make_no_sense():
    with pytest.raises(UnsupportedError, match="both"):
        Ensemble([gaussian(), as_solver(lambda y: y)])(Y)
    with pytest.raises(ConfigError, match="members"):
        Ensemble([gaussian()])


def test_points_are_averaged():
    torch.testing.assert_close(POINTS["ensemble"]()(Y).mean, 2 * Y)


@pytest.mark.parametrize("boundary", ["circular", "zero"])
def test_tikhonov_is_a_dense_solve_about_the_mean(boundary):
    problem = InverseProblem(GaussianBlur((1, 7, 8), 0.6, boundary), GaussianNoise(0.1))
    x = 3 + NoiseStream(0).normal((30, 1, 7, 8), torch.float64)
    y = problem.simulate(x, NoiseStream(1).normal((30, 1, 7, 8), torch.float64))
    solver = TikhonovSolver(problem, x.mean(0), 0.05)
    a = problem.operator.matrix()
    centred = y.flatten(1) - x.mean(0).flatten() @ a.mT
    gram = a.mT @ a + 0.05 * torch.eye(56, dtype=torch.float64)
    expected = x.mean(0).flatten() + torch.linalg.solve(gram, (centred @ a).mT).mT
    torch.testing.assert_close(solver(y).mean.flatten(1), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(solver(problem.operator(x.mean(0))[None]).mean[0], x.mean(0))


def test_tikhonov_fits_mean_and_weight():
    problem = make_problem()
    x, y = make_pairs(40)
    solver = TikhonovSolver.fit(problem, x, y)
    torch.testing.assert_close(solver.mean, x.mean(0))
    centred = x - x.mean(0), y - problem.operator(x.mean(0))
    assert solver.weight == pytest.approx(choose_weight(problem.operator, *centred))
    error = (solver(Y).mean - X).square().mean()
    plain = tikhonov(problem.operator, Y, solver.weight)
    assert error < (plain - X).square().mean()
    assert error < 0.8 * (Y - X).square().mean()


def test_regression_is_the_network():
    model = make_model("unet").eval()
    with torch.no_grad():
        expected = model.reconstruct(Y)
    torch.testing.assert_close(Regression(model)(Y).mean, expected)


@pytest.mark.filterwarnings("ignore:.*ArviZ is undergoing:FutureWarning")
def test_inference_data():
    pytest.importorskip("arviz")
    posterior = gaussian()(Y, keys=range(5, 15))
    data = posterior.to_inference_data()
    array = data.posterior["x"]
    assert array.dims == ("chain", "draw", "image", "channel", "axis_0", "axis_1")
    assert array.coords["image"].values.tolist() == list(range(5, 15))
    np.testing.assert_array_equal(array.values[0], posterior.sample().numpy())
