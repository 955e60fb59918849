"""Linear erasure: known quantities taken out of a vector, so that no linear probe reads them.

    B = Σ_rr⁻¹ Σ_rt                             the best linear reading of t in r
    P = I − Σ_rt (Bᵀ Σ_rt)⁻¹ Bᵀ                 rank k − T, P² = P
    r ↦ m + P (r − m)

P Σ_rt = 0: the result has no covariance with t, so the best linear reading of it is the mean of
t, and since R² has no unit, no change of units brings anything back. What is only made smaller
stays as readable as it was. Of all linear maps with this property P changes r least in mean
square, in whatever inner product.

To subtract from r what estimates t̂ of t explain of it leaves Cov(r, t) − Σ_rt̂ Σ_t̂t̂⁻¹ Cov(t̂, t):
nothing only where r knows no more of t than t̂ does. P asks nothing of any estimate, and takes
whole directions away, with whatever they know of t in other than linear ways.

With n fitting rows a probe of endless new rows still reads about k/n. What is not linear stays.

References:
    Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman (2023), LEACE: perfect linear
    concept erasure in closed form, https://arxiv.org/abs/2306.03819.
"""

import torch
from torch import Tensor, nn

from latens.errors import ConfigError, ShapeError

DECAY = 0.99
"""Share of the moving average that a batch keeps."""
ROWS_PER_LATENT = 4
"""Rows that are seen for every latent before anything is erased: with fewer, the directions that
seem to tell most are those of noise."""
RIDGE = 1e-6
"""Added to the variance of every latent, as a share of it. P Σ_rt = 0 whatever it is."""


class LinearErasure(nn.Module):
    """Erases T quantities from vectors of k numbers; the identity until it has been fitted.

    Moments and map are of float64, and belong to the weights. Gradients pass through the map and
    do not move it.

    Args:
        dim: k.
        quantities: T, fewer than k.

    Attributes:
        mean: Moving average of rows (r, t), `(k + T,)`, times `weight`.
        second: The same of their products, `(k + T, k + T)`.
        weight: Share of the average that has been seen.
        rows: Number of rows that have been seen.
        centre: m, `(k,)`.
        projection: P, `(k, k)`.

    Raises:
        ConfigError: If nothing would be left.
    """

    mean: Tensor
    second: Tensor
    weight: Tensor
    rows: Tensor
    centre: Tensor
    projection: Tensor

    def __init__(self, dim: int, quantities: int) -> None:
        super().__init__()
        if not 0 < quantities < dim:
            raise ConfigError(
                "dim, quantities",
                "more latents than quantities, each of which takes a direction away",
                (dim, quantities),
                "Raise `dim`.",
            )
        self.dim, size = dim, dim + quantities
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(size, size, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("centre", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("projection", torch.eye(dim, dtype=torch.float64))

    def forward(self, r: Tensor) -> Tensor:
        """m + P (r − m) with the map as it is now, `(…, k)`, of the type of r."""
        with torch.autocast(r.device.type, enabled=False):
            # Copies: the buffers may change before the backward pass.
            centre, projection = self.centre.clone(), self.projection.clone()
            return (centre + (r.double() - centre) @ projection.T).to(r.dtype)

    @torch.no_grad()
    def learn(self, r: Tensor, t: Tensor) -> None:
        """Add a batch to the moving average, and fit the map to it.

        Args:
            r: `(B, k)`, before erasure; of all processes.
            t: `(B, T)`, all known.
        """
        rows, share = self._joined(r, t), 1 - DECAY
        self.mean.lerp_(rows.mean(0), share)
        self.second.lerp_(rows.T @ rows / len(rows), share)
        self.weight.lerp_(torch.ones_like(self.weight), share)
        self.rows += len(rows)
        if int(self.rows) >= ROWS_PER_LATENT * self.dim:
            self._solve()

    @torch.no_grad()
    def fit(self, r: Tensor, t: Tensor) -> None:
        """Fit the map to rows as they are, and forget all earlier ones.

        Args:
            r: `(n, k)`, before erasure.
            t: `(n, T)`, all known.
        """
        rows = self._joined(r, t)
        self.mean.copy_(rows.mean(0))
        self.second.copy_(rows.T @ rows / len(rows))
        self.weight.fill_(1.0)
        self.rows.fill_(len(rows))
        self._solve()

    def _joined(self, r: Tensor, t: Tensor) -> Tensor:
        """Rows (r, t) in float64, `(B, k + T)`."""
        if len(r) != len(t) or r.shape[1] + t.shape[1] != len(self.mean):
            raise ShapeError(
                "r, t",
                f"the same rows, of {len(self.mean)} numbers together",
                (tuple(r.shape), tuple(t.shape)),
                "Give what the erasure was built for.",
            )
        return torch.cat([r.double(), t.double()], 1)

    def _solve(self) -> None:
        """P = I − L U Uᵀ L⁻¹ with L Lᵀ = Σ_rr and U an orthonormal basis of L⁻¹ Σ_rt.

        The basis has T columns also where quantities depend on each other: P Σ_rt = 0 stays.
        """
        k, mean = self.dim, self.mean / self.weight
        moment = self.second / self.weight - torch.outer(mean, mean)  # (k + T, k + T)
        inside = moment[:k, :k]
        ridge = torch.diag(RIDGE * inside.diagonal().clamp(min=1e-12))
        # Values that are not finite are for the loss to report: nothing is raised here.
        root, _ = torch.linalg.cholesky_ex(inside + ridge)
        whitened = torch.linalg.solve_triangular(root, moment[:k, k:], upper=False)
        basis, _ = torch.linalg.qr(whitened)  # (k, T)
        reading = torch.linalg.solve_triangular(root.T, basis, upper=True)  # (k, T)
        self.projection.copy_(torch.eye(k).to(inside) - root @ basis @ reading.T)
        self.centre.copy_(mean[:k])
