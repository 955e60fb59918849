"""The anatomies behind the phantoms: organs, lesions and texture, drawn at random.

Coordinates run from −1 to 1 along every axis; the last two axes are anterior → posterior and
the patient's right → left, as radiologists look at a slice. Rotations are in that plane.

| symbol | attribute of `Anatomy` | shape |
|---|---|---|
| c, a | `centre`, `axes` | `(n, E, d)` |
| θ, level | `angle`, `level` | `(n, E)` |
| o_k | `lesion_centre`, `lesion_axes` | `(n, 3, d)` |
| contrast, number of lesions | `lesion_contrast`, `lesions` | `(n,)` |
| T waves of the texture | `waves`, `phases` | `(n, T, d)`, `(n, T)` |
| standard deviation of the texture | `texture` | `(n,)` |
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_LESIONS = 3
WAVES = 16
HIGHEST_FREQUENCY = 5.0
"""Band limit of the texture: cycles per field of view along each axis."""


class Organ(NamedTuple):
    """How one ellipsoid is drawn: mean ± half-width of a uniform distribution."""

    name: str
    centre: tuple[float, float]
    centre_spread: float
    axes: tuple[float, float]
    axes_spread: float
    """Relative."""
    angle: float
    angle_spread: float
    level: float
    level_spread: float
    length: float
    """Semi-axis along every further axis of a volume; where it is 3, the volume shows a section
    of something longer."""


# Painted in this order. Vertical coordinate first, positive towards the back.
ORGANS = (
    Organ("body", (0.00, 0.00), 0.00, (0.70, 0.88), 0.05, 0.0, 0.00, 0.24, 0.04, 3.00),
    Organ("muscle", (0.01, 0.00), 0.00, (0.60, 0.78), 0.04, 0.0, 0.00, 0.44, 0.02, 3.00),
    Organ("viscera", (-0.06, 0.00), 0.01, (0.47, 0.68), 0.03, 0.0, 0.00, 0.33, 0.03, 1.60),
    Organ("liver", (-0.07, -0.35), 0.05, (0.36, 0.29), 0.10, 0.5, 0.35, 0.60, 0.05, 0.75),
    Organ("stomach", (-0.24, 0.22), 0.06, (0.17, 0.24), 0.15, 0.3, 0.30, 0.46, 0.03, 0.50),
    Organ("spleen", (0.03, 0.55), 0.03, (0.22, 0.11), 0.15, 0.2, 0.25, 0.64, 0.04, 0.45),
    Organ("right kidney", (0.31, -0.34), 0.03, (0.15, 0.11), 0.12, -0.4, 0.25, 0.72, 0.04, 0.45),
    Organ("left kidney", (0.31, 0.34), 0.03, (0.15, 0.11), 0.12, 0.4, 0.25, 0.72, 0.04, 0.45),
    Organ("aorta", (0.16, 0.07), 0.02, (0.07, 0.07), 0.10, 0.0, 0.00, 0.78, 0.04, 3.00),
    Organ("vertebra", (0.35, 0.00), 0.01, (0.13, 0.15), 0.08, 0.0, 0.00, 0.92, 0.02, 3.00),
    Organ("process", (0.53, 0.00), 0.01, (0.10, 0.04), 0.10, 0.0, 0.05, 0.86, 0.03, 3.00),
    Organ("canal", (0.47, 0.00), 0.00, (0.05, 0.05), 0.05, 0.0, 0.00, 0.40, 0.03, 3.00),
)
NAMES = tuple(organ.name for organ in ORGANS)
MUSCLE, VISCERA, LIVER = NAMES.index("muscle"), NAMES.index("viscera"), NAMES.index("liver")


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Everything that was drawn for n phantoms, in image coordinates (see the module)."""

    centre: np.ndarray
    axes: np.ndarray
    angle: np.ndarray
    level: np.ndarray
    lesions: np.ndarray
    lesion_centre: np.ndarray
    lesion_axes: np.ndarray
    lesion_contrast: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    texture: np.ndarray

    def block(self, rows: slice) -> "Anatomy":
        """The phantoms in `rows`."""
        return Anatomy(**{name: values[rows] for name, values in vars(self).items()})


