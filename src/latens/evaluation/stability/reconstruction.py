"""A solver as a map of measurements: values, gradients, and products with its Jacobian."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latens.errors import UnsupportedError
from latens.inference import DEFAULT_DRAWS, Solver

BLOCK_ELEMENTS = 2**19
"""Elements of all draws whose graph is kept at a time, some 100 MiB for small networks."""

Measured = Callable[[Tensor, slice], Tensor]
"""Variables of some rows, and which rows they are, to measurements."""

Objective = Callable[[Tensor, Tensor, slice], Tensor]
"""Reconstructions of some rows, their variables, and which rows they are, to a number per row."""


def can_be_attacked(solver: Solver, y: Tensor, keys: Sequence[int]) -> bool:
    """Whether the reconstruction of a solver can be differentiated in y, tried on one row."""
    try:
        with torch.enable_grad():
            solver.mean_of(y[:1].detach().clone().requires_grad_(), keys[:1], seed=0, draws=1)
    except UnsupportedError:
        return False
    return True


@dataclass(frozen=True)
class Reconstruction:
    """R with its noise fixed by keys and a seed, so that it is a function of y alone.

    Attributes:
        solver: The solver.
        keys: Key of the noise of each image.
        seed: Key of the noise.
        draws: Draws behind a posterior mean.
    """

    solver: Solver
    keys: tuple[int, ...]
    seed: int
    draws: int = DEFAULT_DRAWS

    def with_draws(self, draws: int) -> "Reconstruction":
        """The same with other accuracy."""
        return Reconstruction(self.solver, self.keys, self.seed, draws)

    def repeated(self, copies: int) -> "Reconstruction":
        """The same for `copies` rows of every image, which stand together."""
        keys = tuple(key for key in self.keys for _ in range(copies))
        return Reconstruction(self.solver, keys, self.seed, self.draws)

    def at(self, y: Tensor) -> Tensor:
        """R(y) without gradient, in blocks: the ordinary call."""
        with torch.no_grad():
            parts = [
                self.solver(y[rows], keys=self.keys[rows], seed=self.seed).mean
                for rows in self._blocks(y, 8 * BLOCK_ELEMENTS)
            ]
        return torch.cat(parts)

    def mean_at(self, y: Tensor) -> Tensor:
        """R(y) from the stated number of draws, without gradient, in blocks: that of searches."""
        with torch.no_grad():
            parts = [
                self.solver.mean_of(y[rows], self.keys[rows], self.seed, self.draws)
                for rows in self._blocks(y, BLOCK_ELEMENTS)
            ]
        return torch.cat(parts)

    def value_and_gradient(
        self, variables: Tensor, measured: Measured, objective: Objective
    ) -> tuple[Tensor, Tensor]:
        """An objective of R(measured(v)) and of v, and its gradient in v, in blocks.

        Args:
            variables: v, `(R, *shape)`.
            measured: Measurements as a function of v.
            objective: What is differentiated.

        Returns:
            Values `(R,)` and gradients, shape of v.
        """
        values, gradients = [], []
        for rows in self._blocks(variables, BLOCK_ELEMENTS):
            v = variables[rows].detach().requires_grad_()
            with torch.enable_grad():
                x_hat = self.solver.mean_of(
                    measured(v, rows), self.keys[rows], self.seed, self.draws
                )
                value = objective(x_hat, v, rows)
                gradients.append(torch.autograd.grad(value.sum(), v)[0])
            values.append(value.detach())
        return torch.cat(values), torch.cat(gradients)

    def jacobian(self, y: Tensor) -> "Jacobian":
        """The Jacobian at a block of measurements; the graph is kept."""
        return Jacobian(self, y)

    def blocks(self, y: Tensor) -> Iterator[tuple["Reconstruction", slice]]:
        """Parts of the rows whose graphs fit in memory."""
        for rows in self._blocks(y, BLOCK_ELEMENTS):
            yield Reconstruction(self.solver, self.keys[rows], self.seed, self.draws), rows

    def _blocks(self, y: Tensor, elements: int) -> list[slice]:
        size = max(1, elements // (self.draws * prod(y.shape[1:])))
        return [slice(i, min(i + size, len(y))) for i in range(0, len(y), size)]


class Jacobian:
    """J of R at each of B measurements, by two graphs that are built once.

    x = R(y) gives Jᵀu; g(u) = Jᵀu, differentiated in u, gives J v. Every product is then one
    backward pass.

    Args:
        reconstruction: R.
        y: Measurements, `(B, *measurement_shape)`.
    """

    def __init__(self, reconstruction: Reconstruction, y: Tensor) -> None:
        self._y = y.detach().requires_grad_()
        with torch.enable_grad():
            self._x = reconstruction.solver.mean_of(
                self._y, reconstruction.keys, reconstruction.seed, reconstruction.draws
            )
            self._u = torch.zeros_like(self._x, requires_grad=True)
            self._pulled = torch.autograd.grad(self._x, self._y, self._u, create_graph=True)[0]

    @property
    def x(self) -> Tensor:
        """R(y), `(B, *signal_shape)`."""
        return self._x.detach()

    def pull(self, u: Tensor) -> Tensor:
        """Jᵀu of each row, `(B, *measurement_shape)`."""
        return torch.autograd.grad(self._x, self._y, u, retain_graph=True)[0]

    def push(self, v: Tensor) -> Tensor:
        """J v of each row, `(B, *signal_shape)`."""
        return torch.autograd.grad(self._pulled, self._u, v, retain_graph=True)[0]


def norms(value: Tensor) -> Tensor:
    """Euclidean norm of every row, `(R,)`."""
    return value.flatten(1).norm(dim=1)


def scaled(value: Tensor, factor: Tensor) -> Tensor:
    """Rows times one number each."""
    return value * factor.reshape(-1, *[1] * (value.ndim - 1))


def repeat(value: Tensor, copies: int) -> Tensor:
    """Every row `copies` times; the copies stand together."""
    return value.repeat_interleave(copies, 0)
