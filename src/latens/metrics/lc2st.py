"""Local classifier two-sample test: is q(θ | y) right *at this y*?

A classifier learns to tell (draw, y) from (truth, y) on some images. Where it can, at a y it has
not seen, its probability on the draws departs from one half:

    t(y) = mean over draws θ ~ q(θ | y) of (d(θ, y) − 1/2)²

The null distribution is that of classifiers trained after another of the truth and the draws was
called the truth, at random in every image; it is exact for whatever classifier. θ and y are
summaries of a few numbers: a classifier of images would need more images than there are.

`lc2st` asks of every y with any classifier, which costs a fit for each relabelling and half of the
images. `local_statistic` asks of all y at once with least squares, where a relabelling costs two
products of matrices, so that it is tested together with the ranks.

Linhart, Gramfort, Rodrigues (2023), L-C2ST: local diagnostics for posterior approximations in
simulation-based inference, https://arxiv.org/abs/2306.03580, where one draw for each image is
used and the labels of pairs are permuted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError, ShapeError
from latens.metrics.relabelling import LabelStatistic

Array = NDArray[np.float64]

_RIDGE = 0.01
"""Added to the unit diagonal of the correlations of features."""


@dataclass(frozen=True)
class LocalTest:
    """Outcome of a local test.

    Attributes:
        statistic: Mean of t(y) over the images that were held out.
        p_value: Of that mean: the test of the population.
        images: Position of each held-out image.
        local_statistic: t(y) of each, `(n_held,)`.
        local_p_value: p-value of each on its own, `(n_held,)`; not adjusted. It is exact where
            the posterior is right at *every* y. One that is wrong at some misleads the classifier
            at others: of a posterior shifted by half a standard deviation where y leans one way,
            12 % of the images where it is right have a value of .05 or less with 50 images, and
            64 % with 400 (75 and 100 % of the others). Small values say where to look, and not
            how many images are wrong.
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


def local_statistic(members: Array, condition: Array) -> LabelStatistic:
    """How well least squares tell the truth from draws, given y.

        T = 1/((M + 1) n) Σ_im f_im², f = wᵀφ(θ_im, y_i),
        w = argmin Σ_im (1[m is the truth of i] − c_i − wᵀφ(θ_im, y_i))² + n (M + 1) · 0.01 ‖w‖²

    φ are θ, the products of two θ, and the products of a θ and a summary of y; c_i belongs to
    image i, so that only what differs between the members of an image counts. φ has variance 1
    within images. All images train and are asked: relabellings know the classifier as well as
    the truth does.

    Args:
        members: θ: summaries of truth and draws alike, `(M + 1, n, k)`.
        condition: Summaries of the measurement, `(n, l)`.

    Returns:
        Function of labellings, `(R, n)` → `(1, R)`, no unit.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    if members.ndim != 3 or condition.ndim != 2 or len(condition) != members.shape[1]:
        raise ShapeError(
            "members",
            "members (M + 1, n, k) and condition (n, l)",
            (members.shape, condition.shape),
            "Reduce signals and measurements to a few numbers each.",
        )
    features = _pair_features(members, condition)  # (M + 1, n, a)
    flat = features.reshape(-1, features.shape[2])
    moments = flat.T @ flat / len(flat)
    penalised = moments + _RIDGE * np.eye(len(moments))
    images = np.arange(members.shape[1])

    def statistic(chosen: NDArray[np.int64]) -> Array:
        towards = np.stack([features[row, images].sum(axis=0) for row in chosen])  # (R, a)
        weights = np.linalg.solve(penalised, towards.T / len(flat))  # (a, R)
        return np.einsum("ar,ab,br->r", weights, moments, weights)[None]

    return statistic


def _pair_features(members: Array, condition: Array) -> Array:
    """φ less its mean over the members of each image, with variance 1, `(M + 1, n, a)`."""
    theta, given = _standardised(members, (0, 1)), _standardised(condition, (0,))
    i, j = np.triu_indices(theta.shape[2])
    crossed = theta[..., :, None] * given[:, None, :]  # (M + 1, n, k, l)
    features = np.concatenate(
        [theta, theta[..., i] * theta[..., j], crossed.reshape(*theta.shape[:2], -1)], axis=2
    )
    features = features - features.mean(axis=0)
    return _standardised(features, (0, 1))


def _standardised(values: Array, axes: tuple[int, ...]) -> Array:
    """Mean 0 and variance 1 over some axes; what does not vary is 0."""
    spread = values.std(axis=axes)
    constant = spread <= 1e-9 * np.abs(values).max(axis=axes)
    centred = values - values.mean(axis=axes)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
