"""Climbs of many rows: the same ends whoever climbs beside, and no row computed in vain."""

import torch
from torch import Tensor

from latens.inference.samplers import RowsOfProblems
from latens.inference.samplers.maximise import maximise

SCALES = torch.tensor([0.1, 1.0, 30.0, 1.0], dtype=torch.float64)[:, None]
CENTRES = torch.arange(8, dtype=torch.float64).reshape(4, 2)


class Counted:
    """Log-density of a curved valley of some width and place, which counts its rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, scale: Tensor, centre: Tensor) -> Tensor:
        self.rows.append(len(x))
        u = (x - centre) / scale
        return -(1 - u[:, 0]).square() - 20 * (u[:, 1] - u[:, 0].square()).square()


def climbs(chains: int, problems: slice = slice(None)):
    counted = Counted()
    data = [SCALES[problems], CENTRES[problems]]
    start = (CENTRES + SCALES * torch.tensor([-1.2, 1.0]))[problems]
    jitter = torch.linspace(0, 0.3, chains, dtype=torch.float64)[:, None]
    start = (start[:, None] + SCALES[problems, None] * jitter).flatten(0, 1)
    return maximise(RowsOfProblems(counted, data, chains), start, tolerance=1e-10), counted


def test_every_row_reaches_its_own_maximum():
    found, _ = climbs(3)
    assert found.converged.all()
    torch.testing.assert_close(
        found.position, (CENTRES + SCALES).repeat_interleave(3, 0), rtol=1e-4, atol=1e-4
    )


def test_the_end_of_a_row_does_not_depend_on_its_neighbours():
    together, _ = climbs(3)
    for problem in range(4):
        alone, _ = climbs(3, slice(problem, problem + 1))
        rows = slice(3 * problem, 3 * problem + 3)
        torch.testing.assert_close(alone.position, together.position[rows], rtol=1e-8, atol=1e-8)


def test_rows_that_have_ended_are_not_computed():
    found, counted = climbs(3)
    assert found.gradients == len(counted.rows)
    assert counted.rows[0] == 12
    assert counted.rows[-1] < 6
    assert sum(counted.rows) < 0.7 * 12 * len(counted.rows)
