"""Phantom subjects: 3-D scans of schematic heads with a lesion, whose every factor is known.

    scan_c = b · Σ_t w_t level_{t,c} + σ n      t = white, grey, fluid, rim, core, oedema
    image_c = (scan_c − mean) / std over the brain, 0 outside

w_t is the share of a voxel that tissue t fills, see `latens.data.head_painting`; b is a smooth
bias field. See `latens.data.heads` for the factors and the shape of the lesion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from latens.data.gompertz import treated_gompertz
from latens.data.grids import centred_affine
from latens.data.head_painting import HALF_FIELD, TISSUES, bias_field, paint_heads, semi_axes
from latens.data.heads import (
    ANATOMY,
    SCANNER,
    SIZE,
    Factor,
    draw_scanner,
    draw_subjects,
    true_targets,
)
from latens.data.intensity import standardise
from latens.data.subjects import MODALITIES, Scans, Subjects, SubjectSource
from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError
from latens.store.hashing import content_hash

VERSION = 1
"""Changes whenever the same factors give other images."""
SMALLEST_SIZE = 16
VOXELS_PER_BLOCK = 2**17
"""Voxels painted at a time: few enough to stay in the cache."""


@dataclass(frozen=True)
class LesionGrowth:
    """Gompertz growth of the lesion under a treatment that begins at the first visit.

    dV/dt = α V ln(K/V) − e exp(−λ t) V; each subject has its own α, κ = ln K, e and λ, uniform on
    these ranges. The gap between two visits is uniform within ± half of `interval`.

    Args:
        visits: Visits of each subject, at least 2.
        interval: Mean time between visits, days.
        rate: Range of α, per day.
        plateau: Range of κ, log mm³.
        effect: Range of e, per day; (0, 0) for no treatment.
        decay: Range of λ, per day.

    Raises:
        ConfigError: If a number is out of range.
    """

    visits: int = 4
    interval: float = 90.0
    rate: tuple[float, float] = (0.002, 0.01)
    plateau: tuple[float, float] = (10.0, 11.5)
    effect: tuple[float, float] = (0.0, 0.02)
    decay: tuple[float, float] = (0.005, 0.02)

    def __post_init__(self) -> None:
        ranges = (self.rate, self.plateau, self.effect, self.decay)
        ordered = all(len(pair) == 2 and pair[0] <= pair[1] for pair in ranges)
        positive = ordered and min(self.interval, self.rate[0], self.plateau[0]) > 0
        if not (positive and self.visits >= 2 and min(self.effect[0], self.decay[0]) >= 0):
            raise ConfigError(
                "growth",
                "visits ≥ 2, interval, rate and plateau above 0, effect and decay 0 or more, "
                "each range with its lower end first",
                self,
                "Correct the number that breaks this.",
            )

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What differs between subjects; the gaps are relative to the interval."""
        return (
            Factor("growth_rate", *self.rate),
            Factor("plateau", *self.plateau),
            Factor("treatment_effect", *self.effect),
            Factor("treatment_decay", *self.decay),
            *(Factor(f"gap_{k}", 0.5, 1.5) for k in range(1, self.visits)),
        )


