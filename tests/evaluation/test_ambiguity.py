"""Farthest indistinguishable images of linear decoders, against the exact answer.

    max dᵀG d   over   dᵀH d ≤ s²,  dᵀd ≤ ρ²        (anchor 0; G = WᵀW, H = WᵀAᵀAW)

Homogeneous quadratic forms with two constraints have no duality gap (Polyak 1998), so that the
maximum is min over a ≥ 0 of a s² + b ρ², b = max(0, λ_max(G − a H)): the smallest of all bounds
from G ⪯ a H + b I.
"""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, UnsupportedError
from latens.evaluation.ambiguity import (
    Ambiguity,
    farthest_alike,
    half_way,
    measure_ambiguity,
    pair_rows,
)
from latens.inference import Amortised, Regression, TikhonovSolver, WienerSolver, as_solver
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from models.model_cases import make_model, make_pairs, make_problem

DIM, PIXELS, MEASURED = 5, 12, 4


def normal(*shape, seed=0):
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


W, A = normal(PIXELS, DIM, seed=1), normal(MEASURED, PIXELS, seed=2)


def search(separation, radius, anchor=None, starts=6):
    anchor = torch.zeros(2, DIM, dtype=torch.float64) if anchor is None else anchor
    return farthest_alike(
        lambda z: z @ W.mT + 1,
        lambda x: x @ A.mT,
        anchor,
        anchor + normal(starts, len(anchor), DIM, seed=3),
        separation,
        torch.full((len(anchor),), radius, dtype=torch.float64),
    )


def exact(separation, radius):
    g, h = (W.mT @ W).numpy(), (W.mT @ A.mT @ A @ W).numpy()

    def bound(a):
        return a * separation**2 + radius**2 * max(0.0, np.linalg.eigvalsh(g - a * h)[-1])

    positive = np.linalg.eigvalsh(h)
    low, high = 0.0, 1e4 * np.linalg.eigvalsh(g)[-1] / positive[positive > 1e-9].min()
    for _ in range(300):  # convex in a
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if bound(left) < bound(right) else (left, high)
    return bound(low) ** 0.5


@pytest.mark.parametrize(
    ("separation", "radius", "accuracy"),
    [
        (1.0, 3.0, 1e-5),
        (4.0, 3.0, 1e-5),
        (0.1, 3.0, 1e-5),
        (1e3, 2.0, 1e-5),
        (1.0, 1e2, 5e-3),  # both constraints hold, on scales 100 apart: the climbs are cut short
    ],
)
def test_linear_decoder_against_the_generalised_eigenproblem(separation, radius, accuracy):
    found = search(separation, radius)
    expected = exact(separation, radius)
    assert found.distance.tolist() == pytest.approx([expected] * 2, rel=accuracy)
    assert (found.distance <= expected * (1 + 1e-9)).all()


def test_pairs_are_feasible_and_what_they_claim():
    anchor = 0.5 * normal(3, DIM, seed=9)
    found = search(1.5, 4.0, anchor)
    apart = ((found.other - found.anchor) @ A.mT).norm(dim=1)
    assert (apart <= 1.5).all()
    assert (found.latent.norm(dim=1) <= 4.0).all()
    torch.testing.assert_close(found.anchor, anchor @ W.mT + 1)
    torch.testing.assert_close((found.other - found.anchor).norm(dim=1), found.distance)
    # Any z' lies within 4 + ‖z‖ of the anchor.
    bound = [exact(1.5, 4.0 + float(z.norm())) for z in anchor]
    assert (found.distance <= torch.tensor(bound, dtype=torch.float64)).all()
    # A reconstruction of the measurement half way misses one of them by half the distance.
    middle = normal(3, PIXELS, seed=4)
    errors = torch.stack([(middle - x).norm(dim=1) for x in (found.anchor, found.other)])
    assert (errors.amax(0) >= found.distance / 2).all()


def test_bad_arguments():
    with pytest.raises(ConfigError):
        search(0.0, 1.0)
    with pytest.raises(ConfigError, match="Raise the radius"):
        search(1.0, 1.0, 9 + torch.zeros(1, DIM, dtype=torch.float64))


