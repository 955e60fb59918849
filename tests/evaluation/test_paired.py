"""Errors over the best solver's: exactly 1 for itself, and narrow where images are shared."""

from math import isnan

import numpy as np
import pytest

from latens.evaluation.paired import paired_errors
from latens.store import PER_IMAGE, from_rows


def rows(solver, errors, n=100, data_seed=0, init_seed=0, images=None):
    images = range(len(errors)) if images is None else images
    cell = {"solver": solver, "n": n, "data_seed": data_seed, "init_seed": init_seed}
    return [
        {**cell, "image": i, "group": f"g{i}", "metric": "nmse", "component": 0, "value": float(e)}
        for i, e in zip(images, errors, strict=True)
    ]


def paired(*parts):
    return paired_errors(from_rows([row for part in parts for row in part], PER_IMAGE))


HARD = np.random.default_rng(0).lognormal(0.0, 1.0, 60)
"""Images of very different difficulty, the same for every solver."""


def test_the_same_images_are_compared():
    """1.05 times as wrong on every image: known to a few parts in a thousand, paired."""
    noise = 1 + 0.01 * np.random.default_rng(1).standard_normal((3, 2, 60))
    best = [rows("best", HARD * noise[s, 0], data_seed=s) for s in range(3)]
    other = [rows("other", 1.05 * HARD * noise[s, 1], data_seed=s) for s in range(3)]
    found = paired(*best, *other)
    mine = found["other", 100]
    assert mine.best == ("best", 100)
    assert (mine.images, mine.data_seeds) == (60, 3)
    assert mine.lower < 1.05 < mine.upper < 1.08
    seeds = [(1.05 * HARD * noise[s, 1]).mean() / (HARD * noise[s, 0]).mean() for s in range(3)]
    assert mine.value == pytest.approx(np.mean(seeds))
    itself = found["best", 100]
    assert (itself.value, itself.lower, itself.upper) == (1, 1, 1)


def test_the_interval_covers():
    """95 % intervals of a ratio of 1.2 over 200 runs of 3 seeds and 40 images; 3 errors."""
    hits = 0
    for run in range(200):
        rng = np.random.default_rng([run, 1])
        hard = rng.lognormal(0, 0.5, 40)
        parts = []
        for s in range(3):
            seed = np.exp(0.05 * rng.standard_normal(2))
            for (name, factor), k in zip((("a", 1.0), ("b", 1.2)), (0, 1), strict=True):
                noise = np.exp(0.1 * rng.standard_normal(40) - 0.005)
                parts.append(rows(name, factor * seed[k] * hard * noise, data_seed=s))
        found = paired(*parts)["b", 100]
        assert found.best == ("a", 100)
        hits += found.lower <= 1.2 <= found.upper
    assert hits / 200 > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200)


def test_a_solver_of_few_easy_images_is_not_the_best_and_is_compared_on_them():
    easy = np.argsort(HARD)[:10]
    sampler = rows("sampler", 0.99 * HARD[easy], images=easy.tolist())
    found = paired(rows("model", HARD), sampler)
    assert HARD[easy].mean() < HARD.mean() / 2
    assert found["model", 100].best == ("model", 100)
    mine = found["sampler", 100]
    assert (mine.images, mine.data_seeds) == (10, 1)
    assert mine.value == pytest.approx(0.99)


def test_the_best_is_taken_at_its_largest_size():
    found = paired(rows("a", HARD, 10), rows("a", 2 * HARD, 100), rows("b", 1.5 * HARD, 100))
    assert {entry.best for entry in found.values()} == {("b", 100)}
    assert found["a", 10].value == pytest.approx(1 / 1.5)


def test_one_data_seed_gives_the_interval_over_images():
    noise = 1 + 0.05 * np.random.default_rng(2).standard_normal(60)
    found = paired(rows("a", HARD), rows("b", 2 * HARD * noise))["b", 100]
    assert found.data_seeds == 1
    assert 1.9 < found.lower < found.value < found.upper < 2.1


def test_what_is_not_finite_or_not_shared():
    blank = HARD.copy()
    blank[3] = np.inf
    found = paired(rows("a", blank), rows("b", 2 * blank))
    assert found["b", 100].images == 59
    assert found["b", 100].value == pytest.approx(2)
    apart = paired(rows("a", HARD), rows("b", 2 * HARD, data_seed=7))["b", 100]
    assert isnan(apart.value)
    assert paired(rows("a", [np.inf, np.nan])) == {}
