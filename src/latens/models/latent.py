"""VAE on signals, then an amortised posterior of its latents given a measurement.

    z ~ p(z) = N(0, I)
    x ~ p(x | z) = N(D(z), σ²)
    y ~ p(y | x)                                  the inverse problem
    q(z | x), q(z | y) = N(μ(·), diag σ(·)²), or a flow on top of the latter

    stage `representation`:  E_q(z|x)[log p(x | z)] − KL(q(z | x) ‖ p(z))  ≤  log p(x)
    stage `amortisation`:    E_{p(z) p(x|z) p(y|x)}[log q(z | y)], decoder fixed

The second stage is neural posterior estimation: forward KL on pairs (z, y) simulated from the
model itself, so q(z | y) → p(z | y) of this model whatever N was. What N buys is the model.
The decoder is shared with every other way of sampling p(z | y), so the amortisation gap is
defined here.

| symbol | attribute | shape |
|---|---|---|
| p(x ∣ z) | `decode` | (…, B, dim) → batch (…, B), event (*signal) |
| q(z ∣ x) | `encoder` | (B, *signal) → batch (B,), event (dim,) |
| q(z ∣ y) | `latent_posterior` | (B, *measurement) → batch (B,), event (dim,) |

Kingma, Welling (2014), https://arxiv.org/abs/1312.6114;
Papamakarios, Murray (2016), https://arxiv.org/abs/1605.06376;
flows on q(z | y): Greenberg, Nonnenmacher, Macke (2019), https://arxiv.org/abs/1905.07488.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError
from latens.models.base import LatentModel
from latens.nets import Architecture, ConvMap, Flow
from latens.nets.scale import Scale
from latens.objectives import LossTerms, elbo_terms, likelihood_terms
from latens.problems import InverseProblem
from latens.types import Shape


class Latent(LatentModel):
    """VAE on x with an amortised posterior q(z | y).

    Args:
        signal_shape: `(C, *spatial)` of x.
        measurement_shape: `(C', *spatial')` of y.
        dim: Number of latents; with `ConvMap`, at each place of its grid.
        scale: Observation scale σ of the decoder: shared, per_image or per_pixel.
        architecture: Family of networks; default `ConvMap()`.
        consistency: Weight λ of operator consistency of a decoded draw of q(z | x); see
            `latens.objectives.consistency` for its bias.
        flow: Refinement of q(z | y) by a normalising flow; without one it is a diagonal Gaussian.
    """

    stages = ("representation", "amortisation")

    def __init__(
        self,
        signal_shape: Shape,
        measurement_shape: Shape,
        *,
        dim: int = 8,
        scale: Scale = "shared",
        architecture: Architecture | None = None,
        consistency: float = 0.0,
        flow: Flow | None = None,
    ) -> None:
        nets = ConvMap() if architecture is None else architecture
        dim = nets.latents(dim, signal_shape)
        super().__init__(signal_shape, measurement_shape, dim, consistency)
        self.encoder_net = nets.posterior([self.signal_shape], dim, signal_shape)
        self.decoder_net = nets.decoder(dim, self.signal_shape, scale)
        self.amortised_net = nets.posterior([self.measurement_shape], dim, signal_shape)
        self.refinement = nn.Identity() if flow is None else flow.refinement(dim)

    @property
    def needs_problem(self) -> bool:
        """True: the second stage simulates measurements."""
        return True

    def encoder(self, x: Tensor) -> Independent:
        """q(z | x)."""
        return self.encoder_net(self.signal_units(x))

    def decode(self, z: Tensor, y: Tensor) -> Independent:
        """p(x | z) in data units; y enters by conditioning, in `latens.inference`."""
        return self.in_signal_units(self.decoder_net(z))

    def latent_posterior(self, y: Tensor) -> Distribution:
        """q(z | y)."""
        return self.refinement(self.amortised_net(self.seen(y)))

    def inference_pair(self, x: Tensor, y: Tensor) -> tuple[Distribution, Distribution]:
        """q(z | x) and N(0, I)."""
        return self.encoder(x), self.standard_prior(len(x), x)

    def stage_event_size(self, stage: str) -> int:
        """The event is the signal in the first stage and the latent vector in the second."""
        return self.dim if stage == "amortisation" else self.event_size

    def stage_parameters(self, stage: str) -> Iterable[nn.Parameter]:
        """Encoder and decoder of x first, the encoder of y second."""
        if stage == "amortisation":
            return [*self.amortised_net.parameters(), *self.refinement.parameters()]
        return [*self.encoder_net.parameters(), *self.decoder_net.parameters()]

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """ELBO of log p(x), or log q(z | y) at latents simulated from the model."""
        if stage == "amortisation":
            return self._amortisation_terms(x, noise, problem)
        posterior, prior = self.inference_pair(x, y)
        z = self.draw_latents(posterior, noise)  # (B, dim)
        decoded = self.decode(z, y)
        terms = elbo_terms(x, decoded, posterior, prior)
        return self.with_consistency(terms, decoded.mean, y, problem)

    def _amortisation_terms(
        self, x: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        if problem is None:
            raise ConfigError(
                "problem",
                "an operator and a noise model, from which `latent` simulates measurements",
                None,
                "State the operator of your measurements, or choose `cvae`, which needs none.",
            )
        with torch.no_grad():
            z = self.draw_latents(self.standard_prior(len(x), x), noise)  # (B, dim)
            signal = draw(self.decode(z, x), noise.normal(x.shape))  # (B, *signal)
            shape = (len(x), *problem.noise_shape)
            y = problem.simulate(signal, noise.normal(shape))  # (B, *measurement)
        return likelihood_terms(z, self.latent_posterior(y))
