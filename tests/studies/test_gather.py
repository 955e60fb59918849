"""Intervals of curves know the error of the test images, or say that they do not."""

from math import inf, isnan, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latens.metrics import metric
from latens.studies import gather

IMAGES = 50


def rows(values: np.ndarray, evaluation: str) -> pd.DataFrame:
    """Rows of one metric and cell, as `gather` keeps them."""
    image = np.arange(len(values))
    return pd.DataFrame(
        {
            "image": image,
            "group": [str(i) for i in image],
            "component": 0,
            "value": values,
            "evaluation": evaluation,
        }
    )


def cells(values: list[float]) -> pd.DataFrame:
    count = len(values)
    return pd.DataFrame(
        {
            "value": values,
            "data_seed": range(count),
            "init_seed": pd.array([0] * count, dtype="Int64"),
            "evaluation": [f"e{seed}" for seed in range(count)],
            "lower": np.nan,
            "upper": np.nan,
        }
    )


def test_an_infinite_cell_leaves_the_image_error_of_the_others():
    """Seeds that agree exactly: all that is left of the interval is the error over images."""
    errors = np.random.default_rng(0).gamma(4.0, 1.0, IMAGES)
    blank = errors.copy()
    blank[7] = inf
    table = pd.concat([rows(errors, "e0"), rows(errors, "e1"), rows(blank, "e2")])
    usable = cells([float(errors.mean()), float(errors.mean()), inf])
    finite = usable[np.isfinite(usable["value"])]
    found = gather._summary({"nmse": table}, "nmse", 64, finite)
    standard_error = errors.std(ddof=1) / sqrt(IMAGES)
    expected = stats.t.ppf(0.975, IMAGES - 1) * standard_error
    assert found["mean"] == pytest.approx(errors.mean())
    assert (found["upper"] - found["lower"]) / 2 == pytest.approx(expected, rel=0.1)
    alone = gather._summary({"nmse": table[table["evaluation"] != "e2"]}, "nmse", 64, finite)
    assert found == alone


@pytest.mark.parametrize("case", ["one image", "infinite"])
def test_no_interval_where_the_images_cannot_say(case):
    errors = np.array([2.0]) if case == "one image" else np.array([1.0, inf, 2.0])
    table = pd.concat([rows(errors, "e0"), rows(errors, "e1")])
    found = gather._summary({"nmse": table}, "nmse", 64, cells([2.0, 2.1]))
    assert found["mean"] == pytest.approx(2.05)
    assert isnan(found["lower"])
    assert isnan(found["upper"])


def test_images_that_do_not_differ_have_no_error():
    """Coverage of 1 everywhere, and a ratio of 1 of errors that differ: known, not unknown."""
    everywhere = np.ones((IMAGES, 1))
    groups = np.arange(IMAGES)
    assert gather._image_variance(metric("coverage_pixel"), everywhere, groups) == (0.0, inf)
    errors = np.random.default_rng(1).gamma(4.0, 1.0, (IMAGES, 1))
    same = np.hstack([errors, errors])
    assert gather._image_variance(metric("worst_over_baseline"), same, groups) == (0.0, inf)
    differ = gather._image_variance(metric("nmse"), errors, groups)
    assert differ[0] == pytest.approx(errors.var(ddof=1) / IMAGES, rel=0.15)
    assert differ[1] == IMAGES - 1
    assert isnan(gather._image_variance(metric("nmse"), errors[:1], groups[:1])[0])
