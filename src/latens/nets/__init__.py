"""Networks: n-D convolutional and linear encoders and decoders, scale heads, units."""

from latens.nets.architecture import Architecture, Conv, ConvMap, Linear
from latens.nets.scale import PerImageScale, PerPixelScale, ScaleHead, SharedScale, scale_head
from latens.nets.units import Units

__all__ = [
    "Architecture",
    "Conv",
    "ConvMap",
    "Linear",
    "PerImageScale",
    "PerPixelScale",
    "ScaleHead",
    "SharedScale",
    "Units",
    "scale_head",
]
