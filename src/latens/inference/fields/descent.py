"""Published estimates: the code that fits the readings best, whatever the prior says of it.

    β* = argmin ‖y − G(β)‖², by Adam from draws of the flow      `FieldDescent`
    β* = argmin ‖y − G(β)‖² among many draws of the flow         `FieldDraw`

Kept as baselines: without the prior it has no reason to stay where the decoders were trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.inference.estimates import PointEstimate
from latens.inference.fields.solvers import FieldMAP, Target, field_mean, prior_positions
from latens.inference.fields.target import FieldTarget, standard_log_prob
from latens.inference.samplers import LogDensity
from latens.inference.solver import Solver
from latens.store import Status


class FieldDescent(FieldMAP):
    """Field of the best fit to the readings over the box, from draws of the prior.

    A number of steps ends it, as published, so that it has no diagnosis: `trusted` is None.
    """

    def __init__(self, target, *, climbs: int = 8, adam_steps: int = 200) -> None:
        super().__init__(
            lambda y: LikelihoodAlone(target(y)),
            climbs=climbs,
            adam_steps=adam_steps,
            max_iterations=1,
        )

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """One field per measurement, neither trusted nor not."""
        estimate = super().solve(y, keys, seed)
        return PointEstimate(estimate.mean, self.status, estimate.diagnostics)


class FieldDraw(Solver):
    """Field of that one of many draws of the prior which fits the readings best.

    Args:
        target: Density of readings.
        draws: Draws of the prior per measurement.
    """

    def __init__(self, target: Target, *, draws: int = 1000) -> None:
        self.target, self.draws = target, draws
        self.status = Status.CONVERGED

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """One field per measurement, neither trusted nor not."""
        target = LikelihoodAlone(self.target(y))
        drawn = prior_positions(target, self.draws, keys, seed)  # (B, draws, dim)
        best = target.of_positions(drawn).argmax(1)  # (B,)
        chosen = drawn[torch.arange(len(y), device=y.device), best]
        return PointEstimate(field_mean(target, chosen[None])[0], self.status, {})


class LikelihoodAlone(FieldTarget):
    """Plain least squares as a density: no prior, no errors of the model, coordinates atanh β.

    Args:
        target: Density whose likelihood is taken.
    """

    def __init__(self, target: FieldTarget) -> None:
        super().__init__(
            target.model,
            target.predict,
            target.y,
            target.noise,
            coordinates="beta",
        )

    def rows(self, chains: int) -> LogDensity:
        """Log-likelihood of rows."""
        y, rest, scale = (
            value.repeat_interleave(chains, 0)
            for value in (self.readings.y, self.readings.rest, self.scale)
        )

        def density(v):
            # A hint of a prior keeps atanh β finite where the readings do not.
            hint = 1e-4 * standard_log_prob(v)
            return self.log_likelihood(v[:, : self.model.dim], y, rest, scale) + hint

        return density
