"""Oracle distances against closed forms and independent computations."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.distributions import MultivariateNormal, kl_divergence

from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    c2st,
    gaussian_kl,
    gaussian_w2,
    mmd2,
    sliced_w2,
    stein_discrepancy2,
)

D = 4


def moments(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((D, D + 2))
    return rng.standard_normal(D), factor @ factor.T


def test_w2_is_the_cost_of_the_optimal_map():
    """x → μ' + T (x − μ), T = C^(−½)(C^½ C' C^½)^½ C^(−½), is optimal, and carries C to C'."""
    (mean, c), (other, c2) = moments(0), moments(1)
    root = sqrtm(c).real
    inverse = np.linalg.inv(root)
    t = inverse @ sqrtm(root @ c2 @ root).real @ inverse
    np.testing.assert_allclose(t @ c @ t.T, c2, rtol=1e-9)
    cost = ((mean - other) ** 2).sum() + np.trace((t - np.eye(D)) @ c @ (t - np.eye(D)).T)
    assert gaussian_w2(mean, c, other, c2) == pytest.approx(math.sqrt(cost), rel=1e-9)
    assert gaussian_w2(other, c2, mean, c) == pytest.approx(math.sqrt(cost), rel=1e-9)


def test_w2_of_singular_and_of_equal_gaussians():
    zero = np.zeros(D)
    flat = np.diag([4.0, 1.0, 0.0, 0.0])
    other = np.diag([1.0, 1.0, 9.0, 0.0])
    assert gaussian_w2(zero, flat, zero, other) == pytest.approx(math.sqrt(1 + 9))
    assert gaussian_w2(zero, flat, zero, flat) == pytest.approx(0.0, abs=1e-7)


def test_kl_agrees_with_torch():
    (mean, c), (other, c2) = moments(2), moments(3)
    p, q = (
        MultivariateNormal(torch.from_numpy(m), torch.from_numpy(v))
        for m, v in ((mean, c), (other, c2))
    )
    assert gaussian_kl(mean, c, other, c2) == pytest.approx(kl_divergence(p, q).item(), rel=1e-9)
    assert gaussian_kl(other, c2, mean, c) == pytest.approx(kl_divergence(q, p).item(), rel=1e-9)


def test_sliced_w2_in_one_dimension_is_optimal_assignment():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((30, 1)), 2 * rng.standard_normal((30, 1)) + 1
    cost = (a - b.T) ** 2
    best = cost[linear_sum_assignment(cost)].mean()
    assert sliced_w2(a, b, rng, 3) == pytest.approx(math.sqrt(best))
    # sets of different sizes: repeating every draw changes no distribution
    c = b[:12]
    same = sliced_w2(np.repeat(a, 2, axis=0), np.repeat(c, 5, axis=0), rng, 1)
    assert sliced_w2(a, c, rng, 1) == pytest.approx(same)


def test_sliced_w2_of_a_shift():
    """Moved by v, every projection moves by ⟨v, θ⟩, whose mean square is ‖v‖²/d."""
    rng = np.random.default_rng(5)
    a, v = rng.standard_normal((20, D)), np.array([3.0, 0.0, 4.0, 0.0])
    assert sliced_w2(a, a + v, rng, 20_000) == pytest.approx(math.sqrt(25 / D), rel=0.02)
    assert sliced_w2(a, a[::-1], rng) == 0.0


def test_mmd_of_gaussians():
    """E k of N(0, I) and N(m, s² I) in closed form; 40 repetitions have no bias."""
    rng, scale, s = np.random.default_rng(6), 1.5, 0.7
    m = np.array([0.5, 0.0, -0.5, 0.3])

    def expected(variance: float, shift: float) -> float:
        wide = scale**2 + variance
        return (scale**2 / wide) ** (D / 2) * math.exp(-shift / (2 * wide))

    exact = expected(2, 0) + expected(2 * s**2, 0) - 2 * expected(1 + s**2, m @ m)
    found = np.array(
        [
            mmd2(rng.standard_normal((60, D)), m + s * rng.standard_normal((50, D)), scale)
            for _ in range(40)
        ]
    )
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(40)
    assert found.mean() > 10 * found.std() / math.sqrt(40)
    null = np.array(
        [mmd2(rng.standard_normal((50, D)), rng.standard_normal((50, D))) for _ in range(40)]
    )
    assert abs(null.mean()) < 4 * null.std() / math.sqrt(40)
    assert null.min() < 0 < null.max()


def test_the_scale_of_the_kernel_is_the_median_distance():
    a, b = np.array([[0.0], [1.0]]), np.array([[3.0], [7.0]])
    distances = [1, 3, 7, 2, 6, 4]
    assert mmd2(a, b) == pytest.approx(mmd2(a, b, float(np.median(np.square(distances))) ** 0.5))
    with pytest.raises(ConfigError, match="scale"):
        mmd2(np.zeros((3, 1)), np.zeros((3, 1)))


