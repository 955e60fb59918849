"""Test sets that differ from what a solver was made for, in one stated respect."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar

import torch
from scipy.optimize import brentq
from torch import Tensor

from latens.data import ImageSet
from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.evaluation.evaluate import simulate
from latens.problems import (
    Chain,
    Composition,
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
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


def _measured(images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
    return replace(images, y=simulate(problem, images.x, seed))


def _check_factor(argument: str, factor: float) -> None:
    if not 0 < factor < float("inf"):
        raise ConfigError(argument, "a positive factor", factor, "Use 1.5 for half as much more.")


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
        return _measured(images, InverseProblem(operator, problem.noise), seed)


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
        return _measured(images, InverseProblem(problem.operator, other), seed)


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
        if not 0 < self.photons < 1:
            raise ConfigError("photons", "a share in (0, 1)", self.photons, "Use 0.9.")

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
        return _measured(images, InverseProblem(problem.operator, noise), seed)


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
        return _measured(images, InverseProblem(problem.operator, noise), seed)


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
class LostSamples(Shift):
    """Samples that the solver counts on were not measured and read 0.

    Args:
        operator: Makes an operator with a mask of its own, such as a `FourierSampling` of higher
            acceleration or an `Inpainting` that keeps fewer pixels; samples outside its mask
            are lost.
    """

    operator: FourierSampling | Inpainting

    @property
    def name(self) -> str:
        """Lost samples."""
        return "lost samples"

    @property
    def strength(self) -> float:
        """Ratio of all places to the sampled ones of the other mask."""
        mask = self.operator.mask
        return mask.numel() / int(mask.sum())

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """The measurements, 0 where the other mask does not sample."""
        grid = problem.operator.grid_shape
        spatial = tuple(self.operator.mask.shape)
        if grid is None or grid[len(grid) - len(spatial) :] != spatial:
            raise UnsupportedError(
                "operator",
                f"a problem that samples a grid {spatial}",
                type(problem.operator).__name__,
                "Use this shift with FourierSampling or Inpainting of the same size.",
            )
        kept = problem.operator.from_grid(self.operator.mask.float().expand(grid))
        measured = _measured(images, problem, seed)
        assert measured.y is not None
        return replace(measured, y=measured.y * kept)


@dataclass(frozen=True)
class LostShare(Shift):
    """A share of the samples that the solver counts on were not measured and read 0.

    Which ones is drawn. Where a mask skips whole lines, whole lines are lost. Frequency 0 of a
    `FourierSampling` is kept: nobody overlooks an image that lost its mean.

    Args:
        share: Share of the sampled places (or lines) that is lost, in (0, 1).
        seed: Of the draw.
    """

    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError("share", "a share in (0, 1)", self.share, "Use 0.25.")

    @property
    def name(self) -> str:
        """Share of samples lost."""
        return "share of samples lost"

    @property
    def strength(self) -> float:
        """`share`."""
        return self.share

    def apply(self, images: ImageSet, problem: InverseProblem, seed: int) -> ImageSet:
        """The measurements, 0 at the lost places; `seed` is that of their noise."""
        sampling = _sampling(problem.operator)
        thinner = sampling.with_mask(self._thinned(sampling))
        return LostSamples(thinner).apply(images, problem, seed)

    def _thinned(self, sampling: FourierSampling | Inpainting) -> Tensor:
        """The mask of the operator with fewer places, `(*spatial)`."""
        mask = sampling.mask.cpu()
        axes = [a for a in range(mask.ndim) if not bool((mask == mask.narrow(a, 0, 1)).all())]
        axes = axes or list(range(mask.ndim))  # nothing is skipped: single places
        drawn = mask[tuple(slice(None) if a in axes else slice(0, 1) for a in range(mask.ndim))]
        open_to_loss = drawn.clone()
        if isinstance(sampling, FourierSampling):
            open_to_loss[tuple(n // 2 for n in drawn.shape)] = False
        places = open_to_loss.flatten().nonzero()[:, 0]
        count = max(1, round(self.share * int(drawn.sum())))
        if count > len(places) or count == int(drawn.sum()):
            raise UnsupportedError(
                "operator",
                f"a mask of which {count} places or lines can be lost",
                f"{len(places)}",
                "Use another shift.",
            )
        order = NoiseStream(self.seed, Purpose.PERTURBATION).permutation(len(places))
        kept = drawn.flatten()
        kept[places[order[:count]]] = False
        return kept.reshape(drawn.shape).expand(mask.shape).contiguous()


def _sampling(operator: Operator) -> FourierSampling | Inpainting:
    """The operator that samples, which is the last step of several."""
    last = operator.steps[-1] if isinstance(operator, Composition | Chain) else operator
    if isinstance(last, FourierSampling | Inpainting):
        return last
    raise UnsupportedError(
        "operator",
        "a FourierSampling or Inpainting, alone or as the last step of several",
        type(operator).__name__,
        "Use another shift.",
    )


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
        return _measured(self.images, problem, seed)
