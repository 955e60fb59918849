"""Sample-size laws: an error against the number of training samples. Arrays in, no torch."""

from latens.scaling.back_tests import BackTest, back_test
from latens.scaling.bars import DEFAULT_BARS, Bar, parse_bar
from latens.scaling.criteria import LAWS, best_law, law_criteria
from latens.scaling.error_scale import ErrorScale, error_scale
from latens.scaling.fit import Parameter, ScalingFit, fit_scaling, seed_table
from latens.scaling.forecasts import HORIZON, Forecast, forecast
from latens.scaling.log_slope import log_slope
from latens.scaling.plan import Answer, Extent, ImageError, answer, without_curve
from latens.scaling.same_size import SizeRange, SizeRatio, size_range, size_ratio

__all__ = [
    "DEFAULT_BARS",
    "HORIZON",
    "LAWS",
    "Answer",
    "BackTest",
    "Bar",
    "ErrorScale",
    "Extent",
    "Forecast",
    "ImageError",
    "Parameter",
    "ScalingFit",
    "SizeRange",
    "SizeRatio",
    "answer",
    "back_test",
    "best_law",
    "error_scale",
    "fit_scaling",
    "forecast",
    "law_criteria",
    "log_slope",
    "parse_bar",
    "seed_table",
    "size_range",
    "size_ratio",
    "without_curve",
]
