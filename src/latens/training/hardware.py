"""How a fit uses the machine: precision, accumulation, processes."""

from dataclasses import dataclass
from typing import Any, Literal

from latens.errors import ConfigError


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
    """

    precision: Literal["float32", "bf16"] = "float32"
    accumulate: int = 1
    processes: int = 1
    nodes: int = 1

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
