"""Fetching of public sets, from a server on this machine."""

import gzip
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from latens.cli import main
from latens.data.fetch import checksum, fetch
from latens.data.published import PUBLISHED, Published, RemoteFile
from latens.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 5000
PACKED = gzip.compress(CONTENT)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.asked.append(self.path)
        content = server.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + server.missing))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


class _Server(ThreadingHTTPServer):
    content: dict[str, bytes]
    asked: list[str]
    missing = 0
    """Bytes that are promised and not sent."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = _Server(("127.0.0.1", 0), _Handler)
    served.content = {"/a.npz": CONTENT, "/b.gz": PACKED}
    served.asked = []
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def known(server, monkeypatch):
    """A set of two files on the server."""
    base = f"http://127.0.0.1:{server.server_port}"
    files = (
        RemoteFile("a.npz", (f"{base}/a.npz",), "md5", hashlib.md5(CONTENT).hexdigest()),
        RemoteFile(
            "b.gz",
            (f"{base}/elsewhere/b.gz", f"{base}/b.gz"),
            "sha256",
            hashlib.sha256(CONTENT).hexdigest(),
            unpacked=True,
        ),
    )
    published = Published("set", files, "nothing", "CC0", "nobody", "--data.path {path}")
    monkeypatch.setitem(PUBLISHED, "mine", published)
    return published


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_arrive_complete_and_once(tmp_path, server, known):
    paths = fetch("mine", tmp_path / "new" / "data")
    assert [path.name for path in paths] == ["a.npz", "b.gz"]
    assert paths[0].read_bytes() == CONTENT
    assert gzip.decompress(paths[1].read_bytes()) == CONTENT
    assert server.asked == ["/a.npz", "/elsewhere/b.gz", "/b.gz"], "the second mirror helps out"
    again = fetch("mine", tmp_path / "new" / "data")
    assert again == paths
    assert len(server.asked) == 3, "nothing is fetched twice"
    assert names(tmp_path) == ["a.npz", "b.gz"]


def test_a_file_packed_differently_is_the_same_file(tmp_path, server, known):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.gz").write_bytes(gzip.compress(CONTENT, 1, mtime=7))
    fetch("mine", tmp_path)
    assert server.asked == ["/a.npz"]


@pytest.mark.parametrize(
    ("path", "content", "file"),
    [
        ("/a.npz", CONTENT[:-1], "a.npz"),
        ("/a.npz", b"<html>", "a.npz"),
        ("/b.gz", PACKED[:-10], "b.gz"),
        ("/b.gz", gzip.compress(CONTENT[1:]), "b.gz"),
        ("/b.gz", CONTENT, "b.gz"),
    ],
)
def test_a_wrong_checksum_leaves_nothing_behind(tmp_path, server, known, path, content, file):
    server.content[path] = content
    with pytest.raises(DataError, match=re.escape(file)) as caught:
        fetch("mine", tmp_path)
    assert "instead of" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ([] if file == "a.npz" else ["a.npz"])


def test_a_transfer_that_breaks_off_leaves_nothing_behind(tmp_path, server, known):
    server.missing = 10
    with pytest.raises(DataError, match="nothing was kept"):
        fetch("mine", tmp_path)
    assert names(tmp_path) == []


def test_every_address_is_named_where_none_answers(tmp_path, server, known):
    del server.content["/b.gz"]
    with pytest.raises(DataError, match=r"answer 404 from http.*; answer 404 from http"):
        fetch("mine", tmp_path)


def test_no_network(tmp_path, server, known):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="no connection from http"):
        fetch("mine", tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"mine, not yours", CONTENT + b"x"])
def test_another_file_in_the_way_is_left_alone(tmp_path, server, known, content):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="left alone"):
        fetch("mine", tmp_path)
    assert (tmp_path / "set" / "a.npz").read_bytes() == content
    assert server.asked == []


@pytest.mark.parametrize("what", ["folder", "dangling link"])
def test_other_things_in_the_way_are_left_alone(tmp_path, server, known, what):
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "a.npz"
    path.mkdir() if what == "folder" else path.symlink_to("nowhere")
    with pytest.raises(DataError, match="no plain file"):
        fetch("mine", tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path, known):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="another name"):
        fetch("mine", tmp_path / "file")


def test_unknown_name():
    with pytest.raises(ConfigError, match="data list"):
        fetch("imagenet")


def test_command_line(tmp_path, known, capsys):
    assert main(["data", "fetch", "mine", "--folder", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"{tmp_path / 'set' / 'a.npz'}: fetching" in text
    assert "cite: nobody" in text
    assert f"--data.path {tmp_path / 'set'}" in text
    assert main(["data", "fetch", "imagenet"]) == 2
    assert capsys.readouterr().err.startswith("latens: `name`")
    assert main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == len(PUBLISHED)
    for name in ("mnist", "breastmnist", "adrenalmnist3d_64"):
        assert re.search(rf"^{name} ", listed, re.MULTILINE)


def test_known_sets_are_well_formed():
    checksums = []
    for name, published in PUBLISHED.items():
        assert published.licence.startswith("CC BY")
        assert published.citation
        for file in published.files:
            length = {"md5": 32, "sha256": 64}[file.algorithm]
            assert re.fullmatch(rf"[0-9a-f]{{{length}}}", file.checksum)
            assert all(url.startswith("https://") for url in file.urls)
            assert all(url.endswith(file.name) for url in file.urls)
            assert name == "mnist" or file.name == f"{name}.npz"
            checksums.append(file.checksum)
    assert len(set(checksums)) == len(checksums) == 4 + 2 * 18


def test_checksums_of_files_at_hand(shared_data):
    for file in PUBLISHED["mnist"].files:
        assert checksum(shared_data / "mnist" / file.name, file) == file.checksum
    file = PUBLISHED["adrenalmnist3d_64"].files[0]
    assert checksum(shared_data / "medmnist" / file.name, file) == file.checksum
    assert np.load(shared_data / "medmnist" / file.name)["val_images"].shape == (98, 64, 64, 64)
