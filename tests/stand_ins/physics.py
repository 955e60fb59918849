"""Classes with deepinv's interface: `A`, `A_adjoint`, batches first, noise in the call alone."""

import torch
from torch import Tensor, nn


class LinearPhysics(nn.Module):
    """What deepinv's linear operators share: calling one adds noise, its methods do not."""

    def A(self, x: Tensor, **kwargs) -> Tensor:
        raise NotImplementedError

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, **kwargs) -> Tensor:
        y = self.A(x, **kwargs)
        return y + 0.1 * torch.randn_like(y)


class Blur(LinearPhysics):
    """Circular blur of images by shifts; its filter `(1, 1, H, W)` is a float32 buffer."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("filter", kernel.float()[None, None])

    def A(self, x: Tensor, **kwargs) -> Tensor:
        return self._shifted(x, 1)

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        return self._shifted(y, -1)

    def _shifted(self, value: Tensor, sign: int) -> Tensor:
        kernel = self.filter[0, 0]
        height, width = kernel.shape
        result = torch.zeros_like(value)
        for i in range(height):
            for j in range(width):
                shift = (sign * (i - height // 2), sign * (j - width // 2))
                result = result + kernel[i, j] * value.roll(shift, (-2, -1))
        return result


class Inpainting(LinearPhysics):
    """Product with a mask `(1, C, *spatial)`; missing pixels are measured as zero."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = nn.Parameter(mask.float()[None], requires_grad=False)

    def A(self, x: Tensor, **kwargs) -> Tensor:
        return self.mask * x

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        return self.mask * y


class CoilMaps(LinearPhysics):
    """Complex images as two channels times complex maps: `(B, 2, *s)` to `(B, 2, N, *s)`."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.register_buffer("maps", maps.to(torch.complex64))

    def A(self, x: Tensor, **kwargs) -> Tensor:
        image = torch.view_as_complex(x.movedim(1, -1).contiguous())
        return torch.view_as_real(self.maps * image[:, None]).movedim(-1, 1)

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        image = torch.view_as_complex(y.movedim(1, -1).contiguous())
        return torch.view_as_real((self.maps.conj() * image).sum(1)).movedim(-1, 1)


class Matrix:
    """No module, and float32 whatever the signal: what a wrapper of compiled code looks like."""

    def __init__(self, matrix: Tensor, signal_shape: tuple[int, ...]) -> None:
        self.matrix = matrix.float()
        self.signal_shape = signal_shape

    def A(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.mT

    def A_adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).reshape(-1, *self.signal_shape)


class Intensity(nn.Module):
    """Nonlinear: squared magnitude of weighted sums, without an adjoint."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.float())

    def A(self, x: Tensor, **kwargs) -> Tensor:
        return (x @ self.weight).square()
