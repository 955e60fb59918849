"""Who leads a run that several processes share, and what is said where they are not there."""

import pytest

from latens.errors import ConfigError
from latens.studies.volumes.together import processes
from latens.training.hardware import Hardware

LAUNCHER = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


def test_one_process_leads_and_waits_for_nobody() -> None:
    with processes(Hardware()) as together:
        assert together.leads
        together.tell(0)
        together.meet()
        assert together.heard() is None


def test_processes_that_nobody_started() -> None:
    with pytest.raises(ConfigError, match="torchrun"), processes(Hardware(processes=2)):
        pass


@pytest.mark.parametrize(
    "started",
    [
        {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"},
    ],
)
def test_other_numbers_than_were_started(
    started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigError, match=r"product of 4.*got 6"),
        processes(Hardware(processes=3, nodes=2)),
    ):
        pass
