"""The factors behind phantom subjects: heads, tissues, lesions and growth, drawn at random.

Every factor is uniform on a range of its own and independent of all others. Coordinates run from
−1 to 1 along S, P, L (head, back, left) over the field of view; lengths are millimetres.

The lesion is a star around its centre c. In its own axes, turned by R and stretched by semi-axes
s (1 : E : E·G, E elongation, G flattening), its surface lies in direction u at

    ρ(u) = 1 + λ [cos ψ · 5/2 (Σ u_k⁴ − 3/5) + sin ψ · 3√3 u₁u₂u₃].

ρ has the symmetry of a tetrahedron, so c is exactly the centroid, and the ratios of the standard
deviations along the axes are exactly E and E·G, whatever the lobes. The size of s follows from
the volume, V = (4π/3) s₁s₂s₃ ⟨ρ³⟩, and the area from a product rule on the sphere.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latens.data.subjects import MODALITIES
from latens.distributions import NoiseStream, Purpose

POLAR, AROUND = 24, 48
"""Nodes of the product rule on the sphere; exact for polynomials of degree 47."""


class Factor(NamedTuple):
    """A quantity that differs between subjects: uniform from `low` to `high`."""

    name: str
    low: float
    high: float


def _each(name: str, ranges: Sequence[tuple[float, float]]) -> list[Factor]:
    """One factor per modality."""
    return [
        Factor(f"{name}_{modality}", low, high)
        for modality, (low, high) in zip(MODALITIES, ranges, strict=True)
    ]


ANATOMY = (
    # The head: shift (share of half the field of view), semi-axes (mm), turns (radians).
    Factor("head_s", -0.05, 0.05),
    Factor("head_p", -0.05, 0.05),
    Factor("head_l", -0.05, 0.05),
    Factor("brain_height", 58.0, 70.0),
    Factor("brain_length", 70.0, 82.0),
    Factor("brain_width", 56.0, 68.0),
    Factor("head_roll", -0.2, 0.2),
    Factor("head_yaw", -0.2, 0.2),
    Factor("head_pitch", -0.2, 0.2),
    Factor("brain_taper", 0.0, 0.25),
    # Tissues: widths in mm, sizes relative to the usual one.
    Factor("rim_width", 1.0, 5.0),
    Factor("cortex_width", 5.0, 14.0),
    Factor("fold_depth", 0.0, 5.0),
    Factor("ventricle_size", 0.6, 1.7),
    Factor("ventricle_length", 18.0, 36.0),
    Factor("ventricle_spread", 8.0, 15.0),
    Factor("ventricle_angle", -0.35, 0.35),
    Factor("ventricle_asymmetry", -0.35, 0.35),
    Factor("nuclei_size", 6.0, 12.0),
    Factor("nuclei_p", -14.0, 14.0),
    Factor("cerebellum_size", 18.0, 30.0),
    # Signal relative to white matter, which is 1 in every modality.
    *_each("grey", [(0.55, 0.85), (0.55, 0.85), (1.10, 1.45), (1.15, 1.55)]),
    *_each("fluid", [(0.10, 0.40), (0.10, 0.40), (0.15, 0.50), (1.80, 2.40)]),
    *_each("rim", [(1.30, 2.20), (0.50, 0.90), (1.50, 2.20), (1.40, 2.10)]),
    *_each("core", [(0.20, 0.70), (0.20, 0.70), (0.50, 1.40), (1.70, 2.60)]),
    *_each("oedema", [(0.60, 0.95), (0.60, 0.95), (1.60, 2.40), (1.50, 2.20)]),
    # The lesion: place, shape, turns; core as a share of the radius, oedema in mm.
    Factor("lesion_s", -0.30, 0.30),
    Factor("lesion_p", -0.45, 0.45),
    Factor("lesion_l", -0.30, 0.30),
    Factor("lesion_elongation", 0.55, 1.0),
    Factor("lesion_flattening", 0.65, 1.0),
    Factor("lesion_roll", -1.0, 1.0),
    Factor("lesion_yaw", -1.0, 1.0),
    Factor("lesion_pitch", -1.0, 1.0),
    Factor("lobulation", 0.0, 0.30),
    Factor("lobe_mixture", 0.0, math.pi / 2),
    Factor("core_share", 0.35, 0.80),
    Factor("oedema_width", 3.0, 16.0),
)
"""What a subject keeps from visit to visit."""

SIZE = Factor("log_volume", math.log(6e3), math.log(70e3))
"""Of the one scan of a subject, where there is no growth; of the first one otherwise."""

SCANNER = (
    Factor("bias_s", -0.25, 0.25),
    Factor("bias_p", -0.25, 0.25),
    Factor("bias_l", -0.25, 0.25),
    Factor("bias_centre", -0.25, 0.25),
    Factor("noise", 0.02, 0.08),
)
"""What is new at every scan."""


def draw_subjects(seed: int, subjects: Sequence[int], factors: Sequence[Factor]) -> np.ndarray:
    """Factors of some subjects, a function of (seed, subject) alone, `(n, F)`, float64."""
    streams = [NoiseStream(seed, Purpose.SUBJECT, subject) for subject in subjects]
    return _scaled([stream.uniform((len(factors),)).numpy() for stream in streams], factors)


def draw_scanner(seed: int, scans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Factors of some scans, keyed by (seed, subject, visit), `(n, F)`, float64."""
    streams = [NoiseStream(seed, Purpose.SUBJECT, *scan, 0) for scan in scans]
    return _scaled([stream.uniform((len(SCANNER),)).numpy() for stream in streams], SCANNER)


