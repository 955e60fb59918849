"""Reconstructions that somebody made before, looked up by the measurement they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.inference.estimates import DEFAULT_DRAWS, Draws, Estimate, PointEstimate, Posterior
from latens.inference.predictive import GaussianPosterior
from latens.inference.solver import Solver
from latens.store import Status


@dataclass(frozen=True, eq=False)
class Recording:
    """What is known of the reconstructions of n images; at least `mean` or `draws`.

    Attributes:
        mean: Point reconstruction or posterior mean, `(n, *signal_shape)`.
        std: Standard deviation of every element, same shape, with `mean`.
        draws: Exchangeable draws, `(S, n, *signal_shape)`, S ≥ 39. Of a Markov chain, thinned to
            its effective size.

    Raises:
        ConfigError: If there is neither mean nor draws, a std alone, or too few draws.
        ShapeError: If shapes differ.
    """

    mean: Tensor | None = None
    std: Tensor | None = None
    draws: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mean is None and self.draws is None:
            raise ConfigError("mean, draws", "one of them or both", "neither", "Give either.")
        if self.std is not None and self.mean is None:
            raise ConfigError("std", "a mean that it belongs to", "none", "Give `mean` too.")
        if self.draws is not None and len(self.draws) < DEFAULT_DRAWS:
            raise ConfigError(
                "draws",
                f"{DEFAULT_DRAWS} or more, which attain the 95 % interval exactly",
                len(self.draws),
                f"Draw more, or give mean and std, or the mean alone. Shape {_shape(self.draws)} "
                "is read as (draws, images, channel, …).",
            )
        wanted = self.signals
        given = {"mean": self.mean, "std": self.std}
        for name, array in given.items():
            if array is not None and array.shape != wanted:
                raise ShapeError(name, f"shape {tuple(wanted)}", _shape(array), "Correct it.")
        if self.std is not None and not bool((self.std >= 0).all()):
            raise ConfigError(
                "std", "0 or more everywhere", f"{float(self.std.min()):.3g}", "Take the root."
            )

    @property
    def signals(self) -> torch.Size:
        """Shape of all signals, `(n, *signal_shape)`."""
        if self.draws is not None:
            return self.draws.shape[1:]
        assert self.mean is not None
        return self.mean.shape


class RecordedPosterior(Posterior):
    """Draws that were made elsewhere; where fewer are asked for, evenly spread ones.

    Args:
        recording: Of the rows of this posterior alone.
    """

    def __init__(self, recording: Recording, keys: Sequence[int], seed: int) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True)
        assert recording.draws is not None
        self.recording, self.values = recording, recording.draws

    def make_draws(self, count: int) -> Draws:
        """`count` of the recorded draws.

        Raises:
            UnsupportedError: If there are fewer.
        """
        total = len(self.values)
        if count > total:
            raise UnsupportedError(
                "draws", f"at most the {total} that were recorded", count, "Record more of them."
            )
        chosen = torch.linspace(0, total - 1, count).round().long()
        values = self.values[chosen]
        return Draws(values, values, torch.zeros((), dtype=values.dtype))

    @property
    def mean(self) -> Tensor:
        """The recorded mean, or that of all recorded draws."""
        given = self.recording.mean
        return self.values.mean(0) if given is None else given

    @property
    def variance(self) -> Tensor:
        """From the recorded standard deviation, or from all recorded draws."""
        given = self.recording.std
        return self.values.var(0) if given is None else given.square()


class MarginalPosterior(GaussianPosterior):
    """N(mean, std²) of every element; how elements go together is not known."""

    is_joint = False


class Recorded(Solver):
    """A solver that knows the answers to some measurements, and to no other.

    Args:
        recording: Its answers.
        y: Measurements they belong to, `(n, *measurement_shape)`.
    """

    def __init__(self, recording: Recording, y: Tensor) -> None:
        if len(y) != recording.signals[0]:
            raise ShapeError(
                "y",
                f"{recording.signals[0]} measurements, one for each image",
                len(y),
                "Add them.",
            )
        self.recording = recording
        self._rows: dict[bytes, list[int]] = {}
        for row, measurement in enumerate(y):
            self._rows.setdefault(_content(measurement), []).append(row)

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> Estimate:
        """What was recorded for these measurements.

        Raises:
            UnsupportedError: For another measurement.
        """
        rows = [self._row(*pair) for pair in zip(y, keys, strict=True)]
        whole = self.recording
        mean, std = (None if a is None else a[rows] for a in (whole.mean, whole.std))
        if whole.draws is not None:
            return RecordedPosterior(Recording(mean, std, whole.draws[:, rows]), keys, seed)
        assert mean is not None
        if std is None:
            return PointEstimate(mean)
        event = mean.ndim - 1
        tiny = torch.finfo(std.dtype).tiny
        law = Independent(Normal(mean, std.clamp_min(tiny), validate_args=False), event)
        return MarginalPosterior(law, keys, seed, Status.CONVERGED)

    def _row(self, measurement: Tensor, key: int) -> int:
        """Row of a measurement; the key decides between equal ones."""
        rows = self._rows.get(_content(measurement))
        if rows is None:
            raise UnsupportedError(
                "solver",
                "a solver that can be applied to other measurements",
                "reconstructions that were recorded",
                "Use `latens.evaluate` in Python with the solver itself.",
            )
        return key if key in rows else rows[0]


def _content(measurement: Tensor) -> bytes:
    return measurement.detach().contiguous().numpy(force=True).tobytes()


def _shape(array: Tensor) -> tuple[int, ...]:
    return tuple(array.shape)
