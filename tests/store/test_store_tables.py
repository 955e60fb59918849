"""Tables keep their kinds and give equal bytes for equal content."""

import math

import numpy as np
import pandas as pd
import pytest

from latens.errors import DataError
from latens.store import (
    COST,
    CURVES,
    HISTORY,
    METRICS,
    PER_IMAGE,
    SCHEMAS,
    Schema,
    conform,
    from_rows,
    read_csv,
    read_parquet,
    read_table,
    write_csv,
    write_parquet,
    write_table,
)

ROW = {
    "solver": "cvae",
    "n": 64,
    "data_seed": 0,
    "init_seed": 1,
    "metric": "psnr",
    "value": 0.1 + 0.2,
    "lower": 1e-300,
    "upper": math.inf,
    "level": 0.95,
    "images": 8,
    "groups": 8,
    "status": "converged",
    "evaluation": "0123456789abcdef",
}
ROWS = [
    ROW | {"n": 256},
    ROW | {"init_seed": None, "value": math.nan, "lower": math.nan},
    ROW | {"solver": "NA", "status": "", "value": -0.0},
    ROW | {"solver": 'a,"b" ä', "value": 1 / 3, "upper": 5e-324, "data_seed": 2**63 - 1},
    ROW,
]
SMALL = Schema("small", {"key": "str", "count": "Int64", "value": "float64"}, ("key",))
SAMPLES = {"str": ["b", "a", "nan"], "int64": [3, -1, 2], "Int64": [None, 2, 1]}
SAMPLES |= {"float64": [0.1, math.nan, -1e300]}


def sample(schema):
    return pd.DataFrame({name: SAMPLES[kind] for name, kind in schema.columns.items()})


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("rows", [0, 3])
def test_round_trip_through_both_formats(tmp_path, schema, rows):
    table = conform(sample(schema).iloc[:rows], schema)
    assert list(table.columns) == list(schema.columns)
    assert len(table) == rows
    csv, parquet = write_table(tmp_path, schema.name, table)
    assert (csv.name, parquet.name) == (f"{schema.name}.csv", f"{schema.name}.parquet")
    for loaded in (read_csv(csv, schema), read_parquet(parquet, schema)):
        pd.testing.assert_frame_equal(loaded, table, check_exact=True)
        assert list(loaded.dtypes) == list(table.dtypes)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_kinds(schema):
    for rows in (0, 3):
        table = conform(sample(schema).iloc[:rows], schema)
        for name, kind in schema.columns.items():
            assert table[name].dtype == kind
        assert set(schema.sort_by) <= set(schema.columns)


def test_special_values_survive(tmp_path):
    table = from_rows(ROWS, METRICS)
    write_table(tmp_path, METRICS, table)
    for loaded in (read_csv(tmp_path / "metrics.csv", METRICS), read_table(tmp_path, METRICS)):
        assert loaded.solver.tolist() == ["NA", 'a,"b" ä', "cvae", "cvae", "cvae"]
        assert loaded.value.tolist()[1] == 1 / 3
        assert math.copysign(1, loaded.value[0]) == -1
        assert loaded.upper.tolist() == [math.inf, 5e-324, math.inf, math.inf, math.inf]
        assert loaded.data_seed[1] == 2**63 - 1
        assert loaded.init_seed.isna().tolist() == [False, False, False, True, False]
        assert loaded.value.isna().tolist() == [False, False, False, True, False]
        assert loaded.status[0] == ""
        assert loaded.n.tolist() == [64, 64, 64, 64, 256]


def test_text_of_the_csv(tmp_path):
    frame = pd.DataFrame(
        {"key": ["b", "a"], "count": [None, 3], "value": [float("nan"), 0.30000000000000004]}
    )
    write_csv(tmp_path / "small.csv", SMALL, frame)
    text = (tmp_path / "small.csv").read_bytes()
    assert text == b"key,count,value\na,3,0.30000000000000004\nb,,\n"


