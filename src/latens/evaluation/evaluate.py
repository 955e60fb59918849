"""The numbers of one solver on one test set: core metrics with intervals, as tables and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latens.data import ImageSet
from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError
from latens.evaluation.intervals import metric_interval
from latens.evaluation.left_out import left_out
from latens.evaluation.measure import Context, Examples, Rows, Solved, measure
from latens.evaluation.own_card import card_lines, own_card
from latens.evaluation.strangeness import Columns, Listening, Scoring, image_scores
from latens.inference import DEFAULT_DRAWS, Calibrated, Calibration, Solver
from latens.metrics import CATALOGUE, LEVEL, principal_directions
from latens.problems import InverseProblem
from latens.store import Outcome, Status
from latens.store.schemas import METRICS, PER_IMAGE
from latens.store.tables import from_rows

if TYPE_CHECKING:
    import pandas as pd

    from latens.evaluation.checks import Checked

JUDGED = ("mse", "crps")
"""Metrics that are finite for every finite estimate. Others may rightly be infinite: the PSNR of
a perfect reconstruction, the NMSE of a blank image."""

DIRECTIONS = 8
"""Principal directions whose coverage is measured."""


@dataclass(frozen=True)
class Cell:
    """Place of an evaluation in a sweep.

    Args:
        solver: Name of the solver.
        n: Number of pairs it was made from; 0 where unknown.
        data_seed: Seed of the subset.
        init_seed: Seed of the initialisation; None where several are combined.
        evaluation: Hash of the evaluation, empty outside a run.
    """

    solver: str
    n: int = 0
    data_seed: int = 0
    init_seed: int | None = 0
    evaluation: str = ""

    @property
    def place(self) -> dict[str, Any]:
        """Solver, n and seeds, as the columns that every table of evaluations has."""
        names = ("solver", "n", "data_seed", "init_seed")
        return {name: getattr(self, name) for name in names}


def metric_record(
    cell: Cell,
    outcome: Outcome,
    metric: str,
    number: tuple[float, float, float, float],
    images: int,
    groups: int,
) -> dict[str, Any]:
    """A row of METRICS.

    Args:
        cell: Place in the sweep.
        outcome: Status of the solver.
        metric: Name.
        number: Value, ends of its interval and their level.
        images, groups: How many it comes from.
    """
    value, lower, upper, level = number
    return {
        **cell.place,
        "metric": metric,
        "value": value,
        "lower": lower,
        "upper": upper,
        "level": level,
        "images": images,
        "groups": groups,
        "status": str(outcome.status),
        "evaluation": cell.evaluation,
    }


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one solver on one test set.

    Attributes:
        cell: Name of the solver and its place in a sweep.
        outcome: Status of the solver.
        kind: "posterior" or "point".
        rows: Components of each metric per image, `(n, p)`.
        images: Key of each image, its place in the test set.
        groups: Group of each image, the unit of the bootstrap.
        examples: A few images in full.
        data_range: Range (lower, upper) of the data set, signal units.
        used: Positions of these among the images that were shown; others are not to be trusted.
        scores: How strange each image that was shown looks, `(total,)` each; see
            `latens.evaluation.strangeness`.
        checks: What deep checks found, by name, where any were asked for.
        calibration: What the solver's intervals were widened by, where they were calibrated.
        seconds_per_draw: Wall time of one posterior draw of one image, solving included, on the
            machine at hand; of a point estimate, that of one image. It is in no table, since it
            differs from run to run. NaN where nothing was solved.
        card: Trust card that this evaluation is part of; None for that of itself alone.
    """

    cell: Cell
    outcome: Outcome
    kind: str
    rows: Rows
    images: tuple[int, ...]
    groups: tuple[str, ...]
    examples: Examples
    data_range: tuple[float, float]
    used: tuple[int, ...] = ()
    scores: Columns = field(default_factory=dict)
    checks: "Mapping[str, Checked]" = field(default_factory=dict)
    calibration: Calibration | None = None
    card: "pd.DataFrame | None" = None
    seconds_per_draw: float = float("nan")

    @cached_property
    def metrics(self) -> "pd.DataFrame":
        """One row per metric: value and interval over images (or groups)."""
        cell, records = self.cell, []
        for metric in CATALOGUE:
            if metric.name not in self.rows:
                continue
            rows = self.rows[metric.name]
            interval = metric_interval(metric, rows, self.groups, level=LEVEL)
            records.append(
                metric_record(
                    cell,
                    self.outcome,
                    metric.name,
                    (interval.value, interval.lower, interval.upper, LEVEL),
                    images=len(rows),
                    groups=len(set(self.groups)),
                )
            )
        return from_rows(records, METRICS)

    @property
    def per_image(self) -> "pd.DataFrame":
        """One row per metric, image and component."""
        import pandas as pd

        cell, frames = self.cell, []
        for name, rows in self.rows.items():
            n, p = rows.shape
            frames.append(
                pd.DataFrame(
                    {
                        "solver": cell.solver,
                        "n": cell.n,
                        "data_seed": cell.data_seed,
                        "init_seed": pd.array([cell.init_seed] * (n * p), dtype="Int64"),
                        "image": np.repeat(np.array(self.images), p),
                        "group": np.repeat(np.array(self.groups, dtype=object), p),
                        "metric": name,
                        "component": np.tile(np.arange(p), n),
                        "value": rows.reshape(-1),
                    }
                )
            )
        return pd.concat(frames, ignore_index=True).loc[:, list(PER_IMAGE.columns)]

    @cached_property
    def trust(self) -> "pd.DataFrame":
        """Verdicts on this solver, accurate to aware, in the schema TRUST: each with its reason.

        *not measured* where the deep check that would answer was not asked for.
        """
        card: Any = own_card(self) if self.card is None else self.card
        mine = (card["solver"] == self.cell.solver) & (card["n"] == self.cell.n)
        return card[mine].reset_index(drop=True)

    @property
    def left_out(self) -> list[str]:
        """Groups of core metrics that could not be measured, each with its reason."""
        return left_out(self.rows)

    def __str__(self) -> str:
        lines = [f"{self.cell.solver}: {len(self.groups)} images, {self.kind}"]
        if self.outcome.status is not Status.CONVERGED:
            lines.append(f"  {self.outcome.status}: {self.outcome.message}".rstrip(": "))
        lines += self.lines
        if self.calibration is not None:
            lines += _calibration_lines(self.calibration)
        if np.isfinite(self.seconds_per_draw):
            what = "image"
            if self.kind == "posterior":
                what = f"posterior draw of an image, where {DEFAULT_DRAWS} are drawn"
            lines.append(f"  {self.seconds_per_draw:.2g} s per {what}")
        lines += [f"  not measured: {text}" for text in self.left_out]
        for name, checked in self.checks.items():
            lines += [f"{name}:", *checked.lines]
        lines += ["trust card:", *card_lines(self.trust, self.cell.solver, self.cell.n)]
        return "\n".join(lines)

    @property
    def lines(self) -> list[str]:
        """A line for each metric, in the order of the report."""
        lines = []
        rows = {row["metric"]: row for row in self.metrics.to_dict("records")}
        for metric in CATALOGUE:
            if metric.name not in rows:
                continue
            row = rows[metric.name]
            target = f"   target {metric.target:g}" if np.isfinite(metric.target) else ""
            known = np.isfinite([row["lower"], row["upper"]]).any()
            interval = f"[{row['lower']:.4g}, {row['upper']:.4g}]" if known else "no interval"
            value = f"{row['value']:.4g} {metric.unit}".strip()
            lines.append(f"  {metric.label:<36} {value:>14}   {interval}{target}")
        return lines


