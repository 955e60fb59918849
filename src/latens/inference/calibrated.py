"""Posteriors whose intervals were widened until a promise held, and the record of it on disk."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, LatensError, ShapeError, UnsupportedError
from latens.inference.estimates import DEFAULT_DRAWS, Draws, Estimate, Interval, Posterior
from latens.inference.solver import Solver
from latens.metrics import attainable_levels
from latens.metrics.conformal import exceedance
from latens.store import read_json, write_json
from latens.types import PathLike, Shape

Method = Literal["split", "cqr", "simultaneous", "crc", "rcps"]
Widens = Literal["std", "offset", "width"]

FLOOR = 1e-3
"""Smallest spread of an element, in units of the root mean square over its image."""

CALIBRATION_FILE = "calibration.json"

_VERSION = 1
_SHARED: tuple[Method, ...] = ("split", "cqr", "simultaneous")
_PROMISES: dict[Method, str] = {
    "split": "at least {share:.4g} of the elements inside, in {level:.4g} of new {unit}",
    "cqr": "at least {share:.4g} of the elements inside, in {level:.4g} of new {unit}",
    "simultaneous": "every element inside, in {level:.4g} of new {unit}",
    "crc": "{level:.4g} of the elements of new {unit} inside, on average",
    "rcps": "{level:.4g} of the elements of new {unit} inside, on average, "
    "but for a chance of {delta:.4g} that the calibration was unlucky",
}


class Band(NamedTuple):
    """Nested intervals [lower − λ·unit, upper + λ·unit].

    Attributes:
        lower: `(B, *signal_shape)`.
        upper: `(B, *signal_shape)`.
        unit: `(B, *signal_shape)`, positive.
    """

    lower: Tensor
    upper: Tensor
    unit: Tensor


def _around_mean(posterior: Posterior, level: float) -> Band:
    return Band(posterior.mean, posterior.mean, _floored(posterior.std))


def _offset(posterior: Posterior, level: float) -> Band:
    interval = posterior.interval(level)
    return Band(interval.lower, interval.upper, torch.ones_like(interval.lower))


def _by_width(posterior: Posterior, level: float) -> Band:
    interval = posterior.interval(level)
    return Band(interval.lower, interval.upper, _floored(interval.upper - interval.lower))


_BANDS: dict[Widens, Callable[[Posterior, float], Band]] = {
    "std": _around_mean,
    "offset": _offset,
    "width": _by_width,
}


def _floored(spread: Tensor) -> Tensor:
    """Spread of at least `FLOOR` times its root mean square over the image.

    The floor is a function of the image's own estimate alone, as exchangeability asks. An image
    without any spread keeps 0: no λ reaches its truth unless the estimate is exact.
    """
    size = spread.flatten(1).square().mean(1).sqrt()
    return torch.maximum(spread, FLOOR * size.reshape(-1, *[1] * (spread.ndim - 1)))


@dataclass(frozen=True)
class Calibration:
    """By how much a solver's intervals are widened, and what that promises.

    | widens | interval at factor λ |
    |---|---|
    | `std` | mean ± λ·max(std, floor) |
    | `offset` | [l − λ, u + λ], λ in signal units, negative to narrow |
    | `width` | [l − λ·w, u + λ·w], w = max(u − l, floor) |

    l and u are the solver's own central interval at `base_level`; the floor is `FLOOR` times the
    root mean square of the spread over the image. Bounds never cross: an interval that λ < 0
    would turn inside out is the middle alone.

    Args:
        method: How λ was found; see `latens.metrics.conformal`.
        widens: What is widened.
        level: 1 − α, the level of the promise.
        factor: λ.
        base_level: Level of the solver's own interval that is widened or compared with.
        share: Share of the elements that must lie inside for an image to count as covered, of
            `split` and `cqr`; 1 for `simultaneous`, None for the others.
        delta: δ of `rcps`, None for the others.
        images: Images of the calibration.
        units: Exchangeable units among them: groups, or images where each is its own.
        signal_shape: `(C, *spatial)` that it was fitted for.

    Raises:
        ConfigError: If a value is impossible.
    """

    method: Method
    widens: Widens
    level: float
    factor: float
    base_level: float
    share: float | None
    delta: float | None
    images: int
    units: int
    signal_shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "signal_shape", tuple(self.signal_shape))
        _require("method", self.method in get_args(Method), f"one of {get_args(Method)}", self)
        _require("widens", self.widens in _BANDS, f"one of {tuple(_BANDS)}", self)
        _require("level", _within(self.level, 0, 1), "a probability in (0, 1)", self)
        _require("factor", _within(self.factor, -inf, inf), "a finite number", self)
        known = any(abs(self.base_level - a) < 1e-9 for a in attainable_levels(DEFAULT_DRAWS))
        _require("base_level", known, f"a level that {DEFAULT_DRAWS} draws attain", self)
        shares = self.method in _SHARED
        valid = shares and self.share is not None and 0 < self.share <= 1
        _require("share", valid if shares else self.share is None, f"that of {self.method}", self)
        wanted = self.method == "rcps"
        valid = wanted and self.delta is not None and 0 < self.delta < 1
        _require("delta", valid if wanted else self.delta is None, f"that of {self.method}", self)
        _require("units", 1 <= self.units <= self.images, "1 or more, at most the images", self)
        valid = len(self.signal_shape) >= 2 and min(self.signal_shape) >= 1
        _require("signal_shape", valid, "(C, *spatial)", self)

    @property
    def promise(self) -> str:
        """What holds, in words, if new units are exchangeable with those of the calibration."""
        unit = "images" if self.units == self.images else "images of new groups"
        return _PROMISES[self.method].format(
            share=self.share, level=self.level, delta=self.delta, unit=unit
        )

    def band(self, posterior: Posterior) -> Band:
        """What λ widens, of a posterior."""
        return _BANDS[self.widens](posterior, self.base_level)

    def exceedance(self, posterior: Posterior, x: Tensor) -> Tensor:
        """λ that each element of the truth would need, `(B, *signal_shape)`."""
        return exceedance(x, *self.band(posterior))

    def interval(self, posterior: Posterior) -> Interval:
        """The widened interval of a posterior.

        Raises:
            ShapeError: If its signals have another shape than those of the calibration.
        """
        lower, upper, unit = self.band(posterior)
        if tuple(lower.shape[1:]) != self.signal_shape:
            raise ShapeError(
                "calibration",
                f"signals {tuple(lower.shape[1:])}, as this solver makes them",
                self.signal_shape,
                "Use the calibration of this solver.",
            )
        middle = (lower + upper) / 2
        step = self.factor * unit
        return Interval(
            torch.minimum(lower - step, middle), torch.maximum(upper + step, middle), self.level
        )


def _within(value: object, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isfinite(value) and low < value < high


def _require(name: str, valid: bool, expected: str, calibration: Calibration) -> None:
    if not valid:
        raise ConfigError(
            name, expected, getattr(calibration, name), "Fit the calibration with latens."
        )


class CalibratedPosterior(Posterior):
    """A posterior with widened intervals.

    `mean`, `std`, draws, status and diagnostics are those of the posterior inside: a conformal
    factor makes intervals valid, not draws, so whatever is computed from draws (coverage of
    region means, scores, ranks) is as before.

    Attributes:
        base: The posterior inside; its `latent` and other capabilities are there.
        calibration: What its intervals are widened by.
    """

    def __init__(self, base: Posterior, calibration: Calibration) -> None:
        super().__init__(
            base.keys,
            base.seed,
            includes_decoder_spread=base.includes_decoder_spread,
            status=base.status,
            diagnostics=base.diagnostics,
        )
        self.trusted = base.trusted
        self.base = base
        self.calibration = calibration

    def make_draws(self, count: int) -> Draws:
        """Draws of the posterior inside, not widened."""
        return self.base.draws if count == DEFAULT_DRAWS else self.base.make_draws(count)

    @property
    def mean(self) -> Tensor:
        """Mean of the posterior inside."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """Variance of the posterior inside."""
        return self.base.variance

    def interval(self, level: float | None = None) -> Interval:
        """The calibrated interval of every element.

        Args:
            level: The level that was calibrated; it may be left out.

        Returns:
            Bounds, and the level of the promise: see `calibration.promise`.

        Raises:
            ConfigError: If the level is another one.
        """
        fitted = self.calibration.level
        if level is not None and abs(level - fitted) > 1e-9:
            raise ConfigError(
                "level",
                f"{fitted:g}, which the intervals were calibrated for",
                level,
                "Ask for that level, or calibrate the solver for this one.",
            )
        return self.calibration.interval(self.base)


class Calibrated(Solver):
    """A solver whose intervals keep a promise on new images, whatever the solver is.

    Args:
        solver: Any solver that returns a `Posterior`.
        calibration: What `latens.evaluation.fit_calibration` found for this solver.
    """

    def __init__(self, solver: Solver, calibration: Calibration) -> None:
        self.solver = solver
        self.calibration = calibration

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> CalibratedPosterior:
        """Posterior of each measurement, with calibrated intervals.

        Raises:
            UnsupportedError: If the solver returns a point estimate.
        """
        return CalibratedPosterior(
            require_posterior(self.solver.solve(y, keys, seed)), self.calibration
        )


def require_posterior(estimate: Estimate) -> Posterior:
    """The estimate itself, if it has intervals to widen.

    Raises:
        UnsupportedError: If it is a point estimate.
    """
    if isinstance(estimate, Posterior):
        return estimate
    raise UnsupportedError(
        "solver",
        "a solver that returns a Posterior, whose spread says where errors are larger",
        "one that returns a point estimate",
        "Use an ensemble, or `Predictive` for a trained U-Net.",
    )


def base_level(level: float) -> float:
    """Largest level of the solver's own intervals that is not above `level`; else the smallest."""
    known = attainable_levels(DEFAULT_DRAWS)
    return max((a for a in known if a <= level + 1e-9), default=known[0])