def test_bytes_depend_on_content_alone(tmp_path):
    random = np.random.default_rng(0)
    table = from_rows(ROWS, METRICS)
    shuffled = table.sample(frac=1.0, random_state=3)[random.permutation(table.columns)]
    shuffled["init_seed"] = shuffled["init_seed"].astype(object)
    shuffled.attrs["note"] = "volatile"
    other = [row | {"value": np.float64(row["value"]), "n": float(row["n"])} for row in ROWS]
    contents = []
    for number, frame in enumerate([table, shuffled, from_rows(reversed(other), METRICS)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        contents.append([path.read_bytes() for path in write_table(folder, METRICS, frame)])
    assert contents[0] == contents[1] == contents[2]
    assert b"pandas" not in contents[0][1]


def test_one_changed_digit_changes_both_files(tmp_path):
    write_table(tmp_path, METRICS, from_rows(ROWS, METRICS))
    before = [(tmp_path / f"metrics.{end}").read_bytes() for end in ("csv", "parquet")]
    changed = [ROW | {"value": math.nextafter(ROW["value"], 1)}, *ROWS[:4]]
    write_table(tmp_path, METRICS, from_rows(changed, METRICS))
    after = [(tmp_path / f"metrics.{end}").read_bytes() for end in ("csv", "parquet")]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_rows_are_sorted_numerically_with_blanks_last():
    rows = [ROW | {"n": n, "init_seed": s} for n in (100, 9, 20) for s in (None, 10, 2)]
    table = from_rows(rows, METRICS)
    assert table.n.tolist() == [9, 9, 9, 20, 20, 20, 100, 100, 100]
    assert [str(seed) for seed in table.init_seed[:3]] == ["2", "10", "<NA>"]


def test_curves_are_sorted_by_line():
    rows = {"solver": ["a", "a", "a"], "metric": ["q", "p", "p"], "n": [1, 16, 4]}
    frame = sample(CURVES).assign(**rows)
    table = conform(frame, CURVES)
    assert list(zip(table.metric, table.n, strict=True)) == [("p", 4), ("p", 16), ("q", 1)]


@pytest.mark.parametrize("schema", [HISTORY, COST])
def test_logs_keep_their_order(schema):
    frame = sample(schema)
    text = "stage" if schema is HISTORY else "unit"
    assert conform(frame, schema)[text].tolist() == ["b", "a", "nan"]


def test_parquet_is_preferred_and_csv_suffices(tmp_path):
    write_csv(tmp_path / "small.csv", SMALL, pd.DataFrame([["a", 1, 1.0]], columns=SMALL.columns))
    assert read_table(tmp_path, SMALL).value.tolist() == [1.0]
    write_parquet(
        tmp_path / "small.parquet", SMALL, pd.DataFrame([["a", 1, 2.0]], columns=SMALL.columns)
    )
    assert read_table(tmp_path, SMALL).value.tolist() == [2.0]


def test_frame_with_a_filtered_index_and_numpy_kinds():
    frame = sample(PER_IMAGE).astype({"n": np.int32, "component": np.uint8}, errors="ignore")
    frame["component"] = np.array([1, 0, 2], dtype=np.uint8)
    frame["value"] = np.array([0.5, 0.25, 2.0], dtype=np.float32)
    frame.index = pd.Index([7, 7, 3])
    table = conform(frame, PER_IMAGE)
    assert table.index.tolist() == [0, 1, 2]
    assert table.component.tolist() == [0, 1, 2]
    assert table.value.tolist() == [0.25, 0.5, 2.0]
    assert frame.index.tolist() == [7, 7, 3]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("n", 3.5, "an integer"),
        ("n", None, "an integer"),
        ("n", math.nan, "an integer"),
        ("n", True, "an integer"),
        ("n", "3", "an integer"),
        ("n", 2.0**60, "an integer"),
        ("n", 2**63, "an integer"),
        ("n", np.array([1, 2]), "an integer"),
        ("init_seed", 0.5, "an integer or a blank"),
        ("init_seed", math.inf, "an integer or a blank"),
        ("value", "high", "a number"),
        ("value", True, "a number"),
        ("value", 1j, "a number"),
        ("solver", None, "text on one line"),
        ("solver", 3, "text on one line"),
        ("solver", "a\nb", "text on one line"),
        ("solver", "a\rb", "text on one line"),
    ],
)
def test_values_of_another_kind_are_refused(column, value, rule):
    with pytest.raises(DataError) as caught:
        from_rows([ROW, ROW | {column: value}], METRICS)
    assert caught.value.argument == f"metrics.{column}"
    assert caught.value.expected == rule
    assert "\n" not in str(caught.value)


