"""Does a solver notice what it was not made for, and are its numbers right there?

For every shift: which scores tell shifted images from usual ones (AUROC, average precision, false
alarms at 95 % detection), how often p-values reject, and the core metrics, calibration among
them, inside the shift. For the usual images: which scores tell large errors from small ones.

A score of `strangeness.TWO_SIDED` is the distance from the median of the usual images, on which
side does not matter: a residual of nothing is as strange as a large one. The median is that of the
usual images alone, and of each resample of them; see `metrics.detection.two_sided`.

The score `ANY` is the gate's rule as one number: how small the smallest p-value among the
scores is, with p-values of the usual images of other groups; see `metrics.surprise.strangest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.data import ImageSet
from latens.errors import ConfigError
from latens.evaluation.detection_intervals import (
    Number,
    auroc_interval,
    detection_interval,
    selection_interval,
)
from latens.evaluation.evaluate import Cell, Evaluation, evaluate_cell
from latens.evaluation.flags import (
    FLAGGED,
    among_usual,
    compared,
    flagged,
    on_scales,
)
from latens.evaluation.intervals import Interval, bootstrap_interval
from latens.evaluation.measure import Context
from latens.evaluation.shifts import Shift
from latens.evaluation.strangeness import (
    P_VALUES,
    SCORES,
    TWO_SIDED,
    Columns,
    strangeness,
)
from latens.inference import Solver
from latens.metrics import (
    LEVEL,
    augrc,
    aurc,
    auroc,
    average_precision,
    false_positive_rate,
    random_augrc,
    risk_coverage,
)
from latens.metrics.detection import two_sided
from latens.metrics.metric import first
from latens.metrics.surprise import smallest_p_value
from latens.store.schemas import ANY, RISK_COVERAGE, SHIFTS
from latens.store.tables import from_rows

if TYPE_CHECKING:
    import pandas as pd

UNSHIFTED = "none"
"""Name of the test set as it is, among the shifts."""

RISK = "mse"
"""Error that risk-coverage curves speak of."""

ORACLE = "oracle"
"""Name of the risk itself among the scores of risk-coverage curves."""

SIZE = 0.05
"""p-values of at most this reject."""


def _relative_augrc(
    uncertainty: ArrayLike, risk: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    return augrc(uncertainty, risk, weights) / random_augrc(risk, weights)


DETECTION: dict[str, Number] = {
    "auroc": auroc,
    "average_precision": average_precision,
    "fpr95": false_positive_rate,
}
SELECTION: dict[str, Number] = {
    "aurc": aurc,
    "augrc": augrc,
    "augrc_over_random": _relative_augrc,
}


@dataclass(frozen=True)
class Condition:
    """A solver on one test set.

    Attributes:
        shift: Name of the shift, `UNSHIFTED` for none.
        strength: How strong it is; 0 for none.
        evaluation: Core metrics inside it.
        groups: Group of every image.
        same_images: True if its signals are those of the unshifted set.
    """

    shift: str
    strength: float
    evaluation: Evaluation
    groups: tuple[str, ...]
    same_images: bool

    @property
    def columns(self) -> Columns:
        """Scores and p-values of every image, `(n,)` each."""
        return self.evaluation.scores

    @property
    def judged(self) -> tuple[Columns, NDArray[np.float64], tuple[str, ...]]:
        """Scores, error and group of the images that the core metrics are of."""
        images = list(self.evaluation.used)
        kept = {name: self.columns[name][images] for name in SCORES if name in self.columns}
        return kept, self.evaluation.rows[RISK][:, 0], self.evaluation.groups


@dataclass(frozen=True)
class Reliability:
    """A solver on the test set and on shifted ones.

    Attributes:
        usual: The test set as it is.
        shifted: One for each shift.
        seed: Seed of the resampling.
    """

    usual: Condition
    shifted: tuple[Condition, ...]
    seed: int

    def curve(self, score: str) -> NDArray[np.float64]:
        """Risk-coverage curve of a score on the usual images; see `metrics.risk_coverage`.

        Raises:
            ConfigError: If the solver has no such score.
        """
        scores, risk, _ = self.usual.judged
        if score not in scores:
            raise ConfigError(
                "score", f"one of {', '.join(scores) or 'none'}", score, "Choose one of these."
            )
        return risk_coverage(scores[score], risk)

    @cached_property
    def curves(self) -> "pd.DataFrame":
        """Risk-coverage curves of all scores, in the schema `RISK_COVERAGE`.

        The score `ORACLE` is the risk itself: no score does better. One without information has
        the risk of all images at every coverage. Empty where an error is not finite.
        """
        scores, risk, _ = self.usual.judged
        if not np.isfinite(risk).all():
            return from_rows([], RISK_COVERAGE)
        cell = self.usual.evaluation.cell
        rows = [
            {
                **cell.place,
                "score": name,
                "kept": float(kept),
                "risk": float(left),
                "images": len(risk),
                "evaluation": cell.evaluation,
            }
            for name, values in {**scores, ORACLE: risk}.items()
            for kept, left, _ in risk_coverage(values, risk)
        ]
        return from_rows(rows, RISK_COVERAGE)

    @cached_property
    def table(self) -> "pd.DataFrame":
        """All numbers with intervals over images (or groups), in the schema `SHIFTS`.

        | number | score | of |
        |---|---|---|
        | `auroc`, `average_precision`, `fpr95` | a score | shifted against usual images |
        | `aurc`, `augrc`, `augrc_over_random` | a score | errors of the usual images |
        | `rejected` | a p-value | images with p ≤ 0.05 |
        | `flagged` | `any` | images that the rule of the gate flags, usual ones among them |
        | name of a metric | empty | images inside the shift |

        Numbers of errors are left out where an error of the usual images is not finite, and `any`
        where these are of a single group.
        """
        rows = [row for c in (self.usual, *self.shifted) for row in _inside(c)]
        rows += _selection(self.usual, self.seed)
        for condition in self.shifted:
            rows += _detection(self.usual, condition, self.seed)
        if len(set(self.usual.groups)) > 1 and compared(self.usual.columns, self.usual.columns):
            for condition in (self.usual, *self.shifted):
                rows += _gate(self.usual, condition, self.seed)
        return from_rows(rows, SHIFTS)


def reliability(
    cell: Cell,
    solver: Solver,
    images: ImageSet,
    context: Context,
    shifts: Sequence[Shift],
    seed: int = 0,
) -> Reliability:
    """Evaluate a solver on the test set and inside every shift.

    The solver is told nothing: scores, data residuals and calibration inside a shift are those
    under the operator and noise that it was made for.

    Args:
        cell: Name of the solver and its place in a sweep.
        solver: The solver.
        images: Test set with measurements.
        context: Range, directions and problem.
        shifts: Changes to apply; none of them is needed.
        seed: Key of posterior draws, of shifted measurements, and of the resampling.

    Raises:
        ConfigError: If there are shifts, and no problem to simulate them from, or two shifts
            have equal name and strength.
        UnsupportedError: If a shift does not apply to the problem.
    """
    problem = context.problem
    if shifts and problem is None:
        raise ConfigError(
            "shifts", "a problem to simulate them from", None, "State operator and noise."
        )
    named = [(shift.name, shift.strength) for shift in shifts]
    if len(set(named)) < len(named):
        raise ConfigError(
            "shifts", "each name and strength once", named, "Leave out what is there twice."
        )
    sets = [(UNSHIFTED, 0.0, images, True)]
    if problem is not None:
        sets += [
            (s.name, s.strength, s.apply(images, problem, seed), s.same_images) for s in shifts
        ]
    usual, *shifted = (
        _condition(cell, solver, shown, context, seed, name, strength, same)
        for name, strength, shown, same in sets
    )
    return Reliability(usual, tuple(shifted), seed)


def _condition(
    cell: Cell,
    solver: Solver,
    images: ImageSet,
    context: Context,
    seed: int,
    name: str,
    strength: float,
    same_images: bool,
) -> Condition:
    evaluation = evaluate_cell(cell, solver, images, context, seed=seed, score=strangeness)
    return Condition(name, strength, evaluation, images.groups, same_images)


def _row(condition: Condition, score: str, number: str, found: Interval) -> dict[str, object]:
    cell = condition.evaluation.cell
    return {
        **cell.place,
        "shift": condition.shift,
        "strength": condition.strength,
        "score": score,
        "number": number,
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "level": found.level,
        "images": found.images,
        "groups": found.groups,
        "status": str(condition.evaluation.outcome.status),
        "evaluation": cell.evaluation,
    }


def _inside(condition: Condition) -> list[dict[str, object]]:
    """Core metrics and rejections of one test set."""
    rows = []
    for entry in condition.evaluation.metrics.to_dict("records"):
        found = Interval(
            *(entry[k] for k in ("value", "lower", "upper", "level", "images", "groups"))
        )
        rows.append(_row(condition, "", str(entry["metric"]), found))
    for name in P_VALUES:
        if name in condition.columns:
            hits = condition.columns[name] <= SIZE
            rows.append(_row(condition, name, "rejected", _share(hits, condition.groups)))
    return rows


def _share(hits: NDArray, groups: Sequence[str]) -> Interval:
    column = np.asarray(hits, dtype=np.float64)[:, None]
    return bootstrap_interval(column, groups, first, LEVEL, support=(0.0, 1.0))


def _selection(usual: Condition, seed: int) -> list[dict[str, object]]:
    scores, risk, groups = usual.judged
    if not np.isfinite(risk).all():
        return []
    return [
        _row(usual, score, name, selection_interval(number, values, risk, groups, seed))
        for score, values in scores.items()
        for name, number in SELECTION.items()
    ]


def _detection(usual: Condition, shifted: Condition, seed: int) -> list[dict[str, object]]:
    rows = []
    for score in SCORES:
        if score not in usual.columns or score not in shifted.columns:
            continue
        scale = TWO_SIDED.get(score)
        a, b = (
            (c.columns[score] if scale is None else scale(c.columns[score]), c.groups)
            for c in (usual, shifted)
        )
        for name, one_sided in DETECTION.items():
            number = one_sided if scale is None else two_sided(one_sided)
            interval = auroc_interval if one_sided is auroc else detection_interval
            found = interval(number, a, b, shifted.same_images, seed)
            rows.append(_row(shifted, score, name, found))
    return rows


def _gate(usual: Condition, shown: Condition, seed: int) -> list[dict[str, object]]:
    """What the gate's rule finds: its share of flags, and its score `ANY` for shifted images."""
    known, groups = usual.columns, usual.groups
    if shown.same_images:
        hits = among_usual(shown.columns, known, groups)
    else:
        hits = flagged(shown.columns, known)
    rows = [_row(shown, ANY, FLAGGED, _share(hits, shown.groups))]
    if shown is usual:
        return rows
    names = compared(shown.columns, known)
    a, b = ((on_scales(c.columns, names), c.groups) for c in (usual, shown))
    # Of other images too one group after another is left out: all are compared with as many.
    others = shown.groups if shown.same_images else islice(cycle(groups), len(shown.groups))
    labels = [*groups, *others]
    sides = [name in TWO_SIDED for name in names]
    for name, number in DETECTION.items():
        combined = smallest_p_value(number, sides, labels)
        interval = auroc_interval if number is auroc else detection_interval
        rows.append(_row(shown, ANY, name, interval(combined, a, b, shown.same_images, seed)))
    return rows
