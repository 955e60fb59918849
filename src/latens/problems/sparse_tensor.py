"""Sparse matrices of SciPy as tensors."""

import warnings

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor


def csr_tensor(matrix: csr_array) -> Tensor:
    """The matrix in compressed rows; equal entries are summed and columns sorted."""
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
