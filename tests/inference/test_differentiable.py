"""Reconstructions as differentiable functions of the measurement."""

import pytest
import torch

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import UnsupportedError
from latens.inference import (
    Amortised,
    Ensemble,
    LatentChains,
    LatentImportance,
    LatentMAP,
    MonteCarloDropout,
    Predictive,
    Regression,
    TikhonovSolver,
    TotalVariationSolver,
    WienerSolver,
    as_solver,
)
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from latens.problems.wiener import IterativeWiener
from models.model_cases import LATENT_MODELS, SHAPE, make_model, make_pairs, make_problem

X, Y = (value.double() for value in make_pairs(3, seed=1))
KEYS = [4, 7, 4]


def zero_boundary() -> InverseProblem:
    """A problem whose p(x | z, y) has no closed form but a dense matrix."""
    return InverseProblem(GaussianBlur(SHAPE, 0.8, "zero"), GaussianNoise(0.1))


def fitted(kind, problem=None):
    pairs = (value.double() for value in make_pairs(20))
    return kind.fit(problem or make_problem(), *pairs)


def wiener_iterative():
    solver = fitted(WienerSolver, zero_boundary())
    old = solver.wiener
    solver.wiener = IterativeWiener(old.operator, old.prior, old.noise_variance, old.offset)
    return solver


def model(name, seed=0):
    return make_model(name, seed).double()


DIFFERENTIABLE = {
    **{
        name: lambda n=name: Amortised(
            model(n), make_problem() if n.startswith("latent") else None
        )
        for name in LATENT_MODELS
    },
    "latent-decoder": lambda: Amortised(model("latent"), None),
    "latent-dense": lambda: Amortised(model("latent-pixel"), zero_boundary()),
    "regression": lambda: Regression(model("unet")),
    "predictive": lambda: Predictive(model("unet")),
    "dropout": lambda: MonteCarloDropout(model("unet-dropout")),
    "ensemble": lambda: Ensemble([Amortised(model("cvae", s), None) for s in (0, 1)]),
    "points": lambda: Ensemble([Regression(model("unet", s)) for s in (0, 1)]),
    "tikhonov": lambda: fitted(TikhonovSolver),
    "wiener": lambda: fitted(WienerSolver),
    "wiener-dense": lambda: fitted(WienerSolver, zero_boundary()),
    "wiener-iterative": wiener_iterative,
    "function": lambda: as_solver(lambda y: y.sin() + 2 * y),
    "distribution": lambda: as_solver(lambda y: diagonal_normal(y**2, torch.ones_like(y), 3)),
}
OTHERS = {
    "tv": lambda: TotalVariationSolver(make_problem(), 0.01),
    "map": lambda: LatentMAP(model("latent"), make_problem()),
    "chains": lambda: LatentChains(model("latent"), make_problem()),
    "importance": lambda: LatentImportance(model("latent"), make_problem()),
    "sampler": lambda: as_solver(lambda y, n: y.expand(n, *y.shape)),
    "detached": lambda: as_solver(lambda y: torch.from_numpy(2 * y.detach().numpy())),
}


