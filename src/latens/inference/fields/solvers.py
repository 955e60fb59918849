"""From readings of sensors to a field: the most probable one, Laplace's Gaussian, chains.

    z* = argmax log p(z | y)                         `FieldMAP`
    z | y ≈ N(z*, H⁻¹)                               `FieldLaplace`
    z ~ p(z | y) by HMC or NUTS                      `FieldChains`
    the same, weighted by p_solver / p_surrogate     `FieldImportance`

All fields of a batch move in lockstep.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.inference.estimates import PointEstimate, trusted_status
from latens.inference.fields.posterior import FieldPosterior, GaussianPositions
from latens.inference.fields.target import FieldTarget
from latens.inference.resampling import ImportanceWeights
from latens.inference.samplers import HMC, Chains, Kernel, Sampling, estimate_metric
from latens.inference.samplers.maximise import Maxima, gaussian_root, hessian, maximise
from latens.inference.samplers.metric import Shape as MetricShape
from latens.inference.solver import Solver
from latens.store import Status

if TYPE_CHECKING:
    from latens.inference.fields.amortised import FieldAmortised

Target = Callable[[Tensor], FieldTarget]
"""Density of the latents of readings `(B, m)`."""

_FIRST_METRIC = 64


class FieldMAP(Solver):
    """Field at the most probable position, in the coordinates of the target.

    Args:
        target: Density of readings.
        climbs: Starts per measurement, from the prior.
        adam_steps: Steps of Adam before L-BFGS.
        max_iterations: Bound on the iterations of L-BFGS.
        start: Positions to start from instead, `(B, k, dim)`, one row per measurement.
        status: Status of the fit.
    """

    def __init__(
        self,
        target: Target,
        status: Status = Status.CONVERGED,
        *,
        climbs: int = 8,
        adam_steps: int = 50,
        max_iterations: int = 200,
        start: Tensor | None = None,
    ) -> None:
        self.target, self.status, self.start = target, status, start
        self.climbs = climbs if start is None else start.shape[1]
        self.adam_steps, self.max_iterations = adam_steps, max_iterations

    def climb(self, y: Tensor, keys: Sequence[int], seed: int) -> tuple[FieldTarget, Maxima]:
        """Where all climbs ended, those of a measurement together, `(B climbs, dim)`."""
        target = self.target(y)
        if self.start is not None:
            begin = self.start
        else:
            begin = prior_positions(target, self.climbs, keys, seed)  # (B, climbs, dim)
        found = maximise(
            target.rows(self.climbs),
            begin.flatten(0, 1),
            max_iterations=self.max_iterations,
            adam_steps=self.adam_steps,
        )
        return target, found

    def maximum(self, y: Tensor, keys: Sequence[int], seed: int) -> tuple[FieldTarget, Maxima]:
        """The best maximum of each measurement, `(B, dim)`."""
        target, found = self.climb(y, keys, seed)
        return target, found.best_of(self.climbs)

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """One field per measurement: its mean given z* and the readings."""
        target, found = self.maximum(y, keys, seed)
        mean = field_mean(target, found.position[None])[0]
        status = trusted_status(self.status, found.converged)
        estimate = PointEstimate(mean, status, found.numbers)
        estimate.trusted = found.converged
        return estimate


class FieldLaplace(FieldMAP):
    """Laplace's approximation with the full Hessian at the best maximum.

    Where it is not positive definite there is no Gaussian: `trusted` is False there,
    `diagnostics["indefinite"]` counts them, and their draws have the spread of the prior along
    directions without curvature.

    Args:
        target, status, climbs, adam_steps, max_iterations, start: See `FieldMAP`.
        draws: Draws that are made.
    """

    def __init__(
        self,
        target: Target,
        status: Status = Status.CONVERGED,
        *,
        climbs: int = 8,
        adam_steps: int = 50,
        max_iterations: int = 200,
        start: Tensor | None = None,
        draws: int = 400,
    ) -> None:
        super().__init__(
            target,
            status,
            climbs=climbs,
            adam_steps=adam_steps,
            max_iterations=max_iterations,
            start=start,
        )
        self.draws = draws

    def gaussian(
        self, y: Tensor, keys: Sequence[int], seed: int
    ) -> tuple[FieldTarget, Maxima, Tensor, Tensor]:
        """Target, maxima, roots R with R Rᵀ = H⁻¹, `(B, dim, dim)`, and where H is indefinite."""
        target, found = self.maximum(y, keys, seed)
        root, indefinite = gaussian_root(hessian(target.rows(1), found.position))
        return target, found, root.to(y), indefinite

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> FieldPosterior:
        """Gaussian posterior of the latents of each measurement."""
        target, found, root, indefinite = self.gaussian(y, keys, seed)
        trusted = found.converged & ~indefinite
        status = trusted_status(self.status, trusted)
        numbers = {**found.numbers, "indefinite": float(indefinite.sum())}
        posterior = GaussianPositions(
            target, found.position, root, self.draws, keys, seed, status, numbers
        )
        posterior.trusted = trusted
        return posterior


class FieldChains(Solver):
    """HMC or NUTS from draws of Laplace's approximation, with its covariance as first metric.

    Args:
        target: Density of readings.
        kernel: Transition; default `HMC()`.
        chains: Chains per measurement.
        draws: Draws per chain.
        warmup: Transitions of warm-up.
        metric: What is learned about the posterior's shape.
        start: Where Laplace's approximation comes from; default one with default settings.
        spread: Standard deviations of Laplace's Gaussian by which the chains start apart.
        status: Status of the fit.
    """

    def __init__(
        self,
        target: Target,
        status: Status = Status.CONVERGED,
        *,
        kernel: Kernel | None = None,
        chains: int = 4,
        draws: int = 500,
        warmup: int = 200,
        metric: MetricShape = "dense",
        start: FieldLaplace | None = None,
        spread: float = 1.5,
    ) -> None:
        self.target, self.status = target, status
        self.kernel = kernel or HMC()
        self.chains, self.draws, self.warmup = chains, draws, warmup
        self.metric: MetricShape = metric
        self.start = start or FieldLaplace(target)
        self.spread = spread

    def run(self, y: Tensor, keys: Sequence[int], seed: int) -> tuple[FieldTarget, Chains]:
        """Chains of every measurement."""
        target, found, root, _ = self.start.gaussian(y, keys, seed)
        shape = (_FIRST_METRIC, target.dim)
        noise = row_noise((seed, Purpose.START), keys, shape, y.dtype, y.device)
        offsets = torch.einsum("bij,mbj->mbi", root, noise)  # (64, B, dim)
        begin = found.position + self.spread * offsets[: self.chains]
        run = Sampling(
            target.rows(self.chains),
            begin.transpose(0, 1).flatten(0, 1),
            self.kernel,
            problems=len(y),
            warmup=self.warmup,
            metric=self.metric,
            initial_metric=estimate_metric(offsets.transpose(0, 1)[None], "diagonal"),
            keys=keys,
            seed=seed,
        )
        return target, run.run(self.draws)

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> "ChainPosterior":
        """Posterior of each measurement, thinned to what its chains are worth."""
        target, chains = self.run(y, keys, seed)
        return ChainPosterior(target, chains, keys, seed, self.status)


class ChainPosterior(FieldPosterior):
    """Draws of Markov chains, thinned to their effective size.

    Attributes:
        chains: Everything that the sampler returned.
    """

    def __init__(
        self,
        target: FieldTarget,
        chains: Chains,
        keys: Sequence[int],
        seed: int,
        status: Status,
    ) -> None:
        self.chains = chains
        status = trusted_status(status, chains.trusted)
        super().__init__(target, chains.thinned, keys, seed, status, chains.numbers)
        self.trusted = chains.trusted

    @property
    def warnings(self) -> dict[int, tuple[str, ...]]:
        """What is wrong with each measurement that is not trusted, by its key."""
        return self.chains.warnings(self.keys)


class FieldImportance(Solver):
    """Draws of a posterior with the surrogate, weighted to that with the solver.

        log ω_s = log p(v_s | y) of the exact density − log-density that v_s was drawn from

    Proposals are the chains of the surrogate or Laplace's Gaussian, of the surrogate or of the
    solver itself. Weights are smoothed, and k̂ says whether they can be believed: below .7 the
    proposal covers the posterior.

    Args:
        proposal: Solver whose posterior is corrected.
        exact: Density with the solver as predictor, in the same coordinates.
        draws: Draws that are weighted, one solve each.
    """

    def __init__(
        self,
        proposal: "FieldLaplace | FieldChains | FieldAmortised",
        exact: Target,
        *,
        draws: int = 200,
    ) -> None:
        self.proposal, self.exact, self.draws = proposal, exact, draws

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> "WeightedPosterior":
        """Resampled posterior of each measurement."""
        return self.correct(self.proposal.solve(y, keys, seed))

    @torch.no_grad()
    def correct(self, posterior: FieldPosterior) -> "WeightedPosterior":
        """The posterior with the solver, from one with the surrogate."""
        keys, seed = posterior.keys, posterior.seed
        exact = self.exact(posterior.target.y)
        v = posterior.positions(self.draws).transpose(0, 1)  # (B, S, dim)
        log_weights = exact.of_positions(v) - posterior.log_density(v)
        mixed = posterior.trusted if isinstance(posterior, ChainPosterior) else None
        return WeightedPosterior(exact, v, log_weights.mT, keys, seed, posterior.status, mixed)


class WeightedPosterior(FieldPosterior):
    """Draws of a proposal, drawn again in proportion to their smoothed weights.

    Args:
        target: Density of the corrected posterior.
        positions: Draws of the proposal, `(B, S, dim)`.
        log_weights: `(S, B)`.
        mixed: Whether the proposal's chains can be believed, `(B,)`; None where it has none.

    Attributes:
        k: Pareto k̂ of each measurement, `(B,)`.
        size: Effective number of draws, 1/Σ ω², `(B,)`.
    """

    def __init__(
        self,
        target: FieldTarget,
        positions: Tensor,
        log_weights: Tensor,
        keys: Sequence[int],
        seed: int,
        status: Status,
        mixed: Tensor | None = None,
    ) -> None:
        weights = ImportanceWeights(log_weights)
        self.k, self.size = weights.k, weights.size
        chosen = weights.resampled(keys, seed, Purpose.START, len(log_weights))  # (S, B)
        pool = [positions[b, chosen[:, b]] for b in range(len(keys))]
        trusted = weights.trusted if mixed is None else weights.trusted & mixed
        status = trusted_status(status, trusted)
        super().__init__(target, pool, keys, seed, status, weights.numbers)
        self.trusted = trusted


def prior_positions(target: FieldTarget, count: int, keys: Sequence[int], seed: int) -> Tensor:
    """Draws of the prior in the coordinates of a target, `(B, count, dim)`."""
    width = target.model.dim + 1
    key, y = (seed, Purpose.START), target.y
    noise = row_noise(key, keys, (count, width), y.dtype, y.device).transpose(0, 1)
    with torch.no_grad():
        return target.position(noise[..., :-1], noise[..., -1:]).contiguous()


def field_mean(target: FieldTarget, v: Tensor) -> Tensor:
    """E[a | v, y] at positions `(M, B, dim)`, `(M, B, *signal_shape)`."""
    w = target.latents(v)
    mean = target.model.decode(w).mean
    if target.errors is None or target.model.values == "two-valued":
        return mean
    predicted = target.predict(w.flatten(0, 1)).unflatten(0, w.shape[:2])
    return mean + target.errors.expected(target.y - predicted, target.scales(v))[0]