def test_wrong_columns_are_named():
    frame = from_rows([ROW], METRICS)
    with pytest.raises(DataError, match="no status"):
        conform(frame.drop(columns="status"), METRICS)
    with pytest.raises(DataError, match=r"unknown valeu \(meant value\?\)"):
        conform(frame.rename(columns={"value": "valeu"}), METRICS)
    with pytest.raises(DataError, match="a column twice"):
        conform(pd.concat([frame, frame[["n"]]], axis=1), METRICS)
    with pytest.raises(DataError, match="metrics row 1"):
        from_rows([ROW, {k: v for k, v in ROW.items() if k != "lower"}], METRICS)
    with pytest.raises(DataError, match="metric_definitions"):
        conform(frame, "metrik")


def test_nothing_is_written_when_a_table_does_not_conform(tmp_path):
    with pytest.raises(DataError):
        write_table(tmp_path, METRICS, pd.DataFrame({"solver": ["a"]}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "key,count\na,1\n",
        "key,count,value\na,1\n",
        "key,count,value\na,1,2.0,3\n",
        "key,count,value\na,one,2.0\n",
        "key,count,value\na,1.5,2.0\n",
        "key,count,value\na,1,high\n",
        'key,count,value\n"a,1,2.0\n',
        "key,key,count,value\na,a,1,2.0\n",
        b"\xff\xfe",
    ],
)
def test_damaged_csv_is_refused(tmp_path, text):
    path = tmp_path / "small.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"small") as caught:
        read_table(tmp_path, SMALL)
    assert "\n" not in str(caught.value)


def test_line_without_its_end_is_ignored(tmp_path):
    (tmp_path / "small.csv").write_text("key,count,value\na,1,2.5\nb,2,0.")
    assert read_table(tmp_path, SMALL).key.tolist() == ["a"]


def test_damaged_parquet_is_refused(tmp_path):
    path = write_parquet(tmp_path / "metrics.parquet", METRICS, from_rows(ROWS, METRICS))
    content = path.read_bytes()
    for damaged in (b"", b"PAR1", content[:-20], content[: len(content) // 2], b"x" * 500):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"metrics\.parquet") as caught:
            read_table(tmp_path, METRICS)
        assert "\n" not in str(caught.value)
    pd.DataFrame({"solver": [["nested"]]}).to_parquet(path)
    with pytest.raises(DataError, match="no n, data_seed"):
        read_table(tmp_path, METRICS)


def test_missing_table(tmp_path):
    with pytest.raises(DataError, match=r"curves\.csv"):
        read_table(tmp_path, CURVES)


def test_rows_that_are_not_asked_for_are_left_out(tmp_path):
    rows = [
        {"stage": stage, "step": i, "quantity": quantity, "value": float(i)}
        for i, (stage, quantity) in enumerate([("fit", "a"), ("fit", "b"), ("flow", "a")])
    ]
    file = write_parquet(tmp_path / "history.parquet", HISTORY, from_rows(rows, HISTORY))
    found = read_parquet(file, HISTORY, {"quantity": ["a"], "stage": ["flow", "none"]})
    assert found["step"].tolist() == [2]
    assert read_parquet(file, HISTORY, {"quantity": []}).empty
    assert len(read_parquet(file, HISTORY)) == 3
