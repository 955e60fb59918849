"""Errors over those of the best solver, paired by test image and data seed.

    ratio = mean over data seeds s of  mean_i e_i(solver, s) / mean_i e_i(best, s)

over the images i that both were evaluated on. Solvers see the same measurements and, at one data
seed, are made from nested sets of images, so that much of both errors cancels: the best solver
against itself is exactly 1. The best is that with the smallest mean error at its largest N, of
those that were evaluated on the most images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latens.evaluation.intervals import Interval, bootstrap_interval
from latens.evaluation.seed_intervals import seed_interval
from latens.metrics import LEVEL
from latens.metrics.metric import ratio

if TYPE_CHECKING:
    import pandas as pd

ONE_SIGMA = 0.6827

Place = tuple[str, int]
"""A solver and an N."""


@dataclass(frozen=True)
class Paired:
    """Error of a solver over that of the best one.

    Attributes:
        value: The ratio; NaN where the two have no image or no data seed in common.
        lower, upper: Interval at `LEVEL` over images and data seeds; NaN where the data cannot
            give one.
        best: The best solver and its N.
        images: Images that both were evaluated on.
        data_seeds: Data seeds that both have; with one, the interval is over images alone.
    """

    value: float
    lower: float
    upper: float
    best: Place
    images: int
    data_seeds: int


def paired_errors(rows: "pd.DataFrame") -> dict[Place, Paired]:
    """Every solver at every N against the best one.

    Args:
        rows: Rows of one metric with one component, in the schema PER_IMAGE, of usable cells;
            those that are not finite are left out.

    Returns:
        By solver and N, those with a finite row.
    """
    finite: Any = rows[np.isfinite(rows["value"])]
    if finite.empty:
        return {}
    labelled: Any = finite.assign(init_seed=finite["init_seed"].fillna(-1))
    best = _best(labelled)
    floor = labelled[(labelled["solver"] == best[0]) & (labelled["n"] == best[1])]
    by_place: Any = labelled.groupby(["solver", "n"], sort=True)
    return {
        (str(solver), int(n)): _against(own, floor, best, (str(solver), int(n)) == best)
        for (solver, n), own in by_place
    }


def _best(rows: "pd.DataFrame") -> Place:
    by_solver: Any = rows.groupby("solver", sort=True)
    most = max(own["image"].nunique() for _, own in by_solver)
    ends: list[tuple[float, Place]] = []
    for solver, own in by_solver:
        if own["image"].nunique() == most:
            n = int(own["n"].max())
            cells: Any = own[own["n"] == n].groupby(["data_seed", "init_seed"])["value"].mean()
            ends.append((float(cells.groupby("data_seed").mean().mean()), (str(solver), n)))
    return min(ends)[1]


def _against(own: "pd.DataFrame", floor: "pd.DataFrame", best: Place, itself: bool) -> Paired:
    images = sorted(set(own["image"]) & set(floor["image"]))
    seeds = sorted(set(own["data_seed"]) & set(floor["data_seed"]))
    if itself:
        return Paired(1.0, 1.0, 1.0, best, len(images), len(seeds))
    if not (images and seeds):
        return Paired(nan, nan, nan, best, len(images), len(seeds))
    both: list[Any] = [
        part[part["image"].isin(images) & part["data_seed"].isin(seeds)] for part in (own, floor)
    ]
    cells = list(_cell_ratios(*both))
    table, groups = _image_rows(*both)
    if len(seeds) == 1:
        over = bootstrap_interval(table, groups, ratio, LEVEL, support=(0.0, inf))
        value = float(np.mean([found for _, _, found in cells]))
        return Paired(value, over.lower, over.upper, best, len(images), 1)
    data_seed, init_seed, values = (list(column) for column in zip(*cells, strict=True))
    over = bootstrap_interval(table, groups, ratio, ONE_SIGMA)
    if not isfinite(over.upper - over.lower):
        return Paired(float(np.mean(values)), nan, nan, best, len(images), len(seeds))
    found = seed_interval(values, data_seed, init_seed, *_variance(over), LEVEL)
    lower = max(0.0, found.lower)
    return Paired(found.value, lower, found.upper, best, len(images), len(seeds))


def _cell_ratios(own: "pd.DataFrame", floor: "pd.DataFrame") -> Iterator[tuple[int, int, float]]:
    """Data seed, initialisation and ratio of every cell, on the images that it has."""
    cells: Any = own.groupby(["data_seed", "init_seed"], sort=True)
    for (data_seed, init_seed), cell in cells:
        same: Any = floor[(floor["data_seed"] == data_seed) & floor["image"].isin(cell["image"])]
        error = same.groupby("image")["value"].mean()
        kept = cell[cell["image"].isin(error.index)]
        if len(kept):
            yield int(data_seed), int(init_seed), float(kept["value"].mean() / error.mean())


def _image_rows(own: "pd.DataFrame", floor: "pd.DataFrame") -> tuple[NDArray, NDArray]:
    """Error of every image averaged over cells, the solver's and the best's, and the groups."""
    joined = _averaged(own, "own").join(_averaged(floor, "best"), how="inner")
    groups = joined.index.get_level_values("group").to_numpy()
    return joined.to_numpy(dtype=float), groups


def _averaged(rows: "pd.DataFrame", name: str) -> "pd.DataFrame":
    by_image: Any = rows.groupby(["image", "group"], sort=True)["value"].mean()
    return by_image.to_frame(name)


def _variance(over: Interval) -> tuple[float, float]:
    """Squared standard error over images, and its degrees of freedom."""
    return ((over.upper - over.lower) / 2) ** 2, float(over.groups - 1)
