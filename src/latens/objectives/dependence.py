"""How much two parts of a latent vector depend on each other, without bias.

Let D be the distances within n rows of x, and D̃ their U-centred matrix,

    D̃_ij = D_ij − Σ_l D_il/(n−2) − Σ_k D_kj/(n−2) + Σ_kl D_kl/((n−1)(n−2)),  i ≠ j,  D̃_ii = 0
    (D̃·Ẽ) = Σ_{i≠j} D̃_ij Ẽ_ij / (n (n−3))

(D̃·Ẽ) estimates the squared distance covariance without bias: it is 0 in expectation for
independent parts at any n, and the same expression with kernels in place of −D is the unbiased
HSIC. The correlation (D̃·Ẽ)/√((D̃·D̃)(Ẽ·Ẽ)) lies in [−1, 1], sees dependence of every shape, and
does not change with the unit of either part, so that no part escapes it by shrinking.

References:
    Székely, Rizzo (2013), The distance correlation t-test of independence in high dimension,
    https://doi.org/10.1016/j.jmva.2013.02.012;
    Song, Smola, Gretton, Bedo, Borgwardt (2012), Feature selection via dependence maximization,
    https://jmlr.org/papers/v13/song12a.html.
"""

import torch
from torch import Tensor

from latens.errors import ShapeError
from latens.objectives.covariance import full_precision


def distances(rows: Tensor) -> Tensor:
    """Euclidean distances between rows `(n, d)`, `(n, n)`, with a finite gradient at zero."""
    squared = (rows[:, None] - rows[None]).square().sum(-1)
    tiny = torch.finfo(rows.dtype).eps ** 2
    return (squared + tiny).sqrt()


def u_centred(matrix: Tensor) -> Tensor:
    """U-centred matrix of distances or of a kernel, `(n, n)`; its diagonal plays no part.

    Raises:
        ShapeError: If there are fewer than four rows.
    """
    count = len(matrix)
    if count < 4 or matrix.shape != (count, count):
        raise ShapeError(
            "matrix",
            "(n, n) with n ≥ 4 rows",
            tuple(matrix.shape),
            "Raise the batch size to 4 or more.",
        )
    off = matrix - torch.diag(matrix.diagonal())
    rows, columns = off.sum(1) / (count - 2), off.sum(0) / (count - 2)
    total = off.sum() / ((count - 1) * (count - 2))
    centred = off - rows[:, None] - columns[None] + total
    return centred - torch.diag(centred.diagonal())


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """(Ã·B̃) of two U-centred matrices, a scalar."""
    return (a * b).sum() / (len(a) * (len(a) - 3))


def distance_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Bias-corrected squared distance correlation of two parts.

    Args:
        x: `(n, d)`, n ≥ 4.
        y: `(n, e)`, the same rows.

    Returns:
        Scalar in [−1, 1]; its mean is about 0 for independent parts; 0 for a constant part.

    Raises:
        ShapeError: If the rows differ in number or are fewer than four.
    """
    if len(x) != len(y):
        raise ShapeError("y", f"the {len(x)} rows of x", len(y), "Pair the rows.")
    with torch.autocast(x.device.type, enabled=False):
        a = u_centred(distances(full_precision(x)))
        b = u_centred(distances(full_precision(y)))
        scale = inner_product(a, a) * inner_product(b, b)
        return inner_product(a, b) / scale.clamp(min=torch.finfo(scale.dtype).tiny).sqrt()


@torch.no_grad()
def pairwise_distance_correlations(columns: Tensor) -> Tensor:
    """That of every pair of columns, `(k(k − 1)/2,)`, without gradient.

    Args:
        columns: `(n, k)`, n ≥ 4, each of which varies; takes n² numbers for each column.
    """
    centred = torch.stack([u_centred(distances(column[:, None])) for column in columns.unbind(1)])
    flat = centred.flatten(1)
    products = flat @ flat.mT
    scale = products.diagonal().outer(products.diagonal()).sqrt()
    pairs = torch.triu_indices(len(products), len(products), 1)
    return (products / scale)[pairs[0], pairs[1]]
