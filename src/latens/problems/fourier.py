"""Magnetic resonance imaging: some frequencies of a complex or real image, one coil or several."""

import math

import torch
from torch import Tensor

from latens.errors import ShapeError
from latens.problems.constants import Constants
from latens.problems.kspace import Pattern, coil_maps, sampled_frequencies
from latens.problems.linear_operator import LinearOperator
from latens.problems.operator import event_shape, require_event
from latens.problems.spectrum import Function, Spectrum
from latens.types import Shape


class FourierSampling(LinearOperator):
    """Sampled frequencies of an image, as a magnetic resonance scanner measures them.

        y_c[k] = N^{-1/2} Σ_n s_c[n] x[n] exp(−2πi Σ_a k_a n_a / N_a),   N = Π_a N_a

    The transform is orthonormal and centred: k and n count from N_a // 2 along every axis. A
    frequency that was not sampled is no element of the measurement. Networks see the
    zero-filled reconstruction Aᵀy.

    | | shape |
    |---|---|
    | signal x, real part and imaginary part | `(2, *spatial)` |
    | signal x, real | `(1, *spatial)` |
    | measurement without coils, real parts and imaginary parts | `(2, m)` |
    | measurement with coils | `(coils, 2, m)` |

    Samples stand in the order of the centred grid, row by row. For one ideal coil the spectrum
    of A Aᵀ and the pseudo-inverse are closed forms: A Aᵀ = I for a complex image; for a real one
    the eigenvalues are 1 and 0 (frequencies sampled together with their mirror image k → −k, or
    equal to it) and ½ (the others).

    Args:
        signal_shape: `(2, *spatial)` or `(1, *spatial)`, two or three spatial axes.
        acceleration: Ratio of all lines (or points) to the sampled ones.
        centre_fraction: Fraction of every sampled axis, about frequency 0, that is sampled in
            full; 0.08 where None.
        pattern: `lines` skips whole lines along one axis, as a Cartesian scan does; `points`
            skips single frequencies. `lines` where None.
        axis: Of pattern `lines`: the spatial axis along which frequencies are skipped; the last
            where None.
        decay: Outside the centre, probabilities fall as (1 − |k|/k_max)^decay. 2 where None; 0
            draws all frequencies alike, as fastMRI does.
        seed: Of the drawn frequencies; 0 where None.
        mask: Instead of the settings above: 1 or true where a frequency is sampled, `(*spatial)`
            with frequency 0 at n // 2, as a tensor or the path of a `.npy` file.
        coils: Sensitivities s, complex `(coils, *spatial)`, as a tensor or the path of a `.npy`
            file; or a number of simulated coils around the image, with Σ_c |s_c|² = 1. One ideal
            coil, s = 1, where None.

    Raises:
        ShapeError: If the signal has other channels or axes, or the mask or the coils another
            size.
        ConfigError: If neither or both of `acceleration` and `mask` are given, or a setting is out
            of range or does not apply.
        DataError: If a file cannot be read, or the mask holds other values than 0 and 1.

    References:
        Lustig, Donoho, Pauly (2007), Sparse MRI, https://doi.org/10.1002/mrm.21391
        Zbontar et al. (2018), fastMRI, https://arxiv.org/abs/1811.08839
    """

    sampled: Tensor
    mirror: Tensor
    paired: Tensor

    def __init__(
        self,
        signal_shape: Shape,
        acceleration: float | None = None,
        centre_fraction: float | None = None,
        pattern: Pattern | None = None,
        axis: int | None = None,
        decay: float | None = None,
        seed: int | None = None,
        mask: Tensor | str | None = None,
        coils: Tensor | int | str | None = None,
    ) -> None:
        channels, *sizes = event_shape("signal_shape", signal_shape)
        spatial = tuple(sizes)
        if channels not in (1, 2) or len(spatial) not in (2, 3):
            raise ShapeError(
                "signal_shape",
                "1 channel (real) or 2 (real and imaginary part), and 2 or 3 spatial axes",
                tuple(signal_shape),
                "Measure the channels of a photograph one by one.",
            )
        chosen = sampled_frequencies(
            spatial, acceleration, centre_fraction, pattern, axis, decay, seed, mask
        )
        maps = None if coils is None else coil_maps(coils, spatial)
        count = int(chosen.sum())
        measurement = (2, count) if maps is None else (len(maps), 2, count)
        super().__init__(signal_shape, measurement)
        self._maps = None if maps is None else Constants({"maps": maps})
        self._axes = tuple(range(-len(spatial), 0))
        index, mirror = _positions(chosen)
        self.register_buffer("sampled", index, persistent=False)
        self.register_buffer("mirror", mirror.clamp_min(0), persistent=False)
        self.register_buffer("paired", mirror >= 0, persistent=False)

    @property
    def mask(self) -> Tensor:
        """True where a frequency is sampled, `(*spatial)`, frequency 0 at n // 2."""
        spatial = self.signal_shape[1:]
        flat = torch.zeros(math.prod(spatial), dtype=torch.bool, device=self.sampled.device)
        flat[self.sampled] = True
        return torch.fft.fftshift(flat.reshape(spatial))

    @property
    def view_shape(self) -> Shape:
        return self.signal_shape

    def view(self, y: Tensor) -> Tensor:
        """Zero-filled reconstruction Aᵀy, `(..., *signal_shape)`."""
        return self.A_adjoint(y)

    @property
    def grid_shape(self) -> Shape:
        """The measurement's shape, with the spatial axes of all frequencies in place of m."""
        return (*self.measurement_shape[:-1], *self.signal_shape[1:])

    def from_grid(self, full: Tensor) -> Tensor:
        """Sampled frequencies of a centred k-space; what stands elsewhere (zero, NaN) is not read.

        Raises:
            ShapeError: If the trailing axes are not `grid_shape`.
        """
        require_event("full", full, self.grid_shape)
        flat = torch.fft.ifftshift(full, dim=self._axes).flatten(self._axes[0])
        return flat[..., self.sampled]

    def with_mask(self, mask: Tensor) -> "FourierSampling":
        """The same coils with other sampled frequencies, `(*spatial)`, frequency 0 at n // 2."""
        exact = torch.zeros((), dtype=torch.float64)
        coils = None if self._maps is None else self._maps.on("maps", exact)
        return FourierSampling(self.signal_shape, mask=mask, coils=coils)

    def spectrum(self) -> Spectrum | None:
        if self._maps is not None:
            return super().spectrum()
        return (_RealSpectrum if self.signal_shape[0] == 1 else _ComplexSpectrum)(self)

    def _map(self, x: Tensor) -> Tensor:
        image = x[:, 0] if self.signal_shape[0] == 1 else torch.complex(x[:, 0], x[:, 1])
        if self._maps is not None:
            image = image[:, None] * self._maps.on("maps", x)  # (B, coils, *spatial)
        shifted = torch.fft.ifftshift(image, dim=self._axes)
        frequencies = torch.fft.fftn(shifted, dim=self._axes, norm="ortho")
        chosen = frequencies.flatten(self._axes[0])[..., self.sampled]  # (B, [coils,] m)
        return torch.stack([chosen.real, chosen.imag], -2)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        spatial = self.signal_shape[1:]
        chosen = torch.complex(y[..., 0, :], y[..., 1, :])  # (B, [coils,] m)
        flat = chosen.new_zeros(*chosen.shape[:-1], math.prod(spatial))
        frequencies = flat.index_copy(-1, self.sampled, chosen).unflatten(-1, spatial)
        image = torch.fft.ifftn(frequencies, dim=self._axes, norm="ortho")
        image = torch.fft.fftshift(image, dim=self._axes)
        if self._maps is not None:
            image = (self._maps.on("maps", y).conj() * image).sum(1)  # (B, *spatial)
        if self.signal_shape[0] == 1:
            return image.real[:, None].clone()
        return torch.stack([image.real, image.imag], 1)

    def _dagger(self, y: Tensor) -> Tensor:
        if self._maps is not None:
            return super()._dagger(y)
        return self._adjoint_any(y * self._weight(y))

    def _dagger_adjoint(self, x: Tensor) -> Tensor:
        if self._maps is not None:
            return super()._dagger_adjoint(x)
        y = self._forward_any(x)
        return y * self._weight(y)

    def _weight(self, like: Tensor) -> Tensor:
        """2 for frequencies of a real image that stand for their mirror image too, otherwise 1."""
        if self.signal_shape[0] == 2:
            return like.new_ones(1)
        return 2 - self.paired.to(like.dtype)

    def extra_repr(self) -> str:
        coils = "" if self._maps is None else f", {self.measurement_shape[0]} coils"
        rate = math.prod(self.signal_shape[1:]) / len(self.sampled)
        return f"{super().extra_repr()}, acceleration={rate:.3g}{coils}"


