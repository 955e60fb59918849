"""Temporary names that say whose they are, and the removal of those whose owner is dead."""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from latens.types import PathLike

_TEMPORARY = re.compile(r"\.tmp-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{16}-(?P<host>[\w.]+)")
_FOREIGN_AGE = 7 * 24 * 3600.0  # seconds after which another machine's temporary is abandoned


def temporary_beside(target: Path) -> Path:
    """A new temporary name in the target's folder, which says which process made it."""
    pid = os.getpid()
    start = _start_time(pid) or 0
    return target.parent / f".tmp-{pid}-{start}-{os.urandom(8).hex()}-{_host()}"


def remove_leftovers(folder: PathLike) -> list[Path]:
    """Remove the temporaries in a folder whose process is no longer alive.

    Those of another machine, whose processes cannot be seen, count as abandoned after seven days.

    Returns:
        The paths removed; empty if the folder does not exist.
    """
    removed = []
    for path in sorted(Path(folder).glob(".tmp-*")):
        if not _abandoned(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
        removed.append(path)
    return removed


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", os.uname().nodename)[:64] or "_"


def _abandoned(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] != _host():
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > _FOREIGN_AGE
        return False
    return not _alive(int(match["pid"]), int(match["start"]))


def _alive(pid: int, start: int) -> bool:
    """Whether the process that had this number and start time still runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    now = _start_time(pid)
    return now is None or start == 0 or now == start


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; −1 for a zombie, None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in "ZX" else int(fields[19])
