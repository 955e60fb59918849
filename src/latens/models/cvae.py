"""Conditional VAE: an amortised posterior whose draws target p(x | y).

    z ~ p(z | y) = N(μ_p(y), diag σ_p(y)²)          prior, learned
    x ~ p(x | z, y) = N(D(z, y), σ²)                 decoder with its own scale
    q(z | x, y) = N(μ_q(x, y), diag σ_q(x, y)²)      encoder, used in training alone

    objective:  E_q[log p(x | z, y)] − KL(q(z | x, y) ‖ p(z | y))  ≤  log p(x | y)

| symbol | attribute | shape |
|---|---|---|
| p(z ∣ y) | `prior` | (B, *measurement) → batch (B,), event (dim,) |
| q(z ∣ x, y) | `encoder` | (B, *signal), (B, *measurement) → batch (B,), event (dim,) |
| p(x ∣ z, y) | `decode` | (…, B, dim), (B, *measurement) → batch (…, B), event (*signal) |

Sohn, Lee, Yan (2015), Learning structured output representation using deep conditional
generative models. https://papers.nips.cc/paper/5775
"""

from torch import Tensor
from torch.distributions import Distribution, Independent

from latens.distributions import NoiseStream
from latens.models.base import LatentModel
from latens.nets import Architecture, ConvMap
from latens.nets.scale import Scale
from latens.objectives import LossTerms, elbo_terms
from latens.problems import InverseProblem
from latens.types import Shape


class CVAE(LatentModel):
    """Conditional VAE.

    Args:
        signal_shape: `(C, *spatial)` of x.
        measurement_shape: `(C', *spatial')` of y.
        dim: Number of latents; with `ConvMap`, at each place of its grid.
        scale: Observation scale σ of the decoder: shared, per_image or per_pixel.
        architecture: Family of networks; default `ConvMap()`.
        consistency: Weight λ of operator consistency of a decoded draw; see
            `latens.objectives.consistency` for its bias.
    """

    stages = ("elbo",)

    def __init__(
        self,
        signal_shape: Shape,
        measurement_shape: Shape,
        *,
        dim: int = 8,
        scale: Scale = "shared",
        architecture: Architecture | None = None,
        consistency: float = 0.0,
    ) -> None:
        nets = ConvMap() if architecture is None else architecture
        dim = nets.latents(dim, signal_shape)
        super().__init__(signal_shape, measurement_shape, dim, consistency)
        shapes = (self.signal_shape, self.measurement_shape)
        self.prior_net = nets.posterior([self.measurement_shape], dim, signal_shape)
        self.encoder_net = nets.posterior(shapes, dim, signal_shape)
        self.decoder_net = nets.decoder(dim, self.signal_shape, scale, self.measurement_shape)

    def prior(self, y: Tensor) -> Independent:
        """p(z | y)."""
        return self.prior_net(self.seen(y))

    def encoder(self, x: Tensor, y: Tensor) -> Independent:
        """q(z | x, y)."""
        return self.encoder_net(self.signal_units(x), self.seen(y))

    def decode(self, z: Tensor, y: Tensor) -> Independent:
        """p(x | z, y) in data units."""
        return self.in_signal_units(self.decoder_net(z, self.seen(y)))

    def latent_posterior(self, y: Tensor) -> Distribution:
        """The learned prior: given y alone, it is the posterior of z."""
        return self.prior(y)

    def inference_pair(self, x: Tensor, y: Tensor) -> tuple[Distribution, Distribution]:
        """q(z | x, y) and p(z | y)."""
        return self.encoder(x, y), self.prior(y)

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """Evidence lower bound of log p(x | y)."""
        posterior, prior = self.inference_pair(x, y)
        z = self.draw_latents(posterior, noise)  # (B, dim)
        decoded = self.decode(z, y)
        terms = elbo_terms(x, decoded, posterior, prior)
        return self.with_consistency(terms, decoded.mean, y, problem)
