"""Volume series from and to a table in CSV: one row per visit."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from latens.data.series import VolumeSeries, series_from_visits
from latens.errors import DataError
from latens.types import PathLike


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold a visit.

    Args:
        patient: Name of the patient.
        time: Time of the visit.
        volume: Volume of the lesion; 0 where it cannot be seen.
    """

    patient: str = "patient"
    time: str = "time"
    volume: str = "volume"


def read_series(
    path: PathLike,
    *,
    columns: Columns | None = None,
    limit: float | None = None,
    min_visits: int = 2,
    time_unit: str = "days",
    volume_unit: str = "mm³",
) -> VolumeSeries:
    """Read a table with one row per visit; columns in any order, others ignored.

    Args:
        path: CSV file in UTF-8 with a line of column names.
        columns: Names of the three columns that are read.
        limit: Limit of detection; default: the smallest positive volume of the table.
        min_visits: Visits that every patient must have.
        time_unit: Unit of the times in the file.
        volume_unit: Unit of the volumes in the file.

    Raises:
        DataError: If the file is no such table, a field is empty or no number, or as
            `series_from_visits`.
    """
    named = columns or Columns()
    file = Path(path)
    rows = _rows(file, named)
    patients: list[str] = []
    times: list[float] = []
    volumes: list[float] = []
    for line, row in rows:
        name = (row[named.patient] or "").strip()
        if not name:
            raise DataError(
                str(file), "a patient in every row", f"none in line {line}", "Name the patient."
            )
        patients.append(name)
        times.append(_number(row[named.time], named.time, line, file))
        volumes.append(_number(row[named.volume], named.volume, line, file))
    return series_from_visits(
        patients,
        times,
        volumes,
        limit=limit,
        min_visits=min_visits,
        time_unit=time_unit,
        volume_unit=volume_unit,
        source=str(file),
    )


def _rows(file: Path, named: Columns) -> list[tuple[int, dict[str, str | None]]]:
    if not file.is_file():  # a pipe would never end
        raise DataError(str(file), "a CSV table", "no such file", "Check the path.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            str(file), "a CSV table in UTF-8", error, "Save it as a CSV file in UTF-8."
        ) from error
    wanted = (named.patient, named.time, named.volume)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(
            str(file),
            f"the columns {', '.join(wanted)}",
            f"{', '.join(header) or 'no first line'}",
            "Rename the columns, or say which ones to read.",
        )
    doubled = [name for name in wanted if header.count(name) > 1]
    if doubled:
        raise DataError(
            str(file), "each column once", f"`{doubled[0]}` twice", "Delete one of them."
        )
    if not rows:
        raise DataError(str(file), "one row per visit", "no row", "Add the visits.")
    return rows


def _number(text: str | None, column: str, line: int, file: Path) -> float:
    try:
        value = float((text or "").strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            str(file),
            f"a finite number in column `{column}`",
            f"`{text or ''}` in line {line}",
            "Correct this line, or delete it.",
        )
    return value


@dataclass(frozen=True)
class SeriesFile:
    """A table of volume series, as a setting of a study.

    Args:
        path: CSV file in UTF-8 with one row per visit.
        patient: Column of the patient.
        time: Column of the time.
        volume: Column of the volume.
        limit: Limit of detection, that of the instrument; default: the smallest positive volume,
            in `growth` of the visits that are not forecast.
        time_unit: Unit of the times.
        volume_unit: Unit of the volumes.
    """

    path: str
    patient: str = "patient"
    time: str = "time"
    volume: str = "volume"
    limit: float | None = None
    time_unit: str = "days"
    volume_unit: str = "mm³"

    @property
    def columns(self) -> Columns:
        """Names of the columns."""
        return Columns(self.patient, self.time, self.volume)

    def load(self) -> VolumeSeries:
        """Read the table; see `read_series`."""
        return read_series(
            self.path,
            columns=self.columns,
            limit=self.limit,
            time_unit=self.time_unit,
            volume_unit=self.volume_unit,
        )
