"""Run folders can be reopened, shared between processes, and never swallow foreign files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latens.errors import ConfigError, DataError
from latens.store import (
    COST,
    Outcome,
    RunFolder,
    Status,
    content_hash,
    new_folder,
    read_json,
    read_yaml,
    write_json,
)

SHARED = [1, 2]
IDENTITY = {
    "study": "scarcity",
    "name": "blur",
    "config": {"sizes": (16, 64), "rate": 1e-5, "first": SHARED, "second": SHARED, "σ": None},
    "data": {"fingerprint": "00ff00ff00ff00ff", "name": "phantoms", "source": "generated"},
    "result_version": 1,
}
HASH = content_hash(IDENTITY)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_created_folder_describes_the_run(tmp_path):
    run = RunFolder.create(tmp_path / "a" / "run", IDENTITY)
    tree = read_json(run.path / "run.json")
    assert list(tree) == [
        "study",
        "name",
        "created",
        "config",
        "provenance",
        "data",
        "result_version",
    ]
    config = {"sizes": [16, 64], "rate": 1e-5, "first": [1, 2], "second": [1, 2], "σ": None}
    assert tree["config"] == config
    assert tree["data"] == IDENTITY["data"]
    assert {"packages", "git", "host", "python"} == set(tree["provenance"])
    assert read_yaml(run.config_file) == config
    assert "&" not in run.config_file.read_text()
    assert RunFolder.open(run.path).description == tree
    for folder in (run.fits, run.evaluations, run.tables, run.figures):
        assert folder.is_dir()


def test_reopening_touches_nothing(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    before = snapshot(tmp_path)
    again = RunFolder.create(tmp_path, IDENTITY)
    assert again.path == run.path
    assert snapshot(tmp_path) == before


def test_another_configuration_keeps_units_and_date(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    tree = run.description | {"created": "2020-01-01T00:00:00+00:00"}
    write_json(tmp_path / "run.json", tree)
    with new_folder(run.fit(HASH)) as folder:
        Outcome(Status.CONVERGED).write(folder)
    run = RunFolder.create(tmp_path, IDENTITY | {"config": {"sizes": [128]}})
    assert run.description["config"] == {"sizes": [128]}
    assert run.description["created"] == "2020-01-01T00:00:00+00:00"
    assert read_yaml(run.config_file) == {"sizes": [128]}
    assert run.has_fit(HASH)


def test_interrupted_creation_is_completed(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    run.config_file.unlink()
    run.figures.rmdir()
    RunFolder.create(tmp_path, IDENTITY)
    assert read_yaml(run.config_file)["sizes"] == [16, 64]
    assert run.figures.is_dir()


def test_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.tex.*another folder"):
        RunFolder.create(tmp_path, IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_foreign_run_json_is_refused_and_left_alone(tmp_path):
    (tmp_path / "run.json").write_text('{"speed": 3}')
    with pytest.raises(DataError, match="no study"):
        RunFolder.create(tmp_path, IDENTITY)
    assert (tmp_path / "run.json").read_text() == '{"speed": 3}'
    assert not (tmp_path / "fits").exists()


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"study": "scarcity"}'])
def test_damaged_description(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json") as caught:
        RunFolder.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_open_needs_a_run_and_writes_nothing(tmp_path):
    with pytest.raises(DataError, match=r"no run\.json.*latens run"):
        RunFolder.open(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        RunFolder.open(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="another kind"):
        RunFolder.create(tmp_path / "file", IDENTITY)
    assert (tmp_path / "file").read_text() == "kept"


def test_identity_needs_exactly_its_keys(tmp_path):
    with pytest.raises(ConfigError, match="result_version"):
        RunFolder.create(tmp_path / "run", {"study": "scarcity"})
    with pytest.raises(ConfigError, match="identity"):
        RunFolder.create(tmp_path / "run", IDENTITY | {"seed": 1})
    for value in (tmp_path, float("nan"), float("inf")):
        with pytest.raises((ConfigError, DataError)):
            RunFolder.create(tmp_path / "run", IDENTITY | {"config": {"a": value}})
    assert not (tmp_path / "run").exists()


def test_finished_units(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    other = "ffffffffffffffff"
    assert not run.has_fit(HASH)
    assert run.finished_fits() == []
    with new_folder(run.fit(HASH)) as folder:
        Outcome(Status.FAILED).write(folder)
        assert not run.has_fit(HASH)
        assert run.finished_fits() == []
    with new_folder(run.fit(other)) as folder:
        Outcome(Status.CONVERGED).write(folder)
    run.fit("0" * 16).mkdir()  # nothing in it: not finished
    assert run.has_fit(HASH)
    assert not run.has_evaluation(HASH)
    assert run.finished_fits() == sorted([HASH, other])
    assert run.finished_evaluations() == []
    assert run.fit(HASH) == tmp_path / "fits" / HASH
    assert run.evaluation(HASH) == tmp_path / "evaluations" / HASH
    assert run.resume(HASH) == tmp_path / "resume" / HASH


@pytest.mark.parametrize("name", ["", "../../etc", "ABCDEF0123456789", "0123", "0" * 16 + "\n"])
def test_hashes_cannot_leave_the_folder(tmp_path, name):
    run = RunFolder.create(tmp_path, IDENTITY)
    for attempt in (run.fit, run.evaluation, run.resume, run.has_fit):
        with pytest.raises(DataError, match="hexadecimal"):
            attempt(name)


CREATOR = """
import sys
from latens.store import RunFolder, new_folder
with new_folder(RunFolder(sys.argv[1]).fit("0123456789abcdef")) as folder:
    (folder / "half").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_temporaries_of_killed_processes_are_removed_on_reopening(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    command = [sys.executable, "-c", CREATOR, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        RunFolder.create(tmp_path, IDENTITY)
        assert len(list(run.fits.iterdir())) == 1
        child.kill()
    RunFolder.create(tmp_path, IDENTITY)
    assert list(run.fits.iterdir()) == []


CLAIMER = """
import sys
from latens.store import RunFolder
run = RunFolder(sys.argv[1])
for number in range(20):
    sys.stdin.readline()
    with run.claim(f"{number:016x}") as mine:
        print(int(mine), flush=True)
        sys.stdin.readline()
"""


def test_two_processes_claim_each_unit_once(tmp_path):
    RunFolder.create(tmp_path, IDENTITY)
    command = [sys.executable, "-c", CLAIMER, str(tmp_path)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **options) as one, subprocess.Popen(command, **options) as two:
        for _ in range(20):
            for child in (one, two):  # both try at once, then both hold what they have
                child.stdin.write("try\n")
            answers = [child.stdout.readline() for child in (one, two)]
            assert sorted(answers) == ["0\n", "1\n"]
            for child in (one, two):
                child.stdin.write("release\n")
    assert (one.returncode, two.returncode) == (0, 0)


HOLDER = """
import sys
from latens.store import RunFolder
with RunFolder(sys.argv[1]).claim("0123456789abcdef") as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_claim_of_a_killed_process_is_free(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"True\n"
        with run.claim("0123456789abcdef") as mine:
            assert mine is False
        with run.claim("0" * 16) as other:
            assert other is True
        child.send_signal(signal.SIGKILL)
    assert (tmp_path / "locks" / "0123456789abcdef.lock").exists()
    with run.claim("0123456789abcdef") as mine:
        assert mine is True


def test_claim_ends_with_its_block(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    with run.claim(HASH) as mine, run.claim(HASH) as again:
        assert (mine, again) == (True, False)

    def fail():
        with run.claim(HASH) as mine:
            assert mine
            raise KeyError("x")

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
    with run.claim(HASH) as mine:
        assert mine


FORKER = """
import os, sys
from latens.store import RunFolder
run = RunFolder(sys.argv[1])
with run.claim("0123456789abcdef") as mine:
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:  # a worker that inherits the descriptor and lives on
        os.close(outside)
        os.read(inside, 1)
        os._exit(0)
with run.claim("0123456789abcdef") as again:
    print(mine, again, flush=True)
os.close(outside)
os.waitpid(child, 0)
"""


def test_claim_ends_with_its_block_although_a_forked_worker_lives(tmp_path):
    RunFolder.create(tmp_path, IDENTITY)
    command = [sys.executable, "-c", FORKER, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "True True\n"


ALONE = """
import sys, time
from latens.store import RunFolder

run = RunFolder.open(sys.argv[1])
with run.alone():
    before = (run.path / "count").read_text()
    time.sleep(0.05)
    (run.path / "count").write_text(str(int(before) + 1))
"""


def test_processes_that_ask_to_be_alone_wait_for_each_other(tmp_path):
    run = RunFolder.create(tmp_path / "run", IDENTITY)
    (run.path / "count").write_text("0")
    command = [sys.executable, "-c", ALONE, str(run.path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (run.path / "count").read_text() == "4"


def test_claim_needs_a_run(tmp_path):
    with pytest.raises(DataError, match=r"\.lock"), RunFolder(tmp_path).claim(HASH):
        pass


STARTER = """
import json, sys
from latens.store import RunFolder
identity = json.loads(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    print(RunFolder.create(sys.argv[1] + "/" + line.strip(), identity).description["study"],
          flush=True)
"""


def test_two_processes_create_one_folder(tmp_path):
    command = [sys.executable, "-c", STARTER, str(tmp_path), json.dumps(IDENTITY)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **options) as one, subprocess.Popen(command, **options) as two:
        assert [child.stdout.readline() for child in (one, two)] == ["ready\n"] * 2
        for attempt in range(10):
            for child in (one, two):
                child.stdin.write(f"{attempt}\n")
            assert [child.stdout.readline() for child in (one, two)] == ["scarcity\n"] * 2
            assert RunFolder.open(tmp_path / str(attempt)).fits.is_dir()


def test_costs(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    assert run.read_costs().empty
    assert list(run.read_costs().columns) == list(COST.columns)
    run.record_cost("fit", HASH, "cvae, wide", 64, 0, 3, 1.25, 812.0)
    run.record_cost("evaluation", HASH, "ensemble", 64, 0, None, 0.1 + 0.2, float("nan"))
    lines = run.cost_file.read_text().splitlines()
    assert lines == [
        "unit,hash,solver,n,data_seed,init_seed,seconds,peak_memory_mib",
        f'fit,{HASH},"cvae, wide",64,0,3,1.25,812.0',
        f"evaluation,{HASH},ensemble,64,0,,0.30000000000000004,",
    ]
    costs = run.read_costs()
    assert costs.seconds.tolist() == [1.25, 0.1 + 0.2]
    assert costs.init_seed.isna().tolist() == [False, True]
    with pytest.raises(DataError, match="'fit', 'evaluation' or 'check: NAME'"):
        run.record_cost("sweep", HASH, "a", 1, 0, 0, 1.0, 1.0)
    with pytest.raises(DataError, match=r"cost\.n"):
        run.record_cost("fit", HASH, "a", 1.5, 0, 0, 1.0, 1.0)  # type: ignore[arg-type]
    assert len(run.read_costs()) == 2


WORKER = """
import sys, time
from latens.store import Outcome, RunFolder, Status, new_folder
run = RunFolder(sys.argv[1])
for number in range(40):
    name = f"{number:016x}"
    with run.claim(name) as mine:
        if not mine or run.has_fit(name):
            continue
        with new_folder(run.fit(name)) as folder:
            (folder / "history.csv").write_text(f"{number}\\n" * 1000)
            time.sleep(0.002)
            Outcome(Status.CONVERGED, step=number).write(folder)
        with open(run.path / "finished.txt", "a") as log:
            log.write(f"{number}\\n")
"""


def test_killed_and_shared_sweeps_finish_each_unit_once(tmp_path):
    run = RunFolder.create(tmp_path, IDENTITY)
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    for attempt in range(4):
        with subprocess.Popen(command, env=environment) as child:
            time.sleep(0.3 + 0.07 * attempt)
            child.kill()
    RunFolder.create(tmp_path, IDENTITY)
    pair = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [child.wait() for child in pair] == [0, 0]
    assert run.finished_fits() == [f"{number:016x}" for number in range(40)]
    assert len(list(run.fits.iterdir())) == 40
    for number, name in enumerate(run.finished_fits()):
        assert Outcome.read(run.fit(name)).step == number
        assert (run.fit(name) / "history.csv").read_text() == f"{number}\n" * 1000
    finished = (tmp_path / "finished.txt").read_text().split()
    assert len(finished) == len(set(finished))
    # A kill between the rename and the log line may lose a line, at most one for each kill.
    assert len(finished) >= 36
