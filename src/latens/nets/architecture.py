"""Families of networks that a model is built from.

A model says *what* it needs (a posterior from these tensors, a decoder to that shape); an
`Architecture` says *how* it is made. The model file then reads like its equations.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from latens.distributions import diagonal_normal
from latens.errors import ConfigError
from latens.nets.conv import ConvPyramid, ConvUpsampler, Trunk, grids
from latens.nets.maps import GaussianMap, MapUpsampler
from latens.nets.patches import Patches
from latens.nets.scale import Scale, scale_head
from latens.types import Shape


class GaussianVector(nn.Module):
    """Diagonal Gaussian over `dim` latents from a feature vector.

    Args:
        trunk: Module from input tensors to features `(N, width)`.
        width: Number of features.
        dim: Number of latents.
        lowest: Floor of log σ, approached smoothly.
    """

    def __init__(self, trunk: nn.Module, width: int, dim: int, lowest: float = -6.0) -> None:
        super().__init__()
        self.trunk = trunk
        self.lowest = lowest
        self.head = nn.Linear(width, 2 * dim)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.1 / width**0.5)

    def forward(self, *inputs: Tensor) -> Independent:
        """q(z | inputs), batch `(N,)`, event `(dim,)`; log σ is kept above `lowest`."""
        loc, free = self.head(self.trunk(*inputs)).chunk(2, dim=-1)
        log_scale = self.lowest + nn.functional.softplus(free - self.lowest)
        return diagonal_normal(loc, log_scale.exp(), 1)


class GaussianImage(nn.Module):
    """Gaussian over a signal with a learned scale.

    Args:
        trunk: Module `(z, *context) -> (loc, features)`, the signal folded in patches.
        patches: How the signal is folded.
        scale: Module from features to σ.
    """

    def __init__(self, trunk: nn.Module, patches: Patches, scale: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.patches = patches
        self.scale = scale

    def forward(self, z: Tensor, *context: Tensor) -> Independent:
        """p(x | z, context) in standard units.

        Args:
            z: Latents, `(*leading, dim)`; the last leading axis is the batch.
            *context: Images, `(B, *context_shape)`, shared by the other leading axes.

        Returns:
            Distribution with batch `(*leading,)` and event `(C, *spatial)`.
        """
        leading = z.shape[:-1]
        loc, features = self.trunk(z.reshape(-1, z.shape[-1]), *context)
        scale = self.scale(features)
        if scale.shape[1:] == loc.shape[1:]:  # one σ per element is folded as the signal is
            scale = self.patches.join(scale)
        loc = self.patches.join(loc)
        loc = loc.reshape(*leading, *loc.shape[1:])
        scale = scale.reshape(*leading, *scale.shape[1:])
        return diagonal_normal(loc, scale, loc.ndim - len(leading))

    def log_prob(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x | z), as `forward(z).log_prob(x)`, without tensors that only spread σ.

        At 4·128³ elements every such tensor is 33 MB per volume, in the graph and in time.

        Args:
            z: Latents, `(N, dim)`.
            x: Signals in standard units, `(N, C, *spatial)`.

        Returns:
            Nats per sample, `(N,)`, summed over the event in float32 at least.
        """
        loc, features = self.trunk(z)
        scale = self.scale(features)
        wide = torch.promote_types(loc.dtype, torch.float32)
        loc, scale = self.patches.join(loc), scale.to(wide)
        if scale.shape[2:].numel() > 1:
            if scale.shape[1] != x.shape[1]:
                scale = self.patches.join(scale)
            return diagonal_normal(loc.to(wide), scale, x.ndim - 1).log_prob(x)
        squares = (x - loc.to(wide)).square().flatten(2).sum(-1)  # (N, C)
        scale = scale.flatten(1).expand_as(squares)  # (N, C)
        inside = 0.5 * squares / scale.square() + x[0, 0].numel() * scale.log()
        return -inside.sum(1) - 0.5 * math.log(2 * math.pi) * x[0].numel()


