"""Range and null space of arrays: parts that add up, and counts by hand."""

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    hallucinated_share,
    hallucination,
    metric,
    mse,
    null_energy,
    split_error,
    split_variance,
)


def normal(*shape, seed=0):
    return NoiseStream(seed).normal(shape, torch.float64)


def projection(rank: int, size: int):
    """Orthogonal projection of the event, and its matrix."""
    basis = torch.linalg.qr(normal(size, rank, seed=7))[0]
    matrix = basis @ basis.mT
    return lambda x: (x.flatten(-3) @ matrix).reshape(x.shape), matrix


def test_parts_of_error_and_variance_add_up():
    project, matrix = projection(5, 12)
    x, x_hat, draws = normal(3, 1, 4, 3), normal(3, 1, 4, 3, seed=1), normal(50, 3, 1, 4, 3)
    error = split_error(project(x_hat - x), x_hat - x)
    torch.testing.assert_close(error.sum(1), mse(x_hat, x))
    variance = split_variance(project(draws), draws)
    covariances = [draws[:, b].flatten(1).mT.cov() for b in range(3)]
    unseen = torch.eye(12, dtype=torch.float64) - matrix
    for row, c in zip(variance, covariances, strict=True):
        torch.testing.assert_close(row[0], (unseen @ c @ unseen).trace() / 12)
        torch.testing.assert_close(row[1], (matrix @ c @ matrix).trace() / 12)


def test_shares_of_the_population():
    rows = torch.tensor([[3.0, 1.0], [1.0, 3.0], [2.0, 0.0]]).numpy()
    assert metric("null_error").value(rows) == pytest.approx(0.6)
    assert metric("unflagged").value(rows) == pytest.approx(0.6)


def test_hallucinations_are_counted():
    """Six pixels: errors of which four are large, and two of these outside the interval."""
    unseen = torch.tensor([[0.5, -0.5, 0.5, -0.5, 0.1, 0.0]])[:, None]
    x = torch.zeros_like(unseen)
    lower = torch.tensor([[-1.0, -1.0, 0.2, 0.2, 0.2, -1.0]])[:, None]
    found = hallucination(unseen, x, 0.3, lower, lower + 1.5)
    torch.testing.assert_close(found, torch.tensor([[2 / 6, 2 / 6]]))
    assert hallucinated_share(unseen, 0.3).item() == pytest.approx(4 / 6)


def test_energy_of_the_null_space():
    found = null_energy(torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 2.0))
    assert found.tolist() == [[9.0, 4.0]]
    assert metric("injected_content").value(found.numpy()) == pytest.approx(1.5)


def test_arguments_that_do_not_fit():
    x = normal(2, 1, 3, 3)
    with pytest.raises(ConfigError, match="smallest error that would matter"):
        hallucinated_share(x, 0.0)
    with pytest.raises(ShapeError):
        split_error(x[:1], x)
    with pytest.raises(ShapeError):
        split_variance(x[None], x[None])
    with pytest.raises(ShapeError):
        hallucination(x, x, 0.1, x, x[..., :2])
