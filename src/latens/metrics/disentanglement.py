"""Does each latent stand for one factor? Scores of a code beside the factors behind the data.

For k latents and F factors of n scans, all real numbers, with a_ij the mutual information of
latent i and factor j (adjusted, see `adjusted_information`), ρ_ij their correlation and R_ij the
importance of latent i for factor j (`importances`):

    MIG             mean_j (a_(1)j − a_(2)j)
    modularity      mean_i [1 − Σ_{j≠j*} a_ij² / ((F − 1) a_ij*²)]       i that know a factor
    SAP             mean_j (ρ²_(1)j − ρ²_(2)j)
    disentanglement Σ_i w_i (1 − H(R_i· / Σ_j R_ij) / log F),   w_i = Σ_j R_ij / Σ_ij R_ij
    completeness    Σ_j v_j (1 − H(R_·j / Σ_i R_ij) / log k),   v_j = Σ_i R_ij / Σ_ij R_ij

(1) and (2) are the largest and the second largest over latents, j* the factor that latent i tells
most of. All are 1 for a code of which every latent is one factor and every factor one latent,
whatever noise lies in further latents, and about 0 for a code that knows no factor. Modularity and
disentanglement ask nothing of factors that no latent knows: MIG and SAP do, and the share of
factors that a probe reads stands beside them.

The published scores differ in details that change their values. Here: latents are posterior means;
mutual information is that of bins of equal frequency, five scans to a cell; chance is subtracted;
importances are those of a lasso (Eastwood and Williams; the widespread code has boosted trees).

References:
    Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in VAEs, equation 6,
    https://arxiv.org/abs/1802.04942 (MIG); Ridgeway, Mozer (2018), Learning deep disentangled
    embeddings with the F-statistic loss, https://arxiv.org/abs/1802.05312 (modularity); Kumar,
    Sattigeri, Balakrishnan (2018), section 3, https://arxiv.org/abs/1711.00848 (SAP); Eastwood,
    Williams (2018), A framework for the quantitative evaluation of disentangled representations,
    https://openreview.net/forum?id=By-7dz-AZ (DCI); Vinh, Epps, Bailey (2010), Information
    theoretic measures for clusterings comparison, https://jmlr.org/papers/v11/vinh10a.html.
"""

from math import isqrt, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, rankdata

from latens.errors import ShapeError

Array = NDArray[np.float64]

PER_CELL = 5
"""Scans that each cell of a table of latent and factor has in the mean."""
MOST_BINS = 20
FEWEST_SCANS = PER_CELL * 2**2
CHANCE = 0.01
"""About the probability that of a code without knowledge one of the k F pairs counts as known."""
PENALTIES = np.geomspace(0.01, 1.0, 15)
"""Of the lasso, in standard units: from 1 on nothing is left."""
FOLDS = 3


class Information(NamedTuple):
    """What latents tell of factors.

    Attributes:
        share: Adjusted mutual information of latent and factor, `(k, F)`, in [0, 1].
        known: Whether it is more than chance, `(k, F)`.
    """

    share: Array
    known: NDArray[np.bool_]


