"""Burgers' equation: from an initial velocity to the final one."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError
from latens.problems.constants import Constants
from latens.problems.operator import Operator, event_shape, require_event
from latens.problems.pde.grid import require_distinct
from latens.problems.pde.inspection import inspect, require_finite
from latens.problems.pde.ring import interpolated
from latens.types import Shape

STABLE = 2.5
"""Largest |u| k Δt, k the largest wave number that convection acts on; the scheme needs 2.8."""


class Burgers(Operator):
    """Final velocity of a viscous fluid on a ring of length 1.

        ∂u/∂t + u ∂u/∂x = ν ∂²u/∂x²,    u(x, 0) = x₀(x),    u periodic on [0, 1]

    The field is the trigonometric interpolant of its n values at j/n. Diffusion is exact in
    Fourier space, convection a fourth-order Runge-Kutta step with exponential integrating weights
    (ETDRK4), its products freed of aliases by the 2/3 rule. Derivatives run through the steps, so
    they are those of the discrete solution. float64 inside; a result has the dtype and the device
    of its input.

    Args:
        signal_shape: `(1, n)`.
        sensors: Positions in [0, 1) where the final velocity is measured, by trigonometric
            interpolation; None for the n nodes.
        viscosity: ν.
        time: Final time.
        steps: Time steps of equal length. The scheme is stable while |u| · 2π n·refine/3 · Δt is
            below 2.5; |u| never exceeds its initial maximum.
        refine: Nodes of the solver per node of the signal.

    Raises:
        ShapeError: If the signal is no single field on a ring, or sensors are no list.
        ConfigError: If a setting is out of range, or a sensor is outside, repeated or not finite.

    References:
        Kassam, Trefethen (2005), Fourth-order time-stepping for stiff PDEs,
        https://doi.org/10.1137/S1064827502410633.
    """

    def __init__(
        self,
        signal_shape: Shape,
        sensors: Sequence[float] | Tensor | None = None,
        viscosity: float = 0.1 / math.pi,
        time: float = 1.0,
        steps: int = 400,
        refine: int = 1,
    ) -> None:
        shape = event_shape("signal_shape", signal_shape)
        if len(shape) != 2 or shape[0] != 1 or shape[1] < 8:
            raise ShapeError(
                "signal_shape", "(1, n) with n ≥ 8", tuple(signal_shape), "Use one field."
            )
        for name, value in (("viscosity", viscosity), ("time", time)):
            if not 0 < value < math.inf:
                raise ConfigError(name, "a positive number", value, "See the docstring.")
        for name, value in (("steps", steps), ("refine", refine)):
            if value < 1:
                raise ConfigError(name, "at least 1", value, "See the docstring.")
        points = None if sensors is None else ring_points(sensors)
        super().__init__(signal_shape, signal_shape if points is None else (len(points),))
        self.viscosity, self.time, self.steps, self.refine = viscosity, time, steps, refine
        self._size = shape[1] * refine
        tensors = _weights(self._size, viscosity, time / steps)
        if points is not None:
            tensors["interpolation"] = _interpolation(points, self._size)
        self._constants = Constants(tensors)
        self._measures = points is not None

    def forward(self, x: Tensor) -> Tensor:
        """Final velocity, `(..., *measurement_shape)`.

        Args:
            x: Initial velocity, `(..., 1, n)`.

        Raises:
            ShapeError: If `x` does not fit the operator.
            DataError: If a velocity is not finite, or too large for the time step.
        """
        if not self._measures:
            return self.field(x)
        final = self._final(x)  # (..., 1, n · refine)
        return (final @ self._constants.on("interpolation", final).mT)[..., 0, :].to(x)

    def field(self, x: Tensor) -> Tensor:
        """Final velocity at the n nodes, `(..., 1, n)`."""
        return self._final(x)[..., :: self.refine].to(x)

    def _final(self, x: Tensor) -> Tensor:
        """Final velocity at the nodes of the solver, float64."""
        require_event("x", x, self.signal_shape)
        inspect(x, self._require_stable)
        wide = x.double()
        if x.numel() == 0:  # the FFT refuses empty batches
            return wide.repeat_interleave(self.refine, -1)
        spectrum = _refined(torch.fft.rfft(wide, norm="forward"), x.shape[-1], self._size)
        weights = {name: self._constants.on(name, wide) for name in _WEIGHTS}
        for _ in range(self.steps):
            spectrum = self._step(spectrum, weights)
        return torch.fft.irfft(spectrum, n=self._size, norm="forward")

    def _step(self, v: Tensor, w: dict[str, Tensor]) -> Tensor:
        """One step of ETDRK4 for the Fourier coefficients of u."""
        n_v = self._convection(v, w["slope"])
        decayed = w["half"] * v
        a = decayed + w["q"] * n_v
        n_a = self._convection(a, w["slope"])
        b = decayed + w["q"] * n_a
        n_b = self._convection(b, w["slope"])
        c = w["half"] * a + w["q"] * (2 * n_b - n_v)
        n_c = self._convection(c, w["slope"])
        return w["full"] * v + w["f1"] * n_v + w["f2"] * (n_a + n_b) + w["f3"] * n_c

    def _convection(self, v: Tensor, slope: Tensor) -> Tensor:
        """Fourier coefficients of −½ ∂(u²)/∂x on the lower two thirds of the wave numbers."""
        kept = slope.shape[-1]
        u = torch.fft.irfft(v[..., :kept], n=self._size, norm="forward")
        product = slope * torch.fft.rfft(u.square(), norm="forward")[..., :kept]
        return torch.nn.functional.pad(product, (0, v.shape[-1] - kept))

    def _require_stable(self, value: Tensor) -> None:
        require_finite(value)
        speed = value.abs().max().item() if value.numel() else 0.0
        number = speed * 2 * math.pi * _kept(self._size) * self.time / self.steps
        if number > STABLE:
            needed = math.ceil(self.steps * number / STABLE)
            raise DataError(
                "x",
                f"velocities up to {speed * STABLE / number:.3g} with {self.steps} steps",
                f"{speed:.3g}",
                f"Set `steps` to {needed} or more.",
            )


_WEIGHTS = ("slope", "half", "full", "q", "f1", "f2", "f3")


def _kept(size: int) -> int:
    """Largest wave number without aliases in a product."""
    return (size - 1) // 3


def _weights(size: int, viscosity: float, step: float) -> dict[str, Tensor]:
    """Weights of one step for every wave number, `(size // 2 + 1,)`.

    The φ-functions cancel near zero, so they are means over a circle around every point.
    """
    wave = 2 * math.pi * np.arange(size // 2 + 1)
    decay = -viscosity * wave**2 * step
    circle = np.exp(1j * math.pi * (np.arange(32) + 0.5) / 32)
    z = decay[:, None] + circle  # conjugate half: real parts of means
    e = np.exp(z)
    q = step * ((np.exp(z / 2) - 1) / z).mean(1).real
    f1 = step * ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(1).real
    f2 = step * 2 * ((2 + z + e * (z - 2)) / z**3).mean(1).real
    f3 = step * ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(1).real
    slope = -0.5j * wave[: _kept(size) + 1]
    arrays = (slope, np.exp(decay / 2), np.exp(decay), q, f1, f2, f3)
    return {name: torch.from_numpy(a) for name, a in zip(_WEIGHTS, arrays, strict=True)}


def _refined(spectrum: Tensor, size: int, wanted: int) -> Tensor:
    """Coefficients of the same real field on `wanted` nodes, a multiple of `size`."""
    if size == wanted:
        return spectrum
    shares = torch.ones(spectrum.shape[-1], dtype=torch.float64, device=spectrum.device)
    if size % 2 == 0:
        shares[-1] = 0.5  # the highest coefficient of an even number of nodes is two waves
    return torch.nn.functional.pad(spectrum * shares, (0, wanted // 2 + 1 - len(shares)))


def ring_points(sensors: Sequence[float] | Tensor) -> Tensor:
    """Positions of sensors on the ring as a tensor `(m,)`, once they are known to be usable.

    Raises:
        ShapeError: If they are no list.
        ConfigError: If one is not finite, outside [0, 1), or repeats another.
    """
    points = torch.as_tensor(sensors, dtype=torch.float64).cpu()
    if points.ndim != 1 or len(points) == 0:
        raise ShapeError("sensors", "shape (m,), m ≥ 1", tuple(points.shape), "Give a list.")
    if not (torch.isfinite(points) & (points >= 0) & (points < 1)).all():
        raise ConfigError(
            "sensors",
            "finite positions in [0, 1)",
            f"{points.min().item():g} to {points.max().item():g}",
            "The ring has length 1: 1 is 0.",
        )
    require_distinct(points[:, None])
    return points


def _interpolation(points: Tensor, size: int) -> Tensor:
    """Matrix from n nodal values to the trigonometric interpolant at points, `(m, n)`."""
    nodes = torch.eye(size, dtype=torch.float64)
    return interpolated(nodes, points.expand(size, -1)).mT
