"""What a solver returns: a posterior that can be drawn from, or one image and no more."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.errors import UnsupportedError
from latens.inference.samplers.export import require_arviz
from latens.metrics import central_interval
from latens.store import Status, worst_status

DEFAULT_DRAWS = 39
"""M = 39 draws attain the 95 % interval exactly: (39 + 1 − 2)/(39 + 1)."""


@dataclass(frozen=True)
class Interval:
    """Central interval of every element.

    Attributes:
        lower: `(B, *signal_shape)`, signal units.
        upper: `(B, *signal_shape)`, signal units.
        level: Probability that the interval attains exactly.
    """

    lower: Tensor
    upper: Tensor
    level: float


@dataclass(frozen=True)
class Draws:
    """Draws of the signal with the conditional moments they were drawn from.

    Attributes:
        values: Exchangeable draws, `(M, B, *signal_shape)`.
        loc: E[x | z_m, y] of each draw, same shape; `values` if there is nothing better.
        variance: Var[x | z_m, y] of each draw, broadcastable to it; 0 where `loc` is `values`.
        log_measurement: log p(y | z_m) of each draw without its signal, nats, `(M, B)`; None
            where it is not known in closed form.
    """

    values: Tensor
    loc: Tensor
    variance: Tensor
    log_measurement: Tensor | None = None


class Estimate(ABC):
    """Common face of `Posterior` and `PointEstimate`.

    Attributes:
        status: How the solver ended.
        diagnostics: Numbers that describe how, by name.
        trusted: Rows that a table may use, `(B,)`, of a solver that can fail for one
            measurement and not for another; None if all stand or fall together.
        is_posterior: True if the estimate has draws.
    """

    is_posterior: ClassVar[bool]

    def __init__(
        self, status: Status = Status.CONVERGED, diagnostics: dict[str, float] | None = None
    ) -> None:
        self.status = status
        self.diagnostics = dict(diagnostics or {})
        self.trusted: Tensor | None = None

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The reconstruction, `(B, *signal_shape)`, signal units."""

    @property
    @abstractmethod
    def std(self) -> Tensor:
        """Standard deviation of every element, `(B, *signal_shape)`, signal units."""

    @abstractmethod
    def interval(self, level: float = 0.95) -> Interval:
        """Central interval of every element at an attainable level."""

    @abstractmethod
    def sample(self, draws: int = DEFAULT_DRAWS) -> Tensor:
        """Draws, `(M, B, *signal_shape)`."""


def trusted_status(status: Status, trusted: Tensor) -> Status:
    """Status of a fit, or `unmixed` where a solver cannot be trusted for every row, `(B,)`."""
    own = Status.CONVERGED if bool(trusted.all()) else Status.UNMIXED
    return worst_status([status, own])


@runtime_checkable
class HasLogProb(Protocol):
    """A posterior that knows its own density."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x | y) of signals `(..., B, *signal_shape)`, nats per signal, `(..., B)`."""
        ...


@runtime_checkable
class HasMarginals(Protocol):
    """A posterior that knows the density of every element on its own."""

    def marginal_log_prob(self, x: Tensor) -> Tensor:
        """log q(x_i | y) of signals `(..., B, *signal_shape)`, nats per element, same shape."""
        ...


class PointEstimate(Estimate):
    """One reconstruction without uncertainty (Tikhonov, TV, U-Net).

    Args:
        mean: The reconstruction, `(B, *signal_shape)`.
    """

    is_posterior = False

    def __init__(
        self,
        mean: Tensor,
        status: Status = Status.CONVERGED,
        diagnostics: dict[str, float] | None = None,
    ) -> None:
        super().__init__(status, diagnostics)
        self._mean = mean

    @property
    def mean(self) -> Tensor:
        """The reconstruction."""
        return self._mean

    def _refuse(self, what: str):
        return UnsupportedError(
            what,
            "a solver that returns a Posterior",
            "a point estimate, which has no uncertainty",
            "Use `mean`, or choose a solver such as `cvae`, `latent` or an ensemble.",
        )

    @property
    def std(self) -> Tensor:
        """Raises `UnsupportedError`."""
        raise self._refuse("std")

    def interval(self, level: float = 0.95) -> Interval:
        """Raises `UnsupportedError`."""
        raise self._refuse("interval")

    def sample(self, draws: int = DEFAULT_DRAWS) -> Tensor:
        """Raises `UnsupportedError`."""
        raise self._refuse("sample")


class Posterior(Estimate):
    """Distribution of the signal given each measurement, known through exchangeable draws.

    `mean`, `std` and `interval` all come from the same M = 39 draws, made once and kept. `mean`
    and `std` use the conditional moments of each draw where the solver has them: the mean of a
    mixture, and its variance E[σ²] + Var[mean].

    Args:
        keys: Integer key of the noise of each row.
        seed: Key of the noise of this posterior.
        includes_decoder_spread: True if draws contain the observation noise of the decoder,
            False if they are decoder means.

    Attributes:
        is_joint: False if only the spread of each element is known, and not how elements go
            together: means of regions and whole images are then no draws of anything.
    """

    is_posterior = True
    is_joint: ClassVar[bool] = True

    def __init__(
        self,
        keys: Sequence[int],
        seed: int,
        *,
        includes_decoder_spread: bool,
        status: Status = Status.CONVERGED,
        diagnostics: dict[str, float] | None = None,
    ) -> None:
        super().__init__(status, diagnostics)
        self.keys = tuple(keys)
        self.seed = seed
        self.includes_decoder_spread = includes_decoder_spread

    def noise(self, purpose: Purpose, count: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """Standard noise of every row, `(count, B, *shape)`, with type and device of `like`."""
        key = (self.seed, purpose)
        return row_noise(key, self.keys, (count, *shape), like.dtype, like.device)

    @abstractmethod
    def make_draws(self, count: int) -> Draws:
        """`count` draws for every row; the same for every call with this count."""

    @cached_property
    def draws(self) -> Draws:
        """The `DEFAULT_DRAWS` draws behind `mean`, `std` and `interval`."""
        return self.make_draws(DEFAULT_DRAWS)

    @cached_property
    def mean(self) -> Tensor:
        """Posterior mean, `(B, *signal_shape)`."""
        return self.draws.loc.mean(0)

    @cached_property
    def variance(self) -> Tensor:
        """E[σ²] + Var[mean] of every element, `(B, *signal_shape)`."""
        within = self.draws.variance.expand_as(self.draws.loc).mean(0)
        return within + self.draws.loc.var(0)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation."""
        return self.variance.sqrt()

    def interval(self, level: float = 0.95) -> Interval:
        """Central interval from order statistics.

        Args:
            level: One of (M + 1 − 2k)/(M + 1) with M = 39.

        Raises:
            ConfigError: If the level is out of reach; the message names the M needed.
        """
        return Interval(*central_interval(self.draws.values, level))

    def sample(self, draws: int = DEFAULT_DRAWS) -> Tensor:
        """Exchangeable draws, `(draws, B, *signal_shape)`."""
        if draws == DEFAULT_DRAWS:
            return self.draws.values
        return self.make_draws(draws).values

    def to_inference_data(self):
        """Draws as ArviZ `InferenceData` with one chain: dims chain, draw, image, channel, ….

        Raises:
            UnsupportedError: If arviz is not installed.
        """
        values = self.draws.values
        axes = ["image", "channel", *[f"axis_{i}" for i in range(values.ndim - 3)]]
        array = values.numpy(force=True)[None]
        return require_arviz().from_dict(
            posterior={"x": array}, dims={"x": axes}, coords={"image": list(self.keys)}
        )
