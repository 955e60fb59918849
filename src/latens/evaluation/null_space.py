"""Errors and beliefs of a solver, split at the noise level into measured and unmeasured parts.

With singular values s_i of A and right singular vectors v_i,

    P_R = Σ_{s_i τ > σ} v_i v_iᵀ,   P_N = I − P_R

σ is the noise's standard deviation and τ that of a pixel of the signal: a direction belongs to the
range if white signals of that size rise above the noise along it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, UnsupportedError
from latens.evaluation.measure import Examples, Rows, block_size
from latens.inference import Posterior, Solver
from latens.metrics import (
    LEVEL,
    hallucinated_share,
    hallucination,
    null_energy,
    split_error,
    split_variance,
)
from latens.problems import InverseProblem, LinearOperator
from latens.problems.circulant import CirculantSpectrum, commutes_with_shifts
from latens.problems.spectrum import Spectrum


class RangeProjection:
    """P_R of a linear operator, for singular values above a cutoff.

    | operator | how |
    |---|---|
    | circular convolution, and such with downsampling | Fourier transform, any size |
    | masks, block means, Fourier sampling with one coil | closed form, any size |
    | others | singular values, up to the sizes of `LinearOperator.spectrum` |

    Args:
        operator: A.
        cutoff: Smallest singular value of the range, in units of A; 0 keeps all that are not
            rounding errors of the largest.

    Raises:
        UnsupportedError: If the operator is not linear, or too large for its singular values.
        ConfigError: If the cutoff is negative.
    """

    def __init__(self, operator: LinearOperator, cutoff: float) -> None:
        if not isinstance(operator, LinearOperator):
            raise UnsupportedError(
                "problem",
                "a LinearOperator, which has a range and a null space",
                type(operator).__name__,
                "Leave these metrics out.",
            )
        if not 0 <= cutoff < inf:
            raise ConfigError("cutoff", "0 or more", cutoff, "Use the noise over the signal.")
        self.operator = operator
        self.spectrum = _spectrum(operator)
        self.cutoff = max(cutoff, operator.relative_cutoff * self.spectrum.norm)

    def __call__(self, x: Tensor) -> Tensor:
        """P_R x for x `(..., *signal_shape)`."""
        square = self.cutoff**2

        def inverse(eigenvalues: Tensor) -> Tensor:
            kept = eigenvalues > square
            return torch.where(kept, 1 / torch.where(kept, eigenvalues, 1), 0)

        with torch.no_grad():
            wide = self.operator.A(x.double())
            return self.operator.A_adjoint(self.spectrum.gram(wide, inverse)).to(x.dtype)

    @property
    def rank(self) -> int:
        """Dimension of the range."""
        kept = self.spectrum.eigenvalues > self.cutoff**2
        return round(float(self.spectrum.counts[kept].sum()))


def noise_cutoff(problem: InverseProblem, x: Tensor) -> float:
    """σ/τ: singular values below it drown in the noise.

    Args:
        problem: Operator and noise.
        x: Signals, `(B, *signal_shape)`, B ≥ 2; τ is the root mean square of a pixel about the
            mean image, σ that of the noise over all measured elements.

    Raises:
        ConfigError: If all signals are the same.
    """
    with torch.no_grad():
        noise = problem.noise.elementwise(problem.operator(x)).variance.double().mean().sqrt()
        signal = x.double().var(0).mean().sqrt() if len(x) > 1 else x.new_zeros(())
    if not signal > 0:
        raise ConfigError(
            "x", "two or more signals that differ", len(x), "Give `cutoff`, or more signals."
        )
    return float(noise / signal)


@dataclass(frozen=True, eq=False)
class NullSpace:
    """Range and null space of one solver's estimates.

    Attributes:
        rows: Components of each metric per image, `(B, p)`.
        examples: Truth, reconstruction, H_N = P_N (x̂ − x) and H_R = P_R (x̂ − x) of a few images.
        rank: Dimension of the range, of d.
        cutoff: Smallest singular value of the range.
    """

    rows: Rows
    examples: Examples
    rank: int
    cutoff: float


def measure_null_space(
    solver: Solver,
    problem: InverseProblem,
    x: Tensor,
    y: Tensor,
    keys: Sequence[int],
    seed: int,
    threshold: float,
    cutoff: float | None = None,
    examples: int = 8,
) -> NullSpace:
    """Split errors, spread and hallucinations of a solver.

    Args:
        solver: Any solver; of a point estimate only the error is split.
        problem: Linear operator and noise.
        x: Truth, `(B, *signal_shape)`.
        y: Measurements, `(B, *measurement_shape)`.
        keys: Key of the noise of each image.
        seed: Key of the noise.
        threshold: Error in the null space that counts as a hallucination, signal units.
        cutoff: Smallest singular value of the range; `noise_cutoff` of `x` where None.
        examples: Images kept for figures.

    Raises:
        UnsupportedError: If the operator is not linear or too large, see `RangeProjection`.
    """
    keys = tuple(keys)
    operator = problem.operator
    if not isinstance(operator, LinearOperator):
        cutoff = 0.0  # the projection says what is wrong
    cutoff = noise_cutoff(problem, x) if cutoff is None else cutoff
    project = RangeProjection(operator, cutoff)  # pyright: ignore[reportArgumentType]
    parts: list[Rows] = []
    means = []
    size = block_size(x.shape[1:])
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        estimate = solver(y[rows], keys=keys[rows], seed=seed)
        mean = estimate.mean
        means.append(mean)
        parts.append(_error_rows(project, mean, x[rows], threshold))
        if isinstance(estimate, Posterior):
            parts[-1] |= _belief_rows(project, estimate, x[rows], threshold)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    chosen = sorted(set(np.linspace(0, len(x) - 1, min(examples, len(x))).astype(int).tolist()))
    mean, truth = torch.cat(means)[chosen], x[chosen]
    seen = project(mean - truth)
    arrays = {"truth": truth, "mean": mean, "null_map": mean - truth - seen, "range_map": seen}
    kept = {name: value.numpy(force=True) for name, value in arrays.items()}
    pictured = Examples(kept, tuple(keys[i] for i in chosen))
    return NullSpace(joined, pictured, project.rank, project.cutoff)


def _error_rows(project: RangeProjection, mean: Tensor, x: Tensor, threshold: float) -> Rows:
    error = mean - x
    seen = project(error)
    parts = split_error(seen, error)  # (B, 2)
    columns = {
        "null_error": parts,
        "range_mse": parts[:, 1:],
        "injected_content": null_energy(mean - project(mean), x - project(x)),
        "hallucinated": hallucinated_share(error - seen, threshold)[:, None],
    }
    return {name: value.double().numpy(force=True) for name, value in columns.items()}


def _belief_rows(
    project: RangeProjection, estimate: Posterior, x: Tensor, threshold: float
) -> Rows:
    draws = estimate.sample()  # (M, B, *signal)
    count = len(draws)
    variance = split_variance(project(draws), draws)  # (B, 2)
    error = draws.mean(0) - x  # spread and skill need the mean of the same draws
    skill = split_error(project(error), error)
    own = estimate.mean - x
    interval = estimate.interval(LEVEL)
    columns = {
        "null_variance": variance,
        "unflagged": hallucination(
            own - project(own), x, threshold, interval.lower, interval.upper
        ),
        **{
            f"spread_skill_{name}": torch.stack(
                [variance[:, i] * (count + 1) / count, skill[:, i]], 1
            )
            for i, name in enumerate(("null", "range"))
        },
    }
    return {name: value.double().numpy(force=True) for name, value in columns.items()}


def _spectrum(operator: LinearOperator) -> Spectrum:
    if commutes_with_shifts(operator):
        device = next((b.device for b in operator.buffers()), torch.device("cpu"))
        return CirculantSpectrum(operator, device)
    found = operator.spectrum()
    if found is None:
        m, d = prod(operator.measurement_shape), prod(operator.signal_shape)
        raise UnsupportedError(
            "problem",
            "an operator whose singular values are known or can be computed",
            f"{type(operator).__name__} with {m} measurements of {d} elements",
            "Evaluate on smaller images.",
        )
    return found
