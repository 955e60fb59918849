"""`growth`: how well can the next volume of a lesion be forecast, and can the band be believed?

Stage `ode`: volume series alone. Every forecaster sees the same folds; patients stay whole.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal

from latens.data import (
    GrowthSimulation,
    SeriesFile,
    VolumeSeries,
    default_folds,
)
from latens.errors import ConfigError
from latens.inference.forecasting import (
    EXPONENTIAL,
    GOMPERTZ,
    LOGISTIC,
    FittedCurve,
    Forecaster,
    GaussianProcess,
    HierarchicalGompertz,
    LastValue,
    LatentODEForecaster,
    MixedEffects,
    Target,
)
from latens.inference.forecasting.neural import DEFAULT_TRAINING
from latens.training import Training

ForecasterName = Literal[
    "last_value",
    "exponential",
    "logistic",
    "gompertz",
    "mixed_effects",
    "gaussian_process",
    "hierarchical_gompertz",
    "latent_ode",
]
STORED = ("hierarchical_gompertz", "latent_ode")
"""Forecasters that are fitted to all patients for `latens forecast`, the best guess last."""
REFERENCE = "last_value"
"""What the others are compared with."""


class Growth:
    """Forecasts of volume series by cross-validation, and models for new patients.

    Args:
        stage: What is modelled: `ode`, volumes over time.
        data: Table of series; null for simulated ones.
        simulation: Population that is simulated where there is no table.
        forecasters: What is compared.
        target: Which visit the comparison forecasts: the one that ends a series, with what is
            known of such visits, or the last one as if it were any.
        min_visits: Visits of a patient who is tested.
        folds: Number of folds; null for ten, or one patient each below sixty.
        members: Networks behind the latent ODE.
        seed: Key of folds, fits and draws.
        training: Budget of each network.
    """

    name = "growth"

    def __init__(
        self,
        stage: Literal["ode"] = "ode",
        data: SeriesFile | None = None,
        simulation: GrowthSimulation = GrowthSimulation(),  # noqa: B008
        forecasters: list[ForecasterName] = [  # noqa: B006
            "last_value",
            "exponential",
            "logistic",
            "gompertz",
            "mixed_effects",
            "gaussian_process",
            "hierarchical_gompertz",
            "latent_ode",
        ],
        target: Target = "last",
        min_visits: int = 6,
        folds: int | None = None,
        members: int = 3,
        seed: int = 0,
        training: Training = DEFAULT_TRAINING,
    ) -> None:
        if REFERENCE not in forecasters or len(set(forecasters)) < len(forecasters):
            raise ConfigError(
                "forecasters",
                f"{REFERENCE}, with which the others are compared, and each name once",
                forecasters,
                f"Add {REFERENCE}, or leave out what is there twice.",
            )
        for name, value, least in (("min_visits", min_visits, 3), ("seed", seed, 0)):
            if value < least:
                raise ConfigError(name, f"{least} or more", value, "Raise it.")
        self.stage = stage
        self.data = data
        self.simulation = simulation
        self.forecasters = forecasters
        self.target: Target = target
        self.min_visits = min_visits
        self.folds = folds
        self.members = members
        self.seed = seed
        self.training = training

    @cached_property
    def series(self) -> VolumeSeries:
        """All patients; loaded once.

        Raises:
            DataError: If the table cannot be used.
        """
        if self.data is None:
            return self.simulation.make(self.seed)[0]
        return self.data.load()

    @property
    def fold_count(self) -> int:
        """Number of folds."""
        return default_folds(len(self.series)) if self.folds is None else self.folds

    def maker(self, name: str, target: Target) -> Callable[[], Forecaster]:
        """How a forecaster of this study is made."""
        visits = self.min_visits
        makers: dict[str, Callable[[], Forecaster]] = {
            "last_value": lambda: LastValue(target, visits),
            "exponential": lambda: FittedCurve(EXPONENTIAL, target, visits),
            "logistic": lambda: FittedCurve(LOGISTIC, target, visits),
            "gompertz": lambda: FittedCurve(GOMPERTZ, target, visits),
            "mixed_effects": MixedEffects,
            "gaussian_process": GaussianProcess,
            "hierarchical_gompertz": lambda: HierarchicalGompertz(target),
            "latent_ode": lambda: LatentODEForecaster(
                target, members=self.members, training=self.training
            ),
        }
        return makers[name]
