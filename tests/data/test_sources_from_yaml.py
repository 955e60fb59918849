import inspect
import re

import jsonargparse
import pytest

from latens.data import (
    IdxImages,
    MedMnist,
    NiftiFolder,
    NpyFolder,
    PairedFolder,
    Phantoms,
    Source,
    Tiles,
)

SOURCES = {
    Phantoms: {"size": (16, 24), "count": 2, "seed": 5},
    IdxImages: {"images": "a", "labels": "b", "limit": 4, "citation": "c"},
    MedMnist: {"path": "a.npz", "limit": 4, "block": 2, "citation": "c"},
    NiftiFolder: {
        "path": "a",
        "pattern": "./*/*.nii.gz",
        "size": (64, 96),
        "block": 2,
        "slices": 8,
        "slab": 2,
        "scale": "unit",
        "data_range": (0.0, 1.0),
    },
    NpyFolder: {"path": "a", "groups": "g.csv", "data_range": (0.0, 2.0), "limit": 1},
    PairedFolder: {"path": "a", "groups": "g.csv", "data_range": (0.0, 2.0), "limit": 1},
    Tiles: {
        "path": "a",
        "files": ["b.npy"],
        "size": (32, 48),
        "stride": 8,
        "region": 64,
        "window": (-100.0, 200.0),
        "content": 0.25,
    },
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_source_is_configured_by_name(source):
    arguments = SOURCES[source]
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=Source)
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in arguments.items()
    }
    config = {"class_path": f"latens.data.{source.__name__}", "init_args": given}
    made = parser.instantiate(parser.parse_object({"source": config})).source
    assert type(made) is source
    assert {name: getattr(made, name) for name in arguments} == arguments


def arguments_section(source) -> str:
    return inspect.getdoc(source).partition("Args:\n")[2]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_argument_is_documented(source):
    section = arguments_section(source)
    for name in inspect.signature(source).parameters:
        assert re.search(rf"^    {name}: \w+", section, re.MULTILINE), name
