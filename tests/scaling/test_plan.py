"""Answers: every verdict, its numbers, what the test images add, and the back-test."""

from math import inf, isnan

import numpy as np
import pytest

from latens.errors import ConfigError
from latens.scaling.back_tests import PINNED, back_test
from latens.scaling.forecasts import forecast
from latens.scaling.plan import Answer, Extent, ImageError, answer, met_between, without_curve

SIZES = 32.0 * 2 ** np.arange(6)


def _table(law: np.ndarray, noise: float = 0.01, seeds: int = 5, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return law + noise * np.abs(law).mean() * rng.standard_normal((seeds, len(law)))


def _answer(
    law: np.ndarray,
    lower: float,
    upper: float,
    noise: float = 0.01,
    floor_minimum: float = 0.0,
    images: ImageError | None = None,
) -> Answer:
    table = _table(law, noise)
    curve = forecast(SIZES[: len(law)], table, floor_minimum)
    return answer(curve, table, lower, upper, images)


FALLING = 0.1 + 5 * SIZES**-0.7


def test_reached_inside_the_data():
    said = _answer(FALLING, -inf, float(0.1 + 5 * 200.0**-0.7))
    assert said.verdict == "reached"
    assert said.lower < 200 < said.upper
    assert said.n == pytest.approx(200, rel=0.1)
    assert said.met == 1
    assert said.level == 0.9


def test_reached_beyond_the_data():
    said = _answer(FALLING, -inf, float(0.1 + 5 * 2048.0**-0.7), noise=0.002)
    assert said.verdict == "reached"
    assert said.lower < 2048 < said.upper
    assert said.met < 0.05


def test_met_from_the_smallest_size_on():
    said = _answer(FALLING, -inf, 0.9)
    assert said.verdict == "met throughout"
    assert (said.lower, said.upper, said.met) == (0, 0, 1)
    assert isnan(said.n)


def test_the_floor_misses_the_bar():
    said = _answer(0.3 + 20 * SIZES**-1.2, -inf, 0.2, noise=0.003)
    assert said.verdict == "floor misses the bar"
    assert said.lower == said.upper == inf
    assert said.floor_p < 0.01
    assert "p = " in said.reason


def test_too_far_is_not_called_never():
    said = _answer(2 * SIZES**-0.3, -inf, 0.08, noise=0.003)  # reached at 45,000
    assert said.verdict == "not within range"
    assert said.lower == 8 * 1024
    assert "8 times" in said.reason


def test_lost_with_more_data():
    rising = 0.5 - 2 * SIZES**-0.5
    said = _answer(rising, -inf, float(0.5 - 2 * 128.0**-0.5), noise=0.005)
    assert said.verdict == "lost"
    assert said.lower < 128 < said.upper
    assert said.met < 0.05


def test_the_data_cannot_say():
    flat = np.full(6, 0.3)
    said = _answer(flat, -inf, 0.3, noise=0.05)
    assert said.verdict == "cannot say"
    assert isnan(said.n)
    assert "both are possible" in said.reason
    assert "N = 2048" in said.advice


def test_a_range_is_entered_and_left():
    rising = -0.3 + 0.02 * np.log2(SIZES) ** 1.5
    curve = forecast(SIZES, _table(rising, 0.002), floor_minimum=-inf)
    enter, leave = met_between(curve, -0.03, 0.03)

    def size(value: float) -> float:
        return 2 ** ((value + 0.3) / 0.02) ** (2 / 3)

    assert np.median(enter) == pytest.approx(2 ** (((-0.03 + 0.3) / 0.02) ** (2 / 3)), rel=0.1)
    assert np.median(leave) == pytest.approx(2 ** (((0.03 + 0.3) / 0.02) ** (2 / 3)), rel=0.2)
    never, _ = met_between(curve, 5.0, 6.0)
    assert (never == inf).all()


def test_test_images_widen_and_are_named_as_the_cause():
    bar = float(0.1 + 5 * 200.0**-0.7)
    alone = _answer(FALLING, -inf, bar)
    some = _answer(FALLING, -inf, bar, images=ImageError(0.05, 100, proportional=True))
    assert some.upper / some.lower > 1.3 * alone.upper / alone.lower
    many = _answer(FALLING, -inf, bar, images=ImageError(0.6, 5, proportional=True))
    assert many.verdict == "cannot say"
    assert many.advice.startswith("More test images")


def test_image_errors_shift_the_bound():
    shifted = ImageError(0.1, 1e9, proportional=True).shifted(2.0, 20_000, 0)
    assert np.quantile(2.0 / shifted, [0.16, 0.84]) == pytest.approx([0.9, 1.1], abs=0.005)
    shifted = ImageError(0.1, 1e9, proportional=False).shifted(0.0, 20_000, 0)
    assert shifted.std() == pytest.approx(0.1, rel=0.03)
    assert abs(shifted.mean()) < 0.003


@pytest.mark.parametrize(
    ("sizes", "seeds", "verdict", "fragment"),
    [
        ([0.0], 3, "uses no training data", "not met"),
        ([32.0, 64.0], 3, "cannot say", "2 sizes"),
        ([32.0, 64.0, 128.0], 1, "cannot say", "one data seed"),
    ],
)
def test_without_a_curve(sizes: list[float], seeds: int, verdict: str, fragment: str):
    said = without_curve(np.array(sizes), np.full((seeds, len(sizes)), 0.4), -inf, 0.3)
    assert (said.verdict, said.reason) == (verdict, fragment)
    assert isnan(said.n)


@pytest.mark.parametrize(
    ("extent", "sizes", "reason", "advice"),
    [
        (Extent(5, 1), 5, "one data seed", "Run three data seeds or more."),
        (
            Extent(5, 3, 1),
            3,
            "deep checks were made on one data seed",
            "`checked_data_seeds` to 3",
        ),
        (Extent(5, 1, 1), 3, "deep checks were made on one", "and `data_seeds` with it"),
        (Extent(5, 3, 3), 3, "measured on one of 3 checked data seeds", "what is missing"),
        (Extent(5, 3), 5, "measured on one of 3 data seeds", "what is missing"),
        (Extent(2, 3), 2, "2 sizes", "Run three sizes or more."),
        (Extent(5, 3), 2, "measured at 2 of 5 sizes", "Add sizes"),
        (Extent(5, 3, 3), 2, "measured at 2 of the three sizes that are checked", "Add sizes"),
    ],
)
def test_what_would_help_depends_on_what_the_run_has(
    extent: Extent, sizes: int, reason: str, advice: str
):
    there = 32.0 * 2 ** np.arange(sizes)
    said = without_curve(there, np.full((1, sizes), 0.4), -inf, 0.3, extent=extent)
    assert said.verdict == "cannot say"
    assert said.reason.startswith(reason)
    assert advice in said.advice
    assert ("Run three data seeds" in said.advice) == (extent.data_seeds == 1 and sizes == 5)


def test_checked_data_seeds_are_named_where_more_of_them_help():
    table = _table(np.full(3, 0.3), 0.05, seeds=2)
    curve = forecast(SIZES[:3], table)
    said = answer(curve, table, -inf, 0.3, extent=Extent(5, 3, 2))
    assert said.advice.startswith("More checked data seeds (5 instead of 2), or measure N = 256")
    assert answer(curve, table, -inf, 0.3).advice.startswith("More data seeds (5 instead of 2)")


def test_errors():
    table = _table(FALLING)
    curve = forecast(SIZES, table)
    with pytest.raises(ConfigError, match="finite end"):
        answer(curve, table, -inf, inf)
    with pytest.raises(ConfigError, match="finite end"):
        answer(curve, table, 0.4, 0.3)
    with pytest.raises(ConfigError, match="level"):
        answer(curve, table, -inf, 0.3, level=90)


def test_a_back_test_sees_the_quarter_alone():
    table = _table(FALLING, 0.003)
    tests = back_test(SIZES, table)
    assert [round(t.found) for t in tests] == pytest.approx([512, 1024], rel=0.02)
    assert all(t.counts and t.found_upper <= PINNED * t.found_lower for t in tests)
    assert all(t.contains for t in tests)
    assert all(abs(t.log2_ratio) < 1 for t in tests)
    # what lies beyond the quarter changes the target, not the forecast behind it
    later = table.copy()
    later[:, 4:] = later[:, 4:] * 0.5
    changed = back_test(SIZES, later)
    assert changed[1].target < tests[1].target
    assert changed[1].foretold > tests[1].foretold


def test_targets_that_the_quarter_fixes():
    table = _table(FALLING, 0.003)
    shares = (0.9, 0.7, 0.01)
    tests = back_test(SIZES, table, shares=shares)
    value = table[:, 3].mean()
    assert [t.target / value for t in tests] == pytest.approx(shares, rel=0.02)
    law = 0.1 + 5 * np.geomspace(32, 1e4, 4000) ** -0.7
    for test in tests[:2]:
        reached = np.geomspace(32, 1e4, 4000)[np.argmax(law <= test.target)]
        assert test.found == pytest.approx(reached, rel=0.1)
    assert [t.counts for t in tests] == [True, True, False]
    later = table.copy()
    later[:, 4:] = later[:, 4:] * 0.9
    changed = back_test(SIZES, later, shares=shares)
    assert [t.target for t in changed] == [t.target for t in tests]
    assert [t.foretold for t in changed] == [t.foretold for t in tests]
    assert changed[1].found < tests[1].found


def test_a_distance_below_zero_shrinks_towards_it():
    tests = back_test(SIZES, _table(-2 * SIZES**-0.7, 0.002), -inf, shares=(0.7,))
    assert tests[0].target < 0
    assert tests[0].counts
    assert tests[0].found == pytest.approx(256 * 0.7 ** (-1 / 0.7), rel=0.1)


def test_flat_curves_do_not_count_and_short_ones_are_not_tested():
    flat = back_test(SIZES, _table(np.full(6, 0.3), 0.02))
    assert len(flat) == 2
    assert not any(t.counts for t in flat)
    assert back_test(SIZES[:4], _table(FALLING[:4])) == []


def test_a_rising_metric_is_back_tested_too():
    tests = back_test(SIZES, _table(0.5 - 2 * SIZES**-0.5, 0.002), floor_minimum=-inf)
    assert all(t.counts for t in tests)
    assert all(t.lower < t.found < t.upper for t in tests)
