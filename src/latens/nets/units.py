"""Affine change of units, learned from data once and stored with the weights."""

import torch
from torch import Tensor, nn

from latens.errors import DataError


class Units(nn.Module):
    """Standard units of a data set: u = (x − loc) / scale with scalar loc and scale.

    Networks work in standard units whatever the units of the data; densities are moved back by
    the exact change of variables, so that nats always refer to the data's own units.

    Attributes:
        loc: Mean over all elements, scalar, in data units.
        scale: Standard deviation over all elements, scalar, in data units.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the units from training data, `(n, *shape)`.

        Raises:
            DataError: If values are not finite or all the same.
        """
        smallest, largest = torch.aminmax(x)
        if not bool(torch.isfinite(smallest) & torch.isfinite(largest)):
            raise DataError(
                "x",
                "finite training data",
                "NaN or infinite values",
                "Repair or leave out the damaged items.",
            )
        scale = x.std()
        if smallest == largest or not bool(scale > 0):
            raise DataError(
                "x",
                "training data that vary",
                "a constant array",
                "Check the files: every element has the same value.",
            )
        self.loc.copy_(x.mean())
        self.scale.copy_(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Data units to standard units."""
        return (x - self.loc) / self.scale

    def inverse(self, u: Tensor) -> Tensor:
        """Standard units to data units."""
        return self.loc + self.scale * u