class _ComplexSpectrum(Spectrum):
    """A Aᵀ = I."""

    def __init__(self, operator: FourierSampling) -> None:
        samples = operator.sampled.new_full((1,), len(operator.sampled)).double()
        super().__init__(torch.ones_like(samples), 2 * samples)
        self.operator = operator

    def gram(self, w: Tensor, function: Function) -> Tensor:
        return function(self.eigenvalues)[..., None].to(w.dtype) * w

    def diagonal(self, function: Function) -> Tensor:
        shape = self.operator.signal_shape  # AᵀA is a convolution: its diagonal is constant
        gain = function(self.eigenvalues) * self.counts / math.prod(shape)  # (..., 1)
        return gain[(..., *[None] * (len(shape) - 1))]


class _RealSpectrum(Spectrum):
    """A Aᵀ = ½(I + J), J w[k] = conj w[−k], where −k is sampled too; ½I elsewhere."""

    def __init__(self, operator: FourierSampling) -> None:
        paired = operator.paired.double().sum()
        single = len(operator.sampled) - paired
        super().__init__(paired.new_tensor([1, 0.5, 0]), torch.stack([paired, 2 * single, paired]))
        self.operator = operator

    @property
    def norm(self) -> float:
        return self.eigenvalues[self.counts > 0].max().sqrt().item()

    def gram(self, w: Tensor, function: Function) -> Tensor:
        one, half, zero = function(self.eigenvalues)[..., None, None].to(w.dtype).unbind(-3)
        sign = w.new_tensor([[1], [-1]])  # complex conjugate
        even = 0.5 * (w + sign * w[..., self.operator.mirror])
        return torch.where(self.operator.paired, one * even + zero * (w - even), half * w)

    def diagonal(self, function: Function) -> Tensor:
        shape = self.operator.signal_shape
        weight = self.eigenvalues * self.counts / math.prod(shape)
        gain = (function(self.eigenvalues) * weight).sum(-1)  # (...)
        return gain[(..., *[None] * len(shape))]


def _positions(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the samples on the grid of `fftn`, and the sample at −k of each, or −1."""
    spatial = chosen.shape
    centred = chosen.nonzero()  # (m, axes)
    sizes = torch.tensor(spatial)
    frequency = centred - sizes // 2

    def flat(k: Tensor) -> Tensor:
        position = torch.zeros(len(k), dtype=torch.int64)
        for axis, n in enumerate(spatial):
            position = position * n + k[:, axis] % n
        return position

    index = flat(frequency)
    sample_at = torch.full((math.prod(spatial),), -1)
    sample_at[index] = torch.arange(len(index))
    return index, sample_at[flat(-frequency)]
