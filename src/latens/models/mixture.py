"""Mixture VAE for few labels: components, latents, and a decoder that says how sure it is.

    c ~ Cat(π)                                  component, π learned or uniform
    z | c ~ N(μ_c, Σ_c), N(0, I) or a flow      latents, Σ_c diagonal or full
    x | z, c ~ N(m(z, c), σ(z, c)²)  or Bernoulli
    q(c | x), q(z | x, c) = N(·, ·)             encoders, q(z | x, c) shared or per component
    p(y | x) = Σ_c q(c | x) τ_cy                classes, from soft counts of labelled images

    objective:  Σ_c q(c|x) {E_q[log p(x|z,c)] − KL(q(z|x,c) ‖ p(z|c))} − KL(q(c|x) ‖ π)
                over D, minus the weighted task terms

τ is no parameter. Soft counts of the images of each batch that carry a class, their label or one
that the graph of similar images makes believed, enter a moving average,
s_cy ← ρ s_cy + (1 − ρ) (K/B) Σ_b q(c | x_b) 1{y_b = y}, and τ = (s + α₀) / Σ_y (s + α₀). At the
start component c speaks for class c mod Y: while q(c | x) is still the same for all images counts
alone would make τ flat, and the labels would teach nothing.

Task terms, all in nats and added after the division by D, so that a weight of 1 is D times that
of the likelihood: they decide what the components mean, the likelihood how images look.

    supervised     −log p(y | T x) of labelled images
    invariance     −I(c; c') between an image and a jittered copy T x
    pseudo_label   −log p(ŷ | T x) where p(ŷ | x) passes a threshold
    usage          evenness of the mean of q(c | x)

| symbol | attribute | shape |
|---|---|---|
| q(c ∣ x) | `log_component` | (B, *signal) → (B, K), logarithms |
| q(z ∣ x, c) | `latent_posterior` | (B, *signal) → batch (K or 1, B), event (dim,) |
| p(z ∣ c) | `latent_prior()` | batch (K or 1, 1), event (dim,) |
| log π | `log_weights` | (K,) |
| p(x ∣ z, c) | `decoder` | (…, dim), (…, K) → batch (…), event (*signal) |
| τ | `class_given_component` | (K, Y) |

References:
    Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised learning with deep generative
    models, https://arxiv.org/abs/1406.5298;
    Jiang et al. (2017), Variational deep embedding, https://arxiv.org/abs/1611.05148;
    Jang, Gu, Poole (2017), Categorical reparameterization with Gumbel-softmax,
    https://arxiv.org/abs/1611.01144.
"""

from collections.abc import Callable
from math import inf
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.errors import DataError
from latens.models.base import Model
from latens.models.mixture_settings import Prior, Terms, check_settings
from latens.models.mixture_tasks import compares, with_comparisons, with_usage
from latens.nets.components import Decoder, DenseEncoder, Embedding
from latens.nets.conv import Trunk
from latens.nets.jitter import NUMBERS, Jitter
from latens.nets.scale import SharedScale
from latens.objectives import LossTerms
from latens.objectives.heteroscedastic import beta_nll, faithful
from latens.objectives.legacy import legacy, legacy_mean
from latens.objectives.mixture import component_kl, summed_out_terms
from latens.problems import InverseProblem
from latens.types import Shape

