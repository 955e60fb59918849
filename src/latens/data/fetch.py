"""Fetching of public sets; a file is put in its place only once its checksum is right."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from latens.data.published import PUBLISHED, Published, RemoteFile
from latens.errors import ConfigError, DataError
from latens.store.atomic import explained
from latens.store.leftovers import remove_leftovers, temporary_beside
from latens.types import PathLike

TIMEOUT = 30.0
"""Seconds without an answer after which a server counts as silent."""
_BYTES = 2**20


def fetch(
    name: str, folder: PathLike = "data", say: Callable[[str], None] | None = None
) -> list[Path]:
    """Fetch a public set, or those of its files that are not there yet.

    Args:
        name: Its name in `latens.data.published.PUBLISHED`.
        folder: Folder in which the set gets a sub-folder; made if it does not exist.
        say: Told about every file, if given.

    Returns:
        The paths of the files.

    Raises:
        ConfigError: If no set has this name.
        DataError: If no server answers, a file fails its checksum (nothing of it is kept), or
            another file is in the way (it is left alone).
    """
    say = say or (lambda line: None)
    published = find(name)
    target = Path(folder) / published.folder
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    paths = []
    for file in published.files:
        path = target / file.name
        if os.path.lexists(path):
            _check_present(path, file)
            say(f"{path}: already there")
        else:
            say(f"{path}: fetching")
            _download(path, file)
        paths.append(path)
    return paths


def find(name: str) -> Published:
    """The public set of a name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in PUBLISHED:
        raise ConfigError(
            "name", "the name of a known set", name, "`latens data list` shows them."
        )
    return PUBLISHED[name]


def usage(name: str, paths: list[Path]) -> str:
    """Options of `latens run` that read a set, once it lies at `paths`."""
    path = paths[0] if len(paths) == 1 else paths[0].parent
    return find(name).usage.format(path=path)


def checksum(path: Path, file: RemoteFile) -> str:
    """Digest of a file as `file` states it, or what keeps it from being computed."""
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    opener = gzip.open if file.unpacked else open
    try:
        with opener(path, "rb") as stream:
            while block := stream.read(_BYTES):
                digest.update(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"'{error}'"
    return digest.hexdigest()


def _check_present(path: Path, file: RemoteFile) -> None:
    found = "no plain file"
    if path.is_file():
        with explained(path):
            found = checksum(path, file)
    if found != file.checksum:
        raise DataError(
            str(path),
            f"the published file, {file.algorithm} {file.checksum}",
            found,
            "It is left alone: remove it, or choose another --folder.",
        )


def _download(path: Path, file: RemoteFile) -> None:
    """Fetch a file from the first address that has it."""
    troubles = []
    temporary = temporary_beside(path)
    try:
        for url in file.urls:
            trouble = _try_download(temporary, url)
            if trouble is None:
                found = checksum(temporary, file)
                if found == file.checksum:
                    with explained(path):
                        os.replace(temporary, path)
                    return
                trouble = f"a file with {file.algorithm} {found} instead of {file.checksum}"
            troubles.append(f"{trouble} from {url}")
    finally:
        with suppress(OSError):
            temporary.unlink()
    raise DataError(
        str(path),
        "an address that sends the published file",
        "; ".join(troubles),
        "Check the connection and try again; nothing was kept.",
    )


def _try_download(temporary: Path, url: str) -> str | None:
    """Download to a temporary file; what went wrong, or None."""
    import pooch
    import requests

    download = pooch.HTTPDownloader(timeout=TIMEOUT)
    with explained(temporary):
        stream = temporary.open("wb")
    with stream:
        try:
            download(url, stream, None)
            stream.flush()
            os.fsync(stream.fileno())
        except requests.HTTPError as error:
            return f"answer {'unknown' if error.response is None else error.response.status_code}"
        except requests.Timeout:
            return "no answer in time"
        except requests.ConnectionError:
            return "no connection"
        except requests.RequestException as error:
            return f"{type(error).__name__}"
        except OSError as error:  # the disk, not the network
            with explained(temporary):
                raise error
    return None
