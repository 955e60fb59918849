"""`latens.evaluate`: the numbers of latens for anybody's solver."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from latens.data import ImageSet
from latens.errors import ConfigError, ShapeError
from latens.evaluation.checks import (
    BASELINE,
    CHECKED_IMAGES,
    CHECKS,
    Check,
    Donor,
    Subject,
    run_check,
)
from latens.evaluation.conformal import fit_calibration
from latens.evaluation.declared import Simulator
from latens.evaluation.evaluate import Cell, Evaluation, evaluate_cell, fit_directions
from latens.evaluation.evaluate import simulate as measured
from latens.evaluation.measure import Context, spread_evenly
from latens.inference import CLASSICAL, Calibrated, Solver, as_solver
from latens.inference.calibrated import Method
from latens.problems import InverseProblem, LinearOperator


def evaluate(
    solver: Solver | Callable[..., Any],
    problem: InverseProblem | None,
    x: Tensor,
    *,
    y: Tensor | None = None,
    groups: Sequence[str] | None = None,
    data_range: tuple[float, float] | None = None,
    reference: Tensor | None = None,
    name: str = "solver",
    seed: int = 0,
    checks: Sequence[Check] = (),
    checked_images: int = CHECKED_IMAGES,
    simulate: Simulator | None = None,
    calibration: Tensor | tuple[Tensor, Tensor] | None = None,
    calibration_groups: Sequence[str] | None = None,
    conformal: Method = "crc",
) -> Evaluation:
    """Quality and calibration of a solver on test images, every number with an interval.

    Args:
        solver: A solver of latens or any callable `y → tensor`, `y → Distribution`,
            `(y, n) → draws`, `y → Posterior | PointEstimate`.
        problem: Operator and noise. None if they are unknown; then `y` is needed and the data
            residual is left out.
        x: Truth, `(n, *signal_shape)`, not used in making the solver.
        y: Measurements, `(n, *measurement_shape)`; simulated from `problem` if None.
        groups: Subject of each image; intervals resample subjects. Default: every image alone.
        data_range: Range of the data set for PSNR and SSIM; default: minimum and maximum of x.
        reference: Other images of the same kind, `(k, *signal_shape)`, from which principal
            directions are taken. `stability` fits Tikhonov's and Wiener's reconstructions to
            them, compares with both, and tries Tikhonov's worst cases where the solver cannot be
            differentiated. None leaves the coverage of principal directions and all that out.
        name: Name of the solver in tables.
        seed: Key of simulated noise and of posterior draws.
        checks: Deep checks, as in a study: `calibration`, `stability`, `null_space`,
            `ambiguity`, `reliability`. One that does not apply says so. `stability` takes
            thousands of calls of the solver.
        checked_images: Images, evenly spread, that they use.
        simulate: `(n, seed) → (x, y)`: n independent pairs drawn from the model that the solver
            itself assumes, for simulation-based calibration beside that on held-out pairs, in the
            check `calibration`. Solvers of latens that declare a model need none.
        calibration: Held-out pairs `(x, y)`, or signals x that `problem` measures, neither used
            in making the solver nor evaluated: on them its intervals are widened or narrowed
            until they keep a promise on new images that are exchangeable with these. Whether it
            is kept on the images evaluated is among the metrics; `.calibration` makes a solver
            with `latens.inference.Calibrated`.
        calibration_groups: Subject of each held-out image, which then counts once.
        conformal: Method: `crc` (95 % of the pixels inside, on average; 19 images or groups are
            needed), `rcps` (the same but for a chance of 10 % that the calibration was unlucky;
            45), `split`, `cqr`, `simultaneous`; see `latens.metrics.conformal`.

    Returns:
        The evaluation; print it, or read `.metrics`, `.per_image`, `.checks`, `.calibration` and
        `.trust`, the trust card.

    Raises:
        ShapeError: If shapes do not fit together.
        DataError: If x or y hold values that are not finite.
        ConfigError: If neither `problem` nor `y` is given, there is no check of a name, or too
            few held-out images for a calibration.
        UnsupportedError: If there is `calibration`, and the solver returns point estimates.
        SolverError: If no finite factor keeps the promise of a calibration.
    """
    for check in checks:
        if check not in CHECKS:
            raise ConfigError(
                "checks", f"names among {', '.join(CHECKS)}", check, "Correct the name."
            )
    if simulate is not None and "calibration" not in checks:
        raise ConfigError(
            "simulate",
            "the check that it serves, `calibration`",
            list(checks),
            'Add checks=["calibration"], or leave it out.',
        )
    if calibration is None and calibration_groups is not None:
        raise ConfigError(
            "calibration_groups", "held-out pairs in `calibration`", None, "Add them."
        )
    x = x.float()
    low, high = data_range if data_range is not None else (float(x.min()), float(x.max()))
    images = ImageSet(
        x,
        y=measured(problem, x, seed) if y is None else y.float(),
        data_range=(low, high),
        groups=tuple(groups) if groups is not None else (),
        name=name,
    )
    assert images.y is not None
    if problem is not None and images.y.shape[1:] != problem.measurement_shape:
        raise ShapeError(
            "y",
            f"(n, *{problem.measurement_shape}), the measurement of the problem",
            tuple(images.y.shape),
            "Give the measurements that this operator makes.",
        )
    directions = None if reference is None else fit_directions(reference)
    context = Context(high - low, directions, problem)
    made = used = as_solver(solver)
    if calibration is not None:
        held = _pairs(calibration, problem, seed)
        used = Calibrated(
            made,
            fit_calibration(
                made, *held, method=conformal, groups=calibration_groups, seed=seed + 1
            ),
        )
    evaluation = evaluate_cell(Cell(name), used, images, context, seed=seed)
    if not checks:
        return evaluation
    places = spread_evenly(len(x), checked_images)
    pairs = donor = None
    if reference is not None and problem is not None:
        pairs = reference.float(), measured(problem, reference.float(), seed + 1)
        if isinstance(problem.operator, LinearOperator):
            donor = Donor(BASELINE, CLASSICAL[BASELINE].fit(problem, *pairs))
    subject = Subject(
        Cell(name),
        made,
        problem,
        images.select(places),
        context,
        tuple(places),
        pairs,
        donor,
        simulate=simulate,
    )
    return replace(evaluation, checks={check: run_check(check, subject)[0] for check in checks})


def _pairs(
    calibration: Tensor | tuple[Tensor, Tensor], problem: InverseProblem | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Held-out pairs; measurements that are simulated share no noise with those of the test."""
    if isinstance(calibration, Tensor):
        x = calibration.float()
        return x, measured(problem, x, seed + 2)
    x, y = calibration
    return x.float(), y.float()
