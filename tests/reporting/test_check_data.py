"""Numbers read from the folders of checks, against brute force."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latens.reporting import Results
from latens.reporting.check_data import (
    at_largest,
    check_units,
    image_rows,
    mean_point,
    size_of,
    solver_of,
)
from reporting.synthetic_checks import AT, CHECKED, IMAGES, split
from reporting.synthetic_run import SIZES, SOLVERS


def indexed(values: list[float], groups: list[str]) -> pd.Series:
    index = pd.MultiIndex.from_arrays([range(len(values)), groups], names=["image", "group"])
    return pd.Series(values, index=index)


def test_mean_of_independent_images_has_the_t_interval() -> None:
    values = [0.3, 0.9, 0.5, 1.4, 0.2]
    point = mean_point(7.0, indexed(values, list("abcde")))
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert point.x == 7.0
    assert point.value == pytest.approx(np.mean(values))
    assert (point.lower, point.upper) == pytest.approx(expected)


def test_images_of_a_group_count_as_one_where_they_are_the_same() -> None:
    values = [0.3, 0.9, 0.5, 1.4]
    alone = mean_point(0.0, indexed(values, list("abcd")))
    twice = mean_point(0.0, indexed([v for v in values for _ in range(2)], list("aabbccdd")))
    assert twice.lower == pytest.approx(alone.lower)
    assert twice.upper == pytest.approx(alone.upper)


def test_one_group_and_nothing_have_no_interval() -> None:
    assert math.isnan(mean_point(0.0, indexed([1.0, 2.0], ["a", "a"])).lower)
    assert math.isnan(mean_point(0.0, indexed([], [])).value)


def test_units_of_a_check_are_those_with_the_lowest_seeds(checked: Results) -> None:
    units = check_units(checked, "null_space")
    assert {(size_of(u), solver_of(u)) for u in units} == {(n, s) for n in AT for s in CHECKED}
    assert {size_of(u) for u in at_largest(units)} == {max(AT)}
    whole = check_units(checked, "")
    assert {(size_of(u), solver_of(u)) for u in whole} >= {
        (n, s) for n in SIZES for s in SOLVERS if (s, n) != ("latent", SIZES[0])
    }
    assert all(u.identity["data_seed"] == 0 for u in whole if size_of(u) > SIZES[0])
    assert check_units(checked, "of another kind") == []


def test_rows_per_image_keep_their_components(checked: Results) -> None:
    unit = next(u for u in check_units(checked, "null_space") if solver_of(u) == "cvae")
    rows = image_rows(unit, "null_error", "nmse")
    assert list(rows) == ["null_error"]
    rows = rows["null_error"]
    expected = [split("cvae", size_of(unit), image) for image in IMAGES]
    np.testing.assert_allclose(rows.to_numpy(), expected)
    assert list(rows.index.get_level_values("image")) == list(IMAGES)
