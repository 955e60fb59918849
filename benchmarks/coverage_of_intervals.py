"""Do 95 % intervals cover 95 %? Images, seeds, scaling law, each against a known truth.

    python benchmarks/coverage_of_intervals.py

prints one row per experiment and writes `benchmarks/data/coverage_of_intervals.json`. About ten
minutes on one core. An infinite bound counts as covering, so `unbounded` states how often a
bound is infinite (or zero for a positive parameter), and `width` is the median width.
"""

import json
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from math import inf, sqrt
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import gaussian_filter

from latens.evaluation.intervals import metric_interval
from latens.evaluation.seed_intervals import seed_interval
from latens.metrics import CALIBRATION_LEVELS, metric
from latens.metrics.catalogue.uncertainty import SPREAD_EDGES
from latens.scaling.curve_tests import EXPONENTS, SeedCurves
from latens.scaling.fit import fit_scaling

Array = NDArray[np.float64]
Row = dict[str, object]

SIDE = 16
SCALE_SPREAD = 0.3
"""Standard deviation over groups of the logarithm of the error's scale."""

TOO_NARROW = 0.8
"""Predicted standard deviation over the right one."""

OCTAVES = 7
"""By how many octaves the right standard deviation differs between the columns of an image."""

SMOOTHING = 2.0
"""Standard deviation in pixels of the filter that correlates neighbouring pixels."""


