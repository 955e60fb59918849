"""Which frequencies a scanner samples, and what its coils see."""

import math
from typing import Literal

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, ShapeError
from latens.problems.masks import read_mask, refuse_beside_mask
from latens.store import read_array
from latens.types import Shape

Pattern = Literal["lines", "points"]

CENTRE_FRACTION, DECAY = 0.08, 2.0
RING_RADIUS = 1.5
"""Distance of simulated coils from the centre, in half widths of the image."""


def sampled_frequencies(
    spatial: Shape,
    acceleration: float | None,
    centre_fraction: float | None,
    pattern: Pattern | None,
    axis: int | None,
    decay: float | None,
    seed: int | None,
    mask: Tensor | str | None,
) -> Tensor:
    """True where a frequency is sampled, `(*spatial)`, with frequency 0 at n // 2.

    Arguments and errors are those of `FourierSampling`.
    """
    if mask is not None:
        refuse_beside_mask(
            {
                "acceleration": acceleration,
                "centre_fraction": centre_fraction,
                "pattern": pattern,
                "axis": axis,
                "decay": decay,
                "seed": seed,
            }
        )
        return read_mask(mask, spatial)
    if acceleration is None or not 1 <= acceleration < math.inf:
        raise ConfigError(
            "acceleration", "a number of at least 1", acceleration, "Give it, or a `mask`."
        )
    centre = CENTRE_FRACTION if centre_fraction is None else centre_fraction
    if not 0 <= centre <= 1:
        raise ConfigError(
            "centre_fraction", "a fraction in [0, 1]", centre, "Use for example 0.08."
        )
    power = DECAY if decay is None else decay
    if not 0 <= power < math.inf:
        raise ConfigError("decay", "0 or more", power, "0 draws all frequencies alike.")
    if pattern == "points":
        if axis is not None:
            raise ConfigError("axis", "no value with pattern 'points'", axis, "Leave it out.")
        return _drawn(spatial, acceleration, centre, power, seed or 0)
    if pattern not in (None, "lines"):
        raise ConfigError("pattern", "'lines' or 'points'", repr(pattern), "Choose one.")
    phase = -1 if axis is None else axis
    if not -len(spatial) <= phase < len(spatial):
        raise ConfigError(
            "axis", f"one of {len(spatial)} spatial axes", phase, "Use for example 0."
        )
    lines = _drawn((spatial[phase],), acceleration, centre, power, seed or 0)  # (n,)
    shape = [1] * len(spatial)
    shape[phase] = -1
    return lines.reshape(shape).expand(spatial).contiguous()


def _drawn(shape: Shape, acceleration: float, centre: float, power: float, seed: int) -> Tensor:
    """A full block of low frequencies, and others drawn without replacement."""
    starts = [n // 2 - round(centre * n) // 2 for n in shape]
    low = torch.zeros(shape, dtype=torch.bool)
    low[tuple(slice(a, a + round(centre * n)) for a, n in zip(starts, shape, strict=True))] = True
    total = max(1, round(math.prod(shape) / acceleration))
    if int(low.sum()) > total:
        raise ConfigError(
            "centre_fraction",
            f"at most {total} frequencies in the centre, all that `acceleration` leaves",
            int(low.sum()),
            "Make it smaller, or accelerate less.",
        )
    squares = torch.zeros(shape, dtype=torch.float64)
    for i, n in enumerate(shape):
        radius = (torch.arange(n, dtype=torch.float64) - n // 2) / (n / 2 + 1)  # inside (−1, 1)
        squares += (radius**2).reshape([-1 if j == i else 1 for j in range(len(shape))])
    weight = (1 - (squares / len(shape)).sqrt()) ** power
    uniform = NoiseStream(seed).uniform(shape, torch.float64)
    # Smallest exponential waiting times: draws with probability ∝ weight, none twice.
    waiting = torch.where(low, -1.0, -torch.log1p(-uniform) / weight)
    sampled = torch.zeros(math.prod(shape), dtype=torch.bool)
    sampled[waiting.flatten().argsort(stable=True)[:total]] = True
    return sampled.reshape(shape)


def coil_maps(coils: Tensor | str | int, spatial: Shape) -> Tensor:
    """Complex sensitivities `(coils, *spatial)`, complex128.

    Arguments and errors are those of `FourierSampling`.
    """
    if isinstance(coils, int):
        if coils < 1:
            raise ConfigError("coils", "at least 1", coils, "Leave it out for one ideal coil.")
        return _birdcage(coils, spatial)
    if not isinstance(coils, str | Tensor):
        raise ConfigError(
            "coils",
            "a whole number, a tensor or the path of a .npy file",
            coils,
            "Use for example 4.",
        )
    name = coils if isinstance(coils, str) else "coils"
    maps = torch.from_numpy(read_array(coils)) if isinstance(coils, str) else coils.detach().cpu()
    if maps.ndim != len(spatial) + 1 or tuple(maps.shape[1:]) != spatial:
        raise ShapeError(
            name,
            f"shape (coils, {', '.join(map(str, spatial))})",
            tuple(maps.shape),
            "Transpose it.",
        )
    maps = maps.to(torch.complex128)
    if not maps.isfinite().all() or not maps.abs().amax(tuple(range(1, maps.ndim))).all():
        raise DataError(
            name,
            "finite sensitivities, not all zero in any coil",
            "others",
            "Leave out coils that see nothing.",
        )
    return maps


def _birdcage(coils: int, spatial: Shape) -> Tensor:
    """Coils on a ring about the last two axes, in 3-D on two rings in turn; Σ|s|² = 1.

    Magnitudes fall with the distance from a coil, phases turn with the direction to it.
    """
    axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * (2 / n) for n in spatial]
    grid = torch.meshgrid(*axes, indexing="ij")
    maps = []
    for coil in range(coils):
        angle = 2 * math.pi * coil / coils
        vertical = grid[-2] - RING_RADIUS * math.sin(angle)
        horizontal = grid[-1] - RING_RADIUS * math.cos(angle)
        square = vertical**2 + horizontal**2
        if len(spatial) == 3:
            square = square + (grid[0] - 0.5 * (-1) ** coil) ** 2
        phase = torch.atan2(vertical, horizontal) + angle
        maps.append(torch.polar(square.rsqrt(), phase))
    stacked = torch.stack(maps)
    return stacked / stacked.abs().square().sum(0).sqrt()
