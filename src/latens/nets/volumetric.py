"""Residual networks for volumes: an encoder to a small grid and two decoders back.

    encoder     fold · convolution · (stride 2, residual blocks) … · linear
    standard    linear to the smallest grid · (residual blocks, larger) … · convolution · unfold
    sbd         z and coordinates in [−1, 1] at every place of the smallest grid, then the same

Patches of p³ voxels are folded into channels first and unfolded last, so that most of the work
is done by wide convolutions on small grids: at equal multiply-adds that takes less memory and
time than narrow convolutions on the grid of the voxels.

References:
    He, Zhang, Ren, Sun (2016), Identity mappings in deep residual networks,
    https://arxiv.org/abs/1603.05027;
    Watters, Matthey, Burgess, Lerchner (2019), Spatial broadcast decoder,
    https://arxiv.org/abs/1901.07017.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import expm1, log, prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from latens.errors import ConfigError
from latens.nets.architecture import Architecture, GaussianImage, GaussianVector
from latens.nets.conv import channels_last, convolution, grids, widths
from latens.nets.patches import Patches
from latens.nets.scale import PerChannelScale, Scale, scale_head
from latens.types import Shape

DecoderKind = Literal["standard", "sbd"]
Upsampling = Literal["resize", "transposed"]
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


LOC_GAIN, LOG_SCALE = 30.0, -2.0
"""How a posterior of volumes begins: means that differ between volumes by about the spread of the
prior, and a σ of e⁻². From means of zero and σ = 1, as for images, a decoder of 10⁵ elements
first learns to ignore the noise that it is given, and must then be taught to listen again."""


class ResidualBlock(nn.Module):
    """u + conv(silu(norm(conv(silu(norm(u)))))), the grid unchanged.

    Args:
        dims: Spatial axes.
        channels: Channels, a multiple of 4.
    """

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(4, channels),
            nn.SiLU(),
            convolution(dims, channels, channels),
            nn.GroupNorm(4, channels),
            nn.SiLU(),
            convolution(dims, channels, channels),
        )
        last = self.body[-1]
        nn.init.zeros_(last.weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, u: Tensor) -> Tensor:
        return u + self.body(u)


class Stage(nn.Sequential):
    """Layers whose activations can be computed again in the backward pass instead of kept.

    Args:
        *layers: Modules in order.
        again: Compute them again.
    """

    def __init__(self, *layers: nn.Module, again: bool) -> None:
        super().__init__(*layers)
        self.again = again

    def forward(self, u: Tensor) -> Tensor:
        if self.again and torch.is_grad_enabled():
            return checkpoint(super().forward, u, use_reentrant=False)  # pyright: ignore
        return super().forward(u)


def coordinates(grid: Shape) -> Tensor:
    """Centres of the places of a grid in [−1, 1] along each axis, `(axes, *grid)`."""
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class VolumeTrunk(nn.Module):
    """A volume to a feature vector.

    Args:
        patches: How volumes are folded.
        grids: Grids from fine to coarse.
        channels: Channels on each.
        features: Length of the vector.
        blocks: Residual blocks on every grid but the finest.
        again: Compute activations again in the backward pass.
    """

    def __init__(
        self,
        patches: Patches,
        grids: Sequence[Shape],
        channels: Sequence[int],
        features: int,
        blocks: int,
        again: bool,
    ) -> None:
        super().__init__()
        self.patches = patches
        dims = patches.dims
        stages = [Stage(convolution(dims, patches.channels, channels[0]), again=False)]
        for fine, wide in pairwise(channels):
            down = convolution(dims, fine, wide, stride=2)
            layers = [nn.GroupNorm(4, fine), nn.SiLU(), down]
            layers += [ResidualBlock(dims, wide) for _ in range(blocks)]
            stages.append(Stage(*layers, again=again))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Sequential(nn.GroupNorm(4, channels[-1]), nn.SiLU())
        self.linear = nn.Linear(channels[-1] * prod(grids[-1]), features)

    def forward(self, *volumes: Tensor) -> Tensor:
        """`(N, features)`."""
        spatial = self.patches.shape[1:]
        same = [
            u if tuple(u.shape[2:]) == spatial else F.interpolate(u, size=spatial) for u in volumes
        ]
        folded = channels_last(self.patches.split(torch.cat(same, dim=1)))
        h = self.stages(folded)  # (N, H, *coarsest)
        return F.silu(self.linear(self.norm(h).flatten(1)))


class Start(nn.Module):
    """Latents to features on the smallest grid, by a linear map of its own for every place.

    Args:
        dim: Number of latents.
        features: Width of the hidden vector.
        channels: Channels of the result.
        grid: The grid.
    """

    def __init__(self, dim: int, features: int, channels: int, grid: Shape) -> None:
        super().__init__()
        self.shape = (channels, *grid)
        self.vector = nn.Sequential(
            nn.Linear(dim, features), nn.SiLU(), nn.Linear(features, prod(self.shape))
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.vector(z).reshape(-1, *self.shape)


class Broadcast(nn.Module):
    """Latents and coordinates to features on the smallest grid, by the same map at every place.

        h(p) = silu(W z + V p + b)

    which is a 1×1 convolution of the tiled latents and the coordinate channels.

    Args:
        dim: Number of latents.
        channels: Channels of the result.
        grid: The grid.
    """

    places: Tensor

    def __init__(self, dim: int, channels: int, grid: Shape) -> None:
        super().__init__()
        self.latent = nn.Linear(dim, channels)
        self.place = convolution(len(grid), len(grid), channels, kernel=1)
        self.register_buffer("places", coordinates(grid)[None], persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        h = self.latent(z)
        return F.silu(h.reshape(*h.shape, *[1] * (self.places.ndim - 2)) + self.place(self.places))


def doubled(u: Tensor) -> Tensor:
    """Every value twice along each spatial axis, `(N, C, *grid)` → `(N, C, *2 grid)`: the nearest
    neighbours of `F.interpolate`, whose gradient torch 2.13 compiles to zero for bfloat16 on CPUs.
    """
    rows, channels, *grid = u.shape
    apart = u.reshape(rows, channels, *(k for size in grid for k in (size, 1)))
    twice = apart.expand(rows, channels, *(k for size in grid for k in (size, 2)))
    return channels_last(twice.reshape(rows, channels, *(2 * size for size in grid)))


class Enlarge(nn.Module):
    """One grid finer: nearest neighbours after a 1×1 convolution, or a transposed convolution.

    Args:
        dims: Spatial axes.
        wide: Channels on the coarser grid.
        fine: Channels on the finer grid.
        grid: The finer grid.
        upsampling: How.
    """

    def __init__(
        self, dims: int, wide: int, fine: int, grid: Shape, upsampling: Upsampling
    ) -> None:
        super().__init__()
        self.grid = grid
        self.transposed = upsampling == "transposed"
        if self.transposed:
            self.layer: nn.Module = _TRANSPOSED[dims](wide, fine, 2, stride=2)
        else:
            self.layer = convolution(dims, wide, fine, kernel=1)

    def forward(self, u: Tensor) -> Tensor:
        h = self.layer(u)
        if not self.transposed:
            if not torch.compiler.is_compiling():
                return F.interpolate(h, size=self.grid)
            h = doubled(h)
        return h[(..., *(slice(0, n) for n in self.grid))]  # an odd grid was rounded up


class VolumeUpsampler(nn.Module):
    """Latents to a folded volume and the features that made it.

    Args:
        start: Latents to features on the smallest grid.
        patches: How volumes are folded.
        grids: Grids from fine to coarse.
        channels: Channels on each.
        blocks: Residual blocks on every grid but the finest.
        upsampling: How a grid becomes finer.
        again: Compute activations again in the backward pass.
    """

    def __init__(
        self,
        start: nn.Module,
        patches: Patches,
        grids: Sequence[Shape],
        channels: Sequence[int],
        blocks: int,
        upsampling: Upsampling,
        again: bool,
    ) -> None:
        super().__init__()
        dims = patches.dims
        self.start = start
        stages = []
        for level in reversed(range(1, len(grids))):
            wide, fine = channels[level], channels[level - 1]
            layers: list[nn.Module] = [ResidualBlock(dims, wide) for _ in range(blocks)]
            layers += [nn.GroupNorm(4, wide), nn.SiLU()]
            layers.append(Enlarge(dims, wide, fine, grids[level - 1], upsampling))
            stages.append(Stage(*layers, again=again))
        finest = [convolution(dims, channels[0], channels[0])]
        finest += [nn.GroupNorm(4, channels[0]), nn.SiLU()]
        self.stages = nn.Sequential(*stages, Stage(*finest, again=again))
        self.last = convolution(dims, channels[0], patches.channels)

    def forward(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Folded volume `(N, C·p³, *grid)` and features `(N, H, *grid)`; z is `(N, dim)`."""
        h = self.stages(channels_last(self.start(z)))
        return self.last(h), h


