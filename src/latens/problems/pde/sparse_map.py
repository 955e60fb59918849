"""Fixed sparse matrices as differentiable maps of batches."""

import math
import warnings

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from latens.problems.constants import Constants
from latens.problems.linear_map import linear_map


class SparseMap:
    """Product with a fixed sparse matrix along the last axis, differentiable to any order.

    Args:
        matrix: Real matrix, `(m, n)`; kept in float64.
    """

    def __init__(self, matrix: csr_array) -> None:
        transpose = csr_array(matrix.T)
        self._constants = Constants({"matrix": _sparse(matrix), "transpose": _sparse(transpose)})

    def __call__(self, x: Tensor) -> Tensor:
        """Map `(..., n)` to `(..., m)`."""
        return linear_map(x, self._product, self._adjoint)

    def _product(self, x: Tensor) -> Tensor:
        return self._multiply("matrix", x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._multiply("transpose", y)

    def _multiply(self, name: str, value: Tensor) -> Tensor:
        matrix = self._constants.on(name, value)
        rows = value.reshape(math.prod(value.shape[:-1]), value.shape[-1])
        return (matrix @ rows.mT).mT.reshape(*value.shape[:-1], matrix.shape[0])


def _sparse(matrix: csr_array) -> Tensor:
    matrix = csr_array(matrix, dtype=np.float64)
    matrix.sum_duplicates()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=True,
        )
