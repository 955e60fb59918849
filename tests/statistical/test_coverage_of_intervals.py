"""95 % intervals cover 95 %, within the binomial tolerance of the runs.

The benchmark `benchmarks/coverage_of_intervals.py` measures the same at full size; the quick
tests here would catch an interval that is a fifth too narrow, the slow ones a tenth.
"""

from math import sqrt

import numpy as np
import pytest

from latens.evaluation.intervals import bootstrap_interval, metric_interval
from latens.evaluation.seed_intervals import seed_interval
from latens.metrics import metric
from latens.metrics.catalogue.uncertainty import SPREAD_EDGES
from latens.metrics.metric import effective_elements, first
from latens.scaling.fit import fit_scaling

RUNS = [pytest.param(120, id="quick"), pytest.param(1000, id="full", marks=pytest.mark.slow)]


def _close_to_nominal(covered: list[bool]) -> bool:
    """Bar 93–97 % widened by three binomial standard errors."""
    tolerance = 3 * sqrt(0.95 * 0.05 / len(covered))
    return 0.93 - tolerance < np.mean(covered) < 0.97 + tolerance


def _images(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth errors of unit variance, `(B, 16, 16)` as 12 random waves, shared within groups."""
    label = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
    grid = np.arange(16) * 2 * np.pi / 16
    waves = np.stack(
        [np.cos(i * grid[:, None] + j * grid + p) for i, j in ((0, 1), (1, 0), (1, 1), (1, -1),
         (2, 0), (0, 2)) for p in (0.0, np.pi / 2)]
    )  # fmt: skip
    weight = sqrt(0.3) * rng.standard_normal((groups, 12))[label]
    weight = weight + sqrt(0.7) * rng.standard_normal((len(label), 12))
    return np.tensordot(weight, waves, axes=1) / sqrt(6), label


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("groups", [30, 100])
def test_bootstrap_over_images_with_correlated_pixels(runs: int, groups: int):
    covered: dict[str, list[bool]] = {"mse": [], "spread_skill": [], "coverage_pixel": []}
    truth = {"mse": 1.0, "spread_skill": 0.8, "coverage_pixel": 0.8830}  # 2Φ(0.8·1.96) − 1
    for run in range(runs):
        error, label = _images(np.random.default_rng([1, groups, run]), groups)
        square = (error**2).mean(axis=(1, 2))
        rows = {
            "mse": square[:, None],
            "spread_skill": np.stack([np.full_like(square, 0.64), square], axis=1),
            "coverage_pixel": (np.abs(error) < 0.8 * 1.96).mean(axis=(1, 2))[:, None],
        }
        for name, hits in covered.items():
            found = metric_interval(metric(name), rows[name], label, replicates=400)
            hits.append(found.lower <= truth[name] <= found.upper)
    for name, hits in covered.items():
        assert _close_to_nominal(hits), (name, np.mean(hits))


@pytest.mark.parametrize("runs", RUNS)
def test_metrics_with_a_kink_at_an_exact_posterior(runs: int):
    """There the studentised bootstrap covers .72 to .9; these may cover more than 95 %."""
    covered: dict[str, list[bool]] = {"ence": [], "uce": [], "conformal_miss_block": []}
    width = 2.0 ** np.linspace(-5.5, -0.5, 16)
    place = np.digitize(width, SPREAD_EDGES)
    member = (place == np.arange(len(SPREAD_EDGES) + 1)[:, None]).astype(float)
    for run in range(runs):
        error, label = _images(np.random.default_rng([5, run]), 40)
        square = (error**2).mean(axis=1) * width**2 @ member.T / 16
        own = np.tile(width**2 @ member.T / 16, (len(label), 1))
        share = np.tile(member.mean(axis=1), (len(label), 1))
        missed = (np.abs(error) > 1.96).reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16)
        rows = {
            "ence": np.concatenate([share, own, square], axis=1),
            "uce": len(member) * (own - square),
            "conformal_miss_block": missed,
        }
        truth = {"ence": 0.0, "uce": 0.0, "conformal_miss_block": 0.05}
        for name, hits in covered.items():
            found = metric_interval(metric(name), rows[name], label, replicates=400)
            hits.append(found.lower <= truth[name] <= found.upper)
    tolerance = 3 * sqrt(0.95 * 0.05 / runs)
    for name, hits in covered.items():
        assert np.mean(hits) > 0.93 - tolerance, (name, np.mean(hits))


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(("size", "most"), [(0.0, 3.5), (0.2, 2.6)])
def test_metrics_with_a_kink_do_not_cover_by_endless_intervals(
    runs: int, size: float, most: float
):
    """The other end, for ACE: at the kink above 97 % by a width of at most `most` deviations.

    Twenty levels are off by `size` standard deviations of an image, all of them or none; a normal
    interval would be 1.96 deviations of the estimate to each side.
    """
    names, levels = ("ace_pixel", "rmsce_pixel"), len(metric("ace_pixel").components)
    hits: dict[str, list[bool]] = {name: [] for name in names}
    half: dict[str, list[float]] = {name: [] for name in names}
    values: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs):
        rng = np.random.default_rng([6, int(10 * size), run])
        shared = rng.standard_normal((60, 1))
        rows = size + sqrt(0.7) * shared + sqrt(0.3) * rng.standard_normal((60, levels))
        for name in names:
            found = metric_interval(metric(name), 0.05 * rows, range(60), replicates=400)
            hits[name].append(found.lower <= 0.05 * size <= found.upper)
            half[name].append((found.upper - found.lower) / 2)
            values[name].append(found.value)
    tolerance = 3 * sqrt(0.95 * 0.05 / runs)
    for name in names:
        assert np.mean(hits[name]) > 0.93 - tolerance, (name, np.mean(hits[name]))
        assert np.median(half[name]) < most * np.std(values[name]), name


def test_effective_pixels_have_no_interval_since_none_covers():
    """The studentised bootstrap misses the bar that others are held to."""
    hits: list[bool] = []
    for run in range(400):
        rng = np.random.default_rng([7, run])
        share = (rng.random((30, 10)) < 0.95).mean(axis=1)  # ten independent pixels
        rows = np.stack([share, share**2], axis=1)
        found = bootstrap_interval(rows, range(30), effective_elements, replicates=200)
        hits.append(found.lower <= 10 <= found.upper)
        shown = metric_interval(metric("n_eff_pixel"), rows, range(30))
        assert np.isnan([shown.lower, shown.upper]).all()
        assert shown.value == effective_elements(rows.mean(axis=0)[None])[0]
    assert np.mean(hits) < 0.93 - 2 * sqrt(0.05 / 400), np.mean(hits)


def test_resampling_pixels_would_be_wrong():
    """The same data with every pixel as its own group: the interval is far too narrow."""
    hits = []
    for run in range(60):
        error, _ = _images(np.random.default_rng([2, run]), 8)
        pixels = (error**2).reshape(-1, 1)[::5]
        found = bootstrap_interval(pixels, range(len(pixels)), first, replicates=100)
        hits.append(found.lower <= 1.0 <= found.upper)
    assert np.mean(hits) < 0.85  # three binomial errors below 0.95


@pytest.mark.parametrize("runs", [600])
@pytest.mark.parametrize(
    ("seeds", "data_scale", "image_scale"), [(3, 1.0, 0.0), (8, 0.3, 0.0), (5, 1.0, 0.6)]
)
def test_nested_seeds(runs: int, seeds: int, data_scale: float, image_scale: float):
    hits = []
    for run in range(runs):
        rng = np.random.default_rng([3, seeds, run])
        inits = rng.integers(1, 4, seeds)
        unit = np.repeat(np.arange(seeds), inits)
        values = 2 + image_scale * rng.standard_normal() + 0.5 * rng.standard_normal(len(unit))
        values += data_scale * rng.standard_normal(seeds)[unit]
        order = np.concatenate([np.arange(count) for count in inits])
        found = seed_interval(values, unit, order, image_scale**2, 50)
        hits.append(found.lower <= 2 <= found.upper)
    assert _close_to_nominal(hits), np.mean(hits)


@pytest.mark.parametrize("runs", RUNS)
def test_scaling_parameters_of_nested_subsets(runs: int):
    n = 32.0 * 2 ** np.arange(6)
    law = n**-0.5
    octave = np.arange(6.0)
    root = np.linalg.cholesky(np.exp(-np.abs(octave[:, None] - octave) / 3))
    hits: dict[str, list[bool]] = {"floor": [], "amplitude": [], "exponent": [], "beyond": []}
    bounded = 0
    for run in range(runs):
        rng = np.random.default_rng([4, run])
        seeds = (3, 5, 8)[run % 3]
        shared = rng.standard_normal((seeds, 1, 6)) @ root.T
        table = 0.05 + law * (1 + 0.15 * (shared + 0.7 * rng.standard_normal((seeds, 2, 6))))
        seed, init, column = np.indices(table.shape).reshape(3, -1)
        fit = fit_scaling(n[column], table.ravel(), seed, init)
        _, lower, upper = fit.predict([4 * n[-1]])
        hits["floor"].append(fit.floor.lower <= 0.05 <= fit.floor.upper)
        hits["amplitude"].append(fit.amplitude.lower <= 1 <= fit.amplitude.upper)
        hits["exponent"].append(fit.exponent.lower <= 0.5 <= fit.exponent.upper)
        hits["beyond"].append(lower[0] <= 0.05 + (4 * n[-1]) ** -0.5 <= upper[0])
        bounded += seeds == 8 and fit.exponent.upper - fit.exponent.lower < 0.6
    for name, covered in hits.items():
        assert _close_to_nominal(covered), (name, np.mean(covered))
    assert bounded > 0.6 * runs / 3  # coverage is not bought with endless intervals
