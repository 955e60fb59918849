"""What a mixture VAE says of images: classes, certainty, likelihood, reconstruction."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Independent

from latens.distributions import Purpose, draw, row_noise
from latens.models.mixture import MixtureVAE
from latens.nets.scale import FixedScale, SharedScale

Array = NDArray[np.float64]

BLOCK = 256
"""Images at a time."""

BOUND = 0.01
"""Relative distance from a bound below which the σ of a pixel counts as being there."""

NORMAL_95 = 1.959963984540054
"""Half the width of the central 95 % of a standard normal distribution."""


@dataclass(frozen=True)
class Reading:
    """What a model says of n images.

    Attributes:
        component: q(c | x), `(n, K)`.
        probability: p(y | x), `(n, Y)`.
        elbo: Exact evidence lower bound with one keyed draw, nats per image, `(n,)`.
        log_likelihood: Its first term, `(n,)`.
        latent_kl: Σ_c q(c | x) KL(q(z | x, c) ‖ p(z | c)), `(n,)` nats.
        squared_error: Mean over the image of (x − x̂)², x̂ decoded at the posterior mean of z,
            averaged over components, `(n,)`.
        scale: Root of the mean of σ² over the image and over components, `(n,)`; NaN for
            Bernoulli.
        at_bound: Share of the pixels whose σ is within 1 % of one of its bounds, `(n,)`; NaN for
            Bernoulli, as is `covered`.
        covered: Share of the pixels in m ± 1.96 σ, both at the posterior mean of z, `(n,)`.
    """

    component: Array
    probability: Array
    elbo: Array
    log_likelihood: Array
    latent_kl: Array
    squared_error: Array
    scale: Array
    at_bound: Array
    covered: Array


@torch.no_grad()
def classify(model: MixtureVAE, x: Tensor) -> tuple[Array, Array]:
    """q(c | x), `(n, K)`, and p(y | x), `(n, Y)`, of images `(n, *signal_shape)`, in blocks."""
    log_q = torch.cat([model.log_component(block) for block in x.split(BLOCK)])
    probability = model.log_class(log_q).softmax(1)
    return log_q.exp().double().numpy(force=True), probability.double().numpy(force=True)


@torch.no_grad()
def read(model: MixtureVAE, x: Tensor, seed: int = 0, first: int = 0) -> Reading:
    """Apply a model to images, in blocks; results do not depend on the blocks.

    Args:
        model: Trained model.
        x: Images, `(n, *signal_shape)`.
        seed: Key of the draws of z.
        first: Key of the first image; the others follow.
    """
    parts = [
        _read_block(model, block, seed, first + start * BLOCK)
        for start, block in enumerate(x.split(BLOCK))
    ]
    columns = [torch.cat(column).double().numpy(force=True) for column in zip(*parts, strict=True)]
    return Reading(*columns)


def _read_block(model: MixtureVAE, x: Tensor, seed: int, first: int) -> tuple[Tensor, ...]:
    log_q = model.log_component(x)  # (B, K)
    q = log_q.exp().T  # (K, B)
    posterior = model.latent_posterior(x)  # (K or 1, B)
    eye = torch.eye(model.components, dtype=x.dtype, device=x.device)[:, None]  # (K, 1, K)
    keys = range(first, first + len(x))
    noise = row_noise((seed, Purpose.LATENT), keys, (1, model.dim), x.dtype, x.device)
    z = draw(posterior, noise.expand(*posterior.batch_shape, model.dim))
    log_likelihood = (q * model.decoder(z, eye).log_prob(x)).sum(0)  # (B,)
    latent_kl = (q * model.latent_prior.kl(posterior, z)).sum(0)
    ratio = torch.where(q > 0, log_q.T - model.log_weights[:, None], 0.0)
    elbo = log_likelihood - latent_kl - (q * ratio).sum(0)

    decoded = model.decoder(posterior.mean, eye)
    loc, variance = decoded_moments(model, decoded, q)
    error = (x - loc).square().flatten(1).mean(1)
    scale = variance.flatten(1).mean(1).sqrt()
    head = model.decoder.scale
    if isinstance(head, SharedScale | FixedScale):  # free of the rounding that would rank images
        scale = head(scale[:, None]).flatten().expand(len(x))
    probability = model.log_class(log_q).softmax(1)
    of_pixels = pixel_shares(model, decoded, q, x)
    return log_q.exp(), probability, elbo, log_likelihood, latent_kl, error, scale, *of_pixels


def pixel_shares(
    model: MixtureVAE, decoded: Independent, q: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Shares of the pixels with σ at a bound, and with the image in m ± 1.96 σ, `(B,)` each.

    Args:
        model: The model.
        decoded: p(x | z, c), batch `(K or 1, B)`.
        q: q(c | x), `(K, B)`, which the shares of each component are averaged by.
        x: Images, `(B, *signal_shape)`.

    Returns:
        Numbers in [0, 1]; NaN for Bernoulli, which has no σ.
    """
    head = model.decoder.scale
    if head is None:
        return torch.full_like(q[0], torch.nan), torch.full_like(q[0], torch.nan)
    weights = q if decoded.batch_shape[0] > 1 else torch.ones_like(q[:1])
    scale = decoded.base_dist.scale  # pyright: ignore[reportAttributeAccessIssue]
    at_bound = (scale < head.lower * (1 + BOUND)) | (scale > head.upper * (1 - BOUND))
    covered = (x - decoded.mean).abs() <= NORMAL_95 * scale
    found = [(weights * part.to(q).flatten(2).mean(2)).sum(0) for part in (at_bound, covered)]
    return found[0], found[1]


