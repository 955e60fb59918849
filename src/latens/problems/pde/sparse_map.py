"""Fixed sparse matrices as differentiable maps of batches."""

import math

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from latens.problems.constants import Constants
from latens.problems.linear_map import linear_map
from latens.problems.sparse_tensor import csr_tensor


class SparseMap:
    """Product with a fixed sparse matrix along the last axis, differentiable to any order.

    Args:
        matrix: Real matrix, `(m, n)`; kept in float64.
    """

    def __init__(self, matrix: csr_array) -> None:
        plain = csr_array(matrix, dtype=np.float64)
        self._constants = Constants(
            {"matrix": csr_tensor(plain), "transpose": csr_tensor(csr_array(plain.T))}
        )

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