def evaluate_cell(
    cell: Cell,
    solver: Solver,
    images: ImageSet,
    context: Context,
    outcome: Outcome | None = None,
    seed: int = 0,
    keys: Sequence[int] | None = None,
    score: Scoring = image_scores,
) -> Evaluation:
    """Evaluate a solver at its place in a sweep.

    Args:
        cell: Name and place.
        solver: The solver.
        images: Test set with measurements.
        context: Range, directions and problem.
        outcome: Status of the fits behind the solver; default: that of the estimate.
        seed: Key of posterior draws.
        keys: Place of each image in the test set, if these are not all of it.
        score: What is said of the strangeness of each image.
    """
    assert images.y is not None
    keys = range(len(images.x)) if keys is None else keys
    listening = Listening(solver, context.problem, score)
    rows, examples, solved = measure(listening, images.x, images.y, context, seed, keys=keys)
    kind = "posterior" if solved.is_posterior else "point"
    outcome = Outcome(solved.status) if outcome is None else outcome
    outcome = _with_mixing(outcome, solved, len(images.x))
    broken = [name for name in JUDGED if not np.isfinite(rows.get(name, 0.0)).all()]
    if broken and outcome.usable:
        outcome = Outcome(Status.NAN, f"values that are not finite in {', '.join(broken)}")
    return Evaluation(
        cell,
        outcome,
        kind,
        rows,
        tuple(keys[i] for i in solved.used),
        tuple(images.groups[i] for i in solved.used),
        examples,
        images.data_range,
        solved.used,
        listening.columns,
        calibration=solver.calibration if isinstance(solver, Calibrated) else None,
        seconds_per_draw=solved.seconds
        / (len(images.x) * (DEFAULT_DRAWS if solved.is_posterior else 1)),
    )


def _calibration_lines(calibration: Calibration) -> list[str]:
    """What was calibrated, on how much, and what that promises."""
    held = f"{calibration.images} held-out images"
    if calibration.units < calibration.images:
        held += f" of {calibration.units} groups"
    how = f"{calibration.method}, factor {calibration.factor:.4g}"
    return [
        f"  intervals calibrated on {held} ({how}):",
        f"    {calibration.promise}, if they are like these",
    ]


def _with_mixing(outcome: Outcome, solved: Solved, total: int) -> Outcome:
    """The outcome with what is known of single images, of `total`."""
    if not solved.untrusted or not (outcome.usable or outcome.status is Status.UNMIXED):
        return outcome
    if len(solved.used) == total:
        message = f"estimates of {solved.untrusted} of {total} images are not to be trusted"
        return replace(outcome, status=Status.UNMIXED, message=message)
    message = f"{solved.untrusted} of {total} images left out: not to be trusted"
    joined = "; ".join(part for part in (outcome.message, message) if part)
    status = Status.STOPPED if outcome.status is Status.UNMIXED else outcome.status
    return replace(outcome, status=status, message=joined)


def simulate(problem: InverseProblem | None, x: Tensor, seed: int) -> Tensor:
    """One measurement per image, with noise keyed by (seed, image).

    Raises:
        ConfigError: If there is no problem to simulate from.
    """
    if problem is None:
        raise ConfigError(
            "y",
            "measurements, or a `problem` that simulates them",
            None,
            "Pass `y=`, or an InverseProblem.",
        )
    noise = row_noise(
        (seed, Purpose.SIMULATION), range(len(x)), (1, *problem.noise_shape), x.dtype
    )
    with torch.no_grad():
        return problem.simulate(x, noise[0])


def fit_directions(reference: Tensor) -> Tensor:
    """Leading principal directions of images that are not evaluated, `(K, *signal_shape)`."""
    count = min(DIRECTIONS, len(reference) - 1, reference[0].numel())
    return principal_directions(reference, count)
