"""Amortised posteriors: one pass of a network, then as many draws as wanted."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions import draw, row_noise
from latens.inference.estimates import Draws, Posterior
from latens.inference.solver import Solver
from latens.models import Latent, LatentModel
from latens.problems import GaussianNoise, InverseProblem, LinearOperator, condition
from latens.problems.innovation import GeneralInnovation
from latens.store import Status

# 2 is the noise of simulated measurements, and 3 the choice of a member of an ensemble.
LATENT_NOISE, SIGNAL_NOISE, MEASUREMENT_NOISE = 0, 1, 4


class AmortisedPosterior(Posterior):
    """z ~ q(z | y), then x ~ p(x | z, y).

    With a decoder p(x | z) that has not seen y, a linear operator and Gaussian noise, x is drawn
    from p(x | z, y) in closed form (Matheron's rule), not from p(x | z): the measurement also
    speaks about what the latents cannot express.

    Attributes:
        latent: q(z | y), batch `(B,)`, event `(dim,)`.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        y: Tensor,
        keys: Sequence[int],
        seed: int,
        status: Status,
    ) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True, status=status)
        self.model = model
        self.problem = problem
        self.y = y
        self.latent: Distribution = model.latent_posterior(y)

    def _noise(self, purpose: int, count: int, shape: Sequence[int]) -> Tensor:
        key = (self.seed, purpose)
        return row_noise(key, self.keys, (count, *shape), self.y.dtype, self.y.device)

    def latent_draws(self, count: int) -> Tensor:
        """Draws of z, `(count, B, dim)`."""
        return draw(self.latent, self._noise(LATENT_NOISE, count, (self.model.dim,)))

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        """Draws of x with the moments of p(x | z, y)."""
        decoded = self.model.decode(self.latent_draws(count), self.y)  # batch (M, B)
        noise = self._noise(SIGNAL_NOISE, count, self.model.signal_shape)
        if not conditions_on_measurement(self.model, self.problem):
            return Draws(draw(decoded, noise), decoded.mean, decoded.variance)
        assert self.problem is not None
        shape = self.problem.measurement_shape
        given = condition(decoded.mean, _collapsed(decoded), self.y, self.problem)
        values = given.draw(noise, self._noise(MEASUREMENT_NOISE, count, shape))
        if isinstance(given.innovation, GeneralInnovation):  # its variance is a dense matrix
            return Draws(values, values, torch.zeros((), dtype=values.dtype))
        return Draws(values, given.mean, given.variance)


def conditions_on_measurement(model: LatentModel, problem: InverseProblem | None) -> bool:
    """True if p(x | z, y) is drawn in closed form rather than read from the decoder."""
    return (
        isinstance(model, Latent)
        and problem is not None
        and isinstance(problem.operator, LinearOperator)
        and isinstance(problem.noise, GaussianNoise)
    )


def _collapsed(decoded: Distribution) -> Tensor:
    """Variance of the decoder, of length 1 along its spatial axes, or all, where it is constant.

    Closed forms apply to such a variance that they have not for others.
    """
    variance, axes = decoded.variance, len(decoded.event_shape)
    for kept in (0, 1):
        corner = variance[(..., *[slice(None)] * kept, *[slice(0, 1)] * (axes - kept))]
        if bool((variance == corner).all()):
            return corner
    return variance


class Amortised(Solver):
    """Amortised posterior of a trained latent model.

    Args:
        model: Trained model.
        problem: Operator and noise, where they are known.
        status: Status of the fit, handed on to every estimate.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        status: Status = Status.CONVERGED,
    ) -> None:
        self.model = model.eval()
        self.problem = problem
        self.status = status

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> AmortisedPosterior:
        """Posterior of each measurement, `(B, *measurement_shape)`."""
        return AmortisedPosterior(self.model, self.problem, y, keys, seed, self.status)
