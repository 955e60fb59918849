"""Decoders of a mixture: an image from latents z and a component c, put together from parts.

    trunk:       dense | conv                     how features are made
    component:   plain | embedding | film         how c enters them
    likelihood:  bernoulli | fixed | shared | per_image | per_pixel     what is said of the image

Every combination is one line of configuration, for example
`decoder: {trunk: conv, component: film, likelihood: per_image}`. The last four likelihoods are
Gaussians whose σ is a constant, one learned number, a number per image, or one per pixel.

A component is a row of weights over all components: one-hot for a sum over components, a draw on
the simplex where c is sampled. FiLM scales and shifts every hidden feature by numbers of the
component (Perez et al. 2018, https://arxiv.org/abs/1709.07871); an embedding is a learned vector
that the first layer reads beside z.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent
from torch.nn import functional as F

from latens.distributions import IsotropicNormal, diagonal_normal
from latens.errors import ConfigError
from latens.nets.conv import block, channels_last, convolution, grids, widths
from latens.nets.patches import Patches
from latens.nets.scale import (
    Bound,
    FixedScale,
    PerImageScale,
    PerPixelScale,
    ScaleHead,
    SharedScale,
)
from latens.types import Shape

TrunkKind = Literal["dense", "conv"]
ComponentKind = Literal["plain", "embedding", "film"]
LikelihoodKind = Literal["bernoulli", "fixed", "shared", "per_image", "per_pixel"]


class Embedding(nn.Module):
    """Adds a learned vector of the component: what a linear layer makes of an embedding.

    Args:
        components: K.
        width: Number of features.
    """

    def __init__(self, components: int, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.empty(components, width))
        nn.init.normal_(self.shift, std=0.5)

    def forward(self, h: Tensor, weights: Tensor) -> Tensor:
        """Features `(*leading, width)` of components `(*leading, K)`."""
        return h + weights @ self.shift


class FiLM(nn.Module):
    """Scales and shifts features by learned numbers of the component.

    Args:
        components: K.
        width: Number of features.
    """

    def __init__(self, components: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(components, width))
        self.shift = nn.Parameter(torch.empty(components, width))
        for parameter in (self.gain, self.shift):
            nn.init.normal_(parameter, std=0.3)

    def forward(self, h: Tensor, weights: Tensor) -> Tensor:
        """Features `(*leading, width)`, or maps `(N, width, *grid)` of components `(N, K)`."""
        gain, shift = weights @ self.gain, weights @ self.shift
        extra = [1] * (h.ndim - weights.ndim)
        gain, shift = (u.reshape(*u.shape, *extra) for u in (gain, shift))
        return h * (1 + gain) + shift


class Ignored(nn.Module):
    """The component changes nothing."""

    def forward(self, h: Tensor, weights: Tensor) -> Tensor:
        """The features."""
        return h


class DenseEncoder(nn.Module):
    """An image to one feature vector by two hidden layers, without convolutions.

    Args:
        shape: Shape of the image.
        width: Width of the hidden layer.
        features: Length of the vector.
    """

    def __init__(self, shape: Shape, width: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(prod(shape), width), nn.SiLU(), nn.Linear(width, features)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, features)`."""
        return F.silu(self.layers(x))


def _conditions(
    component: ComponentKind, components: int, sizes: tuple[int, ...]
) -> nn.ModuleList:
    """One module per hidden layer; an embedding enters the first alone."""
    if component == "film":
        return nn.ModuleList(FiLM(components, size) for size in sizes)
    first = Embedding(components, sizes[0]) if component == "embedding" else Ignored()
    return nn.ModuleList([first, *(Ignored() for _ in sizes[1:])])


