"""Families of fields: the published ones exactly, laws of the rest, rows on any grid."""

import math

import pytest
import torch

from latens.data.field_families import (
    ExponentialModes,
    FieldFamily,
    GaussianFields,
    LogGaussianFields,
    TwoValuedFields,
    WaveSums,
)
from latens.data.pde_fields import read_darcy_case, read_eit_fields
from latens.errors import ConfigError

FAMILIES: dict[str, FieldFamily] = {
    "waves": WaveSums(),
    "modes": ExponentialModes(),
    "two": TwoValuedFields(modes=8),
    "log": LogGaussianFields(modes=8),
    "ring": GaussianFields(modes=6),
}


def size(family: FieldFamily, n: int) -> tuple[int, ...]:
    return (n,) * family.axes


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_is_one_function_on_every_grid(name):
    family = FAMILIES[name]
    step = 16 if family.axes == 1 else 17
    coarse = family.fields(3, [0, 4, 9], size(family, step))
    fine = family.fields(3, [4], size(family, 2 * step - (family.axes == 2)))
    every = fine[..., ::2] if family.axes == 1 else fine[..., ::2, ::2]
    assert coarse.shape == (3, 1, *size(family, step))
    torch.testing.assert_close(coarse[1:2], every)
    assert not torch.equal(coarse[0], coarse[1])
    assert not torch.equal(coarse[1:2], family.fields(4, [4], size(family, step)))


@pytest.mark.parametrize("name", ["waves", "modes", "two", "log"])
def test_coefficients_are_positive(name):
    a = FAMILIES[name].fields(0, range(200), (17, 17))
    assert a.min() > 0
    assert a.flatten(1).std(1).min() > 0 or name == "two"


def test_the_published_smooth_field(shared_data):
    case = read_darcy_case(shared_data / "igno" / "smh_inverse_coe.mat")
    t = torch.linspace(0, 1, 29, dtype=torch.float64)
    wave = 2.1 + torch.sin(5.00106788 * t)[None] + torch.cos(3.37227557 * t)[:, None]
    torch.testing.assert_close(wave, case.coefficient[0, 0].double(), rtol=0, atol=5e-7)
    low, high = WaveSums().low, WaveSums().high
    assert low < 3.372 < 5.002 < high


@pytest.mark.parametrize("file", ["inverse_EIT_in.mat", "problem_EIT.mat"])
def test_the_published_conductivities(shared_data, file, monkeypatch):
    case = read_eit_fields(shared_data / "igno" / file)
    code = torch.cat([(case.code.double() + 1) / 2, torch.ones(1, dtype=torch.float64)])
    monkeypatch.setattr("latens.data.field_families._uniform", lambda *_: code[None])
    made = ExponentialModes().fields(0, [0], (32, 32))
    torch.testing.assert_close(made[0], case.coefficient.double(), rtol=0, atol=1e-12)


def test_laws():
    """Frequencies and numbers of modes are uniform; half of a two-valued square is high."""
    waves = WaveSums().fields(0, range(2000), (2, 65))[:, 0, 0]
    omega = torch.asin((waves[:, 1] - waves[:, 0]).clamp(-1, 1)) * 64
    share = (omega - math.pi) / math.pi
    assert -1e-9 < share.min() < 0.005
    assert 0.995 < share.max() < 1 + 1e-9
    assert abs(share.mean() - 0.5) < 4 * 12**-0.5 / 2000**0.5
    corner = ExponentialModes().fields(0, range(2000), (3, 3))[:, 0, 0, 0]
    for k in range(1, 5):
        assert abs((corner == k).double().mean() - 0.25) < 4 * (0.1875 / 2000) ** 0.5
    assert bool((ExponentialModes(fixed=True).fields(0, [0, 1], (3, 3))[:, 0, 0, 0] == 4).all())
    high = (FAMILIES["two"].fields(0, range(400), (9, 9)) == 10).double()
    assert abs(high.mean() - 0.5) < 4 * high.flatten(1).mean(1).std() / 20


@pytest.mark.parametrize(
    "make",
    [
        lambda: WaveSums(2.0, 1.0),
        lambda: ExponentialModes(0),
        lambda: TwoValuedFields(10.0, 5.0),
        lambda: GaussianFields().fields(0, [0], (8, 8)),
        lambda: WaveSums().fields(0, [0], (8,)),
    ],
)
def test_settings_that_make_no_sense(make):
    with pytest.raises(ConfigError):
        make()
