"""Forecasters of volume series: from earlier visits to readings to come."""

from latens.inference.forecasting.curves import EXPONENTIAL, GOMPERTZ, LOGISTIC, Curve
from latens.inference.forecasting.empirical import FittedCurve, LastValue, PointForecaster
from latens.inference.forecasting.forecast import FORECAST_DRAWS, Forecast, Forecaster, Target
from latens.inference.forecasting.gaussian import GaussianProcess, MixedEffects
from latens.inference.forecasting.hierarchical import HierarchicalGompertz
from latens.inference.forecasting.neural import LatentODEForecaster
from latens.inference.forecasting.scans import ScanODEForecaster

__all__ = [
    "EXPONENTIAL",
    "FORECAST_DRAWS",
    "GOMPERTZ",
    "LOGISTIC",
    "Curve",
    "FittedCurve",
    "Forecast",
    "Forecaster",
    "GaussianProcess",
    "HierarchicalGompertz",
    "LastValue",
    "LatentODEForecaster",
    "MixedEffects",
    "PointForecaster",
    "ScanODEForecaster",
    "Target",
]
