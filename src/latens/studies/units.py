"""The two kinds of results, and their names: a fit, and an evaluation of fits.

A unit is named by the hash of everything that determines it. Running a unit that is finished
does nothing; running it elsewhere gives the same name.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from latens.evaluation import Cell
from latens.store import content_hash, major_versions

RESULT_VERSION = 5
"""Raised when a change of latens changes the weights of equal configurations."""

EVALUATION_VERSION = 7
"""Raised when it changes what is measured of equal weights."""


@dataclass(frozen=True)
class Setting:
    """What all units of a study share.

    Attributes:
        data: Fingerprint of the images (and measurements) before the split.
        problem: Resolved configuration of operator and noise.
        split: Test size and the seeds of split and simulated noise.
        training: Resolved training settings.
    """

    data: str
    problem: dict[str, Any]
    split: dict[str, int]
    training: dict[str, Any]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Part of every unit's identity."""
        return {
            "data": self.data,
            "problem": self.problem,
            "split": self.split,
            "result_version": RESULT_VERSION,
            "versions": major_versions(),
        }


@dataclass(frozen=True)
class FitUnit:
    """One model trained on one subset from one initialisation.

    Attributes:
        name: Name of the model in the study; not part of the identity.
        model: Resolved configuration of the model.
        n: Size asked for.
        data_seed: Seed of the subset.
        init_seed: Seed of the initial weights.
    """

    setting: Setting
    name: str
    model: dict[str, Any]
    n: int
    data_seed: int
    init_seed: int

    kind = "fit"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the weights."""
        return {
            "unit": "fit",
            "model": self.model,
            "training": self.setting.training,
            "n": self.n,
            "data_seed": self.data_seed,
            "init_seed": self.init_seed,
            **self.setting.identity,
        }

    @cached_property
    def hash(self) -> str:
        """Name of the unit's folder."""
        return content_hash(self.identity)

    @property
    def needs(self) -> tuple[str, ...]:
        """Fits that must be finished first: none."""
        return ()

    @property
    def cell(self) -> Cell:
        """Place in the sweep."""
        return Cell(self.name, self.n, self.data_seed, self.init_seed, self.hash)


def kind_of_check(check: str) -> str:
    """What the cost of an evaluation is listed under: its deep check, if it is one."""
    return f"check: {check}" if check else "evaluation"


@dataclass(frozen=True)
class EvaluationUnit:
    """One solver, made of fits or of a classical algorithm, on the test set.

    Attributes:
        solver: Name of the solver in every table.
        algorithm: `amortised`, `regression`, `dropout`, `ensemble` or a classical one.
        fits: The fits it is made of, in order of their initialisation.
        n: Size asked for.
        data_seed: Seed of the subset.
        init_seed: Seed of the initialisation; None where several are combined.
        note: A warning that belongs beside the name in every report.
        images: Number of test images it is evaluated on; None for all.
        check: Deep check that is carried out; empty for the core metrics.
        conformal: Method by which its intervals are calibrated; empty for none.
        donor: Fit whose worst cases are tried on a solver that cannot be attacked itself.
        others: Name and content of the images of another kind that it is shown; empty for none.
    """

    setting: Setting
    solver: str
    algorithm: str
    fits: tuple[FitUnit, ...]
    n: int
    data_seed: int
    init_seed: int | None
    note: str = ""
    images: int | None = None
    check: str = ""
    conformal: str = ""
    donor: FitUnit | None = None
    others: str = ""

    @property
    def kind(self) -> str:
        """What its cost is listed under."""
        return kind_of_check(self.check)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the numbers."""
        return {
            "unit": "evaluation",
            "evaluation_version": EVALUATION_VERSION,
            "algorithm": self.algorithm,
            "fits": [fit.hash for fit in self.fits],
            "n": self.n,
            "data_seed": self.data_seed,
            **({} if self.images is None else {"images": self.images}),
            **({"check": self.check} if self.check else {}),
            **({"conformal": self.conformal} if self.conformal else {}),
            **({"donor": self.donor.hash} if self.donor else {}),
            **({"others": self.others} if self.others else {}),
            **self.setting.identity,
        }

    @cached_property
    def hash(self) -> str:
        """Name of the unit's folder."""
        return content_hash(self.identity)

    @property
    def needs(self) -> tuple[str, ...]:
        """Hashes of the fits that must be finished first."""
        donors = () if self.donor is None else (self.donor,)
        return tuple(dict.fromkeys(fit.hash for fit in (*self.fits, *donors)))

    @property
    def cell(self) -> Cell:
        """Place in the sweep."""
        return Cell(self.solver, self.n, self.data_seed, self.init_seed, self.hash)

    def description(self) -> dict[str, Any]:
        """Content of `evaluation.json` beside the identity: what a reader looks for."""
        place = asdict(self.cell)
        place.pop("evaluation")
        return {
            **place,
            "algorithm": self.algorithm,
            "check": self.check,
            "fits": [fit.hash for fit in self.fits],
            "note": self.note,
            "identity": self.identity,
            "problem": self.setting.problem,
        }


Unit = FitUnit | EvaluationUnit
