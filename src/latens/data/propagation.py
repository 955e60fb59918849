"""Labels carried along a graph of similar images: what few labels say of all the others.

    W_ij = exp(−4 ‖f_i − f_j‖² / r_i²) for the k nearest neighbours j of i, made symmetric;
           r_i distance of the k-th
    (D − W) u = Σ_labelled (1{y_i} − mean of 1{y}) δ_i

Poisson learning: the labels are sources and sinks, and u is the potential. Unlike harmonic
extension it keeps its meaning where labels are few. A class is believed where its potential
stands out most from the second.

References:
    Calder, Cook, Thorpe, Slepčev (2020), Poisson learning: graph based semi-supervised learning
    at very low label rates, https://arxiv.org/abs/2006.11184;
    Dalal, Triggs (2005), Histograms of oriented gradients for human detection,
    https://doi.org/10.1109/CVPR.2005.177
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latens.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Array = NDArray[np.float64]

BINS, CELL, BLOCK = 8, 4, 2000
"""Directions and edge of a cell of the histograms; images at a time."""

SCORES = 50
"""Principal directions of the features that distances are taken in."""


class Propagation:
    """Settings of the graph and of what is believed.

    Args:
        features: What images are compared by: histograms of the directions of their gradients,
            or pixels.
        neighbours: k.
        steps: Iterations of the potential; information travels this many edges.
        trusted: Share of the images of each found class that are believed, by their margin.
    """

    def __init__(
        self,
        features: Literal["gradients", "pixels"] = "gradients",
        neighbours: int = 10,
        steps: int = 300,
        trusted: float = 0.8,
    ) -> None:
        if neighbours < 1 or steps < 1:
            raise ConfigError(
                "neighbours, steps", "1 or more", (neighbours, steps), "Use 10 and 300."
            )
        if not 0 < trusted <= 1:
            raise ConfigError("trusted", "a share above 0, at most 1", trusted, "Use 0.8.")
        self.features: Literal["gradients", "pixels"] = features
        self.neighbours, self.steps, self.trusted = neighbours, steps, trusted

    def scores(self, x: Tensor) -> NDArray[np.float32]:
        """Principal scores of the features, by which images are compared, `(n, at most 50)`.

        Args:
            x: Images, `(n, C, *spatial)`.
        """
        rows = x.flatten(1) if self.features == "pixels" else gradient_histograms(x)
        return _principal_scores(rows.double()).float().numpy()

    def graph(self, x: Tensor) -> "csr_matrix":
        """Weights between images, `(n, n)`, symmetric.

        Args:
            x: Images, `(n, C, *spatial)`.

        Raises:
            ConfigError: If there are no more images than neighbours.
        """
        from scipy.sparse import csr_matrix
        from sklearn.neighbors import NearestNeighbors

        n, k = len(x), self.neighbours
        if n <= k:
            raise ConfigError("neighbours", f"fewer than the {n} images", k, "Lower it.")
        scores = self.scores(x)
        search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(scores)
        distance, index = (found[:, 1:] for found in search.kneighbors(scores))
        radius = np.maximum(distance[:, -1:], np.finfo(np.float32).tiny)
        weight = np.exp(-4.0 * (distance / radius) ** 2)
        places = (np.repeat(np.arange(n), k), index.ravel())
        half = csr_matrix((weight.ravel(), places), shape=(n, n))
        return csr_matrix((half + half.T) / 2, dtype=np.float32)

    @property
    def graph_identity(self) -> dict[str, object]:
        """What the graph of given images depends on."""
        return {"features": self.features, "neighbours": self.neighbours}

    def kept_graph(self, x: Tensor, file: Path | None) -> "csr_matrix":
        """The graph from a file that is there and whole; otherwise made, and kept in the file.

        Args:
            x: Images, `(n, C, *spatial)`.
            file: Where it is kept; None keeps it nowhere.
        """
        from scipy.sparse import csr_matrix, load_npz, save_npz

        if file is not None and file.is_file():
            try:
                found = csr_matrix(load_npz(file))
                if found.shape == (len(x), len(x)):
                    return found
            except Exception:  # damaged bytes raise whatever they like; it is made again
                file.unlink(missing_ok=True)
        made = self.graph(x)
        if file is not None:
            temporary = file.with_name(f".tmp-{os.getpid()}-{file.name}")
            save_npz(temporary, made)
            os.replace(temporary, file)
        return made

    def beliefs(
        self, graph: "csr_matrix", rows: NDArray[np.int64], labels: NDArray[np.int64], classes: int
    ) -> Array:
        """What is believed of every image.

        Args:
            graph: From `graph`.
            rows: Positions of the labelled images, `(l,)`.
            labels: Their classes, `(l,)`.
            classes: Y.

        Returns:
            `(n, Y)`: one-hot rows for labelled and for trusted images, zero for the others. No
            image is believed that no label reaches, nor any where all labels are of one class,
            for then nothing tells classes apart.
        """
        potential = poisson_potential(graph, rows, labels, classes, self.steps)
        order = np.sort(potential, axis=1)
        margin, found = order[:, -1] - order[:, -2], potential.argmax(1)
        believed = np.zeros(len(found), dtype=bool)
        for kind in range(classes):
            members = np.flatnonzero(found == kind)
            if len(members):
                least = np.quantile(margin[members], 1 - self.trusted)
                believed[members] = (margin[members] >= least) & (margin[members] > 0)
        found[rows], believed[rows] = labels, True
        return np.eye(classes)[found] * believed[:, None]


def poisson_potential(
    graph: "csr_matrix",
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int,
    steps: int,
) -> Array:
    """u after some steps of u ← u + D⁻¹ (b − (D − W) u), from u = 0; arguments as of `beliefs`.

    Returns:
        `(n, Y)`.
    """
    from scipy.sparse import diags

    degree = np.maximum(np.asarray(graph.sum(1)).ravel(), np.finfo(graph.dtype).tiny)
    n = len(degree)
    walk = (diags(1 / degree) @ graph).astype(graph.dtype)
    source = np.zeros((n, classes), dtype=graph.dtype)
    kinds = np.eye(classes, dtype=graph.dtype)[labels]
    source[rows] = kinds - kinds.mean(0)
    source /= degree[:, None].astype(graph.dtype)
    potential = np.zeros_like(source)
    for _ in range(steps):
        potential = walk @ potential + source
    return potential


def gradient_histograms(x: Tensor) -> Tensor:
    """Strength of the gradient by direction, in overlapping cells of 8×8 pixels.

    Args:
        x: Images, `(n, C, H, W)`; channels are averaged.

    Returns:
        `(n, features)`, square roots of histograms of norm one; a blank image is zero.

    Raises:
        ShapeError: If images do not have two spatial axes.
    """
    if x.ndim != 4:
        raise ShapeError(
            "x", "images (n, C, H, W)", tuple(x.shape), "Use `features: pixels` for others."
        )
    return torch.cat([_histograms(block.mean(1, keepdim=True)) for block in x.split(BLOCK)])


def _histograms(x: Tensor) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    angle, strength = torch.atan2(down, across), across.hypot(down)
    directions = torch.arange(BINS, dtype=x.dtype) * (2 * math.pi / BINS)
    near = torch.relu(torch.cos(angle - directions[None, :, None, None])) ** 3
    cells = F.avg_pool2d(near * strength, 2 * CELL, CELL, padding=CELL // 2, ceil_mode=True)
    rows = cells.flatten(1)
    norm = rows.norm(dim=1, keepdim=True)
    return (rows / norm.clamp(min=torch.finfo(x.dtype).tiny)).sqrt()


def _principal_scores(rows: Tensor) -> Tensor:
    """Scores on the leading principal directions, `(n, at most SCORES)`."""
    centred = rows - rows.mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred / len(rows))
    return centred @ directions[:, -SCORES:]
