"""Parallel-beam tomography with exact integrals over detector strips."""

import math

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.sparse import csr_array
from torch import Tensor

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.problems.constants import Constants
from latens.problems.linear_map import linear_map
from latens.problems.linear_operator import SPECTRUM_LIMIT, LinearOperator
from latens.problems.operator import event_shape, require_event
from latens.problems.sparse_tensor import csr_tensor
from latens.types import Shape

ENTRY_LIMIT = 2**25
"""Largest number of matrix entries that are not zero; 32 bytes each, with both transposes."""

ROUNDING = 1e-12
"""Share of a pixel below which it does not touch a strip."""


class Radon(LinearOperator):
    """Parallel-beam Radon transform of a rectangular image, all channels alike.

        y[c, θ, j] = (1/w) ∫∫ x[c](p) 1{ |⟨p, (cos θ, sin θ)⟩ − s_j| < w/2 } dp

    The image is constant on each of its unit pixels; axis 1 points right, θ turns from there
    towards the top of the image (counter-clockwise), and the rotation centre is the centre of the
    image. Detector j is a strip of width w about s_j = (j − (J − 1)/2) w. The overlap of pixel and
    strip is an exact area, so y is the mean line integral over the strip, in pixel lengths times
    the unit of x.

    Networks see the filtered back-projection: Aᵀ after a Ram-Lak filter along the detectors, a
    fixed linear map; a fully sampled image comes back in its own units.

    Args:
        signal_shape: `(C, height, width)`.
        angles: Number of equally spaced angles from 0 to below 180, or a list of angles, in
            degrees.
        detectors: Number J of strips; None for as many as cover the image at every angle.
        spacing: Width w of a strip, in pixels.
        relative_cutoff: Singular values up to this fraction of the largest one count as null
            space in `A_dagger` and the projections; 1e-4 where None. For operators with singular
            values, see `LinearOperator`.

    Raises:
        ShapeError: If the signal has not two spatial axes.
        ConfigError: If there are no angles or detectors, or a setting is out of range or does not
            apply.
        UnsupportedError: If the matrix would have more than 2²⁵ entries.

    References:
        Kak, Slaney (1988), Principles of Computerized Tomographic Imaging, section 3.3.
        Long, Fessler, Balter (2010), 3D forward and back-projection for X-ray CT using separable
        footprints, https://doi.org/10.1109/TMI.2010.2050898 (trapezoid footprints).
    """

    angles: Tensor

    def __init__(
        self,
        signal_shape: Shape,
        angles: int | list[float],
        detectors: int | None = None,
        spacing: float = 1.0,
        relative_cutoff: float | None = None,
    ) -> None:
        channels, *spatial = event_shape("signal_shape", signal_shape)
        if len(spatial) != 2:
            raise ShapeError(
                "signal_shape", "(channels, height, width)", tuple(signal_shape), "Use 2-D images."
            )
        if not 0 < spacing < math.inf:
            raise ConfigError(
                "spacing", "a positive width in pixels", spacing, "Use 1, for example."
            )
        covering = math.ceil(math.hypot(*spatial) / spacing - 1e-9)
        count = covering if detectors is None else detectors
        if count < 1:
            raise ConfigError("detectors", "at least 1", detectors, "Leave it out to cover all.")
        degrees = _degrees(angles)
        radians = np.deg2rad(degrees)
        _require_size(spatial, radians, spacing)
        super().__init__(signal_shape, (channels, len(degrees), count))
        self.spacing = spacing
        if relative_cutoff is not None:
            self._require_cutoff(relative_cutoff)
            self.relative_cutoff = relative_cutoff
        # A buffer only to know the device; the numbers stay in float64 below.
        self.register_buffer("angles", torch.from_numpy(degrees), persistent=False)
        matrix = _strip_matrix((spatial[0], spatial[1]), radians, count, spacing)
        size = int(next_fast_len(2 * count - 1, real=True) or 2 * count - 1)
        self._constants = Constants(
            {
                "matrix": csr_tensor(matrix),
                "transpose": csr_tensor(csr_array(matrix.T)),
                "filter": _ram_lak(size, spacing),
                "weights": torch.from_numpy(_angle_weights(degrees))[:, None],
            }
        )
        self._padded = size

    @property
    def view_shape(self) -> Shape:
        return self.signal_shape

    def view(self, y: Tensor) -> Tensor:
        """Filtered back-projection, `(..., *signal_shape)`, in units of the signal.

        Every angle stands for half the gaps to its neighbours, at most for twice the median gap:
        a missing wedge stays dark. No pseudo-inverse: see `A_dagger`.
        """
        require_event("y", y, self.measurement_shape)
        return linear_map(y, self._back_project, self._back_project_adjoint)

    def _map(self, x: Tensor) -> Tensor:
        return self._multiply("matrix", x).reshape(-1, *self.measurement_shape)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return self._multiply("transpose", y).reshape(-1, *self.signal_shape)

    def _multiply(self, name: str, value: Tensor) -> Tensor:
        rows = value.flatten(-2).flatten(0, -2)  # (B·C, elements of a channel)
        return (self._constants.on(name, value) @ rows.mT).mT

    def _back_project(self, y: Tensor) -> Tensor:
        return self._adjoint_any(self._filter(y) * self._scale(y))

    def _back_project_adjoint(self, x: Tensor) -> Tensor:
        return self._filter(self._forward_any(x) * self._scale(x))

    def _scale(self, like: Tensor) -> Tensor:
        # Aᵀ holds areas over the spacing; areas are what interpolates at a pixel.
        return self.spacing * self._constants.on("weights", like)

    def _filter(self, y: Tensor) -> Tensor:
        response = self._constants.on("filter", y)
        spectrum = torch.fft.rfft(y, n=self._padded) * response
        return torch.fft.irfft(spectrum, n=self._padded)[..., : y.shape[-1]]

    def _require_cutoff(self, cutoff: float) -> None:
        sizes = math.prod(self.measurement_shape), math.prod(self.signal_shape)
        if min(sizes) > SPECTRUM_LIMIT or max(sizes) > 8 * SPECTRUM_LIMIT:
            raise ConfigError(
                "relative_cutoff",
                f"no value beyond {SPECTRUM_LIMIT} measurements or pixels, where the "
                "pseudo-inverse is iterative",
                cutoff,
                "Leave it out, or use a smaller image or fewer angles.",
            )
        if not 0 <= cutoff < 1:
            raise ConfigError(
                "relative_cutoff", "a fraction in [0, 1)", cutoff, "Use for example 1e-4."
            )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, spacing={self.spacing:g}"


