"""Errors and beliefs of a solver, split at the noise level into measured and unmeasured parts.

With singular values s_i of A and right singular vectors v_i,

    P_R = Σ_{s_i > c} v_i v_iᵀ,   P_N = I − P_R

The cutoff c is where the noise drowns the signal: down to it, s_i² E⟨x − x̄, v_i⟩² > σ².
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, UnsupportedError
from latens.evaluation.measure import Examples, Rows, block_size
from latens.inference import CalibratedPosterior, EnsemblePosterior, Estimate, Posterior, Solver
from latens.metrics import (
    LEVEL,
    hallucinated_share,
    hallucination,
    null_energy,
    split_error,
    split_variance,
)
from latens.problems import InverseProblem, LinearOperator, Operator
from latens.problems.circulant import CirculantSpectrum, commutes_with_shifts
from latens.problems.spectrum import Spectrum

BANDS = 24
"""Groups of directions in which the energy of signals is compared with that of the noise."""


class RangeProjection:
    """P_R of a linear operator, for singular values above a cutoff.

    | operator | how |
    |---|---|
    | circular convolution, and such with downsampling | Fourier transform, any size |
    | masks, block means, Fourier sampling with one coil | closed form, any size |
    | others | singular values, up to the sizes of `LinearOperator.spectrum` |

    Args:
        operator: A.
        cutoff: Largest singular value that does not belong to the range, in units of A; 0 keeps
            all that are not rounding errors of the largest.

    Raises:
        UnsupportedError: If the operator is not linear, or too large for its singular values.
        ConfigError: If the cutoff is negative.
    """

    def __init__(self, operator: Operator, cutoff: float) -> None:
        if not isinstance(operator, LinearOperator):
            raise UnsupportedError(
                "problem",
                "a LinearOperator, which has a range and a null space",
                type(operator).__name__,
                "Leave these metrics out.",
            )
        if not 0 <= cutoff < inf:
            raise ConfigError("cutoff", "0 or more", cutoff, "Leave it out to find it from x.")
        self.operator = operator
        self.spectrum = _spectrum(operator)
        self.cutoff = max(cutoff, operator.relative_cutoff * self.spectrum.norm)

    def __call__(self, x: Tensor) -> Tensor:
        """P_R x for x `(..., *signal_shape)`."""
        return self._above(self.cutoff, x)

    @property
    def rank(self) -> int:
        """Dimension of the range."""
        return self._rank(self.cutoff)

    def at_noise(self, x: Tensor, noise: float) -> "RangeProjection":
        """The projection whose range ends where signals do not rise above the noise.

        Singular values are sorted into bands of about equally many directions. The range ends
        before the first band in which the mean of s² ⟨x − x̄, v⟩² over directions and signals is
        at most σ².

        Args:
            x: Signals, `(B, *signal_shape)`, B ≥ 2, about whose mean the energy is taken.
            noise: σ, standard deviation of a measured element.
        """
        centred = (x - x.mean(0)).double() * (len(x) / (len(x) - 1)) ** 0.5
        last, energy, rank = self.spectrum.norm, 0.0, 0
        for edge, square in self._bands():
            below = self._above(edge, centred).square().flatten(1).sum(1).mean().item()
            count = self._rank(edge) - rank
            if square * (below - energy) / count <= noise**2:
                break
            last, energy, rank = edge, below, rank + count
        else:
            return RangeProjection(self.operator, self.cutoff)
        return RangeProjection(self.operator, last)

    def _bands(self) -> list[tuple[float, float]]:
        """Lower end and mean s² of each band, decreasing; ends lie between singular values."""
        values, order = self.spectrum.eigenvalues.clamp_min(0).sqrt().sort(descending=True)
        counts = self.spectrum.counts[order][values > self.cutoff]
        values = values[values > self.cutoff]
        through = counts.cumsum(0)
        gaps = torch.cat([values[1:], values.new_tensor([self.cutoff])])
        apart = gaps < values * (1 - 1e-9)  # equal singular values stay together
        size = float(through[-1]) / BANDS
        bands, begin, filled = [], 0, 0.0
        for i in apart.nonzero()[:, 0].tolist():
            if float(through[i]) - filled >= size or i == len(values) - 1:
                band = slice(begin, i + 1)
                total = float((values[band].square() * counts[band]).sum())
                end = float((values[i] * gaps[i]).sqrt())
                bands.append((end, total / (float(through[i]) - filled)))
                begin, filled = i + 1, float(through[i])
        return bands

    def _above(self, cutoff: float, x: Tensor) -> Tensor:
        def inverse(eigenvalues: Tensor) -> Tensor:
            kept = eigenvalues > cutoff**2
            return torch.where(kept, 1 / torch.where(kept, eigenvalues, 1), 0)

        with torch.no_grad():
            wide = self.operator.A(x.double())
            return self.operator.A_adjoint(self.spectrum.gram(wide, inverse)).to(x.dtype)

    def _rank(self, cutoff: float) -> int:
        kept = self.spectrum.eigenvalues > cutoff**2
        return round(float(self.spectrum.counts[kept].sum()))


def range_above_noise(problem: InverseProblem, x: Tensor) -> RangeProjection:
    """P_R truncated where the noise drowns signals like these.

    Args:
        problem: Linear operator and noise; σ is the root mean square over all measured elements.
        x: Signals, `(B, *signal_shape)`, B ≥ 2.

    Raises:
        ConfigError: If all signals are the same.
        UnsupportedError: See `RangeProjection`.
    """
    if len(x) < 2 or not bool((x != x[0]).any()):
        raise ConfigError(
            "x", "two or more signals that differ", len(x), "Give `cutoff`, or more signals."
        )
    project = RangeProjection(problem.operator, 0.0)
    with torch.no_grad():
        variance = problem.noise.elementwise(problem.operator(x)).variance.double().mean()
    return project.at_noise(x, variance.sqrt().item())


@dataclass(frozen=True, eq=False)
class NullSpace:
    """Range and null space of one solver's estimates.

    Attributes:
        rows: Components of each metric per image, `(B, p)`.
        examples: Truth, reconstruction, H_N = P_N (x̂ − x) and H_R = P_R (x̂ − x) of a few images;
            of a posterior also the standard deviation of P_N of its draws, and which pixels with
            |H_N| above the threshold it flags: 1 = truth inside the interval, 2 = outside.
        rank: Dimension of the range, of d.
        cutoff: Largest singular value outside the range.
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
        cutoff: Largest singular value outside the range; found from `x` where None, see
            `range_above_noise`.
        examples: Images kept for figures.

    Raises:
        UnsupportedError: If the operator is not linear or too large, see `RangeProjection`.
    """
    keys = tuple(keys)
    if cutoff is None:
        project = range_above_noise(problem, x)
    else:
        project = RangeProjection(problem.operator, cutoff)
    parts: list[Rows] = []
    pictures: list[dict[str, Tensor]] = []
    size = block_size(x.shape[1:])
    chosen = sorted(set(np.linspace(0, len(x) - 1, min(examples, len(x))).astype(int).tolist()))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        estimate = solver(y[rows], keys=keys[rows], seed=seed)
        parts.append(_error_rows(project, estimate.mean, x[rows], threshold))
        if isinstance(estimate, Posterior):
            parts[-1] |= _belief_rows(project, estimate, x[rows], threshold)
        local = [i - start for i in chosen if start <= i < start + size]
        if local:
            pictures.append(_pictures(project, estimate, x[rows], threshold, local))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kept = {
        name: torch.cat([part[name] for part in pictures]).numpy(force=True)
        for name in (pictures[0] if pictures else ())
    }
    pictured = Examples(kept, tuple(keys[i] for i in chosen))
    return NullSpace(joined, pictured, project.rank, project.cutoff)


def _pictures(
    project: RangeProjection, estimate: Estimate, x: Tensor, threshold: float, local: list[int]
) -> dict[str, Tensor]:
    """Maps of some images of a block; see `NullSpace.examples`."""
    truth, mean = x[local], estimate.mean[local]
    seen = project(mean - truth)
    unseen = mean - truth - seen
    found = {"truth": truth, "mean": mean, "null_map": unseen, "range_map": seen}
    if not isinstance(estimate, Posterior):
        return found
    draws, interval = estimate.sample()[:, local], estimate.interval(LEVEL)
    missed = (truth < interval.lower[local]) | (truth > interval.upper[local])
    flags = (unseen.abs() > threshold) * (1 + missed.to(torch.int8))
    return found | {"null_std": (draws - project(draws)).std(0), "flags": flags}


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
        **_member_columns(project, estimate),
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


def _member_columns(project: RangeProjection, estimate: Posterior) -> dict[str, Tensor]:
    """Variance within and between members, split into null space and range, `(B, 2)` each."""
    inner = estimate.base if isinstance(estimate, CalibratedPosterior) else estimate
    if not isinstance(inner, EnsemblePosterior):
        return {}
    within = [
        split_variance(project(draws), draws) for draws in (m.sample() for m in inner.members)
    ]
    means = torch.stack([member.mean for member in inner.members])
    # K − 1 in the divisor of both parts: no matter to their shares
    between = split_variance(project(means), means)
    return {"null_variance_within": torch.stack(within).mean(0), "null_variance_between": between}


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