def _scaled(uniform: list[np.ndarray], factors: Sequence[Factor]) -> np.ndarray:
    low = np.asarray([factor.low for factor in factors])
    high = np.asarray([factor.high for factor in factors])
    return low + (high - low) * np.stack(uniform).astype(np.float64)


def rotations(roll: np.ndarray, yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Turns about P, S and L, one after the other, of vectors in (S, P, L), `(n, 3, 3)`."""
    total = np.broadcast_to(np.eye(3), (len(roll), 3, 3))
    for angle, (first, second) in ((roll, (0, 2)), (yaw, (1, 2)), (pitch, (0, 1))):
        turn = np.broadcast_to(np.eye(3), (len(angle), 3, 3)).copy()
        turn[:, first, first] = turn[:, second, second] = np.cos(angle)
        turn[:, first, second], turn[:, second, first] = -np.sin(angle), np.sin(angle)
        total = turn @ total
    return total


def lobes(u: Sequence[np.ndarray], lobulation: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """ρ of directions u = (u₁, u₂, u₃), all broadcast."""
    first = sum(part * part * part * part for part in u) - 0.6
    second = u[0] * u[1] * u[2]
    return (
        1
        + (lobulation * 2.5 * np.cos(mixture)) * first
        + (lobulation * 3 * math.sqrt(3) * np.sin(mixture)) * second
    )


def lesion_axes(
    log_volume: np.ndarray,
    elongation: np.ndarray,
    flattening: np.ndarray,
    lobulation: np.ndarray,
    mixture: np.ndarray,
) -> np.ndarray:
    """Semi-axes s that give lesions their volume, mm, `(n, 3)`; all arguments `(n,)`."""
    ratios = np.stack([np.ones_like(elongation), elongation, elongation * flattening], axis=-1)
    directions, weights = _sphere()
    rho = lobes(list(directions), lobulation[:, None], mixture[:, None])  # (n, Q)
    bulk = 4 / 3 * math.pi * (rho**3 @ weights) * ratios.prod(axis=-1)
    return ratios * np.cbrt(np.exp(log_volume) / bulk)[:, None]


def true_targets(
    log_volume: np.ndarray,
    centre: np.ndarray,
    axes: np.ndarray,
    lobulation: np.ndarray,
    mixture: np.ndarray,
) -> np.ndarray:
    """Exact values of what `lesion_targets` measures on a mask.

    Args:
        log_volume: `(n,)`, of mm³.
        centre: Centroid, −1 to 1, `(n, 3)`.
        axes: Semi-axes s, longest first, mm, `(n, 3)`.
        lobulation: λ, `(n,)`.
        mixture: ψ, `(n,)`.

    Returns:
        Columns `TARGETS` of `latens.data.subjects`, `(n, 8)`, float64.
    """
    area = _area(axes, lobulation[:, None], mixture[:, None])
    volume = np.exp(log_volume)
    sphericity = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
    columns = [log_volume, *centre.T, sphericity, *(axes[:, 1:] / axes[:, :1]).T, area / volume]
    return np.stack(columns, axis=-1)


def _sphere() -> tuple[np.ndarray, np.ndarray]:
    """Directions `(3, Q)` and weights `(Q,)` of a mean over the sphere."""
    height, weight = np.polynomial.legendre.leggauss(POLAR)
    around = 2 * math.pi * np.arange(AROUND) / AROUND
    flat = np.sqrt(1 - height**2)
    u = np.stack(
        [
            np.outer(flat, np.cos(around)),
            np.outer(flat, np.sin(around)),
            np.outer(height, np.ones(AROUND)),
        ]
    )
    return u.reshape(3, -1), np.repeat(weight / (2 * AROUND), AROUND)


def _area(axes: np.ndarray, lobulation: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """Area of x(u) = s ρ(u) u: the normal of the star ρu, carried along by the stretch, (n,).

    A star with the radius ρ has the vector area element ρ (ρ u − ∇ρ) dΩ, ∇ on the sphere; under a
    linear map B vector areas are multiplied by det(B) B⁻ᵀ.
    """
    u, weights = _sphere()
    u = u[:, None]  # (3, 1, Q)
    rho = lobes(list(u), lobulation, mixture)  # (n, Q)
    even = lobulation * 2.5 * np.cos(mixture)
    odd = lobulation * 3 * math.sqrt(3) * np.sin(mixture)
    products = np.stack([u[1] * u[2], u[0] * u[2], u[0] * u[1]])
    ambient = even * 4 * u**3 + odd * products  # gradient of the polynomial, (3, n, Q)
    slope = ambient - (ambient * u).sum(axis=0) * u
    element = rho * (rho * u - slope)  # (3, n, Q)
    carried = element * (axes.prod(axis=-1)[:, None] / axes.T[..., None])
    return 4 * math.pi * (np.sqrt((carried**2).sum(axis=0)) @ weights)
