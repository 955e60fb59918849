"""Forecasts of the latent ODE.

Parameters of the networks: an equal mixture of members, each trained from weights and validation
patients of its own. Initial state of a patient: draws of q(ε | y), resampled with the weights
p(y, ε)/q(ε | y), so that an amortised q that is off changes the number of useful draws and not the
forecast.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.distributions import draw
from latens.inference.forecasting.forecast import (
    Forecast,
    Target,
    log_volumes_of,
    patient_noise,
)
from latens.inference.forecasting.members import DEFAULT_TRAINING, MemberForecaster
from latens.inference.forecasting.support import FEW_DRAWS, few_draws, reach_of
from latens.metrics.importance import effective_size
from latens.models.latent_ode import LatentODE
from latens.models.visits import Visits, usual_gap, visits_of
from latens.nets.ode import Gradient
from latens.training import Training

_POOL = 128
"""Draws of q(ε | y) per patient and member."""
_REMEDY = "compare --forecaster hierarchical_gompertz"


class LatentODEForecaster(MemberForecaster[LatentODE]):
    """Latent ODE with its members.

    Args:
        target: Which visit is forecast.
        dim: Latents.
        width: Hidden units of every network.
        steps: Steps of the solver between two visits.
        gradient: How gradients of the solution are taken.
        timed: Whether the field sees the time since the first visit.
        members: Fits that are mixed.
        training: Budget of each fit.
    """

    label = "latent ODE"

    def __init__(
        self,
        target: Target = "next",
        *,
        dim: int = 5,
        width: int = 32,
        steps: int = 1,
        gradient: Gradient = "backprop",
        timed: bool = False,
        members: int = 3,
        training: Training = DEFAULT_TRAINING,
    ) -> None:
        super().__init__(target, members, training)
        self.dim, self.width, self.steps, self.timed = dim, width, steps, timed
        self.gradient: Gradient = gradient
        self.unit, self.log_limit = 1.0, 0.0

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Train every member.

        Raises:
            DataError: If there are fewer than eight patients.
            NumericalError: If a loss is not finite.
        """
        self.require_enough(series)
        self.unit, self.log_limit = usual_gap(series), series.log_limit
        visits = self._visits(series, torch.float32, ended=self.target == "last")
        self.train(visits.packed(), seed)
        for model in self.models:
            model.ode.reach.fill_(reach_of(series, self.unit))

    def new_model(self, visits: int) -> LatentODE:
        """An untrained member for series of that many visits."""
        return LatentODE(
            visits,
            dim=self.dim,
            width=self.width,
            steps=self.steps,
            gradient=self.gradient,
            timed=self.timed,
        )

    def numbers(self) -> dict[str, Tensor]:
        """Units of time and volume, and the number of visits."""
        found = [self.unit, self.log_limit, self.visits]
        return {"scalars": torch.tensor(found, dtype=torch.float64)}

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the units."""
        self.unit, self.log_limit, _ = tensors["scalars"].tolist()

    def _visits(self, series: VolumeSeries, dtype: torch.dtype, *, ended: bool) -> Visits:
        return visits_of(series, self.unit, self.log_limit, ended=ended, dtype=dtype)

    @torch.no_grad()
    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Readings, later ones given earlier ones of the same draw."""
        self.require_trained()
        visits = self._visits(history, torch.float64, ended=False)
        horizon = times.shape[1]
        noise = patient_noise(seed, keys, (draws, 1 + 3 * horizon))
        pool = patient_noise(seed + 1, keys, (len(self.models), _POOL, self.dim))
        since = torch.cat([history.last_times[:, None], times], 1) - history.times[:, :1]
        since = since / self.unit  # (B, 1 + H)
        last = (history.last_log_volumes - self.log_limit).clamp(min=0.0)
        pieces, sizes, errors = [], [], []
        for j, (model, block) in enumerate(
            zip(self.models, noise.tensor_split(len(self.models)), strict=True)
        ):
            state, size = _states(model, visits, pool[j].transpose(0, 1), block[..., 0])
            sizes.append(size)
            piece, error = self._simulate(model, state, visits, last, since, block[..., 1:])
            pieces.append(piece)
            errors.append(error)
        levels = torch.cat(pieces)  # (M, B, H)
        doubts = few_draws(torch.stack(sizes).amin(0), _REMEDY)
        diagnostics = {
            "smallest_effective_draws": float(torch.stack(sizes).min()),
            "median_effective_draws": float(torch.stack(sizes).median()),
            "largest_halving_error": max(errors),
            "members_converged": self.members_converged,
            FEW_DRAWS: float(sum(map(bool, doubts))),
        }
        values = log_volumes_of(levels, last, history)
        return Forecast(values, self.log_limit, diagnostics, doubts)

    def _simulate(
        self,
        model: LatentODE,
        z: Tensor,
        visits: Visits,
        last: Tensor,
        since: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, float]:
        """Levels to come, `(m, B, H)`, from states after the last visit `(m, B, dim)`, and by how
        much a state would differ, at most, if the steps of the solver were halved.
        """
        rows = torch.arange(len(last))
        repeated = visits.repeated[rows, visits.mask.sum(1) - 1].to(z)
        read, found, errors = last.expand(z.shape[:2]), [], []
        horizon = since.shape[1] - 1
        for h in range(horizon):
            gap = since[:, h + 1] - since[:, h]
            ends = torch.tensor(float(self.target == "last" and h == horizon - 1)).to(z)
            errors.append(float(model.ode.halving_error(z, since[:, h], since[:, h + 1]).max()))
            z = model.ode(z, since[:, h], since[:, h + 1])
            reading = model.reading(z, read, gap, repeated, ends, since[:, h + 1])
            value = draw(reading, noise[..., 3 * h : 3 * h + 3])
            z = model.jump(z, read, value, gap)
            repeated = ((value == read) & (value > 0)).to(z)
            found.append(value)
            read = value
        return torch.stack(found, -1), max(errors)


def _states(
    model: LatentODE, visits: Visits, pool: Tensor, choice: Tensor
) -> tuple[Tensor, Tensor]:
    """States after the last visit, `(m, B, dim)`, and the effective size of the pool, `(B,)`.

    Args:
        model: A member.
        visits: Earlier visits of B patients.
        pool: Standard normal noise, `(S, B, dim)`.
        choice: Standard normal noise that chooses from the pool, `(m, B)`.
    """
    posterior = model.posterior(visits)
    effects = draw(posterior, pool)  # (S, B, dim)
    log_likelihood, states = model.run(effects, visits)
    prior = model.prior(len(visits.level), effects)
    log_weights = log_likelihood + prior.log_prob(effects) - posterior.log_prob(effects)
    share = log_weights.softmax(0)  # (S, B)
    steps = share.cumsum(0).mT.contiguous()  # (B, S)
    place = torch.special.ndtr(choice).mT.contiguous() * steps[:, -1:]
    index = torch.searchsorted(steps, place).mT.clamp(max=len(states) - 1)  # (m, B)
    chosen = states.gather(0, index[..., None].expand(-1, -1, states.shape[-1]))
    return chosen, effective_size(log_weights)
