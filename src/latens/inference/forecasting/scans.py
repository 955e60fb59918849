"""Forecasts of the latent ODE over encoded scans: volumes to come, and latents to decode.

Parameters: an equal mixture of members, each from weights and validation subjects of its own.
Initial state of a subject: draws of q(s(t₁) | visits). A volume is read from the latents: where
the first latent means the log volume, from that one; else by ridge regression on the latents of
the visits that the member was trained on. What such forecasts miss on its validation subjects is
added as normal noise.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.data.latent_series import LatentSeries
from latens.distributions import NoiseStream, draw
from latens.inference.forecasting.forecast import Forecast, Target, patient_noise
from latens.inference.forecasting.members import DEFAULT_TRAINING, MemberForecaster
from latens.inference.forecasting.support import reach_of
from latens.models.scan_ode import EncodedVisits, ScanODE
from latens.models.visits import usual_gap
from latens.nets.ode import Gradient
from latens.training import Training

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
        }
        self.unit = 1.0
        self.reading = torch.zeros(members, scans.dim + 1, dtype=torch.float64)
        self.spread = torch.zeros(members, dtype=torch.float64)

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Train every member on the encoded visits of these patients.

        Raises:
            DataError: If there are fewer than eight patients, or one was not encoded.
            NumericalError: If a loss is not finite.
        """
        self.require_enough(series)
        self.unit = usual_gap(series)
        held = self.train(self._encoded(series, torch.float32).packed(), seed)
        for model in self.models:
            model.ode.reach.fill_(reach_of(series, self.unit))
        readings, missed = [], []
        for model, rows in zip(self.models, held, strict=True):
            others = np.setdiff1d(np.arange(len(series)), rows.numpy())
            readings.append(self._fit_reading(series.take(others)))
            missed.append(self._missed(model, readings[-1], series.take(rows)))
        self.reading = torch.stack(readings)
        self.spread = torch.tensor(missed, dtype=torch.float64)

    def new_model(self, visits: int) -> ScanODE:
        """An untrained member for series of that many visits."""
        return ScanODE(visits, self.scans.dim, aligned=self.aligned, **self.networks)

    def _encoded(self, series: VolumeSeries, dtype: torch.dtype) -> EncodedVisits:
        """The encoded visits that a set of series consists of, whole or the first of them."""
        count, length = series.mask.shape
        loc = torch.zeros(count, length, self.scans.dim, dtype=dtype)
        variance = torch.ones_like(loc)
        for b, patient in enumerate(series.patients):
            rows = self.scans.rows(patient)[: int(series.visits[b])]
            loc[b, : len(rows)] = self.scans.loc[rows].to(dtype)
            variance[b, : len(rows)] = self.scans.variance[rows].to(dtype)
        since = torch.where(series.mask, (series.times - series.times[:, :1]) / self.unit, 0.0)
        return EncodedVisits(loc, variance, since.to(dtype), series.mask)

    def _fit_reading(self, series: VolumeSeries) -> Tensor:
        """Weights `(dim,)` and offset of a log volume read from latents, `(dim + 1,)`."""
        found = torch.zeros(self.scans.dim + 1, dtype=torch.float64)
        if self.scans.volume_units is not None:
            found[-1], found[0] = self.scans.volume_units
            return found
        z = self._encoded(series, torch.float64).loc[series.mask]
        y = series.log_volumes[series.mask]
        centred, middle = z - z.mean(0), y.mean()
        gram = centred.mT @ centred + _RIDGE * torch.eye(self.scans.dim, dtype=torch.float64)
        found[:-1] = torch.linalg.solve(gram, centred.mT @ (y - middle))
        found[-1] = middle - z.mean(0) @ found[:-1]
        return found

    def _read(self, states: Tensor, reading: Tensor) -> Tensor:
        """Log volumes of states `(…, dim + hidden)`, `(…)`."""
        return states[..., : self.scans.dim] @ reading[:-1] + reading[-1]

    @torch.no_grad()
    def _missed(self, model: ScanODE, reading: Tensor, series: VolumeSeries) -> float:
        """Root mean square error of a forecast of the last visit of validation subjects, less
        the spread of its own draws; both of what is left of them above the limit of detection.
        """
        history, times, truth = series.split_last()
        visits = self._encoded(history, torch.float64)
        noise = NoiseStream(0).normal((64, len(history), model.dim + model.hidden), torch.float64)
        first = draw(model.posterior(visits), noise)
        ahead = self._ahead(visits, history, times)
        path = model.path(first, ahead)[..., -1, :]
        logs = self._read(path, reading).clamp(min=history.log_limit)  # (S, B)
        excess = (logs.mean(0) - truth[:, 0]).square().mean() - logs.var(0).mean()
        return math.sqrt(max(float(excess), 1e-4))

    def _ahead(self, visits: EncodedVisits, history: VolumeSeries, times: Tensor) -> Tensor:
        """Times since the first visit of earlier visits and forecasts, `(B, T + H)`: the solver
        makes its steps between all of them.
        """
        since = (times - history.times[:, :1]) / self.unit
        return torch.cat([visits.since, since.to(visits.since)], 1)

    def numbers(self) -> dict[str, Tensor]:
        """How volumes are read, the unit of time, and the number of visits."""
        return {
            "scalars": torch.tensor([self.unit, self.visits], dtype=torch.float64),
            "reading": self.reading,
            "spread": self.spread,
        }

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over how volumes are read, and the unit of time."""
        reading, spread = tensors["reading"], tensors["spread"]
        if reading.shape != self.reading.shape or spread.shape != self.spread.shape:
            raise ValueError(f"shapes {tuple(reading.shape)} and {tuple(spread.shape)}")
        self.unit, _ = tensors["scalars"].tolist()
        self.reading, self.spread = reading, spread

    @torch.no_grad()
    def latents(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Tensor:
        """Draws of the latents at later times, `(M, B, H, dim)`, float64.

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

    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Volumes that would be measured; what measuring misses is drawn for every time anew."""
        z = self.latents(history, times, keys, seed, draws)
        noise = patient_noise(seed + 1, keys, (draws, times.shape[1]))
        parts = [
            self._read(part, reading) + spread * own
            for part, own, reading, spread in zip(
                z.tensor_split(len(self.models)),
                noise.tensor_split(len(self.models)),
                self.reading,
                self.spread,
                strict=True,
            )
        ]
        visits = self._encoded(history, torch.float64)
        ahead = self._ahead(visits, history, times)
        error = max(
            float(model.halving_error(model.posterior(visits).mean, ahead).max())
            for model in self.models
        )
        diagnostics = {
            "largest_halving_error": error,
            "members_converged": self.members_converged,
        }
        logs = torch.cat(parts).clamp(min=history.log_limit)
        return Forecast(logs, history.log_limit, diagnostics)