def test_c2st_of_a_shift_is_the_accuracy_of_bayes():
    """N(0, I) and N(m, I): Φ(‖m‖/2), to the noise of the draws that are counted."""
    rng, n = np.random.default_rng(7), 1500
    shift = np.array([1.2, -0.9])
    a, b = rng.standard_normal((n, 2)), rng.standard_normal((n, 2)) + shift
    bayes = norm.cdf(1.5 / 2)
    noise = math.sqrt(bayes * (1 - bayes) / (2 * n))
    linear = c2st(a, b, rng, classifier=LinearDiscriminantAnalysis())
    assert linear == pytest.approx(bayes, abs=4 * noise)
    assert c2st(a, b, rng) == pytest.approx(bayes, abs=4 * noise)


def test_c2st_of_equal_and_of_unequal_dependence():
    rng, n = np.random.default_rng(8), 1000
    a, b = rng.standard_normal((n, 2)), rng.standard_normal((n, 2))
    assert abs(c2st(a, b, rng) - 0.5) < 4 / math.sqrt(8 * n)
    b[:, 1] = 0.9 * b[:, 0] + math.sqrt(1 - 0.81) * b[:, 1]  # the same marginals
    assert c2st(a, b, rng) > 0.65
    assert abs(c2st(a, b, rng, classifier=LinearDiscriminantAnalysis()) - 0.5) < 0.06


def test_stein_kernel_agrees_with_automatic_differentiation():
    rng, width = np.random.default_rng(9), 1.3
    x = torch.from_numpy(rng.standard_normal((5, 3)))
    s = torch.from_numpy(rng.standard_normal((5, 3)))

    def kernel(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (1 + (u - v).square().sum() / width**2) ** -0.5

    total = 0.0
    for i in range(5):
        for j in range(5):
            if i == j:
                continue
            u, v = x[i], x[j]
            by_u = torch.func.grad(kernel, 0)(u, v)
            by_v = torch.func.grad(kernel, 1)(u, v)
            both = torch.func.jacfwd(torch.func.grad(kernel, 0), 1)(u, v)
            h = kernel(u, v) * (s[i] @ s[j]) + s[i] @ by_v + s[j] @ by_u + both.trace()
            total += float(h)
    assert stein_discrepancy2(x.numpy(), s.numpy(), width) == pytest.approx(total / 20, rel=1e-10)


def test_stein_discrepancy_of_a_shift():
    """Draws of N(m, 1) under N(0, 1): the scores differ by m, and KSD² = m² E k."""
    rng, m, scale = np.random.default_rng(10), 0.8, 1.0
    root = math.sqrt(2)  # of the difference of two draws
    mean_kernel = quad(lambda r: norm.pdf(r, scale=root) / math.sqrt(1 + r**2), -20, 20)[0]
    draws = [m + rng.standard_normal((200, 1)) for _ in range(30)]
    found = np.array([stein_discrepancy2(x, -x, scale) for x in draws])
    assert abs(found.mean() - m**2 * mean_kernel) < 4 * found.std() / math.sqrt(30)
    null = np.array([stein_discrepancy2(x - m, m - x, scale) for x in draws])
    assert abs(null.mean()) < 4 * null.std() / math.sqrt(30)
    assert found.min() > null.max()


def test_errors_name_what_is_wrong():
    rng, a = np.random.default_rng(11), np.zeros((6, 2))
    with pytest.raises(ShapeError, match="one d"):
        sliced_w2(a, np.zeros((6, 3)), rng)
    with pytest.raises(ShapeError, match="as many draws"):
        c2st(a, np.zeros((7, 2)), rng)
    with pytest.raises(ShapeError, match="score"):
        stein_discrepancy2(a, a[:4])
    with pytest.raises(ConfigError, match="directions"):
        sliced_w2(a, a, rng, 0)
    with pytest.raises(ConfigError, match="folds"):
        c2st(a, a, rng, folds=1)
    zero, singular = np.zeros(2), np.diag([1.0, 0.0])
    with pytest.raises(ConfigError, match="positive definite"):
        gaussian_kl(zero, singular, zero, np.eye(2))
    with pytest.raises(ConfigError, match="negative eigenvalue"):
        gaussian_w2(zero, -np.eye(2), zero, np.eye(2))
    with pytest.raises(ConfigError, match="symmetric"):
        gaussian_w2(zero, np.array([[1.0, 0.5], [0.0, 1.0]]), zero, np.eye(2))
    with pytest.raises(ShapeError, match="covariances"):
        gaussian_kl(zero, np.eye(3), zero, np.eye(2))