def test_rows_of_a_model():
    model, problem = make_model("latent-linear"), make_problem()
    x, _ = make_pairs(3)
    rows, found = measure_ambiguity(model, problem, x, [5, 2, 9], 0, restarts=2)
    assert rows["ambiguity"].shape == (3, 1)
    assert (rows["ambiguity"] > 0).all()
    apart = (problem.operator(found.other) - problem.operator(found.anchor)) / 0.1
    assert (apart.flatten(1).norm(dim=1) <= 2 * 12 * (1 + 1e-5)).all()
    relative = found.distance / x.flatten(1).norm(dim=1) / 2
    np.testing.assert_allclose(rows["ambiguity"][:, 0], relative, rtol=1e-6)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


KEYS = (5, 2, 9)


def pairs_of_a_model():
    """Pairs of a prior, their rows, and images with their measurements."""
    model, problem = make_model("latent-linear"), make_problem()
    x, _ = make_pairs(3)
    rows, found = measure_ambiguity(model, problem, x, KEYS, 0, restarts=1)
    return model, problem, x, rows["ambiguity"][:, 0], found


def test_no_solver_errs_less_on_both_images_of_a_pair():
    model, problem, x, bound, found = pairs_of_a_model()
    fitted = make_pairs(20, seed=3)
    middle = (found.anchor + found.other) / 2
    solvers = {
        "amortised": Amortised(model, problem),
        "u-net": Regression(make_model("unet")),
        "tikhonov": TikhonovSolver.fit(problem, *fitted),
        "wiener": WienerSolver.fit(problem, *fitted),
        "as it is": as_solver(lambda y: y),
        "middle": as_solver(lambda y: middle),
        "anchor": as_solver(lambda y: found.anchor),
    }
    errors = {
        name: pair_rows(solver, problem, x, found, KEYS, 0)["ambiguity_error"][:, 0]
        for name, solver in solvers.items()
    }
    for name, error in errors.items():
        assert (error >= bound * (1 - 1e-6)).all(), name
    np.testing.assert_allclose(errors["middle"], bound, rtol=1e-5)  # it cannot be improved
    np.testing.assert_allclose(errors["anchor"], 2 * bound, rtol=1e-5)
    # The last one makes no error at x, whatever y is: alone that is not bounded.
    assert torch.equal(solvers["anchor"](half_way(problem, found)).mean, found.anchor)
    assert (bound > 0.01).all()


def test_the_measurement_half_way_is_within_the_noise_of_both():
    _, problem, _, _, found = pairs_of_a_model()
    y = half_way(problem, found)
    for image in (found.anchor, found.other):
        away = ((y - problem.operator(image)) / 0.1).flatten(1).norm(dim=1)
        assert (away <= 12 * (1 + 1e-5)).all()


def test_what_a_pair_proves_is_at_most_the_norm():
    """An inverted blur: the pair along its smallest singular value proves the whole norm."""
    problem = InverseProblem(GaussianBlur((1, 6, 7), 0.4), GaussianNoise(0.5))
    matrix = problem.operator.matrix().double()
    _, values, right = torch.linalg.svd(matrix)
    x = normal(2, 1, 6, 7)
    away = torch.stack([4 * right[-1], normal(42, seed=3)]).reshape(x.shape)
    found = Ambiguity(x, x + away, x.flatten(1), away.flatten(1).norm(dim=1))

    def slope(function):
        return pair_rows(as_solver(function), problem, x, found, (0, 1), 0)["ambiguity_slope"]

    inverse = torch.linalg.inv(matrix)
    proven = slope(lambda y: (y.flatten(1) @ inverse.mT).reshape(y.shape))[:, 0]
    apart = (away.flatten(1) @ matrix.mT).norm(dim=1) / 0.5
    assert proven == pytest.approx((found.distance / apart).numpy())
    assert proven[0] == pytest.approx(0.5 / values[-1].item())
    assert proven[1] < proven[0]
    assert slope(lambda y: 0 * y + 50)[:, 0].tolist() == [0, 0]


def test_models_without_a_prior_of_images_say_so():
    x, _ = make_pairs(2)
    with pytest.raises(UnsupportedError, match="prior"):
        measure_ambiguity(make_model("cvae"), make_problem(), x, [0, 1], 0)
