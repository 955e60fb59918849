"""Outcomes survive their file, and damaged files say so."""

import json
import math

import pytest

from latens.errors import DataError
from latens.store import Outcome, Status, write_json


def test_words_are_those_of_the_tables():
    assert [str(status) for status in Status] == [
        "converged",
        "stopped",
        "unmixed",
        "collapsed",
        "divergent",
        "nan",
        "failed",
    ]


def test_usable():
    usable = [status.value for status in Status if Outcome(status).usable]
    assert usable == ["converged", "stopped"]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Status.CONVERGED),
        Outcome(Status.COLLAPSED, "KL 1.2 nats", 400, {"kl": 1.2, "active_units": 0}),
        Outcome(Status.NAN, "σ\n", 0, {"loss": math.inf, "other": -math.inf}),
    ],
)
def test_round_trip(tmp_path, outcome):
    path = outcome.write(tmp_path)
    assert path == tmp_path / "outcome.json"
    assert Outcome.read(tmp_path) == outcome


def test_nan_survives(tmp_path):
    Outcome(Status.NAN, step=7, statistics={"loss": math.nan}).write(tmp_path)
    assert "NaN" not in (tmp_path / "outcome.json").read_text()
    loaded = Outcome.read(tmp_path)
    assert math.isnan(loaded.statistics["loss"])
    assert loaded.step == 7
    assert loaded.status is Status.NAN


def test_words_become_statuses():
    assert Outcome("stopped").status is Status.STOPPED  # type: ignore[arg-type]
    with pytest.raises(DataError, match="converged, stopped"):
        Outcome("fine")  # type: ignore[arg-type]


GOOD = {"status": "failed", "message": "", "step": None, "statistics": {}}


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {},
        GOOD | {"status": "fine"},
        GOOD | {"status": 3},
        GOOD | {"step": "7"},
        GOOD | {"step": True},
        GOOD | {"message": None},
        GOOD | {"statistics": {"a": "x"}},
        GOOD | {"statistics": {"a": None}},
        GOOD | {"extra": 1},
    ],
)
def test_damaged_outcomes_are_refused(tmp_path, tree):
    write_json(tmp_path / "outcome.json", GOOD)
    assert Outcome.read(tmp_path).status is Status.FAILED
    (tmp_path / "outcome.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"outcome\.json.*Delete the folder") as caught:
        Outcome.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_outcome(tmp_path):
    with pytest.raises(DataError, match=r"outcome\.json"):
        Outcome.read(tmp_path)
