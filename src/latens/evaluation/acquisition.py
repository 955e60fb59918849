"""Which images should be labelled next?

    random        any
    uncertainty   the largest entropy H(p(y | x))
    bald          the largest information that the label would give about τ:
                  H(E_τ p(y | x, τ)) − E_τ H(p(y | x, τ)),   τ_c ~ Dirichlet(s_c + α₀)
    typical       the image nearest to the middle of each of the largest clusters without a label,
                  of as many clusters as there will be labels; it asks no model
    mixed         the first half typical, the others uncertain

With few labels most of what is not known is which class a component stands for: an image on the
edge of two components that have no label yet teaches more than one between two known digits. The
counts s are those of τ, of labelled images and of those whose class is believed
(`data.propagation`) alike; they are scaled to the number of labels, for beliefs tell no more than
the labels did.

Uncertainty and BALD ask for images on edges. Where labels are so few that a whole class may have
none, its images look certain, and are never asked for; and what is carried from an edge along
similar images is often wrong. Typical images serve there, and leave edges to later rounds.

References:
    Houlsby et al. (2011), Bayesian active learning for classification and preference learning,
    https://arxiv.org/abs/1112.5745;
    Hacohen, Dekel, Weinshall (2022), Active learning on a budget: opposite strategies suit high
    and low budgets, https://arxiv.org/abs/2202.02794
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import xlogy
from torch import Tensor

from latens.data.propagation import Propagation
from latens.errors import ConfigError
from latens.evaluation.mixture import classify
from latens.models.mixture import MixtureVAE

Acquisition = Literal["random", "uncertainty", "bald", "typical", "mixed"]
Array = NDArray[np.float64]

CANDIDATES = 2000
"""Images among which the best are looked for, drawn anew each time: neighbours of one hard image
do not fill a whole round."""

TAU_DRAWS = 200


def acquire(
    model: MixtureVAE,
    x: Tensor,
    labelled: NDArray[np.int64],
    count: int,
    acquisition: Acquisition,
    seed: int,
    similarity: Propagation,
) -> NDArray[np.int64]:
    """Positions of the images to label next.

    Args:
        model: The model trained with the labels so far.
        x: Training images, `(n, *signal_shape)`.
        labelled: Positions that carry a label already.
        count: Number of new labels.
        acquisition: How they are chosen.
        seed: Seed of the candidates, of draws of τ and of the clusters.
        similarity: What images are compared by where they are clustered.

    Returns:
        New positions, `(count,)`.

    Raises:
        ConfigError: If fewer than `count` images are left.
    """
    free = np.setdiff1d(np.arange(len(x)), labelled)
    if count > len(free):
        raise ConfigError(
            "labels", f"at most the {len(free)} images left", count, "Ask for fewer labels."
        )
    if acquisition == "typical":
        return typical(similarity.scores(x), labelled, count, seed)
    if acquisition == "mixed":
        first = typical(similarity.scores(x), labelled, (count + 1) // 2, seed)
        known = np.concatenate([labelled, first])
        others = acquire(model, x, known, count // 2, "uncertainty", seed, similarity)
        return np.concatenate([first, others])
    generator = np.random.default_rng((seed, len(labelled)))
    candidates = generator.permutation(free)[: max(CANDIDATES, count)]
    if acquisition == "random":
        return candidates[:count]
    component, probability = classify(model, x[torch.as_tensor(candidates)])
    if acquisition == "uncertainty":
        score = class_entropy(probability)
    else:
        counts = model.counts.double().numpy(force=True)
        counts = counts * len(labelled) / counts.sum() + model.prior_count
        score = bald(component, counts, TAU_DRAWS, generator)
    return candidates[np.argsort(-score, kind="stable")[:count]]


def typical(
    features: NDArray[np.float32], labelled: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """The middles of the largest clusters that have the fewest labels.

    Args:
        features: What images are compared by, `(n, F)`.
        labelled: Positions that carry a label already, `(l,)`.
        count: Number of new labels; there are l + count clusters.
        seed: Seed of the clusters.

    Returns:
        New positions, `(count,)`.
    """
    from sklearn.cluster import MiniBatchKMeans

    total = len(labelled) + count
    clusters = MiniBatchKMeans(total, n_init="auto", batch_size=4096, random_state=seed)
    found = clusters.fit_predict(features)
    distance = np.empty(len(features))
    for cluster in np.unique(found):
        own = features[found == cluster].astype(np.float64)
        distance[found == cluster] = ((own - own.mean(0)) ** 2).sum(1)
    labels, sizes = (np.bincount(of, minlength=total) for of in (found[labelled], found))
    free = np.setdiff1d(np.arange(len(features)), labelled)
    nearest = free[np.argsort(distance[free], kind="stable")]
    _, first = np.unique(found[nearest], return_index=True)  # the middle of each cluster
    middles = nearest[first]
    middles = middles[np.lexsort((-sizes[found[middles]], labels[found[middles]]))]
    others = nearest[~np.isin(nearest, middles)]  # where there are fewer clusters than that
    return np.concatenate([middles, others])[:count]


def class_entropy(probability: Array) -> Array:
    """H(p(y | x)) of each image, nats.

    Args:
        probability: p(y | x), `(…, Y)`.
    """
    return -xlogy(probability, probability).sum(-1)


def bald(
    component: Array, concentration: Array, draws: int, generator: np.random.Generator
) -> Array:
    """Information that the label of an image would give about τ, nats.

    Args:
        component: q(c | x), `(n, K)`.
        concentration: Parameters of the Dirichlet of each row of τ, `(K, Y)`.
        draws: Draws of τ.
        generator: Source of the draws.

    Returns:
        `(n,)`, not negative up to rounding.
    """
    gamma = generator.standard_gamma(concentration, (draws, *concentration.shape))
    gamma = np.maximum(gamma, np.finfo(np.float64).tiny)
    tau = gamma / gamma.sum(-1, keepdims=True)  # (draws, K, Y)
    mean = np.zeros((len(component), tau.shape[-1]))
    inner = np.zeros(len(component))
    for each in tau:
        probability = component @ each
        mean += probability / draws
        inner += class_entropy(probability) / draws
    return class_entropy(mean) - inner
