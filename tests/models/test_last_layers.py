"""The last layer with the least energy, against its normal equations."""

import pytest
import torch
from torch import Tensor

from latens.data.field_families import WaveSums
from latens.models.last_layers import solve_by_energy
from latens.nets.decoded import DecodedField
from latens.nets.multionet import MultiONet
from latens.objectives.energy import Energy
from latens.objectives.equations import DarcyEquation, DiffusionEquation, EITEquation
from latens.problems.pde import EIT, Darcy

N = 17


def net(code: int, modes: int = 4) -> MultiONet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        decoder = MultiONet(code, width=6, depth=2, levels=1, modes=modes)
    return decoder.double().requires_grad_(False)


def field(decoder: MultiONet, equation: DiffusionEquation, code: Tensor) -> DecodedField:
    return DecodedField(decoder, decoder.coefficients(code), equation.condition, 0.3)


def mean_energy(
    decoder: MultiONet, equation: DiffusionEquation, code: Tensor, a: Tensor
) -> Tensor:
    """By the jets of decoded fields."""
    energy = equation.energy(a)
    jet = field(decoder, equation, code).jet(energy.points)
    return energy.value(jet.value, jet.first).sum() / len(a)


@pytest.mark.parametrize("equation", [DarcyEquation(), EITEquation([1, 4])])
def test_energy_is_stationary_and_least(equation):
    """The gradient by automatic differentiation vanishes; no other matrix does better."""
    a = WaveSums().fields(0, range(12), (N, N)).double()
    code = torch.randn(12, equation.patterns, 3, dtype=torch.float64)
    decoder = net(3)
    features, energies = decoder.features(code), equation.energy(a)
    before = mean_energy(decoder, equation, code, a)
    start = gradient(decoder, equation, code, a)
    solve_by_energy(field(decoder, equation, code), [features] * 2, [energies] * 2)
    least = mean_energy(decoder, equation, code, a)
    assert least < before
    assert gradient(decoder, equation, code, a).norm() < 1e-5 * start.norm()
    solved = decoder.mixing.clone()
    for step in torch.randn(5, *solved.shape, dtype=torch.float64):
        decoder.set_mixing(solved + 1e-3 * step)
        assert mean_energy(decoder, equation, code, a) > least


def gradient(decoder: MultiONet, equation: DiffusionEquation, code: Tensor, a: Tensor) -> Tensor:
    mixing = decoder.mixing.clone().requires_grad_()
    coefficients = decoder.features(code) @ mixing
    energy = equation.energy(a)
    jet = DecodedField(decoder, coefficients, equation.condition, 0.3).jet(energy.points)
    (slope,) = torch.autograd.grad(energy.value(jet.value, jet.first).sum() / len(a), mixing)
    return slope


@pytest.mark.parametrize(
    ("equation", "solve"),
    [
        (DarcyEquation(), Darcy((1, N, N), refine=4)),
        (EITEquation([1]), EIT((1, N, N), [1], refine=4).potential),
    ],
)
def test_one_field_is_solved_as_finite_elements_solve_it(equation, solve):
    """With one field the mixing of the constant feature is the field's own solution."""
    a = WaveSums().fields(0, range(1), (N, N)).double()
    known, errors = solve(a).flatten(), []
    for modes in (4, 12):
        decoder, code = net(2, modes), torch.zeros(1, 1, 2, dtype=torch.float64)
        features, energies = decoder.features(code), equation.energy(a)
        solve_by_energy(field(decoder, equation, code), [features] * 2, [energies] * 2)
        found = field(decoder, equation, code).value(equation.solution_points((1, N, N)))
        errors.append(float((found.flatten() - known).norm() / known.norm()))
    assert errors[1] < 0.003
    assert errors[1] < errors[0] / 5  # what is missed is missed by the basis


def test_the_matrix_with_the_least_energy_of_held_out_fields_is_kept():
    """A code that tells nothing of the field is learned by heart; that must not be kept."""
    equation, decoder = DarcyEquation(), net(8)
    a = WaveSums().fields(0, range(24), (N, N)).double()
    code = torch.randn(24, 1, 8, dtype=torch.float64)
    features, energies = decoder.features(code), equation.energy(a)
    halves = [slice(0, 8), slice(8, 24)]
    known = [
        Energy(energies.points, energies.stiffness[rows], energies.load[rows]) for rows in halves
    ]
    fields = field(decoder, equation, code)
    before, untouched = mean_energy(decoder, equation, code[8:], a[8:]), decoder.mixing.clone()
    solve_by_energy(fields, [features[rows] for rows in halves], known)
    kept = mean_energy(decoder, equation, code[8:], a[8:])
    decoder.set_mixing(untouched)
    solve_by_energy(fields, [features[:8]] * 2, known[:1] * 2)  # nothing held out
    learned_by_heart = mean_energy(decoder, equation, code[8:], a[8:])
    assert kept <= before < learned_by_heart
