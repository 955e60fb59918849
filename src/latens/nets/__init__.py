"""Networks: n-D convolutional and linear encoders and decoders, flows, scale heads, units."""

from latens.nets.architecture import Architecture, Conv, ConvMap, Linear
from latens.nets.flows import AffineFlow, Flow, SplineFlow
from latens.nets.scale import PerImageScale, PerPixelScale, ScaleHead, SharedScale, scale_head
from latens.nets.units import Units

__all__ = [
    "AffineFlow",
    "Architecture",
    "Conv",
    "ConvMap",
    "Flow",
    "Linear",
    "PerImageScale",
    "PerPixelScale",
    "ScaleHead",
    "SharedScale",
    "SplineFlow",
    "Units",
    "scale_head",
]
