"""Test sets of which the solver counts on samples that were not measured."""

from dataclasses import dataclass, replace

from torch import Tensor

from latens.data import ImageSet
from latens.distributions import NoiseStream, Purpose
from latens.errors import UnsupportedError
from latens.evaluation.shifts import Shift, check_share, measured
from latens.problems import (
    Chain,
    Composition,
    FourierSampling,
    Inpainting,
    InverseProblem,
    Operator,
)


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
        shown = measured(images, problem, seed)
        assert shown.y is not None
        return replace(shown, y=shown.y * kept)


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
        check_share("share", self.share)

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
