"""Forecasts of the latent ODE over encoded scans: volumes to come, and latents to decode.

Parameters: an equal mixture of members, each from weights and validation subjects of its own.
Initial state of a subject: draws of q(s(t₁) | visits). A volume is read from the latents: where
the first latent means the log volume, from that one; else by ridge regression on the latents of
the visits that the member was trained on, vanished lesions left-censored. To the draws ŷ comes
what they miss of new subjects' y:

    y = ŷ + s t_n,   s² = mean over n subjects of (y − E ŷ)² − Var ŷ

The n subjects are those that some member was not trained on, each counting once: the validation
subjects, which decided when training stopped and nothing else. Of few, s is known badly; therefore
the noise is Student's t of n degrees of freedom: exact for normal errors of draws that are alike,
and wide rather than narrow where the draws differ.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from latens.data import VolumeSeries
from latens.data.latent_series import LatentSeries
from latens.distributions import NoiseStream, draw
from latens.errors import DataError
from latens.inference.forecasting.censored_ridge import censored_ridge
from latens.inference.forecasting.forecast import Forecast, Target, patient_noise, prefixes
from latens.inference.forecasting.members import DEFAULT_TRAINING, MemberForecaster
from latens.inference.forecasting.support import BAND_PATIENTS, few_patients, reach_of
from latens.models.scan_ode import EncodedVisits, ScanODE
from latens.models.visits import usual_gap
from latens.nets.ode import Gradient
from latens.training import Training

_LEAST_SPREAD = 0.01
"""Of what a forecast misses, log volume."""
_RIDGE = 1.0
"""Penalty of the regression of log volumes on latents, in units of the prior's variance."""


