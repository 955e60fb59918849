"""Fixed tensors that operators compute once and keep."""

import torch
from torch import Tensor


def constant(value: Tensor) -> Tensor:
    """A tensor that depends on no input, free of the wrapper of a running transform.

    Without it, what is computed once and kept inside `torch.func.grad` would stay wrapped.
    """
    return value if torch.compiler.is_compiling() else torch.func.debug_unwrap(value)


class Constants:
    """Fixed tensors of an operator: kept in float64, given out in any dtype, on any device.

    They are no buffers, so that `module.float()` takes no digits from them.

    Args:
        tensors: Real, complex or index tensors by name.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._master = tensors
        self._cached: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def __deepcopy__(self, memo: dict) -> "Constants":
        return self  # never changed, and PyTorch cannot copy sparse tensors

    def on(self, name: str, like: Tensor) -> Tensor:
        """A tensor on the device of `like`, and of its precision unless it holds integers."""
        key = (name, like.dtype, like.device)
        if key not in self._cached:
            master, dtype = self._master[name], like.dtype
            if master.is_complex():
                dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
            elif not master.is_floating_point():
                dtype = master.dtype
            self._cached[key] = constant(master.to(like.device, dtype))
        return self._cached[key]
