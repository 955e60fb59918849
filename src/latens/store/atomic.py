"""Files and folders that appear complete or not at all.

Everything is written under a temporary name in the same folder, forced to disk, and then renamed.
A process that is killed leaves a temporary behind, never a torn result; the temporary's name says
which process made it, so that leftovers can be told from work in progress.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from latens.errors import DataError
from latens.store.hashing import plain
from latens.store.leftovers import temporary_beside
from latens.types import PathLike

if TYPE_CHECKING:
    import numpy.typing as npt

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

_SPACE = "Free some space or choose another folder; what was written before is intact."
_RIGHTS = "Choose a folder that you may write to; what was written before is intact."
_KIND = "Something of another kind has this name: remove it or choose another name."
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: "Create the folder around it first.",
    errno.ENOTDIR: _KIND,
    errno.EISDIR: _KIND,
    errno.EEXIST: _KIND,
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOLCK: "Choose a folder on a file system with locks, for example a local disk.",
    errno.ENOSYS: "Choose a folder on a file system with locks, for example a local disk.",
}


def storage_error(path: PathLike, error: OSError) -> DataError:
    """The `DataError` that explains why `path` could not be written."""
    remedy = _REMEDIES.get(error.errno or 0, "Check the folder, its permissions and its space.")
    got = (error.strerror or str(error) or type(error).__name__).lower()
    return DataError(os.fspath(path), "a place that can be written", f"'{got}'", remedy)


@contextmanager
def explained(path: PathLike) -> Iterator[None]:
    """Turn every `OSError` of the block into a `DataError` about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def write_bytes(path: PathLike, content: bytes) -> Path:
    """Write a file atomically, with the permissions of the umask.

    Returns:
        The path written.

    Raises:
        DataError: If the file cannot be written; an earlier file of this name stays as it was.
    """
    with _replacing(path) as stream:
        stream.write(content)
    return Path(path)


def write_text(path: PathLike, text: str) -> Path:
    """Write a UTF-8 text file atomically; see `write_bytes`."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, tree: Any) -> Path:
    """Write an indented JSON file atomically, keys in the given order; see `write_bytes`.

    Raises:
        ConfigError: If the tree holds a value that JSON does not have.
        DataError: If the tree holds NaN or infinity, or the file cannot be written.
    """
    return write_text(path, json_text(path, tree))


def json_text(path: PathLike, tree: Any) -> str:
    """The text that `write_json` would write to `path`."""
    content = plain(tree)
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(
            os.fspath(path),
            "finite numbers",
            "NaN or infinity",
            "Write such a number as text, or None where it is unknown.",
        ) from error
    return text + "\n"


def write_array(path: PathLike, array: "npt.ArrayLike") -> Path:
    """Write one array of numbers as `.npy` atomically, C order; see `write_bytes`.

    Raises:
        DataError: If the array holds Python objects, or the file cannot be written.
    """
    import numpy as np

    content = np.asarray(array, order="C")
    if content.dtype.hasobject:
        raise DataError(
            os.fspath(path),
            "an array of numbers",
            f"dtype {content.dtype}",
            "Convert it to a numeric dtype first.",
        )
    with _replacing(path) as stream:
        np.lib.format.write_array(stream, content, allow_pickle=False)
    return Path(path)


@contextmanager
def new_folder(target: PathLike) -> Iterator[Path]:
    """Fill a folder that appears under its name only when it is complete.

    Yields a temporary folder beside the target. When the block ends, it is renamed to the target;
    when the block raises, it is removed. If the target exists by then (and is not empty), it is
    left alone and the new one is dropped: the first one wins.

    Raises:
        DataError: If the folder cannot be written or the disk is full.
    """
    target = Path(target)
    temporary = temporary_beside(target)
    with explained(target):
        temporary.mkdir()
    try:
        yield temporary
        with explained(target):
            _synchronise_tree(temporary)
            _publish(temporary, target)
    except OSError as error:
        # The block's own errors pass, except where the medium failed under it.
        if error.errno in _STORAGE:
            raise storage_error(target, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: PathLike) -> None:
    """Remove a folder, which disappears at once; one that is gone already is no error.

    Raises:
        DataError: If it cannot be removed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    with explained(folder):
        doomed = temporary_beside(folder)  # a kill while it is removed leaves no half
        folder.rename(doomed)
        shutil.rmtree(doomed)


def append_line(path: PathLike, line: str, header: str) -> None:
    """Add one line to a text file that several processes append to.

    The file is locked, and the line arrives by a single write. A new file begins with the header.
    A last line without its end (a machine that lost power) is removed first.

    Args:
        path: File to append to.
        line: Text without line break.
        header: First line of the file, without line break.

    Raises:
        DataError: If a text has a line break, or the file cannot be written; it then holds what it
            held before.
    """
    for text in (line, header):
        if "\n" in text or "\r" in text:
            raise DataError(os.fspath(path), "one line", repr(text), "Remove the line break.")
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = _end_of_last_line(descriptor)
            content = (line if size else f"{header}\n{line}") + "\n"
            _append(descriptor, content.encode("utf-8"), size)
        finally:
            os.close(descriptor)


@contextmanager
def _replacing(path: PathLike) -> Iterator[BinaryIO]:
    """Stream to a temporary file that replaces `path` when the block succeeds."""
    target = Path(path)
    temporary = temporary_beside(target)
    with explained(target):
        try:
            with open(temporary, "xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
            _synchronise(target.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()


def _publish(temporary: Path, target: Path) -> None:
    try:
        os.rename(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.is_dir():
            return
        raise
    _synchronise(target.parent)


def _synchronise_tree(folder: Path) -> None:
    for directory, _, names in os.walk(folder):
        for name in names:
            _synchronise(Path(directory, name))
        _synchronise(Path(directory))


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot synchronise folders
            raise
    finally:
        os.close(descriptor)


def _end_of_last_line(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    end = size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def _append(descriptor: int, content: bytes, size: int) -> None:
    try:
        written = os.write(descriptor, content)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
