"""A killed run goes on where it stopped; two runs share one folder."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from stand_ins.tiny_study import command, leftovers, run, small, tables, units, write_config

ENDS_WITHIN = 5.0
"""Seconds in which workers must follow their parent, on a machine that is busy otherwise."""


def children(parent: int) -> set[int]:
    """Processes that a process started."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] not in "ZX":
            found.add(int(file.parent.name))
    return found


def alive(processes: set[int]) -> set[int]:
    """Those of some processes that still run."""
    found = set()
    for process in processes:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.add(process)
    return found


def kill_when(out: Path, argv: list[str], finished: int, delay: float) -> None:
    """Start a run and kill it some time after a number of units are finished."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(units(out)) < finished and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(delay)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + ENDS_WITHIN
    while alive(workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive(workers) == set()


def once_each(out: Path, all_units: int, kills: int) -> None:
    """No unit was computed twice; a kill between a unit and its line may cost the line."""
    costs = pd.read_csv(out / "cost.csv")
    assert costs["hash"].is_unique
    assert all_units - kills <= len(costs) <= all_units


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_kill_and_resume(small_run: Path, tmp_path: Path, without_report: None) -> None:
    config, out = write_config(tmp_path / "small.yaml", small()), tmp_path / "run"
    chance = random.Random(0)
    kill_when(out, command(config, out, 2), 1, chance.uniform(0, 0.5))
    kill_when(out, command(config, out, 1), len(units(out)) + 2, chance.uniform(0, 0.5))
    before = units(out)
    assert run(config, out) == 0
    assert tables(out) == tables(small_run)
    assert before.items() <= units(out).items()
    assert units(out).keys() == units(small_run).keys()
    assert leftovers(out) == []
    once_each(out, all_units=12, kills=2)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed_while_they_start(tmp_path: Path) -> None:
    config, out = write_config(tmp_path / "small.yaml", small()), tmp_path / "run"
    argv = command(config, out, 2)
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    end = time.monotonic() + ENDS_WITHIN
    while alive(workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive(workers) == set()


def test_two_runs_on_one_folder(small_run: Path, tmp_path: Path) -> None:
    config, out = write_config(tmp_path / "small.yaml", small()), tmp_path / "run"
    started = [
        subprocess.Popen(command(config, out, 1), stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    assert tables(out) == tables(small_run)
    assert leftovers(out) == []
    once_each(out, all_units=12, kills=0)
