"""The deep checks: each is an evaluation of its own, on few images.

| check | asks | of |
|---|---|---|
| `calibration` | are ranks of the truth uniform, on real and on simulated pairs? | posteriors |
| `stability` | how far does the worst disturbance of y move the reconstruction? | known problems |
| `null_space` | which errors lie where y says nothing, and are they flagged? | linear operators |
| `ambiguity` | how far apart are images of the prior that y cannot tell apart? | `latent` models |
| `reliability` | does the solver notice what it was not made for? | known problems |

A solver that can be differentiated is attacked itself. Another one is evaluated at the worst case
of a donor, a solver that can: that is no worst case of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from latens.data import ImageSet
from latens.errors import UnsupportedError
from latens.evaluation.ambiguity import half_way, measure_ambiguity, pair_rows
from latens.evaluation.calibration import calibration_tests
from latens.evaluation.check_lines import residual_words, shift_lines
from latens.evaluation.declared import Simulator
from latens.evaluation.evaluate import Cell, Evaluation
from latens.evaluation.measure import Context, Examples, Rows, pictured
from latens.evaluation.null_space import measure_null_space
from latens.evaluation.reliability import reliability
from latens.evaluation.stability import (
    StabilitySettings,
    can_be_attacked,
    measure_stability,
    measure_transfer,
    worst_disturbance,
)
from latens.evaluation.stability.baselines import (
    fitted_tikhonov,
    fitted_variation,
    fitted_wiener,
)
from latens.evaluation.usual_shifts import applicable_shifts
from latens.inference import Solver
from latens.models import Latent
from latens.problems import InverseProblem
from latens.store import (
    METRICS,
    PER_IMAGE,
    POWER,
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

Check = Literal["calibration", "stability", "null_space", "ambiguity", "reliability"]

HALLUCINATION = 0.1
"""Error in the null space that counts as a hallucination, as a share of the data range."""

BASELINE = "tikhonov"
"""Classical solver that is attacked in the same way."""

SIMULATED = 200
"""Images simulated from a model that a solver declares."""

CHECKED_IMAGES = 50
"""Images that a check uses, if nothing else is said."""

PICTURED = 4
"""Images of which pictures are kept."""


@dataclass(frozen=True)
class Donor:
    """A solver whose worst cases are tried on another one.

    Attributes:
        name: Its name in every table.
        solver: A solver that can be differentiated.
    """

    name: str
    solver: Solver


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
        pairs: Signals and measurements of the subset that the solver was made from, or others of
            the same kind; None leaves out the baseline that is attacked beside the solver.
        donor: Whose worst cases are tried where the solver cannot be differentiated.
        others: Sets of images of another kind, of the same shape and in the same units, that
            `reliability` shows to the solver.
        simulate: Draws pairs from the model that the solver assumes, for simulation-based
            calibration; None leaves that to solvers that declare a model.
    """

    cell: Cell
    solver: Solver
    problem: InverseProblem | None
    images: ImageSet
    context: Context
    keys: tuple[int, ...]
    pairs: tuple[Tensor, Tensor] | None = None
    donor: Donor | None = None
    others: tuple[ImageSet, ...] = ()
    simulate: Simulator | None = None


