"""Row-wise ODE: order, gradients, rows that do not touch each other."""

import itertools

import pytest
import torch
from torch import nn

from latens.data import treated_gompertz
from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.nets.ode import GompertzField, ResidualField, RowwiseODE


class Treated(nn.Module):
    """dy/dt = α(κ − y) − e exp(−λ t), whose solution is known."""

    def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return 0.7 * (5.0 - z) - 0.9 * torch.exp(-0.4 * t)[..., None]


def test_a_timed_field_moves_by_the_time() -> None:
    """dz/dt = η tanh(t/8) has z = 8 η log cosh(t/8); a field without time is that of any day."""
    z, start, stop = _rows()
    for timed in (True, False):
        field = ResidualField(1, 1, 0.5, timed=timed).double()
        with torch.no_grad():
            for parameter in field.net.parameters():
                parameter.zero_()
            field.net[0].weight[0, -1] = field.net[2].weight[0, 0] = 1.0
        found = RowwiseODE(field, 8)(z, start, stop)[:, 0]
        later = RowwiseODE(field, 8)(z, start + 5, stop + 5)[:, 0]
        if timed:
            moved = 4.0 * ((stop / 8).cosh().log() - (start / 8).cosh().log())
            torch.testing.assert_close(found, z[:, 0] + moved, rtol=1e-6, atol=1e-6)
            assert (later - found)[stop > start].min() > 0.01
        else:
            torch.testing.assert_close(later, found)


@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
def test_a_timed_gompertz_field_is_its_drift_and_the_network(gradient: str) -> None:
    field = GompertzField(2, 4, rate=0.3, plateau=2.0, residual=0.4, timed=True).double()
    z = NoiseStream(3).normal((4, 2), torch.float64)
    t = torch.tensor([0.0, 1.0, 8.0, 20.0], dtype=torch.float64)
    seen = torch.cat([z, t[:, None] / 8], 1)
    expected = 0.4 * field.net(seen)
    expected[:, 0] += 0.3 * (2.0 - z[:, 0])
    torch.testing.assert_close(field(t, z), expected)
    ode = RowwiseODE(field, 2, gradient)  # pyright: ignore[reportArgumentType]
    assert ode(z.expand(3, 4, 2), t, t + 1).shape == (3, 4, 2)


def _rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    start = torch.tensor([0.0, 1.0, 2.5, 3.0], dtype=torch.float64)
    stop = torch.tensor([1.0, 5.0, 2.5, 3.3], dtype=torch.float64)
    z = torch.tensor([[2.0], [7.0], [1.0], [4.0]], dtype=torch.float64)
    return z, start, stop


def _field(dim: int = 3) -> GompertzField:
    field = GompertzField(dim, 8, rate=0.3, plateau=2.0, residual=0.4).double()
    noise = NoiseStream(5)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.3 * noise.normal(parameter.shape, torch.float64))
    return field


def test_order_four_against_the_closed_form() -> None:
    z, start, stop = _rows()
    numbers = [torch.tensor(v, dtype=torch.float64) for v in (0.7, 5.0, 0.9, 0.4)]
    exact = treated_gompertz(z[:, 0], stop - start, start, *numbers)
    errors = []
    for steps in (4, 8, 16):
        found = RowwiseODE(Treated(), steps)(z, start, stop)[:, 0]
        errors.append(float((found - exact).abs().max()))
    for coarse, fine in itertools.pairwise(errors):
        assert 12 < coarse / fine < 22
    assert errors[-1] < 1e-4


def test_a_long_stretch_is_solved_in_pieces_row_by_row() -> None:
    start = torch.zeros(3, dtype=torch.float64)
    stop = torch.tensor([0.9, 7.3, 500.0], dtype=torch.float64)
    z = torch.tensor([[2.0], [7.0], [1.0]], dtype=torch.float64)
    numbers = [torch.tensor(v, dtype=torch.float64) for v in (0.7, 5.0, 0.9, 0.4)]
    exact = treated_gompertz(z[:, 0], stop - start, start, *numbers)
    ode = RowwiseODE(Treated(), 1).double()
    assert (ode(z, start, stop)[1:, 0] - exact[1:]).abs().min() > 1  # one step of this length
    whole = ode(z[:1], start[:1], stop[:1])
    ode.reach.fill_(1.0)
    found = ode(z, start, stop)
    torch.testing.assert_close(found[:, 0], exact, atol=0.02, rtol=0)
    assert torch.equal(found[:1], whole)  # within reach, and whatever the others do
    assert torch.equal(ode(z[1:2], start[1:2], stop[1:2]), found[1:2])
    assert ode.halving_error(z, start, stop).max() < 0.02


