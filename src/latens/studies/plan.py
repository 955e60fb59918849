"""Tables of a plan: at which N each bar is met, and the back-test of such answers. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.errors import ConfigError, DataError
from latens.scaling import (
    DEFAULT_BARS,
    BackTest,
    Bar,
    Extent,
    Forecast,
    SizeRange,
    answer,
    back_test,
    best_law,
    forecast,
    law_criteria,
    size_range,
    size_ratio,
    without_curve,
)
from latens.store import BACK_TEST, PLAN, PLAN_BAND, PLAN_LAWS, PLAN_RATIOS, from_rows
from latens.studies.curves import Curve, learning_curves

if TYPE_CHECKING:
    import pandas as pd

CHECKED = ("Stability", "Range and null space")
"""Sections whose metrics are of deep checks."""

BAND_STEP = 3
"""Every how many points of the grid of a forecast the band is tabulated."""


def default_bars(present: Sequence[str]) -> list[Bar]:
    """The default bars whose metrics a run has.

    Raises:
        ConfigError: If it has none of them.
    """
    bars = [bar for bar in DEFAULT_BARS if bar.metric in present]
    if not bars:
        raise ConfigError(
            "--bar",
            f"a bar, as the run has none of {', '.join(b.metric for b in DEFAULT_BARS)}",
            "none",
            f'Give one of a metric of the run, such as --bar "{min(present)}<=0.1".',
        )
    return bars


def plan_tables(
    metrics: "pd.DataFrame",
    definitions: "pd.DataFrame",
    bars: Sequence[Bar],
    level: float,
    checked: int = 0,
) -> "dict[str, pd.DataFrame]":
    """When each bar is met, the forecasts behind that, and the criteria of the laws.

    Args:
        metrics: Table METRICS.
        definitions: Table METRIC_DEFINITIONS.
        bars: What to plan for.
        level: Nominal coverage of the intervals of N and of the bands.
        checked: Data seeds of which deep checks were made, `checked_data_seeds` of a study; 0
            where it has no such setting.

    Returns:
        Tables PLAN, PLAN_BAND, PLAN_LAWS and PLAN_RATIOS by name.

    Raises:
        DataError: If no solver was trained at three sizes.
    """
    names = list(dict.fromkeys(bar.metric for bar in bars))
    found = list(learning_curves(metrics, definitions, names))
    sizes = sorted({int(n) for curve in found for n in curve.sizes if n > 0})
    if not any((curve.sizes > 0).sum() >= 3 for curve in found):
        raise DataError(
            "sizes",
            "three or more training sizes with usable results",
            f"{len(sizes)}: {', '.join(map(str, sizes)) or 'none'}",
            "Add sizes to the study, and run it again; what is finished is kept.",
        )
    counts: Any = metrics.groupby("solver")["images"].max()
    images = {str(solver): int(n) for solver, n in counts.items()}
    trained = metrics.loc[metrics["n"] > 0]
    run = Extent(trained["n"].nunique(), trained["data_seed"].nunique())
    rows: list[dict[str, Any]] = []
    bands: list[dict[str, Any]] = []
    laws: list[dict[str, Any]] = []
    ranges: dict[tuple[str, Bar], SizeRange] = {}
    for curve in found:
        key = {"solver": curve.solver, "metric": curve.metric}
        law, draws = "", None
        extent = replace(run, checked=checked if curve.section in CHECKED else 0)
        if curve.followed:
            draws = forecast(curve.sizes, curve.table, curve.scale.floor_minimum)
            criteria = law_criteria(curve.sizes, curve.table, curve.scale.floor_minimum)
            laws += [{**key, "law": law, "aicc": value} for law, value in criteria.items()]
            bands += [{**key, **point} for point in _band(curve, draws, level)]
            law = best_law(criteria)
        for bar in bars:
            if bar.metric == curve.metric:
                absolute = bar.against(_best(found, bar, images))
                rows.append({**key, **_row(curve, bar, absolute, level, law, draws, extent)})
                if draws is not None:
                    lower, upper = curve.scale.bounds(absolute)
                    images_error = None if bar.relative else curve.images
                    ranges[curve.solver, bar] = size_range(draws, lower, upper, images_error)
    return {
        "plan": from_rows(rows, PLAN),
        "plan_band": from_rows(bands, PLAN_BAND),
        "plan_laws": from_rows(laws, PLAN_LAWS),
        "plan_ratios": from_rows(_ratios(ranges, level), PLAN_RATIOS),
    }


def _ratios(ranges: Mapping[tuple[str, Bar], SizeRange], level: float) -> list[dict[str, Any]]:
    """Is every other bar met at the N of the bars of accuracy? Rows of PLAN_RATIOS."""
    return [
        {"solver": solver, "bar": str(bar), "against": str(other), **_ratio(first, second, level)}
        for (solver, bar), first in ranges.items()
        if bar.purpose in ("calibration", "stability")
        for (same, other), second in ranges.items()
        if same == solver and other.purpose == "accuracy"
    ]


def _ratio(first: SizeRange, second: SizeRange, level: float) -> dict[str, float]:
    found = size_ratio(first, second, level)
    return {
        "ratio": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "level": found.level,
        "later": found.later,
        "sooner": found.sooner,
    }


def back_test_table(
    metrics: "pd.DataFrame", definitions: "pd.DataFrame", names: Sequence[str], level: float
) -> "pd.DataFrame":
    """What the smallest quarter of the sizes foretold, against what all sizes found.

    Args:
        metrics: Table METRICS.
        definitions: Table METRIC_DEFINITIONS.
        names: Metrics to test.
        level: Nominal coverage of the intervals.

    Returns:
        Table BACK_TEST; the target is in units of the metric.

    Raises:
        DataError: If no curve has three sizes up to a quarter of its largest and two data
            seeds.
    """
    rows = []
    for curve in learning_curves(metrics, definitions, names):
        if not curve.followed:
            continue
        tests = back_test(curve.sizes, curve.table, curve.scale.floor_minimum, level)
        rows += [_back_test_row(curve, test, level) for test in tests]
    if not rows:
        sizes = sorted({int(n) for n in metrics["n"] if n > 0})
        raise DataError(
            "sizes",
            "three or more sizes up to a quarter of the largest, and two or more data seeds",
            ", ".join(map(str, sizes)) or "none",
            "Add sizes, such as 32, 64, 128, 256, 512, or data seeds to the study.",
        )
    return from_rows(rows, BACK_TEST)


def _best(found: Sequence[Curve], bar: Bar, images: Mapping[str, int]) -> float:
    """Best mean at its largest N, of the solvers that were evaluated on the most images."""
    mine = [curve for curve in found if curve.metric == bar.metric]
    most = max(images.get(curve.solver, 0) for curve in mine)
    ends = [
        float(np.nanmean(curve.values[:, -1]))
        for curve in mine
        if images.get(curve.solver, 0) == most
    ]
    return max(ends) if isfinite(bar.lower) else min(ends)


def _row(
    curve: Curve,
    bar: Bar,
    absolute: Bar,
    level: float,
    law: str,
    draws: Forecast | None,
    extent: Extent,
) -> dict[str, Any]:
    """Row of the table PLAN without solver and metric."""
    lower, upper = curve.scale.bounds(absolute)
    if draws is None:
        said = without_curve(curve.sizes, curve.table, lower, upper, level, extent)
    else:
        # a relative bar compares solvers on the same images, whose error then cancels
        images = None if bar.relative else curve.images
        said = answer(draws, curve.table, lower, upper, images, level, extent=extent)
    return {
        "bar": str(bar),
        "purpose": bar.purpose,
        "bar_lower": absolute.lower,
        "bar_upper": absolute.upper,
        "verdict": said.verdict,
        "n": said.n,
        "lower": said.lower,
        "upper": said.upper,
        "level": said.level,
        "met": said.met,
        "floor_p": said.floor_p,
        "law": law,
        "smallest": int(curve.sizes[0]),
        "largest": int(curve.sizes[-1]),
        "data_seeds": len(curve.table),
        "reason": said.reason,
        "advice": said.advice,
    }


def _back_test_row(curve: Curve, test: BackTest, level: float) -> dict[str, Any]:
    return {
        "solver": curve.solver,
        "metric": curve.metric,
        "target": float(curve.scale.metric(test.target)),
        "found": test.found,
        "found_lower": test.found_lower,
        "found_upper": test.found_upper,
        "foretold": test.foretold,
        "lower": test.lower,
        "upper": test.upper,
        "level": level,
        "log2_ratio": test.log2_ratio,
        "octaves": test.octaves,
        "contains": int(test.contains),
        "counts": int(test.counts),
    }


def _band(curve: Curve, draws: Forecast, level: float) -> Iterator[dict[str, Any]]:
    """Median and pointwise interval of the curve, unit of the metric, without image error."""
    keep = np.unique([*range(0, len(draws.grid), BAND_STEP), len(draws.grid) - 1])
    values = draws.curves()[:, keep]
    tail = (1 - level) / 2
    middle, low, high = np.quantile(values, [0.5, tail, 1 - tail], axis=0)
    for n, *errors in zip(draws.grid[keep], middle, low, high, strict=True):
        value, *ends = (float(curve.scale.metric(e)) for e in errors)
        finite = [e if isfinite(e) else nan for e in ends]
        yield {
            "n": float(n),
            "value": value,
            "lower": min(finite),
            "upper": max(finite),
            "level": level,
        }
