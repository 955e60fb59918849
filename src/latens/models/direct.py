"""Direct amortised inversion: the published proposal, kept as a baseline. Not a posterior.

    z ~ p(z) = N(0, I)
    x ~ p(x | z) = N(D(z), σ²)
    q(z | y) = N(μ(y), diag σ(y)²)

    objective:  E_q[log p(x | z)] − KL(q(z | y) ‖ p(z))

Its optimum is q ∝ p(z) · exp E[log p(x | z) | y], which is not p(z | y) at any number of samples:
q never sees x, so it is scored like the average of x given y. Pixel intervals can look right
while region means are far too certain.

| symbol | attribute | shape |
|---|---|---|
| q(z ∣ y) | `latent_posterior` | (B, *measurement) → batch (B,), event (dim,) |
| p(x ∣ z) | `decode` | (…, B, dim) → batch (…, B), event (*signal) |
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


class Direct(LatentModel):
    """Encoder of y, decoder to x, standard normal prior.

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
    is_posterior = False

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
        self.encoder_net = nets.posterior([self.measurement_shape], dim, signal_shape)
        self.decoder_net = nets.decoder(dim, self.signal_shape, scale)

    def latent_posterior(self, y: Tensor) -> Distribution:
        """q(z | y)."""
        return self.encoder_net(self.seen(y))

    def decode(self, z: Tensor, y: Tensor) -> Independent:
        """p(x | z) in data units; y is not used."""
        return self.in_signal_units(self.decoder_net(z))

    def inference_pair(self, x: Tensor, y: Tensor) -> tuple[Distribution, Distribution]:
        """q(z | y) and N(0, I)."""
        return self.latent_posterior(y), self.standard_prior(len(y), y)

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """The published objective; it bounds no likelihood of x given y."""
        posterior, prior = self.inference_pair(x, y)
        z = self.draw_latents(posterior, noise)  # (B, dim)
        decoded = self.decode(z, y)
        terms = elbo_terms(x, decoded, posterior, prior)
        return self.with_consistency(terms, decoded.mean, y, problem)