class LinearGaussianVector(nn.Module):
    """Diagonal Gaussian with affine mean and one learned scale per latent.

        loc = W u / √width + b

    Adam moves every entry of W alike: without the division one step would move a latent by
    about width times the learning rate, and the decoder could not follow.

    Args:
        width: Number of elements of all inputs.
        dim: Number of latents.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, dim)
        nn.init.normal_(self.head.weight, std=0.1)
        nn.init.zeros_(self.head.bias)
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self, *inputs: Tensor) -> Independent:
        """q(z | inputs), batch `(N,)`, event `(dim,)`."""
        flat = torch.cat([u.flatten(1) for u in inputs], dim=1)  # (N, width)
        loc = self.head(flat / flat.shape[1] ** 0.5)
        return diagonal_normal(loc, self.log_scale.exp().expand_as(loc), 1)


class DenseGaussianVector(nn.Module):
    """Diagonal Gaussian whose mean is an affine map and what a perceptron adds to it.

        loc = W u + b + μ(u),    log σ = s(u)

    Latents see their inputs from the first step on, where a deep encoder begins with none and
    leaves those unused that little depends on.

    Args:
        width: Number of elements of all inputs.
        features: Width of both hidden layers.
        dim: Number of latents.
        lowest: Floor of log σ, approached smoothly.
    """

    def __init__(self, width: int, features: int, dim: int, lowest: float = -6.0) -> None:
        super().__init__()
        self.lowest = lowest
        self.affine = nn.Linear(width, dim)
        self.hidden = nn.Sequential(
            nn.Linear(width, features),
            nn.SiLU(),
            nn.Linear(features, features),
            nn.SiLU(),
            nn.Linear(features, 2 * dim),
        )

    @torch.no_grad()
    def start_at_principal_scores(self, *inputs: Tensor) -> None:
        """Set the affine map to principal scores of variance 1, and the perceptron near nothing.

        Scores beyond the rank of the inputs are left as they are.

        Args:
            *inputs: Tensors as the encoder reads them, `(n, ...)`.
        """
        flat = torch.cat([u.flatten(1) for u in inputs], dim=1).double()  # (n, width)
        mean = flat.mean(0)
        _, singular, axes = torch.linalg.svd(flat - mean, full_matrices=False)
        deviations = singular / max(len(flat) - 1, 1) ** 0.5
        used = min(len(self.affine.bias), int((deviations > 1e-5 * deviations[0]).sum()))
        weight = axes[:used] / deviations[:used, None]
        self.affine.weight[:used] = weight.to(self.affine.weight)
        self.affine.bias[:used] = -(weight @ mean).to(self.affine.bias)
        last = self.hidden[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(0.1)
        last.bias.zero_()
        last.bias[len(self.affine.bias) :] = -1.5

    def forward(self, *inputs: Tensor) -> Independent:
        """q(z | inputs), batch `(N,)`, event `(dim,)`; log σ is kept above `lowest`."""
        flat = torch.cat([u.flatten(1) for u in inputs], dim=1)  # (N, width)
        added, free = self.hidden(flat).chunk(2, dim=-1)
        log_scale = self.lowest + nn.functional.softplus(free - self.lowest)
        return diagonal_normal(self.affine(flat) + added, log_scale.exp(), 1)


class Architecture(ABC):
    """Makes the networks of a model."""

    def latents(self, dim: int, signal_shape: Shape) -> int:
        """Number of latents in all, of a model asked for `dim`."""
        return dim

    @abstractmethod
    def posterior(self, shapes: Sequence[Shape], dim: int, signal_shape: Shape) -> nn.Module:
        """Encoder of tensors with `shapes` to a diagonal Gaussian over `dim` latents.

        Args:
            shapes: Shapes of the tensors that the encoder reads.
            dim: Number of latents in all.
            signal_shape: Shape of the signal that the latents describe.
        """

    @abstractmethod
    def decoder(
        self, dim: int, shape: Shape, scale: Scale, context: Shape | None = None
    ) -> GaussianImage:
        """Decoder of `dim` latents, and a tensor of shape `context`, to a signal of `shape`."""


class Conv(Architecture):
    """Convolutional networks in any number of dimensions.

    Encoders halve the grid until its longest axis is at most four; decoders mirror them by
    nearest-neighbour resizing and convolution, so sizes need not be powers of two.

    Args:
        width: Channels on the finest level; doubled on each coarser level up to four times.
        features: Width of the vector between convolutions and latents.
        patch: Edge of the patches that are folded into channels before the first convolution
            and unfolded after the last: 2 costs a quarter of 1.
    """

    def __init__(self, width: int = 24, features: int = 128, patch: int = 2) -> None:
        if width < 4 or width % 4:
            raise ConfigError(
                "width", "a positive multiple of 4", width, "Choose 8, 16, 32 or more."
            )
        if patch < 1:
            raise ConfigError("patch", "1 or more", patch, "Use 1 for no folding.")
        self.patch = patch
        self.width = width
        self.features = features

    def posterior(self, shapes: Sequence[Shape], dim: int, signal_shape: Shape) -> GaussianVector:
        """See `Architecture.posterior`; all inputs are resized to the first one's grid."""
        trunk = Trunk(shapes, self.width, self.features, self.patch)
        return GaussianVector(trunk, self.features, dim)

    def decoder(
        self, dim: int, shape: Shape, scale: Scale, context: Shape | None = None
    ) -> GaussianImage:
        """See `Architecture.decoder`; the context joins at every resolution."""
        patches = Patches(shape, self.patch)
        pyramid = None
        if context is not None:
            pyramid = ConvPyramid(Patches((context[0], *shape[1:]), self.patch), self.width)
        trunk = ConvUpsampler(dim, patches, self.width, self.features, pyramid)
        return GaussianImage(trunk, patches, scale_head(scale, self.width, patches.channels))


