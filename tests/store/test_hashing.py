"""Hashes are equal for equal content, differ for different content, and never drift."""

import enum
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latens.errors import ConfigError, DataError
from latens.store import array_fingerprint, canonical_json, content_hash

CONFIG = {
    "model": {"class_path": "latens.models.CVAE", "init_args": {"latent_size": 32, "beta": 1.0}},
    "sizes": [16, 64, 256],
    "optimiser": {"rate": 3e-4, "clip": float("inf"), "amsgrad": False, "name": None},
    "note": "σ-VAE",
}


class Word(enum.StrEnum):
    A = "a"


def test_digest_of_a_configuration_is_fixed():
    assert content_hash(CONFIG) == "2a579a25fe1e0dc5"
    assert content_hash(CONFIG, length=64).startswith(content_hash(CONFIG))
    assert len(content_hash(CONFIG, length=64)) == 64


def test_digest_of_arrays_is_fixed():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert array_fingerprint(array, np.array([True])) == "559d606107c35a35"


def test_canonical_text():
    tree = {"b": (1, 2.0, True, None), "a": {"é": "x", "c": [-0.5, 1e-7, math.inf, -math.inf]}}
    assert canonical_json(tree) == (
        b'{"a":{"c":[-0.5,1e-07,{"$float":"inf"},{"$float":"-inf"}],"\\u00e9":"x"},'
        b'"b":[1,2.0,true,null]}'
    )


def test_hash_does_not_depend_on_the_process():
    code = (
        "from latens.store import content_hash; print(content_hash({'b': {1: 2} and 'x', 'a': 1}))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {content_hash({"a": 1, "b": "x"})}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ((1, (2, 3)), [1, [2, 3]]),
        (np.int64(3), 3),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Word.A, "a"),
    ],
)
def test_equal_content(one, other):
    assert content_hash({"x": one}) == content_hash({"x": other})


def test_different_content():
    values = [1, 1.0, True, "1", None, "None", 0, 0.0, -0.0, False, "", [], {}, [1], {"1": 1}]
    values += [math.inf, "inf", -math.inf, [[]], ["1"], 0.1 + 0.2, 0.3, 2**70, "é", "e\u0301"]
    digests = [content_hash({"x": value}) for value in values]
    for (i, a), (j, b) in itertools.combinations(enumerate(digests), 2):
        assert a != b, (values[i], values[j])
    assert content_hash({"ab": "c"}) != content_hash({"a": "bc"})


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (math.nan, "NaN"),
        (np.float32("nan"), "NaN"),
        (Path("/data"), "pathlib"),
        ({1, 2}, "set"),
        (b"x", "bytes"),
        (np.zeros(2), "ndarray"),
        (1j, "complex"),
        (np.longdouble(1), "longdouble"),
        (print, "builtin"),
        ({1: 2}, "1"),
        ({"$float": "inf"}, "$float"),
    ],
)
def test_values_without_canonical_text_are_named(value, got):
    with pytest.raises(ConfigError) as caught:
        content_hash({"outer": [0, {"inner": value}]})
    assert caught.value.argument == "tree.outer[1].inner"
    assert got in str(caught.value.got)


def test_circle_is_refused():
    tree: dict = {}
    tree["self"] = tree
    with pytest.raises(ConfigError, match="nested levels"):
        content_hash(tree)


@pytest.mark.parametrize("length", [0, 7, 65])
def test_length_of_the_digest(length):
    with pytest.raises(ConfigError, match="length"):
        content_hash({}, length=length)


def test_fingerprint_ignores_layout_and_byte_order():
    array = np.random.default_rng(0).normal(size=(5, 4, 3))
    expected = array_fingerprint(array)
    assert array_fingerprint(np.asfortranarray(array)) == expected
    assert array_fingerprint(array.astype(">f8")) == expected
    assert array_fingerprint(np.concatenate([array, array])[::2][:0], array) != expected
    assert array_fingerprint(np.repeat(array, 2, axis=0)[::2]) == expected
    assert array_fingerprint(array.tolist()) == expected


def test_fingerprint_sees_every_difference():
    array = np.zeros((4, 6))
    changed = array.copy()
    changed[3, 5] = 5e-324
    digests = [
        array_fingerprint(array),
        array_fingerprint(changed),
        array_fingerprint(array.reshape(6, 4)),
        array_fingerprint(array.astype(np.float32)),
        array_fingerprint(array.astype(np.int64)),
        array_fingerprint(array, array),
        array_fingerprint(array[:2], array[2:]),
        array_fingerprint(np.concatenate([array, array])),
        array_fingerprint(np.float64(0)),
        array_fingerprint(np.zeros(1)),
        array_fingerprint(np.zeros(0)),
        array_fingerprint(np.zeros((0, 3))),
        array_fingerprint(),
        array_fingerprint(np.array(["a"])),
    ]
    assert len(set(digests)) == len(digests)


def test_fingerprint_by_blocks_equals_the_whole(monkeypatch):
    array = np.random.default_rng(1).normal(size=(37, 11))
    expected = array_fingerprint(array)
    monkeypatch.setattr("latens.store.hashing._BLOCK", 200)
    assert array_fingerprint(array) == expected


def test_fingerprint_refuses_objects():
    with pytest.raises(DataError, match=r"arrays\[1\]"):
        array_fingerprint(np.zeros(1), np.array([None, {}]))
