"""Scans and series that cannot be used: one line, exit code 2, nothing half-written."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from latens.cli import main
from stand_ins.spoiled_scans import BAD
from stand_ins.subject_scans import SHAPE, subject

STUDY = ["run", "growth", "--stage", "exp1", "--preset", "folder", "--data.size", "[16, 16, 16]"]
STUDY += ["--data.spacing", "3"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    subject(folder, "a")
    return folder


def refused(data: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line that a study of the folder prints."""
    cache = out.with_name("cache")
    arguments = [*STUDY, "--data.path", str(data), "--data.cache", str(cache), "--out", str(out)]
    assert main([*arguments, *more]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    assert not out.exists()
    assert not cache.exists() or not list(cache.iterdir())
    return message


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_files(spoil, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(sound, data)
    spoil(data / "a")
    message = refused(data, tmp_path / "run", capsys)
    assert re.search(BAD[spoil][1], message), message


def test_an_empty_segmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject(tmp_path / "data", "a", lesion=np.zeros(SHAPE))
    arguments = ["--data.path", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert main([*STUDY, *arguments]) == 2
    message = capsys.readouterr().err
    assert "an empty segmentation" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("scan,day\na,soon\n", "day"),
        ("scan,day\n", "a"),
    ],
)
def test_days_that_cannot_be(
    rows: str, said: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(sound, data)
    (data / "visits.csv").write_text(rows)
    message = refused(data, tmp_path / "run", capsys)
    assert "visits.csv" in message
    assert said in message


def test_two_visits_on_one_day(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for visit in ("000", "001"):
        shutil.copytree(sound / "a", data / "a" / visit)
        for file in (data / "a" / visit).iterdir():
            file.rename(file.with_name(file.name.replace("a-", f"a-{visit}-")))
    (data / "visits.csv").write_text("scan,day\na/000,5\na/001,5\n")
    message = refused(data, tmp_path / "run", capsys)
    assert "day" in message or "visit" in message


def test_no_subject_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    assert str(tmp_path / "data") in refused(tmp_path / "data", tmp_path / "run", capsys)


def test_too_few_subjects_to_hold_some_out(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data.path", str(sound), "--out", str(tmp_path / "run")]
    assert main([*STUDY, *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,0,10\na,0,12\na,5,13\n", "two of `a` at 0 days"),
        ("a,0,10\na,4,-3\n", "volumes of 0 or more"),
        ("a,0,10\na,4,nan\n", "a finite number"),
        ("a,0,10\na,,9\n", "column `time`"),
        ("a,0,0\na,4,0\n", "a positive volume"),
        ("a,0,10\n", "at least 2 visits"),
        (",0,10\n,4,3\n", "a patient in every row"),
    ],
)
def test_series(rows: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "series.csv"
    table.write_text("patient,time,volume\n" + rows)
    out = tmp_path / "run"
    assert main(["run", "growth", "--data.path", str(table), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not out.exists()
