"""Networks: n-D convolutional and linear encoders and decoders, flows, scale heads, units."""

from latens.nets.architecture import Architecture, Conv, ConvMap, Dense, Linear
from latens.nets.flows import AffineFlow, Flow, SplineFlow
from latens.nets.scale import (
    PerChannelScale,
    PerImageScale,
    PerPixelScale,
    ScaleHead,
    SharedScale,
    scale_head,
)
from latens.nets.units import Units
from latens.nets.volumetric import Volumetric

__all__ = [
    "AffineFlow",
    "Architecture",
    "Conv",
    "ConvMap",
    "Dense",
    "Flow",
    "Linear",
    "PerChannelScale",
    "PerImageScale",
    "PerPixelScale",
    "ScaleHead",
    "SharedScale",
    "SplineFlow",
    "Units",
    "Volumetric",
    "scale_head",
]
