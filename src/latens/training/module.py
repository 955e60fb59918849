"""The one LightningModule: any model, any stage."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from latens.distributions import NoiseStream
from latens.errors import NumericalError
from latens.models import Model
from latens.objectives import reduce_terms
from latens.objectives.distributed import gathered, world_size
from latens.objectives.terms import require_finite
from latens.problems import InverseProblem
from latens.training.batches import Blocks, Pair, StepBatches
from latens.training.settings import Training
from latens.training.sharing import SharedNoise, summed

TRAINING_NOISE, VALIDATION_NOISE = 0, 1


class StageModule(LightningModule):
    """Trains one stage of a model.

    Args:
        model: The model.
        stage: Name of the stage.
        problem: Inverse problem, for models that simulate.
        settings: Budget and optimiser.
        seed: Key of every random number of this fit.
        parts: Batches whose gradients make one step.
    """

    def __init__(
        self,
        model: Model,
        stage: str,
        problem: InverseProblem | None,
        settings: Training,
        seed: int,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self.problem = problem
        self.settings = settings
        self.key = (seed, model.stages.index(stage))
        self.parts = parts
        self.event_size = model.stage_event_size(stage)
        self.sums: dict[str, float] = {}

    def _noise(self, purpose: int, index: int) -> NoiseStream:
        return NoiseStream(*self.key, purpose, index, device=self.device)

    def _training_noise(self, batch_idx: int) -> NoiseStream:
        """Noise of a step; of one of its parts where gradients are accumulated."""
        part = batch_idx % self.parts
        key = (*self.key, TRAINING_NOISE, self.global_step, *([part] if self.parts > 1 else []))
        if world_size() > 1:
            return SharedNoise(*key, device=self.device)
        return NoiseStream(*key, device=self.device)

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """Loss of a batch; raises `NumericalError` with step and terms if it is not finite."""
        noise = self._training_noise(batch_idx)
        self.model.before_step(self.global_step, *batch)
        step = self.global_step
        with _exploded(step, met_by_all=world_size() == 1):
            terms = self.model.training_terms(self.stage, *batch, noise, self.problem, step)
        if terms.kl is not None:
            beta = self.kl_warmup(step) * terms.weights.get("kl", 1.0)
            terms = replace(terms, weights={**terms.weights, "kl": beta})
        loss = reduce_terms(terms, self.event_size)
        # Every process stops at the same step, or the others would wait for one that has left.
        require_finite(gathered(loss.detach()[None]).mean(), terms, self.global_step)
        self._add("train", {"loss": float(loss.detach()), **self.model.watched(terms)}, 1)
        return loss

    def kl_warmup(self, step: int) -> float:
        """Factor of the KL's weight at an optimiser step: 0 while the decoder waits, then it rises
        to 1 over `kl_warmup_steps`.
        """
        begun = step + 1 - self.model.waiting_steps
        return min(1.0, max(begun, 0) / max(self.settings.kl_warmup_steps, 1))

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Adds the terms of a block, under noise that is the same at every look."""
        noise = self._noise(VALIDATION_NOISE, batch_idx)
        with _exploded(self.global_step, met_by_all=True):
            terms = self.model.terms(self.stage, *batch, noise, self.problem)
        loss = reduce_terms(terms, self.event_size)
        require_finite(loss, terms, self.global_step)
        self._add("val", {"loss": float(loss), **terms.means()}, len(batch[0]))

    def _add(self, split: str, values: dict[str, float], weight: int) -> None:
        count = f"{split}/count"
        self.sums[count] = self.sums.get(count, 0.0) + weight
        for name, value in values.items():
            key = f"{split}/{name}"
            self.sums[key] = self.sums.get(key, 0.0) + weight * value

    def means(self) -> dict[str, float]:
        """Means of all quantities since they were last taken, over the rows of all processes,
        which must ask together.
        """
        sums = dict(zip(self.sums, summed([*self.sums.values()], self.device), strict=True))
        return {
            key: value / sums[f"{key.split('/')[0]}/count"]
            for key, value in sums.items()
            if not key.endswith("/count")
        }

    def take_means(self) -> dict[str, float]:
        """The same, and forget them."""
        found, self.sums = self.means(), {}
        return found

    def configure_optimizers(self):
        """Adam with linear warm-up and a cosine to zero; what waits warms up when it begins."""
        settings, wait = self.settings, self.model.waiting_steps
        late = {id(parameter) for parameter in self.model.waiting_parameters()}
        groups: list[list[nn.Parameter]] = [[], []]
        for parameter in self.model.stage_parameters(self.stage):
            groups[id(parameter) in late].append(parameter)
        optimiser = torch.optim.Adam(
            [{"params": group} for group in groups if group],
            lr=settings.learning_rate,
            fused=True,
        )

        def factor(step: int, start: int) -> float:
            if step < start + settings.warmup_steps:
                return max(step + 1 - start, 0) / (settings.warmup_steps + 1)
            rest = max(settings.max_steps - settings.warmup_steps, 1)
            return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / rest))

        starts = [start for start, group in zip((0, wait), groups, strict=True) if group]
        factors = [partial(factor, start=start) for start in starts]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factors)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """What waits has no gradient, not one of zeros: Adam would count those."""
        if self.global_step < self.model.waiting_steps:
            for parameter in self.model.waiting_parameters():
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of all gradients; Lightning refuses to in mixed precision with fused Adam,
        though gradients in bfloat16 are not scaled.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)


@contextmanager
def _exploded(step: int, met_by_all: bool) -> Iterator[None]:
    """Raise `NumericalError` where a matrix cannot be decomposed: its numbers are not finite.

    Not where the other processes do not meet the same matrix, and would wait for this one.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
        if not met_by_all:
            raise
        raise NumericalError(
            "loss",
            "matrices that can be decomposed",
            f"'{error}' at step {step}",
            "Lower the learning rate or look for extreme values in the data.",
            step=step,
        ) from error


class PairData(LightningDataModule):
    """Training batches by step and validation blocks.

    Args:
        train: Pair of tensors to train on.
        validation: Pair of tensors to stop on.
        settings: Budget; one Lightning epoch is `validate_every` steps.
        seed: Key of the order of the batches.
    """

    def __init__(self, train: Pair, validation: Pair, settings: Training, seed: int) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.settings, self.seed = settings, seed

    def train_dataloader(self) -> StepBatches:
        """The steps up to the next look at the validation share."""
        start = 0 if self.trainer is None else self.trainer.global_step
        stop = min(start + self.settings.validate_every, self.settings.max_steps)
        return StepBatches(*self.train, self.settings.batch_size, self.seed, start, stop)

    def val_dataloader(self) -> Blocks:
        """The validation share of N."""
        return Blocks(*self.validation, 256)
