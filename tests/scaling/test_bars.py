"""Bars from text, and metrics as errors."""

from math import inf, log10, nan

import numpy as np
import pytest

from latens.errors import ConfigError
from latens.evaluation.trust import BASELINES, QUESTIONS
from latens.scaling.bars import DEFAULT_BARS, Bar, parse_bar
from latens.scaling.error_scale import error_scale

METRICS = ("ace_region", "coverage_region", "nmse", "psnr")


@pytest.mark.parametrize(
    ("text", "bar"),
    [
        ("ace_region<=0.05", Bar("ace_region", -inf, 0.05)),
        (" psnr >= 25 ", Bar("psnr", 25.0, inf)),
        ("coverage_region=.92..0.98", Bar("coverage_region", 0.92, 0.98)),
        ("nmse<=1.1*best", Bar("nmse", -inf, 1.1, relative=True)),
        ("psnr>=-1e1", Bar("psnr", -10.0, inf)),
    ],
)
def test_forms(text: str, bar: Bar):
    assert parse_bar(text, METRICS) == bar
    assert parse_bar(str(bar), METRICS) == bar


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("ace_region", "METRIC<=VALUE"),
        ("ace_region<0.05", "METRIC<=VALUE"),
        ("ace_region<=", "METRIC<=VALUE"),
        ("ace_region<=low", "a finite number"),
        ("ace_region<=nan", "a finite number"),
        ("ace_region<=inf", "a finite number"),
        ("coverage_region=0.95", "LOW..HIGH"),
        ("coverage_region=0.98..0.92", "LOW below HIGH"),
        ("nmse<=0*best", "positive factor"),
        ("nmse<=x*best", "a finite number"),
        ("ace_regoin<=0.05", "Did you mean `ace_region`?"),
        ("zzz<=0.05", "There are ace_region"),
        ("", "METRIC<=VALUE"),
    ],
)
def test_other_forms_are_refused(text: str, fragment: str):
    with pytest.raises(ConfigError) as caught:
        parse_bar(text, METRICS)
    assert fragment in str(caught.value)


def test_relative_bars():
    assert Bar("nmse", -inf, 1.1, relative=True).against(0.2) == Bar("nmse", -inf, 1.1 * 0.2)
    assert DEFAULT_BARS[0].against(7.0) is DEFAULT_BARS[0]


def test_default_bars_ask_for_calibration_stability_and_accuracy():
    assert {bar.purpose for bar in DEFAULT_BARS} == {"calibration", "stability", "accuracy"}
    stability = [bar for bar in DEFAULT_BARS if bar.purpose == "stability"]
    stable = next(question for question in QUESTIONS if question.name == "stable")
    assert stability == [
        Bar(metric, stable.lower, stable.upper, purpose="stability") for metric in BASELINES
    ]


CASES = [
    # better, target, unit, values, bar, error range, floor
    ("lower", 0.0, "", [0.2, 0.1], (-inf, 0.05), (-inf, 0.05), 0.0),
    ("lower", nan, "", [-0.2, 0.1], (-inf, 0.05), (-inf, 0.05), -inf),
    ("higher", nan, "dB", [20.0, 30.0], (25.0, inf), (-inf, 10**-2.5), 0.0),
    ("higher", 1.0, "", [0.7, 0.9], (0.8, inf), (-inf, 0.2), 0.0),
    ("higher", nan, "", [0.7, 9.0], (0.8, inf), (-inf, -0.8), -inf),
    ("target", 0.95, "", [0.7, 0.97], (0.92, 0.98), (-0.03, 0.03), -inf),
]


@pytest.mark.parametrize(("better", "target", "unit", "values", "bar", "expected", "floor"), CASES)
def test_metrics_as_errors(better, target, unit, values, bar, expected, floor):
    scale = error_scale(better, target, unit, values)
    assert scale.floor_minimum == floor
    np.testing.assert_allclose(scale.metric(scale.error(values)), values)
    assert scale.bounds(Bar("m", *bar)) == pytest.approx(expected)
    # what the bar allows is what the range of errors allows
    inside = (np.array(values) >= bar[0]) & (np.array(values) <= bar[1])
    low, high = scale.bounds(Bar("m", *bar))
    errors = scale.error(values)
    np.testing.assert_array_equal((errors >= low) & (errors <= high), inside)


def test_a_standard_error_of_decibels():
    scale = error_scale("higher", nan, "dB", [20.0])
    step = float(scale.error(20.0) - scale.error(20.001)) / 0.001
    assert scale.spread(0.1, 20.0) == pytest.approx(0.1 * step, rel=1e-3)
    assert log10(scale.error(20.0)) == pytest.approx(-2)
