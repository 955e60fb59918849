"""Forecasts of the hierarchical Gompertz model.

The population parameters θ maximise the posterior

    log p(θ) + Σ_i log ∫ p(y_i | θ, ε) N(ε; 0, I) dε,

each integral by importance sampling at fixed points, first of the prior, then placed where the
patient's effects are. Their uncertainty is that of a normal at the maximum, its precision
the outer product of the patients' scores plus that of the prior. The effects of a new patient are
drawn from p(ε | y, θ) by importance resampling, or by NUTS, all patients in lockstep.

References:
    Pinheiro, Bates (1995), Approximations to the log-likelihood function in the nonlinear
    mixed-effects model, section 2.3, https://doi.org/10.1080/10618600.1995.10474663.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.distributions import draw
from latens.errors import ConfigError, DataError
from latens.inference.forecasting.forecast import (
    Forecast,
    Forecaster,
    Target,
    log_volumes_of,
    patient_noise,
    uniform_index,
)
from latens.inference.forecasting.points import Points, own_points, prior_points
from latens.inference.forecasting.support import FEW_DRAWS, few_draws
from latens.inference.samplers import NUTS, Sampling
from latens.inference.samplers.maximise import maximise
from latens.metrics.importance import effective_size
from latens.models.hierarchical_gompertz import (
    EFFECTS,
    POPULATION,
    Filter,
    log_prior,
    prior_start,
    run_filter,
)
from latens.models.visits import Visits, usual_gap, visits_of

Sampler = Literal["importance", "nuts"]
"""`importance`: resampling of weighted points; `nuts`: chains, slower, for what points miss."""
_RESAMPLED = 512
"""Points from which the effects of a new patient are drawn."""
_ITERATIONS, _TOLERANCE = 60, 1e-3
"""Of the last climb; nats over all patients together."""
_STEP = 1e-3


def log_marginals(theta: Tensor, visits: Visits, points: Points) -> Tensor:
    """log p(y_i | θ) of every patient, `(B,)` nats."""
    return (run_filter(theta, points.effects, visits)[0] + points.log_weights).logsumexp(0)


def _log_posterior(theta: Tensor, visits: Visits, points: Points) -> Tensor:
    return log_prior(theta) + log_marginals(theta, visits, points).sum()


def effects_density(theta: Tensor, visits: Visits, chains: int):
    """Unnormalised log p(ε | y, θ) of rows i K, …, i K + K − 1 for patient i, for samplers."""

    def log_density(rows: Tensor) -> Tensor:
        effects = rows.unflatten(0, (-1, chains)).transpose(0, 1)  # (K, B, 5)
        value = run_filter(theta, effects, visits)[0] - 0.5 * effects.square().sum(-1)
        return value.transpose(0, 1).flatten()

    return log_density


class HierarchicalGompertz(Forecaster):
    """Gompertz growth under treatment with effects of each patient; see the model.

    Args:
        target: Which visit is forecast.
        points: Points per patient of the integrals, a power of two.
        rounds: Fits, each with points placed by the one before; 1 uses points of the prior.
        parameter_draws: Draws of the population parameters behind a forecast.
        sampler: How the effects of a patient are drawn.
        chains: Chains per patient of NUTS.
        warmup: Transitions of its warm-up, and draws per chain after it.
    """

    label = "hierarchical Gompertz"

    def __init__(
        self,
        target: Target = "next",
        *,
        points: int = 16,
        rounds: int = 2,
        parameter_draws: int = 9,
        sampler: Sampler = "importance",
        chains: int = 4,
        warmup: int = 200,
    ) -> None:
        super().__init__(target)
        if points < 2 or points & (points - 1) or min(rounds, parameter_draws, chains) < 1:
            raise ConfigError(
                "points, rounds, parameter_draws, chains",
                "a power of two from 2 on, and 1 or more of the others",
                (points, rounds, parameter_draws, chains),
                "Use 16 points, 2 rounds, 9 draws and 4 chains.",
            )
        self.points, self.rounds, self.parameter_draws = points, rounds, parameter_draws
        self.sampler, self.chains, self.warmup = sampler, chains, warmup
        self.unit, self.log_limit = 1.0, 0.0
        self.theta = prior_start(torch.float64)
        self.spread = torch.zeros(len(POPULATION), len(POPULATION), dtype=torch.float64)
        self.converged = False

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Maximise the posterior of the population parameters."""
        self.unit, self.log_limit = usual_gap(series), series.log_limit
        visits, _ = self._sorted(series, ended=self.target == "last")
        theta = prior_start(torch.float64)
        points = prior_points(self.points, len(series), seed)
        for number in range(self.rounds):
            if number:
                points = own_points(theta, visits, self.points, seed + number)

            def log_density(rows: Tensor, points: Points = points) -> Tensor:
                return torch.stack([_log_posterior(row, visits, points) for row in rows])

            found = maximise(log_density, theta[None], max_iterations=_ITERATIONS)
            theta = found.position[0]
        # The last climb is in units of the uncertainty, where all directions are alike.
        factor = torch.linalg.cholesky(self._covariance(theta, visits, points))
        found = maximise(
            lambda rows: log_density(theta + rows @ factor.mT),
            torch.zeros_like(theta)[None],
            max_iterations=_ITERATIONS,
            tolerance=_TOLERANCE,
        )
        self.theta = theta + factor @ found.position[0]
        self.converged = bool(found.converged[0])
        self.spread = self._covariance(self.theta, visits, points)

    def tensors(self) -> dict[str, Tensor]:
        """Maximum and spread of the population parameters, and the units."""
        scalars = torch.tensor([self.unit, self.log_limit, self.converged], dtype=torch.float64)
        return {"theta": self.theta, "spread": self.spread, "scalars": scalars}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over parameters.

        Raises:
            DataError: If they are not those of this model.
        """
        size = len(POPULATION)
        shapes = {"theta": (size,), "spread": (size, size), "scalars": (3,)}
        if {name: tuple(value.shape) for name, value in tensors.items()} != shapes:
            raise DataError(
                "tensors",
                f"tensors of shapes {shapes}",
                {name: tuple(value.shape) for name, value in tensors.items()},
                "Fit the model again with this version.",
            )
        self.theta, self.spread = tensors["theta"], tensors["spread"]
        self.unit, self.log_limit = (float(v) for v in tensors["scalars"][:2])
        self.converged = bool(tensors["scalars"][2])

    def _covariance(self, theta: Tensor, visits: Visits, points: Points) -> Tensor:
        """(Σ_i s_i s_iᵀ + prior precision)⁻¹, s_i = ∂ log p(y_i | θ)/∂θ by central differences."""
        scores = []
        with torch.no_grad():
            for j in range(len(theta)):
                shift = torch.zeros_like(theta)
                shift[j] = _STEP
                high = log_marginals(theta + shift, visits, points)
                low = log_marginals(theta - shift, visits, points)
                scores.append((high - low) / (2 * _STEP))
        matrix = torch.stack(scores)  # (p, B)
        prior = torch.tensor([s**-2 for _, s in POPULATION.values()], dtype=torch.float64)
        return torch.linalg.inv(matrix @ matrix.mT + torch.diag(prior))

    def _sorted(self, series: VolumeSeries, *, ended: bool) -> tuple[Visits, Tensor]:
        order = series.visits.argsort(descending=True, stable=True)
        visits = visits_of(
            series.take(order), self.unit, self.log_limit, ended=ended, dtype=torch.float64
        )
        return visits, order

    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Readings, later ones given earlier ones of the same draw."""
        visits, order = self._sorted(history, ended=False)
        names = [keys[int(i)] for i in order]
        horizon = times.shape[1]
        noise = patient_noise(seed, names, (draws, 1 + 3 * horizon))  # (M, B, ·)
        since = torch.cat([history.last_times[:, None], times], 1) - history.times[:, :1]
        since = since[order] / self.unit  # (B, 1 + H)
        last = (history.last_log_volumes - self.log_limit).clamp(min=0.0)[order]
        pieces, sizes = [], []
        for block, theta in zip(
            noise.chunk(min(self.parameter_draws, draws)), self._parameters(seed), strict=False
        ):
            effects, size = self._effects(theta, visits, block[..., 0], names, seed)
            sizes.append(size)
            pieces.append(self._simulate(theta, effects, visits, last, since, block[..., 1:]))
        levels = torch.cat(pieces)  # (M, B, H)
        back = torch.argsort(order)
        values = log_volumes_of(levels[:, back], last[back], history)
        least = torch.stack(sizes).amin(0)[back]  # (B,)
        doubts = few_draws(least, self._remedy)
        diagnostics = {
            "converged": float(self.converged),
            "smallest_effective_points": float(least.min()),
            FEW_DRAWS: float(sum(map(bool, doubts))),
        }
        return Forecast(values, self.log_limit, diagnostics, doubts)

    @property
    def _remedy(self) -> str:
        if self.sampler == "importance":
            return "run the study with --sampler nuts"
        return "its chains have not mixed, compare another forecaster"

    def _parameters(self, seed: int) -> Tensor:
        """Draws of θ around its maximum, `(L, p)`."""
        if self.parameter_draws == 1:
            return self.theta[None]
        noise = patient_noise(seed, [2**40], (self.parameter_draws, len(self.theta)))[:, 0]
        factor = torch.linalg.cholesky_ex(self.spread)[0]
        return self.theta + noise @ factor.mT

    def _effects(
        self, theta: Tensor, visits: Visits, noise: Tensor, keys: Sequence[int], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Draws of ε given the visits of each patient, `(m, B, 5)`, and what they rest on."""
        if self.sampler == "nuts":
            pool, size = self._chains(theta, visits, keys, seed)
            index = uniform_index(noise, len(pool))
        else:
            points = own_points(theta, visits, _RESAMPLED, seed)
            with torch.no_grad():
                log_weights = run_filter(theta, points.effects, visits)[0] + points.log_weights
            pool, size = points.effects, effective_size(log_weights)
            steps = log_weights.softmax(0).cumsum(0).mT.contiguous()  # (B, S)
            place = torch.special.ndtr(noise).mT.contiguous() * steps[:, -1:]
            index = torch.searchsorted(steps, place).mT.clamp(max=len(pool) - 1)
        wide = index[..., None].expand(-1, -1, EFFECTS)
        return pool.gather(0, wide), size

    def _chains(
        self, theta: Tensor, visits: Visits, keys: Sequence[int], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Draws of all patients' chains, `(S K, B, 5)`, and their smallest bulk ESS, `(B,)`."""
        batch = len(visits.level)
        start = patient_noise(seed + 1, keys, (self.chains, EFFECTS))  # (K, B, 5)
        run = Sampling(
            effects_density(theta, visits, self.chains),
            0.5 * start.transpose(0, 1).flatten(0, 1),
            NUTS(max_depth=6),
            problems=batch,
            warmup=self.warmup,
            metric="diagonal",
            keys=keys,
            seed=seed,
        )
        chains = run.run(self.warmup)
        pool = chains.of_problems.flatten(0, 1)  # (S K, B, 5)
        return pool, chains.bulk_ess.min(1).values

    @torch.no_grad()
    def _simulate(
        self,
        theta: Tensor,
        effects: Tensor,
        visits: Visits,
        last: Tensor,
        since: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Levels to come, `(m, B, H)`."""
        state: Filter = run_filter(theta, effects, visits)[1]
        read, found = last.expand(effects.shape[:2]), []
        horizon = since.shape[1] - 1
        for h in range(horizon):
            gap = since[:, h + 1] - since[:, h]
            ends = torch.tensor(float(self.target == "last" and h == horizon - 1)).to(gap)
            reading = state.reading(read, since[:, h], gap, ends)
            value = draw(reading, noise[..., 3 * h : 3 * h + 3])
            state.observe(read, value)
            found.append(value)
            read = value
        return torch.stack(found, -1)
