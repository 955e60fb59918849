"""Forecasts of the latent ODE.

Parameters of the networks: an equal mixture of members, each trained from weights and validation
patients of its own. Initial state of a patient: draws of q(ε | y), resampled with the weights
p(y, ε)/q(ε | y), so that an amortised q that is off changes the number of useful draws and not the
forecast.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError, DataError, LatensError
from latens.inference.forecasting.forecast import (
    Forecast,
    Forecaster,
    Target,
    log_volumes_of,
    patient_noise,
)
from latens.models.latent_ode import LatentODE
from latens.models.visits import Visits, usual_gap, visits_of
from latens.nets.ode import Gradient
from latens.store import Status
from latens.training import Training, fit_model

_POOL = 128
"""Draws of q(ε | y) per patient and member."""
_VALIDATION = 0.15
"""Share of the patients that decide when training stops."""

DEFAULT_TRAINING = Training(
    max_steps=180,
    batch_size=128,
    learning_rate=1e-2,
    warmup_steps=10,
    kl_warmup_steps=50,
    validate_every=20,
    patience=4,
)


class LatentODEForecaster(Forecaster):
    """Latent ODE with its members.

    Args:
        target: Which visit is forecast.
        dim: Latents.
        width: Hidden units of every network.
        steps: Steps of the solver between two visits.
        gradient: How gradients of the solution are taken.
        members: Fits that are mixed.
        training: Budget of each fit; default `DEFAULT_TRAINING`.

    Attributes:
        models: The trained members, float64.
        statuses: How each fit ended.
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
        members: int = 3,
        training: Training | None = None,
    ) -> None:
        super().__init__(target)
        if members < 1:
            raise ConfigError("members", "1 or more", members, "Use for example 3.")
        self.dim, self.width, self.steps = dim, width, steps
        self.gradient: Gradient = gradient
        self.members = members
        self.training = DEFAULT_TRAINING if training is None else training
        self.unit, self.log_limit = 1.0, 0.0
        self.models: list[LatentODE] = []
        self.statuses: list[Status] = []

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Train every member.

        Raises:
            DataError: If there are fewer than eight patients.
            NumericalError: If a loss is not finite.
        """
        count = len(series)
        if count < 8:
            raise DataError(
                "series", "at least 8 patients", count, "Use a classical curve for so few."
            )
        self.unit, self.log_limit = usual_gap(series), series.log_limit
        packed = self._visits(series, torch.float32, ended=self.target == "last").packed()
        self.models, self.statuses = [], []
        for member in range(self.members):
            order = NoiseStream(seed, member).permutation(count)
            kept = max(2, round(_VALIDATION * count))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_initial_seed(seed, member))
                model = self.new_model(packed.shape[1])
            validation, train = packed[order[:kept]], packed[order[kept:]]
            result = fit_model(
                model,
                (train, train),
                (validation, validation),
                self.training,
                _initial_seed(seed, member),
            )
            self.models.append(copy.deepcopy(model).double().eval())
            self.statuses.append(result.outcome.status)

    def new_model(self, visits: int) -> LatentODE:
        """An untrained member for series of that many visits."""
        return LatentODE(
            visits,
            dim=self.dim,
            width=self.width,
            steps=self.steps,
            gradient=self.gradient,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Weights of all members, and the units."""
        numbers = [self.unit, self.log_limit, self.models[0].signal_shape[0] if self.models else 0]
        found = {"scalars": torch.tensor(numbers, dtype=torch.float64)}
        for j, model in enumerate(self.models):
            found |= {f"{j}.{name}": value for name, value in model.state_dict().items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the weights of all members.

        Raises:
            DataError: If they are not those of such members.
        """
        try:
            unit, log_limit, visits = tensors["scalars"].tolist()
            models = []
            for j in range(self.members):
                model = self.new_model(int(visits)).double()
                prefix = f"{j}."
                model.load_state_dict(
                    {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                )
                models.append(model.eval())
        except (KeyError, ValueError, RuntimeError, LatensError) as error:
            raise DataError(
                "tensors",
                f"the weights of {self.members} latent ODEs with these settings",
                " ".join(str(error).split())[:200],
                "Fit the model again with this version.",
            ) from error
        self.unit, self.log_limit, self.models = unit, log_limit, models
        self.statuses = [Status.CONVERGED] * len(models)

    def _visits(self, series: VolumeSeries, dtype: torch.dtype, *, ended: bool) -> Visits:
        return visits_of(series, self.unit, self.log_limit, ended=ended, dtype=dtype)

    @torch.no_grad()
    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Readings, later ones given earlier ones of the same draw."""
        if not self.models:
            raise ConfigError(
                "forecaster", "a trained one", "one without members", "Call `fit` before."
            )
        visits = self._visits(history, torch.float64, ended=False)
        horizon = times.shape[1]
        noise = patient_noise(seed, keys, (draws, 1 + 3 * horizon))
        pool = patient_noise(seed + 1, keys, (len(self.models), _POOL, self.dim))
        since = torch.cat([history.last_times[:, None], times], 1) - history.times[:, :1]
        since = since / self.unit  # (B, 1 + H)
        last = (history.last_log_volumes - self.log_limit).clamp(min=0.0)
        pieces, sizes = [], []
        for j, (model, block) in enumerate(
            zip(self.models, noise.chunk(len(self.models)), strict=True)
        ):
            state, size = _states(model, visits, pool[j].transpose(0, 1), block[..., 0])
            sizes.append(size)
            pieces.append(self._simulate(model, state, visits, last, since, block[..., 1:]))
        levels = torch.cat(pieces)  # (M, B, H)
        error = max(float(model.halving_error(visits).max()) for model in self.models)
        diagnostics = {
            "smallest_effective_draws": float(torch.stack(sizes).min()),
            "median_effective_draws": float(torch.stack(sizes).median()),
            "largest_halving_error": error,
            "members_converged": sum(s is Status.CONVERGED for s in self.statuses)
            / len(self.models),
        }
        return Forecast(log_volumes_of(levels, last, history), self.log_limit, diagnostics)

    def _simulate(
        self,
        model: LatentODE,
        z: Tensor,
        visits: Visits,
        last: Tensor,
        since: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Levels to come, `(m, B, H)`, from states after the last visit `(m, B, dim)`."""
        rows = torch.arange(len(last))
        repeated = visits.repeated[rows, visits.mask.sum(1) - 1].to(z)
        read, found = last.expand(z.shape[:2]), []
        horizon = since.shape[1] - 1
        for h in range(horizon):
            gap = since[:, h + 1] - since[:, h]
            ends = torch.tensor(float(self.target == "last" and h == horizon - 1)).to(z)
            z = model.ode(z, since[:, h], since[:, h + 1])
            reading = model.reading(z, read, gap, repeated, ends, since[:, h + 1])
            value = draw(reading, noise[..., 3 * h : 3 * h + 3])
            z = model.jump(z, read, value, gap)
            repeated = ((value == read) & (value > 0)).to(z)
            found.append(value)
            read = value
        return torch.stack(found, -1)


def _initial_seed(seed: int, member: int) -> int:
    return 1000 * seed + member


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
    return chosen, 1 / share.square().sum(0)
