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
from latens.evaluation.evaluate import Cell, Evaluation, evaluate_cell, fit_directions, simulate
from latens.evaluation.measure import Context, spread_evenly
from latens.inference import CLASSICAL, Solver, as_solver
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

    Returns:
        The evaluation; print it, or read `.metrics`, `.per_image` and `.checks`.

    Raises:
        ShapeError: If shapes do not fit together.
        DataError: If x or y hold values that are not finite.
        ConfigError: If neither `problem` nor `y` is given, or there is no check of a name.
    """
    for check in checks:
        if check not in CHECKS:
            raise ConfigError(
                "checks", f"names among {', '.join(CHECKS)}", check, "Correct the name."
            )
    x = x.float()
    low, high = data_range if data_range is not None else (float(x.min()), float(x.max()))
    images = ImageSet(
        x,
        y=simulate(problem, x, seed) if y is None else y.float(),
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
    made = as_solver(solver)
    evaluation = evaluate_cell(Cell(name), made, images, context, seed=seed)
    if not checks:
        return evaluation
    places = spread_evenly(len(x), checked_images)
    pairs = donor = None
    if reference is not None and problem is not None:
        pairs = reference.float(), simulate(problem, reference.float(), seed + 1)
        if isinstance(problem.operator, LinearOperator):
            donor = Donor(BASELINE, CLASSICAL[BASELINE].fit(problem, *pairs))
    subject = Subject(
        Cell(name), made, problem, images.select(places), context, tuple(places), pairs, donor
    )
    return replace(evaluation, checks={check: run_check(check, subject)[0] for check in checks})
