"""Whether a forecast asks for more than the patients that were learned from could teach."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from latens.data import VolumeSeries

FEWEST_FOR_BANDS = 20
"""Patients that a forecaster has not learned from, below which the spread of its bands is a guess:
one in twenty lies outside of a band of 95 %."""
BAND_PATIENTS = "band_patients"
"""Diagnostic: how many of them there were."""
FEWEST_DRAWS = 20
"""Effective draws of a patient's state below which its forecast is a guess."""
FEW_DRAWS = "patients_of_few_draws"
"""Diagnostic: how many patients have fewer."""
_SHARE = 0.995
"""Share of what was learned from that lies inside the support."""


@dataclass(frozen=True)
class Support:
    """Ranges of the series that a forecaster was fitted to.

    Attributes:
        gap: Longest time between visits, 99.5 % quantile.
        follow_up: Longest time from the first visit to any other, 99.5 % quantile over patients.
        visits: Most visits of a patient.
        largest: Largest volume, 99.5 % quantile over visits.
        limit: Limit of detection.
        time_unit: Unit of the times.
        volume_unit: Unit of the volumes.
    """

    gap: float
    follow_up: float
    visits: int
    largest: float
    limit: float
    time_unit: str
    volume_unit: str

    @staticmethod
    def of(series: VolumeSeries) -> "Support":
        """Ranges of a set of series."""
        gaps = torch.diff(series.times, dim=1)[series.mask[:, 1:]]
        follow_up = series.last_times - series.times[:, 0]
        return Support(
            _high(gaps),
            _high(follow_up),
            int(series.visits.max()),
            _high(series.volumes[series.mask]),
            series.limit,
            series.time_unit,
            series.volume_unit,
        )

    def as_dict(self) -> dict[str, float | int | str]:
        """All of it as plain data."""
        return asdict(self)

    def doubts(self, history: VolumeSeries, times: Tensor) -> list[list[str]]:
        """What lies outside the support, `B` rows of `H` texts; empty where nothing does.

        Args:
            history: Earlier visits.
            times: Times to forecast, `(B, H)`.
        """
        gaps = torch.diff(history.times, dim=1)
        longest = torch.where(history.mask[:, 1:], gaps, 0.0)
        largest = torch.where(history.mask, history.volumes, 0.0)
        rows = []
        for b in range(len(history)):
            own = []
            if len(longest[b]) and float(longest[b].max()) > self.gap:
                own.append(f"a gap of more than {self.gap:g} {self.time_unit} between visits")
            if float(largest[b].max()) > self.largest:
                own.append(f"a volume above {self.largest:g} {self.volume_unit}")
            if int(history.visits[b]) >= self.visits:
                own.append(f"{self.visits} visits or more")
            rows.append([self._late(history, times, b, h, own) for h in range(times.shape[1])])
        return rows

    def _late(self, history: VolumeSeries, times: Tensor, b: int, h: int, own: list[str]) -> str:
        found = list(own)
        if float(times[b, h] - history.last_times[b]) > self.gap:
            found.append(f"more than {self.gap:g} {self.time_unit} after the last visit")
        if float(times[b, h] - history.times[b, 0]) > self.follow_up:
            found.append(f"more than {self.follow_up:g} {self.time_unit} after the first visit")
        return "; ".join(found)


def few_patients(count: int) -> str:
    """What is said of bands whose spread so many new patients tell; empty if they are enough."""
    if count >= FEWEST_FOR_BANDS:
        return ""
    return f"the spread of its bands rests on {count} patients, {FEWEST_FOR_BANDS} are needed"


def few_draws(sizes: Tensor, remedy: str) -> tuple[str, ...]:
    """What is said of each patient whose forecast rests on few draws; empty if they are enough.

    Args:
        sizes: Effective number of draws, `(B,)`.
        remedy: What to do.
    """
    return tuple(
        f"few effective draws ({size:.1f}, {FEWEST_DRAWS} are needed): {remedy}"
        if size < FEWEST_DRAWS
        else ""
        for size in sizes.tolist()
    )


def reach_of(series: VolumeSeries, unit: float) -> float:
    """Longest stretch that a solver of these series has learned to cross, in units of time."""
    return max(Support.of(series).gap / unit, 1.0)


def _high(values: Tensor) -> float:
    ordered = values.flatten().sort().values
    if not len(ordered):
        return 0.0
    return float(ordered[min(int(_SHARE * len(ordered)), len(ordered) - 1)])
