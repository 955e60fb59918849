"""Volumes of lesions over time: one series per patient, padded to a batch.

A volume at or below the limit of detection is left-censored: all that is known is that it is not
larger. Zeros are such volumes. Models see the logarithm of the volume, with censored readings at
the logarithm of the limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError


@dataclass(frozen=True, eq=False)
class VolumeSeries:
    """Visits of B patients, the earliest first, padded to T visits.

    Args:
        patients: Name of each patient, B.
        times: Time of each visit, `(B, T)`, float64, increasing along a row; 0 where padded.
        volumes: Volume at each visit, `(B, T)`, float64, 0 or more; 0 where padded.
        mask: Visits that took place, `(B, T)`; they stand first in their row.
        limit: Limit of detection, unit of the volumes, above 0.
        time_unit: Unit of the times.
        volume_unit: Unit of the volumes.

    Raises:
        ShapeError: If the shapes do not fit each other.
        ConfigError: If the limit is not positive.
    """

    patients: tuple[str, ...]
    times: Tensor
    volumes: Tensor
    mask: Tensor
    limit: float
    time_unit: str = "days"
    volume_unit: str = "mm³"

    def __post_init__(self) -> None:
        shape = tuple(self.mask.shape)
        fits = len(shape) == 2 and shape[0] == len(self.patients)
        if not fits or self.times.shape != shape or self.volumes.shape != shape:
            raise ShapeError(
                "times, volumes, mask",
                f"shape (B, T) with B = {len(self.patients)} patients",
                tuple(tuple(t.shape) for t in (self.times, self.volumes, self.mask)),
                "Build the series with `series_from_visits`.",
            )
        if not 0 < self.limit < math.inf:
            raise ConfigError(
                "limit",
                "a positive volume",
                self.limit,
                "State the smallest volume that can be measured.",
            )

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def visits(self) -> Tensor:
        """Number of visits of each patient, `(B,)`."""
        return self.mask.sum(1)

    @property
    def log_limit(self) -> float:
        """Logarithm of the limit of detection."""
        return math.log(self.limit)

    @property
    def log_volumes(self) -> Tensor:
        """Log of max(volume, limit), `(B, T)`; that of the limit where padded."""
        return torch.where(self.mask, self.volumes, 0.0).clamp(min=self.limit).log()

    @property
    def censored(self) -> Tensor:
        """Readings at or below the limit, `(B, T)`; False where padded."""
        return self.mask & (self.volumes <= self.limit)

    @property
    def last_times(self) -> Tensor:
        """Time of the last visit, `(B,)`."""
        return self._at_last(self.times)

    @property
    def last_log_volumes(self) -> Tensor:
        """Log volume at the last visit, `(B,)`, at least that of the limit."""
        return self._at_last(self.log_volumes)

    def _at_last(self, values: Tensor) -> Tensor:
        return values.gather(1, (self.visits - 1).clamp(min=0)[:, None])[:, 0]

    def take(self, rows: Sequence[int] | np.ndarray | Tensor) -> "VolumeSeries":
        """The patients at some positions, in that order, padded no more than they need."""
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        mask = self.mask[index]
        longest = int(mask.sum(1).max()) if len(index) else 0
        return VolumeSeries(
            tuple(self.patients[int(i)] for i in index),
            self.times[index, :longest],
            self.volumes[index, :longest],
            mask[:, :longest],
            self.limit,
            self.time_unit,
            self.volume_unit,
        )

    def first(self, visits: Tensor) -> "VolumeSeries":
        """The first so many visits of each patient, `(B,)` integers, at least 1."""
        keep = torch.arange(self.mask.shape[1])[None] < visits[:, None]
        mask = self.mask & keep
        longest = int(mask.sum(1).max()) if len(self) else 0
        return VolumeSeries(
            self.patients,
            torch.where(mask, self.times, 0.0)[:, :longest],
            torch.where(mask, self.volumes, 0.0)[:, :longest],
            mask[:, :longest],
            self.limit,
            self.time_unit,
            self.volume_unit,
        )

    def limited_by_history(self, min_visits: int) -> "VolumeSeries":
        """The same visits, with the limit of detection that earlier ones show.

        The limit is the smallest positive volume of all visits but those that `split_last` would
        forecast: scores of these are censored at it, so that they must not decide it.

        Args:
            min_visits: Visits of a patient whose last one is forecast, 2 or more.

        Raises:
            DataError: If none of the other volumes is positive.
        """
        last = torch.arange(self.mask.shape[1])[None] == (self.visits - 1)[:, None]
        forecast = last & (self.visits >= max(min_visits, 2))[:, None]
        known = self.volumes[self.mask & ~forecast & (self.volumes > 0)]
        if not len(known):
            raise DataError(
                "series",
                "a positive volume before the visits that are forecast, or a limit of detection",
                "only zeros",
                "State the smallest volume that can be measured as `limit`.",
            )
        return replace(self, limit=float(known.min()))

    def split_last(self, min_visits: int = 2) -> tuple["VolumeSeries", Tensor, Tensor]:
        """Earlier visits of the patients with enough of them, and what came last.

        Args:
            min_visits: Visits that a patient must have, 2 or more.

        Returns:
            Earlier visits; time of the last, `(B', 1)`; its log volume, `(B', 1)`, at least that
            of the limit.

        Raises:
            DataError: If no patient has so many visits.
        """
        rows = (self.visits >= max(min_visits, 2)).nonzero()[:, 0]
        if not len(rows):
            raise DataError(
                "series",
                f"a patient with at least {max(min_visits, 2)} visits",
                f"{int(self.visits.max()) if len(self) else 0} at most",
                "Add visits, or lower `min_visits`.",
            )
        whole = self.take(rows)
        return (
            whole.first(whole.visits - 1),
            whole.last_times[:, None],
            whole.last_log_volumes[:, None],
        )


def series_from_visits(
    patients: Sequence[str],
    times: Sequence[float] | np.ndarray,
    volumes: Sequence[float] | np.ndarray,
    *,
    limit: float | None = None,
    min_visits: int = 2,
    time_unit: str = "days",
    volume_unit: str = "mm³",
    source: str = "visits",
) -> VolumeSeries:
    """Series from one row per visit, in any order.

    Args:
        patients: Patient of each visit, `(n,)`.
        times: Time of each visit, `(n,)`, finite, any origin.
        volumes: Volume at each visit, `(n,)`, finite, 0 or more.
        limit: Limit of detection, unit of the volumes; default: the smallest positive volume.
        min_visits: Visits that every patient must have.
        time_unit: Unit of the times.
        volume_unit: Unit of the volumes.
        source: File or argument that errors name.

    Returns:
        Patients in order of first appearance, their visits in order of time.

    Raises:
        DataError: If a number is not finite or a volume is negative, two visits of a patient have
            one time, a patient has too few visits, or no volume is positive.
    """
    t = np.asarray(times, dtype=np.float64)
    v = np.asarray(volumes, dtype=np.float64)
    names = [str(name) for name in patients]
    if t.ndim != 1 or t.shape != v.shape or len(names) != len(t) or not len(t):
        raise DataError(
            source,
            "one patient, time and volume per visit, and at least one visit",
            f"{len(names)} patients, {t.shape} times, {v.shape} volumes",
            "Give three columns of equal length.",
        )
    _check_numbers(names, t, v, source)
    order = {name: row for row, name in enumerate(dict.fromkeys(names))}
    row = np.asarray([order[name] for name in names])
    sequence = np.lexsort((t, row))
    row, t, v = row[sequence], t[sequence], v[sequence]
    patients_in_order = tuple(order)
    twice = (row[1:] == row[:-1]) & (t[1:] == t[:-1])
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise DataError(
            source,
            "one visit of a patient at a time",
            f"two of `{patients_in_order[row[at]]}` at {t[at]:g} {time_unit}"
            + _more(int(twice.sum())),
            "Delete one, or give their mean volume.",
        )
    counts = np.bincount(row, minlength=len(order))
    few = np.flatnonzero(counts < min_visits)
    if len(few):
        raise DataError(
            source,
            f"at least {min_visits} visits of every patient",
            f"{counts[few[0]]} of `{patients_in_order[few[0]]}`" + _more(len(few)),
            "Add visits, or leave such patients out.",
        )
    positive = v[v > 0]
    if limit is None and not len(positive):
        raise DataError(
            source,
            "a positive volume, or a limit of detection",
            "only zeros",
            "State the smallest volume that can be measured as `limit`.",
        )
    shape = (len(order), int(counts.max()))
    column = np.arange(len(t)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded_t, padded_v, mask = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    padded_t[row, column], padded_v[row, column], mask[row, column] = t, v, True
    return VolumeSeries(
        patients_in_order,
        torch.from_numpy(padded_t),
        torch.from_numpy(padded_v),
        torch.from_numpy(mask),
        float(positive.min()) if limit is None else float(limit),
        time_unit,
        volume_unit,
    )


def _check_numbers(names: list[str], t: np.ndarray, v: np.ndarray, source: str) -> None:
    rules = (
        (~np.isfinite(t), t, "finite times", "Fill in the time, or delete the visit."),
        (~np.isfinite(v), v, "finite volumes", "Fill in the volume, or delete the visit."),
        (v < 0, v, "volumes of 0 or more", "Write 0 for a lesion that cannot be seen."),
    )
    for broken, values, expected, remedy in rules:
        if broken.any():
            at = int(np.flatnonzero(broken)[0])
            raise DataError(
                source,
                expected,
                f"{values[at]:g} for `{names[at]}`" + _more(int(broken.sum())),
                remedy,
            )


def _more(count: int) -> str:
    return f" and {count - 1} more such" if count > 1 else ""