class ScanODEForecaster(MemberForecaster[ScanODE]):
    """Latent ODE over encoded scans with its members.

    Args:
        scans: Encoded visits of all subjects that it will be fitted to or forecast.
        target: Which visit is forecast.
        members: Fits that are mixed.
        hidden: Latents that no scan shows.
        width: Hidden units of the networks.
        steps: Steps of the solver between two visits.
        gradient: How gradients of the solution are taken.
        timed: Whether the field sees the time since the first visit.
        training: Budget of each fit.
    """

    label = "latent ODE of scans"

    def __init__(
        self,
        scans: LatentSeries,
        target: Target = "next",
        *,
        members: int = 3,
        hidden: int = 4,
        width: int = 32,
        steps: int = 1,
        gradient: Gradient = "backprop",
        timed: bool = False,
        training: Training = DEFAULT_TRAINING,
    ) -> None:
        super().__init__(target, members, training)
        self.scans = scans
        self.aligned = scans.volume_units is not None
        self.networks: dict[str, Any] = {
            "hidden": hidden,
            "width": width,
            "steps": steps,
            "gradient": gradient,
            "timed": timed,
        }
        self.unit, self.log_limit = 1.0, 0.0
        self.reading = torch.zeros(members, scans.dim + 1, dtype=torch.float64)
        self.spread, self.band_patients = 0.0, 0

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Train every member on the encoded visits of these patients.

        Raises:
            DataError: If there are fewer than eight patients, or one was not encoded.
            NumericalError: If a loss is not finite.
        """
        self.require_enough(series)
        self.unit, self.log_limit = usual_gap(series), series.log_limit
        held = self.train(self._encoded(series, torch.float32).packed(), seed)
        for model in self.models:
            model.ode.reach.fill_(reach_of(series, self.unit))
        readings, missed = [], {}
        for model, rows in zip(self.models, held, strict=True):
            others = np.setdiff1d(np.arange(len(series)), rows.numpy())
            readings.append(self._fit_reading(series.take(others)))
            for patient, excess in self._missed(model, readings[-1], series.take(rows)):
                missed.setdefault(patient, []).append(excess)
        if not missed:
            raise DataError("series", "subjects with two visits or more", "too few", "Add visits.")
        self.reading = torch.stack(readings)
        self.band_patients = len(missed)
        of_patients = [sum(own) / len(own) for own in missed.values()]
        self.spread = math.sqrt(max(sum(of_patients) / len(of_patients), _LEAST_SPREAD**2))

    def new_model(self, visits: int) -> ScanODE:
        """An untrained member for series of that many visits."""
        return ScanODE(visits, self.scans.dim, limit=self._limit(), **self.networks)

    def _limit(self) -> float | None:
        """Limit of detection in units of the first latent, if that means a volume."""
        if self.scans.volume_units is None:
            return None
        loc, scale = self.scans.volume_units
        return (self.log_limit - loc) / scale

    def _encoded(self, series: VolumeSeries, dtype: torch.dtype) -> EncodedVisits:
        """The encoded visits that a set of series consists of, whole or the first of them."""
        count, length = series.mask.shape
        loc = torch.zeros(count, length, self.scans.dim, dtype=dtype)
        variance = torch.ones_like(loc)
        vanished = torch.zeros_like(series.mask)
        for b, patient in enumerate(series.patients):
            rows = self.scans.rows(patient)[: int(series.visits[b])]
            loc[b, : len(rows)] = self.scans.loc[rows].to(dtype)
            variance[b, : len(rows)] = self.scans.variance[rows].to(dtype)
            if self.aligned:  # measured to be so small, and not read so from the latent itself
                small = series.volumes[b, : len(rows)] < series.limit
                vanished[b, : len(rows)] = small & ~self.scans.log_volumes[rows].isnan()
        since = torch.where(series.mask, (series.times - series.times[:, :1]) / self.unit, 0.0)
        return EncodedVisits(loc, variance, since.to(dtype), series.mask, vanished)

    def _fit_reading(self, series: VolumeSeries) -> Tensor:
        """Weights `(dim,)` and offset of a log volume read from latents, `(dim + 1,)`."""
        found = torch.zeros(self.scans.dim + 1, dtype=torch.float64)
        if self.scans.volume_units is not None:
            found[-1], found[0] = self.scans.volume_units
            return found
        z = self._encoded(series, torch.float64).loc[series.mask]
        y, vanished = series.log_volumes[series.mask], (series.volumes < series.limit)[series.mask]
        found[:-1], found[-1] = censored_ridge(z, y, vanished, series.log_limit, _RIDGE)
        return found

    def _read(self, states: Tensor, reading: Tensor) -> Tensor:
        """Log volumes of states `(…, dim + hidden)`, `(…)`."""
        return states[..., : self.scans.dim] @ reading[:-1] + reading[-1]

    @torch.no_grad()
    def _missed(
        self, model: ScanODE, reading: Tensor, series: VolumeSeries
    ) -> list[tuple[str, float]]:
        """Squared error of the forecasts of validation subjects, the mean over the visits that are
        forecast, less the variance of their draws; both of what is left of them above the limit of
        detection.
        """
        found: dict[str, list[float]] = {}
        for history, times, truth in prefixes(series, self.target, 2):
            visits = self._encoded(history, torch.float64)
            shape = (64, len(history), model.dim + model.hidden)
            first = draw(model.posterior(visits), NoiseStream(0).normal(shape, torch.float64))
            ahead = self._ahead(visits, history, times)
            path = model.path(first, ahead)[..., -1, :]
            logs = self._read(path, reading).clamp(min=history.log_limit)  # (S, B)
            excess = (logs.mean(0) - truth[:, 0]).square() - logs.var(0)
            for patient, value in zip(history.patients, excess.tolist(), strict=True):
                found.setdefault(patient, []).append(value)
        return [(patient, sum(own) / len(own)) for patient, own in found.items()]

    def _ahead(self, visits: EncodedVisits, history: VolumeSeries, times: Tensor) -> Tensor:
        """Times since the first visit of earlier visits and forecasts, `(B, T + H)`: the solver
        makes its steps between all of them.
        """
        since = (times - history.times[:, :1]) / self.unit
        return torch.cat([visits.since, since.to(visits.since)], 1)

    def numbers(self) -> dict[str, Tensor]:
        """How volumes are read, the unit of time, and the number of visits."""
        return {
            "scalars": torch.tensor(
                [self.spread, self.band_patients, self.unit, self.visits], dtype=torch.float64
            ),
            "reading": self.reading,
        }

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over how volumes are read, and the unit of time."""
        reading = tensors["reading"]
        if reading.shape != self.reading.shape:
            raise ValueError(f"shape {tuple(reading.shape)}")
        self.spread, count, self.unit, _ = tensors["scalars"].tolist()
        self.reading, self.band_patients = reading, int(count)

    @property
    def doubts(self) -> str:
        """That too few subjects tell the spread of its bands, if so."""
        return few_patients(self.band_patients)

    @torch.no_grad()
    def latents(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Tensor:
        """Draws of z at later times, the path and not what scatters about it,
        `(M, B, H, dim)`, float64.

        Args:
            history: Earlier visits of B patients that were encoded.
            times: Times to forecast, `(B, H)`, after the last visit and increasing.
            keys: One integer per patient that names the random numbers.
            seed: Key of the random numbers.
            draws: M.
        """
        self.require_trained()
        visits = self._encoded(history, torch.float64)
        ahead = self._ahead(visits, history, times)
        size = self.scans.dim + self.models[0].hidden
        noise = patient_noise(seed, keys, (draws, size))
        pieces = []
        for model, block in zip(self.models, noise.tensor_split(len(self.models)), strict=True):
            first = draw(model.posterior(visits), block)
            path = model.path(first, ahead)[..., -times.shape[1] :, :]
            pieces.append(path[..., : self.scans.dim])
        return torch.cat(pieces)

    @torch.no_grad()
    def scan_latents(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Tensor:
        """Draws of the latents of scans at later times, N(z(t), diag r²), `(M, B, H, dim)`.

        Args:
            history, times, keys, seed, draws: As for `latents`.
        """
        path = self.latents(history, times, keys, seed, draws)
        noise = patient_noise(seed + 2, keys, (draws, times.shape[1], self.scans.dim))
        size = len(self.models)
        return torch.cat(
            [
                part + model.spread * own
                for model, part, own in zip(
                    self.models, path.tensor_split(size), noise.tensor_split(size), strict=True
                )
            ]
        )

    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Volumes that would be measured; what measuring misses is drawn for every time anew."""
        z = self.latents(history, times, keys, seed, draws)
        noise = patient_noise(seed + 1, keys, (draws, times.shape[1]))
        missed = self.spread * students(noise, self.band_patients)
        parts = z.tensor_split(len(self.models))
        read = [self._read(*both) for both in zip(parts, self.reading, strict=True)]
        visits = self._encoded(history, torch.float64)
        ahead = self._ahead(visits, history, times)
        error = max(
            float(model.halving_error(model.posterior(visits).mean, ahead).max())
            for model in self.models
        )
        diagnostics = {
            "largest_halving_error": error,
            "members_converged": self.members_converged,
            BAND_PATIENTS: self.band_patients,
        }
        logs = (torch.cat(read) + missed).clamp(min=history.log_limit)
        return Forecast(logs, history.log_limit, diagnostics)


def students(normal: Tensor, freedom: int) -> Tensor:
    """Student's t with so many degrees of freedom, from standard normal noise of any shape."""
    tail = torch.special.log_ndtr(-normal.abs()).exp()  # `ndtr` is 0 from −9 on
    return torch.from_numpy(stats.t.isf(tail.numpy(), freedom)).copysign(normal)
