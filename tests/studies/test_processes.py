"""A study of scans on two processes: as `torchrun` starts them, and as the SLURM script does."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from latens.store import Outcome, RunFolder, Status, read_csv, read_json
from latens.studies.volumes.tables import VOLUME_HISTORY, VOLUME_METRICS

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm" / "growth.sbatch"
TINY = {
    "data": {
        "class_path": "latens.data.PhantomSubjects",
        "init_args": {"size": [16, 16, 16], "count": 40},
    },
    # Two channels to a group: one alone would leave biases without any gradient, and Adam moves
    # those by the sign of a rounding error.
    "model": {"dim": 16, "width": 8, "coarse": 4, "features": 8},
    "test_scans": 10,
    "validation_scans": 8,
    "seeds": 2,
    "shown": 1,
    "training": {
        "max_steps": 2,
        "batch_size": 8,
        "warmup_steps": 0,
        "kl_warmup_steps": 0,
        "validate_every": 1,
    },
}
SRUN = """\
#!{python}
import os, subprocess, sys
command = [word for word in sys.argv[1:] if word != "--kill-on-bad-exit=1"]
running = []
for task in range(2):
    own = {{"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"}}
    running.append(subprocess.Popen(command, env={{**os.environ, **own}}))
sys.exit(max(process.wait() for process in running))
"""
LATENS = """\
#!{python}
import sys
from latens.cli import main
sys.exit(main())
"""


def environment(**more: str) -> dict[str, str]:
    single = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **single, **more}


def options(folder: Path, out: str) -> list[str]:
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    return ["--stage", "exp3", "--config", str(config), "--out", str(folder / out)]


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*start, "-m", "latens.cli", "run", "growth", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)


def history(run: Path):
    table = read_csv(run / "tables" / "volume_history.csv", VOLUME_HISTORY)
    return table.set_index(["seed", "step", "quantity"])["value"]


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(tmp_path: Path) -> None:
    one = [sys.executable, "-m", "latens.cli", "run", "growth", *options(tmp_path, "one")]
    alone = subprocess.run(one, env=environment(), capture_output=True, text=True, timeout=300)
    assert alone.returncode in (0, 4), alone.stderr
    shared = torchrun([*options(tmp_path, "two"), "--hardware.processes", "2"])
    assert "trained in" in shared.stderr, shared.stderr
    assert shared.stderr.count("seed 1: trained in") == 1  # one process alone writes and speaks
    first, second = history(tmp_path / "one"), history(tmp_path / "two")
    assert list(first.index) == list(second.index)
    np.testing.assert_allclose(second[first.index], first, rtol=2e-4, atol=2e-4)
    metrics = read_csv(tmp_path / "two" / "tables" / "volume_metrics.csv", VOLUME_METRICS)
    assert set(metrics["seed"]) == {0, 1}
    again = torchrun([*options(tmp_path, "two"), "--hardware.processes", "2"])
    assert "trained in" not in again.stderr


@pytest.mark.slow
def test_no_process_waits_in_a_collective_for_what_the_first_does_alone(tmp_path: Path) -> None:
    """Scans take longer to prepare than anybody waits, and a model to be assessed."""
    script = Path(__file__).parent / "slow_leader.py"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*start, str(script), str(tmp_path), *options(tmp_path, "two")]
    ended = subprocess.run(
        [*command, "--hardware.processes", "2"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.stderr.count("assessed in") == 2, ended.stderr
    assert sorted(path.name for path in tmp_path.glob("began *")) == ["began 0", "began 1"]


@pytest.mark.slow
def test_a_fault_in_one_process_ends_all_and_is_tried_again(tmp_path: Path) -> None:
    """The first lacks memory in the first training; then the other one does."""
    script = Path(__file__).parent / "faulty_process.py"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    both = [*options(tmp_path, "two"), "--hardware.processes", "2"]
    for rank in ("0", "1"):
        ended = subprocess.run(
            [*start, str(script), rank, *both],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 1, ended.stderr  # that of torchrun
        assert "seed 1" not in ended.stderr
    again = torchrun(both)
    assert again.stderr.count("trained in") == 2, again.stderr


@pytest.mark.slow
def test_an_explosion_ends_all_processes(tmp_path: Path) -> None:
    wild = ["--hardware.processes", "2", "--training.learning_rate", "1e30", "--seeds", "1"]
    ended = torchrun([*options(tmp_path, "wild"), *wild, "--training.max_steps", "9"])
    assert "seed 0: nan" in ended.stderr, ended.stderr
    run = RunFolder.open(tmp_path / "wild")
    (fit,) = read_json(run.units_file)["fits"].values()
    assert Outcome.read(run.fit(fit)).status == Status.NAN


def test_the_slurm_script_is_one() -> None:
    text = SCRIPT.read_text()
    assert subprocess.run(["bash", "-n", str(SCRIPT)], timeout=10).returncode == 0
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
    assert asked["ntasks-per-node"] == asked["gres"].split(":")[1]  # a GPU for every task
    assert "srun --kill-on-bad-exit=1 latens" in text  # none waits for one that is gone


@pytest.mark.slow
def test_the_slurm_script_starts_the_study(tmp_path: Path) -> None:
    """With an `srun` that starts two tasks on this machine, as SLURM tells them who they are."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("latens", LATENS)):
        tool = tools / name
        tool.write_text(text.format(python=sys.executable))
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    job = environment(
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
        SLURM_JOB_ID=str(10_000 + os.getpid() % 9000),
        SLURM_JOB_NAME="growth",
        SLURM_NTASKS="2",
        SLURM_NTASKS_PER_NODE="2",
        SLURM_NNODES="1",
        SLURM_NODELIST="127.0.0.1",
    )
    command = ["bash", str(SCRIPT), *options(tmp_path, "slurm"), "--seeds", "1"]
    ended = subprocess.run(command, env=job, capture_output=True, text=True, timeout=300)
    assert ended.returncode in (0, 4), ended.stderr
    assert ended.stderr.count("seed 0: trained in") == 1
    assert (tmp_path / "slurm" / "report.html").is_file()
    config = yaml.safe_load((tmp_path / "slurm" / "config.yaml").read_text())
    assert (config["hardware"]["processes"], config["hardware"]["nodes"]) == (2, 1)
