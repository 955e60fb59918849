"""Priors p(z | c) of a mixture VAE.

    standard           N(0, I) for every component
    learned, diagonal  N(μ_c, diag σ_c²)
    learned, full      N(μ_c, L_c L_cᵀ), L_c lower triangular with diagonal σ_c
    flow               z = μ + σ T(u), u ~ N(0, I): one flow for all components

A call returns p(z | c) with batch `(K, 1)`, or `(1, 1)` where components share it, and event
`(dim,)`. The Kullback-Leibler divergence from q(z | x, c) is in closed form except for the flow,
where it is log q(z | x, c) − log p(z) at the draw z that the decoder sees.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal

from latens.distributions import diagonal_normal
from latens.nets.flows import AffineFlow
from latens.objectives import kl_divergence


class LatentPrior(nn.Module, ABC):
    """p(z | c), and its divergence from a diagonal posterior."""

    @abstractmethod
    def forward(self) -> Distribution:
        """p(z | c), batch `(K or 1, 1)`, event `(dim,)`."""

    def kl(self, posterior: Independent, z: Tensor) -> Tensor:
        """KL(q(z | x, c) ‖ p(z | c)), nats, `(K or 1, B)`.

        Args:
            posterior: q(z | x, c), diagonal, batch `(K or 1, B)`.
            z: A draw of it, for priors without a closed form.
        """
        return kl_divergence(posterior, self())


class StandardPrior(LatentPrior):
    """N(0, I).

    Args:
        dim: Number of latents.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(1, 1, dim), persistent=False)
        self.loc: Tensor

    def forward(self) -> Distribution:
        """See `LatentPrior.forward`."""
        return diagonal_normal(self.loc, torch.ones_like(self.loc), 1)


class DiagonalPrior(LatentPrior):
    """N(μ_c, diag σ_c²), learned.

    Args:
        dim: Number of latents.
        components: K.
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(0.5 * torch.randn(components, 1, dim))
        self.log_scale = nn.Parameter(torch.zeros(components, 1, dim))

    def forward(self) -> Distribution:
        """See `LatentPrior.forward`."""
        return diagonal_normal(self.loc, self.log_scale.exp(), 1)


class FullPrior(LatentPrior):
    """N(μ_c, L_c L_cᵀ), learned.

    Args:
        dim: Number of latents.
        components: K.
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(0.5 * torch.randn(components, 1, dim))
        self.log_scale = nn.Parameter(torch.zeros(components, 1, dim))
        self.below = nn.Parameter(torch.zeros(components, 1, dim, dim))

    @property
    def factor(self) -> Tensor:
        """L, `(K, 1, dim, dim)`."""
        return self.below.tril(-1) + torch.diag_embed(self.log_scale.exp())

    def forward(self) -> Distribution:
        """See `LatentPrior.forward`."""
        return MultivariateNormal(self.loc, scale_tril=self.factor, validate_args=False)

    def kl(self, posterior: Independent, z: Tensor) -> Tensor:
        """See `LatentPrior.kl`; the closed form of a diagonal and a full normal.

        ½ (Σ_j s_j² ‖L⁻¹ e_j‖² + ‖L⁻¹ (m − μ)‖² − dim) + Σ_j log L_jj − Σ_j log s_j
        """
        factor = self.factor
        eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False)  # (K, 1, dim, dim)
        trace = (posterior.variance * inverse.square().sum(-2)).sum(-1)  # (K, B)
        away = inverse @ (posterior.mean - self.loc)[..., None]  # (K, B, dim, 1)
        spread = self.log_scale.sum(-1) - posterior.stddev.log().sum(-1)
        return (trace + away.square().sum((-2, -1)) - factor.shape[-1]) / 2 + spread


class FlowPrior(LatentPrior):
    """A normalising flow on top of a learned N(μ, diag σ²), shared by all components.

    Args:
        dim: Number of latents, 2 or more.
        couplings: Number of couplings.
        width: Width of their hidden layers.
    """

    def __init__(self, dim: int, couplings: int, width: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, 1, dim))
        self.log_scale = nn.Parameter(torch.zeros(1, 1, dim))
        self.refinement = AffineFlow(couplings, width).refinement(dim)

    def forward(self) -> Distribution:
        """See `LatentPrior.forward`."""
        return self.refinement(diagonal_normal(self.loc, self.log_scale.exp(), 1))

    def kl(self, posterior: Independent, z: Tensor) -> Tensor:
        """log q(z | x, c) − log p(z) at the draw, whose mean is the divergence; `(K or 1, B)`."""
        return posterior.log_prob(z) - self().log_prob(z)
