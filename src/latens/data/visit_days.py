"""The table that says on which day each scan of a folder of subjects was made."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from latens.data.groups import shorten
from latens.errors import DataError

VISITS_FILE = "visits.csv"


def read_days(path: Path, groups: Mapping[str, str]) -> list[float]:
    """Day of each scan, from a CSV table with the columns `scan` and `day`.

    Args:
        path: The table.
        groups: Name of each scan → its subject, in the order wanted.

    Raises:
        DataError: If the table is damaged, lacks a scan, names one twice, has a day that is no
            number, or two visits of a subject on one day.
    """
    days: dict[str, float] = {}
    for line, row in enumerate(_rows(path), start=2):
        name = (row["scan"] or "").strip()
        try:
            day = float(row["day"] or "")
        except ValueError:
            day = math.nan
        if not name or name in days or not math.isfinite(day):
            raise DataError(
                str(path),
                "a scan and a finite day in every row, each scan once",
                f"`{name}`, `{row['day']}` in line {line}",
                "Correct this line.",
            )
        days[name] = day
    missing = [name for name in groups if name not in days]
    if missing:
        raise DataError(
            str(path),
            "one row for every scan",
            f"no row for {shorten(missing)}",
            "Make the column `scan` list the names of scans, such as subject/visit.",
        )
    seen: dict[tuple[str, float], str] = {}
    for name, subject in groups.items():
        other = seen.setdefault((subject, days[name]), name)
        if other != name:
            raise DataError(
                str(path),
                "one visit of a subject at a time",
                f"`{other}` and `{name}` on day {days[name]:g}",
                "Correct one of the days, or leave one scan out.",
            )
    return [days[name] for name in groups]


def _rows(path: Path) -> Sequence[Mapping[str, str | None]]:
    if not path.is_file():  # a pipe would never end
        raise DataError(str(path), "a CSV table", "no such file", "Check the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            str(path), "a CSV table in UTF-8", error, "Save it as a CSV file in UTF-8."
        ) from error
    if not rows or not {"scan", "day"} <= rows[0].keys():
        columns = ", ".join(str(name) for name in rows[0]) if rows else "no row"
        raise DataError(
            str(path),
            "a table with the columns `scan` and `day`",
            columns,
            "Give the table a first line that reads scan,day.",
        )
    return rows