class ConvMap(Architecture):
    """Fully convolutional networks with `dim` latents at every place of a coarse grid.

    Every network sees neighbourhoods alone, so that one image teaches as much as its many
    places: the choice for textures and for few images. Vector latents (`Conv`) are the choice
    where the whole image has few degrees of freedom. A context reaches the signal through the
    latents alone.

    Args:
        width: Channels on the finest level; doubled on each coarser level up to four times.
        patch: Edge of the patches that are folded into channels.
        levels: Grids from the folded image to the latents; 2 with `patch` 2 puts the latents
            on a quarter of the image's grid.
    """

    def __init__(self, width: int = 24, patch: int = 2, levels: int = 2) -> None:
        if width < 4 or width % 4:
            raise ConfigError(
                "width", "a positive multiple of 4", width, "Choose 8, 16, 32 or more."
            )
        for name, value in (("patch", patch), ("levels", levels)):
            if value < 1:
                raise ConfigError(name, "1 or more", value, "Raise it.")
        self.width, self.patch, self.levels = width, patch, levels

    def _grids(self, shape: Shape) -> list[Shape]:
        chain = grids(Patches(shape, self.patch).grid)
        if len(chain) < self.levels:
            raise ConfigError(
                "levels",
                f"at most {len(chain)} for signals {tuple(shape)}",
                self.levels,
                "Use fewer levels or a smaller patch.",
            )
        return chain[: self.levels]

    def latents(self, dim: int, signal_shape: Shape) -> int:
        """`dim` latents per place."""
        return dim * prod(self._grids(signal_shape)[-1])

    def posterior(self, shapes: Sequence[Shape], dim: int, signal_shape: Shape) -> GaussianMap:
        """See `Architecture.posterior`."""
        per_place = dim // prod(self._grids(signal_shape)[-1])
        return GaussianMap(
            [(s[0], *signal_shape[1:]) for s in shapes],
            per_place,
            self.levels,
            self.width,
            self.patch,
        )

    def decoder(
        self, dim: int, shape: Shape, scale: Scale, context: Shape | None = None
    ) -> GaussianImage:
        """See `Architecture.decoder`."""
        chain = self._grids(shape)
        patches = Patches(shape, self.patch)
        trunk = MapUpsampler(dim // prod(chain[-1]), patches, chain, self.width)
        return GaussianImage(trunk, patches, scale_head(scale, self.width, patches.channels))


class _LinearTrunk(nn.Module):
    def __init__(self, dim: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(dim, prod(shape))

    def forward(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        loc = self.linear(z).reshape(-1, *self.shape)  # (N, C, *spatial)
        return loc, loc


class Linear(Architecture):
    """Affine encoder and decoder: probabilistic PCA, where every answer is known in closed form.

    A context reaches the signal through the latents alone.
    """

    def posterior(
        self, shapes: Sequence[Shape], dim: int, signal_shape: Shape
    ) -> LinearGaussianVector:
        """See `Architecture.posterior`; the mean is affine, the scale one number per latent."""
        return LinearGaussianVector(sum(prod(s) for s in shapes), dim)

    def decoder(
        self, dim: int, shape: Shape, scale: Scale, context: Shape | None = None
    ) -> GaussianImage:
        """See `Architecture.decoder`."""
        if scale != "shared":
            raise ConfigError(
                "scale",
                "'shared' with the linear architecture",
                repr(scale),
                "Use `Conv` for scales that vary, or `scale: shared`.",
            )
        head = scale_head("shared", shape[0], shape[0])
        return GaussianImage(_LinearTrunk(dim, shape), Patches(shape, 1), head)


class Dense(Linear):
    """Encoder of an affine map and a perceptron; the decoder is affine.

    The choice where a signal is a smooth function of few numbers, seen on a grid of a few hundred
    nodes, and where amplitudes matter, which normalisation takes away.

    Args:
        features: Width of the encoder's hidden layers.
    """

    def __init__(self, features: int = 128) -> None:
        if features < 1:
            raise ConfigError("features", "1 or more", features, "Use 128.")
        self.features = features

    def posterior(
        self, shapes: Sequence[Shape], dim: int, signal_shape: Shape
    ) -> DenseGaussianVector:
        """See `Architecture.posterior`."""
        return DenseGaussianVector(sum(prod(s) for s in shapes), self.features, dim)