class PhantomSubjects(SubjectSource):
    """Schematic heads with a lesion in four modalities, painted when they are read.

    Subject i depends on `seed` and i alone, so a larger `count` extends a smaller one. Images are
    standardised over the brain and 0 outside it. `Subjects.factors` has every factor of variation
    (more than 50, uniform and independent), `Subjects.targets` the exact volume, centroid and
    shape of the lesion, not those of its voxels. Voxels differ in shape where `size` is no cube.

    Args:
        size: Voxels along D, H, W, at least 16; they span 176 mm each.
        count: Number of subjects.
        seed: Seed of the collection.
        growth: How the lesion changes between visits; by default one scan of each subject.
    """

    def __init__(
        self,
        size: tuple[int, int, int] = (32, 32, 32),
        count: int = 512,
        seed: int = 0,
        growth: LesionGrowth | None = None,
    ) -> None:
        if len(size) != 3 or min(size) < SMALLEST_SIZE:
            raise ConfigError(
                "size",
                f"three axes of at least {SMALLEST_SIZE} voxels",
                tuple(size),
                "Use for example (32, 32, 32).",
            )
        if count < 1:
            raise ConfigError("count", "at least 1", count, "Ask for one subject or more.")
        if seed < 0:
            raise ConfigError("seed", "0 or more", seed, "Use a seed that is not negative.")
        self.size = tuple(size)
        self.count = count
        self.seed = seed
        self.growth = growth

    def load(self) -> Subjects:
        """Draw the factors; scans are painted when they are read."""
        visits = 1 if self.growth is None else self.growth.visits
        kinds = (*ANATOMY, SIZE, *(() if self.growth is None else self.growth.factors))
        own = draw_subjects(self.seed, range(self.count), kinds)
        scans = [(subject, visit) for subject in range(self.count) for visit in range(visits)]
        values = {
            kind.name: np.repeat(column, visits) for kind, column in zip(kinds, own.T, strict=True)
        }
        scanner = draw_scanner(self.seed, scans)
        values |= {kind.name: column for kind, column in zip(SCANNER, scanner.T, strict=True)}
        times = None
        if self.growth is not None:
            times, levels = _grown(own, kinds, self.growth)
            # What differs at each visit replaces what was drawn for the first.
            values = {k: v for k, v in values.items() if not k.startswith("gap_")}
            values |= {"start_log_volume": values["log_volume"], "log_volume": levels}
        names = [f"subject{subject:05d}" for subject, _ in scans]
        affine = centred_affine(self.size, [2 * HALF_FIELD / n for n in self.size])
        reader = _Painter(self.seed, self.size, scans, values)
        return Subjects(
            read=reader,
            shape=(len(MODALITIES), *self.size),
            channels=MODALITIES,
            names=tuple(
                names
                if self.growth is None
                else (f"{name}/visit{k}" for name, (_, k) in zip(names, scans, strict=True))
            ),
            targets=torch.from_numpy(_targets(values)).float(),
            affines=np.repeat(affine[None], len(scans), axis=0),
            groups=tuple(names),
            times=times,
            factors=torch.from_numpy(np.stack(list(values.values()), axis=-1)),
            factor_names=tuple(values),
            identity=content_hash(
                {
                    "kind": "phantom subjects",
                    "version": VERSION,
                    "size": self.size,
                    "count": self.count,
                    "seed": self.seed,
                    "growth": None if self.growth is None else vars(self.growth),
                }
            ),
            name=f"phantom subjects {'×'.join(str(n) for n in self.size)}",
            citation="Phantoms drawn by latens",
        )


def _grown(
    own: np.ndarray, kinds: Sequence[Factor], growth: LesionGrowth
) -> tuple[torch.Tensor, np.ndarray]:
    """Day and log volume of each scan, subject by subject."""
    column = {kind.name: torch.from_numpy(own[:, [k]]) for k, kind in enumerate(kinds)}
    gaps = [column[f"gap_{k}"] for k in range(1, growth.visits)]
    days = growth.interval * torch.cat([torch.zeros_like(gaps[0]), *gaps], dim=1).cumsum(dim=1)
    levels = treated_gompertz(
        column["log_volume"],
        days,
        torch.zeros_like(days),
        column["growth_rate"],
        column["plateau"],
        column["treatment_effect"],
        column["treatment_decay"],
    )
    return days.flatten(), levels.flatten().numpy()


def _targets(values: dict[str, np.ndarray]) -> np.ndarray:
    centre = np.stack([values[f"lesion_{axis}"] for axis in "spl"], axis=-1)
    return true_targets(
        values["log_volume"],
        centre,
        semi_axes(values),
        values["lobulation"],
        values["lobe_mixture"],
    )


class _Painter:
    """Reader that paints scans block by block."""

    def __init__(
        self,
        seed: int,
        size: tuple[int, ...],
        scans: list[tuple[int, int]],
        values: dict[str, np.ndarray],
    ) -> None:
        self.seed, self.size, self.scans, self.values = seed, size, scans, values

    def __call__(self, rows: Sequence[int]) -> Scans:
        step = max(1, VOXELS_PER_BLOCK // int(np.prod(self.size)))
        blocks = (self._block(list(rows[k : k + step])) for k in range(0, len(rows), step))
        return Scans.joined(blocks, len(rows))

    def _block(self, rows: list[int]) -> Scans:
        values = {name: column[rows] for name, column in self.values.items()}
        weights, brain, lesion = paint_heads(values, self.size)
        levels = np.ones((len(rows), len(MODALITIES), len(TISSUES)), dtype=np.float32)
        for t, tissue in enumerate(TISSUES[1:], start=1):  # white matter is 1
            for c, modality in enumerate(MODALITIES):
                levels[:, c, t] = values[f"{tissue}_{modality}"]
        flat = weights.reshape(len(rows), len(TISSUES), -1)
        images = (levels @ flat).reshape(len(rows), len(MODALITIES), *self.size)
        images *= bias_field(values, self.size)[:, None]
        for image, row, sigma in zip(images, rows, values["noise"], strict=True):
            stream = NoiseStream(self.seed, Purpose.SUBJECT, *self.scans[row], 1)
            image += np.float32(sigma) * stream.normal(image.shape).numpy()
        scaled = standardise(images, brain[:, None], MODALITIES)
        return Scans(
            torch.from_numpy(scaled),
            torch.from_numpy(brain[:, None]),
            torch.from_numpy(lesion[:, None]),
        )
