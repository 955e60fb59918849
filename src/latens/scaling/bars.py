"""Bars: what a metric must reach before a solver is called accurate or calibrated.

ace_region<=0.05              at most
psnr>=25                      at least
coverage_region=0.92..0.98    inside a range
nmse<=1.1*best                at most 1.1 times the best value at the largest N
"""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from math import inf, isfinite

from latens.errors import ConfigError

_FORM = re.compile(r"\s*(?P<metric>\w+)\s*(?P<sign><=|>=|=)\s*(?P<value>\S.*?)\s*")
_RELATIVE = re.compile(r"(?P<factor>[^*]+?)\s*\*\s*best")
_WRITE = (
    'Write "METRIC<=VALUE", "METRIC>=VALUE", "METRIC=LOW..HIGH" or "METRIC<=1.1*best", in quotes.'
)


@dataclass(frozen=True)
class Bar:
    """A range that a metric must lie in.

    Args:
        metric: Name of the metric.
        lower, upper: Range, unit of the metric; infinite where it has no end. For a relative
            bar they are factors of the best value until `against` has been applied.
        relative: Whether the finite end is a factor of the best solver's value.
        purpose: `calibration`, `stability`, `accuracy` or `given`.
    """

    metric: str
    lower: float
    upper: float
    relative: bool = False
    purpose: str = "given"

    def __str__(self) -> str:
        best = "*best" if self.relative else ""
        if isfinite(self.lower) and isfinite(self.upper):
            return f"{self.metric}={self.lower:g}..{self.upper:g}"
        if isfinite(self.upper):
            return f"{self.metric}<={self.upper:g}{best}"
        return f"{self.metric}>={self.lower:g}{best}"

    def against(self, best: float) -> "Bar":
        """The bar with its factor applied to the best value; itself if it is not relative."""
        if not self.relative:
            return self
        return replace(self, lower=self.lower * best, upper=self.upper * best, relative=False)


DEFAULT_BARS: tuple[Bar, ...] = (
    Bar("ace_region", -inf, 0.05, purpose="calibration"),
    Bar("coverage_region", 0.92, 0.98, purpose="calibration"),
    Bar("spread_skill", 0.9, 1.1, purpose="calibration"),
    Bar("worst_over_baseline", -inf, 1.5, purpose="stability"),
    Bar("worst_over_wiener", -inf, 1.5, purpose="stability"),
    Bar("nmse", -inf, 1.1, relative=True, purpose="accuracy"),
)
"""Bars of a plan without others: region means covered as often as stated, to within .05 on average
over the levels and .03 at 95 %; spread within a tenth of the error; error at the worst disturbance
at most half above that of Tikhonov's reconstruction at its own worst, and of Wiener's where that
was attacked, as on the trust card; squared error within a tenth of that of the best solver of the
run at its largest N."""


def parse_bar(text: str, metrics: Collection[str]) -> Bar:
    """Bar from its text.

    Args:
        text: As in the description of this module.
        metrics: Names of the metrics that the run has.

    Raises:
        ConfigError: If the text has another form, a number cannot be read, the range is empty
            or the metric is unknown (the nearest name is given).
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise ConfigError("bar", "METRIC<=VALUE, METRIC>=VALUE or METRIC=LOW..HIGH", text, _WRITE)
    metric, sign, value = found["metric"], found["sign"], found["value"]
    if metric not in metrics:
        near = difflib.get_close_matches(metric, list(metrics), n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are {', '.join(sorted(metrics))}."
        raise ConfigError("bar", "a metric of the run", metric, hint)
    if sign == "=":
        low, dots, high = value.partition("..")
        if not dots:
            raise ConfigError("bar", "a range LOW..HIGH after =", text, _WRITE)
        lower, upper = _number(low, text), _number(high, text)
        if not lower < upper:
            raise ConfigError("bar", "LOW below HIGH", text, "Swap the two numbers.")
        return Bar(metric, lower, upper)
    relative = _RELATIVE.fullmatch(value)
    end = _number(relative["factor"] if relative else value, text)
    if relative and not end > 0:
        raise ConfigError("bar", "a positive factor of the best", text, "Use 1.1*best.")
    ends = (-inf, end) if sign == "<=" else (end, inf)
    return Bar(metric, *ends, relative=relative is not None)


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = inf
    if not isfinite(value):
        raise ConfigError("bar", "a finite number", f"{word.strip()!r} in {text!r}", _WRITE)
    return value
