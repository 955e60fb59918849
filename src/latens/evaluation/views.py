"""What a reader wants to see of a mixture model: components, latents, certainty and σ.

gallery        images with the largest q(c | x), and what the component decodes to
latent map     E[z | x] on its two leading principal directions
reliability    share of right answers against the largest probability
certainty      max_c q(c | x) max_y τ of right, of wrong and of strange images
σ              of each image against its error, in bins of σ, and its mean for each class
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.evaluation.assess import Assessment, Sample
from latens.evaluation.mixture import Reading, classify, read
from latens.metrics.classes import reliability
from latens.metrics.components import certainty, scale_reliability
from latens.models.mixture import MixtureVAE

Array = NDArray[np.float64]

SHOWN = 8
"""Images of each component."""

POINTS = 800
"""Images on a map or in a cloud of points."""


@dataclass(frozen=True)
class Views:
    """Arrays behind the pictures of one model.

    Attributes:
        images: Bytes, `(K, SHOWN, *signal_shape)`, the largest q(c | x) first.
        decoded: Mean image of each component at the mean of its latents, bytes,
            `(K, *signal_shape)`.
        usage: Mean of q(c | x), `(K,)`.
        tau: τ, `(K, Y)`.
        latents: `(m, 2)`, E[z | x] of the first m test images on two principal directions.
        explained: Share of the variance of E[z | x] that each direction has, `(2,)`.
        component, kind: Most probable component and class of these images, `(m,)`.
        reliability: Of each bin of the largest probability the share of images, its mean and
            the share of right answers, see `metrics.classes.reliability`.
        sure_right, sure_wrong, sure_strange: Certainty of test images that are classified
            rightly and wrongly, and of images of another kind.
        sigma, error: σ and root mean square error of the first m test images, `(m,)`.
        sigma_reliability: Of each bin of σ the share of these images, σ and the root mean square
            error, see `metrics.components.scale_reliability`; no bins for Bernoulli.
        sigma_of_class, error_of_class: Means of both for each class, `(Y,)`.
    """

    images: NDArray[np.uint8]
    decoded: NDArray[np.uint8]
    usage: Array
    tau: Array
    latents: Array
    explained: Array
    component: NDArray[np.int64]
    kind: NDArray[np.int64]
    reliability: Array
    sure_right: Array
    sure_wrong: Array
    sure_strange: Array
    sigma: Array
    error: Array
    sigma_reliability: Array
    sigma_of_class: Array
    error_of_class: Array

    def arrays(self) -> dict[str, NDArray]:
        """By name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@torch.no_grad()
def views_of(model: MixtureVAE, sample: Sample, assessed: Assessment) -> Views:
    """Arrays of a model on the images that it was assessed on.

    Args:
        model: Trained model.
        sample: Test images with classes, and images of another kind where there are any.
        assessed: What `assess` made of them.
    """
    x, y = sample.x, sample.y
    component, probability = assessed.component, assessed.probability
    tau = model.class_given_component.double().numpy(force=True)
    sure, right = certainty(component, tau), probability.argmax(1) == y
    strange = np.empty(0)
    if sample.strange is not None:
        strange = certainty(classify(model, sample.strange)[0], tau)
    some = x[:POINTS]
    means = latent_means(model, some)
    latents, explained = principal_scores(means)
    found = read(model, some)
    error = np.sqrt(found.squared_error)
    kinds = range(tau.shape[1])
    order = np.argsort(-component, axis=0, kind="stable")[:SHOWN].T  # (K, SHOWN)
    return Views(
        images=_bytes(x[torch.from_numpy(np.ascontiguousarray(order))]),
        decoded=_bytes(decoded_components(model, some)),
        usage=component.mean(0),
        tau=tau,
        latents=latents,
        explained=explained,
        component=component[: len(some)].argmax(1),
        kind=y[: len(some)],
        reliability=reliability(probability, y),
        sure_right=sure[right],
        sure_wrong=sure[~right],
        sure_strange=strange,
        sigma=found.scale,
        error=error,
        sigma_reliability=_sigma_bins(found),
        sigma_of_class=_means(found.scale, y[: len(some)], kinds),
        error_of_class=_means(error, y[: len(some)], kinds),
    )


@torch.no_grad()
def latent_means(model: MixtureVAE, x: Tensor) -> Array:
    """E[z | x] = Σ_c q(c | x) E[z | x, c], `(n, dim)`."""
    q = model.log_component(x).exp().T[..., None]  # (K, n, 1)
    loc = model.latent_posterior(x).mean  # (K or 1, n, dim)
    return (q * loc).sum(0).double().numpy(force=True)


@torch.no_grad()
def decoded_components(model: MixtureVAE, x: Tensor) -> Tensor:
    """Mean image of each component, `(K, *signal_shape)`, at the mean of its latents.

        z_c = Σ_x q(c | x) E[z | x, c] / Σ_x q(c | x)

    Args:
        model: Trained model.
        x: Images over which latents are averaged, `(n, *signal_shape)`.
    """
    q = model.log_component(x).exp().T[..., None]  # (K, n, 1)
    loc = model.latent_posterior(x).mean
    weight = q / q.sum(1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
    z = (weight * loc).sum(1, keepdim=True)  # (K, 1, dim)
    eye = torch.eye(model.components, dtype=x.dtype, device=x.device)[:, None]
    return model.decoder(z, eye).mean[:, 0]


def principal_scores(rows: Array) -> tuple[Array, Array]:
    """Scores on the two leading principal directions, and their shares of the variance.

    The sign of a direction is that of its largest entry, so that it does not depend on the
    library.

    Args:
        rows: `(n, d)`.

    Returns:
        `(n, 2)` and `(2,)`; zeros for directions that do not exist.
    """
    centred = rows - rows.mean(0)
    values, directions = np.linalg.eigh(centred.T @ centred / len(rows))
    leading = directions[:, ::-1][:, :2]
    leading = leading * np.sign(leading[np.abs(leading).argmax(0), range(leading.shape[1])])
    scores, shares = np.zeros((len(rows), 2)), np.zeros(2)
    scores[:, : leading.shape[1]] = centred @ leading
    total = values.clip(min=0).sum()
    if total > 0:
        shares[: leading.shape[1]] = values[::-1][:2].clip(min=0) / total
    return scores, shares


def _sigma_bins(found: Reading) -> Array:
    """Bins of σ, `(J, 3)`; J = 0 for Bernoulli."""
    if np.isnan(found.scale).any():
        return np.empty((0, 3))
    return scale_reliability(found.scale, found.squared_error)


def _means(values: Array, kind: NDArray[np.int64], kinds: range) -> Array:
    """Mean for each class; NaN for classes without an image."""
    return np.array(
        [values[kind == k].mean() if (kind == k).any() else np.nan for k in kinds], dtype=float
    )


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    return (255 * x.clamp(0, 1)).round().byte().numpy(force=True)
