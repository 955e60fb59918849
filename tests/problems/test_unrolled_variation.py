"""Total variation by a fixed number of iterations: its limit and its derivative."""

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.problems import (
    FourierSampling,
    GaussianBlur,
    Inpainting,
    LinearOperator,
    total_variation,
    unrolled_variation,
)
from latens.problems.unrolled_variation import UnrolledVariation

OPERATORS: dict[str, LinearOperator] = {
    "blur": GaussianBlur((1, 9, 10), 0.8),
    "mask": Inpainting((2, 7, 6), 0.4),
    "mri": FourierSampling((1, 8, 6), 2),
    "volume": Inpainting((1, 4, 5, 4), 0.3),
}
WEIGHT = 0.1


def normal(*shape, seed=0):
    return NoiseStream(seed).normal(shape, torch.float64)


def given(name):
    """Measurements of boxes with noise, and a start."""
    operator = OPERATORS[name]
    x = torch.zeros(3, *operator.signal_shape, dtype=torch.float64)
    x[..., 2:5, 1:4] = 1
    y = operator.A(x)
    return operator, y + 0.05 * normal(*y.shape), 0.3 * normal(*x.shape, seed=1)


@pytest.mark.parametrize("name", list(OPERATORS))
def test_the_limit_is_the_minimiser(name):
    operator, y, start = given(name)
    expected = total_variation(operator, y, WEIGHT, tolerance=1e-9, max_iterations=50_000)
    assert expected.converged.all()
    size = expected.x.norm()
    ends = [UnrolledVariation(operator, WEIGHT, k, y)(y, start) for k in (30, 3000)]
    near, there = ((end - expected.x).norm() / size for end in ends)
    assert near < 0.2
    assert there < 1e-4


@pytest.mark.parametrize("name", list(OPERATORS))
def test_the_gradient_is_that_of_what_is_computed(name, monkeypatch):
    """Directional derivatives in y and in the start against central differences."""
    operator, y, start = given(name)
    solver = UnrolledVariation(operator, WEIGHT, 12, y)
    weights = normal(*start.shape, seed=2)
    arguments = [value.clone().requires_grad_() for value in (y, start)]
    value = (weights * solver(*arguments)).sum()
    found = torch.autograd.grad(value, arguments)
    # Between both bounds of |v| are elements at which the projection bends.
    kept: list[torch.Tensor] = []
    solver.run(y, start, kept)
    outside = (kept[-1].norm(dim=1) > WEIGHT).double().mean()
    assert 0.01 < outside < 0.99
    for place, gradient in enumerate(found):
        direction = normal(*gradient.shape, seed=3 + place)
        ends = []
        for step in (1e-6, -1e-6):
            moved = [y, start]
            moved[place] = moved[place] + step * direction
            ends.append((weights * solver(*moved)).sum())
        slope = (ends[0] - ends[1]) / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-5)
    monkeypatch.setattr(unrolled_variation, "KEPT_ELEMENTS", 1)  # row after row
    for whole, alone in zip(
        found, torch.autograd.grad((weights * solver(*arguments)).sum(), arguments), strict=True
    ):
        torch.testing.assert_close(whole, alone)


def test_arguments_are_checked():
    operator, y, _ = given("blur")
    with pytest.raises(ConfigError, match="weight"):
        UnrolledVariation(operator, 0.0, 5, y)
    with pytest.raises(ConfigError, match="iterations"):
        UnrolledVariation(operator, 1.0, 0, y)
    with pytest.raises(ShapeError, match="typical"):
        UnrolledVariation(operator, 1.0, 5, y[..., :3])
