"""Exchange of resolution for channels: space to depth and back, in any number of dimensions."""

from torch import Tensor, nn
from torch.nn import functional as F

from latens.types import Shape


class Patches(nn.Module):
    """Folds p^n patches of an image into channels, and back.

    An image whose size is not a multiple of p is padded at the far end by its own edge values;
    `join` crops the padding away, so that `join(split(x)) == x`.

    Args:
        shape: Shape `(C, *spatial)` of the image.
        patch: p, edge length of a patch in pixels.

    Attributes:
        channels: C · p^n.
        grid: ⌈spatial / p⌉.
    """

    def __init__(self, shape: Shape, patch: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.patch = patch
        self.dims = len(shape) - 1
        self.channels = shape[0] * patch**self.dims
        self.grid = tuple(-(-s // patch) for s in shape[1:])

    def split(self, image: Tensor) -> Tensor:
        """`(N, C, *spatial)` to `(N, C·p^n, *grid)`; another grid is resized first."""
        if tuple(image.shape[2:]) != self.shape[1:]:
            image = F.interpolate(image, size=self.shape[1:])
        missing = [g * self.patch - s for g, s in zip(self.grid, self.shape[1:], strict=True)]
        if any(missing):
            pad = [q for m in reversed(missing) for q in (0, m)]
            image = F.pad(image, pad, mode="replicate")
        cut = [size for g in self.grid for size in (g, self.patch)]
        image = image.reshape(*image.shape[:2], *cut)  # (N, C, g₁, p, g₂, p, …)
        odd = range(3, 3 + 2 * self.dims, 2)
        even = range(2, 2 + 2 * self.dims, 2)
        image = image.permute(0, 1, *odd, *even)  # (N, C, p, …, p, g₁, g₂, …)
        return image.reshape(image.shape[0], self.channels, *self.grid)

    def join(self, patches: Tensor) -> Tensor:
        """`(N, C·p^n, *grid)` to `(N, C, *spatial)`."""
        n, channels = patches.shape[0], self.channels // self.patch**self.dims
        u = patches.reshape(n, channels, *[self.patch] * self.dims, *self.grid)
        order = [axis for d in range(self.dims) for axis in (2 + self.dims + d, 2 + d)]
        u = u.permute(0, 1, *order)  # (N, C, g₁, p, g₂, p, …)
        u = u.reshape(n, channels, *[g * self.patch for g in self.grid])
        crop = tuple(slice(0, s) for s in self.shape[1:])
        return u[(slice(None), slice(None), *crop)]
