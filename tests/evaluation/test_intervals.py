"""Intervals over images and over seeds: identities, edges, errors."""

import time
from math import inf, isnan, sqrt

import numpy as np
import pytest
from scipy import stats

from latens.errors import ConfigError, DataError
from latens.evaluation.intervals import (
    bootstrap_interval,
    metric_interval,
    norm_interval,
)
from latens.evaluation.seed_intervals import seed_interval
from latens.metrics import CATALOGUE, metric
from latens.metrics.metric import LARGEST, MEAN_MAGNITUDE, Kinked, first


def test_single_images_give_nearly_the_t_interval():
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(80, 1))
    found = bootstrap_interval(rows, range(80), first, replicates=20_000)
    radius = stats.t.ppf(0.975, 79) * rows.std(ddof=1) / sqrt(80)
    assert found.value == pytest.approx(rows.mean())
    assert found.lower == pytest.approx(rows.mean() - radius, abs=0.15 * radius)
    assert found.upper == pytest.approx(rows.mean() + radius, abs=0.15 * radius)
    assert (found.images, found.groups) == (80, 80)


def test_groups_are_the_unit_not_images():
    rows = np.random.default_rng(1).normal(size=(40, 1))
    alone = bootstrap_interval(rows, range(40), first)
    copied = bootstrap_interval(np.repeat(rows, 25, axis=0), np.repeat(range(40), 25), first)
    assert copied.upper - copied.lower == pytest.approx(alone.upper - alone.lower, rel=1e-6)
    assert (copied.images, copied.groups) == (1000, 40)


def test_every_image_weighs_the_same_whatever_its_group():
    rows = np.array([[0.0]] * 9 + [[1.0], [2.0], [3.0]])
    found = bootstrap_interval(rows, [0] * 9 + [1, 2, 3], first)
    assert found.value == pytest.approx(0.5)
    assert found.lower < 0.5 < found.upper


def test_the_same_seed_gives_the_same_interval_and_the_order_of_images_does_not_matter():
    rng = np.random.default_rng(2)
    rows, groups = rng.normal(size=(60, 2)) + 3, rng.integers(0, 20, 60)
    ratio = metric("spread_skill").statistic
    once = bootstrap_interval(rows, groups, ratio, seed=4)
    order = rng.permutation(60)
    again = bootstrap_interval(rows[order], groups[order], ratio, seed=4)
    assert (again.lower, again.upper) == pytest.approx((once.lower, once.upper))
    assert bootstrap_interval(rows, groups, ratio, seed=5) != once


def test_intervals_stay_in_the_support():
    rows = np.ones((30, 1))
    rows[:2] = 0.9
    found = metric_interval(metric("coverage_pixel"), rows, range(30))
    assert found.upper == 1.0
    assert 0.9 < found.lower < 0.99


@pytest.mark.parametrize(
    "interval",
    [
        lambda *a: norm_interval(*a, MEAN_MAGNITUDE),
        lambda *a: norm_interval(*a, LARGEST),
        lambda *a: bootstrap_interval(*a, first),
    ],
)
def test_no_interval_from_nothing(interval):
    rows = np.random.default_rng(0).normal(size=(10, 1))
    one_group = interval(rows, ["a"] * 10)
    assert isnan(one_group.lower)
    assert isnan(one_group.upper)
    constant = interval(np.full((10, 1), 0.7), range(10))
    assert constant.value == pytest.approx(0.7)
    assert isnan(constant.lower)
    rows[3] = inf
    assert isnan(interval(rows, range(10)).upper)


def test_the_norm_interval_reaches_zero_for_an_unbiased_posterior():
    rng = np.random.default_rng(3)
    errors = 0.2 * rng.standard_normal((60, 1)) + 0.02 * rng.standard_normal((60, 9))
    found = norm_interval(errors - errors.mean(axis=0) + 0.005, range(60), MEAN_MAGNITUDE)
    assert found.lower == 0.0
    biased = norm_interval(errors + 0.3, range(60), MEAN_MAGNITUDE)
    assert biased.lower > 0.15
    assert biased.upper == pytest.approx(2 * biased.value - biased.lower)


def test_the_norm_interval_of_one_component_is_the_symmetric_studentised_one():
    """‖s*‖ is then the standard error of a mean, and c the quantile of |t*|."""
    rows = np.random.default_rng(4).normal(3.0, 2.0, size=(80, 1))
    found = norm_interval(rows, range(80), MEAN_MAGNITUDE, replicates=20_000)
    radius = stats.t.ppf(0.975, 79) * rows.std(ddof=1) / sqrt(80)
    assert found.value == pytest.approx(rows.mean())
    assert found.upper - found.value == pytest.approx(radius, rel=0.05)


