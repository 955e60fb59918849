"""Rows of all processes, for penalties that are functions of a whole batch.

Under distributed training every process holds a share of the batch, and the gradients of the
processes are averaged. A mean over samples survives that; a covariance does not: it must see the
rows of all.
"""

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Number of processes that train together; 1 outside distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def gathered(rows: Tensor) -> Tensor:
    """Rows of every process, in the order of their ranks.

    Each process's gradient flows to its own rows, times the number of processes W: after the
    average over processes it is that of one process with all rows.

    Args:
        rows: `(B, …)`; the same shape on every process.

    Returns:
        `(W · B, …)`; `rows` itself where there is one process.
    """
    count = world_size()
    if count == 1:
        return rows
    own = rows.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(count)]
    dist.all_gather(parts, own)
    parts[rank()] = own + count * (rows - own)
    return torch.cat(parts)
