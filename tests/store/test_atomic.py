"""Files and folders appear complete or not at all."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from latens.errors import ConfigError, DataError
from latens.store import (
    append_line,
    new_folder,
    read_json,
    write_array,
    write_bytes,
    write_json,
    write_text,
)
from latens.store.atomic import remove_folder

LOOPS = {
    "write_bytes": """
n = 0
while True:
    n += 1
    write_bytes(folder / "target", bytes([n % 251]) * 300_000)
""",
    "new_folder": """
n = 0
while True:
    n += 1
    with new_folder(folder / f"unit{n:05d}") as unit:
        for name in ("a", "b", "c"):
            (unit / name).write_bytes(bytes([n % 251]) * 100_000)
""",
    "append_line": """
n = 0
while True:
    n += 1
    append_line(folder / "cost.csv", f"{n}," + "x" * 200, "n,text")
""",
}


def run_and_kill(folder: Path, loop: str, delay: float) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from latens.store import write_bytes, new_folder, append_line\n"
        "folder = Path(sys.argv[1]); print('ready', flush=True)\n" + loop
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(code: int):
    def failing(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return failing


def fill_and_raise(target: Path, error: BaseException) -> None:
    with new_folder(target) as unit:
        (unit / "a").write_text("a")
        raise error


@pytest.mark.parametrize("delay", [0.003, 0.02, 0.05, 0.11])
def test_killed_writer_leaves_the_whole_file(tmp_path, delay):
    write_bytes(tmp_path / "target", b"\0" * 300_000)
    run_and_kill(tmp_path, LOOPS["write_bytes"], delay)
    content = (tmp_path / "target").read_bytes()
    assert len(content) == 300_000
    assert set(content) == {content[0]}


@pytest.mark.parametrize("delay", [0.003, 0.02, 0.05, 0.11])
def test_killed_new_folder_publishes_only_whole_folders(tmp_path, delay):
    run_and_kill(tmp_path, LOOPS["new_folder"], delay)
    published = sorted(tmp_path.glob("unit*"))
    for number, unit in enumerate(published, start=1):
        assert unit.name == f"unit{number:05d}"
        for name in ("a", "b", "c"):
            assert (unit / name).read_bytes() == bytes([number % 251]) * 100_000
    assert len(names(tmp_path)) - len(published) <= 1


def test_killed_appender_leaves_whole_lines(tmp_path):
    run_and_kill(tmp_path, LOOPS["append_line"], 0.1)
    lines = (tmp_path / "cost.csv").read_text().splitlines(keepends=True)
    assert lines[0] == "n,text\n"
    assert len(lines) > 2
    assert lines[1:] == [f"{n}," + "x" * 200 + "\n" for n in range(1, len(lines))]


def test_a_removed_folder_is_gone_at_once(tmp_path, monkeypatch):
    folder = tmp_path / "unit"
    folder.mkdir()
    (folder / "file").write_text("content")
    seen = []
    monkeypatch.setattr(shutil, "rmtree", lambda path: seen.append((path, folder.exists())))
    remove_folder(folder)
    ((doomed, existed),) = seen  # a kill at this moment leaves a temporary, and no half of a unit
    assert not existed
    assert doomed.name.startswith(".tmp-")
    monkeypatch.undo()
    remove_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == [doomed.name]


def test_written_content_and_return_value(tmp_path):
    assert write_bytes(tmp_path / "a", b"\x00\xff") == tmp_path / "a"
    write_text(tmp_path / "b", "σ²\n")
    write_json(tmp_path / "c.json", {"b": (1, 2.5), "a": np.float32(0.5), "ä": None})
    write_array(tmp_path / "d.npy", np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "σ²\n".encode()
    assert read_json(tmp_path / "c.json") == {"b": [1, 2.5], "a": 0.5, "ä": None}
    loaded = np.load(tmp_path / "d.npy")
    assert loaded.dtype == np.float32
    assert loaded.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert names(tmp_path) == ["a", "b", "c.json", "d.npy"]


def test_equal_arrays_give_equal_bytes_whatever_their_layout(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    write_array(tmp_path / "c.npy", array)
    write_array(tmp_path / "f.npy", np.asfortranarray(array))
    assert (tmp_path / "c.npy").read_bytes() == (tmp_path / "f.npy").read_bytes()


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
        with new_folder(tmp_path / "unit"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "unit").stat().st_mode) == 0o750


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    ("code", "word"),
    [(errno.ENOSPC, "space"), (errno.EDQUOT, "space"), (errno.EROFS, "may write")],
)
def test_failed_write_keeps_the_former_file(tmp_path, monkeypatch, step, code, word):
    target = tmp_path / "table.csv"
    write_text(target, "before")
    with monkeypatch.context() as patch:
        if step == "open":
            patch.setattr("builtins.open", fail(code))
        else:
            patch.setattr(os, step, fail(code))
        with pytest.raises(DataError) as caught:
            write_text(target, "after")
    assert caught.value.argument == str(target)
    assert word in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert target.read_text() == "before"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["mkdir", "fsync", "rename"])
def test_failed_new_folder_leaves_nothing(tmp_path, monkeypatch, code, step):
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail(code))
        with pytest.raises(DataError, match="unit"), new_folder(tmp_path / "unit") as unit:
            (unit / "a").write_text("a")
    assert names(tmp_path) == []


def test_disk_full_in_the_block_is_explained(tmp_path):
    with pytest.raises(DataError, match="no space left"):
        fill_and_raise(tmp_path / "unit", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError(2, "y"), KeyboardInterrupt()])
def test_errors_of_the_block_pass_unchanged(tmp_path, error):
    with pytest.raises(type(error)) as caught:
        fill_and_raise(tmp_path / "unit", error)
    assert caught.value is error
    assert names(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from latens.errors import DataError
from latens.store import write_array, write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write, content in ((write_bytes, b"x" * 10_000), (write_array, np.ones(10_000))):
    try:
        write(Path(sys.argv[1]) / "target", content)
    except DataError as error:
        print(error)
"""