def test_the_norm_interval_of_deviations_that_are_not_linear():
    """θ = log of the means: errors of the deviations are relative ones."""
    logs = Kinked(
        lambda m: np.abs(np.log(m)).sum(1), norm=lambda d: np.abs(d).sum(1), deviations=np.log
    )
    rows = np.exp(0.1 * np.random.default_rng(5).standard_normal((400, 1))) + 1
    found = norm_interval(rows, range(400), logs)
    error = rows.std(ddof=1) / rows.mean() / sqrt(400)
    assert found.value == pytest.approx(np.log(rows.mean()))
    assert found.upper - found.value == pytest.approx(1.96 * error, rel=0.1)
    scaled = norm_interval(50 * rows, range(400), logs)
    assert scaled.upper - scaled.value == pytest.approx(found.upper - found.value)


def test_replicates_without_bound_give_no_bound():
    """A tenth of the images hold all spread of a bin: many resamples have none of it."""
    share, variance, error = np.ones(6), np.zeros(6), np.ones(6)
    variance[0] = 1.0
    rows = np.zeros((6, 30))
    rows[:, 0], rows[:, 10], rows[:, 20] = share, variance, error
    found = metric_interval(metric("ence"), rows, range(6))
    assert found.value == pytest.approx(sqrt(6) - 1)
    assert isnan(found.upper)


def test_twenty_metrics_of_two_hundred_images_take_less_than_a_second():
    rng = np.random.default_rng(0)
    tables = {m.name: rng.uniform(0.2, 1, size=(200, len(m.components))) for m in CATALOGUE}
    started = time.process_time()
    for entry in CATALOGUE:
        metric_interval(entry, tables[entry.name], range(200))
    assert time.process_time() - started < 2.0  # 0.5 s on an idle core


def test_bad_input_is_named():
    rows = np.ones((4, 1))
    with pytest.raises(DataError, match="rows"):
        bootstrap_interval(rows, [1, 2, 3], first)
    with pytest.raises(ConfigError, match="level"):
        bootstrap_interval(rows, range(4), first, level=95)
    with pytest.raises(ConfigError, match="replicates"):
        norm_interval(rows, range(4), MEAN_MAGNITUDE, replicates=10)


def test_seed_interval_by_hand():
    values = [1.0, 3.0, 5.0, 7.0]  # data-seed means 2 and 6
    found = seed_interval(values, [0, 0, 1, 1], [0, 1, 0, 1])
    radius = stats.t.ppf(0.975, 1) * 2.0
    assert found.value == 4.0
    assert found.standard_error == pytest.approx(2.0)
    assert (found.lower, found.upper) == pytest.approx((4 - radius, 4 + radius))
    assert found.init_variance == pytest.approx(2.0)
    assert found.data_variance == pytest.approx(8.0 - 1.0)


def test_data_seeds_weigh_the_same_and_image_variance_is_added_once():
    values, data, init = [1.0, 1.0, 1.0, 3.0, 5.0], [0, 0, 0, 1, 2], [0, 1, 2, 0, 0]
    alone = seed_interval(values, data, init)
    assert alone.value == 3.0
    both = seed_interval(values, data, init, image_variance=0.5, image_degrees=50)
    assert both.standard_error**2 == pytest.approx(alone.standard_error**2 + 0.5)
    assert both.degrees > alone.degrees == pytest.approx(2.0)


def test_one_data_seed_gives_no_interval():
    found = seed_interval([1.0, 2.0, 4.0], [7, 7, 7], [0, 1, 2], image_variance=0.1)
    assert found.value == pytest.approx(7 / 3)
    assert isnan(found.lower)
    assert isnan(found.upper)
    assert found.init_variance == pytest.approx(np.var([1, 2, 4], ddof=1))


def test_one_initialisation_per_data_seed_is_enough():
    found = seed_interval([1.0, 2.0, 4.0], [0, 1, 2], [0, 0, 0])
    assert isnan(found.init_variance)
    assert found.lower < found.value < found.upper


def test_seed_errors():
    with pytest.raises(DataError, match="repeated"):
        seed_interval([1.0, 2.0], [0, 0], [1, 1])
    with pytest.raises(DataError, match="values"):
        seed_interval([1.0, 2.0], [0, 1], [1])
    with pytest.raises(ConfigError, match="image_variance"):
        seed_interval([1.0, 2.0], [0, 1], [0, 0], image_variance=-1.0)
