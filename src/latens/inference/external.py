"""Somebody else's solver behind the interface of latens."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from latens.distributions import Purpose, draw, draw_foreign, row_noise
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.inference.estimates import (
    DEFAULT_DRAWS,
    Draws,
    Estimate,
    PointEstimate,
    Posterior,
)
from latens.inference.solver import Solver, frozen
from latens.models import Model


def as_solver(solver: Solver | Callable[..., Any]) -> Solver:
    """Wrap a callable as a solver.

    Accepted forms, told apart by the signature and by what comes back:

    - `y → tensor` `(B, *signal_shape)`: a point estimate (a U-Net, TV code);
    - `y → torch.distributions.Distribution` with batch `(B,)`: a posterior;
    - `(y, n) → draws` `(n, B, *signal_shape)`: a posterior (a diffusion sampler);
    - `y → Posterior | PointEstimate`.

    Args:
        solver: A solver of latens, or one of the callables above. It is called without
            gradient; an `nn.Module` is put in evaluation mode.

    Raises:
        ConfigError: If it cannot be called with `y` or `(y, n)`.
        UnsupportedError, ShapeError: When called, if the result has none of these forms.
    """
    if isinstance(solver, Solver):
        return solver
    if isinstance(solver, Model):
        raise ConfigError(
            "solver",
            "a solver, or a callable of `y` or `(y, n)`",
            f"the model {type(solver).__name__}",
            "Wrap it: `Amortised(model, problem)`, or `Regression(model)` for a U-Net.",
        )
    if isinstance(solver, nn.Module):
        solver.eval()
    return _External(solver)


class _External(Solver):
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.takes_count = _takes_count(function)

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> Estimate:
        if self.takes_count:
            return _DrawnPosterior(self.function, y, keys, seed)
        result = self.function(y)
        if isinstance(result, Estimate):
            return result
        if isinstance(result, Distribution):
            return _DistributionPosterior(result, keys, seed)
        if isinstance(result, Tensor):
            return PointEstimate(_checked(result, y).detach())
        raise UnsupportedError(
            "solver",
            "a tensor, a Distribution, a Posterior, or draws from (y, n)",
            type(result).__name__,
            "Wrap your solver in a function that returns one of these.",
        )

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Of a callable `y → tensor` or `y → Distribution` through which gradients flow."""
        modules = [self.function] if isinstance(self.function, nn.Module) else []
        with frozen(*modules):
            found = None if self.takes_count else _mean(self._with_graph(y), y)
        return super().mean_of(y, keys, seed, draws) if found is None else _checked(found, y)

    def _with_graph(self, y: Tensor) -> Any:
        """What the function returns; None if it leaves torch, as code with numpy does."""
        try:
            return self.function(y)
        except RuntimeError as error:
            if y.requires_grad and "requires grad" in str(error):
                return None
            raise


def _mean(result: Any, y: Tensor) -> Tensor | None:
    """The reconstruction in what a callable returned, with its graph; None if it has none."""
    if isinstance(result, Distribution):
        try:
            result = result.mean
        except NotImplementedError:
            return None
    if not isinstance(result, Tensor) or (y.requires_grad and not result.requires_grad):
        return None
    return result


def _takes_count(function: Callable[..., Any]) -> bool:
    """True for `(y, n)`, False for `y` alone."""
    target = function.forward if isinstance(function, nn.Module) else function
    got = f"{type(function).__name__}, which is not callable"
    if callable(target):
        try:
            signature = inspect.signature(target)
        except ValueError:  # a compiled function need not tell its signature
            return False
        for arguments, takes_count in ((("y",), False), (("y", "n"), True)):
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return takes_count
        got = f"a callable with the signature {signature}"
    raise ConfigError(
        "solver",
        "a solver, or a callable of `y` or `(y, n)`",
        got,
        "Wrap your solver in a function with one of these signatures.",
    )


def _checked(result: Tensor, y: Tensor) -> Tensor:
    if result.ndim < 3 or len(result) != len(y):
        raise ShapeError(
            "solver",
            f"a reconstruction ({len(y)}, C, *spatial) for {len(y)} measurements",
            tuple(result.shape),
            "Return one signal per measurement, with its channel axis.",
        )
    return result


class _DrawnPosterior(Posterior):
    """Draws of a callable `(y, n) → (n, B, *signal_shape)`; whatever randomness it has."""

    def __init__(
        self, function: Callable[..., Any], y: Tensor, keys: Sequence[int], seed: int
    ) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True)
        self.function, self.y = function, y

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        values = self.function(self.y, count)
        leading = (count, len(self.y))
        if not isinstance(values, Tensor) or values.shape[:2] != leading or values.ndim < 4:
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ShapeError(
                "solver",
                f"draws ({count}, {len(self.y)}, C, *spatial)",
                got,
                "Put the draw axis first and the batch axis second.",
            )
        return Draws(values, values, torch.zeros((), dtype=values.dtype))


class _DistributionPosterior(Posterior):
    """A distribution over signals with batch `(B,)`."""

    def __init__(self, distribution: Distribution, keys: Sequence[int], seed: int) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True)
        if distribution.batch_shape != (len(keys),):
            raise ShapeError(
                "solver",
                f"a distribution with batch_shape ({len(keys)},) and the signal as its event",
                f"batch_shape {tuple(distribution.batch_shape)}",
                "Wrap it in torch.distributions.Independent.",
            )
        self.distribution = distribution

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x | y) of signals `(..., B, *signal_shape)`, nats per signal, `(..., B)`."""
        return self.distribution.log_prob(x)

    def marginal_log_prob(self, x: Tensor) -> Tensor:
        """log q(x_i | y) of a distribution with independent elements, `(..., B, *signal_shape)`.

        Raises:
            UnsupportedError: If elements depend on each other.
        """
        inner = self.distribution
        while isinstance(inner, Independent):
            inner = inner.base_dist
        if inner.event_shape:
            raise UnsupportedError(
                "solver",
                "a distribution with independent elements",
                type(inner).__name__,
                "Use `log_prob`, the density of the whole signal.",
            )
        return inner.log_prob(x)

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        shape = (count, *self.distribution.event_shape)
        try:
            noise = row_noise((self.seed, Purpose.SIGNAL), self.keys, shape)
            values = draw(self.distribution, noise)
        except UnsupportedError:
            values = draw_foreign(self.distribution, count, self.seed)
        try:
            loc = self.distribution.mean.expand_as(values)
            variance = self.distribution.variance.expand_as(values)
        except NotImplementedError:  # a family without closed-form moments
            return Draws(values, values, torch.zeros((), dtype=values.dtype))
        # loc is the same for every draw: the moments of the distribution are exact.
        return Draws(values, loc, variance)
