"""Whether the stated operator and noise fit the measurements of a study."""

import torch
from scipy.stats import chi2 as chi2_distribution
from torch import Tensor

from latens.errors import ConfigError
from latens.problems import InverseProblem


def estimated(problem: InverseProblem, x: Tensor, y: Tensor) -> InverseProblem:
    """The problem with the noise level that its pairs show, `(n, *shape)` each."""
    with torch.no_grad():
        return InverseProblem(problem.operator, problem.noise.estimate(y, problem.operator(x)))


def require_level(problem: InverseProblem | None) -> None:
    """Refuse to simulate with noise of unknown level."""
    if problem is not None and not problem.noise.is_known:
        raise ConfigError(
            "noise",
            "a noise level, since the data hold no measurements from which to estimate it",
            None,
            "Give the level, such as --noise.scale 0.05.",
        )


def check_explains(problem: InverseProblem, x: Tensor, y: Tensor) -> None:
    """Refuse measurements that the stated operator and noise do not explain.

    Args:
        problem: Operator and noise, whose level may be unknown.
        x: Signals, `(n, *signal_shape)`.
        y: Their measurements.

    Raises:
        ConfigError: If shapes, size or pattern of the residuals do not fit.
    """
    if y.shape[1:] != problem.measurement_shape:
        raise ConfigError(
            "operator",
            f"measurements {tuple(y.shape[1:])} as the data have",
            problem.measurement_shape,
            "State the operator that made them, or set operator and noise to null.",
        )
    if not problem.noise.is_known:
        problem = estimated(problem, x, y)
        _check_mean_residual(problem, x, y)
    chi2 = float(problem.chi2(y, x).mean())
    if not 0.5 < chi2 < 2:
        raise ConfigError(
            "operator, noise",
            "a problem that explains the measurements (χ²/m about 1 at the true signals)",
            f"χ²/m = {chi2:.3g}",
            "Correct the operator or the noise level, or set both to null.",
        )


def _check_mean_residual(problem: InverseProblem, x: Tensor, y: Tensor) -> None:
    """Refuse residuals that do not average out over images.

    With an estimated level χ²/m is about 1 whatever the operator: its misfit counts as noise. But
    n·mean(r̄²)/mean(r²) over the mean residual image r̄ of n images is about 1 only for noise that
    is independent from image to image.
    """
    with torch.no_grad():
        residual = problem.residual(y, x).double().flatten(1)  # (n, m)
    n, m = residual.shape
    ratio = float(n * residual.mean(0).square().mean() / residual.square().mean())
    limit = max(3.0, float(chi2_distribution.isf(1e-6, m)) / m)
    if ratio > limit:
        raise ConfigError(
            "operator",
            f"residuals that average out over images (at most {limit:.3g} times the variance "
            "that independent noise leaves)",
            f"{ratio:.3g} times",
            "Correct the operator or the alignment of x and y, or set operator and noise to null.",
        )
