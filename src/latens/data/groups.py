"""The table that says which patient or specimen each image file belongs to."""

import csv
from pathlib import Path

from latens.errors import DataError

GROUPS_FILE = "groups.csv"


def find_groups(folder: Path, table: str | None, names: list[str]) -> tuple[str, ...]:
    """Group of each file, from a table of groups if there is one.

    Args:
        folder: Folder of the images, where `groups.csv` is looked for.
        table: Path of the table, if the caller named one.
        names: File names of the images.

    Returns:
        One group per name; their positions as text where there is no table.

    Raises:
        DataError: If the table cannot be read, or does not name exactly these files.
    """
    path = folder / GROUPS_FILE if table is None else Path(table)
    if table is None and not path.exists():
        return tuple(str(i) for i in range(len(names)))
    assigned = read_groups(path)
    unknown = [name for name in assigned if name not in set(names)]
    missing = [name for name in names if name not in assigned]
    if unknown or missing:
        raise DataError(
            str(path),
            "one row for every image and no other",
            f"no row for {shorten(missing)}" if missing else f"no image {shorten(unknown)}",
            "Make the column `file` list the file names, such as img1.npy.",
        )
    return tuple(assigned[name] for name in names)


def read_groups(path: Path) -> dict[str, str]:
    """File → group, from a CSV table with the columns `file` and `group`.

    Raises:
        DataError: If the file is missing or not such a table, or names a file twice.
    """
    if not path.is_file():  # a pipe would never end
        raise DataError(str(path), "a CSV table", "no such file", "Check the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            str(path), "a CSV table in UTF-8", error, "Save it as a CSV file in UTF-8."
        ) from error
    if not rows or not {"file", "group"} <= rows[0].keys():
        columns = ", ".join(str(name) for name in rows[0]) if rows else "no row"
        raise DataError(
            str(path),
            "a table with the columns `file` and `group`",
            columns,
            "Give the table a first line that reads file,group.",
        )
    assigned: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        file, group = (row["file"] or "").strip(), (row["group"] or "").strip()
        if not file or not group or file in assigned:
            raise DataError(
                str(path),
                "a file and a group in every row, each file once",
                f"`{file}`, `{group}` in line {line}",
                "Correct this line.",
            )
        assigned[file] = group
    return assigned


def shorten(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
