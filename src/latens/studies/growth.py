"""`growth`: how well can the next volume of a lesion be forecast, and can the band be believed?

Stage `ode`: series of volumes, or of scans that `latens encode` has turned into latents. Every
forecaster sees the same folds; patients stay whole.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from latens.data import (
    GrowthSimulation,
    SeriesFile,
    VolumeSeries,
    default_folds,
)
from latens.data.latent_series import LatentSeries
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
    ScanODEForecaster,
    Target,
)
from latens.inference.forecasting.hierarchical import Sampler
from latens.inference.forecasting.members import DEFAULT_TRAINING
from latens.nets.ode import Gradient
from latens.reporting.growth import REFERENCE
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
    "scan_ode",
]
SCANS = "scan_ode"
"""The forecaster that reads latents of scans; it is there where they are."""
STORED = ("hierarchical_gompertz", "latent_ode", SCANS)
"""Forecasters that are fitted to all patients for `latens forecast`, the best guess last."""


@dataclass(frozen=True)
class ODE:
    """Networks and solver of the latent ODEs.

    Args:
        dim: Latents of `latent_ode`, the log volume included.
        hidden: Latents of `scan_ode` that no scan shows.
        width: Hidden units of every network.
        steps: Steps of the solver between two visits.
        gradient: `backprop` through them, or `adjoint`.
        timed: Whether the field sees the time since the first visit.
    """

    dim: int = 5
    hidden: int = 4
    width: int = 32
    steps: int = 1
    gradient: Gradient = "backprop"
    timed: bool = False

    def settings(self, other: Literal["dim", "hidden"]) -> dict[str, Any]:
        """Those of a forecaster, without the size that is the other's."""
        return {name: value for name, value in asdict(self).items() if name != other}


class Growth:
    """Forecasts of volume series by cross-validation, and models for new patients.

    Args:
        stage: What is modelled: `ode`, volumes over time.
        data: Table of series; null for simulated ones.
        latents: File of `latens encode`, in place of a table: the volumes are those of its
            visits, and the latent ODE of scans is compared and stored too.
        simulation: Population that is simulated where there is neither.
        forecasters: What is compared.
        target: Which visit the comparison forecasts: the one that ends a series, with what is
            known of such visits, or the last one as if it were any.
        min_visits: Visits of a patient who is tested.
        folds: Number of folds; null for ten, or one patient each below sixty.
        members: Networks behind the latent ODE.
        sampler: How hierarchical Gompertz draws what is special about a patient: `importance`, or
            `nuts`, slower, for patients of few effective draws.
        conformal: Whether bands are also calibrated on patients that a forecaster has not seen,
            and shown beside those that are not.
        seed: Key of folds, fits and draws.
        training: Budget of each network of a latent ODE.
        ode: Its networks and solver.
    """

    name = "growth"

    def __init__(
        self,
        stage: Literal["ode"] = "ode",
        data: SeriesFile | None = None,
        latents: str | None = None,
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
        sampler: Sampler = "importance",
        conformal: bool = False,
        seed: int = 0,
        training: Training = DEFAULT_TRAINING,
        ode: ODE = ODE(),
    ) -> None:
        if REFERENCE not in forecasters or len(set(forecasters)) < len(forecasters):
            raise ConfigError(
                "forecasters",
                f"{REFERENCE}, with which the others are compared, and each name once",
                forecasters,
                f"Add {REFERENCE}, or leave out what is there twice.",
            )
        if data is not None and latents is not None:
            raise ConfigError("data, latents", "one of the two", "both", "Drop one.")
        if latents is not None and SCANS not in forecasters:
            forecasters = [*forecasters, SCANS]
        if latents is None and SCANS in forecasters:
            raise ConfigError(
                "forecasters", f"no {SCANS} without `latents`", forecasters, "Add --latents FILE."
            )
        for name, value, least in (("min_visits", min_visits, 3), ("seed", seed, 0)):
            if value < least:
                raise ConfigError(name, f"{least} or more", value, "Raise it.")
        self.stage = stage
        self.data = data
        self.latents = latents
        self.simulation = simulation
        self.forecasters = forecasters
        self.target: Target = target
        self.min_visits = min_visits
        self.folds = folds
        self.members = members
        self.sampler: Sampler = sampler
        self.conformal = conformal
        self.seed = seed
        self.training = training
        self.ode = ode

    @cached_property
    def series(self) -> VolumeSeries:
        """All patients; loaded once. A limit of detection that nobody stated is the smallest
        positive volume of the visits that are not forecast.

        Raises:
            DataError: If the table cannot be used.
        """
        if self.scans is not None:
            found = self.scans.volumes()
        elif self.data is not None:
            found = self.data.load()
        else:
            found = self.simulation.make(self.seed)[0]
        return found if self.limit_stated else found.limited_by_history(self.min_visits)

    @property
    def limit_stated(self) -> bool:
        """Whether the limit of detection was stated, and not read from the volumes."""
        if self.data is None:
            return self.latents is None
        return self.data.limit is not None

    @cached_property
    def scans(self) -> LatentSeries | None:
        """Latents of scans, if there are any; loaded once.

        Raises:
            DataError: If the file cannot be used.
        """
        return None if self.latents is None else LatentSeries.load(self.latents)

    @property
    def fold_count(self) -> int:
        """Number of folds."""
        return default_folds(len(self.series)) if self.folds is None else self.folds

    def maker(self, name: str, target: Target) -> Callable[[], Forecaster]:
        """How a forecaster of this study is made."""
        if name == SCANS:
            return lambda: self.scan_forecaster(self.scans, target)
        visits = self.min_visits
        makers: dict[str, Callable[[], Forecaster]] = {
            "last_value": lambda: LastValue(target, visits),
            "exponential": lambda: FittedCurve(EXPONENTIAL, target, visits),
            "logistic": lambda: FittedCurve(LOGISTIC, target, visits),
            "gompertz": lambda: FittedCurve(GOMPERTZ, target, visits),
            "mixed_effects": MixedEffects,
            "gaussian_process": GaussianProcess,
            "hierarchical_gompertz": lambda: HierarchicalGompertz(target, sampler=self.sampler),
            "latent_ode": lambda: LatentODEForecaster(
                target,
                members=self.members,
                training=self.training,
                **self.ode.settings("hidden"),
            ),
        }
        return makers[name]

    def scan_forecaster(self, scans: LatentSeries | None, target: Target) -> ScanODEForecaster:
        """The latent ODE of scans, for those of this study or for new ones."""
        if scans is None:
            raise ConfigError("latents", "a file of `latens encode`", None, "Add --latents FILE.")
        return ScanODEForecaster(
            scans,
            target,
            members=self.members,
            training=self.training,
            **self.ode.settings("dim"),
        )