class Volumetric(Architecture):
    """Residual encoder and decoder of volumes, for latents that describe the whole volume.

    Args:
        width: Channels on the finest grid; doubled on each coarser one up to four times.
        features: Width of the vector between convolutions and latents.
        patch: Edge of the patches that are folded into channels.
        coarse: Longest axis of the smallest grid.
        blocks: Residual blocks on every grid but the finest.
        kind: `standard`, or `sbd` for the spatial broadcast decoder.
        upsampling: `resize` or `transposed` convolutions.
        recompute: Compute activations again in the backward pass instead of keeping them.
        posterior_logvar_min: Floor of log σ² of the posterior, below −4.
    """

    def __init__(
        self,
        width: int = 16,
        features: int = 256,
        patch: int = 2,
        coarse: int = 8,
        blocks: int = 1,
        kind: DecoderKind = "standard",
        upsampling: Upsampling = "resize",
        recompute: bool = False,
        posterior_logvar_min: float = -6.0,
    ) -> None:
        if width < 4 or width % 4:
            raise ConfigError(
                "width", "a positive multiple of 4", width, "Choose 8, 16, 32 or more."
            )
        for name, value in (("features", features), ("patch", patch), ("coarse", coarse)):
            if value < 1:
                raise ConfigError(name, "1 or more", value, "Raise it.")
        if blocks < 0:
            raise ConfigError("blocks", "0 or more", blocks, "Use 1.")
        if not posterior_logvar_min < 2 * LOG_SCALE:
            raise ConfigError(
                "posterior_logvar_min",
                f"below {2 * LOG_SCALE:g}, where a posterior begins",
                posterior_logvar_min,
                "Use −6.",
            )
        self.width, self.features, self.patch, self.coarse = width, features, patch, coarse
        self.blocks, self.kind = blocks, kind
        self.upsampling: Upsampling = upsampling
        self.recompute, self.posterior_logvar_min = recompute, posterior_logvar_min

    def _sizes(self, shape: Shape) -> tuple[Patches, list[Shape], list[int]]:
        patches = Patches(shape, self.patch)
        chain = grids(patches.grid, self.coarse)
        return patches, chain, widths(self.width, len(chain))

    def posterior(self, shapes: Sequence[Shape], dim: int, signal_shape: Shape) -> GaussianVector:
        """See `Architecture.posterior`; all inputs are resized to the first one's grid."""
        joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        patches, chain, channels = self._sizes(joined)
        trunk = VolumeTrunk(patches, chain, channels, self.features, self.blocks, self.recompute)
        lowest = self.posterior_logvar_min / 2
        made = GaussianVector(trunk, self.features, dim, lowest)
        with torch.no_grad():
            made.head.weight[:dim] *= LOC_GAIN
            made.head.bias[dim:] = lowest + log(expm1(LOG_SCALE - lowest))
        return made

    def decoder(
        self, dim: int, shape: Shape, scale: Scale, context: Shape | None = None
    ) -> GaussianImage:
        """See `Architecture.decoder`; a context reaches the signal through the latents alone."""
        patches, chain, channels = self._sizes(shape)
        if self.kind == "sbd":
            start: nn.Module = Broadcast(dim, channels[-1], chain[-1])
        else:
            start = Start(dim, self.features, channels[-1], chain[-1])
        trunk = VolumeUpsampler(
            start, patches, chain, channels, self.blocks, self.upsampling, self.recompute
        )
        return GaussianImage(trunk, patches, volume_scale(scale, channels[0], patches))


def volume_scale(scale: Scale, width: int, patches: Patches) -> nn.Module:
    """Scale head of a volume; one shared by the data set is one for each channel (modality)."""
    if scale == "shared":
        return PerChannelScale(patches.shape[0])
    return scale_head(scale, width, patches.channels)
