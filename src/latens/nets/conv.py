"""Convolutional blocks in one, two or three dimensions."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latens.errors import ShapeError
from latens.nets.patches import Patches
from latens.types import Shape

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def grids(spatial: Shape, coarse: int = 4) -> list[Shape]:
    """Grids from fine to coarse: halved (rounding up) to a longest axis of at most `coarse`."""
    if len(spatial) not in _CONV:
        raise ShapeError(
            "shape",
            "(C, *spatial) with 1, 2 or 3 spatial axes",
            f"{len(spatial)} spatial axes",
            "Reshape the signal or write an `Architecture` for it.",
        )
    chain = [tuple(spatial)]
    while max(chain[-1]) > coarse:
        chain.append(tuple((s + 1) // 2 for s in chain[-1]))
    return chain


def widths(width: int, levels: int) -> list[int]:
    """Channels per grid: doubled on each coarser grid, at most four times `width`."""
    return [width * min(2**level, 4) for level in range(levels)]


def channels_last(u: Tensor) -> Tensor:
    """The same values with channels fastest in memory: convolutions run up to 2.5 × faster."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return u.contiguous(memory_format=formats.get(u.ndim, torch.contiguous_format))


def convolution(dims: int, into: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Convolution with a kernel of `kernel`^n and the padding that keeps the grid."""
    layer = _CONV[dims](into, out, kernel, stride=stride, padding=kernel // 2)
    layer.weight.data = channels_last(layer.weight.data)
    return layer


def block(dims: int, into: int, out: int, stride: int = 1) -> nn.Module:
    """Convolution, group normalisation, SiLU."""
    return nn.Sequential(
        convolution(dims, into, out, stride=stride), nn.GroupNorm(4, out), nn.SiLU()
    )


class ConvPyramid(nn.Module):
    """Features of an image on every grid from fine to coarse.

    Args:
        patches: How images of the finest grid are folded.
        width: Channels on the finest level.
        levels: Number of grids; None for all.
    """

    def __init__(self, patches: Patches, width: int, levels: int | None = None) -> None:
        super().__init__()
        self.patches = patches
        self.grids = grids(patches.grid)[:levels]
        self.channels = widths(width, len(self.grids))
        inputs = [patches.channels, *self.channels[:-1]]
        self.steps = nn.ModuleList(
            block(patches.dims, i, o, stride=1 if level == 0 else 2)
            for level, (i, o) in enumerate(zip(inputs, self.channels, strict=True))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        features = channels_last(self.patches.split(image))
        maps = []
        for step in self.steps:
            features = step(features)
            maps.append(features)
        return maps


class Trunk(nn.Module):
    """Images to one feature vector.

    Args:
        shapes: Shapes `(C, *spatial)` of the inputs; all are resized to the first grid.
        width: Channels on the finest level.
        features: Length of the vector.
        patch: Edge of the patches folded into channels.
    """

    def __init__(self, shapes: Sequence[Shape], width: int, features: int, patch: int) -> None:
        super().__init__()
        self.spatial = tuple(shapes[0][1:])
        channels = sum(shape[0] for shape in shapes)
        self.pyramid = ConvPyramid(Patches((channels, *self.spatial), patch), width)
        size = self.pyramid.channels[-1] * prod(self.pyramid.grids[-1])
        self.linear = nn.Linear(size, features)

    def forward(self, *images: Tensor) -> Tensor:
        """`(N, features)`."""
        resized = [
            u if tuple(u.shape[2:]) == self.spatial else F.interpolate(u, size=self.spatial)
            for u in images
        ]
        coarse = self.pyramid(torch.cat(resized, dim=1))[-1]
        return F.silu(self.linear(coarse.flatten(1)))


class ConvUpsampler(nn.Module):
    """Latents, and optionally an image, to a folded signal and the features that made it.

    Args:
        dim: Number of latents.
        patches: How the signal is folded.
        width: Channels on the finest level.
        features: Width of the hidden vector.
        pyramid: Features of a context image, added on every grid.
    """

    def __init__(
        self, dim: int, patches: Patches, width: int, features: int, pyramid: ConvPyramid | None
    ) -> None:
        super().__init__()
        self.grids = grids(patches.grid)
        dims = patches.dims
        channels = widths(width, len(self.grids))
        self.pyramid = pyramid
        self.coarse = (channels[-1], *self.grids[-1])
        self.vector = nn.Sequential(
            nn.Linear(dim, features), nn.SiLU(), nn.Linear(features, prod(self.coarse))
        )
        coarser = [*channels[1:], channels[-1]]
        self.reductions = nn.ModuleList(
            convolution(dims, i, o, kernel=1) for i, o in zip(coarser, channels, strict=True)
        )
        self.steps = nn.ModuleList(block(dims, c, c) for c in channels)
        self.last = convolution(dims, channels[0], patches.channels)

    def forward(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Folded signal `(N, C·p^n, *grid)` and features `(N, width, *grid)`.

        Args:
            z: Latents, `(N, dim)`, N a multiple S·B of the batch, batch axis fastest.
            *context: Image, `(B, C', *spatial')`; its features are computed once.
        """
        maps = [] if self.pyramid is None else self.pyramid(*context)
        h = channels_last(self.vector(z).reshape(-1, *self.coarse))  # (N, H, *coarsest)
        for level in reversed(range(len(self.steps))):
            h = self.reductions[level](h)
            if tuple(h.shape[2:]) != self.grids[level]:
                h = F.interpolate(h, size=self.grids[level])  # (N, H, *grid)
            if maps:
                h = (h.unflatten(0, (-1, len(maps[level]))) + maps[level]).flatten(0, 1)
            h = self.steps[level](h)
        return self.last(h), h
