"""Phantom subjects: 3-D scans of schematic heads with a lesion, whose every factor is known.

    scan_c = b · Σ_t w_t level_{t,c} + σ n      t = white, grey, fluid, rim, core, oedema
    image_c = (scan_c − mean) / std over the brain, 0 outside

w_t is the share of a voxel that tissue t fills, to first order in the distance to its surface;
b is a smooth bias field. See `latens.data.heads` for the factors and the shape of the lesion.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from latens.data.gompertz import treated_gompertz
from latens.data.heads import (
    ANATOMY,
    SCANNER,
    SIZE,
    Factor,
    draw_scanner,
    draw_subjects,
    lesion_axes,
    lobes,
    rotations,
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
HALF_FIELD = 88.0
"""Half the field of view, mm."""
VOXELS_PER_BLOCK = 2**17
"""Voxels painted at a time: few enough to stay in the cache."""
WAVELENGTH = 30.0
"""Of the folds of the cortex, mm."""
TISSUES = ("white", "grey", "fluid", "rim", "core", "oedema")


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
            affines=np.repeat(phantom_affine(self.size)[None], len(scans), axis=0),
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


def phantom_affine(size: Sequence[int]) -> np.ndarray:
    """Millimetres (right, anterior, superior) of a voxel's index, origin in the middle."""
    steps = 2 * HALF_FIELD / np.asarray(size)
    affine = np.zeros((4, 4))
    for row, (axis, sign) in enumerate(((2, -1), (1, -1), (0, 1))):  # R = −L, A = −P, S
        affine[row, axis] = sign * steps[axis]
        affine[row, 3] = -sign * steps[axis] * (size[axis] - 1) / 2
    affine[3, 3] = 1
    return affine


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


def _semi_axes(values: dict[str, np.ndarray]) -> np.ndarray:
    names = ("log_volume", "lesion_elongation", "lesion_flattening", "lobulation", "lobe_mixture")
    return lesion_axes(*(values[name] for name in names))


