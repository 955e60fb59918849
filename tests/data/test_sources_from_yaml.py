import inspect
import re

import jsonargparse
import pytest

from latens.data import (
    Augmentation,
    IdxImages,
    LesionGrowth,
    MedMnist,
    NiftiFolder,
    NpyFolder,
    PairedFolder,
    Phantoms,
    PhantomSubjects,
    ShapeFile,
    Source,
    SubjectFolder,
    SubjectSource,
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

SUBJECTS = {
    PhantomSubjects: {"size": (16, 24, 20), "count": 2, "seed": 5},
    SubjectFolder: {
        "path": "a",
        "patterns": {"seg": "{subject}/simple.nii.gz"},
        "modalities": ("t1c", "t2f"),
        "size": (64, 64, 48),
        "spacing": 1.5,
        "labels": (1, 4),
        "no_lesion": "keep",
        "visits": "v.csv",
        "cache": "c",
        "limit": 3,
    },
    ShapeFile: {"path": "a.npz", "block": 2, "spacing": 1.5, "limit": 4},
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_source_is_configured_by_name(source):
    _made_by_name(source, SOURCES[source], Source)


@pytest.mark.parametrize("source", SUBJECTS, ids=lambda source: source.__name__)
def test_every_source_of_subjects_is_configured_by_name(source):
    _made_by_name(source, SUBJECTS[source], SubjectSource)


def test_growth_and_augmentation_are_configured_by_their_fields():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=SubjectSource)
    parser.add_argument("--augmentation", type=Augmentation | None)
    growth = {"visits": 3, "rate": [0.001, 0.002]}
    config = {
        "source": {"class_path": "latens.data.PhantomSubjects", "init_args": {"growth": growth}},
        "augmentation": {"turn": 4.0},
    }
    made = parser.instantiate(parser.parse_object(config))
    assert made.source.growth == LesionGrowth(visits=3, rate=(0.001, 0.002))
    assert made.augmentation == Augmentation(turn=4.0)


def _made_by_name(source, arguments, base):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=base)
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


@pytest.mark.parametrize("source", [*SOURCES, *SUBJECTS], ids=lambda source: source.__name__)
def test_every_argument_is_documented(source):
    section = arguments_section(source)
    for name in inspect.signature(source).parameters:
        assert re.search(rf"^    {name}: \w+", section, re.MULTILINE), name
