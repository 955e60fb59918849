"""What a linear probe still reads in a part that should not know it, as a penalty.

    W = (Cov r + ε)⁻¹ Cov(r, t)             ridge probe, from a moving average of earlier batches
    leak = Σ_j Cov_batch((r W)_j, t_j) / Var t_j

W knows nothing of the rows of the batch, so the leak is the share of the variance of t that this
probe explains on new rows, without the optimism of a fit. Gradients move r and not W. A distance
correlation of the whole vector r cannot replace it: of ninety latents that each know a little, it
sees .07 where a ridge probe reads 99 % of the variance (held-out phantom subjects, location).
"""

import torch
from torch import Tensor, nn

from latens.errors import ShapeError
from latens.objectives.covariance import full_precision


class LinearLeak(nn.Module):
    """Leak of quantities into a part of a latent vector.

    Args:
        dim: Number of latents k of the part.
        quantities: T.
        decay: Share of the moving average that a batch keeps.
        shrinkage: ε as a share of the mean variance of the latents.

    Attributes:
        mean: Moving average of rows (r, t), `(k + T,)`, times `weight`.
        second: The same of their products, `(k + T, k + T)`.
        weight: Share of the average that has been seen.
    """

    mean: Tensor
    second: Tensor
    weight: Tensor

    def __init__(
        self, dim: int, quantities: int, decay: float = 0.99, shrinkage: float = 0.01
    ) -> None:
        super().__init__()
        self.dim, self.decay, self.shrinkage = dim, decay, shrinkage
        size = dim + quantities
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("second", torch.zeros(size, size))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, part: Tensor, quantities: Tensor) -> Tensor:
        """Leak on this batch, a scalar; 0 for the first batch, which has no predecessor.

        Args:
            part: r, `(B, k)`, B ≥ 2; of all processes.
            quantities: t, `(B, T)`, all known.

        Raises:
            ShapeError: If there are fewer than two rows.
        """
        if len(part) < 2 or len(part) != len(quantities):
            raise ShapeError(
                "part, quantities",
                "the same rows, two or more",
                (tuple(part.shape), tuple(quantities.shape)),
                "Raise the batch size.",
            )
        with torch.autocast(part.device.type, enabled=False):
            r, t = full_precision(part), full_precision(quantities).detach()
            leak = r.new_zeros(())
            if float(self.weight) > 0:
                weights, variance = self.probe()
                read = (r - r.mean(0)) @ weights.to(r)
                centred = t - t.mean(0)
                shared = (read * centred).sum(0) / (len(t) - 1)
                leak = (shared / variance.to(r)).sum()
            if self.training:
                self._remember(torch.cat([r.detach(), t], 1))
            return leak

    @torch.no_grad()
    def probe(self) -> tuple[Tensor, Tensor]:
        """W, `(k, T)`, and the variance of every quantity, `(T,)`, of the moving average."""
        mean, second = self.mean / self.weight, self.second / self.weight
        moment = (second - torch.outer(mean, mean)).double()
        k = self.dim
        inside = moment[:k, :k]
        level = inside.diagonal().mean().clamp(min=1e-12)
        inside = inside + self.shrinkage * level * torch.eye(k).to(inside)
        variance = moment.diagonal()[k:].clamp(min=1e-12)
        return torch.linalg.solve(inside, moment[:k, k:]), variance

    @torch.no_grad()
    def _remember(self, rows: Tensor) -> None:
        rows = rows.to(self.mean)
        share = 1 - self.decay
        self.mean.lerp_(rows.mean(0), share)
        self.second.lerp_(rows.T @ rows / len(rows), share)
        self.weight.lerp_(torch.ones_like(self.weight), share)
