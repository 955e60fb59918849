"""How a fit or an evaluation ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from latens.errors import DataError
from latens.store.atomic import write_json
from latens.store.safe import read_json
from latens.types import PathLike

_FILE = "outcome.json"


class Status(StrEnum):
    """The word that every result carries."""

    CONVERGED = "converged"
    """The validation optimum was passed."""
    STOPPED = "stopped"
    """The budget ended first; still usable."""
    UNMIXED = "unmixed"
    """Chains disagree or are too few, or an approximation has no maximum to stand on."""
    COLLAPSED = "collapsed"
    """The latent code carries no information."""
    DIVERGENT = "divergent"
    """The loss or a chain left its range."""
    NAN = "nan"
    """A number that is not finite appeared."""
    FAILED = "failed"
    """An error ended the computation."""


USABLE = (Status.CONVERGED, Status.STOPPED)
"""Statuses of results that may enter curves."""


def worst_status(statuses: Iterable[Status]) -> Status:
    """The status that a reader must know about, of several."""
    return max(statuses, key=list(Status).index)


@dataclass(frozen=True)
class Outcome:
    """Status of a finished unit, stored in its `outcome.json`.

    Args:
        status: Status or its word.
        message: One line for the reader, empty if there is nothing to add.
        step: Optimiser step at which it ended, if it has one.
        statistics: Numbers that led to the status; NaN and infinities are allowed.

    Raises:
        DataError: If the status is not one of the known words.
    """

    status: Status
    message: str = ""
    step: int | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            status = Status(self.status)
        except ValueError as error:
            words = ", ".join(Status)
            raise DataError(
                "status", f"one of {words}", repr(self.status), "Correct the word."
            ) from error
        object.__setattr__(self, "status", status)
        numbers = {str(name): float(value) for name, value in self.statistics.items()}
        object.__setattr__(self, "statistics", numbers)

    @property
    def usable(self) -> bool:
        """Whether the result may enter curves: converged, or stopped by the budget."""
        return self.status in USABLE

    def write(self, folder: PathLike) -> Path:
        """Write `outcome.json` into a folder.

        Raises:
            DataError: If the file cannot be written.
        """
        tree = {
            "status": self.status.value,
            "message": self.message,
            "step": self.step,
            # JSON has no NaN: numbers that are not finite are written as text.
            "statistics": {
                name: value if abs(value) < float("inf") else str(value)
                for name, value in self.statistics.items()
            },
        }
        return write_json(Path(folder) / _FILE, tree)

    @classmethod
    def read(cls, folder: PathLike) -> "Outcome":
        """Read `outcome.json` of a folder.

        Raises:
            DataError: If the file is missing or is not an outcome.
        """
        path = Path(folder) / _FILE
        tree = read_json(path)
        match tree:
            case {
                "status": str(status),
                "message": str(message),
                "step": int() | None as step,
                "statistics": dict(statistics),
            } if len(tree) == 4 and not isinstance(step, bool):
                try:
                    return cls(Status(status), message, step, statistics)
                except (TypeError, ValueError) as error:
                    raise _not_an_outcome(path, error) from error
        raise _not_an_outcome(path, "another content")


def _not_an_outcome(path: Path, got: object) -> DataError:
    return DataError(
        str(path),
        "status, message, step and statistics of a finished unit",
        got,
        "Delete the folder around it, and the next run computes it again.",
    )
