"""Models that go wrong in a chosen way, named with `--trust stand_ins`."""

import multiprocessing
import os
from pathlib import Path

import torch

from latens.distributions import NoiseStream
from latens.models import CVAE, Model
from latens.nets import Linear
from latens.objectives import LossTerms
from latens.problems import InverseProblem
from latens.types import Shape


class _Small(CVAE):
    def __init__(self, signal_shape: Shape, measurement_shape: Shape, *, dim: int = 2) -> None:
        super().__init__(signal_shape, measurement_shape, dim=dim, architecture=Linear())


class Raising(_Small):
    """Raises in its loss."""

    def terms(self, stage, x, y, noise: NoiseStream, problem: InverseProblem | None) -> LossTerms:
        raise RuntimeError("a fault\nin two lines")


class NotFinite(_Small):
    """Its loss is NaN."""

    def terms(self, stage, x, y, noise: NoiseStream, problem: InverseProblem | None) -> LossTerms:
        terms = super().terms(stage, x, y, noise, problem)
        return LossTerms(log_likelihood=terms.log_likelihood * torch.nan, kl=terms.kl)


class Deadly(_Small):
    """Ends its worker process, as the kernel does for want of memory, until a file appears.

    Args:
        signal_shape: Shape of x.
        measurement_shape: Shape of y.
        cure: Path of the file.
    """

    def __init__(self, signal_shape: Shape, measurement_shape: Shape, *, cure: str) -> None:
        super().__init__(signal_shape, measurement_shape)
        self.cure = cure

    def terms(self, stage, x, y, noise: NoiseStream, problem: InverseProblem | None) -> LossTerms:
        if multiprocessing.parent_process() is not None and not Path(self.cure).exists():
            os._exit(9)
        return super().terms(stage, x, y, noise, problem)


class Interrupted(_Small):
    """Gets Ctrl-C in its first step."""

    def terms(self, stage, x, y, noise: NoiseStream, problem: InverseProblem | None) -> LossTerms:
        raise KeyboardInterrupt


class Unbuildable(_Small):
    """Cannot be built."""

    def __init__(self, signal_shape: Shape, measurement_shape: Shape) -> None:
        raise RuntimeError("no such thing")


class Neither(Model):
    """No latents and no reconstruction."""

    def terms(self, stage, x, y, noise: NoiseStream, problem: InverseProblem | None) -> LossTerms:
        raise NotImplementedError