class DenseTrunk(nn.Module):
    """Two hidden layers.

    Args:
        dim: Number of latents.
        components: K.
        shape: Shape of the image.
        width: Width of the hidden layers.
        component: How the component enters.
    """

    def __init__(
        self, dim: int, components: int, shape: Shape, width: int, component: ComponentKind
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.layers = nn.ModuleList([nn.Linear(dim, width), nn.Linear(width, width)])
        self.conditions = _conditions(component, components, (width, width))
        self.last = nn.Linear(width, prod(shape))

    def forward(self, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Free numbers `(N, *shape)` and features `(N, width, 1)`.

        Args:
            z: `(*leading, dim)`; axes of length 1 are those that components share.
            weights: `(*leading, K)`, broadcastable to those of z.
        """
        h = z
        for layer, condition in zip(self.layers, self.conditions, strict=True):
            h = F.silu(condition(layer(h), weights))  # (*leading, width)
        h = h.flatten(0, -2)  # (N, width)
        return self.last(h).reshape(-1, *self.shape), h[..., None]


class ConvTrunk(nn.Module):
    """A hidden vector, then resizing and convolution from the coarsest grid to the image.

    Args:
        dim: Number of latents.
        components: K.
        patches: How the image is folded.
        width: Channels on the finest grid.
        component: How the component enters.
    """

    def __init__(
        self, dim: int, components: int, patches: Patches, width: int, component: ComponentKind
    ) -> None:
        super().__init__()
        dims = patches.dims
        self.patches = patches
        self.grids = grids(patches.grid)
        channels = widths(width, len(self.grids))
        self.coarse = (channels[-1], *self.grids[-1])
        hidden = 4 * width
        self.layer = nn.Linear(dim, hidden)
        self.spread = nn.Linear(hidden, prod(self.coarse))
        coarser = [*channels[1:], channels[-1]]
        self.reductions = nn.ModuleList(
            convolution(dims, i, o, kernel=1) for i, o in zip(coarser, channels, strict=True)
        )
        self.steps = nn.ModuleList(block(dims, c, c) for c in channels)
        self.conditions = _conditions(component, components, (hidden, *reversed(channels)))
        self.last = convolution(dims, channels[0], patches.channels)

    def forward(self, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Free numbers `(N, C, *spatial)` and features `(N, width, *grid)`.

        Args:
            z: `(*leading, dim)`; axes of length 1 are those that components share.
            weights: `(*leading, K)`, broadcastable to those of z.
        """
        first, *others = self.conditions
        h = F.silu(first(self.layer(z), weights))  # (*leading, hidden)
        if not isinstance(first, Ignored):  # otherwise h may lack the axis of components
            weights = weights.expand(*h.shape[:-1], weights.shape[-1]).flatten(0, -2)  # (N, K)
        h = self.spread(h.flatten(0, -2)).reshape(-1, *self.coarse)  # (N, H, *coarsest)
        h = channels_last(h)
        for level, condition in zip(reversed(range(len(self.steps))), others, strict=True):
            h = self.reductions[level](h)
            if tuple(h.shape[2:]) != tuple(self.grids[level]):
                h = F.interpolate(h, size=self.grids[level])  # (N, H, *grid)
            h = condition(self.steps[level](h), weights)
        return self.patches.join(self.last(h)), h


class ComponentDecoder(nn.Module):
    """p(x | z, c) of images with values in [0, 1].

        x | z, c ~ N(sigmoid(f), σ²)   or   Bernoulli(sigmoid(f))

    Args:
        trunk: Module `(z, weights) -> (free numbers, features)`.
        scale: Module from features to σ; None for Bernoulli.
        shape: Shape of the image.
        patches: How a σ per pixel is folded; None where it is a vector.
        aware: True if the component changes the image.
    """

    def __init__(
        self,
        trunk: nn.Module,
        scale: ScaleHead | None,
        shape: Shape,
        patches: Patches | None,
        aware: bool,
    ) -> None:
        super().__init__()
        self.trunk, self.scale, self.patches = trunk, scale, patches
        self.shape, self.aware = tuple(shape), aware

    def forward(self, z: Tensor, weights: Tensor) -> Independent:
        """p(x | z, c).

        Args:
            z: Latents, `(*leading, dim)`.
            weights: Component, `(*leading, K)`, broadcastable to z, with as many axes.

        Returns:
            Distribution with batch `(*leading,)` and event `shape`.
        """
        free, features = self.trunk(z, weights)
        return self._distribution(free, features, _leading(z, weights, self.aware))

    def with_separate_scale(self, z: Tensor, weights: Tensor) -> Independent:
        """The same distribution; gradients of σ reach the scale head and go no further."""
        free, features = self.trunk(z, weights)
        return self._distribution(free, features.detach(), _leading(z, weights, self.aware))

    def _distribution(self, free: Tensor, features: Tensor, leading: Shape) -> Independent:
        free = free.reshape(*leading, *self.shape)
        if self.scale is None:
            base = Bernoulli(logits=free, validate_args=False)
            return Independent(base, len(self.shape), validate_args=False)
        scale = self.scale(features)
        if isinstance(self.scale, PerPixelScale):
            scale = scale if self.patches is None else self.patches.join(scale)
            return diagonal_normal(
                free.sigmoid(), scale.reshape(*leading, *self.shape), len(self.shape)
            )
        scale = scale.reshape(*leading, *[1] * len(self.shape))
        return IsotropicNormal(free.sigmoid(), scale, len(self.shape))


def _leading(z: Tensor, weights: Tensor, aware: bool) -> Shape:
    """Leading axes of the result: components that change nothing add none."""
    if not aware:
        return tuple(z.shape[:-1])
    return tuple(torch.broadcast_shapes(z.shape[:-1], weights.shape[:-1]))


@dataclass(frozen=True)
class Decoder:
    """Settings of a `ComponentDecoder`.

    Args:
        trunk: Hidden layers of units, or convolutions.
        component: How the component enters: not at all, beside z, or in every hidden layer.
        likelihood: Bernoulli, or a Gaussian with this kind of σ.
        width: Width of dense layers, or channels on the finest grid; 0 for 256 and 16.
        lower: Smallest σ, for images in [0, 1].
        upper: Largest σ.
        start: Initial σ; the σ of `fixed`.
        bound: How σ is kept between these bounds.
        patch: Edge of the patches that convolutions fold into channels.
    """

    trunk: TrunkKind = "dense"
    component: ComponentKind = "film"
    likelihood: LikelihoodKind = "per_image"
    width: int = 0
    lower: float = 0.05
    upper: float = 0.5
    start: float = 0.2
    bound: Bound = "smooth"
    patch: int = 2

    def __post_init__(self) -> None:
        multiple = 4 if self.trunk == "conv" else 1
        if self.width < 0 or self.width % multiple:
            raise ConfigError(
                "decoder.width",
                f"0, or a positive multiple of {multiple}",
                self.width,
                "Choose for example 256 for dense layers and 16 for convolutions.",
            )
        if self.patch < 1:
            raise ConfigError("decoder.patch", "1 or more", self.patch, "Use 1 for no folding.")

    def build(self, dim: int, components: int, shape: Shape) -> ComponentDecoder:
        """The network.

        Args:
            dim: Number of latents.
            components: K.
            shape: Shape of the image, `(C, *spatial)`.
        """
        aware = self.component != "plain"
        if self.trunk == "dense":
            width = self.width or 256
            trunk = DenseTrunk(dim, components, shape, width, self.component)
            return ComponentDecoder(trunk, self._head(width, prod(shape)), shape, None, aware)
        width, patches = self.width or 16, Patches(shape, self.patch)
        trunk = ConvTrunk(dim, components, patches, width, self.component)
        return ComponentDecoder(trunk, self._head(width, patches.channels), shape, patches, aware)

    def _head(self, width: int, channels: int) -> ScaleHead | None:
        bounds = (self.lower, self.upper, self.start, self.bound)
        if self.likelihood == "bernoulli":
            return None
        if self.likelihood == "fixed":
            return FixedScale(*bounds)
        if self.likelihood == "shared":
            return SharedScale(*bounds)
        if self.likelihood == "per_image":
            return PerImageScale(width, *bounds)
        return PerPixelScale(width, channels, *bounds)
