"""Tables of results on disk: equal content gives equal bytes."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from latens.errors import DataError
from latens.store.atomic import write_bytes
from latens.store.schemas import Kind, Schema, schema_of
from latens.types import PathLike

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_CORRECT = "Correct the table before it is stored."
_REWRITE = "Run the command that made the file again."
_EVERYTHING: Mapping[str, Sequence[str]] = MappingProxyType({})
_NOUNS = {"int64": "an integer", "Int64": "an integer or a blank", "float64": "a number"}


def from_rows(rows: Iterable[Mapping[str, Any]], schema: str | Schema) -> "pd.DataFrame":
    """Table of a schema from rows; no rows give an empty table.

    Raises:
        DataError: If a row has other keys than the schema has columns, or `conform` fails.
    """
    import pandas as pd

    schema = schema_of(schema)
    rows = list(rows)
    for index, row in enumerate(rows):
        _check_columns(list(row), schema, f"{schema.name} row {index}")
    columns = {
        name: pd.Series([row[name] for row in rows], dtype=object) for name in schema.columns
    }
    return conform(pd.DataFrame(columns), schema)


def conform(frame: "pd.DataFrame", schema: str | Schema) -> "pd.DataFrame":
    """Copy of a table with the columns, kinds, column order and row order of its schema.

    Values are converted only where nothing is lost (`3.0` to `3`).

    Args:
        frame: Table with exactly the columns of the schema, in any order.
        schema: Schema or its name.

    Raises:
        DataError: If a column is missing, unknown, or holds a value of another kind.
    """
    import pandas as pd

    schema = schema_of(schema)
    _check_columns(list(frame.columns), schema, schema.name)
    columns = {
        name: _column(pd.Series(frame[name]).reset_index(drop=True), kind, f"{schema.name}.{name}")
        for name, kind in schema.columns.items()
    }
    table = pd.DataFrame(columns)
    if not schema.sort_by:
        return table
    ties = [name for name in schema.columns if name not in schema.sort_by]
    return table.sort_values([*schema.sort_by, *ties], kind="stable", ignore_index=True)


def write_table(
    folder: PathLike, schema: str | Schema, frame: "pd.DataFrame"
) -> tuple[Path, Path]:
    """Write a table as `<name>.csv` and `<name>.parquet`; see `write_csv`, `write_parquet`.

    Returns:
        The two paths.
    """
    schema = schema_of(schema)
    base = Path(folder)
    return (
        write_csv(base / f"{schema.name}.csv", schema, frame),
        write_parquet(base / f"{schema.name}.parquet", schema, frame),
    )


def write_csv(path: PathLike, schema: str | Schema, frame: "pd.DataFrame") -> Path:
    """Write a table as CSV: floats by `repr`, blanks and NaN as empty fields.

    Raises:
        DataError: If the table does not conform, or the file cannot be written.
    """
    schema = schema_of(schema)
    table = conform(frame, schema)
    columns = [table[name].tolist() for name in schema.columns]
    lines = [csv_line(schema.columns), *map(csv_line, zip(*columns, strict=True))]
    return write_bytes(path, ("\n".join(lines) + "\n").encode("utf-8"))


def write_parquet(path: PathLike, schema: str | Schema, frame: "pd.DataFrame") -> Path:
    """Write a table as Parquet, without the metadata that varies between machines.

    Raises:
        DataError: If the table does not conform, or the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of(schema)
    table = conform(frame, schema)
    columns = {
        name: _arrow(table[name].tolist(), kind, pa) for name, kind in schema.columns.items()
    }
    stream = io.BytesIO()
    pq.write_table(
        pa.table(columns), stream, compression="zstd", version="2.6", store_schema=False
    )
    return write_bytes(path, stream.getvalue())


def read_table(folder: PathLike, schema: str | Schema) -> "pd.DataFrame":
    """Read `<name>.parquet` of a folder, or `<name>.csv` where there is no Parquet file.

    Raises:
        DataError: If neither file exists, or it does not hold this table.
    """
    schema = schema_of(schema)
    base = Path(folder)
    if (base / f"{schema.name}.parquet").is_file():
        return read_parquet(base / f"{schema.name}.parquet", schema)
    return read_csv(base / f"{schema.name}.csv", schema)