def save_calibration(calibration: Calibration, folder: PathLike) -> Path:
    """Write `calibration.json` beside a solver, where `latens reconstruct` finds it.

    Raises:
        DataError: If the folder cannot be written.
    """
    tree = {"version": _VERSION, **asdict(calibration)}
    return write_json(Path(folder) / CALIBRATION_FILE, tree)


def load_calibration(folder: PathLike) -> Calibration | None:
    """The calibration beside a solver, or None if there is none.

    Raises:
        DataError: If the file holds anything but a calibration.
    """
    path = Path(folder) / CALIBRATION_FILE
    if not path.exists():
        return None
    tree = read_json(path)
    try:
        return _from_tree(tree)
    except (LatensError, TypeError, ValueError) as error:
        raise DataError(
            str(path),
            "a calibration as latens writes it",
            " ".join(str(error).split()),
            "Fit and save it again, or remove the file.",
        ) from error


def _from_tree(tree: Any) -> Calibration:
    names = [field.name for field in fields(Calibration)]
    if not isinstance(tree, dict) or set(tree) != {"version", *names}:
        raise ValueError(f"other keys than version, {', '.join(names)}")
    if tree["version"] != _VERSION:
        raise ValueError(f"version {tree['version']!r}, not {_VERSION}")
    shape = tree["signal_shape"]
    whole = [tree["images"], tree["units"], *(shape if isinstance(shape, list) else ["shape"])]
    if not all(type(value) is int for value in whole):
        raise ValueError("images, units or signal_shape that are no whole numbers")
    return Calibration(**{name: tree[name] for name in names})
