"""The covariance of the aggregate posterior, and what it costs to estimate it (DIP-VAE-II).

    Cov z = Cov_x μ(x) + diag E_x σ²(x)
    penalty = λ_od ‖offdiag Cov z‖²_F + λ_d ‖diag Cov z − 1‖²

An unbiased covariance has a biased square: for k independent latents with means of variance v,
the sample covariance S of B rows has E ‖offdiag S‖²_F = k (k − 1) v² / (B − 1), with nothing to
penalise. That noise floor falls when latents are switched off; at λ_od = 10 and B = 2 to 8 it
forbids more than one or two active units. Two ways out, both without that bias:

    squares     ‖·‖² by its U-statistic, the mean over four different rows (B ≥ 4)
    buffered    ⟨C, S⟩ with C a moving average of earlier batches, independent of S (B ≥ 2)

The gradient of the first has the noise of S itself, 2 S ∇S; that of the second is 2 C ∇S, and C
has the noise of many batches. All arithmetic is in float32 at least, whatever the autocast.

References:
    Kumar, Sattigeri, Balakrishnan (2018), Variational inference of disentangled latent concepts
    from unlabeled observations, https://arxiv.org/abs/1711.00848;
    Touloumis (2015), Nonparametric Stein-type shrinkage covariance matrix estimators in
    high-dimensional settings, with the U-statistic of tr Σ², https://arxiv.org/abs/1410.4726.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latens.errors import ShapeError


def full_precision(value: Tensor) -> Tensor:
    """The same numbers in float32 at least."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


@dataclass(frozen=True)
class CovariancePenalty:
    """The two squared norms of the penalty, scalars, without weights.

    Attributes:
        off_diagonal: Estimate of ‖offdiag Cov z‖²_F; an unbiased one may be below zero.
        diagonal: Estimate of ‖diag Cov z − 1‖².
        floor: What the plain squares of this batch would add to `off_diagonal` by sampling noise.
    """

    off_diagonal: Tensor
    diagonal: Tensor
    floor: Tensor


def covariance(loc: Tensor) -> Tensor:
    """Unbiased covariance of rows `(B, k)`, `(k, k)`, divisor B − 1."""
    centred = loc - loc.mean(0)
    return centred.T @ centred / (len(loc) - 1)


def squared_covariance(loc: Tensor) -> Tensor:
    """Unbiased estimate of the square of every entry of a covariance.

        U_ij = mean over different a, b, c, d of ¼ (x_a − x_b)_i (x_a − x_b)_j (x_c − x_d)_i (x_c − x_d)_j

    in closed form, with S the sample covariance and Q_ij = Σ_a x̃_ai² x̃_aj² / (B − 1):

        U = (B−1) / (B (B−2) (B−3)) · [ (B−1) (B−2) S_ij² + S_ii S_jj − B Q_ij ]

    Args:
        loc: Rows x, `(B, k)`, independent.

    Returns:
        `(k, k)`; E U_ij = Cov_ij², whatever the distribution.

    Raises:
        ShapeError: If there are fewer than four rows.
    """  # noqa: E501
    count = _rows(loc, 4)
    centred = loc - loc.mean(0)
    matrix = centred.T @ centred / (count - 1)
    fourth = centred.square().T @ centred.square() / (count - 1)
    variance = matrix.diagonal()
    inner = (count - 1) * (count - 2) * matrix.square() + torch.outer(variance, variance)
    return (count - 1) / (count * (count - 2) * (count - 3)) * (inner - count * fourth)


def squares(loc: Tensor, variance: Tensor) -> CovariancePenalty:
    """The penalty from one batch, by U-statistics.

    Args:
        loc: Posterior means μ, `(B, k)`, B ≥ 4; of all processes.
        variance: Posterior variances σ², `(B, k)`.

    Returns:
        Unbiased estimates of both norms.

    Raises:
        ShapeError: If there are fewer than four rows.
    """
    with torch.autocast(loc.device.type, enabled=False):
        loc, excess = full_precision(loc), full_precision(variance) - 1
        count = _rows(loc, 4)
        unbiased = squared_covariance(loc)
        plain = covariance(loc).square()
        off = _off_diagonal(unbiased)
        centred = (loc - loc.mean(0)).square()  # (B, k)
        total, sum_excess = centred.sum(0), excess.sum(0)
        # (Var μ + E[σ² − 1])² = Var² + 2 Var E + E², each over different rows
        mixed = (count - 1) * total * sum_excess - count * (centred * excess).sum(0)
        mixed = mixed / (count * (count - 1) * (count - 2))
        own = (sum_excess.square() - excess.square().sum(0)) / (count * (count - 1))
        diagonal = (unbiased.diagonal() + 2 * mixed + own).sum()
        return CovariancePenalty(off, diagonal, (_off_diagonal(plain) - off).detach())


class CovarianceBuffer(nn.Module):
    """The penalty with a moving average of the covariance of earlier batches.

        value = ⟨C, S⟩ over the off-diagonal entries,   gradient 2 C ∇S,   C ← ρ C + (1 − ρ) S

    C knows nothing of the rows of S, so the value is that of the squared norm wherever the model
    changes slowly over 1 / (1 − ρ) batches. The norm of the diagonal is treated alike.

    Args:
        dim: Number of latents k.
        decay: ρ.

    Attributes:
        average: Moving average of Cov z, `(k, k)`.
        weight: Share of it that has been seen, 1 − ρ^steps.
    """

    average: Tensor
    weight: Tensor

    def __init__(self, dim: int, decay: float = 0.95) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("average", torch.zeros(dim, dim))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, loc: Tensor, variance: Tensor) -> CovariancePenalty:
        """Estimates of both norms; the first batch, which has no predecessor, costs nothing.

        Args:
            loc: Posterior means μ, `(B, k)`, B ≥ 2; of all processes.
            variance: Posterior variances σ², `(B, k)`.
        """
        with torch.autocast(loc.device.type, enabled=False):
            loc, variance = full_precision(loc), full_precision(variance)
            _rows(loc, 2)
            sample = covariance(loc)
            whole = sample + torch.diag(variance.mean(0))
            seen = self.weight.clamp(min=1e-12)
            known = (self.average / seen).to(whole) * (self.weight > 0)
            off = _doubled(_off_diagonal(known * whole))
            gap = (known.diagonal() - 1) * (self.weight > 0)
            diagonal = _doubled((gap * (whole.diagonal() - 1)).sum())
            if self.training:
                with torch.no_grad():
                    self.average.lerp_(whole.to(self.average), 1 - self.decay)
                    self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
            floor = torch.zeros((), dtype=loc.dtype, device=loc.device)
            if len(loc) >= 4:
                plain = _off_diagonal(sample.square())
                floor = (plain - _off_diagonal(squared_covariance(loc))).detach()
            return CovariancePenalty(off, diagonal, floor)


def _doubled(value: Tensor) -> Tensor:
    """The same value with twice the gradient."""
    return 2 * value - value.detach()


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix.sum() - matrix.diagonal().sum()


def _rows(loc: Tensor, least: int) -> int:
    if loc.ndim != 2 or len(loc) < least:
        raise ShapeError(
            "loc",
            f"(B, k) with B ≥ {least}, over all processes",
            tuple(loc.shape),
            "Raise the batch size, or choose `estimator: buffered`, which needs two rows.",
        )
    return len(loc)
