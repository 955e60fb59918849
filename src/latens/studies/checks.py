"""The deep checks of a study: each is an evaluation of its own, on few images.

| check | asks |
|---|---|
| `calibration` | are ranks of the truth uniform, on held-out and on simulated pairs? |
| `stability` | how far does the worst disturbance of the measurement move the reconstruction? |
| `null_space` | which errors lie where the measurement says nothing, and are they flagged? |
| `reliability` | does the solver notice blur, noise and images that it was not made for? |

They apply to posteriors, to solvers that can be differentiated, to linear operators, and to known
problems, in this order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from latens.data import ImageSet
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.evaluation import (
    Cell,
    Context,
    Evaluation,
    Examples,
    KernelWidth,
    MagnitudeNoise,
    NoiseLevel,
    OtherImages,
    PhotonNoise,
    Shift,
    calibration_tests,
    reliability,
)
from latens.evaluation.measure import Rows
from latens.evaluation.null_space import measure_null_space
from latens.evaluation.stability import StabilitySettings, measure_stability
from latens.inference import CLASSICAL, Solver
from latens.problems import InverseProblem, LinearOperator
from latens.store import (
    METRICS,
    PER_IMAGE,
    RANK_CURVES,
    RISK_COVERAGE,
    SHIFTS,
    TESTS,
    Outcome,
    Status,
    write_array,
    write_csv,
    write_json,
    write_parquet,
)

if TYPE_CHECKING:
    import pandas as pd

Check = Literal["calibration", "stability", "null_space", "reliability"]

HALLUCINATION = 0.1
"""Error in the null space that counts as a hallucination, as a share of the data range."""

BASELINE = "tikhonov"
"""Classical solver that is attacked in the same way."""

SIMULATED = 200
"""Images simulated from a model that a solver declares."""


@dataclass(frozen=True)
class Subject:
    """A solver at its place in a sweep, and the images that it is checked on.

    Attributes:
        cell: Name and place.
        solver: The solver.
        problem: Operator and noise; None where they are unknown.
        images: Test images with measurements.
        context: Range, directions and problem.
        keys: Place of each image in the test set.
        pairs: Signals and measurements of the subset that the solver was made from.
    """

    cell: Cell
    solver: Solver
    problem: InverseProblem | None
    images: ImageSet
    context: Context
    keys: tuple[int, ...]
    pairs: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        evaluation: Metrics with their rows per image; None where the check has tables alone.
        tables: Tables of `latens.store` by the name of their schema.
        curves: The same for tables that belong to pictures and are not gathered.
        arrays: Pictures by name, image axis first.
        facts: Numbers that say how the check was done.
    """

    evaluation: Evaluation | None = None
    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    curves: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    arrays: dict[str, NDArray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def _calibration(subject: Subject) -> Checked:
    images = subject.images
    assert images.y is not None
    found = calibration_tests(
        subject.solver,
        subject.problem,
        images.x,
        images.y,
        directions=subject.context.directions,
        groups=images.groups,
        simulated=SIMULATED,
    )
    table = _joined([tests.table(subject.cell) for tests in found])
    curves = _joined([tests.curves(subject.cell) for tests in found])
    verdicts = {tests.source: tests.verdict for tests in found}
    return Checked(
        tables={TESTS.name: table},
        curves={RANK_CURVES.name: curves},
        facts={"verdicts": verdicts},
    )


def _stability(subject: Subject) -> Checked:
    images, problem = subject.images, _known(subject)
    assert images.y is not None
    linear = isinstance(problem.operator, LinearOperator)
    found = measure_stability(
        subject.solver,
        problem,
        images.x,
        images.y,
        subject.keys,
        seed=0,
        settings=StabilitySettings(),
        baseline=CLASSICAL[BASELINE].fit(problem, *subject.pairs) if linear else None,
        examples=4,
    )
    evaluation = _evaluation(subject, found.rows, found.used, found.examples)
    facts = {**found.diagnostics, "images": list(found.examples.images)}
    return Checked(evaluation, arrays=found.examples.arrays, facts=facts)


def _null_space(subject: Subject) -> Checked:
    images = subject.images
    assert images.y is not None
    threshold = HALLUCINATION * subject.context.data_range
    found = measure_null_space(
        subject.solver,
        _known(subject),
        images.x,
        images.y,
        subject.keys,
        seed=0,
        threshold=threshold,
        examples=4,
    )
    evaluation = _evaluation(subject, found.rows, tuple(range(len(images.x))), found.examples)
    facts = {
        "rank": found.rank,
        "cutoff": found.cutoff,
        "threshold": threshold,
        "images": list(found.examples.images),
    }
    return Checked(evaluation, arrays=found.examples.arrays, facts=facts)


def _reliability(subject: Subject) -> Checked:
    problem = _known(subject)
    shifts = applicable_shifts(subject.images, problem)
    found = reliability(subject.cell, subject.solver, subject.images, subject.context, shifts)
    return Checked(tables={SHIFTS.name: found.table}, curves={RISK_COVERAGE.name: found.curves})


CHECKS: dict[str, Callable[[Subject], Checked]] = {
    "calibration": _calibration,
    "stability": _stability,
    "null_space": _null_space,
    "reliability": _reliability,
}


def applicable_shifts(images: ImageSet, problem: InverseProblem) -> list[Shift]:
    """Those of the usual shifts that make sense for a problem."""
    low, high = images.data_range
    inverted = ImageSet(
        low + high - images.x,
        data_range=images.data_range,
        groups=images.groups,
        name="inverted contrast",
    )
    usual: list[Shift] = [
        KernelWidth(1.5),
        NoiseLevel(2.0),
        PhotonNoise(),
        MagnitudeNoise(),
        OtherImages(inverted),
    ]
    found = []
    for shift in usual:
        try:
            shift.apply(images.select(range(1)), problem, 0)
        except (ConfigError, ShapeError, UnsupportedError):  # or larger than the image
            continue
        found.append(shift)
    return found


def run_check(name: Check, subject: Subject) -> tuple[Checked, Outcome]:
    """Carry a check out; one that does not apply to the solver says so and is empty."""
    try:
        return CHECKS[name](subject), Outcome(Status.CONVERGED)
    except UnsupportedError as error:
        return Checked(), Outcome(Status.CONVERGED, f"not applicable: {error}")


def save_check(checked: Checked, outcome: Outcome, folder: Path, description: dict) -> None:
    """Write what a check found into an existing folder."""
    write_json(
        folder / "evaluation.json", {**description, "kind": "check", "facts": checked.facts}
    )
    outcome.write(folder)
    if checked.evaluation is not None:
        write_csv(folder / "metrics.csv", METRICS, checked.evaluation.metrics)
        write_parquet(folder / "per_image.parquet", PER_IMAGE, checked.evaluation.per_image)
    for name, table in checked.tables.items():
        write_csv(folder / f"{name}.csv", name, table)
    for name, table in checked.curves.items():
        write_parquet(folder / f"{name}.parquet", name, table)
    if checked.arrays:
        (folder / "arrays").mkdir()
        for name, array in checked.arrays.items():
            write_array(folder / "arrays" / f"{name}.npy", array)


def _known(subject: Subject) -> InverseProblem:
    if subject.problem is None:
        raise UnsupportedError(
            "problem", "a known operator and noise", None, "State both to have this check."
        )
    return subject.problem


def _evaluation(
    subject: Subject, rows: Rows, used: tuple[int, ...], examples: Examples
) -> Evaluation:
    return Evaluation(
        subject.cell,
        Outcome(Status.CONVERGED),
        "check",
        rows,
        tuple(subject.keys[i] for i in used),
        tuple(subject.images.groups[i] for i in used),
        examples,
        subject.images.data_range,
    )


def _joined(tables: "list[pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(tables, ignore_index=True)
