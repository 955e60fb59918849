"""The units of a run of `latens evaluate`: recorded reconstructions at their place in a sweep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from latens.errors import ConfigError
from latens.evaluation import Cell, Check
from latens.problems import NoiseModel, Operator
from latens.store import RunFolder, content_hash, major_versions, read_json
from latens.studies.units import EVALUATION_VERSION, kind_of_check
from latens.types import Shape

STUDY = "evaluate"
"""Name of the study in `run.json`."""

ALGORITHM = "recorded"


class Stated:
    """What a person states about reconstructions, beside the files.

    Args:
        operator: Measurement operator; the shape of the signal is filled in. None if unknown.
        noise: Noise model with its level; None if unknown.
        checks: Deep checks; of recorded reconstructions `calibration` and `null_space` apply.
        checked_images: Test images, evenly spread, that they use.
    """

    def __init__(
        self,
        operator: Callable[[Shape], Operator] | None = None,
        noise: NoiseModel | None = None,
        checks: list[Check] = [],  # noqa: B006
        checked_images: int = 50,
    ) -> None:
        self.operator = operator
        self.noise = noise
        self.checks = checks
        self.checked_images = checked_images
        if (operator is None) != (noise is None):
            raise ConfigError(
                "operator, noise",
                "both or neither",
                "one of them",
                "State both, such as --operator latens.problems.GaussianBlur --operator.width 1.5 "
                "--noise latens.problems.GaussianNoise --noise.scale 0.05.",
            )
        if checked_images < 1:
            raise ConfigError("checked_images", "1 or more", checked_images, "Raise it.")


@dataclass(frozen=True)
class RecordedUnit:
    """Reconstructions of one solver at one place, and what is asked of them.

    Attributes:
        place: Solver, N and seeds.
        content: Fingerprint of every array that the numbers come from, by name.
        problem: Resolved configuration of operator and noise.
        check: Deep check; empty for the core metrics.
        images: Number of images that a check uses; None for all.
    """

    place: Cell
    content: dict[str, str]
    problem: dict[str, Any]
    check: str = ""
    images: int | None = None

    @property
    def kind(self) -> str:
        """What its cost is listed under."""
        return kind_of_check(self.check)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the numbers, and the place that they belong to."""
        return {
            "unit": "evaluation",
            "algorithm": ALGORITHM,
            "solver": self.place.solver,
            "n": self.place.n,
            "data_seed": self.place.data_seed,
            "init_seed": self.place.init_seed,
            "content": self.content,
            "problem": self.problem,
            "check": self.check,
            "images": self.images,
            "result_version": EVALUATION_VERSION,
            "versions": major_versions(),
        }

    @cached_property
    def hash(self) -> str:
        """Name of the unit's folder."""
        return content_hash(self.identity)

    @property
    def cell(self) -> Cell:
        """Its place, with its hash."""
        place = self.place
        return Cell(place.solver, place.n, place.data_seed, place.init_seed, self.hash)

    def description(self) -> dict[str, Any]:
        """Content of `evaluation.json`."""
        return {
            "solver": self.place.solver,
            "n": self.place.n,
            "data_seed": self.place.data_seed,
            "init_seed": self.place.init_seed,
            "algorithm": ALGORITHM,
            "check": self.check,
            "fits": [],
            "note": "",
            "identity": self.identity,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class Finished:
    """A unit that lies in a run folder.

    Attributes:
        hash: Its name.
        cell: Its place.
        check: Deep check; empty for the core metrics.
        needs: Fits behind it: none.
    """

    hash: str
    cell: Cell
    check: str
    needs: tuple[str, ...] = ()

    @property
    def solver(self) -> str:
        """Name of the solver."""
        return self.cell.solver

    @property
    def n(self) -> int:
        """Number of pairs it was made from."""
        return self.cell.n


def finished_units(run: RunFolder) -> Iterator[Finished]:
    """Everything that was evaluated in a run of `latens evaluate`."""
    for hash in run.finished_evaluations():
        entry = read_json(run.evaluation(hash) / "evaluation.json")
        cell = Cell(entry["solver"], entry["n"], entry["data_seed"], entry["init_seed"], hash)
        yield Finished(hash, cell, entry["check"])
