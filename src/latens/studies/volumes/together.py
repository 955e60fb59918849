"""Several processes of one run: the first one works, and says when all of them train.

What the first process does alone, preparing scans and assessing models, may take hours. The others
wait for its word in a group of their own, where nothing ends a wait but the end of a process. The
group that trains has a limit: there silence means that something is wrong.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed as dist

from latens.errors import ConfigError, SolverError
from latens.training.hardware import Hardware

LIMIT = timedelta(minutes=30)
"""Silence after which a training that several processes share has failed."""
PATIENCE = timedelta(days=365)
"""How long a process waits for another that lives."""
END = -1


class Together:
    """One of the processes that share the trainings of a run; here the only one.

    Attributes:
        leads: Whether it is the first, which alone writes.
    """

    leads = True

    def tell(self, seed: int | None) -> None:
        """Tell the others to train a seed with this process, or that there is no more to do."""

    def heard(self) -> int | None:
        """The seed that the first process tells this one to train; None after the last."""
        return None

    def meet(self) -> None:
        """Wait until every process is here."""


class _Shared(Together):
    """The same where there are several."""

    def __init__(self, rank: int) -> None:
        self.leads = rank == 0
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup)
        self.group = group

    def tell(self, seed: int | None) -> None:
        self._announced(END if seed is None else seed)

    def heard(self) -> int | None:
        found = self._announced(END)
        return None if found == END else found

    def meet(self) -> None:
        with _explained():
            dist.barrier(self.group)

    def _announced(self, number: int) -> int:
        """The number of the first process."""
        word = torch.tensor([number])
        with _explained():
            dist.broadcast(word, 0, self.group)
        return int(word)


@contextmanager
def processes(hardware: Hardware) -> Iterator[Together]:
    """Join the processes that `torchrun` or SLURM started for a run.

    An error in one of them ends it, and the others with it, since they lose its connection.

    Args:
        hardware: How many there are.

    Raises:
        ConfigError: If as many were not started.
        SolverError: If they do not find each other, or one ends before the others.
    """
    count = hardware.processes * hardware.nodes
    if count == 1:
        yield Together()
        return
    place = _environment(count)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = place.main_address, str(place.main_port)
    rank, backend = place.global_rank(), "nccl" if torch.cuda.is_available() else "gloo"
    with _explained():  # Lightning takes the group that it finds
        dist.init_process_group(backend, rank=rank, world_size=count, timeout=LIMIT)
        together = _Shared(rank)
    yield together
    dist.destroy_process_group()  # after an error it could wait for processes that are gone


def _environment(count: int) -> ClusterEnvironment:
    """What started this process; the order is that of Lightning."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            place = kind()
            if place.world_size() == count:
                return place
            raise ConfigError(
                "hardware.processes, hardware.nodes",
                f"a product of {place.world_size()}, the processes that were started",
                count,
                "Correct the two numbers, or start as many processes.",
            )
    raise ConfigError(
        "hardware.processes",
        "processes started by `torchrun` or `srun`",
        "one process",
        "Start the command with `torchrun --nproc_per_node=2 -m latens.cli run growth …`.",
    )


@contextmanager
def _explained() -> Iterator[None]:
    """Say what a lost connection means."""
    try:
        yield
    except RuntimeError as error:
        raise SolverError(
            "hardware.processes",
            "processes that all live until the run ends",
            f"one that left ({' '.join(str(error).split())[:120]})",
            "Look at the output of the others.",
        ) from error