def _degrees(angles: int | list[float]) -> np.ndarray:
    if isinstance(angles, int):
        if angles < 1:
            raise ConfigError("angles", "at least one angle", angles, "Use for example 60.")
        return np.arange(angles) * (180 / angles)
    try:
        degrees = np.asarray(angles, dtype=np.float64)
    except (TypeError, ValueError):
        degrees = np.empty(0)
    if degrees.ndim != 1 or degrees.size == 0 or not np.isfinite(degrees).all():
        raise ConfigError(
            "angles", "a number of angles, or a list in degrees", angles, "Use for example 60."
        )
    return degrees


def _require_size(spatial: list[int], radians: np.ndarray, spacing: float) -> None:
    widths = np.abs(np.cos(radians)) + np.abs(np.sin(radians))
    entries = math.prod(spatial) * float((1 + widths / spacing).sum())
    if entries > ENTRY_LIMIT:
        raise UnsupportedError(
            "angles",
            f"a matrix of at most {ENTRY_LIMIT:,} entries",
            f"about {entries:,.0f}",
            "Use fewer angles, wider detectors or a smaller image.",
        )


def _strip_matrix(
    spatial: tuple[int, int], radians: np.ndarray, detectors: int, spacing: float
) -> csr_array:
    """Areas of pixel ∩ strip over the strip's width, `(angles · detectors, pixels)`.

    Seen from θ, a pixel is a trapezoid: the convolution of boxes of widths |cos θ| and |sin θ|.
    """
    height, width = spatial
    right = np.arange(width) - (width - 1) / 2
    up = (height - 1) / 2 - np.arange(height)
    rows, columns, values = [], [], []
    for i, angle in enumerate(radians):
        cos, sin = math.cos(angle), math.sin(angle)
        centre = (right * cos + up[:, None] * sin).ravel() / spacing + detectors / 2
        sides = np.sort(np.abs([cos, sin])) / spacing  # of the two boxes, in strips
        first = np.floor(centre - sides.sum() / 2)
        edges = first[:, None] + np.arange(math.ceil(sides.sum()) + 2)  # (pixels, strips + 1)
        shares = np.diff(_trapezoid_integral(edges - centre[:, None], sides), axis=1)
        strips = edges[:, :-1].astype(np.int64)
        touched = (shares > ROUNDING) & (strips >= 0) & (strips < detectors)
        pixels, _ = touched.nonzero()
        rows.append((i * detectors + strips[touched]).astype(np.int32))
        columns.append(pixels.astype(np.int32))
        values.append(shares[touched] / spacing)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return csr_array(entries, shape=(len(radians) * detectors, height * width))


def _trapezoid_integral(t: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Integral up to t of the trapezoid of area 1 made of two boxes, the narrower one first."""
    narrow, wide = sides
    half, flat = (wide + narrow) / 2, (wide - narrow) / 2
    u = np.minimum(np.abs(t), half)
    if narrow == 0:
        return 0.5 + np.sign(t) * np.minimum(u / wide, 0.5)
    slope = (half - u) ** 2 / (2 * narrow * wide)
    return 0.5 + np.sign(t) * np.where(u <= flat, u / wide, 0.5 - slope)


def _ram_lak(size: int, spacing: float) -> Tensor:
    """Response of the ramp filter, from its samples in space, so that no offset is lost."""
    n = torch.arange(size)
    n = torch.minimum(n, size - n).double()
    odd = n % 2 == 1
    kernel = torch.where(odd, -1 / (math.pi * torch.where(odd, n, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    return torch.fft.rfft(kernel).real / spacing


def _angle_weights(degrees: np.ndarray) -> np.ndarray:
    """Radians of the half turn for which each angle stands."""
    order = np.argsort(degrees % 180, kind="stable")
    sorted_degrees = (degrees % 180)[order]
    gaps = np.diff(sorted_degrees, append=sorted_degrees[0] + 180)
    gaps = np.minimum(gaps, 2 * np.median(gaps[gaps > 0]))
    weights = np.empty(len(degrees))
    weights[order] = (gaps + np.roll(gaps, 1)) / 2
    return np.deg2rad(weights)