def decoded_moments(model: MixtureVAE, decoded: Independent, q: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the mixture over components, and E[σ²], which is NaN for Bernoulli.

    Args:
        model: The model.
        decoded: p(x | z, c), batch `(K or 1, B)`.
        q: q(c | x), `(K, B)`.

    Returns:
        `(B, *signal_shape)` each; the second is broadcast from its own shape.
    """
    shape = [1] * len(model.signal_shape)
    weights = q.reshape(*q.shape, *shape)
    if decoded.batch_shape[0] == 1:
        weights = torch.ones_like(weights[:1])
    loc = (weights * decoded.mean).sum(0)
    if model.decoder.scale is None:
        return loc, torch.full_like(loc, torch.nan)
    scale = cast(Tensor, decoded.base_dist.scale)  # pyright: ignore[reportAttributeAccessIssue]
    return loc, (weights * scale.square()).sum(0).expand_as(loc)


@torch.no_grad()
def reconstruct(model: MixtureVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of p(x | z, c) at the posterior mean of z, mixed over c.

        variance = E_c[σ²] + Var_c[mean];   σ² = m (1 − m) for Bernoulli

    Args:
        model: Trained model.
        x: Images, `(n, *signal_shape)`.

    Returns:
        `(n, *signal_shape)` each.
    """
    q = model.log_component(x).exp().T  # (K, n)
    eye = torch.eye(model.components, dtype=x.dtype, device=x.device)[:, None]
    decoded = model.decoder(model.latent_posterior(x).mean, eye)
    if decoded.batch_shape[0] == 1:
        q = torch.ones_like(q[:1])
    weights = q.reshape(*q.shape, *[1] * len(model.signal_shape))
    mean = (weights * decoded.mean).sum(0)
    square = (weights * (decoded.variance + decoded.mean.square())).sum(0)
    return mean, (square - mean.square()).clamp(min=0).sqrt()


@torch.no_grad()
def log_evidence(
    model: MixtureVAE, x: Tensor, draws: int, seed: int = 0, first: int = 0, block: int = 50
) -> Tensor:
    """Importance-sampled log p(x), exact in the component.

        log Σ_c π_c (1/S) Σ_s p(x | z_s, c) p(z_s | c) / q(z_s | x, c),   z_s ~ q(z | x, c)

    Its expectation lies below log p(x) and rises with S.

    Args:
        model: Trained model.
        x: Images, `(n, *signal_shape)`.
        draws: S per component.
        seed: Key of the draws.
        first: Key of the first image.
        block: Draws decoded at a time.

    Returns:
        `(n,)` nats, float64.
    """
    eye = torch.eye(model.components, dtype=x.dtype, device=x.device)[:, None]
    found = []
    for place in range(len(x)):
        image = x[place : place + 1]
        posterior, prior = model.latent_posterior(image), model.latent_prior()
        key = (seed, Purpose.START)
        noise = row_noise(key, [first + place], (draws, model.dim), x.dtype, x.device)
        parts = []
        for eps in noise.split(block):  # (S', 1, dim)
            z = draw(posterior, eps[:, None].expand(-1, *posterior.batch_shape, -1))
            weight = model.decoder(z, eye.expand(len(z), -1, -1, -1)).log_prob(image)
            weight = weight + prior.log_prob(z) - posterior.log_prob(z)  # (S', K or 1, 1)
            parts.append(weight.double().expand(-1, model.components, -1)[..., 0])
        log_weights = torch.cat(parts)  # (S, K)
        mean = torch.logsumexp(log_weights, 0) - float(np.log(draws))
        found.append(torch.logsumexp(mean + model.log_weights.double(), 0))
    return torch.stack(found)


@torch.no_grad()
def latent_log_densities(model: MixtureVAE, x: Tensor, seed: int = 0) -> Array:
    """log q(z_i | x_j), `(n, n)`, of draws z_i ~ q(z | x_i), for `metrics.latent_information`.

    q(z | x) is the mixture Σ_c q(c | x) q(z | x, c); the component of a draw is the one whose
    cumulative probability passes a keyed uniform number.

    Args:
        model: Trained model.
        x: Images, `(n, *signal_shape)`; memory grows with n² K.
        seed: Key of the draws.
    """
    log_q = model.log_component(x)  # (n, K)
    posterior = model.latent_posterior(x)  # (K or 1, n)
    rows = range(len(x))
    noise = row_noise((seed, Purpose.LATENT), rows, (1, model.dim), x.dtype, x.device)
    chooser = row_noise((seed, Purpose.MEMBER), rows, (1,), torch.float64, x.device)[0]
    uniform = torch.special.ndtr(chooser)  # (n,)
    if posterior.batch_shape[0] == 1:
        z = draw(posterior, noise)[0]  # (n, dim)
    else:
        cumulative = log_q.double().exp().cumsum(1)
        cumulative = cumulative / cumulative[:, -1:]
        chosen = (uniform[:, None] > cumulative).sum(1).clamp(max=model.components - 1)
        each = draw(posterior, noise.expand(*posterior.batch_shape, model.dim))  # (K, n, dim)
        z = each[chosen, torch.arange(len(x))]
    log_density = torch.stack(
        [torch.logsumexp(posterior.log_prob(row) + _weights(log_q, posterior), 0) for row in z]
    )  # (n, n)
    return log_density.double().numpy(force=True)


def _weights(log_q: Tensor, posterior: Independent) -> Tensor:
    return log_q.T if posterior.batch_shape[0] > 1 else torch.zeros_like(log_q.T[:1])