def step_of(name: str) -> float:
    """Small for networks; large for affine maps, whose solves are exact to 1e-10 alone."""
    return 0.1 if name.startswith(("wiener", "tikhonov")) else 1e-6


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_values_are_those_of_the_ordinary_call(name):
    solver = DIFFERENTIABLE[name]()
    torch.testing.assert_close(solver.mean_of(Y, KEYS, 3), solver(Y, keys=KEYS, seed=3).mean)
    changed = solver.mean_of(Y + 0.1, KEYS, 3)
    assert not torch.equal(changed, solver.mean_of(Y, KEYS, 3))


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_gradient_against_finite_differences(name):
    solver = DIFFERENTIABLE[name]()
    weight, direction = (NoiseStream(k).normal(Y.shape, torch.float64) for k in (0, 1))
    y = Y.clone().requires_grad_()
    value = (weight * solver.mean_of(y, KEYS, 3, draws=4)).flatten(1).sum(1)
    gradient = torch.autograd.grad(value.sum(), y)[0]
    step = step_of(name)
    with torch.no_grad():
        ends = [
            (weight * solver.mean_of(Y + s * step * direction, KEYS, 3, draws=4)).flatten(1).sum(1)
            for s in (1, -1)
        ]
    slope = (ends[0] - ends[1]) / (2 * step)
    along = (gradient * direction).flatten(1).sum(1)
    # A kink of a network may lie within the step, of which finite differences know half.
    torch.testing.assert_close(along, slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))
    assert gradient.flatten(1).norm(dim=1).min() > 0


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_second_derivatives_give_the_forward_product(name):
    """Jv by differentiating Jᵀu in u, against finite differences."""
    solver = DIFFERENTIABLE[name]()
    v = NoiseStream(2).normal(Y.shape, torch.float64)
    y = Y.clone().requires_grad_()
    x = solver.mean_of(y, KEYS, 3, draws=2)
    u = torch.zeros_like(x, requires_grad=True)
    pulled = torch.autograd.grad(x, y, u, create_graph=True)[0]
    pushed = torch.autograd.grad(pulled, u, v)[0]
    with torch.no_grad():
        step = step_of(name)
        ends = [solver.mean_of(Y + s * step * v, KEYS, 3, draws=2) for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(pushed, slope, rtol=1e-4, atol=2e-5 * float(slope.abs().max()))


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_parameters_get_no_gradient_and_stay_trainable(name):
    solver = DIFFERENTIABLE[name]()
    members = getattr(solver, "members", [solver])
    parameters = [p for m in members if hasattr(m, "model") for p in m.model.parameters()]
    trainable = [p.requires_grad for p in parameters]
    y = Y.clone().requires_grad_()
    solver.mean_of(y, KEYS, 0, draws=2).sum().backward()
    assert all(p.grad is None for p in parameters)
    assert [p.requires_grad for p in parameters] == trainable
    assert not solver.mean_of(Y, KEYS, 0, draws=2).requires_grad


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_the_ordinary_call_builds_no_graph(name):
    estimate = DIFFERENTIABLE[name]()(Y.clone().requires_grad_(), keys=KEYS)
    if name != "distribution":  # somebody else's object
        assert not estimate.mean.requires_grad
    if estimate.is_posterior:
        assert not estimate.sample().requires_grad


@pytest.mark.parametrize("name", list(OTHERS))
def test_solvers_without_derivative_say_so(name):
    with pytest.raises(UnsupportedError, match="worst-case measurements of a solver that can"):
        OTHERS[name]().mean_of(Y.clone().requires_grad_(), KEYS, 0)


def test_equal_keys_share_their_noise():
    solver = DIFFERENTIABLE["cvae"]()
    same = solver.mean_of(Y[:1].expand(3, *SHAPE), KEYS, 0, draws=2)
    assert torch.equal(same[0], same[2])
    assert not torch.equal(same[0], same[1])


@pytest.mark.parametrize("name", ["tikhonov", "wiener", "regression", "latent", "points"])
def test_the_same_solver_for_another_operator(name):
    solver = DIFFERENTIABLE[name]()
    wider = InverseProblem(GaussianBlur(SHAPE, 1.2), GaussianNoise(0.1))
    other = solver.with_problem(wider)
    assert type(other) is type(solver)
    difference = (other(Y, keys=KEYS).mean - solver(Y, keys=KEYS).mean).abs().max()
    networks_alone = name in ("regression", "points")  # they see the blurred image itself
    assert (difference == 0) == networks_alone


def test_solvers_tied_to_their_operator_say_so():
    with pytest.raises(UnsupportedError):
        as_solver(lambda y: y).with_problem(make_problem())
