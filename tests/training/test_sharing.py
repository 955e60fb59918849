"""A fit on two processes is the fit on one: loss, covariance penalty, projection, weights."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError
from latens.training import sharing
from latens.training.batches import batch_indices
from latens.training.hardware import Hardware
from latens.training.volumes import EvenBlocks, PartBatches
from training.ddp_case import fit

HERE = Path(__file__).parent


def environment(rank: int, port: int) -> dict[str, str]:
    """What `torchrun` would set."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    named = {"GROUP_RANK": 0, "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "case"}
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    text = {k: str(v) for k, v in {**numbers, **named}.items()}
    single = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **text, **single, "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": path}


def test_two_processes_train_as_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    commands = [
        [sys.executable, str(HERE / "ddp_case.py"), str(tmp_path / f"{r}.pt"), "2"] for r in (0, 1)
    ]
    running = [
        subprocess.Popen(c, env=environment(r, port), stderr=subprocess.PIPE, text=True)
        for r, c in enumerate(commands)
    ]
    alone = fit(1)
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [p.returncode for p in running] == [0, 0], errors
    first, second = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1))
    for name, value in alone.items():
        for one in (first[name], second[name]):
            torch.testing.assert_close(one, value, rtol=1e-5, atol=1e-5)
    for name in ("dip_off", "dip_diagonal", "dependence", "kl"):  # functions of all rows
        torch.testing.assert_close(
            first[f"train_epoch/{name}"], second[f"train_epoch/{name}"], rtol=1e-6, atol=1e-7
        )
    assert len(alone["train_epoch/loss"]) == 3
    assert not torch.equal(alone["erasure.projection"], torch.eye(3).double())


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "world_size", lambda: 2)

    def become(rank: int) -> None:
        monkeypatch.setattr(sharing, "rank", lambda: rank)

    return become


def test_processes_share_rows_and_noise(two_processes):
    whole = NoiseStream(3, 1).normal((6, 2))
    parts = []
    for rank in (0, 1):
        two_processes(rank)
        parts.append(sharing.SharedNoise(3, 1).normal((3, 2)))
    assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(ConfigError, match="multiple of the 2 processes"):
        sharing.own_rows(torch.zeros(5))


def test_a_step_is_cut_into_parts_and_rows_of_processes(two_processes):
    x = torch.arange(20.0)
    alone = [x[batch_indices(20, 8, 0, step)] for step in range(3)]
    seen = []
    for rank in (0, 1):
        two_processes(rank)
        batches = PartBatches((x, -x), 8, 2, 0, 0, 3)
        assert len(batches) == 6
        seen.append(list(batches))
    for step in range(3):
        rows = [seen[rank][2 * step + part][0] for part in (0, 1) for rank in (0, 1)]
        assert torch.equal(torch.cat(rows), alone[step])
        assert torch.equal(seen[0][2 * step][1], -seen[0][2 * step][0])


def test_changed_batches_are_those_of_one_process_and_of_a_resumed_fit(two_processes, monkeypatch):
    """Every row is changed once in every pass, whoever takes it and wherever a fit begins."""
    x = torch.arange(5.0)
    asked = []

    def change(rows, passes):
        asked.extend(zip(rows.tolist(), passes.tolist(), strict=True))
        return x[rows] + 10 * passes, -x[rows] - 10 * passes

    def batches(parts, start=0):
        return [a for a, _ in PartBatches((x, x), 4, parts, 0, start, 5, change)]

    monkeypatch.setattr(sharing, "world_size", lambda: 1)
    monkeypatch.setattr(sharing, "rank", lambda: 0)
    alone = batches(1)
    assert sorted(asked) == [(row, number) for row in range(5) for number in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(batches(1, 3), alone[3:], strict=True))
    monkeypatch.setattr(sharing, "world_size", lambda: 2)
    seen = []
    for rank in (0, 1):
        two_processes(rank)
        seen.append(batches(2))
    for step in range(5):
        rows = [seen[rank][2 * step + part] for part in (0, 1) for rank in (0, 1)]
        assert torch.equal(torch.cat(rows), alone[step])


def test_blocks_of_validation_are_even():
    x = torch.arange(17.0)
    blocks = [len(a) for a, _ in EvenBlocks((x, x), 16)]
    assert sorted(blocks) == [8, 9]
    assert torch.equal(torch.cat([a for a, _ in EvenBlocks((x, x), 5)]), x)
    assert len(EvenBlocks((x, x), 100)) == 1


def test_hardware():
    assert Hardware().trainer_arguments()["precision"] == "32-true"
    arguments = Hardware(precision="bf16", accumulate=2, processes=4).trainer_arguments()
    assert arguments["precision"] == "bf16-mixed"
    assert arguments["strategy"] == "ddp"
    assert arguments["accumulate_grad_batches"] == 2
    with pytest.raises(ConfigError, match="accumulate"):
        Hardware(accumulate=0)
