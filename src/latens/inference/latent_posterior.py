"""Posteriors that draw latents first, and the signal from p(x | z, y) after."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions import Purpose, draw
from latens.inference.estimates import Draws, Posterior
from latens.models import Latent, LatentModel
from latens.problems import GaussianNoise, InverseProblem, LinearOperator, condition
from latens.problems.conditioning import ConditionedGaussian
from latens.problems.innovation import GeneralInnovation
from latens.store import Status


class LatentPosterior(Posterior):
    """z ~ p̂(z | y), then x ~ p(x | z, y).

    With a decoder p(x | z) that has not seen y, a linear operator and Gaussian noise, x is drawn
    from p(x | z, y) in closed form (Matheron's rule), not from p(x | z): the measurement also
    speaks about what the latents cannot express.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        y: Tensor,
        keys: Sequence[int],
        seed: int,
        status: Status,
        diagnostics: dict[str, float] | None = None,
    ) -> None:
        super().__init__(
            keys, seed, includes_decoder_spread=True, status=status, diagnostics=diagnostics
        )
        self.model = model
        self.problem = problem
        self.y = y

    @abstractmethod
    def latent_draws(self, count: int) -> Tensor:
        """Exchangeable draws of z, `(count, B, dim)`."""

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        """Draws of x with the moments of p(x | z, y)."""
        z = self.latent_draws(count)  # (M, B, dim)
        decoded = self.model.decode(z, self.y)  # batch (M, B)
        noise = self.noise(Purpose.SIGNAL, count, self.model.signal_shape, self.y)
        if not conditions_on_measurement(self.model, self.problem):
            return Draws(draw(decoded, noise), decoded.mean, decoded.variance)
        assert self.problem is not None
        shape = self.problem.measurement_shape
        given = given_measurement(decoded, self.y, self.problem)
        values = given.draw(noise, self.noise(Purpose.MEASUREMENT, count, shape, self.y))
        if isinstance(given.innovation, GeneralInnovation):  # its variance is a dense matrix
            return Draws(values, values, torch.zeros((), dtype=values.dtype))
        return Draws(values, given.mean, given.variance, given.marginal_log_prob)

    def mean_given(self, z: Tensor) -> Tensor:
        """Mean over draws of the signal, `loc` of `make_draws`, differentiable in z and y.

        Args:
            z: Latents, `(M, B, dim)`.
        """
        decoded = self.model.decode(z, self.y)
        if not conditions_on_measurement(self.model, self.problem):
            return decoded.mean.mean(0)
        assert self.problem is not None
        given = given_measurement(decoded, self.y, self.problem)
        if not isinstance(given.innovation, GeneralInnovation):
            return given.mean.mean(0)
        noise = self.noise(Purpose.SIGNAL, len(z), self.model.signal_shape, self.y)
        shape = self.problem.measurement_shape
        return given.draw(noise, self.noise(Purpose.MEASUREMENT, len(z), shape, self.y)).mean(0)


def conditions_on_measurement(model: LatentModel, problem: InverseProblem | None) -> bool:
    """True if p(x | z, y) is drawn in closed form rather than read from the decoder."""
    return (
        isinstance(model, Latent)
        and problem is not None
        and isinstance(problem.operator, LinearOperator)
        and isinstance(problem.noise, GaussianNoise)
    )


def given_measurement(
    decoded: Distribution, y: Tensor, problem: InverseProblem
) -> ConditionedGaussian:
    """p(x | z, y) of a Gaussian decoder and a linear-Gaussian problem."""
    return condition(decoded.mean, collapsed_variance(decoded), y, problem)


def collapsed_variance(decoded: Distribution) -> Tensor:
    """Variance of the decoder, of length 1 along its spatial axes, or all, where it is constant.

    Closed forms apply to such a variance that they have not for others.
    """
    variance, axes = decoded.variance, len(decoded.event_shape)
    for kept in (0, 1):
        corner = variance[(..., *[slice(None)] * kept, *[slice(0, 1)] * (axes - kept))]
        if bool((variance == corner).all()):
            return corner
    return variance
