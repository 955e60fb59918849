"""Dropout of whole feature maps by noise that comes as a tensor.

torch's dropout takes its masks from a global generator and is tied to `training`; here a mask is
a function of standard normal noise, so that a step can be repeated and a draw keyed by its row.

A mask for every place of a feature map would be a new set of weights at every place; a mask per
map is one set of weights for the whole image, as in the variational reading of dropout
(Gal, Ghahramani 2016, https://arxiv.org/abs/1506.02142).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latens.errors import ShapeError


class MapDropout(nn.Module):
    """Multiplies feature maps by factors set from outside; without factors the identity.

    Args:
        channels: Number of feature maps.

    Attributes:
        factors: `(N, channels)`, or None.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.factors: Tensor | None = None

    def forward(self, u: Tensor) -> Tensor:
        """Features `(N, channels, *grid)`, same shape."""
        if self.factors is None:
            return u
        return u * self.factors.reshape(*self.factors.shape, *[1] * (u.ndim - 2))

    def extra_repr(self) -> str:
        return str(self.channels)


def key_dropout(network: nn.Module) -> None:
    """Replace every `nn.Dropout` that follows a normalisation by a `MapDropout`, in place.

    Blocks are those of MONAI, whose normalisation `N` is followed by the dropout `D`.
    """
    for module in list(network.modules()):
        norm, dropout = getattr(module, "N", None), getattr(module, "D", None)
        if isinstance(dropout, nn.Dropout) and norm is not None:
            module.add_module("D", MapDropout(norm.num_features))


def _layers(network: nn.Module) -> list[MapDropout]:
    return [module for module in network.modules() if isinstance(module, MapDropout)]


def dropout_maps(network: nn.Module) -> int:
    """Number of feature maps that dropout acts on: noise needed per image."""
    return sum(layer.channels for layer in _layers(network))


@contextmanager
def dropped(network: nn.Module, noise: Tensor, rate: float) -> Iterator[None]:
    """Inside, feature maps are dropped with probability `rate`, the others scaled by 1/(1−rate).

    Args:
        network: Network with `MapDropout` layers.
        noise: Standard normal, `(N, dropout_maps(network))`; a map is dropped where it lies
            below the `rate` quantile.
        rate: Probability of dropping a map, in (0, 1).

    Raises:
        ShapeError: If the noise does not have one number per map.
    """
    layers = _layers(network)
    channels = [layer.channels for layer in layers]
    if noise.ndim != 2 or noise.shape[1] != sum(channels):
        raise ShapeError(
            "noise",
            f"(N, {sum(channels)}), one number per feature map",
            tuple(noise.shape),
            "Make it with `dropout_maps(network)` columns.",
        )
    quantile = torch.special.ndtri(torch.tensor(rate, dtype=torch.float64))
    factors = (noise > quantile.to(noise)).to(noise) / (1 - rate)
    for layer, part in zip(layers, factors.split(channels, dim=1), strict=True):
        layer.factors = part
    try:
        yield
    finally:
        for layer in layers:
            layer.factors = None
