"""Test sets that differ from what a solver was made for, in one stated respect."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar

import torch
from scipy.optimize import brentq
from torch import Tensor

from latens.data import ImageSet
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.evaluation.evaluate import simulate
from latens.problems import (
    Composition,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    MotionBlur,
    NoiseModel,
    Operator,
    PoissonGaussianNoise,
    RicianNoise,
)
from latens.types import Shape


class Shift(ABC):
    """A change of operator, noise or images of which the solver is not told.

    Attributes:
        same_images: True if the signals stay, so that images can be compared in pairs.
    """

    same_images: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """What changes."""

    @property
    @abstractmethod
    def strength(self) -> float:
        """How large the change is, in units of its own."""

    @abstractmethod
    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """The shifted test set.

        Args:
            images: Test set as the solver expects it.
            problem: Operator and noise as the solver was made for.
            seed: Key of the noise; the noise of an image depends on it and on its place.

        Raises:
            UnsupportedError: If the shift does not apply to this problem.
        """


def measured(images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
    """The images with measurements that a problem simulates."""
    return replace(images, y=simulate(problem, images.x, seed))


def _check_factor(argument: str, factor: float) -> None:
    if not 0 < factor < float("inf"):
        raise ConfigError(argument, "a positive factor", factor, "Use 1.5 for half as much more.")


def check_share(argument: str, share: float) -> None:
    """Raise `ConfigError` where a share is not in (0, 1)."""
    if not 0 < share < 1:
        raise ConfigError(argument, "a share in (0, 1)", share, "Leave it out for the usual one.")


@dataclass(frozen=True)
class KernelWidth(Shift):
    """A blur of another width than the solver expects.

    Args:
        factor: Width of the kernel over that of the problem.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_factor("factor", self.factor)

    @property
    def name(self) -> str:
        """Kernel width."""
        return "kernel width"

    @property
    def strength(self) -> float:
        """`factor`."""
        return self.factor

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """Measurements through the other kernel, with the noise of the problem."""
        operator = _widened(problem.operator, self.factor)
        return measured(images, InverseProblem(operator, problem.noise), seed)


def _widened(operator: Operator, factor: float) -> Operator:
    shape = operator.signal_shape
    if isinstance(operator, GaussianBlur | MotionBlur):
        boundary = "circular" if operator.boundary == "circular" else "zero"
        if isinstance(operator, GaussianBlur):
            return GaussianBlur(shape, factor * operator.width, boundary)
        return MotionBlur(shape, [factor * d for d in operator.displacement], boundary)
    if isinstance(operator, Composition):
        first, *rest = operator.steps
        widened = _widened(first, factor)

        def made_before(step: Operator):
            return lambda _: step

        return Composition(shape, [made_before(step) for step in (widened, *rest)])
    raise UnsupportedError(
        "operator",
        "a GaussianBlur or MotionBlur, alone or as the first step of a Composition",
        type(operator).__name__,
        "Use another shift.",
    )


@dataclass(frozen=True)
class NoiseLevel(Shift):
    """Noise of the same family with another standard deviation.

    Args:
        factor: Standard deviation of every element over that of the problem. Of Rician noise it
            is that of the complex parts.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_factor("factor", self.factor)

    @property
    def name(self) -> str:
        """Noise level."""
        return "noise level"

    @property
    def strength(self) -> float:
        """`factor`."""
        return self.factor

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """Measurements with the other noise."""
        noise, factor = problem.noise, self.factor
        if isinstance(noise, GaussianNoise):
            other: NoiseModel = GaussianNoise(factor * noise.scale)
        elif isinstance(noise, RicianNoise):
            other = RicianNoise(factor * noise.scale)
        elif isinstance(noise, PoissonGaussianNoise):
            other = PoissonGaussianNoise(factor**2 * noise.gain, factor * noise.scale)
        else:
            raise UnsupportedError(
                "noise",
                "GaussianNoise, RicianNoise or PoissonGaussianNoise",
                type(noise).__name__,
                "Use another shift.",
            )
        return measured(images, InverseProblem(problem.operator, other), seed)


@dataclass(frozen=True)
class PhotonNoise(Shift):
    """Poisson-Gaussian noise where the solver expects Gaussian noise of the same mean variance.

        gain·E[clean] = photons·σ²,   scale² = (1 − photons)·σ²

    E[clean] is the mean over the test set; clean measurements must be brightnesses.

    Args:
        photons: Share of the variance that comes from photons, in (0, 1).
    """

    photons: float = 0.9

    def __post_init__(self) -> None:
        check_share("photons", self.photons)

    @property
    def name(self) -> str:
        """Photon noise."""
        return "photon noise"

    @property
    def strength(self) -> float:
        """`photons`."""
        return self.photons

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """Measurements with photon noise."""
        clean, scale = _brightness(images, problem)
        gain = self.photons * scale**2 / float(clean.clamp_min(0).mean())
        noise = PoissonGaussianNoise(gain, sqrt(1 - self.photons) * scale)
        return measured(images, InverseProblem(problem.operator, noise), seed)


@dataclass(frozen=True)
class MagnitudeNoise(Shift):
    """Rician noise where the solver expects Gaussian noise of the same mean variance.

    The measurement is the magnitude of a complex one, whose noise has the scale at which the
    variance, mean over the test set, is σ²; its mean lies above the clean value where that is
    small.
    """

    @property
    def name(self) -> str:
        """Magnitude noise."""
        return "magnitude noise"

    @property
    def strength(self) -> float:
        """1: the family has no degrees."""
        return 1.0

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """Measurements with Rician noise."""
        clean, scale = _brightness(images, problem)

        def excess(level: float) -> float:
            spread = RicianNoise(level).elementwise(clean).variance
            return float(spread.mean()) - scale**2

        # The variance lies between (2 − π/2)s² at 0 and s² far from it.
        level = brentq(excess, 0.99 * scale, 1.6 * scale)
        noise = RicianNoise(float(level))  # pyright: ignore[reportArgumentType]
        return measured(images, InverseProblem(problem.operator, noise), seed)


def _brightness(images: ImageSet, problem: InverseProblem) -> tuple[Tensor, float]:
    """Clean measurements, and the standard deviation of the Gaussian noise expected on them."""
    if not isinstance(problem.noise, GaussianNoise):
        raise UnsupportedError(
            "noise", "GaussianNoise", type(problem.noise).__name__, "Use another shift."
        )
    with torch.no_grad():
        clean = problem.operator(images.x).double()
    scale = problem.noise.scale
    if float(clean.min()) < -3 * scale or float(clean.max()) <= 0:
        raise UnsupportedError(
            "operator",
            "clean measurements of 0 or more, but for the noise",
            f"{float(clean.min()):.3g} to {float(clean.max()):.3g}",
            "Use another shift: this one is of brightnesses.",
        )
    return clean, scale


@dataclass(frozen=True)
class OtherImages(Shift):
    """Images of another kind (anatomy, class), measured as the problem says.

    Args:
        images: The other images, of the same shape; their own measurements are not used.
    """

    images: ImageSet
    same_images: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Images, with the name of their set where it has one."""
        return f"images: {self.images.name}" if self.images.name else "images"

    @property
    def strength(self) -> float:
        """1: images of another kind have no order."""
        return 1.0

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """The other images with simulated measurements."""
        wanted: Shape = images.signal_shape
        if self.images.signal_shape != wanted:
            raise ShapeError(
                "images",
                f"signals {wanted}, as the solver was made for",
                self.images.signal_shape,
                "Crop or resample the other images.",
            )
        return measured(self.images, problem, seed)
