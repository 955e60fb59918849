"""Flows: the identity at the start, exact densities after, and no trace in torch's globals."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from latens.distributions import NoiseStream, RefinedNormal, diagonal_normal, draw
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.nets import AffineFlow, Flow, SplineFlow
from latens.nets.flows import Refinement

FLOWS: dict[str, Flow] = {
    "affine": AffineFlow(width=16),
    "spline": SplineFlow(width=16, bins=5),
    "affine-three": AffineFlow(couplings=3, width=8),
}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, dtype)


def base(batch: int, dim: int, dtype: torch.dtype = torch.float64):
    loc, scale = normal(batch, dim, seed=1, dtype=dtype), normal(batch, dim, seed=2, dtype=dtype)
    return diagonal_normal(2 * loc, (0.5 * scale).exp(), 1)


def trained(name: str, dim: int, strength: float = 1.5) -> Refinement:
    """A refinement with weights far from the start."""
    module = FLOWS[name].refinement(dim).double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            size = strength / (2 if parameter.ndim == 1 else parameter.shape[1] ** 0.5)
            parameter.copy_(size * normal(*parameter.shape, seed=index))
    return module


@pytest.mark.parametrize("name", list(FLOWS))
@pytest.mark.parametrize("dim", [2, 3, 50])
def test_the_start_is_the_diagonal_normal(name, dim):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q = FLOWS[name].refinement(dim)(base(4, dim, torch.float32))
    noise = normal(6, 4, dim, dtype=torch.float32)
    assert isinstance(q, RefinedNormal)
    assert (q.batch_shape, q.event_shape) == ((4,), (dim,))
    z = draw(q, noise)
    torch.testing.assert_close(z, draw(q.base, noise), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.log_prob(z), q.base.log_prob(z), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", list(FLOWS))
@pytest.mark.parametrize("dim", [2, 5])
def test_the_density_is_a_change_of_variables(name, dim):
    module = trained(name, dim)
    noise = normal(7, 3, dim, seed=5)
    q = module(base(3, dim))
    z = draw(q, noise)
    assert (z - draw(q.base, noise)).abs().mean() > 0.3  # far from the start
    for row in range(3):
        alone = module(diagonal_normal(q.loc[row : row + 1], q.scale[row : row + 1], 1))
        for m in range(7):
            u = noise[m, row : row + 1]
            jacobian = torch.autograd.functional.jacobian(lambda v, q=alone: draw(q, v)[0], u)
            log_det = torch.linalg.slogdet(jacobian[:, 0])[1]
            log_normal = -0.5 * (u.square() + math.log(2 * math.pi)).sum()
            torch.testing.assert_close(
                q.log_prob(z)[m, row], log_normal - log_det, rtol=0, atol=1e-4
            )


@pytest.mark.parametrize("name", list(FLOWS))
def test_the_density_integrates_to_one(name):
    axis = torch.linspace(-12, 12, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[:, None]
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    with torch.no_grad():
        q = trained(name, 2, 0.7)(diagonal_normal(zeros, torch.ones_like(zeros), 1))
        density = q.log_prob(grid).exp()
        assert (density - q.base.log_prob(grid).exp()).abs().max() > 0.02
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", list(FLOWS))
def test_rows_are_independent(name):
    module = trained(name, 6)
    whole = module(base(4, 6))
    alone = module(diagonal_normal(whole.loc[2:3], whole.scale[2:3], 1))
    z = normal(5, 4, 6, seed=3)
    torch.testing.assert_close(alone.log_prob(z[:, 2:3])[:, 0], whole.log_prob(z)[:, 2])
    torch.testing.assert_close(draw(alone, z[:, 2:3])[:, 0], draw(whole, z)[:, 2])


@pytest.mark.parametrize("name", list(FLOWS))
def test_draws_of_extreme_weights_are_finite(name):
    module = trained(name, 10).float()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4)
    z = draw(module(base(50, 10, torch.float32)), normal(200, 50, 10, dtype=torch.float32))
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("dim", [2, 7, 98])
def test_every_latent_is_mapped(dim):
    module = AffineFlow(width=4).refinement(dim)
    kept = torch.stack([coupling.mask for coupling in module.couplings])
    assert (kept.sum(1) - dim / 2).abs().max() <= 0.5
    assert torch.equal(kept[0], ~kept[1])
    assert torch.equal(kept[2], ~kept[3])
    if dim > 2:
        assert not torch.equal(kept[0], kept[2])
    again = AffineFlow(width=4).refinement(dim)  # halves are no matter of torch's generator
    assert torch.equal(kept, torch.stack([coupling.mask for coupling in again.couplings]))


def test_there_are_no_moments():
    q = AffineFlow(width=4).refinement(3)(base(2, 3, torch.float32))
    for what in (lambda: q.mean, lambda: q.variance, lambda: q.stddev, lambda: q.expand((5, 2))):
        with pytest.raises(UnsupportedError, match="flow") as caught:
            what()
        assert "\n" not in str(caught.value)


def test_noise_of_another_shape():
    q = AffineFlow(width=4).refinement(3)(base(2, 3, torch.float32))
    with pytest.raises(ShapeError, match="noise"):
        draw(q, torch.zeros(5, 2, 4))


def test_settings_out_of_range():
    for make in (
        lambda: AffineFlow(couplings=1),
        lambda: AffineFlow(width=0),
        lambda: SplineFlow(bins=1),
        lambda: AffineFlow().refinement(1),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("validation", [True, False])
def test_torch_keeps_its_validation(validation):
    program = f"""
import torch
from torch.distributions import Distribution, Normal
Distribution.set_default_validate_args({validation})
from latens.distributions import diagonal_normal
from latens.nets import SplineFlow
q = SplineFlow(width=4).refinement(2)(diagonal_normal(torch.zeros(1, 2), torch.ones(1, 2), 1))
q.log_prob(torch.zeros(1, 2))
assert Distribution._validate_args is {validation}
try:
    Normal(0.0, -1.0)
except ValueError:
    assert {validation}
else:
    assert not {validation}
"""
    subprocess.run([sys.executable, "-c", program], check=True)
