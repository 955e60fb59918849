"""The most probable latents, and the Gaussian around them.

    z* = argmax log p(z, y)                          `LatentMAP`
    z | y ≈ N(z*, H⁻¹),  H = −∇² log p(z, y) at z*   `LatentLaplace`

A maximum of a density is not invariant: z* is the one in the latents' own units, where the prior
is N(0, I). Both climb from several starts and keep the best.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import Purpose
from latens.inference.estimates import PointEstimate, trusted_status
from latens.inference.latent_target import (
    LatentTarget,
    TargetName,
    TargetPosterior,
    latent_target,
)
from latens.inference.samplers.maximise import Maxima, gaussian_root, hessian, maximise
from latens.inference.solver import Solver
from latens.inference.starts import Start, starts
from latens.models import LatentModel
from latens.problems import InverseProblem
from latens.store import Status


class LatentMAP(Solver):
    """Reconstruction at the most probable latents: E[x | z*, y].

    Args:
        model: Trained `latent`.
        problem: Operator and noise.
        status: Status of the fit.
        target: Density that is maximised.
        climbs: Starts per measurement.
        start: Where they lie.
        max_iterations: Bound on the L-BFGS iterations of each.
        adam_steps: Steps of Adam before.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        status: Status = Status.CONVERGED,
        *,
        target: TargetName = "exact",
        climbs: int = 4,
        start: Start = "amortised",
        max_iterations: int = 300,
        adam_steps: int = 0,
    ) -> None:
        self.model = model.eval()
        self.problem = problem
        self.status = status
        self.target: TargetName = target
        self.climbs = climbs
        self.start: Start = start
        self.max_iterations = max_iterations
        self.adam_steps = adam_steps

    def maximum(self, y: Tensor, keys: Sequence[int], seed: int) -> tuple[LatentTarget, Maxima]:
        """The best maximum of each measurement, `(B, dim)`."""
        target = latent_target(self.model, self.problem, y, self.target)
        begin = starts(target, self.climbs, self.start, keys, seed)  # (B, climbs, dim)
        found = maximise(
            target.rows(self.climbs),
            begin.flatten(0, 1),
            max_iterations=self.max_iterations,
            adam_steps=self.adam_steps,
        )
        return target, found.best_of(self.climbs)

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """One reconstruction per measurement."""
        target, found = self.maximum(y, keys, seed)
        with torch.no_grad():
            mean = target.signal_mean(found.position[None])[0]
        status = trusted_status(self.status, found.converged)
        estimate = PointEstimate(mean, status, found.numbers)
        estimate.trusted = found.converged
        return estimate


class LatentLaplace(LatentMAP):
    """Laplace's approximation with the full Hessian.

    Where the Hessian is not positive definite the point is no maximum and there is no Gaussian:
    the status of the posterior is `unmixed`, `diagnostics["indefinite"]` counts the
    measurements, and in the directions of no or negative curvature their draws have the spread
    of the prior.
    """

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> "LaplacePosterior":
        """Gaussian posterior of the latents of each measurement."""
        target, found = self.maximum(y, keys, seed)
        root, indefinite = gaussian_root(hessian(target.rows(1), found.position))
        root = root.to(y.dtype)
        trusted = found.converged & ~indefinite
        status = trusted_status(self.status, trusted)
        numbers = {**found.numbers, "indefinite": float(indefinite.sum())}
        posterior = LaplacePosterior(target, found.position, root, keys, seed, status, numbers)
        posterior.trusted = trusted
        return posterior


class LaplacePosterior(TargetPosterior):
    """N(z*, H⁻¹) in the latents.

    Attributes:
        mode: z*, `(B, dim)`.
        root: R with R Rᵀ = H⁻¹, `(B, dim, dim)`.
    """

    def __init__(
        self,
        target: LatentTarget,
        mode: Tensor,
        root: Tensor,
        keys: Sequence[int],
        seed: int,
        status: Status,
        diagnostics: dict[str, float],
    ) -> None:
        super().__init__(target, keys, seed, status, diagnostics)
        self.mode, self.root = mode, root

    def positions(self, count: int) -> Tensor:
        """Draws of the position, `(count, B, dim)`."""
        noise = self.noise(Purpose.LATENT, count, (self.target.dim,), self.mode)
        return self.mode + torch.einsum("bij,mbj->mbi", self.root, noise)