def read_csv(path: PathLike, schema: str | Schema) -> "pd.DataFrame":
    """Read a table from CSV, every float with all its digits.

    A last line without its end, left by a machine that lost power, is ignored.

    Raises:
        DataError: If the file is missing or does not hold this table.
    """
    schema = schema_of(schema)
    try:
        text = Path(path).read_bytes().decode("utf-8")
        complete = text[: text.rfind("\n") + 1]
        header, *lines = csv.reader(io.StringIO(complete, newline=""), strict=True)
        _check_columns(header, schema, os.fspath(path))
        rows = [_parse_row(header, line, schema) for line in lines]
    except DataError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, schema, error) from error
    return from_rows(rows, schema)


def read_parquet(
    path: PathLike, schema: str | Schema, where: Mapping[str, Sequence[str]] = _EVERYTHING
) -> "pd.DataFrame":
    """Read a table from Parquet.

    Args:
        path: The file.
        schema: Schema or its name.
        where: By column of text, the values whose rows are read; other rows are left out early,
            which is many times faster than reading them.

    Raises:
        DataError: If the file is missing or does not hold this table.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of(schema)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, schema, error) from error
    _check_columns(table.column_names, schema, os.fspath(path))
    for name, kept in where.items():
        values = set(kept)
        found = [value in values for value in table[name].to_pylist()]
        table = table.filter(pa.array(found, type=pa.bool_()))
    columns = {
        name: pd.Series(table.column(name).to_pylist(), dtype=object) for name in schema.columns
    }
    return conform(pd.DataFrame(columns), schema)


def csv_line(values: Iterable[Any]) -> str:
    """One CSV line without its end: floats by `repr`, blanks and NaN empty."""
    fields = [
        value if isinstance(value, str) else "" if _is_blank(value) else repr(value)
        for value in values
    ]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(fields)
    return stream.getvalue()


def _check_columns(found: Sequence[str], schema: Schema, place: str) -> None:
    import difflib

    missing = [name for name in schema.columns if name not in found]
    unknown = [str(name) for name in found if name not in schema.columns]
    if not missing and not unknown and len(found) == len(schema.columns):
        return
    parts = [f"no {', '.join(missing)}"] if missing else []
    for name in unknown:
        near = difflib.get_close_matches(name, missing, n=1)
        parts.append(f"unknown {name}" + (f" (meant {near[0]}?)" if near else ""))
    expected = f"the columns {', '.join(schema.columns)}"
    raise DataError(place, expected, "; ".join(parts) or "a column twice", _CORRECT)


def _column(column: "pd.Series", kind: Kind, place: str) -> "pd.Series":
    import pandas as pd

    if kind == "str":
        for value in dict.fromkeys(column.tolist()):
            _check_text(value, place)
        return column.astype("str")
    if column.dtype == kind or (column.dtype == "int64" and kind == "Int64"):
        return column.astype(kind)
    values = [_number(value, kind, place) for value in column.tolist()]
    return pd.Series(values, dtype=kind)


def _check_text(value: Any, place: str) -> None:
    # A line break or NUL would tear the line of a CSV file.
    if not isinstance(value, str) or set(value) & {"\n", "\r", "\0"}:
        raise DataError(place, "text on one line", repr(value), _CORRECT)


def _number(value: Any, kind: Kind, place: str) -> Any:
    if _is_blank(value) and kind != "int64":
        return float("nan") if kind == "float64" else None
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        if kind == "float64":
            return float(number)
        # Beyond 2⁵³ a float may already have lost the integer it was.
        exact = isinstance(number, int) or (number.is_integer() and abs(number) <= 2**53)
        if exact and -(2**63) <= number < 2**63:
            return int(number)
    raise DataError(place, _NOUNS[kind], repr(value), _CORRECT)


def _is_blank(value: Any) -> bool:
    # NaN and None by value; pandas.NA by name, since asking pandas would import it.
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ == "NAType"


def _arrow(values: list[Any], kind: Kind, pa: Any) -> "pa.Array":
    if kind == "Int64":
        values = [None if _is_blank(value) else value for value in values]
    dtype = {"str": pa.string(), "float64": pa.float64()}.get(kind, pa.int64())
    return pa.array(values, type=dtype, from_pandas=False)


def _parse_row(header: list[str], line: list[str], schema: Schema) -> dict[str, Any]:
    row = {}
    for name, text in zip(header, line, strict=True):
        kind = schema.columns[name]
        if kind == "str":
            row[name] = text
        elif not text:
            row[name] = None
        else:
            row[name] = float(text) if kind == "float64" else int(text)
    return row


def _unreadable(path: PathLike, schema: Schema, error: Exception) -> DataError:
    got = " ".join(str(error).split()) or type(error).__name__
    return DataError(os.fspath(path), f"a readable table '{schema.name}'", got, _REWRITE)
