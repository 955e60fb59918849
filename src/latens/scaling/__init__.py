"""Sample-size laws: an error against the number of training samples. Arrays in, no torch."""

from latens.scaling.fit import Parameter, ScalingFit, fit_scaling

__all__ = ["Parameter", "ScalingFit", "fit_scaling"]