def test_medium_that_really_refuses_more_bytes(tmp_path):
    write_text(tmp_path / "target", "before")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = answer.stdout.splitlines()
    assert "file too large" in first
    assert str(tmp_path / "target") in second
    assert (tmp_path / "target").read_text() == "before"
    assert names(tmp_path) == ["target"]


def test_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    try:
        write_text(disk / "target", "before")
        for write, content in ((write_bytes, b"x" * 100_000), (write_array, np.ones(100_000))):
            with pytest.raises(DataError, match="target"):
                write(disk / "target", content)
        with pytest.raises(DataError, match="no space left"), new_folder(disk / "u") as unit:
            write_bytes(unit / "big", b"x" * 100_000)
        append_line(disk / "cost.csv", "1", "n")
        (disk / "filler").write_bytes(b"x" * (4096 * 13))
        with pytest.raises(DataError, match="no space left"):
            append_line(disk / "cost.csv", "y" * 20_000, "n")
        assert (disk / "cost.csv").read_text() == "n\n1\n"
        assert (disk / "target").read_text() == "before"
        assert names(disk) == ["cost.csv", "filler", "target"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("write", [lambda p: write_text(p, "x"), lambda p: new_folder(p)])
def test_place_that_is_no_folder(tmp_path, write):
    (tmp_path / "file").write_text("")

    def attempt(path):
        context = write(path)
        if not isinstance(context, Path):
            with context:
                pass

    with pytest.raises(DataError, match="another kind"):
        attempt(tmp_path / "file" / "target")
    with pytest.raises(DataError, match="Create the folder"):
        attempt(tmp_path / "missing" / "target")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "content").write_text("")
    assert names(tmp_path) == ["file", "folder"]


def test_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="another kind"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(DataError, match="another kind"), new_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "kept"
    assert names(tmp_path) == ["file", "folder"]


def test_first_folder_wins(tmp_path):
    with new_folder(tmp_path / "unit") as second:
        (second / "who").write_text("second")
        with new_folder(tmp_path / "unit") as first:
            assert first != second
            assert first.parent == tmp_path
            (first / "who").write_text("first")
    assert (tmp_path / "unit" / "who").read_text() == "first"
    assert names(tmp_path) == ["unit"]


def test_unit_is_invisible_until_it_is_complete(tmp_path):
    with new_folder(tmp_path / "unit") as unit:
        (unit / "a").write_text("a")
        assert not (tmp_path / "unit").exists()
        assert unit.name.startswith(".tmp-")
    assert names(tmp_path / "unit") == ["a"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_numbers_it_does_not_have(tmp_path, value):
    with pytest.raises(DataError, match="NaN or infinity"):
        write_json(tmp_path / "a.json", {"value": [value]})
    assert names(tmp_path) == []


def test_objects_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"tree\.path"):
        write_json(tmp_path / "a.json", {"path": Path("x")})
    with pytest.raises(DataError, match="dtype object"):
        write_array(tmp_path / "a.npy", np.array([{}, None]))
    assert names(tmp_path) == []


APPENDER = """
import sys
from latens.store import append_line
for number in range(100):
    append_line(sys.argv[1], f"{sys.argv[2]},{number}", "who,number")
"""


def test_processes_append_whole_lines_under_one_header(tmp_path):
    path = tmp_path / "cost.csv"
    command = [sys.executable, "-c", APPENDER, str(path)]
    children = [subprocess.Popen([*command, str(who)]) for who in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    header, *lines = path.read_text().splitlines()
    assert header == "who,number"
    assert sorted(lines) == sorted(f"{who},{n}" for who in range(2) for n in range(100))
    for who in "01":
        numbers = [int(line[2:]) for line in lines if line[0] == who]
        assert numbers == list(range(100))


def test_torn_last_line_is_removed_by_the_next(tmp_path):
    path = tmp_path / "cost.csv"
    path.write_text("n\n1\n2222")
    append_line(path, "3", "n")
    assert path.read_text() == "n\n1\n3\n"
    path.write_text("n")
    append_line(path, "4", "n")
    assert path.read_text() == "n\n4\n"


def test_failed_append_keeps_the_former_lines(tmp_path, monkeypatch):
    path = tmp_path / "cost.csv"
    append_line(path, "1", "n")
    write = os.write

    def half(descriptor, content):
        return write(descriptor, content[: len(content) // 2])

    for broken in (half, fail(errno.ENOSPC)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", broken)
            with pytest.raises(DataError, match="no space left"):
                append_line(path, "22222222", "n")
        assert path.read_text() == "n\n1\n"
    with pytest.raises(DataError, match="no space left"):
        append_line("/dev/full", "x", "n")


@pytest.mark.parametrize(("line", "header"), [("a\nb", "n"), ("a", "n\r")])
def test_lines_with_breaks_are_refused(tmp_path, line, header):
    with pytest.raises(DataError, match="one line"):
        append_line(tmp_path / "cost.csv", line, header)
    assert names(tmp_path) == []
