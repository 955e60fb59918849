"""Latents that lie on a coarse grid of the image, with networks that see only neighbourhoods."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.nn import functional as F

from latens.distributions import diagonal_normal
from latens.nets.conv import ConvPyramid, block, channels_last, convolution, widths
from latens.nets.patches import Patches
from latens.types import Shape


class GaussianMap(nn.Module):
    """Diagonal Gaussian over a map of latents, flattened to a vector.

    Args:
        shapes: Shapes `(C, *spatial)` of the inputs; all are resized to the first grid.
        latents: Latents per place.
        levels: Grids between the folded image and the latents, both included.
        width: Channels on the finest level.
        patch: Edge of the patches folded into channels.
    """

    def __init__(
        self, shapes: Sequence[Shape], latents: int, levels: int, width: int, patch: int
    ) -> None:
        super().__init__()
        self.spatial = tuple(shapes[0][1:])
        channels = sum(shape[0] for shape in shapes)
        dims = len(self.spatial)
        self.pyramid = ConvPyramid(Patches((channels, *self.spatial), patch), width, levels)
        coarse = self.pyramid.channels[-1]
        self.deep = block(dims, coarse, coarse)
        self.head = convolution(dims, coarse, 2 * latents, kernel=1)

    def forward(self, *images: Tensor) -> Independent:
        """q(z | images), batch `(N,)`, event `(latents · places,)`; log σ is kept above −6."""
        resized = [
            u if tuple(u.shape[2:]) == self.spatial else F.interpolate(u, size=self.spatial)
            for u in images
        ]
        coarse = self.pyramid(torch.cat(resized, dim=1))[-1]
        loc, free = self.head(self.deep(coarse)).chunk(2, dim=1)  # (N, latents, *coarse grid)
        log_scale = -6 + F.softplus(free + 6)
        return diagonal_normal(loc.flatten(1), log_scale.flatten(1).exp(), 1)


class MapUpsampler(nn.Module):
    """A map of latents to a folded signal and the features that made it.

    Args:
        latents: Latents per place.
        patches: How the signal is folded.
        grids: Grids from the folded image to that of the latents.
        width: Channels on the finest level.
    """

    def __init__(self, latents: int, patches: Patches, grids: Sequence[Shape], width: int) -> None:
        super().__init__()
        self.grids = list(grids)
        self.shape = (latents, *self.grids[-1])
        dims = patches.dims
        channels = widths(width, len(self.grids))
        inputs = [*channels[1:], latents]
        self.reductions = nn.ModuleList(
            convolution(dims, i, o, kernel=1) for i, o in zip(inputs, channels, strict=True)
        )
        self.steps = nn.ModuleList(block(dims, c, c) for c in channels)
        self.deep = block(dims, channels[0], channels[0])
        self.last = convolution(dims, channels[0], patches.channels)

    def forward(self, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Folded signal `(N, C·p^n, *grid)` and features `(N, width, *grid)`."""
        h = channels_last(z.reshape(-1, *self.shape))  # (N, latents, *coarse grid)
        for level in reversed(range(len(self.steps))):
            h = self.reductions[level](h)
            if tuple(h.shape[2:]) != tuple(self.grids[level]):
                h = F.interpolate(h, size=self.grids[level])  # (N, H, *grid)
            h = self.steps[level](h)
        h = self.deep(h)
        return self.last(h), h