def test_halving_error_is_the_error_but_for_a_sixteenth() -> None:
    z, start, stop = _rows()
    numbers = [torch.tensor(v, dtype=torch.float64) for v in (0.7, 5.0, 0.9, 0.4)]
    exact = treated_gompertz(z[:, 0], stop - start, start, *numbers)
    ode = RowwiseODE(Treated(), 8)
    error = (ode(z, start, stop)[:, 0] - exact).abs()
    reported = ode.halving_error(z, start, stop)
    moved = stop > start
    torch.testing.assert_close(reported[moved], error[moved], rtol=0.15, atol=1e-12)
    assert float(reported[2]) == 0


def test_rows_are_independent_of_each_other() -> None:
    field = _field()
    ode = RowwiseODE(field, 3)
    z = NoiseStream(1).normal((4, 3), torch.float64)
    _, start, stop = _rows()
    together = ode(z, start, stop)
    for row in range(4):
        alone = ode(z[row : row + 1], start[row : row + 1], stop[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-14, atol=1e-14)
    other = ode(z, start, stop + torch.tensor([0.0, 9.0, 0.0, 0.0]))
    torch.testing.assert_close(other[[0, 2, 3]], together[[0, 2, 3]], rtol=1e-14, atol=1e-14)
    assert torch.equal(together[2], z[2])  # no time has passed


def test_leading_axes_share_the_times() -> None:
    ode = RowwiseODE(_field(), 2)
    z = NoiseStream(2).normal((6, 4, 3), torch.float64)
    _, start, stop = _rows()
    found = ode(z, start, stop)
    assert found.shape == (6, 4, 3)
    torch.testing.assert_close(found[3], ode(z[3], start, stop))


@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
def test_gradients_against_finite_differences(gradient: str) -> None:
    field = _field()
    ode = RowwiseODE(field, 24, gradient)  # pyright: ignore[reportArgumentType]
    z = NoiseStream(1).normal((4, 3), torch.float64).requires_grad_()
    _, start, stop = _rows()
    weight = NoiseStream(9).normal((4, 3), torch.float64)

    def value() -> torch.Tensor:
        return (ode(z, start, stop) * weight).sum()

    leaves = [z, *field.parameters()]
    gradients = torch.autograd.grad(value(), leaves)
    for leaf, found in zip(leaves, gradients, strict=True):
        flat, slope = leaf.data.view(-1), found.reshape(-1)
        for i in range(0, len(flat), max(len(flat) // 3, 1)):
            before = float(flat[i])
            flat[i] = before + 1e-5
            high = float(value().detach())
            flat[i] = before - 1e-5
            low = float(value().detach())
            flat[i] = before
            assert float(slope[i]) == pytest.approx((high - low) / 2e-5, rel=2e-4, abs=1e-7)


def test_the_volume_follows_gompertz_where_the_residual_is_small() -> None:
    field = GompertzField(2, 4, rate=0.5, plateau=3.0, residual=1e-12).double()
    z = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    times = torch.zeros(1, dtype=torch.float64), torch.full((1,), 2.0, dtype=torch.float64)
    found = RowwiseODE(field, 16)(z, *times).detach()
    expected = 3.0 - 2.0 * torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    assert float(found[0, 0]) == pytest.approx(float(expected), abs=1e-5)
    assert float(found[0, 1]) == pytest.approx(0.3, abs=1e-10)


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="1 step"):
        RowwiseODE(Treated(), 0)
    with pytest.raises(ConfigError, match="adjoint"):
        RowwiseODE(Treated(), 1, "other")  # pyright: ignore[reportArgumentType]
    z, start, stop = _rows()
    with pytest.raises(ShapeError, match="one stop per row"):
        RowwiseODE(Treated(), 1)(z, start[:3], stop[:3])
    with pytest.raises(ConfigError, match="positive"):
        GompertzField(2, rate=0.0)
