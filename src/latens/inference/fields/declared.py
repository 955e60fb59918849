"""The model that an inversion declares, simulated: latents, readings, and a noise level of each.

    z ~ N(0, I),   w = T(z),   y = G(w) + e + σ n,   e ~ N(ē, C),   n ~ N(0, I)
    σ = r · rms(G(w') + ē),   w' ~ p(w) of another field

σ is that of an unrelated field: were it of the same one, knowing it would say something about the
field that the posterior is not told. There is no term of the equation here (ρ = 0), so the prior
is N(0, I) and nothing is to be weighted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.inference.fields.errors import HeldOutErrors
from latens.inference.fields.sensors import Predictor
from latens.models.igno import IGNO


@dataclass(frozen=True, eq=False)
class DeclaredReadings:
    """Simulator of what `FieldTarget` takes the readings for.

    Args:
        model: Trained model.
        predict: G.
        errors: Errors of the prediction; None for none.
        ratio: r, noise level in units of the root mean square reading.
    """

    model: IGNO
    predict: Predictor
    errors: HeldOutErrors | None
    ratio: float

    @torch.no_grad()
    def simulate(self, count: int, stream: NoiseStream) -> tuple[Tensor, Tensor, Tensor]:
        """z, readings and σ of some fields, `(n, dim)`, `(n, m)` and `(n,)`.

        Args:
            count: n, 2 or more.
            stream: Source of every random number.
        """
        kind = next(self.model.parameters()).dtype
        z = stream.normal((count, self.model.dim), kind)
        y = self.predict(self.model.push(z))
        errors = self.errors
        if errors is not None:
            y = y + errors.bias
        scale = self.ratio * y.square().mean(1).sqrt().roll(1)  # of another field
        if errors is not None:
            weights = stream.normal((count, len(errors.variances)), kind)
            y = y + (weights * errors.variances.sqrt()) @ errors.directions.mT
            rest = stream.normal(tuple(y.shape), kind)
            across = rest - (rest @ errors.directions) @ errors.directions.mT
            y = y + errors.remainder**0.5 * across
        return z, y + scale[:, None] * stream.normal(tuple(y.shape), kind), scale
