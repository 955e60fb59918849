"""Conjugate gradients and Lanczos iteration against dense linear algebra."""

import pytest
import torch

from latens.errors import NumericalError
from latens.problems import conjugate_gradient, largest_eigenvalue
from problems.operator_cases import normal


def system(condition: float, n: int = 30) -> torch.Tensor:
    """Symmetric positive definite matrix with a given condition number."""
    q = torch.linalg.qr(normal(n, n)).Q
    return (q * torch.logspace(0, torch.log10(torch.tensor(condition)).item(), n).double()) @ q.mT


def test_items_of_different_difficulty():
    matrices = torch.stack([system(c) for c in (1.0, 30.0, 1e4)])
    rhs = normal(3, 30, seed=1) * torch.tensor([1.0, 1e-8, 1e6])[:, None]
    solution = conjugate_gradient(lambda x: (matrices @ x[..., None])[..., 0], rhs, 1, 1e-12, 500)
    expected = torch.linalg.solve(matrices, rhs)
    error = (solution - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert error.max() < 1e-8


def test_preconditioner_shortens_the_iteration():
    scale = torch.logspace(0, 8, 40, dtype=torch.float64)
    rhs = normal(2, 40)
    solution = conjugate_gradient(
        lambda x: scale * x, rhs, 1, 1e-12, 3, precondition=lambda r: r / scale
    )
    torch.testing.assert_close(solution, rhs / scale)


def test_zero_right_hand_side_beside_another():
    matrix, rhs = system(10.0), normal(2, 30)
    rhs[0] = 0
    solution = conjugate_gradient(lambda x: x @ matrix, rhs, 1, 1e-10, 100)
    assert solution[0].abs().max() == 0
    torch.testing.assert_close(solution[1], torch.linalg.solve(matrix, rhs[1]))


@pytest.mark.parametrize("case", ["budget", "indefinite", "nan"])
def test_failure_is_an_error(case):
    matrix, rhs = system(1e6), normal(1, 30)
    if case == "indefinite":
        matrix = -matrix
    if case == "nan":
        rhs[0, 3] = torch.nan
    with pytest.raises(NumericalError, match="`conjugate_gradient`: expected relative residual"):
        conjugate_gradient(lambda x: x @ matrix, rhs, 1, 1e-10, 5)


@pytest.mark.parametrize("gap", [1.0, 1e-2, 1e-4])
def test_largest_eigenvalue(gap):
    q = torch.linalg.qr(normal(80, 80)).Q
    values = torch.linspace(0, 1, 80, dtype=torch.float64)
    values[-1] = 1 + gap
    matrix = (q * values) @ q.mT
    assert largest_eigenvalue(lambda v: matrix @ v, normal(80), 1e-6) == pytest.approx(
        1 + gap, rel=1e-6
    )


def test_largest_eigenvalue_of_zero_and_of_one_number():
    assert largest_eigenvalue(lambda v: 0 * v, normal(5), 1e-6) == 0
    assert largest_eigenvalue(lambda v: 3 * v, normal(1), 1e-6) == pytest.approx(3)


def test_largest_eigenvalue_gives_up():
    q = torch.linalg.qr(normal(80, 80)).Q
    matrix = (q * torch.linspace(0.999, 1, 80, dtype=torch.float64)) @ q.mT
    with pytest.raises(NumericalError, match="`norm`: expected relative residual 1e-14"):
        largest_eigenvalue(lambda v: matrix @ v, normal(80), 1e-14, 4, 3)
