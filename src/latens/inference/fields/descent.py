"""The published estimate: the code that fits the readings best, whatever the prior says of it.

    β* = argmin ‖y − G(β)‖², by Adam from draws of the flow

Kept as a baseline: without the prior it has no reason to stay where the decoders were trained.
"""

from latens.inference.fields.solvers import FieldMAP
from latens.inference.fields.target import FieldTarget, standard_log_prob
from latens.inference.samplers import LogDensity


class FieldDescent(FieldMAP):
    """Field of the best fit to the readings over the box, from draws of the prior."""

    def __init__(self, target, *, climbs: int = 8, adam_steps: int = 200) -> None:
        super().__init__(
            lambda y: LikelihoodAlone(target(y)),
            climbs=climbs,
            adam_steps=adam_steps,
            max_iterations=1,
        )


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
