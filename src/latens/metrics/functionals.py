"""Linear functionals of a signal: where wrong correlations of a posterior become visible.

Pixel coverage cannot see them. A posterior whose pixel spread is right can be five times too
narrow for the mean of a region, so coverage is reported for block means and for principal
directions beside the pixels.
"""

from itertools import pairwise

import torch
from torch import Tensor

from latens.errors import ShapeError
from latens.types import Shape


def region_means(x: Tensor, grid: Shape) -> Tensor:
    """Means over the blocks of a regular grid; linear in x.

    Args:
        x: Signals or draws, `(..., *spatial)`; the last `len(grid)` axes are spatial.
        grid: Blocks per spatial axis. A size n that g does not divide gets blocks that start
            at ⌊i n / g⌋, so that every element belongs to exactly one block.

    Returns:
        `(..., K)`, K = product of `grid`, unit of the signal, mean over each block.

    Raises:
        ShapeError: If an axis has fewer elements than blocks.
    """
    if x.ndim < len(grid) or not grid:
        raise ShapeError(
            "grid",
            "one number of blocks per spatial axis",
            grid,
            f"The signal has shape {tuple(x.shape)}.",
        )
    spatial = x.shape[x.ndim - len(grid) :]
    if any(not 1 <= g <= n for g, n in zip(grid, spatial, strict=True)):
        raise ShapeError(
            "grid",
            f"between 1 and the axis length {tuple(spatial)} blocks per axis",
            grid,
            "Use a coarser grid.",
        )
    for axis, blocks in enumerate(grid, start=x.ndim - len(grid)):
        average = _block_average(x.shape[axis], blocks, x)  # (g, n)
        x = torch.movedim(torch.movedim(x, axis, -1) @ average.T, -1, axis)
    return x.flatten(x.ndim - len(grid))


def principal_scores(x: Tensor, directions: Tensor) -> Tensor:
    """Scores ⟨x, d_k⟩ of signals along given directions; linear in x.

    Args:
        x: Signals or draws, `(..., *event)`.
        directions: `(K, *event)`, for example from `principal_directions`.

    Returns:
        `(..., K)`, unit of the signal times that of the directions, summed over the event.

    Raises:
        ShapeError: If the event shapes differ.
    """
    event = directions.shape[1:]
    if x.ndim < len(event) or x.shape[x.ndim - len(event) :] != event:
        raise ShapeError(
            "directions",
            f"(K, *event) whose event ends the shape of x, {tuple(x.shape)}",
            tuple(directions.shape),
            "Fit the directions on signals of the same shape.",
        )
    flat = x.flatten(x.ndim - len(event))
    return flat @ directions.flatten(1).to(flat.dtype).T


def principal_directions(x: Tensor, count: int) -> Tensor:
    """Leading principal directions of a set of signals, by exact eigendecomposition.

    Args:
        x: Signals, `(n, *event)`, from the training set, never from the test set.
        count: K, at most min(n − 1, d).

    Returns:
        Orthonormal directions, `(K, *event)`, largest variance first, no unit; the element of
        largest magnitude is positive, so that the result does not depend on a sign.

    Raises:
        ShapeError: If there are not enough signals.
    """
    flat = x.flatten(1).to(torch.float64)
    n, d = flat.shape
    if not 1 <= count <= min(n - 1, d):
        raise ShapeError(
            "count",
            f"between 1 and min(n − 1, d) = {min(n - 1, d)} directions",
            count,
            "Give more signals or ask for fewer directions.",
        )
    centred = flat - flat.mean(dim=0)
    if d <= n:
        vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors.T
    else:
        vectors = torch.linalg.eigh(centred @ centred.T).eigenvectors.T @ centred
    leading = vectors.flip(0)[:count]
    leading = leading / leading.norm(dim=1, keepdim=True)
    peak = leading.gather(1, leading.abs().argmax(dim=1, keepdim=True))
    return (leading * peak.sign()).reshape(count, *x.shape[1:]).to(x.dtype)


def _block_average(length: int, blocks: int, like: Tensor) -> Tensor:
    """Matrix `(blocks, length)` that averages each block of an axis."""
    average = torch.zeros(blocks, length, dtype=like.dtype, device=like.device)
    edges = [i * length // blocks for i in range(blocks + 1)]
    for row, (start, stop) in enumerate(pairwise(edges)):
        average[row, start:stop] = 1 / (stop - start)
    return average