def main() -> None:
    """Run the four experiments, print the table, write the rows."""
    started = time.perf_counter()
    rows: list[Row] = []
    for row in chain(images(), kinks(), seeds(), scaling()):
        rows.append(row)
        print("  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
    minutes = (time.perf_counter() - started) / 60
    target = Path(__file__).parent / "data" / "coverage_of_intervals.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"minutes": round(minutes, 1), "rows": rows}, indent=1) + "\n")
    print(f"{minutes:.1f} minutes")


def images(runs: int = 500) -> Iterator[Row]:
    """Bootstrap over groups of images with correlated pixels, group effects, unequal sizes."""
    names = ("mse", "psnr", "coverage_pixel", "spread_skill", "ce_pixel", "ace_pixel")
    truth = exact_metrics()
    for groups in (30, 60, 200):
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for run in range(runs):
            sample, labels = correlated_rows(np.random.default_rng([2, groups, run]), groups)
            for name in names:
                found = metric_interval(metric(name), sample[name], labels, replicates=1000)
                results[name].append((found.lower, found.upper))
        for name in names:
            yield _row(f"images, {groups} groups, {name}", np.array(results[name]), truth[name])


def kinks(runs: int = 500) -> Iterator[Row]:
    """Metrics whose statistic has a kink, at an exact posterior and away from it."""
    for narrow in (1.0, 0.95, TOO_NARROW):
        truth = exact_spread_metrics(narrow)
        for groups in (30, 60, 200):
            results: dict[str, list[tuple[float, float]]] = {name: [] for name in truth}
            for run in range(runs):
                rng = np.random.default_rng([5, groups, run])
                sample, labels = spread_rows(rng, groups, narrow)
                for name, bounds in results.items():
                    found = metric_interval(metric(name), sample[name], labels, replicates=1000)
                    bounds.append((found.lower, found.upper))
            for name, bounds in results.items():
                label = f"kinks, spread {narrow:g}, {groups} groups, {name}"
                yield _row(label, np.array(bounds), truth[name])


def seeds(runs: int = 2000) -> Iterator[Row]:
    """t interval with initialisations nested in data seeds, test images shared."""
    for count, data_scale, image_scale, balanced in (
        (3, 1.0, 0.0, True),
        (8, 1.0, 0.0, True),
        (3, 1.0, 0.0, False),
        (8, 0.3, 0.0, False),
        (5, 1.0, 0.5, True),
        (3, 0.5, 1.0, False),
    ):
        bounds = []
        for run in range(runs):
            rng = np.random.default_rng([3, count, run, balanced, int(10 * image_scale)])
            sizes = np.full(count, 2) if balanced else rng.integers(1, 5, count)
            unit = np.repeat(np.arange(count), sizes)
            shared = image_scale * rng.standard_normal()
            values = shared + data_scale * rng.standard_normal(count)[unit]
            values += 0.7 * rng.standard_normal(len(unit))
            images_used = 60
            variance = image_scale**2 * rng.chisquare(images_used - 1) / (images_used - 1)
            order = np.concatenate([np.arange(size) for size in sizes])
            found = seed_interval(values, unit, order, variance, images_used - 1)
            bounds.append((found.lower, found.upper))
        form = "balanced" if balanced else "1-4 initialisations"
        name = f"seeds, {count} data seeds, {form}, data {data_scale}, images {image_scale}"
        yield _row(name, np.array(bounds), 0.0)


def scaling(runs: int = 500) -> Iterator[Row]:
    """Sample-size law on nested subsets; hierarchical bootstrap on the same data beside it."""
    settings = [
        # sizes, data seeds, floor, exponent, relative noise, octaves of correlation
        (sizes, count, floor, exponent, noise, octaves)
        for sizes, floor, exponent in ((5, 0.1, 0.8), (6, 0.05, 0.5), (7, 0.05, 0.5))
        for noise, octaves in ((0.1, 4.0), (0.2, 2.0))
        for count in (3, 5, 8)
    ]
    inversion: dict[tuple[str, int], list[tuple[float, float]]] = {}
    bootstrap: dict[tuple[str, int], list[tuple[float, float]]] = {}
    truths: dict[tuple[str, int], list[float]] = {}
    status: dict[int, list[str]] = {3: [], 5: [], 8: []}
    for run in range(3 * runs):
        sizes, count, floor, exponent, noise, octaves = settings[run % len(settings)]
        n = 32.0 * 2 ** np.arange(sizes)
        rng = np.random.default_rng([4, run])
        table = seed_curves(rng, n, count, floor, 1.0, exponent, noise, octaves)
        index = np.indices(table.shape)
        fit = fit_scaling(n[index[2].ravel()], table.ravel(), index[0].ravel(), index[1].ravel())
        beyond = 4 * n[-1]
        _, lower, upper = fit.predict([beyond])
        status[count].append(fit.status)
        resampled = hierarchical_bootstrap(rng, n, table, beyond)
        expected = (floor, 1.0, exponent, floor + beyond**-exponent)
        found = [(p.lower, p.upper) for p in (fit.floor, fit.amplitude, fit.exponent)]
        found.append((float(lower[0]), float(upper[0])))
        for name, truth, ours, theirs in zip(
            ("floor", "amplitude", "exponent", "E(4 N_max)"),
            expected,
            found,
            resampled,
            strict=True,
        ):
            inversion.setdefault((name, count), []).append(ours)
            bootstrap.setdefault((name, count), []).append(theirs)
            truths.setdefault((name, count), []).append(truth)
    for (name, count), bounds in inversion.items():
        truth = np.array(truths[name, count])
        words = status[count]
        kinds = {word: round(words.count(word) / len(words), 3) for word in sorted(set(words))}
        yield {
            **_row(f"scaling, {count} data seeds, {name}", np.array(bounds), truth),
            "hierarchical bootstrap": _row("", np.array(bootstrap[name, count]), truth)[
                "coverage"
            ],
            "status": kinds,
        }


def exact_metrics() -> dict[str, float]:
    """Population values of `correlated_rows`: quadrature over the scale of a group."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    scale, width = np.exp(SCALE_SPREAD * nodes), TOO_NARROW * np.exp(SCALE_SPREAD**2)
    levels = np.array([*CALIBRATION_LEVELS, 0.95])
    bound = stats.norm.ppf((1 + levels) / 2) * width
    covered = (2 * stats.norm.cdf(bound[:, None] / scale) - 1) @ weights
    deviation = (covered - levels)[:-1]
    squared = float(scale**2 @ weights)
    power = (_fields(np.random.default_rng(1), 100_000) ** 2).mean(axis=(1, 2))
    return {
        "mse": squared,
        "psnr": float(-10 * np.log10(power).mean()),  # the logarithm of the scale averages to 0
        "coverage_pixel": float(covered[-1]),
        "spread_skill": float(width / sqrt(squared)),
        "ce_pixel": float(deviation.mean()),
        "ace_pixel": float(np.abs(deviation).mean()),
    }


def correlated_rows(
    rng: np.random.Generator, groups: int
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """Per-image rows of a posterior that is 20 % too narrow, and the group of each image.

    Errors are smooth Gaussian fields; 1–8 images per group share 30 % of their variance and a
    scale that differs between groups.
    """
    sizes = rng.integers(1, 9, groups)
    label = np.repeat(np.arange(groups), sizes)
    scale = np.exp(SCALE_SPREAD * rng.standard_normal(groups))[label]
    field = sqrt(0.3) * _fields(rng, groups)[label] + sqrt(0.7) * _fields(rng, len(label))
    error = field * scale[:, None, None]
    width = TOO_NARROW * np.exp(SCALE_SPREAD**2)
    standardised = np.abs(error) / width
    squared = (error**2).mean(axis=(1, 2))
    levels = np.array(CALIBRATION_LEVELS)
    inside = [
        (standardised < bound).mean(axis=(1, 2)) for bound in stats.norm.ppf((1 + levels) / 2)
    ]
    deviation = np.stack(inside, axis=1) - levels
    rows = {
        "mse": squared[:, None],
        "psnr": -10 * np.log10(squared)[:, None],
        "coverage_pixel": (standardised < stats.norm.ppf(0.975)).mean(axis=(1, 2))[:, None],
        "spread_skill": np.stack([np.full_like(squared, width**2), squared], axis=1),
        "ce_pixel": deviation,
        "ace_pixel": deviation,
    }
    return rows, label


def spread_rows(
    rng: np.random.Generator, groups: int, narrow: float
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """Per-image rows of a posterior that knows where errors are large, and the group of each.

    Fields and groups as in `correlated_rows`; the scale of an image is known, and its columns
    differ by octaves. Predicted standard deviations are `narrow` times the right ones.
    """
    sizes = rng.integers(1, 9, groups)
    label = np.repeat(np.arange(groups), sizes)
    field = sqrt(0.3) * _fields(rng, groups)[label] + sqrt(0.7) * _fields(rng, len(label))
    scale = np.exp(SCALE_SPREAD * rng.standard_normal(len(label)))
    right = scale[:, None, None] * _columns() * np.ones((SIDE, 1))
    place = np.digitize(narrow * right, SPREAD_EDGES)
    member = [place == j for j in range(len(SPREAD_EDGES) + 1)]
    variance, error = (narrow * right) ** 2, (right * field) ** 2
    share, predicted, found = (
        np.stack([(m * what).mean(axis=(1, 2)) for m in member], axis=1)
        for what in (np.ones_like(error), variance, error)
    )
    inside = [np.abs(field) < narrow * bound for bound in _bounds()]
    covered = np.stack([i.mean(axis=(1, 2)) for i in inside], axis=1)
    deviation = covered[:, :-1] - np.array(CALIBRATION_LEVELS)
    side = SIDE // 4
    missed = (~inside[-1]).reshape(-1, 4, side, 4, side).mean(axis=(2, 4)).reshape(-1, 16)
    rows = {
        "ace_pixel": deviation,
        "rmsce_pixel": deviation,
        "ence": np.concatenate([share, predicted, found], axis=1),
        "uce": len(member) * (predicted - found),
        "conformal_miss_block": missed,
    }
    return rows, label


def exact_spread_metrics(narrow: float) -> dict[str, float]:
    """Population values of `spread_rows`, all in closed form."""
    bound = narrow * _bounds()
    covered = 2 * stats.norm.cdf(bound) - 1
    deviation = covered[:-1] - np.array(CALIBRATION_LEVELS)
    power = float((_columns() ** 2).mean()) * np.exp(2 * SCALE_SPREAD**2)
    return {
        "ace_pixel": float(np.abs(deviation).mean()),
        "rmsce_pixel": float(np.sqrt((deviation**2).mean())),
        "ence": abs(1 - 1 / narrow),
        "uce": power * abs(narrow**2 - 1),
        "conformal_miss_block": float(1 - covered[-1]),
    }


def _columns() -> Array:
    """Right standard deviation of each column, before the scale of the image, `(SIDE,)`."""
    return 0.5 ** np.linspace(0.5, OCTAVES + 0.5, SIDE)


def _bounds() -> Array:
    """Half widths of the central intervals at the calibration levels, then .95, per deviation."""
    return stats.norm.ppf((1 + np.array([*CALIBRATION_LEVELS, 0.95])) / 2)


def seed_curves(
    rng: np.random.Generator,
    n: Array,
    data_seeds: int,
    floor: float,
    amplitude: float,
    exponent: float,
    noise: float,
    octaves: float,
) -> Array:
    """Metric of every cell, `(data seeds, 2 initialisations, sizes)`.

    The error of a data seed is correlated over sizes, exp(−|log₂ N − log₂ N'|/octaves), because
    its subsets are nested; initialisations are independent with 0.7 times its scale.
    """
    law = amplitude * n**-exponent
    scale = noise * (law + 0.05 * floor)
    octave = np.log2(n)
    correlation = np.exp(-np.abs(octave[:, None] - octave) / octaves)
    shared = rng.standard_normal((data_seeds, len(n))) @ np.linalg.cholesky(correlation).T
    own = 0.7 * rng.standard_normal((data_seeds, 2, len(n)))
    return floor + law + scale * (shared[:, None] + own)


def hierarchical_bootstrap(
    rng: np.random.Generator, n: Array, table: Array, beyond: float, replicates: int = 300
) -> list[tuple[float, float]]:
    """Percentile intervals after resampling data seeds, then initialisations within them."""
    seeds_, inits, _ = table.shape
    chosen = rng.integers(seeds_, size=(replicates, seeds_))
    init = rng.integers(inits, size=(replicates, seeds_, inits))
    means = table[chosen[..., None], init].mean(axis=(1, 2))  # (R, J)
    weight = SeedCurves(n, table.mean(axis=1)).precision
    weight = weight / weight.sum()
    powers = n ** -EXPONENTS[:, None]  # (A, J)
    centred = powers - (powers @ weight)[:, None]
    energy = (centred**2) @ weight
    slope = (means * weight) @ centred.T / energy  # (R, A)
    best = np.argmax(slope**2 * energy, axis=1)
    amplitude = slope[np.arange(replicates), best]
    floor = means @ weight - amplitude * (powers @ weight)[best]
    floor = np.maximum(floor, 0)
    predicted = floor + amplitude * beyond ** -EXPONENTS[best]
    columns = (floor, amplitude, EXPONENTS[best], predicted)
    return [tuple(np.quantile(column, [0.025, 0.975])) for column in columns]


@lru_cache(maxsize=1)
def _smoothing_matrix() -> Array:
    """White noise → smooth periodic field of unit variance, `(SIDE², SIDE²)`."""
    impulses = np.eye(SIDE**2).reshape(-1, SIDE, SIDE)
    kernels = gaussian_filter(impulses, (0, SMOOTHING, SMOOTHING), mode="wrap")
    return kernels.reshape(SIDE**2, SIDE**2) / sqrt(float((kernels[0] ** 2).sum()))


def _fields(rng: np.random.Generator, count: int) -> Array:
    """Smooth Gaussian fields of unit variance, `(count, SIDE, SIDE)`."""
    white = rng.standard_normal((count, SIDE**2))
    return (white @ _smoothing_matrix()).reshape(count, SIDE, SIDE)


def _row(name: str, bounds: Array, truth: Array | float) -> Row:
    """Coverage with its binomial error, misses on each side, width."""
    lower, upper = bounds.T
    covered = (lower <= truth) & (truth <= upper)
    coverage = float(covered.mean())
    width = upper - lower
    return {
        "experiment": name,
        "coverage": round(coverage, 4),
        "error": round(sqrt(coverage * (1 - coverage) / len(covered)), 4),
        "below": round(float((upper < truth).mean()), 4),
        "above": round(float((lower > truth).mean()), 4),
        "width": float(np.median(width)) if np.median(width) < inf else None,
        "unbounded": round(float((~np.isfinite(width)).mean()), 4),
        "runs": len(covered),
    }


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
