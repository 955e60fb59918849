"""The frame that moves with a mean velocity: what a shift is, no decoder has to learn.

Burgers' equation on a ring is the same in every frame of constant velocity, and the mean velocity
c is conserved, so that

    u(x, t) = c + v(x − c t, t),    v(x, 0) = a(x) − c,    c = mean of a.

v solves the same equation without a mean. In the frame at rest u is carried around the ring c t
times; products of branch and trunk do not follow that.

Fields on the n nodes j/n of a ring are their trigonometric interpolants.
"""

import torch
from torch import Tensor

from latens.problems.pde.ring import interpolated


def entered(u: Tensor, velocity: Tensor, time: float) -> Tensor:
    """v at the nodes from u at the nodes, both at one time.

    Args:
        u: `(..., n)`.
        velocity: c, `(...)`.
        time: t.

    Returns:
        `(..., n)`.
    """
    nodes = torch.arange(u.shape[-1], dtype=u.dtype, device=u.device) / u.shape[-1]
    return interpolated(u, nodes + (velocity * time)[..., None]) - velocity[..., None]


def left(v: Tensor, velocity: Tensor, time: float, points: Tensor) -> Tensor:
    """u at points of the ring from v at the nodes.

    Args:
        v: `(..., n)`.
        velocity: c, `(...)`.
        time: t.
        points: x, `(m,)`.

    Returns:
        `(..., m)`.
    """
    return interpolated(v, points - (velocity * time)[..., None]) + velocity[..., None]
