"""Volume series: reading, validation, padding, splitting."""

import math
from pathlib import Path

import pytest
import torch

from latens.data import Columns, VolumeSeries, read_series, series_from_visits
from latens.errors import ConfigError, DataError, ShapeError

TABLE = """volume,note,patient,time
30,x,b,0
100,,a,7.5
0,,a,-3
40,"1, 2",b,14
120,,a,30
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    path.write_text(TABLE)
    return path


def test_rows_in_any_order_become_sorted_padded_series(table: Path) -> None:
    series = read_series(table)
    assert series.patients == ("b", "a")
    assert series.visits.tolist() == [2, 3]
    assert series.times.tolist() == [[0, 14, 0], [-3, 7.5, 30]]
    assert series.volumes.tolist() == [[30, 40, 0], [0, 100, 120]]
    assert series.mask.tolist() == [[True, True, False], [True, True, True]]
    assert series.limit == 30
    assert (series.time_unit, series.volume_unit) == ("days", "mm³")


def test_zeros_are_censored_at_the_limit_and_padding_is_not(table: Path) -> None:
    series = read_series(table, limit=35)
    assert series.censored.tolist() == [[True, False, False], [True, False, False]]
    expected = [[35, 40, 35], [35, 100, 120]]
    torch.testing.assert_close(
        series.log_volumes, torch.tensor(expected, dtype=torch.float64).log()
    )
    assert series.log_limit == math.log(35)


def test_other_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,day,mm3\np,0,1\np,1,2\n")
    series = read_series(path, columns=Columns("id", "day", "mm3"))
    assert series.volumes.tolist() == [[1, 2]]


def test_splitting_keeps_the_last_visit_out_of_the_history(table: Path) -> None:
    history, times, truth = read_series(table).split_last()
    assert history.visits.tolist() == [1, 2]
    assert times.tolist() == [[14], [30]]
    torch.testing.assert_close(truth.exp(), torch.tensor([[40.0], [120.0]]).double())
    assert 120 not in history.volumes
    only, _, _ = read_series(table).split_last(3)
    assert only.patients == ("a",)
    with pytest.raises(DataError, match="at least 4 visits"):
        read_series(table).split_last(4)


def test_taking_patients_drops_padding_that_nobody_needs(table: Path) -> None:
    part = read_series(table).take([0])
    assert part.patients == ("b",)
    assert part.times.shape == (1, 2)
    assert part.limit == 30


def test_a_limit_that_nobody_stated_is_not_decided_by_what_is_forecast() -> None:
    names = ["a", "a", "a", "b", "b", "b", "c", "c"]
    volumes = [9.0, 8.0, 3.0, 0.0, 7.0, 5.0, 6.0, 4.0]
    series = series_from_visits(names, [0, 1, 2, 0, 1, 2, 0, 1], volumes)
    assert series.limit == 3
    found = series.limited_by_history(3)
    assert found.limit == 4  # c has two visits, none of which is forecast
    assert found.censored.tolist() == [
        [False, False, True],
        [True, False, False],
        [False, True, False],
    ]
    assert series.limited_by_history(2).limit == 6
    only_later = series_from_visits(["a", "a"], [0, 1], [0.0, 5.0])
    with pytest.raises(DataError, match=r"before the visits that are forecast.*`limit`"):
        only_later.limited_by_history(2)


BAD = {
    "text in a number column": ("patient,time,volume\na,0,1\na,1,big\n", "`big` in line 3"),
    "empty field": ("patient,time,volume\na,0,1\na,,2\n", "column `time`"),
    "NaN": ("patient,time,volume\na,0,1\na,1,nan\n", "finite number in column `volume`"),
    "infinity": ("patient,time,volume\na,0,1\na,inf,2\n", "finite number in column `time`"),
    "negative volume": ("patient,time,volume\na,0,1\na,1,-2\n", "volumes of 0 or more"),
    "two visits at one time": (
        "patient,time,volume\na,1,1\na,0,1\na,1,5\n",
        "two of `a` at 1 days",
    ),
    "one visit": ("patient,time,volume\na,0,1\na,1,1\nb,0,1\n", "1 of `b`"),
    "no such column": ("patient,time,vol\na,0,1\n", "the columns patient, time, volume"),
    "a column twice": ("patient,time,volume,time\na,0,1,1\na,1,1,1\n", "`time` twice"),
    "no rows": ("patient,time,volume\n", "no row"),
    "empty file": ("", "no first line"),
    "no patient": ("patient,time,volume\n,0,1\n", "none in line 2"),
    "only zeros": ("patient,time,volume\na,0,0\na,1,0\n", "only zeros"),
    "a row too short": ("patient,time,volume\na,0\na,1,2\n", "column `volume`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    text, said = BAD[case]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_series(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_series(tmp_path / "none.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="UTF-8"):
        read_series(path)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="one patient, time and volume per visit"):
        series_from_visits(["a"], [0, 1], [1, 2])
    with pytest.raises(DataError, match="and 1 more such"):
        series_from_visits(["a", "a", "a"], [0, 1, 2], [1, -1, -1])
    good = series_from_visits(["a", "a"], [0, 1], [1, 2])
    with pytest.raises(ConfigError, match="a positive volume"):
        VolumeSeries(good.patients, good.times, good.volumes, good.mask, 0.0)
    with pytest.raises(ShapeError):
        VolumeSeries(("a", "b"), good.times, good.volumes, good.mask, 1.0)
