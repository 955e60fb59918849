"""Small random affine changes of an image that leave its class as it is."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latens.errors import ConfigError, ShapeError

NUMBERS = 6
"""Uniform numbers per image: angle, shear, two scales, two shifts."""


class Jitter(nn.Module):
    """x ↦ T x with a random rotation, shear, scale and shift, by bilinear interpolation.

    The image is continued by its own edge. Each amount is uniform between −1 and 1 times its
    largest value.

    Args:
        angle: Largest rotation, degrees.
        shear: Largest shear, degrees.
        scale: Largest relative change of size, of each axis by itself.
        shift: Largest shift, as a share of the image's edge.
    """

    def __init__(
        self, angle: float = 15.0, shear: float = 15.0, scale: float = 0.15, shift: float = 0.1
    ) -> None:
        super().__init__()
        for name, value, limit in (
            ("angle", angle, 180.0),
            ("shear", shear, 60.0),
            ("scale", scale, 0.9),
            ("shift", shift, 0.5),
        ):
            if not 0 <= value <= limit:
                raise ConfigError(name, f"a number from 0 to {limit:g}", value, "Lower it.")
        self.angle, self.shear, self.scale, self.shift = angle, shear, scale, shift

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        """The changed images.

        Args:
            x: Images, `(B, C, H, W)`.
            uniform: Uniform numbers in [0, 1), `(B, 6)`.

        Raises:
            ShapeError: If the images do not have two spatial axes.
        """
        if x.ndim != 4:
            raise ShapeError(
                "x",
                "images (B, C, H, W)",
                tuple(x.shape),
                "Jitter is for two spatial axes; set the weights of its terms to 0.",
            )
        maps = self.matrices(uniform.to(x))
        grid = F.affine_grid(maps, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def matrices(self, uniform: Tensor) -> Tensor:
        """Maps from output to input coordinates in [−1, 1]², `(B, 2, 3)`."""
        amount = 2 * uniform - 1  # (B, 6)
        angle = amount[:, 0] * math.radians(self.angle)
        shear = torch.tan(amount[:, 1] * math.radians(self.shear))
        size = (1 + self.scale * amount[:, 2:4]).reciprocal()
        shift = 2 * self.shift * amount[:, 4:6]
        cos, sin = angle.cos(), angle.sin()
        top = torch.stack([cos, cos * shear - sin, shift[:, 0] / size[:, 0]], 1)
        bottom = torch.stack([sin, sin * shear + cos, shift[:, 1] / size[:, 1]], 1)
        return torch.stack([size[:, :1] * top, size[:, 1:] * bottom], 1)  # (B, 2, 3)
