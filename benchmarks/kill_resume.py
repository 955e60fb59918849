"""kill −9 at random moments of a sweep, then resume: are the tables those of an undisturbed run?

    python benchmarks/kill_resume.py [KILLS]

Starts a small sweep on two processes, kills it after a random time, checks that its workers end,
and starts it again, until the run is finished; then a new folder, until 50 kills are done. Every
finished run must have the tables of the undisturbed one, each unit once in `cost.csv`, and no
temporary or checkpoint left.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS = 50
ENDS_WITHIN = 5.0
CONFIG = """
data: {class_path: latens.data.Phantoms, init_args: {size: [16, 16], count: 120}}
models:
  latent:
    class_path: latens.models.Latent
    init_args: {dim: 4, architecture: {class_path: latens.nets.Linear}}
ensembles: [latent]
sizes: [16, 32]
data_seeds: 2
init_seeds: 2
test_images: 30
training: {max_steps: 60, batch_size: 16, warmup_steps: 2, kl_warmup_steps: 20, validate_every: 10}
"""
PROGRAM = """
import sys
import latens.studies.run as run
run.write_figures = lambda folder: None
run.write_report = lambda folder: folder.report_file
from latens.cli import main
sys.exit(main(sys.argv[1:]))
"""


def main(kills: int) -> None:
    """Kill, resume, compare; exits with 1 at the first difference."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(CONFIG)
        start = time.perf_counter()
        _start(folder, "undisturbed").wait()
        longest = time.perf_counter() - start
        expected = _tables(folder / "undisturbed")
        done = runs = 0
        while done < kills:
            runs += 1
            run, here = folder / f"run{runs}", 0
            while _kill(_start(folder, run.name), chance.uniform(0, longest)):
                here += 1
            _check(run, expected, here)
            done += here
            print(f"run {runs}: {here} kills, {done} in all: identical tables", flush=True)
        print(f"{done} kills in {runs} runs, {(time.perf_counter() - start) / 60:.1f} minutes")


def _start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    argv = ["run", "scarcity", "--config", str(folder / "config.yaml"), "--jobs", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv, "--out", str(folder / name)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(process: subprocess.Popen[bytes], delay: float) -> bool:
    """Kill a run after a time; False if it was finished by then."""
    try:
        if process.wait(timeout=delay):
            sys.exit("a resumed run failed")
        return False
    except subprocess.TimeoutExpired:
        pass
    workers = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + ENDS_WITHIN
    while any(_runs(worker) for worker in workers):
        if time.monotonic() > end:
            sys.exit("a worker outlived its parent")
        time.sleep(0.05)
    return True


def _children(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(file.parent.name))
    return found


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _tables(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "tables").iterdir()}


def _check(run: Path, expected: dict[str, bytes], kills: int) -> None:
    hashes = [line.split(",")[1] for line in (run / "cost.csv").read_text().splitlines()[1:]]
    units = sum(1 for part in ("fits", "evaluations") for _ in (run / part).iterdir())
    faults = {
        "other tables": _tables(run) != expected,
        "a unit twice": len(set(hashes)) != len(hashes),
        "a unit without its line": len(hashes) < units - kills,
        "leftovers": any(run.rglob(".tmp-*")) or any((run / "resume").iterdir()),
    }
    if any(faults.values()):
        sys.exit(f"{run.name}: {', '.join(name for name, there in faults.items() if there)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS)
