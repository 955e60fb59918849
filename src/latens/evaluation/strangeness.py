"""How strange a measurement looks to a solver: scores and p-values of every image.

| score | higher = stranger | needs |
|---|---|---|
| `residual` | χ²/m of the reconstruction | operator and noise |
| `replicates` | χ²/m of draws, less that of measurements replicated from them | the same, draws |
| `latent_mean` | ‖E[z ∣ y]‖²/k | latents with a standard normal prior |
| `latent_tail` | −ln of the smaller tail of χ²_k at ‖z‖², mean over draws | the same |
| `evidence` | −ELBO of log p(y) / m, nats per element | `latent`, log p(y ∣ z) in closed form |
| `code` | ‖(μ_q(x̂, y) − μ_p(y))/σ_p(y)‖²/k, of q(z ∣ x̂, y) and p(z ∣ y) | `cvae` |
| `representation` | root mean square of x̂ − D(E(x̂)) | an encoder of x |
| `disagreement` | variance of the members' means / total variance | an ensemble |
| `spread` | root mean square standard deviation, signal units | a posterior |

`residual` and `replicates` are low where a measurement has *less* noise than expected, as a blank
or smoothed one has, and `evidence` is there, too; `latent_mean`, `code` and `spread` are low where
it has less structure, as behind a wider kernel, or looks clearer than any usual one, as inverted
contrast does to some networks. So detection takes these on either side of the usual images:
`TWO_SIDED` gives the scale on which the distance from their median counts, that of ratios for
those that cannot be negative. As an uncertainty, in risk-coverage curves, they are taken as they
are.

`evidence` is that of the model, log p(y) ≥ E_q(z|y)[log p(y | z) + log p(z) − log q(z | y)], by
the latents of the draws. `code` asks whether the latent that explains the reconstruction is one
that the prior of a `cvae` expects; its own draws of z are typical of p(z | y) whatever y is.

The others are strange on one side. `latent_tail` counts both tails of ‖z‖² already; a
reconstruction that the model gives back well, and members that agree, are what it knows. In the
six sweeps of docs/operators.md no shift had an AUROC of `latent_tail` or `representation` below
.32; those of `latent_mean` and `spread` went down to .10 on the upper side alone.

| p-value | null distribution | under an exact posterior |
|---|---|---|
| `p_plug_in` | χ²_m of the reconstruction's residual | far from uniform: x̂ was fitted to y |
| `p_predictive` | replicated y, averaged over draws | conservative, P(p ≤ a) ≤ 2a |
| `p_draw` | replicated y of a single draw | uniform on {1, …, M + 1}/(M + 1) |

All are against *larger* residuals. For an exact posterior one draw and y are distributed as signal
and measurement, so y and replicates from that draw are exchangeable; every other use of the draws
uses y twice.

References:
    Gelman, Meng, Stern (1996), Posterior predictive assessment of model fitness via realized
    discrepancies, Statistica Sinica 6.
    Meng (1994), Posterior predictive p-values, Annals of Statistics 22,
    https://doi.org/10.1214/aos/1176325622
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from latens.distributions import Purpose
from latens.inference import (
    CalibratedPosterior,
    EnsemblePosterior,
    Estimate,
    Posterior,
    Solver,
)
from latens.inference.amortised import AmortisedPosterior
from latens.inference.latent_posterior import LatentPosterior
from latens.metrics.reduction import event_mean
from latens.models import CVAE, Direct, Latent
from latens.problems import InverseProblem

Columns = dict[str, NDArray[np.float64]]
"""Name → one number per image, `(B,)`."""

Scoring = Callable[[Estimate, Tensor, InverseProblem | None], Columns]
"""`image_scores` or `strangeness`."""

SCORES = (
    "residual",
    "replicates",
    "latent_mean",
    "latent_tail",
    "evidence",
    "code",
    "representation",
    "disagreement",
    "spread",
)
P_VALUES = ("p_plug_in", "p_predictive", "p_draw")


def _ratio_scale(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # a blank measurement may leave no residual at all
        return np.log(np.maximum(values, 0.0))


TWO_SIDED: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "residual": _ratio_scale,
    "replicates": np.asarray,
    "latent_mean": _ratio_scale,
    "evidence": np.asarray,
    "code": _ratio_scale,
    "spread": _ratio_scale,
}
"""Scores that are strange on either side, and the scale on which their distances are taken."""


@torch.no_grad()
def image_scores(estimate: Estimate, y: Tensor, problem: InverseProblem | None) -> Columns:
    """The scores that need no replicated measurement, and so cost little beside the estimate.

    Args:
        estimate: Estimate of B measurements.
        y: The measurements, `(B, *measurement_shape)`.
        problem: Operator and noise that the solver was made for; None if they are unknown.

    Returns:
        Names of `SCORES` that apply, all but `replicates` → `(B,)`; what is not a number counts
        as infinitely strange. Empty for a point estimate without a problem.
    """
    inner = _inner(estimate)
    found: dict[str, Tensor] = {}
    if problem is not None:
        found["residual"] = problem.chi2(y, inner.mean)
    if isinstance(inner, Posterior):
        found["spread"] = event_mean(inner.variance).sqrt()
        found |= _of_members(inner)
    return _columns(found)


@torch.no_grad()
def strangeness(estimate: Estimate, y: Tensor, problem: InverseProblem | None) -> Columns:
    """Every score and p-value that applies to an estimate.

    Args:
        estimate: Estimate of B measurements.
        y: The measurements, `(B, *measurement_shape)`.
        problem: Operator and noise that the solver was made for; None if they are unknown.

    Returns:
        Names of `SCORES` and `P_VALUES` that apply → `(B,)`; what is not a number
        counts as infinitely strange, or as a p-value of 0.
    """
    columns, inner = image_scores(estimate, y, problem), _inner(estimate)
    if problem is None:
        return columns
    count = prod(problem.measurement_shape)
    tail = stats.chi2.sf(count * columns["residual"], count)  # 0 where that is infinite
    found = {"p_plug_in": torch.from_numpy(np.asarray(tail))}
    if isinstance(inner, Posterior):
        found |= _replicated(inner, y, problem)
    return columns | _columns(found)


class Listening(Solver):
    """A solver whose estimates are scored as they pass, so that each is computed once.

    Args:
        solver: The solver.
        problem: Operator and noise that it was made for; None if they are unknown.
        score: `image_scores` or `strangeness`.
    """

    def __init__(
        self,
        solver: Solver,
        problem: InverseProblem | None,
        score: Scoring,
    ) -> None:
        self.solver, self.problem, self.score = solver, problem, score
        self.heard: list[Columns] = []

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> Estimate:
        estimate = self.solver.solve(y, keys, seed)
        self.heard.append(self.score(estimate, y, self.problem))
        return estimate

    @property
    def columns(self) -> Columns:
        """Scores of all measurements so far, `(n,)` each."""
        return {name: np.concatenate([h[name] for h in self.heard]) for name in self.heard[0]}


def _inner(estimate: Estimate) -> Estimate:
    return estimate.base if isinstance(estimate, CalibratedPosterior) else estimate


def _columns(found: dict[str, Tensor]) -> Columns:
    columns = {name: value.double().numpy(force=True) for name, value in found.items()}
    return {
        name: np.where(np.isnan(value), np.inf if name in SCORES else 0.0, value)
        for name, value in columns.items()
    }


def _replicated(posterior: Posterior, y: Tensor, problem: InverseProblem) -> dict[str, Tensor]:
    draws = posterior.sample()  # (M, B, *signal)
    count = len(draws)
    noise = posterior.noise(Purpose.REPLICATE, count, problem.noise_shape, y)
    observed = problem.chi2(y, draws)  # (M, B)
    replicated = problem.chi2(problem.simulate(draws, noise), draws)  # (M, B)
    # The noise of the replicates may be the same as above: no number uses both.
    single = draws[:1].expand_as(draws)
    of_single = problem.chi2(problem.simulate(single, noise), single)  # (M, B)
    return {
        "replicates": (observed - replicated).mean(0),
        "p_predictive": (1 + (replicated >= observed).sum(0)) / (count + 1),
        "p_draw": (1 + (of_single >= observed[0]).sum(0)) / (count + 1),
    }


def _of_members(posterior: Posterior) -> dict[str, Tensor]:
    """Scores of latents and representation, averaged over the members of an ensemble."""
    if not isinstance(posterior, EnsemblePosterior):
        return _of_latents(posterior)
    means = torch.stack([member.mean for member in posterior.members])
    between = event_mean(means.var(0, correction=0))
    found = {"disagreement": between / event_mean(posterior.variance)}
    members = [_of_latents(member) for member in posterior.members]
    for name in members[0]:
        found[name] = torch.stack([member[name] for member in members]).mean(0)
    return found


def _of_latents(posterior: Posterior) -> dict[str, Tensor]:
    if not isinstance(posterior, LatentPosterior):
        return {}
    model, found = posterior.model, {}
    if isinstance(model, Latent | Direct):  # the prior of a CVAE is not standard, but p(z | y)
        z = posterior.latent_draws(len(posterior.draws.values))  # (M, B, k)
        found["latent_mean"] = z.mean(0).square().mean(-1)
        norm = z.double().square().sum(-1).numpy(force=True)  # (M, B)
        tails = [stats.chi2.logcdf(norm, model.dim), stats.chi2.logsf(norm, model.dim)]
        found["latent_tail"] = torch.from_numpy(-np.minimum(*tails).mean(0))
        measured = posterior.draws.log_measurement
        if measured is not None and isinstance(posterior, AmortisedPosterior):
            prior = model.standard_prior(z.shape[1], z)
            bound = measured + prior.log_prob(z) - posterior.latent.log_prob(z)  # (M, B)
            found["evidence"] = -bound.mean(0) / posterior.y[0].numel()
    if isinstance(model, Latent | CVAE):
        mean = posterior.mean
        encoded, prior = model.inference_pair(mean, posterior.y)
        again = model.decode(encoded.mean, posterior.y).mean
        found["representation"] = event_mean((mean - again).square()).sqrt()
        if isinstance(model, CVAE):
            found["code"] = ((encoded.mean - prior.mean) / prior.stddev).square().mean(-1)
    return found
