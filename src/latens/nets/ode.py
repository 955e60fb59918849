"""Ordinary differential equations of latents, each row over its own stretch of time.

    dz/dt = f(t, z) from a to b,   with s = (t − a)/(b − a):   dz/ds = (b − a) f(a + s(b − a), z)

All rows share the grid of s in [0, 1], so a step of the solver is one call of f for all of them,
and what one row is asked for does not change the steps of another. The classical alternative, one
sorted list of all times, costs as many steps as there are different times.

References:
    Chen et al. (2018), Neural ordinary differential equations, https://arxiv.org/abs/1806.07366;
    Chen et al. (2021), Learning neural event functions, section on batching by time scaling,
    https://arxiv.org/abs/2011.03902.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from latens.errors import ConfigError, ShapeError

Gradient = Literal["backprop", "adjoint"]
"""`backprop`: through the steps of the solver, exact for them; `adjoint`: by solving backwards in
time, with memory that does not grow with the steps and an error of its own."""


MOST_PIECES = 256
_CLOCK = 8.0
"""Time that a timed field sees as 1."""


class RowwiseODE(nn.Module):
    """Solution of dz/dt = f(t, z) by a fixed number of steps of order four.

    Args:
        field: f; takes t `(...)` and z `(..., d)`, returns `(..., d)`.
        steps: Steps between the two times of a row.
        gradient: How gradients are taken.

    Attributes:
        reach: Longest stretch that the steps are for, infinite until it is set; a longer one is
            solved in pieces of that length, as many as it takes but no more than `MOST_PIECES`.

    Raises:
        ConfigError: If there is no step.
    """

    reach: Tensor

    def __init__(self, field: nn.Module, steps: int = 2, gradient: Gradient = "backprop") -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError("steps", "1 step or more", steps, "Use for example 2.")
        if gradient not in ("backprop", "adjoint"):
            raise ConfigError("gradient", "backprop or adjoint", gradient, "See `Gradient`.")
        self.field = field
        self.steps = steps
        self.gradient: Gradient = gradient
        self.register_buffer("reach", torch.tensor(math.inf))

    def forward(self, z: Tensor, start: Tensor, stop: Tensor) -> Tensor:
        """z at the end of each row's stretch.

        Args:
            z: Latents at the start, `(..., d)`.
            start: a, broadcastable to `(...)`.
            stop: b; the row stays where it is if b = a.

        Returns:
            `(..., d)`.

        Raises:
            ShapeError: If the times do not fit the rows.
        """
        return self._solve(z, start, stop, self.steps)

    def halving_error(self, z: Tensor, start: Tensor, stop: Tensor) -> Tensor:
        """Largest change over the latents if all steps are halved, `(...)`.

        It bounds the error of the solution with the larger steps from above but for a factor
        near 16/15, once steps are small enough for the order of the method to show.
        """
        with torch.no_grad():
            coarse = self._solve(z, start, stop, self.steps)
            fine = self._solve(z, start, stop, 2 * self.steps)
        return (fine - coarse).abs().amax(-1)

    def _solve(self, z: Tensor, start: Tensor, stop: Tensor, steps: int) -> Tensor:
        try:
            start, stop, _ = torch.broadcast_tensors(start, stop, z[..., 0])
        except RuntimeError as error:
            raise ShapeError(
                "start, stop",
                f"shapes that fit the rows {tuple(z.shape[:-1])}",
                (tuple(start.shape), tuple(stop.shape)),
                "Give one start and one stop per row.",
            ) from error
        if start.shape != z.shape[:-1]:
            z = z.expand(*start.shape, z.shape[-1])
        length = torch.maximum((stop - start) / MOST_PIECES, self.reach.to(stop))
        pieces = math.ceil(float(((stop - start) / length).amax())) if start.numel() else 1
        now = start
        for piece in range(1, max(pieces, 1)):
            end = torch.minimum(start + piece * length, stop)  # a row that is there stays there
            z, now = self._one_stretch(z, now, end, steps), end
        return self._one_stretch(z, now, stop, steps)

    def _one_stretch(self, z: Tensor, start: Tensor, stop: Tensor, steps: int) -> Tensor:
        rescaled = _Rescaled(self.field, start, stop - start)
        ends = torch.tensor([0.0, 1.0], dtype=z.dtype, device=z.device)
        solve = odeint if self.gradient == "backprop" else odeint_adjoint

        def grid(function: object, state: Tensor, times: Tensor) -> Tensor:
            return torch.lerp(times[0], times[-1], torch.linspace(0, 1, steps + 1).to(times))

        states = solve(rescaled, z, ends, method="rk4", options={"grid_constructor": grid})
        assert isinstance(states, Tensor)
        return states[-1]


class _Rescaled(nn.Module):
    """The field in the time of the solver."""

    def __init__(self, field: nn.Module, start: Tensor, gap: Tensor) -> None:
        super().__init__()
        self.field = field
        self.start, self.gap = start, gap

    def forward(self, s: Tensor, z: Tensor) -> Tensor:
        return self.gap[..., None] * self.field(self.start + s * self.gap, z)


class ResidualField(nn.Module):
    """A field without any drift of its own.

        dz/dt = η f_θ(z),   or η f_θ(z, t)

    Args:
        dim: Latents.
        width: Hidden units.
        residual: Initial η.
        timed: Whether f sees the time; else it is the same at all times.
    """

    def __init__(
        self, dim: int, width: int = 32, residual: float = 0.1, *, timed: bool = False
    ) -> None:
        super().__init__()
        if min(dim, width) < 1 or residual <= 0:
            raise ConfigError(
                "dim, width, residual",
                "a positive value of each",
                (dim, width, residual),
                "Use for example 5 latents, 32 units and .1.",
            )
        self.log_residual = nn.Parameter(torch.tensor(residual).log())
        self.timed = timed
        self.net = _network(dim, width, timed)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """dz/dt, `(..., dim)`, at times `(...)`."""
        return self.log_residual.exp() * self.net(_seen(z, t, self.timed))


def _network(dim: int, width: int, timed: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim + timed, width), nn.Tanh(), nn.Linear(width, dim))


def _seen(z: Tensor, t: Tensor, timed: bool) -> Tensor:
    """What a network is given of the state `(..., d)` and the time `(...)`."""
    if not timed:
        return z
    return torch.cat([z, (t / _CLOCK).expand(z.shape[:-1])[..., None]], -1)


class GompertzField(nn.Module):
    """Gompertz drift of a volume latent with a residual field.

        dz_vol/dt = α(κ − z_vol) + η h_θ(z),    dz_rest/dt = η f_θ(z)

    or h_θ(z, t) and f_θ(z, t).

    Args:
        dim: Latents, that of the log volume first.
        width: Hidden units of the residual field.
        rate: Initial α, per unit of time.
        plateau: Initial κ, units of z_vol.
        residual: Initial η.
        centre: Value of z_vol that the residual field sees as 0.
        spread: Distance that it sees as 1.
        timed: Whether it sees the time; else the field is the same at all times.
    """

    def __init__(
        self,
        dim: int,
        width: int = 32,
        *,
        rate: float = 0.1,
        plateau: float = 0.0,
        residual: float = 0.1,
        centre: float = 0.0,
        spread: float = 1.0,
        timed: bool = False,
    ) -> None:
        super().__init__()
        if min(dim, width) < 1 or min(rate, residual, spread) <= 0:
            raise ConfigError(
                "dim, width, rate, residual, spread",
                "a positive value of each",
                (dim, width, rate, residual, spread),
                "Use for example 5 latents, 32 units, .1, .1 and 1.",
            )
        self.log_rate = nn.Parameter(torch.tensor(rate).log())
        self.plateau = nn.Parameter(torch.tensor(float(plateau)))
        self.log_residual = nn.Parameter(torch.tensor(residual).log())
        self.register_buffer("centre", torch.tensor(float(centre)))
        self.register_buffer("spread", torch.tensor(float(spread)))
        self.timed = timed
        self.net = _network(dim, width, timed)

    centre: Tensor
    spread: Tensor

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """dz/dt, `(..., dim)`, at times `(...)`."""
        volume = z[..., :1]
        seen = torch.cat([(volume - self.centre) / self.spread, z[..., 1:]], -1)
        drift = self.log_rate.exp() * (self.plateau - volume)
        field = self.log_residual.exp() * self.net(_seen(seen, t, self.timed))
        return torch.cat([drift + field[..., :1], field[..., 1:]], -1)