def draw_anatomy(seed: int, count: int, dimensions: int) -> Anatomy:
    """Draw `count` anatomies in `dimensions` axes.

    Args:
        seed: Seed of the collection.
        count: Number of phantoms n.
        dimensions: Number d of axes, at least 2.
    """
    extra = dimensions - 2
    shapes = {
        "body": (5,),  # shift, shift, scale, rotation, texture
        "organ": (len(ORGANS), 6),  # centre ×2, axes ×2, angle, level
        "lesion": (MAX_LESIONS, 3),  # radius, elongation, where between the sectors
        "lesions": (3,),  # number, sign, contrast
        "waves": (WAVES, dimensions),
        "phases": (WAVES,),
        "further": (len(ORGANS), extra),
        "lesion further": (MAX_LESIONS, extra),
    }
    lengths = [int(np.prod(shape)) for shape in shapes.values()]
    uniform = np.stack(
        [np.random.default_rng((seed, i)).random(sum(lengths)) for i in range(count)]
    )
    parts = np.split(uniform, np.cumsum(lengths)[:-1], axis=1)
    drawn = {
        name: part.reshape(count, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    signed = {name: 2 * values - 1 for name, values in drawn.items()}  # uniform on (−1, 1)

    body, organ = signed["body"], signed["organ"]
    spread = np.asarray([organ.centre_spread for organ in ORGANS])
    centre = np.asarray([organ.centre for organ in ORGANS]) + spread[:, None] * organ[..., :2]
    relative = 1 + np.asarray([o.axes_spread for o in ORGANS])[:, None] * organ[..., 2:4]
    axes = np.asarray([organ.axes for organ in ORGANS]) * relative
    turn = np.asarray([o.angle_spread for o in ORGANS]) * organ[..., 4]
    angle = np.asarray([organ.angle for organ in ORGANS]) + turn
    contrast = np.asarray([o.level_spread for o in ORGANS]) * organ[..., 5]
    level = np.asarray([organ.level for organ in ORGANS]) + contrast

    # The whole body is shifted, scaled and turned; organs follow it.
    scale = 1 + 0.05 * body[:, 2]
    rotation = 0.12 * body[:, 3]
    shift = 0.03 * body[:, :2]
    centre = shift[:, None] + scale[:, None, None] * _turn(centre, rotation[:, None])
    axes = scale[:, None, None] * axes
    angle = angle + rotation[:, None]

    further = np.asarray([organ.length for organ in ORGANS])[:, None]
    centre = np.concatenate([0.1 * signed["further"], centre], axis=-1)  # (n, E, d)
    lengths_further = np.broadcast_to(further, (count, len(ORGANS), extra))
    axes = np.concatenate([lengths_further * scale[:, None, None], axes], axis=-1)

    lesion_centre, lesion_axes = _draw_lesions(
        signed["lesion"],
        signed["lesion further"],
        centre[:, LIVER],
        axes[:, LIVER],
        angle[:, LIVER],
    )
    size_of_contrast = 0.22 + 0.06 * signed["lesions"][:, 2]
    return Anatomy(
        centre=centre,
        axes=axes,
        angle=angle,
        level=level,
        lesions=np.floor(drawn["lesions"][:, 0] * (MAX_LESIONS + 1)).astype(np.int64),
        lesion_centre=lesion_centre,
        lesion_axes=lesion_axes,
        lesion_contrast=np.where(drawn["lesions"][:, 1] < 0.5, -1, 1) * size_of_contrast,
        waves=HIGHEST_FREQUENCY * signed["waves"],
        phases=np.pi * signed["phases"],
        texture=0.025 + 0.01 * body[:, 4],
    )


def factors(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """Ground-truth factors of variation, each `(n, ...)`; see `Phantoms`."""
    dimensions = anatomy.centre.shape[-1]
    ball = np.pi ** (dimensions / 2) / math.gamma(dimensions / 2 + 1)
    each = ball * anatomy.lesion_axes.prod(axis=-1) / 2.0**dimensions  # (n, 3)
    present = np.arange(MAX_LESIONS) < anatomy.lesions[:, None]
    return {
        "lesions": anatomy.lesions,
        "lesion_area": (each * present).sum(axis=1),
        "lesion_contrast": anatomy.lesion_contrast,
        "liver_centre": anatomy.centre[:, LIVER],
        "liver_axes": anatomy.axes[:, LIVER],
        "liver_angle": anatomy.angle[:, LIVER],
        "liver_contrast": anatomy.level[:, LIVER] - anatomy.level[:, VISCERA],
        "body_axes": anatomy.axes[:, 0],
        "texture": anatomy.texture,
    }


def _turn(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate points (..., 2) in the plane of the last two axes, from the first to the second."""
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = points[..., 0], points[..., 1]
    return np.stack([cosine * first - sine * second, sine * first + cosine * second], axis=-1)


def _draw_lesions(
    signed: np.ndarray,
    further: np.ndarray,
    centre: np.ndarray,
    axes: np.ndarray,
    angle: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and semi-axes (n, 3, d) of lesions in three sectors of the liver, never touching."""
    dimensions = centre.shape[-1]
    sector = 2 * np.pi * np.arange(MAX_LESIONS) / MAX_LESIONS + np.pi * signed[:, :1, 2]
    in_plane = 0.5 * np.stack([np.cos(sector), np.sin(sector)], axis=-1)  # (n, 3, 2)
    in_plane = _turn(in_plane * axes[:, None, -2:], angle[:, None])
    offset = np.concatenate([0.35 * further * axes[:, None, :-2], in_plane], axis=-1)
    radius = 0.068 + 0.018 * signed[..., 0]  # (n, 3)
    lesion_axes = np.repeat(radius[..., None], dimensions, axis=-1)
    lesion_axes[..., -1] *= 1 + 0.15 * signed[..., 1]
    return centre[:, None] + offset, lesion_axes