EncoderKind = Literal["conv", "dense"]
Likelihood = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Of images `(B, *signal_shape)`, latents and components; and what trains σ alone, if anything."""


class MixtureVAE(Model):
    """Mixture VAE with a classifier on its components.

    Args:
        signal_shape: `(C, *spatial)` of images with values in [0, 1].
        classes: Y, number of classes.
        components: K; 1 makes an ordinary VAE.
        dim: Number of latents.
        decoder: Settings of p(x | z, c).
        prior: Settings of p(c) p(z | c) and of the encoders.
        terms: Likelihood objective and task terms.
        jitter: The change T of an image that leaves its class as it is.
        encoder: Convolutions, or hidden layers of units, of q(c | x).
        latent_encoder: The same of q(z | x, c), or the network of q(c | x) itself.
        width: Channels of the encoders on the finest grid; dense encoders have 18 hidden units
            for each.
        features: Width of the vector between convolutions and heads.
        decay: ρ, share of the counts that a step keeps.
        prior_count: α₀; the counts of a component are 1 on average.
    """

    stages = ("elbo",)

    def __init__(
        self,
        signal_shape: Shape,
        classes: int,
        *,
        components: int = 10,
        dim: int = 16,
        decoder: Decoder = Decoder(),  # noqa: B008
        prior: Prior = Prior(),  # noqa: B008
        terms: Terms = Terms(),  # noqa: B008
        jitter: Jitter | None = None,
        encoder: EncoderKind = "conv",
        latent_encoder: Literal[EncoderKind, "shared"] = "dense",
        width: int = 16,
        features: int = 128,
        decay: float = 0.97,
        prior_count: float = 0.002,
    ) -> None:
        super().__init__(signal_shape, ())
        sizes = classes, components, dim, width, features
        check_settings(*sizes, prior, decay, prior_count, decoder, terms)
        self.classes, self.components, self.dim = classes, components, dim
        self.settings, self.prior = terms, prior
        self.decay, self.prior_count = decay, prior_count
        self.jitter = Jitter() if jitter is None else jitter

        def trunk(kind: EncoderKind) -> nn.Module:
            if kind == "dense":
                return DenseEncoder(self.signal_shape, 18 * width, features)
            return Trunk([self.signal_shape], width, features, 2)

        own = None if latent_encoder == "shared" else trunk(latent_encoder)
        of_component = trunk(encoder)
        self.latent_trunk = of_component if own is None else own
        self.component_trunk = of_component
        self.component_head = nn.Linear(features, components)
        per_component = prior.posterior == "per_component"
        self.condition = Embedding(components, features) if per_component else None
        self.mix = nn.Linear(features, features)
        self.latent_head = nn.Linear(features, 2 * dim)
        nn.init.normal_(self.latent_head.weight, std=0.1 / features**0.5)
        nn.init.zeros_(self.latent_head.bias)

        self.latent_prior = prior.build(dim, components)
        if prior.weights == "learned":
            self.weight_logits = nn.Parameter(torch.zeros(components))
        self.decoder = decoder.build(dim, components, self.signal_shape)
        if terms.likelihood == "faithful":
            self.reference = SharedScale(decoder.lower, decoder.upper, decoder.start)

        counts = torch.zeros(components, classes)
        counts[torch.arange(components), torch.arange(components) % classes] = 1.0
        self.register_buffer("counts", counts)
        self.register_buffer("unlocked", torch.tensor(prior.unlocked or components))
        self.counts: Tensor
        self.unlocked: Tensor

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Check that images lie in [0, 1]; units stay what they are.

        Raises:
            DataError: If they do not.
        """
        low, high = torch.aminmax(x)
        if not bool((low >= -1e-5) & (high <= 1 + 1e-5)):
            raise DataError(
                "x",
                "images with values in [0, 1]",
                f"values from {float(low):g} to {float(high):g}",
                "Rescale them by the range of their kind.",
            )

    def before_step(self, step: int, x: Tensor, y: Tensor) -> None:
        """Unlock components."""
        if self.prior.unlocked:
            more = step // self.prior.unlock_every
            self.unlocked.fill_(min(self.prior.unlocked + more, self.components))

    @torch.no_grad()
    def _count(self, log_component: Tensor, y: Tensor) -> None:
        """Let images of a batch with a class, known or believed, enter the counts of τ."""
        known = y >= 0
        if bool(known.any()):
            q = log_component[known].exp()  # (b, K)
            seen = q.T @ nn.functional.one_hot(y[known], self.classes).to(q)  # (K, Y)
            seen *= self.components / int(known.sum())
            self.counts.lerp_(seen.to(self.counts), 1 - self.decay)

    @property
    def class_given_component(self) -> Tensor:
        """τ, `(K, Y)`; rows sum to one."""
        counts = self.counts + self.prior_count
        return counts / counts.sum(1, keepdim=True)

    @property
    def log_weights(self) -> Tensor:
        """log π, `(K,)`; −∞ for locked components."""
        zeros = torch.zeros_like(self.counts[:, 0])
        logits = self.weight_logits if self.prior.weights == "learned" else zeros
        return self._unlocked(logits).log_softmax(0)

    def _unlocked(self, logits: Tensor) -> Tensor:
        locked = torch.arange(self.components, device=logits.device) >= self.unlocked
        return logits.masked_fill(locked, -inf)

    def log_component(self, x: Tensor) -> Tensor:
        """log q(c | x), `(B, K)`."""
        return self._components(self.component_trunk(x))

    def _components(self, h: Tensor) -> Tensor:
        """log q(c | x), `(B, K)`, from features `(B, F)`."""
        if self.components == 1:
            return h.new_zeros(len(h), 1)
        return self._unlocked(self.component_head(h)).log_softmax(1)

    def log_class(self, log_component: Tensor) -> Tensor:
        """log p(y | x), `(B, Y)`, from log q(c | x), `(B, K)`."""
        tau = self.class_given_component.log()
        return torch.logsumexp(log_component[:, :, None] + tau, 1)

    def latent_posterior(self, x: Tensor) -> Independent:
        """q(z | x, c), batch `(K, B)`, or `(1, B)` where it is shared; log σ is above −6."""
        return self._each_posterior(self.latent_trunk(x))

    def _each_posterior(self, h: Tensor) -> Independent:
        """q(z | x, c) from features `(B, F)`; batch as that of `latent_posterior`."""
        eye = torch.eye(self.components, dtype=h.dtype, device=h.device)
        return self._latents(h[None], eye[:, None])

    def _latents(self, h: Tensor, weights: Tensor) -> Independent:
        """From features `(*leading, F)` and components `(*leading, K)`."""
        h = self.mix(h)
        if self.condition is not None:
            h = self.condition(h, weights)
        loc, free = self.latent_head(nn.functional.silu(h)).chunk(2, dim=-1)
        scale = (-6 + nn.functional.softplus(free + 6)).exp()
        return diagonal_normal(loc, scale, 1)

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """Evidence lower bound of the density itself, whatever objective trains it.

        It chooses the weights, and needs no class.

        Args:
            stage: `elbo`.
            x: Images, `(B, *signal_shape)`.
            y: Not used.
            noise: Source of every random number of this step.
            problem: Not used.
        """
        h = self.component_trunk(x)
        return self._bound(x, h, self._components(h), noise, self._density)

    def training_terms(
        self,
        stage: str,
        x: Tensor,
        y: Tensor,
        noise: NoiseStream,
        problem: InverseProblem | None,
        step: int,
    ) -> LossTerms:
        """Evidence lower bound and task terms, after images with a class entered the counts of τ.

        Args:
            stage: `elbo`.
            x: Images, `(B, *signal_shape)`.
            y: Classes, `(B,)`, known or believed; −1 for other images.
            noise: Source of every random number of this step.
            problem: Not used.
            step: Not used.
        """
        views, compared = x, compares(self.settings)
        if compared:  # images and their copies in one pass
            copies = self.jitter(x, noise.uniform((len(x), NUMBERS), x.dtype))
            views = torch.cat([x, copies])  # (2 B, *signal)
        h = self.component_trunk(views)
        log_component, *other = self._components(h).split(len(x))  # (B, K) each
        self._count(log_component, y)
        terms = self._bound(x, h[: len(x)], log_component, noise, self._objective)
        terms = with_usage(terms, self.settings, log_component)
        if not compared:
            return terms
        return with_comparisons(
            terms, self.settings, y, log_component, *other, log_class=self.log_class
        )

    def watched(self, terms: LossTerms) -> dict[str, float]:
        """Likelihood, divergences and task terms of a training batch."""
        return terms.means()

    def _bound(
        self,
        x: Tensor,
        features: Tensor,
        log_component: Tensor,
        noise: NoiseStream,
        likelihood: Likelihood,
    ) -> LossTerms:
        """The bound from what the encoder of q(c | x) says of the images, `(B, F)`."""
        if self.latent_trunk is not self.component_trunk:
            features = self.latent_trunk(x)
        bound = self._exact if self.prior.inference == "exact" else self._drawn
        return bound(x, features, log_component, noise, likelihood)

    def _exact(
        self,
        x: Tensor,
        features: Tensor,
        log_component: Tensor,
        noise: NoiseStream,
        likelihood: Likelihood,
    ) -> LossTerms:
        posterior = self._each_posterior(features)
        eps = noise.normal((1, len(x), self.dim), x.dtype)  # shared by components
        z = draw(posterior, eps.expand(*posterior.batch_shape, self.dim))  # (K or 1, B, dim)
        eye = torch.eye(self.components, dtype=x.dtype, device=x.device)[:, None]  # (K, 1, K)
        log_likelihood, scale_part = likelihood(x, z, eye)  # (K or 1, B)
        kl = self.latent_prior.kl(posterior, z)  # (K or 1, B)
        terms = summed_out_terms(log_likelihood, kl, log_component, self.log_weights)
        if scale_part is None:
            return terms
        return self._with_scale(terms, (log_component.detach().exp().T * scale_part).sum(0))

    def _drawn(
        self,
        x: Tensor,
        features: Tensor,
        log_component: Tensor,
        noise: NoiseStream,
        likelihood: Likelihood,
    ) -> LossTerms:
        """One straight-through Gumbel draw of c instead of the sum."""
        tiny = torch.finfo(x.dtype).tiny
        uniform = noise.uniform(log_component.shape, x.dtype).clamp(min=tiny)
        gumbel = -(-uniform.log()).clamp(min=tiny).log()
        soft = ((log_component + gumbel) / self.prior.temperature).softmax(1)
        hard = nn.functional.one_hot(soft.argmax(1), self.components).to(soft)
        weights = hard + soft - soft.detach()  # (B, K)
        posterior = self._latents(features, weights)
        z = draw(posterior, noise.normal((len(x), self.dim), x.dtype))  # (B, dim)
        log_likelihood, scale_part = likelihood(x, z, weights)  # (B,)
        alone = Independent(posterior.base_dist.expand((1, len(x), self.dim)), 1)
        kl = self.latent_prior.kl(alone, z)  # (K or 1, B)
        latent_kl = (weights.T * kl).sum(0)
        of_component = component_kl(log_component, self.log_weights)
        terms = LossTerms(log_likelihood, latent_kl, component_kl=of_component)
        return terms if scale_part is None else self._with_scale(terms, scale_part)

    def _density(self, x: Tensor, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """log p(x | z, c)."""
        return self.decoder(z, weights).log_prob(x), None

    def _objective(self, x: Tensor, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """log p(x | z, c) as it is trained, and what trains σ alone where that is separate."""
        if self.settings.likelihood == "faithful":
            decoded = self.decoder.with_separate_scale(z, weights)
            return faithful(x, decoded, self.reference.value)
        decoded = self.decoder(z, weights)
        if self.settings.likelihood == "beta_nll":
            beta = self.settings.beta
            level = (decoded.stddev.detach() ** (2 * beta)).mean()
            return beta_nll(x, decoded, beta) / level, None
        if self.settings.likelihood == "legacy":
            return legacy(x, decoded, self.settings.legacy), None
        if self.settings.likelihood == "legacy_mean":
            return legacy_mean(x, decoded, self.settings.legacy), None
        return self._density(x, z, weights)

    def _with_scale(self, terms: LossTerms, scale_part: Tensor) -> LossTerms:
        return terms.adding("scale", -scale_part / self.event_size, 1.0)
