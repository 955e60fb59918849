"""Closed forms of operators that commute with shifts: circular blurs with downsampling.

A shift of the measurement by one of its pixels belongs to a circular shift of the signal by one
block. So A Aᵀ is a circular convolution: applied once to a point it gives its kernel, and the
Fourier transform of that its eigenvalues, the means of |H|² over frequencies that alias.
"""

import math
from itertools import product

import torch
from torch import Tensor

from latens.problems.constants import constant
from latens.problems.convolution import Convolution, Identity
from latens.problems.linear_operator import LinearOperator
from latens.problems.sampling import Downsampling
from latens.problems.spectrum import Function, Spectrum


def commutes_with_shifts(operator: LinearOperator) -> bool:
    """Whether an operator treats every channel and every block of a signal alike."""
    circular = isinstance(operator, Convolution) and operator.boundary == "circular"
    image = len(operator.signal_shape) > 1
    return image and (circular or isinstance(operator, (Identity, Downsampling)))


class CirculantSpectrum(Spectrum):
    """Spectrum of A Aᵀ for operators of `commutes_with_shifts` in sequence.

    Args:
        operator: A.
        device: Of the eigenvalues.
    """

    def __init__(self, operator: LinearOperator, device: torch.device) -> None:
        channels, *coarse = operator.measurement_shape
        self.operator = operator
        self.grid = tuple(coarse)
        self.axes = tuple(range(-len(coarse), 0))
        point = torch.zeros(1, *operator.measurement_shape, dtype=torch.float64, device=device)
        point[(0, 0, *(0 for _ in coarse))] = 1
        kernel = operator._map(operator._map_adjoint(point))[0, 0]
        eigenvalues = torch.fft.rfftn(kernel).real.clamp_min(0)
        self.half_grid = eigenvalues.shape
        count = torch.full_like(eigenvalues, 2 * channels)
        count[..., 0] = channels  # rfftn keeps one of each conjugate pair
        if coarse[-1] % 2 == 0:
            count[..., -1] = channels
        super().__init__(eigenvalues.flatten(), count.flatten())
        self._powers: Tensor | None = None

    def gram(self, w: Tensor, function: Function) -> Tensor:
        response = function(self.eigenvalues.to(w.device)).unflatten(-1, self.half_grid)
        response = response.unsqueeze(-1 - len(self.grid)).to(w.dtype)  # (..., 1, *half grid)
        spectrum = torch.fft.rfftn(w, dim=self.axes)
        return torch.fft.irfftn(spectrum * response, s=self.grid, dim=self.axes)

    def diagonal(self, function: Function) -> Tensor:
        if self._powers is None:
            with torch.inference_mode(False), torch.no_grad():
                self._powers = constant(self._pixel_powers())
        blocks = self._block()
        values = function(self.eigenvalues) @ self._powers.mT  # (..., pixels of a block)
        return values.unflatten(-1, (1, *blocks)).tile((1, *self.grid))  # (..., 1, *spatial)

    def inverse(self, eigenvalues: Tensor) -> Tensor:
        """1/λ, and 0 for singular values up to the operator's `relative_cutoff`."""
        threshold = self.operator.relative_cutoff**2 * eigenvalues.max()
        kept = (eigenvalues > threshold) & (eigenvalues > 0)
        return torch.where(kept, 1 / torch.where(kept, eigenvalues, 1), 0)

    def _block(self) -> tuple[int, ...]:
        spatial = self.operator.signal_shape[1:]
        return tuple(n // m for n, m in zip(spatial, self.grid, strict=True))

    def _pixel_powers(self) -> Tensor:
        """Energy of every pixel of a block over the eigenvectors, `(pixels, k)`."""
        share = self.counts / (self.operator.measurement_shape[0] * math.prod(self.grid))
        powers = []
        for offset in product(*map(range, self._block())):
            point = self.eigenvalues.new_zeros(1, *self.operator.signal_shape)
            point[(0, 0, *offset)] = 1
            image = torch.fft.rfftn(self.operator._map(point)[0, 0])
            powers.append(image.abs().square().flatten() * share)
        return torch.stack(powers)
