"""How far are draws from a posterior that is known? Oracle distances.

| what is known of the exact posterior | distance | 0 or target |
|---|---|---|
| it is Gaussian, and so is the other | `gaussian_w2`, `gaussian_kl` | 0 where equal |
| draws of it | `sliced_w2`, `mmd2`, `c2st` | about 0, about 0, 1/2 |
| ∇ log of its density | `stein_discrepancy2` | about 0 |

All are of one measurement: draws are `(n, d)`, independent, in float64. Distances between pooled
draws of many measurements say nothing of the posteriors, which may be wrong at every one of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError, ShapeError

Array = NDArray[np.float64]

FOLDS = 5


def gaussian_w2(
    mean: Array, covariance: Array, other_mean: Array, other_covariance: Array
) -> float:
    """2-Wasserstein distance of two Gaussians.

        W2² = ‖μ − μ'‖² + tr(C + C' − 2 (C^½ C' C^½)^½)

    Args:
        mean: μ, `(d,)`.
        covariance: C, `(d, d)`, symmetric, not negative; may be singular.
        other_mean: μ', `(d,)`.
        other_covariance: C', `(d, d)`.

    Returns:
        In [0, ∞), unit of the signal, Euclidean over the d elements.

    Raises:
        ShapeError: If the shapes do not fit.
        ConfigError: If a covariance is not symmetric or has a negative eigenvalue.

    References:
        Dowson, Landau (1982), The Fréchet distance between multivariate normal distributions,
        https://doi.org/10.1016/0047-259X(82)90077-X
    """
    _check_moments(mean, covariance, other_mean, other_covariance)
    root, other_root = _root(covariance, "covariance"), _root(other_covariance, "other_covariance")
    # tr (C^½ C' C^½)^½ is the sum of singular values of C'^½ C^½.
    shared = np.linalg.svd(other_root @ root, compute_uv=False).sum()
    square = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance)
    return float(np.sqrt(max(square - 2 * shared, 0.0)))


def gaussian_kl(
    mean: Array, covariance: Array, other_mean: Array, other_covariance: Array
) -> float:
    """Kullback-Leibler divergence of two Gaussians, KL(N(μ, C) ‖ N(μ', C')).

        ½ [tr(C'⁻¹ C) + (μ' − μ)ᵀ C'⁻¹ (μ' − μ) − d + log det C' − log det C]

    Args:
        mean: μ, `(d,)`.
        covariance: C, `(d, d)`, positive definite.
        other_mean: μ', `(d,)`.
        other_covariance: C', `(d, d)`, positive definite.

    Returns:
        Nats, in [0, ∞), summed over the d elements.

    Raises:
        ShapeError: If the shapes do not fit.
        ConfigError: If a covariance is not symmetric and positive definite.
    """
    _check_moments(mean, covariance, other_mean, other_covariance)
    factor = _cholesky(covariance, "covariance")
    other = _cholesky(other_covariance, "other_covariance")
    spread = np.linalg.solve(other, factor)
    shift = np.linalg.solve(other, other_mean - mean)
    log_ratio = np.log(np.diag(other)).sum() - np.log(np.diag(factor)).sum()
    return float(((spread**2).sum() + shift @ shift - len(mean)) / 2 + log_ratio)


def sliced_w2(a: Array, b: Array, rng: np.random.Generator, directions: int = 200) -> float:
    """Sliced 2-Wasserstein distance of two sets of draws.

        SW2² = mean over unit θ of ∫₀¹ (F_θ⁻¹(u) − G_θ⁻¹(u))² du

    F_θ and G_θ are the empirical distributions of ⟨a, θ⟩ and ⟨b, θ⟩; the integral of their
    steps is exact, for sets of different sizes too. θ is uniform on the sphere.

    Args:
        a: Draws, `(n, d)`.
        b: Draws, `(k, d)`.
        rng: Source of θ.
        directions: Number of θ; the square has a relative error of about √(2/directions) and
            less.

    Returns:
        In [0, ∞), unit of the signal. Two sets of n draws of one distribution do not reach 0: in
        one dimension with standard deviation s the square is of order s²/n.

    Raises:
        ShapeError: If the draws do not fit.
        ConfigError: If there are no directions.

    References:
        Bonneel, Rabin, Peyré, Pfister (2015), Sliced and Radon Wasserstein barycenters of
        measures, https://doi.org/10.1007/s10851-014-0506-3
    """
    _check_draws(a, b, least=1)
    if directions < 1:
        raise ConfigError("directions", "1 or more", directions, "Use 200.")
    theta = rng.standard_normal((a.shape[1], directions))
    theta /= np.linalg.norm(theta, axis=0)
    first, second = np.sort(a @ theta, axis=0), np.sort(b @ theta, axis=0)
    n, k = len(a), len(b)
    ends = np.union1d(np.arange(1, n + 1) * k, np.arange(1, k + 1) * n)  # in 1/(n k), exact
    begins = np.concatenate([[0], ends[:-1]])
    difference = first[begins // k] - second[begins // n]
    square = ((ends - begins) / (n * k)) @ difference**2
    return float(np.sqrt(square.mean()))


def mmd2(a: Array, b: Array, scale: float | None = None) -> float:
    """Squared maximum mean discrepancy of two sets of draws, without bias.

        Σ_{i≠j} k(aᵢ, aⱼ)/(n(n − 1)) + Σ_{i≠j} k(bᵢ, bⱼ)/(m(m − 1)) − 2 Σ_{ij} k(aᵢ, bⱼ)/(nm)
        k(u, v) = exp(−‖u − v‖²/(2 scale²))

    Args:
        a: Draws, `(n, d)`, n ≥ 2.
        b: Draws, `(m, d)`, m ≥ 2.
        scale: Of the kernel, unit of the signal; default the median distance between two of all
            draws together.

    Returns:
        In [−2, 2], no unit; of mean 0 for equal distributions, so that it can be negative. It is
        comparable only between sets with one scale: give the scale where solvers are compared.

    Raises:
        ShapeError: If the draws do not fit.
        ConfigError: If the scale is not positive, or all draws are the same.

    References:
        Gretton et al. (2012), A kernel two-sample test, Lemma 6,
        https://jmlr.org/papers/v13/gretton12a.html
    """
    _check_draws(a, b, least=2)
    pooled = np.concatenate([a, b])
    square = _square_distances(pooled)
    kernel = np.exp(-square / (2 * _scale(scale, square) ** 2))
    n, m = len(a), len(b)
    own = [
        (block.sum() - len(block)) / (len(block) * (len(block) - 1))
        for block in (kernel[:n, :n], kernel[n:, n:])
    ]
    return float(sum(own) - 2 * kernel[:n, n:].sum() / (n * m))


def c2st(
    a: Array, b: Array, rng: np.random.Generator, folds: int = FOLDS, classifier: Any = None
) -> float:
    """Accuracy of a classifier that tells two sets of draws apart, on draws it has not seen.

    Args:
        a: Independent draws, `(n, d)`. Draws of a Markov chain are told apart by their chains;
            thin them to their effective size.
        b: As many of the other, `(n, d)`.
        rng: Source of the folds and of the classifier's start.
        folds: Parts of the draws; each is predicted by a classifier trained on the others.
        classifier: Anything of scikit-learn with `fit` and `predict`; default a network with two
            hidden layers of 10 d units on standardised draws.

    Returns:
        In [0, 1]: about 1/2, with a standard deviation of 1/√(8 n), where the distributions are
        equal; 1 where they do not overlap. A lower bound, up to that noise, of the accuracy of
        the best classifier, (1 + total variation distance)/2.

    Raises:
        ShapeError: If the shapes differ, or there are fewer draws than folds.
        ConfigError: If there are fewer than two folds.

    References:
        Lopez-Paz, Oquab (2017), Revisiting classifier two-sample tests,
        https://arxiv.org/abs/1610.06545
    """
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold

    if folds < 2:
        raise ConfigError("folds", "2 or more", folds, "Use 5.")
    _check_draws(a, b, least=folds)
    if len(a) != len(b):
        raise ShapeError(
            "b", f"as many draws as a, {len(a)}", len(b), "Leave draws of the larger set out."
        )
    start = int(rng.integers(2**31))
    learner = _network(a.shape[1], start) if classifier is None else classifier
    x, label = np.concatenate([a, b]), np.repeat([0, 1], len(a))
    right = 0
    for seen, held in StratifiedKFold(folds, shuffle=True, random_state=start).split(x, label):
        fresh: Any = clone(learner)
        right += (fresh.fit(x[seen], label[seen]).predict(x[held]) == label[held]).sum()
    return float(right / len(x))


def stein_discrepancy2(x: Array, score: Array, scale: float | None = None) -> float:
    """Squared kernel Stein discrepancy of draws from a distribution with a known score.

        KSD² = Σ_{i≠j} h(xᵢ, xⱼ)/(n(n − 1)),   k(u, v) = (1 + ‖u − v‖²/scale²)^(−½)
        h = k sᵤᵀsᵥ + sᵤᵀ∇ᵥk + sᵥᵀ∇ᵤk + tr ∇ᵤ∇ᵥᵀk

    The inverse multiquadric kernel sees draws that do not follow the tails too, where a Gaussian
    kernel of many dimensions does not. Masses of separate modes are hardly seen: the score does
    not know them.

    Args:
        x: Draws, `(n, d)`, n ≥ 2.
        score: s(x) = ∇ log p(x) of the exact posterior at the draws, `(n, d)`; its constant is
            not needed.
        scale: Of the kernel, unit of the signal; default the median distance of two draws.

    Returns:
        Of mean 0 for draws from p, so that it can be negative; 1/(unit of the signal)².

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If the scale is not positive, or all draws are the same.

    References:
        Liu, Lee, Jordan (2016), A kernelized Stein discrepancy for goodness-of-fit tests, eq. 14,
        https://arxiv.org/abs/1602.03253; Gorham, Mackey (2017), Measuring sample quality with
        kernels, https://arxiv.org/abs/1703.01717 (this kernel)
    """
    _check_draws(x, score, least=2)
    if len(score) != len(x):
        raise ShapeError("score", f"the shape of x, {x.shape}", score.shape, "One score per draw.")
    square = _square_distances(x)
    width = _scale(scale, square) ** 2
    base = 1 + square / width
    kernel = base**-0.5
    # ∇ᵤk = −(u − v) base^(−3/2)/scale², ∇ᵥk = −∇ᵤk
    projected = (score * x).sum(1)
    inner = score @ x.T  # sᵢᵀxⱼ
    along = projected[:, None] - inner + projected[None, :] - inner.T  # (sᵢ − sⱼ)ᵀ(xᵢ − xⱼ)
    curvature = x.shape[1] * base**-1.5 / width - 3 * square * base**-2.5 / width**2
    h = kernel * (score @ score.T) + along * base**-1.5 / width + curvature
    n = len(x)
    return float((h.sum() - np.trace(h)) / (n * (n - 1)))


def _network(dim: int, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = MLPClassifier(
        (10 * dim, 10 * dim),
        early_stopping=True,
        max_iter=1000,
        n_iter_no_change=20,
        random_state=seed,
    )
    return make_pipeline(StandardScaler(), net)


def _square_distances(x: Array) -> Array:
    """‖xᵢ − xⱼ‖², exactly 0 on the diagonal, `(n, n)`."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(x, "sqeuclidean"))


def _scale(scale: float | None, square: Array) -> float:
    """The given scale, or the median distance of pairs."""
    if scale is None:
        pairs = square[np.triu_indices(len(square), 1)]
        scale = float(np.sqrt(np.median(pairs)))
    if not 0 < scale < np.inf:
        raise ConfigError(
            "scale",
            "a positive, finite scale of the kernel",
            scale,
            "Give the distance at which two signals count as different; the median distance of "
            "draws that are mostly equal is 0.",
        )
    return float(scale)


def _root(covariance: Array, name: str) -> Array:
    """Symmetric square root."""
    _check_symmetric(covariance, name)
    values, vectors = np.linalg.eigh(covariance)
    if values.min() < -1e-9 * max(values.max(), 0.0):
        raise ConfigError(
            name, "no negative eigenvalue", float(values.min()), "Give a covariance matrix."
        )
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _cholesky(covariance: Array, name: str) -> Array:
    _check_symmetric(covariance, name)
    try:
        return np.linalg.cholesky(covariance).astype(np.float64)
    except np.linalg.LinAlgError:
        raise ConfigError(
            name,
            "a positive definite matrix",
            f"smallest eigenvalue {np.linalg.eigvalsh(covariance).min():.3g}",
            "A singular Gaussian has no density; use `gaussian_w2`, or fewer directions.",
        ) from None


def _check_symmetric(covariance: Array, name: str) -> None:
    asymmetry = float(np.abs(covariance - covariance.T).max())
    if asymmetry > 1e-9 * np.abs(covariance).max():
        raise ConfigError(
            name, "a symmetric matrix", f"asymmetry {asymmetry:.3g}", "Use (C + Cᵀ)/2."
        )


def _check_moments(
    mean: Array, covariance: Array, other_mean: Array, other_covariance: Array
) -> None:
    d = mean.shape
    shapes = (mean.shape, covariance.shape, other_mean.shape, other_covariance.shape)
    if len(d) != 1 or shapes != (d, d + d, d, d + d):
        raise ShapeError(
            "covariance",
            "means (d,) and covariances (d, d)",
            shapes,
            "Flatten signals to vectors.",
        )


def _check_draws(a: Array, b: Array, least: int) -> None:
    shapes = (a.shape, b.shape)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise ShapeError(
            "a, b",
            f"draws (n, d) of one measurement, n ≥ {least}, with one d",
            shapes,
            "Flatten each draw to a vector.",
        )
