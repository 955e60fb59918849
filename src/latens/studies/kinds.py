"""The studies by name: what builds one, and what computes one of its units."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from latens.errors import ConfigError
from latens.store import RunFolder
from latens.studies.units import Unit


class Study(Protocol):
    """What the sweep engine needs of a study."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...


@dataclass(frozen=True)
class Kind:
    """One of the studies.

    Attributes:
        study: Class of its configuration.
        compute: Computes a unit and publishes its folder: `(study, run, unit, folder)`.
    """

    study: type
    compute: Callable[[Any, RunFolder, Unit, Path], None]


def kind_of(name: str) -> Kind:
    """The study of this name.

    Raises:
        ConfigError: If there is none.
    """
    if name == "scarcity":
        from latens.studies import scarcity, work

        return Kind(scarcity.Scarcity, work.compute)
    if name == "semisup":
        from latens.studies.semisup import study
        from latens.studies.semisup import work as semisup_work

        return Kind(study.Semisup, semisup_work.compute)
    raise ConfigError("study", "scarcity or semisup", name, "Choose one of them.")