CONVERGED = Outcome(Status.CONVERGED)


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        evaluation: Metrics with their rows per image; None where the check has tables alone.
        tables: Tables of `latens.store` by the name of their schema.
        curves: The same for tables that belong to pictures and are not gathered.
        arrays: Pictures by name, image axis first.
        facts: Numbers that say how the check was done.
        outcome: Whether its numbers may be used.
    """

    evaluation: Evaluation | None = None
    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    curves: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    arrays: dict[str, NDArray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = CONVERGED

    @property
    def lines(self) -> list[str]:
        """What was found, in lines of text."""
        if "not_applicable" in self.facts:
            return [f"  not applicable: {self.facts['not_applicable']}"]
        lines = [f"  {text}" for text in self.facts.get("verdicts", {}).values()]
        if "worst_case_of" in self.facts:
            lines.append(f"  at the worst case of {self.facts['worst_case_of']}")
        if "lipschitz_residual" in self.facts:
            lines.append(f"  {residual_words(self.facts)}")
        if self.evaluation is not None:
            lines += self.evaluation.lines
        if SHIFTS.name in self.tables:
            lines += shift_lines(self.tables[SHIFTS.name])
        return lines


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
        simulate=subject.simulate,
    )
    table = _joined([tests.table(subject.cell) for tests in found])
    curves = _joined([tests.curves(subject.cell) for tests in found])
    seen = _joined([tests.seen(subject.cell) for tests in found if tests.power])
    verdicts = {tests.source: tests.verdict for tests in found}
    verdicts |= {f"{tests.source}: power": tests.sight for tests in found if tests.power}
    return Checked(
        tables={TESTS.name: table, POWER.name: seen},
        curves={RANK_CURVES.name: curves},
        facts={"verdicts": verdicts},
    )


def _stability(subject: Subject) -> Checked:
    images, problem = subject.images, _known(subject)
    assert images.y is not None
    if not can_be_attacked(subject.solver, images.y, subject.keys):
        return _transferred(subject, problem)
    found = measure_stability(
        subject.solver,
        problem,
        images.x,
        images.y,
        subject.keys,
        seed=0,
        settings=StabilitySettings(),
        baseline=fitted_tikhonov(problem, subject.pairs),
        wiener=fitted_wiener(problem, subject.pairs),
        variation=fitted_variation(problem, subject.pairs),
        examples=PICTURED,
    )
    evaluation = _evaluation(subject, found.rows, found.used, found.examples)
    facts = {**found.diagnostics, "images": list(found.examples.images)}
    return Checked(evaluation, arrays=found.examples.arrays, facts=facts)


def _transferred(subject: Subject, problem: InverseProblem) -> Checked:
    """What the worst case of the donor does to the solver."""
    x, y, keys, donor = subject.images.x, subject.images.y, subject.keys, subject.donor
    assert y is not None
    if donor is None:
        raise UnsupportedError(
            "solver",
            "a reconstruction that can be differentiated, or a donor of worst cases",
            type(subject.solver).__name__,
            "In a study, add a trained model, whose worst cases are tried on this solver; in "
            "Python, give `reference` images, so that those of Tikhonov are.",
        )
    attack = {"seed": 0, "settings": StabilitySettings()}
    disturbance, errors = worst_disturbance(donor.solver, problem, x, y, keys, **attack)
    baseline = fitted_tikhonov(problem, subject.pairs)
    if baseline is None:
        floor = None
    elif donor.name == BASELINE:
        floor = errors
    else:
        _, floor = worst_disturbance(baseline, problem, x, y, keys, **attack)
    found = measure_transfer(
        subject.solver, x, y, disturbance, keys, seed=0, baseline_error=floor, examples=PICTURED
    )
    outcome, untrusted = CONVERGED, int(found.diagnostics["untrusted"])
    if untrusted and len(found.used) == len(x):  # half of them or more
        message = f"estimates of {untrusted} of {len(x)} images are not to be trusted"
        outcome = Outcome(Status.UNMIXED, message)
    evaluation = _evaluation(subject, found.rows, found.used, found.examples, outcome)
    own = float(errors[list(found.used)].double().mean())
    facts = {**found.diagnostics, "worst_case_of": donor.name, "its_error": own}
    facts["images"] = list(found.examples.images)
    return Checked(evaluation, arrays=found.examples.arrays, facts=facts, outcome=outcome)


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
        examples=PICTURED,
    )
    evaluation = _evaluation(subject, found.rows, tuple(range(len(images.x))), found.examples)
    facts = {
        "rank": found.rank,
        "cutoff": found.cutoff,
        "threshold": threshold,
        "images": list(found.examples.images),
    }
    return Checked(evaluation, arrays=found.examples.arrays, facts=facts)


def _ambiguity(subject: Subject) -> Checked:
    images, model = subject.images, getattr(subject.solver, "model", None)
    if not isinstance(model, Latent):
        raise UnsupportedError(
            "solver",
            "a solver with a prior p(z) p(x | z), such as `latent`",
            type(subject.solver).__name__,
            "Leave `ambiguity` out for it.",
        )
    problem, keys = _known(subject), subject.keys
    rows, found = measure_ambiguity(model, problem, images.x, keys, seed=0)
    if can_be_attacked(subject.solver, half_way(problem, found), keys):  # samplers take hours
        rows |= pair_rows(subject.solver, problem, images.x, found, keys, seed=0)
    arrays = {"truth": images.x, "anchor": found.anchor, "other": found.other}
    examples = pictured(arrays, keys, PICTURED)
    evaluation = _evaluation(subject, rows, tuple(range(len(images.x))), examples)
    return Checked(evaluation, arrays=examples.arrays, facts={"images": list(examples.images)})


def _reliability(subject: Subject) -> Checked:
    problem = _known(subject)
    shifts = applicable_shifts(subject.images, problem, subject.others)
    found = reliability(subject.cell, subject.solver, subject.images, subject.context, shifts)
    return Checked(tables={SHIFTS.name: found.table}, curves={RISK_COVERAGE.name: found.curves})


CHECKS: dict[str, Callable[[Subject], Checked]] = {
    "calibration": _calibration,
    "stability": _stability,
    "null_space": _null_space,
    "ambiguity": _ambiguity,
    "reliability": _reliability,
}


def run_check(name: Check, subject: Subject) -> tuple[Checked, Outcome]:
    """Carry a check out; one that does not apply to the solver says so and is empty."""
    try:
        found = CHECKS[name](subject)
        return found, found.outcome
    except UnsupportedError as error:
        found = Checked(facts={"not_applicable": str(error)})
        return found, Outcome(Status.CONVERGED, f"not applicable: {error}")


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
    subject: Subject,
    rows: Rows,
    used: tuple[int, ...],
    examples: Examples,
    outcome: Outcome = CONVERGED,
) -> Evaluation:
    return Evaluation(
        subject.cell,
        outcome,
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
