"""Files from strangers: damaged ones are explained, hostile ones never execute."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from latens.errors import DataError
from latens.store import read_array, read_json, read_npz, read_yaml

EXECUTED: list[str] = []


class Hostile:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return EXECUTED.append, ("executed",)


@pytest.fixture(autouse=True)
def nothing_executed():
    EXECUTED.clear()
    yield
    assert EXECUTED == []


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), **options)
    return stream.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    content = text.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + body


def refused(read, path: Path, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        read(path, *arguments)
    message = str(caught.value)
    assert caught.value.argument == str(path)
    assert "\n" not in message
    assert len(message) < 1000
    return message


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    np.array(2.5),
    np.array([[True, False]]),
    np.array([1 + 2j], dtype=np.complex64),
    np.array(["a", "σ²"]),
    np.array([b"ab", b"c"]),
    np.arange(5, dtype=np.uint8),
    np.array([np.nan, -0.0, np.inf]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}")
def test_arrays_are_read(tmp_path, array):
    (tmp_path / "a.npy").write_bytes(npy(array))
    np.savez(tmp_path / "a.npz", x=array, other=np.zeros(3))
    np.savez_compressed(tmp_path / "b.npz", x=array)
    for loaded in (
        read_array(tmp_path / "a.npy"),
        read_npz(tmp_path / "a.npz", ["x"])["x"],
        read_npz(tmp_path / "b.npz", ["x"])["x"],
    ):
        assert loaded.dtype == array.dtype
        assert loaded.shape == array.shape
        assert loaded.tobytes() == array.tobytes()
        assert loaded.flags.writeable


def test_byte_order_becomes_that_of_the_machine(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(np.arange(4, dtype=">f4")))
    loaded = read_array(tmp_path / "a.npy")
    assert loaded.dtype.isnative
    assert loaded.tolist() == [0, 1, 2, 3]


def test_large_array_is_read_in_blocks(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, size=2**24 + 12_345, dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=array)
    assert np.array_equal(read_npz(tmp_path / "a.npz", ["x"])["x"], array)


VALID = npy(np.arange(100.0))
BAD_ARRAYS = {
    "empty file": b"",
    "not npy": b"P5 3 3 255 .........",
    "pickle": pickle.dumps(Hostile()),
    "object array": npy(np.array([Hostile(), None]), allow_pickle=True),
    "record with objects": npy(
        np.array([(1, Hostile())], dtype=[("a", "i4"), ("b", "O")]), allow_pickle=True
    ),
    "record": npy(np.zeros(2, dtype=[("a", "i4"), ("b", "f4")])),
    "dates": npy(np.array(["2020-01-01"], dtype="datetime64[D]")),
    "no elements": npy(np.zeros((0, 3))),
    "truncated body": VALID[:-1],
    "truncated header": VALID[:40],
    "only the magic": VALID[:6],
    "trailing bytes": VALID + b"x",
    "version": b"\x93NUMPY\x07\x00" + VALID[8:],
    "negative length": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
    "enormous": header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**18,)}"),
    "enormous literal": header(f"{{'descr':'<f8','fortran_order':False,'shape':({10**18},)}}"),
    "shape is text": header("{'descr': '<f8', 'fortran_order': False, 'shape': 'ab'}"),
    "code": header("__import__('os').system('true')"),
    "missing key": header("{'descr': '<f8', 'shape': (1,)}", b"\0" * 8),
    "odd dtype": header("{'descr': 'no', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8),
    "no width": header("{'descr': '<U0', 'fortran_order': False, 'shape': (5,)}"),
    "deep header": header("(" * 3000),
    "long header": header(" " * 60_000),
}


@pytest.mark.parametrize("content", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays_are_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    refused(read_array, tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("good.npy", VALID)
    refused(read_npz, tmp_path / "a.npz", ["x"])
    assert read_npz(tmp_path / "a.npz", ["good"])["good"].sum() == 4950


def test_reasons_are_named(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(BAD_ARRAYS["object array"])
    assert "could execute code" in refused(read_array, path)
    path.write_bytes(VALID[:-1])
    assert "799 bytes for an array of 800 bytes" in refused(read_array, path)
    path.write_bytes(b"")
    assert "an empty file" in refused(read_array, path)


def test_damaged_bytes_give_an_array_or_one_line(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "a.npy"
    read, refusals = 0, 0
    for _ in range(300):
        content = bytearray(VALID)
        for position in random.integers(0, 128, size=random.integers(1, 4)):
            content[position] = random.integers(256)
        path.write_bytes(content)
        try:
            assert read_array(path).nbytes == 800
            read += 1
        except DataError:
            refused(read_array, path)
            refusals += 1
    assert read > 0
    assert refusals > 100


def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(1000.0))
    content = path.read_bytes()
    assert read_npz(path, ["x"])["x"].sum() == 499_500
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (b"", content[:-30], content[: len(content) // 2], content[100:], flipped):
        path.write_bytes(damaged)
        refused(read_npz, path, ["x"])


def test_members_are_checked(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train=np.ones(2), test=np.zeros(2))
    assert set(read_npz(path, ["test", "train"])) == {"test", "train"}
    assert "no single member 'labels.npy' among: test.npy, train.npy" in refused(
        read_npz, path, ["train", "labels"]
    )
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("train.npy", VALID)
    refused(read_npz, path, ["train"])
    assert read_npz(path, ["test"])["test"].tolist() == [0, 0]


def test_member_that_is_larger_than_it_says(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(10_000))
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("x.npy").file_size
    forged = path.read_bytes().replace(size.to_bytes(4, "little"), (300).to_bytes(4, "little"))
    path.write_bytes(forged)
    refused(read_npz, path, ["x"])


def test_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(100_000), y=np.zeros(10))
    monkeypatch.setattr("latens.store.safe._NPZ_BYTES", 10_000)
    assert "32 GiB" in refused(read_npz, path, ["x"])
    assert read_npz(path, ["y"])["y"].shape == (10,)


@pytest.mark.parametrize("read", [read_json, read_yaml, read_array, lambda p: read_npz(p, ["x"])])
def test_places_that_are_no_files(tmp_path, read):
    assert "got nothing" in refused(read, tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    assert "got a folder" in refused(read, tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    assert "got a special file" in refused(read, tmp_path / "pipe")
    (tmp_path / "empty").write_text("")
    refused(read, tmp_path / "empty")


def test_unreadable_file(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    assert "Check its permissions" in refused(read_json, tmp_path / "a.json")


def test_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xcf\x83"], "b": {"a": true}}')
    assert read_json(path) == {"a": [1, 2.5, None, "σ"], "b": {"a": True}}


BAD_JSON = {
    "not json": "a: 1",
    "twice": '{"a": 1, "a": 2}',
    "twice inside": '{"b": [{"a": 1, "a": 2}]}',
    "NaN": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "truncated": '{"a": [1, 2',
    "two": "{} {}",
    "deep": "[" * 200_000,
    "long number": "9" * 10_000,
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    refused(read_json, tmp_path / "a.json")


def test_text_of_another_encoding_is_refused(tmp_path):
    for read in (read_json, read_yaml):
        (tmp_path / "a").write_bytes('{"a": "σ"}'.encode("utf-16"))
        refused(read, tmp_path / "a")


def test_large_text_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("latens.store.safe._JSON_BYTES", 100)
    monkeypatch.setattr("latens.store.safe._YAML_BYTES", 100)
    (tmp_path / "a").write_text('"' + "x" * 99 + '"')
    for read in (read_json, read_yaml):
        assert "more than 100 bytes" in refused(read, tmp_path / "a")


def test_yaml(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "base: &base {rate: 1e-3, steps: 1_000}\n"
        "model:\n  <<: *base\n  steps: 20\n"
        "again:\n  <<: *base\n"
        "numbers: [1, 1.5, .5, 1E3, -2.e-1, .inf, 0x10]\n"
        "texts: [2020-01-01, 'yes', e3, 1e, '1e-3', σ]\n"
        "rest: [true, null, ~]\n"
    )
    tree = read_yaml(path)
    assert tree["model"] == {"rate": 0.001, "steps": 20}
    assert tree["again"] == tree["base"] == {"rate": 0.001, "steps": 1000}
    assert tree["numbers"] == [1, 1.5, 0.5, 1000.0, -0.2, float("inf"), 16]
    assert [type(value) for value in tree["numbers"]] == [
        int,
        float,
        float,
        float,
        float,
        float,
        int,
    ]
    assert tree["texts"] == ["2020-01-01", "yes", "e3", "1e", "1e-3", "σ"]
    assert tree["rest"] == [True, None, None]


BAD_YAML = {
    "object": "a: !!python/object/apply:os.system ['true']",
    "name": "a: !!python/name:os.system",
    "module": "a: !!python/module:antigravity",
    "own tag": "a: !mine 3",
    "twice": "a: 1\nb: 2\na: 3\n",
    "twice inside": "- b: {c: 1, c: 2}",
    "twice in quotes": "a: 1\n'a': 2\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "tab": "a:\n\tb: 1\n",
    "open bracket": "a: [1, 2",
    "unknown alias": "a: *b",
    "laughs": "\n".join(
        ["a0: &a0 [x, x]"]
        + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    ),
    "circle": "a: &a [*a]",
    "deep": "- " * 5000,
    "deep brackets": "[" * 150 + "]" * 150,
    "list as key": "? [1, 2]\n: 3\n",
    "control character": "a: \x00",
}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_bad_yaml_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    refused(read_yaml, tmp_path / "a.yaml")


def test_line_and_key_are_named(tmp_path):
    (tmp_path / "a.yaml").write_text(BAD_YAML["twice"])
    assert "line 3: the key 'a' twice" in refused(read_yaml, tmp_path / "a.yaml")
    (tmp_path / "a.json").write_text(BAD_JSON["twice"])
    assert "the key 'a' twice" in refused(read_json, tmp_path / "a.json")
