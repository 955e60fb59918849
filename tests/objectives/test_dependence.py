"""Distance correlation: unbiased, blind to units, not blind to shape."""

from math import sqrt

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ShapeError
from latens.objectives.dependence import (
    distance_correlation,
    distances,
    inner_product,
    pairwise_distance_correlations,
    u_centred,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, 6).normal(shape, torch.float64)


def test_the_inner_product_is_the_unbiased_hsic_of_its_kernels():
    """Song et al. 2012, eq. 4, written out."""
    n = 7
    k, m = -distances(normal(n, 2)), -distances(normal(n, 3, seed=1))
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    one = torch.ones(n, dtype=torch.float64)
    expected = torch.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    expected = (expected - 2 * (one @ k @ m @ one) / (n - 2)) / (n * (n - 3))
    torch.testing.assert_close(inner_product(u_centred(k), u_centred(m)), expected)


def test_unbiased_for_independent_parts_of_small_samples():
    runs, n = 3000, 6
    x, y = normal(runs, n, 4, seed=2), normal(runs, n, 1, seed=3)
    pairs = zip(x, y, strict=True)
    values = torch.stack(
        [inner_product(u_centred(distances(a)), u_centred(distances(b))) for a, b in pairs]
    )
    assert abs(values.mean()) < 3.5 * values.std() / sqrt(runs)
    assert values.std() > 0.01


def test_sees_what_no_covariance_sees():
    x = normal(400, 1, seed=4)
    square = x.square() + 0.1 * normal(400, 1, seed=5)
    assert abs(torch.corrcoef(torch.cat([x, square], 1).T)[0, 1]) < 0.15
    assert distance_correlation(x, square) > 0.2
    assert abs(distance_correlation(x, normal(400, 1, seed=6))) < 0.03
    assert distance_correlation(x, -3 * x) == pytest.approx(1, abs=1e-6)


def test_units_do_not_matter():
    x, y = normal(9, 2), normal(9, 2, seed=1)
    here = distance_correlation(x, y)
    torch.testing.assert_close(distance_correlation(1e-3 * x, 5 + 40 * y), here)


def test_gradients_by_finite_differences():
    x, y = normal(6, 2).requires_grad_(), normal(6, 1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(distance_correlation, (x, y), eps=1e-6, atol=1e-6)


def test_a_constant_part_depends_on_nothing():
    x = normal(8, 2).requires_grad_()
    value = distance_correlation(x, torch.zeros(8, 1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value, x)
    assert abs(value) < 1e-6
    assert torch.isfinite(gradient).all()


def test_rows_that_do_not_pair():
    with pytest.raises(ShapeError, match="4 rows"):
        distance_correlation(normal(3, 1), normal(3, 1))
    with pytest.raises(ShapeError, match="rows of x"):
        distance_correlation(normal(5, 1), normal(4, 1))


def test_every_pair_of_columns_at_once():
    columns = normal(200, 3)
    columns = torch.cat([columns, columns[:, :1] + columns[:, 1:2], columns[:, 2:] ** 2], 1)
    found = pairwise_distance_correlations(columns)
    pairs = torch.triu_indices(5, 5, 1).T.tolist()
    for value, (i, j) in zip(found, pairs, strict=True):
        torch.testing.assert_close(value, distance_correlation(columns[:, [i]], columns[:, [j]]))
    shaped = found[pairs.index([2, 4])]
    linear = torch.corrcoef(columns.T)[2, 4].abs()
    assert shaped > 0.15 > linear
