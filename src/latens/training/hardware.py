"""How a fit uses the machine: precision, accumulation, processes, compiled networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from latens.distributions.validation import validation_kept
from latens.errors import ConfigError
from latens.nets.volumetric import VolumeTrunk, VolumeUpsampler


@dataclass(frozen=True)
class Hardware:
    """Settings of the machine, which change the speed of a fit and the rounding of its numbers.

    Args:
        precision: `float32`, or `bf16`: convolutions and products in bfloat16, sums over the
            event and penalties in float32.
        accumulate: Batches whose gradients are averaged for one optimiser step. Penalties that
            are functions of a batch see one batch at a time.
        processes: Processes that share every batch, started by `torchrun` or SLURM.
        nodes: Machines they run on.
        compiled: Fuse the operations between convolutions by `torch.compile`, for networks of
            volumes; takes up to a minute or two at the start, and a C++ compiler (Triton on a
            GPU). On one CPU core a step takes .86 times as long in bf16, .96 in float32.
    """

    precision: Literal["float32", "bf16"] = "float32"
    accumulate: int = 1
    processes: int = 1
    nodes: int = 1
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("accumulate", "processes", "nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"hardware.{name}", "1 or more", getattr(self, name), "Raise it."
                )

    def trainer_arguments(self) -> dict[str, Any]:
        """The same for Lightning's Trainer."""
        found: dict[str, Any] = {
            "precision": "bf16-mixed" if self.precision == "bf16" else "32-true",
            "accumulate_grad_batches": self.accumulate,
            "devices": self.processes,
            "num_nodes": self.nodes,
        }
        if self.processes * self.nodes > 1:
            found["strategy"] = "ddp"
        return found

    @contextmanager
    def compiling(self, model: nn.Module) -> Iterator[None]:
        """Within it the model's networks of volumes run compiled, if that was asked for.

        Raises:
            ConfigError: If this machine cannot compile.
        """
        nets = [net for net in model.modules() if isinstance(net, VolumeTrunk | VolumeUpsampler)]
        if not self.compiled or not nets:
            yield
            return
        _check_compiler(next(model.parameters()).device)
        for net in nets:
            net.compile(dynamic=False)
        try:
            with validation_kept():
                yield
        finally:
            for net in nets:
                net._compiled_call_impl = None  # what torch offers no function for


def _check_compiler(device: torch.device) -> None:
    try:
        with validation_kept():
            torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:  # the compiler's own, of many types
        raise ConfigError(
            "hardware.compiled",
            "a machine with a C++ compiler (on a GPU: with Triton)",
            type(error).__name__,
            "Install one (g++), or train without.",
        ) from error
