"""Forecasters that mix several fits of one network: training, and weights as tensors."""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, LatensError
from latens.inference.forecasting.forecast import Forecaster, Target
from latens.models.base import Model
from latens.store import Status
from latens.training import Training, fit_model

VALIDATION = 0.15
"""Share of the patients that decide when training stops."""

DEFAULT_TRAINING = Training(
    max_steps=180,
    batch_size=128,
    learning_rate=1e-2,
    warmup_steps=10,
    kl_warmup_steps=50,
    validate_every=20,
    patience=4,
)

M = TypeVar("M", bound=Model)


class MemberForecaster(Forecaster, Generic[M]):
    """An equal mixture of members, each from weights and validation patients of its own.

    Args:
        target: Which visit is forecast.
        members: Fits that are mixed.
        training: Budget of each fit.

    Attributes:
        models: The trained members, float64.
        statuses: How each fit ended; none after `restore`.
    """

    def __init__(self, target: Target, members: int, training: Training) -> None:
        super().__init__(target)
        if members < 1:
            raise ConfigError("members", "1 or more", members, "Use for example 3.")
        self.members, self.training = members, training
        self.models: list[M] = []
        self.statuses: list[Status] = []

    @abstractmethod
    def new_model(self, visits: int) -> M:
        """An untrained member for series of that many visits."""

    @abstractmethod
    def numbers(self) -> dict[str, Tensor]:
        """What is kept beside the weights: `scalars`, which ends with the number of visits."""

    @abstractmethod
    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `numbers` gave.

        Raises:
            KeyError, ValueError: If something is missing, or of another shape.
        """

    @property
    def visits(self) -> int:
        """Visits of the series that the members are made for; 0 before training."""
        return self.models[0].signal_shape[0] if self.models else 0

    @property
    def members_converged(self) -> float:
        """Share of the members whose training converged; NaN where weights were restored."""
        if not self.statuses:
            return math.nan
        return sum(s is Status.CONVERGED for s in self.statuses) / len(self.models)

    def require_enough(self, series: VolumeSeries) -> None:
        """Refuse fewer than eight patients."""
        if len(series) < 8:
            raise DataError(
                "series",
                f"at least 8 patients to fit a {self.label} to",
                len(series),
                "Leave it out of `forecasters`: curves and the hierarchical model need fewer.",
            )

    def require_trained(self) -> None:
        """Refuse to forecast before `fit`."""
        if not self.models:
            raise ConfigError(
                "forecaster", "a trained one", "one without members", "Call `fit` before."
            )

    def train(self, packed: Tensor, seed: int) -> list[Tensor]:
        """Fit every member.

        Args:
            packed: Series, `(B, …)`.
            seed: Key of weights, split and batches.

        Returns:
            Rows of the validation patients of each member.
        """
        self.models, self.statuses, held = [], [], []
        for member in range(self.members):
            key = 1000 * seed + member
            order = NoiseStream(seed, member).permutation(len(packed))
            kept = max(2, round(VALIDATION * len(packed)))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(key)
                model = self.new_model(packed.shape[1])
            validation, train = packed[order[:kept]], packed[order[kept:]]
            result = fit_model(model, (train, train), (validation, validation), self.training, key)
            self.models.append(copy.deepcopy(model).double().eval())
            self.statuses.append(result.outcome.status)
            held.append(order[:kept])
        return held

    def tensors(self) -> dict[str, Tensor]:
        """Weights of all members, and `numbers`."""
        found = self.numbers()
        for j, model in enumerate(self.models):
            found |= {f"{j}.{name}": value for name, value in model.state_dict().items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the weights of all members.

        Raises:
            DataError: If they are not those of such members.
        """
        try:
            visits = int(tensors["scalars"][-1])
            models = []
            for j in range(self.members):
                model = self.new_model(visits).double()
                prefix = f"{j}."
                model.load_state_dict(
                    {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                )
                models.append(model.eval())
            self.take_over(tensors)
        except (KeyError, IndexError, ValueError, RuntimeError, LatensError) as error:
            raise DataError(
                "tensors",
                f"the weights of {self.members} members of this {self.label}",
                " ".join(str(error).split())[:200],
                "Fit the model again, with this version and the same settings and encoder.",
            ) from error
        self.models = models
        self.statuses = []