def _targets(values: dict[str, np.ndarray]) -> np.ndarray:
    centre = np.stack([values[f"lesion_{axis}"] for axis in "spl"], axis=-1)
    return true_targets(
        values["log_volume"],
        centre,
        _semi_axes(values),
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
        return Scans.joined(
            [self._block(list(rows[k : k + step])) for k in range(0, len(rows), step)]
        )

    def _block(self, rows: list[int]) -> Scans:
        values = {name: column[rows] for name, column in self.values.items()}
        weights, brain, lesion = _paint(values, self.size)
        levels = np.ones((len(rows), len(MODALITIES), len(TISSUES)), dtype=np.float32)
        for t, tissue in enumerate(TISSUES[1:], start=1):  # white matter is 1
            for c, modality in enumerate(MODALITIES):
                levels[:, c, t] = values[f"{tissue}_{modality}"]
        flat = weights.reshape(len(rows), len(TISSUES), -1)
        images = (levels @ flat).reshape(len(rows), len(MODALITIES), *self.size)
        images *= _bias(values, self.size)[:, None]
        for image, row, sigma in zip(images, rows, values["noise"], strict=True):
            stream = NoiseStream(self.seed, Purpose.SUBJECT, *self.scans[row], 1)
            image += np.float32(sigma) * stream.normal(image.shape).numpy()
        scaled = standardise(images, brain[:, None], MODALITIES)
        return Scans(
            torch.from_numpy(scaled),
            torch.from_numpy(brain[:, None]),
            torch.from_numpy(lesion[:, None]),
        )


@functools.lru_cache(maxsize=4)
def _grid(size: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Coordinates S, P, L of voxel centres, −1 to 1, to broadcast against (n, D, H, W)."""
    axes = [(2 * np.arange(n, dtype=np.float32) + 1) / n - 1 for n in size]
    return tuple(axis.reshape([1, *np.roll([-1, 1, 1], k)]) for k, axis in enumerate(axes))


def _bias(values: dict[str, np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    """Smooth positive field b, (n, D, H, W): a product over the axes."""
    field = np.float32(1)
    for axis, q in zip("spl", _grid(size), strict=True):
        slope, bowl = _column(values[f"bias_{axis}"]), _column(values["bias_centre"])
        field = field * np.exp(slope * q + bowl * (q * q - np.float32(1 / 3)))
    return field


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(-1, 1, 1, 1)


def _turned(
    points: Sequence[np.ndarray], centre: Sequence[np.ndarray], turn: np.ndarray
) -> list[np.ndarray]:
    """Coordinates Rᵀ(p − c) of points on the grid, three arrays (n, D, H, W)."""
    offset = [p - _column(c) for p, c in zip(points, centre, strict=True)]
    return [sum(_column(turn[:, j, k]) * offset[j] for j in range(3)) for k in range(3)]


def _distance(local: Sequence[np.ndarray], axes: Sequence[np.ndarray]) -> np.ndarray:
    """Signed distance to an ellipsoid, mm, to first order: (f − 1)/‖∇f‖, negative inside."""
    scaled = [x / _column(a) for x, a in zip(local, axes, strict=True)]
    level = np.sqrt(sum(x * x for x in scaled))
    slope = np.sqrt(sum((x / _column(a)) ** 2 for x, a in zip(scaled, axes, strict=True)))
    return (level - 1) * level / (slope + np.float32(1e-9))


def _paint(
    values: dict[str, np.ndarray], size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of the tissues `(n, 6, D, H, W)`, brain and lesion `(n, D, H, W)`."""
    voxel = np.float32(np.prod([2 * HALF_FIELD / n for n in size]) ** (1 / 3))
    points = [np.float32(HALF_FIELD) * q for q in _grid(size)]

    def cover(distance: np.ndarray) -> np.ndarray:
        return np.clip(np.float32(0.5) - distance / voxel, 0, 1)

    head = [HALF_FIELD * values[f"head_{axis}"] for axis in "spl"]
    turn = rotations(values["head_roll"], values["head_yaw"], values["head_pitch"])
    x = _turned(points, head, turn)
    axes = [values["brain_height"], values["brain_length"], values["brain_width"]]
    widened = 1 + _column(values["brain_taper"] / values["brain_length"]) * x[1]
    to_brain = _distance([x[0], x[1], x[2] / widened], axes)
    inside = cover(to_brain)

    to_lesion, to_core = _lesion_distances(values, points)
    lesion = to_lesion < 0
    weights = np.zeros((len(inside), len(TISSUES), *size), dtype=np.float32)
    left = np.ones_like(inside)

    def lay(tissue: str, share: np.ndarray) -> None:
        """Give a tissue its share of what the layers before have left."""
        part = left * share
        weights[:, TISSUES.index(tissue)] += part
        np.subtract(left, part, out=left)

    lay("core", cover(to_core))
    lay("rim", cover(to_lesion))
    lay("oedema", inside * cover(to_lesion - _column(values["oedema_width"])))
    for ventricle in _ventricles(values, x):
        lay("fluid", inside * cover(ventricle))
    for grey in _grey_bodies(values, x):
        lay("grey", inside * cover(grey))
    folds = np.float32(1)
    for part in x:
        folds = folds * np.cos(np.float32(2 * np.pi / WAVELENGTH) * part)
    depth = to_brain + _column(values["rim_width"])
    to_white = depth + _column(values["cortex_width"]) + _column(values["fold_depth"]) * folds
    lay("white", cover(to_white))
    lay("grey", cover(depth))
    lay("fluid", inside)
    return weights, (to_brain < 0) | lesion, lesion


def _lesion_distances(
    values: dict[str, np.ndarray], points: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to the lesion and to its core, mm, to first order."""
    centre = [HALF_FIELD * values[f"lesion_{axis}"] for axis in "spl"]
    turn = rotations(values["lesion_roll"], values["lesion_yaw"], values["lesion_pitch"])
    local = _turned(points, centre, turn)
    axes = _semi_axes(values).T
    scaled = [x / _column(a) for x, a in zip(local, axes, strict=True)]
    radius = np.sqrt(sum(x * x for x in scaled)) + np.float32(1e-9)
    rho = lobes(
        [x / radius for x in scaled],
        _column(values["lobulation"]),
        _column(values["lobe_mixture"]),
    )
    slope = np.sqrt(sum((x / _column(a)) ** 2 for x, a in zip(scaled, axes, strict=True)))
    level = radius / rho
    unit = radius * rho / (slope + np.float32(1e-9))  # 1/‖∇ level‖, the lobes' slope left out
    return (level - 1) * unit, (level - _column(values["core_share"])) * unit


def _ventricles(values: dict[str, np.ndarray], x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Signed distances to the two lateral ventricles, mm."""
    distances = []
    for side in (-1, 1):
        size = values["ventricle_size"] * (1 + side * values["ventricle_asymmetry"])
        zero = np.zeros_like(size)
        turn = rotations(zero, side * values["ventricle_angle"], zero)
        centre = [zero + 6.0, zero + 2.0, side * values["ventricle_spread"]]
        local = _turned(x, centre, turn)
        distances.append(_distance(local, [9.0 * size, values["ventricle_length"], 6.5 * size]))
    return distances


def _grey_bodies(values: dict[str, np.ndarray], x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Signed distances to the deep nuclei and the cerebellum, mm."""
    distances = []
    size = values["nuclei_size"]
    for side in (-1, 1):
        aside = side * (values["ventricle_spread"] + 12.0)
        local = [x[0] + np.float32(4), x[1] - _column(values["nuclei_p"]), x[2] - _column(aside)]
        distances.append(_distance(local, [size, 1.3 * size, 0.9 * size]))
    size = values["cerebellum_size"]
    below, behind = -0.5 * values["brain_height"], 0.5 * values["brain_length"]
    local = [x[0] - _column(below), x[1] - _column(behind), x[2]]
    distances.append(_distance(local, [0.75 * size, size, 1.4 * size]))
    return distances
