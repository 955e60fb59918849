"""Rows of a batch that the penalties of exp2 and exp3 need."""

from latens.errors import ConfigError
from latens.models.partitioned import Partition
from latens.objectives.dip import Dip
from latens.training.hardware import Hardware

LEAST_OF_DEPENDENCE = 4
"""Rows that a distance correlation needs."""


def check_rows(
    stage: str, batch_size: int, hardware: Hardware, dip: Dip, partition: Partition
) -> None:
    """Raise if a penalty would see too few rows: those of one part of a step, of all processes.

    Args:
        stage: exp1, exp2 or exp3.
        batch_size: Rows of an optimiser step.
        hardware: Its parts and processes, by which it can be divided.
        dip: Penalty of exp2.
        partition: Penalty of exp3.

    Raises:
        ConfigError: If there are too few.
    """
    needed, why, instead = 1, "", ""
    if stage == "exp2":
        needed, why = dip.rows, f"the estimator `{dip.estimator}` of `dip`"
        if dip.rows > 2:
            instead = ", or use `dip.estimator: buffered`, which needs two"
    if stage == "exp3" and partition.independent:
        needed, why = LEAST_OF_DEPENDENCE, "the distance correlation of `partition`"
        instead = ", or set `partition.independent: 0`"
    rows, parts = batch_size // hardware.accumulate, hardware.accumulate
    if rows >= needed:
        return
    unit = parts * hardware.processes * hardware.nodes
    enough = unit * -(-needed * parts // unit)
    lower = ", or lower `hardware.accumulate`" if parts > 1 else ""
    raise ConfigError(
        "training.batch_size",
        f"{needed} rows or more in each of the {parts} parts of a step, for {why}",
        f"{rows} of a batch of {batch_size}",
        f"Set it to {enough} or more{lower}{instead}.",
    )