def adjusted_information(codes: Array, factors: Array) -> Information:
    """Mutual information of every latent with every factor, as a share of what is possible.

        a_ij = (I(z_i; v_j) − E) / (H(v_j) − E)

    in bins of equal frequency. E is the mean information of independent variables in as many scans
    (Vinh et al. 2010), so that a is about 0 for them and 1 for the factor itself. A pair is known
    above the bound that one of k F independent pairs exceeds with a probability of about `CHANCE`:
    I/E is then χ² over its (bins − 1)² degrees of freedom.

    Args:
        codes: Latents, `(n, k)`, each of which varies.
        factors: Continuous factors, `(n, F)`, each of which varies.

    Raises:
        ShapeError: If rows differ in number, or are fewer than `FEWEST_SCANS`.
    """
    from sklearn.metrics.cluster import expected_mutual_information

    _check(codes, factors)
    n, bins = len(codes), min(isqrt(len(codes) // PER_CELL), MOST_BINS)
    one, other = _one_hot(codes, bins), _one_hot(factors, bins)  # (n, k, b), (n, F, b)
    joint = np.einsum("nka,nfb->kfab", one, other, optimize=True) / n
    rows, columns = one.mean(0), other.mean(0)  # (k, b), (F, b)
    apart = rows[:, None, :, None] * columns[None, :, None, :]
    held = joint > 0
    ratio = np.divide(joint, apart, out=np.ones_like(joint), where=held)
    information = (joint * np.log(ratio)).sum((2, 3))
    entropy = -(columns * np.log(np.where(columns > 0, columns, 1.0))).sum(1)
    sizes = np.rint(n * rows[0]).astype(np.int64)
    # Any table with these margins has the same expectation.
    expected = float(expected_mutual_information(np.diag(sizes), n))
    freedom = (bins - 1) ** 2
    bound = expected * chi2.ppf(1 - CHANCE / information.size, freedom) / freedom
    adjusted = (information - expected) / (entropy - expected)
    return Information(adjusted.clip(0, 1), information > bound)


def mutual_information_gap(information: Information) -> float:
    """MIG, k ≥ 2 latents, in [0, 1]; information that may be chance counts 0."""
    ordered = np.sort(np.where(information.known, information.share, 0.0), axis=0)
    return float((ordered[-1] - ordered[-2]).mean())


def modularity(information: Information) -> float:
    """Modularity, F ≥ 2, in [0, 1]: mean over latents that know a factor; 0 if none does."""
    squares = information.share[information.known.any(1)] ** 2
    if not len(squares):
        return 0.0
    largest = squares.max(1)
    others = squares.sum(1) - largest
    return float(1 - (others / ((squares.shape[1] - 1) * largest)).mean())


def separated_predictability(codes: Array, factors: Array) -> float:
    """SAP: by how much the best single latent predicts a factor better than the next, in R².

    Args:
        codes: Latents, `(n, k)`, k ≥ 2, each of which varies.
        factors: Factors, `(n, F)`, each of which varies.

    Returns:
        Mean over factors, in [0, 1].

    Raises:
        ShapeError: As `adjusted_information`.
    """
    _check(codes, factors)
    squares = np.sort((_standard(codes).T @ _standard(factors) / len(codes)) ** 2, axis=0)
    return float((squares[-1] - squares[-2]).mean())


def importances(codes: Array, factors: Array) -> Array:
    """|coefficients| of a lasso of every factor on all latents, in standard units.

    The penalty is chosen by cross-validation. A factor of which that reads no more of the variance
    than 2 log(k F / CHANCE) / n, as much as the best of k F independent latents seems to, has
    importances of 0: their ratios would be those of noise.

    Args:
        codes: Latents, `(n, k)`, each of which varies.
        factors: Factors, `(n, F)`, each of which varies.

    Returns:
        `(k, F)`, 0 or more.

    Raises:
        ShapeError: As `adjusted_information`.
    """
    from sklearn.linear_model import LassoCV

    _check(codes, factors)
    pairs = codes.shape[1] * factors.shape[1]
    least = 2 * log(pairs / CHANCE) / len(codes)
    unit, columns = _standard(codes), []
    for factor in _standard(factors).T:
        lasso = LassoCV(
            alphas=PENALTIES,  # pyright: ignore[reportArgumentType]
            cv=FOLDS,
            fit_intercept=False,
            max_iter=20_000,
        ).fit(unit, factor)
        read = 1 - lasso.mse_path_.mean(1).min()
        columns.append(np.abs(lasso.coef_) * (read > least))
    return np.stack(columns, 1)


def disentanglement(importance: Array) -> float:
    """D of importances `(k, F)`, F ≥ 2: is a latent important for one factor? In [0, 1]."""
    total = importance.sum(1, keepdims=True)  # (k, 1)
    shares = np.divide(importance, total, out=np.zeros_like(importance), where=total > 0)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)
    whole = float(total.sum())
    if whole == 0:
        return 0.0
    return float((total[:, 0] / whole * (1 - entropy / log(importance.shape[1]))).sum())


def completeness(importance: Array) -> float:
    """C of importances `(k, F)`, k ≥ 2: is one latent important for a factor? In [0, 1]."""
    return disentanglement(importance.T)


def correlations(codes: Array) -> Array:
    """|correlation| of every pair of latents `(n, k)` that vary, `(k(k − 1)/2,)`.

    Of independent ones it is √(2/(π n)) in the mean.
    """
    unit = _standard(codes)
    upper = np.triu_indices(codes.shape[1], 1)
    return np.abs(unit.T @ unit / len(codes))[upper]


def _one_hot(values: Array, bins: int) -> Array:
    """Bins of equal frequency of every column, `(n, columns, bins)`; ties share theirs."""
    ranks = rankdata(values, axis=0) - 0.5
    return np.eye(bins)[np.floor(ranks * bins / len(values)).astype(np.int64)]


def _standard(values: Array) -> Array:
    """Columns of mean 0 and mean square 1."""
    centred = values - values.mean(0)
    return centred / np.sqrt((centred**2).mean(0))


def _check(codes: Array, factors: Array) -> None:
    fits = codes.ndim == factors.ndim == 2 and len(codes) == len(factors) >= FEWEST_SCANS
    if not fits or min(codes.shape[1], factors.shape[1]) < 2:
        raise ShapeError(
            "codes, factors",
            f"(n, k) and (n, F) with n ≥ {FEWEST_SCANS}, k ≥ 2 and F ≥ 2",
            (codes.shape, factors.shape),
            "Give one row per scan.",
        )
