"""Small volume series that several tests share."""

import functools

import torch

from latens.data import GrowthSimulation, VolumeSeries, series_from_visits

UNEVEN = GrowthSimulation(count=60, visits=7, repeat=0.2, effect=0.12, limit=60.0)


@functools.lru_cache
def uneven(seed: int = 0) -> VolumeSeries:
    """Series of three to seven visits, some of them with zeros."""
    series, _ = UNEVEN.make(seed)
    visits = 3 + torch.arange(len(series)) % 5
    return series.first(visits)


def shifted(series: VolumeSeries, days: float) -> VolumeSeries:
    """The same series on another calendar."""
    rows, columns = series.mask.nonzero().unbind(1)
    return series_from_visits(
        [series.patients[int(row)] for row in rows],
        series.times[rows, columns].numpy() + days,
        series.volumes[rows, columns].numpy(),
        limit=series.limit,
    )
