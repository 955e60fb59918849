"""Local classifier two-sample test: is q(θ | y) right *at this y*?

A classifier learns to tell (draw, y) from (truth, y) on some images. Where it can, at a y it has
not seen, its probability on the draws departs from one half:

    t(y) = mean over draws θ ~ q(θ | y) of (d(θ, y) − 1/2)²

The null distribution is that of classifiers trained after another of the truth and the draws was
called the truth, at random in every image; it is exact for whatever classifier. θ and y are
summaries of a few numbers: a classifier of images would need more images than there are.

Linhart, Gramfort, Rodrigues (2023), L-C2ST: local diagnostics for posterior approximations in
simulation-based inference, https://arxiv.org/abs/2306.03580, where one draw for each image is
used and the labels of pairs are permuted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError, ShapeError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalTest:
    """Outcome of a local test.

    Attributes:
        statistic: Mean of t(y) over the images that were held out.
        p_value: Of that mean: the test of the population.
        images: Position of each held-out image.
        local_statistic: t(y) of each, `(n_held,)`.
        local_p_value: p-value of each on its own, `(n_held,)`; not adjusted.
    """

    statistic: float
    p_value: float
    images: NDArray[np.int64]
    local_statistic: Array
    local_p_value: Array


def default_classifier() -> Any:
    """Logistic regression on all products of two summaries.

    Exact where truth and draws are Gaussian given y with means linear in y. Few numbers to fit, so
    that a few hundred images are enough, and fast enough to be refitted a hundred times.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    return make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )


def lc2st(
    truth: Array,
    draws: Array,
    condition: Array,
    rng: np.random.Generator,
    relabellings: int = 99,
    classifier: Any = None,
) -> LocalTest:
    """Local classifier two-sample test with a relabelled null.

    Args:
        truth: Summaries of the truth, `(n, k)`.
        draws: Summaries of draws, `(M, n, k)`; a handful of draws is enough.
        condition: Summaries of the measurement, `(n, l)`.
        rng: Source of the split and of the relabellings.
        relabellings: Classifiers trained under the null; p-values are multiples of one over this
            number plus one.
        classifier: Anything with `fit(X, y)` and `predict_proba(X)`, refitted from scratch by
            every `fit`; default `default_classifier()`.

    Returns:
        The test of the population and of every held-out image. Half of the images train.

    Raises:
        ShapeError: If the shapes do not fit, or there are fewer than 20 images.
        ConfigError: If there are no relabellings.
    """
    images = len(truth)
    fits = draws.ndim == 3 and draws.shape[1:] == truth.shape and len(condition) == images
    if not fits or images < 20:
        raise ShapeError(
            "draws",
            "truth (n, k), draws (M, n, k) and condition (n, l) of 20 images or more",
            (truth.shape, draws.shape, condition.shape),
            "Reduce signals and measurements to a few numbers each.",
        )
    if relabellings < 1:
        raise ConfigError("relabellings", "1 or more", relabellings, "Use 99.")
    learner = default_classifier() if classifier is None else classifier
    order = rng.permutation(images)
    train, held = np.sort(order[: images // 2]), np.sort(order[images // 2 :])
    members = np.concatenate([truth[None], draws])[:, train]  # (M + 1, n_train, k)
    given = np.broadcast_to(condition[train], (*members.shape[:2], condition.shape[1]))
    width = truth.shape[1] + condition.shape[1]
    features = np.concatenate([members, given], axis=2).reshape(-1, width)
    asked = np.broadcast_to(condition[held], (len(draws), len(held), condition.shape[1]))
    questions = np.concatenate([draws[:, held], asked], axis=2).reshape(-1, width)

    def local(chosen: NDArray[np.int64]) -> Array:
        """t(y) of every held-out image when member `chosen` of each image is the truth."""
        label = np.ones(members.shape[:2], dtype=np.int64)
        label[chosen, np.arange(len(train))] = 0
        learner.fit(features, label.ravel())
        probability = learner.predict_proba(questions)[:, 1].reshape(len(draws), len(held))
        return ((probability - 0.5) ** 2).mean(axis=0)

    found = local(np.zeros(len(train), dtype=np.int64))
    null = np.stack(
        [local(rng.integers(len(members), size=len(train))) for _ in range(relabellings)]
    )
    reached = 1 + (null.mean(axis=1) >= found.mean()).sum()
    locally = 1 + (null >= found).sum(axis=0)
    count = relabellings + 1
    return LocalTest(float(found.mean()), float(reached / count), held, found, locally / count)
