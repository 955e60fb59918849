"""Normalising flows that refine a diagonal Gaussian; the transformations are zuko's.

    z = μ + σ · T(u; c),   u ~ N(0, I),   c = c(μ, log σ)

T is a chain of couplings: half of the vector passes unchanged and, with the context c, says how
the other half is mapped. Every coupling starts as the identity, so that training starts at the
diagonal Gaussian, and a flow can only gain on it.

A linear path from one half to the shift of the other makes correlations between latents exact
without a detour through the hidden layers.

Dinh, Sohl-Dickstein, Bengio (2017), Density estimation using Real NVP,
https://arxiv.org/abs/1605.08803; Durkan et al. (2019), Neural spline flows,
https://arxiv.org/abs/1906.04032.
"""

from abc import ABC, abstractmethod
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Transform

from latens.distributions import NoiseStream, RefinedNormal
from latens.errors import ConfigError


def _zuko() -> ModuleType:
    """`zuko.transforms`, without zuko's change of torch's global validation."""
    before = Distribution._validate_args
    import zuko.transforms

    Distribution.set_default_validate_args(before)
    return zuko.transforms


class Coupling(nn.Module):
    """One coupling; a call returns the transformation for a context.

        a → a,   b → S(e^s ⊙ b + t),   (s, t, knots of S) = W a/√|a| + MLP(a, c)

    W acts on t alone. S is a monotonic rational-quadratic spline on [−5, 5], or absent.

    Args:
        mask: True for a, False for b, `(dim,)`.
        context: Length of c.
        width: Width of the two hidden layers.
        bins: Bins of the spline; 0 for none.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, context: int, width: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.bins = bins
        kept, mapped = int(mask.sum()), int((~mask).sum())
        self.numbers = 2 if bins == 0 else 2 + 3 * bins - 1
        self.hidden = nn.Sequential(
            nn.Linear(kept + context, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.last = nn.Linear(width, mapped * self.numbers)
        self.linear = nn.Linear(kept, mapped, bias=False)
        for start in (self.last.weight, self.last.bias, self.linear.weight):
            nn.init.zeros_(start)

    def forward(self, context: Tensor) -> Transform:
        """Transformation of vectors `(*sample, B, dim)` for contexts `(B, width)`."""

        def mapping(kept: Tensor) -> Transform:
            zuko = _zuko()
            wide = context.expand(*kept.shape[:-1], context.shape[-1])
            free = self.last(self.hidden(torch.cat([kept, wide], dim=-1)))
            free = free.unflatten(-1, (-1, self.numbers))  # (*sample, B, |b|, numbers)
            shift = free[..., 0] + self.linear(kept / kept.shape[-1] ** 0.5)
            univariate = zuko.MonotonicAffineTransform(shift, free[..., 1])
            if self.bins:
                knots = free[..., 2:].split([self.bins, self.bins, self.bins - 1], dim=-1)
                spline = zuko.MonotonicRQSTransform(*knots)
                univariate = zuko.ComposedTransform(univariate, spline)
            return zuko.DependentTransform(univariate, 1)

        return _zuko().CouplingTransform(mapping, self.mask)


class Refinement(nn.Module):
    """Diagonal Gaussian to its refinement by a chain of couplings.

    The halves are random but fixed; every second coupling swaps those of the one before.

    Args:
        dim: Number of latents.
        couplings: Number of couplings.
        width: Length of the context, and width of the hidden layers.
        bins: Bins of the splines; 0 for affine couplings.
    """

    def __init__(self, dim: int, couplings: int, width: int, bins: int) -> None:
        super().__init__()
        if dim < 2:
            raise ConfigError(
                "flow",
                "two latents or more, which it couples",
                dim,
                "Raise `dim`, or leave the flow out.",
            )
        self.context = nn.Sequential(nn.Linear(2 * dim, width), nn.SiLU())
        self.couplings = nn.ModuleList(
            Coupling(_half(dim, index), width, width, bins) for index in range(couplings)
        )

    def forward(self, base: Independent) -> RefinedNormal:
        """Refine N(μ, diag σ²), batch `(B,)`, event `(dim,)`."""
        moments = torch.cat([base.mean, base.stddev.log()], dim=-1)  # (B, 2 dim)
        context = self.context(moments)  # (B, width)
        steps = [coupling(context) for coupling in self.couplings]
        return RefinedNormal(base, _zuko().ComposedTransform(*steps))


def _half(dim: int, index: int) -> Tensor:
    """Mask of the half that a coupling keeps, `(dim,)`."""
    first = NoiseStream(dim, index // 2).permutation(dim) < dim // 2
    return first if index % 2 == 0 else ~first


class Flow(ABC):
    """Family of flows that may refine q(z | y)."""

    @abstractmethod
    def refinement(self, dim: int) -> Refinement:
        """The module for `dim` latents.

        Raises:
            ConfigError: If `dim` is below 2.
        """


def _check(*settings: tuple[str, int]) -> None:
    for name, value in settings:
        if value < 2:
            raise ConfigError(name, "2 or more", value, "Raise it.")


class AffineFlow(Flow):
    """Affine couplings (Real NVP): correlations, and skewness through nonlinear shifts.

    Args:
        couplings: Number of couplings; with 4, every latent is mapped twice.
        width: Width of the hidden layers.
    """

    def __init__(self, couplings: int = 4, width: int = 128) -> None:
        _check(("couplings", couplings), ("width", width))
        self.couplings, self.width = couplings, width

    def refinement(self, dim: int) -> Refinement:
        """See `Flow.refinement`."""
        return Refinement(dim, self.couplings, self.width, bins=0)


class SplineFlow(Flow):
    """Affine couplings followed by rational-quadratic splines: also several modes.

    Args:
        couplings: Number of couplings; with 4, every latent is mapped twice.
        width: Width of the hidden layers.
        bins: Bins of each spline on [−5, 5], in units of the diagonal posterior's scale.
    """

    def __init__(self, couplings: int = 4, width: int = 128, bins: int = 8) -> None:
        _check(("couplings", couplings), ("width", width), ("bins", bins))
        self.couplings, self.width, self.bins = couplings, width, bins

    def refinement(self, dim: int) -> Refinement:
        """See `Flow.refinement`."""
        return Refinement(dim, self.couplings, self.width, self.bins)
