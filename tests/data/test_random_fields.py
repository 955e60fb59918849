"""Gaussian fields against closed forms of their covariance."""

import math

import pytest
import torch
from scipy.stats import chi2

from latens.data import GaussianField, two_valued
from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError

TAU = 4.0


def dirichlet_green(x: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """Kernel of (−d²/dx² + τ²)⁻¹ with zero boundary values."""
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    return (tau * low).sinh() * (tau * (1 - high)).sinh() / (tau * tau.sinh())


def neumann_green(x: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """Kernel of (−d²/dx² + τ²)⁻¹ with zero slope at the boundary."""
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    return (tau * low).cosh() * (tau * (1 - high)).cosh() / (tau * tau.sinh())


def periodic_green(x: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """Kernel of (−d²/dx² + τ²)⁻¹ on a ring of length 1."""
    return (tau * ((x - y).abs() - 0.5)).cosh() / (2 * tau * (tau / 2).sinh())


KERNELS = {"dirichlet": dirichlet_green, "neumann": neumann_green, "periodic": periodic_green}


@pytest.mark.parametrize("boundary", list(KERNELS))
def test_covariance_on_the_interval(boundary):
    # the kernel of (−Δ + τ²)⁻² is −∂/∂(τ²) of that of (−Δ + τ²)⁻¹
    n, modes = 13, 4000
    steps = torch.arange(n, dtype=torch.float64)
    x = steps / (n if boundary == "periodic" else n - 1)
    tau = torch.tensor(TAU, dtype=torch.float64)
    green = KERNELS[boundary]
    first = green(x[:, None], x, tau)
    second = -torch.func.jacfwd(lambda t: green(x[:, None], x, t))(tau) / (2 * tau)
    for alpha, expected, rest in ((1.0, first, 1 / modes), (2.0, second, 1 / modes**3)):
        found = GaussianField((n,), boundary, TAU, alpha, 3.0, modes).covariance()
        torch.testing.assert_close(found, 9 * expected, atol=9 * rest, rtol=0)


@pytest.mark.parametrize("boundary", list(KERNELS))
def test_covariance_on_the_square_is_the_double_sum(boundary):
    field = GaussianField((4, 5), boundary, 2.0, 1.7, 1.5, modes=3)
    covariance = field.covariance().reshape(4, 5, 4, 5)
    factor = 2 if boundary == "periodic" else 1

    def functions(t):
        values = [] if boundary == "dirichlet" else [(0.0, 1.0)]
        for k in (1, 2, 3):
            angle = math.pi * k * factor * t
            if boundary != "dirichlet":
                values.append((math.pi * k * factor, math.sqrt(2) * math.cos(angle)))
            if boundary != "neumann":
                values.append((math.pi * k * factor, math.sqrt(2) * math.sin(angle)))
        return values

    def place(i, n):
        return i / (n if boundary == "periodic" else n - 1)

    for i, j, k, m in ((1, 1, 1, 1), (0, 2, 3, 4), (2, 3, 1, 0), (3, 1, 2, 2)):
        total = 0.0
        pairs_y = zip(functions(place(i, 4)), functions(place(k, 4)), strict=True)
        pairs_y = list(pairs_y)
        for (wave_x, a), (_, b) in zip(
            functions(place(j, 5)), functions(place(m, 5)), strict=True
        ):
            for (wave_y, c), (_, d) in pairs_y:
                total += 1.5**2 * (wave_x**2 + wave_y**2 + 4) ** -1.7 * a * b * c * d
        assert covariance[i, j, k, m].item() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("boundary", list(KERNELS))
def test_fields_have_the_stated_covariance(boundary):
    # Σ (xᵀ v)² / (vᵀ C v) over n fields is χ² with n degrees of freedom, for any v
    field = GaussianField((6, 7), boundary, 3.0, 2.0)
    count = 4000
    x = field(NoiseStream(1).normal((count, *field.noise_shape), torch.float64)).flatten(1)
    covariance = field.covariance()
    directions = NoiseStream(2).normal((10, 42), torch.float64)
    variance = ((directions @ covariance) * directions).sum(1)
    statistic = (x @ directions.mT).square().sum(0) / variance
    limits = chi2.ppf([0.0005, 0.9995], count)  # two-sided 1 % over ten directions
    assert (statistic > limits[0]).all()
    assert (statistic < limits[1]).all()


def test_noise_gives_the_square_root_of_the_covariance():
    field = GaussianField((5, 4), "neumann", 2.0, 1.5)
    size = math.prod(field.noise_shape)
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *field.noise_shape)
    root = field(basis).flatten(1).mT
    torch.testing.assert_close(root @ root.mT, field.covariance())


def test_one_noise_gives_one_field_on_every_grid():
    coarse, fine = (GaussianField((n, n), modes=12) for n in (9, 17))
    noise = NoiseStream(0).normal((2, *coarse.noise_shape), torch.float64)
    torch.testing.assert_close(coarse(noise), fine(noise)[..., ::2, ::2])


def test_boundary_behaviour():
    zero = GaussianField((9, 9), "dirichlet").draw(0, range(3), torch.float64)
    assert (zero[..., [0, -1], :] == 0).all()
    assert (zero[..., 1:-1, 1:-1] != 0).all()
    flat = GaussianField((401,), "neumann", modes=5).draw(0, range(3), torch.float64)
    slopes = flat.diff(dim=-1).abs()
    assert (slopes[..., [0, -1]] < 0.02 * slopes.amax(-1, keepdim=True)).all()


def test_a_field_depends_on_seed_and_row_alone():
    field = GaussianField((7, 6))
    whole = field.draw(3, range(5))
    assert whole.shape == (5, 1, 7, 6)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(field.draw(3, [4, 1]), whole[[4, 1]], atol=0, rtol=0)
    assert not torch.equal(field.draw(4, [4]), whole[[4]])


@pytest.mark.parametrize("high", [10.0, 100.0, 1000.0])
def test_two_values(high):
    field = GaussianField((29, 29)).draw(0, range(50))
    values = two_valued(field, 5.0, high)
    assert values.dtype == field.dtype
    assert set(values.unique().tolist()) == {5.0, high}
    torch.testing.assert_close(values == high, field >= 0)
    assert ((two_valued(field, 5.0, high, 0.1) == high) == (field >= 0.1)).all()


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"size": ()}, "size"),
        ({"size": (1, 5)}, "size"),
        ({"boundary": "open"}, "boundary"),
        ({"tau": 0.0}, "tau"),
        ({"alpha": 1.0}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"scale": -1.0}, "scale"),
        ({"modes": 0}, "modes"),
    ],
)
def test_bad_settings(settings, argument):
    with pytest.raises(ConfigError, match=f"`{argument}`: expected"):
        GaussianField(**({"size": (5, 5)} | settings))


def test_bad_noise_and_values():
    field = GaussianField((5, 5))
    with pytest.raises(ShapeError, match="`noise`: expected trailing axes"):
        field(torch.zeros(3, 5, 4))
    with pytest.raises(ConfigError, match="`high`"):
        two_valued(torch.zeros(3), 5.0, 5.0)
