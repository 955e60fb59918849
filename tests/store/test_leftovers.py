"""Only temporaries of dead processes are removed."""

import os
import signal
import subprocess
import sys
import time

from latens.store import new_folder, remove_leftovers
from latens.store.leftovers import temporary_beside

CHILD = """
import sys, time
from pathlib import Path
from latens.store import new_folder
with new_folder(Path(sys.argv[1]) / "unit") as unit:
    (unit / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def hidden(folder):
    return sorted(path.name for path in folder.glob(".tmp-*"))


def test_temporary_of_another_process_is_removed_only_after_its_death(tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert len(hidden(tmp_path)) == 1
        assert remove_leftovers(tmp_path) == []
        child.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        removed = []
        while not removed and time.monotonic() < deadline:  # still a zombie of this test
            removed = remove_leftovers(tmp_path)
        assert len(removed) == 1
    assert list(tmp_path.iterdir()) == []


def test_own_temporaries_stay(tmp_path):
    with new_folder(tmp_path / "unit") as unit:
        (unit / "a").write_text("a")
        assert remove_leftovers(tmp_path) == []
    assert (tmp_path / "unit" / "a").read_text() == "a"


def test_same_number_with_another_start_is_another_process(tmp_path):
    mine = temporary_beside(tmp_path / "x")
    prefix, pid, start, token, host = mine.name.split("-")
    assert int(pid) == os.getpid()
    reused = tmp_path / "-".join((prefix, pid, str(int(start) + 1), token, host))
    mine.write_text("")
    reused.write_text("")
    assert remove_leftovers(tmp_path) == [reused]
    assert hidden(tmp_path) == [mine.name]


def test_temporaries_of_other_machines_stay_for_a_week(tmp_path):
    dead = 4_194_304  # above the largest process number of Linux
    here = temporary_beside(tmp_path / "x").name.rpartition("-")[2]
    young, old, ours, huge = (
        tmp_path / f".tmp-{pid}-5-{index:016x}-{host}"
        for index, (pid, host) in enumerate(
            [(dead, "elsewhere"), (dead, "elsewhere"), (dead, here), (10**30, here)]
        )
    )
    for path in (young, old, ours, huge):
        path.write_text("")
    past = time.time() - 8 * 24 * 3600
    os.utime(old, (past, past))
    assert set(remove_leftovers(tmp_path)) == {old, ours, huge}
    assert hidden(tmp_path) == [young.name]


def test_files_of_others_are_not_touched(tmp_path):
    for name in (".tmp-mine", ".tmp-1-2-3", "unit", ".hidden"):
        (tmp_path / name).write_text("")
    assert remove_leftovers(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 4
    assert remove_leftovers(tmp_path / "missing") == []


def test_link_is_removed_and_its_target_kept(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").write_text("kept")
    here = temporary_beside(tmp_path / "x").name.rpartition("-")[2]
    link = tmp_path / f".tmp-4194304-5-{0:016x}-{here}"
    link.symlink_to(tmp_path / "target")
    assert remove_leftovers(tmp_path) == [link]
    assert (tmp_path / "target" / "kept").read_text() == "kept"
