"""Volume series as models see them: log volumes above the limit, times in units of a visit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.data import VolumeSeries


@dataclass(frozen=True, eq=False)
class Visits:
    """Readings of B patients at T visits, padded.

    Attributes:
        level: u = log volume − log limit, `(B, T)`, 0 at or below the limit and where padded.
        since: Time since the first visit, `(B, T)`, in units of the usual gap.
        mask: Visits that took place, `(B, T)`, first in their row.
        final: Visits that are known to end their series, `(B, T)`.
    """

    level: Tensor
    since: Tensor
    mask: Tensor
    final: Tensor

    @property
    def unseen(self) -> Tensor:
        """Readings at or below the limit, `(B, T)`."""
        return self.level <= 0

    @property
    def gaps(self) -> Tensor:
        """Time since the visit before, `(B, T)`; 0 at the first and where padded."""
        before = torch.cat([self.since[:, :1], self.since[:, :-1]], 1)
        return torch.where(self.mask, self.since - before, 0.0)

    @property
    def repeated(self) -> Tensor:
        """Seen readings equal to the one before, `(B, T)`; False at the first."""
        same = (self.level[:, 1:] == self.level[:, :-1]) & ~self.unseen[:, 1:]
        return torch.cat([torch.zeros_like(self.mask[:, :1]), same & self.mask[:, 1:]], 1)

    def packed(self) -> Tensor:
        """All of it as one tensor, `(B, T, 4)`."""
        like = self.level
        return torch.stack([like, self.since, self.mask.to(like), self.final.to(like)], -1)

    @staticmethod
    def unpacked(packed: Tensor) -> "Visits":
        """Inverse of `packed`."""
        level, since, mask, final = packed.unbind(-1)
        return Visits(level, since, mask > 0.5, final > 0.5)


def usual_gap(series: VolumeSeries) -> float:
    """Median time between two visits, the unit of time of the models; 1 without a second visit."""
    gaps = torch.diff(series.times, dim=1)[series.mask[:, 1:]]
    return float(gaps.median()) if len(gaps) else 1.0


def visits_of(
    series: VolumeSeries, unit: float, log_limit: float, *, ended: bool, dtype: torch.dtype
) -> Visits:
    """Visits of a set of series.

    Args:
        series: Whole or earlier visits.
        unit: Unit of time, see `usual_gap`.
        log_limit: Log of the limit of detection that the model was made for.
        ended: Whether the last visit of each row is known to end its series.
        dtype: Of the floats.
    """
    level = (series.log_volumes - log_limit).clamp(min=0.0)
    since = torch.where(series.mask, (series.times - series.times[:, :1]) / unit, 0.0)
    last = torch.arange(series.mask.shape[1])[None] == series.visits[:, None] - 1
    final = last & series.mask if ended else torch.zeros_like(series.mask)
    return Visits(level.to(dtype), since.to(dtype), series.mask, final)
