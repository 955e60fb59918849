"""Numbers whose ranks among posterior draws are tested: families of functions of x and y.

| family | numbers of each image | passed by the prior |
|---|---|---|
| pixels | up to 8 fixed pixels that vary | yes |
| regions | means over blocks of a grid | yes |
| principal | scores along principal directions | yes |
| principal together | their Mahalanobis distance from truth and draws together | yes |
| norm | ‖x‖ | yes |
| data fit | log p(y ∣ x) and ‖y − E[y ∣ x]‖²_Σ | no |
| null space | scores along fixed random directions, projected by I − A⁺A | yes |
| null space given y | scores along I − A⁺A of A⁺y moved by a pixel, and of its square | no |
| TARP near A⁺y | distance to A⁺y plus noise | no |
| TARP independent | distance to noise with mean and spread of the draws | yes |

A⁺ in references and in directions is regularised at the level of the noise: the pseudo-inverse of
an ill-conditioned A is mostly noise, and all draws are equally far from it.

Whatever is fitted here (which pixels vary, the moments of independent references) treats the truth
and the draws alike, so that ranks stay uniform for an exact posterior.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.errors import NumericalError, UnsupportedError
from latens.evaluation.measure import region_grid
from latens.metrics import (
    distance_of_members,
    principal_scores,
    reference_distance,
    region_means,
)
from latens.problems import InverseProblem, LinearOperator, tikhonov

PIXELS = 8
NULL_DIRECTIONS = 4
NEAR = 0.25
"""Noise of references near A⁺y, in standard deviations of A⁺y over pixels and images."""

MEMBERS_PER_DIRECTION = 4
"""Truth and draws behind the covariance for each direction that it is told, at least."""

_LEAST_VARIATION = 0.1
"""Pixels that vary less than this fraction of the most variable one are background."""

_NO_NULL_SPACE = 1e-3
_DIRECTION, _REFERENCE = 100, 101  # third keys of noise, away from those of simulation


@dataclass(frozen=True, eq=False)
class Quantities:
    """Families of numbers; made by `fit_quantities`.

    Attributes:
        problem: Operator and noise; None leaves out all that needs them.
        directions: Principal directions, `(K, *signal_shape)`, or None.
        pixels: Positions in the flattened signal.
        null_directions: Directions in the null space of A, or None.
        weight: Regularisation of A⁺y, squared units of A; None for an operator that is not linear.
        near: Standard deviation of the noise of references near A⁺y, signal units.
        centre: Mean of independent references, `(*signal_shape)`.
        spread: Standard deviation of independent references, `(*signal_shape)`.
        seed: Key of the noise of references.
    """

    problem: InverseProblem | None
    directions: Tensor | None
    pixels: Tensor
    null_directions: Tensor | None
    weight: float | None
    near: float
    centre: Tensor
    spread: Tensor
    seed: int

    @torch.no_grad()
    def __call__(self, signals: Tensor, y: Tensor, keys: list[int]) -> dict[str, Tensor]:
        """All families.

        Args:
            signals: Truth and draws alike, `(M + 1, B, *signal_shape)`.
            y: Measurements, `(B, *measurement_shape)`.
            keys: Key of the noise of each image.

        Returns:
            Numbers of each family, `(M + 1, B, k)`.
        """
        flat = signals.flatten(2)
        found = {
            "pixels": flat[..., self.pixels],
            "norm": flat.norm(dim=-1, keepdim=True),
        }
        grid = region_grid(signals[0])
        if grid:
            found["regions"] = region_means(signals, grid).flatten(2)
        if self.directions is not None:
            scores = principal_scores(signals, self.directions)
            found["principal"] = scores
            count = len(signals) // MEMBERS_PER_DIRECTION
            if count:
                together = distance_of_members(scores[..., :count])
                found["principal together"] = together[..., None]
        noise = self._noise(keys, signals)
        independent = self.centre + self.spread * noise[0]
        found["TARP independent"] = reference_distance(signals, independent)[..., None]
        if self.problem is None:
            return found
        found["data fit"] = _data_fit(self.problem, y, signals)
        operator = self.problem.operator
        if self.weight is None or not isinstance(operator, LinearOperator):
            return found
        base = self.regularised(y)
        near = base + self.near * noise[1]
        found["TARP near A⁺y"] = reference_distance(signals, near)[..., None]
        if self.null_directions is not None:
            found["null space"] = principal_scores(signals, self.null_directions)
            moved = operator.null_projection(_moved(base, self.centre))  # (k, B, *signal)
            products = torch.einsum("mbd,kbd->mbk", flat, moved.flatten(2))
            found["null space given y"] = products
        return found

    def regularised(self, y: Tensor) -> Tensor:
        """A⁺y regularised at the level of the noise, `(B, *signal_shape)`.

        Raises:
            UnsupportedError: If there is no linear operator.
        """
        operator = None if self.problem is None else self.problem.operator
        if self.weight is None or not isinstance(operator, LinearOperator):
            raise UnsupportedError(
                "problem",
                "a linear operator, which has a pseudo-inverse",
                type(operator).__name__,
                "Leave out what needs A⁺y for this problem.",
            )
        return tikhonov(operator, y, self.weight)

    @torch.no_grad()
    def summaries(self, signals: Tensor, count: int) -> Tensor:
        """The first scores along principal directions, or means over halves of the axes.

        Args:
            signals: `(..., B, *signal_shape)`.
            count: Most numbers of each signal.

        Returns:
            `(..., B, k)`, k at most `count`.
        """
        if self.directions is not None:
            return principal_scores(signals, self.directions[:count].to(signals))
        grid = tuple(min(2, size) for size in self.centre.shape[1:])
        found = region_means(signals, grid).flatten(-2) if grid else signals
        places = torch.linspace(0, found.shape[-1] - 1, min(count, found.shape[-1]))
        return found[..., places.round().long()]

    def _noise(self, keys: list[int], like: Tensor) -> Tensor:
        """Two standard normal signals of each image, `(2, B, *signal_shape)`."""
        key = (self.seed, Purpose.SIMULATION, _REFERENCE)
        return row_noise(key, keys, (2, *like.shape[2:]), like.dtype, like.device)


@torch.no_grad()
def fit_quantities(
    members: Tensor,
    y: Tensor,
    problem: InverseProblem | None,
    directions: Tensor | None,
    seed: int,
) -> Quantities:
    """Choose pixels, directions and references.

    Args:
        members: Truth and draws of some images, `(M + 1, B, *signal_shape)`.
        y: Their measurements, `(B, *measurement_shape)`.
        problem: Operator and noise, or None.
        directions: Principal directions, `(K, *signal_shape)`, or None.
        seed: Key of directions and references.
    """
    pooled = members.flatten(0, 1)  # truth and draws alike: ranks stay exchangeable
    spread = pooled.std(dim=0)
    varying = (spread > _LEAST_VARIATION * spread.max()).flatten().nonzero()[:, 0]
    places = torch.linspace(0, max(len(varying) - 1, 0), min(PIXELS, len(varying)))
    pixels = varying[places.round().long()] if len(varying) else torch.zeros(1, dtype=torch.long)
    made = Quantities(
        problem,
        None if directions is None else directions.to(members),
        pixels.to(members.device),
        None if problem is None else _null_directions(problem, members, seed),
        None if problem is None else _weight(problem, y, pooled.mean(dim=0)),
        0.0,
        pooled.mean(dim=0),
        spread,
        seed,
    )
    if made.weight is None:
        return made
    return replace(made, near=NEAR * made.regularised(y).std().item())


def _data_fit(problem: InverseProblem, y: Tensor, signals: Tensor) -> Tensor:
    """log p(y | x) and the reduced misfit, `(M + 1, B, 2)`."""
    law = problem.likelihood(signals)  # one pass of the operator for both
    axes = tuple(range(-len(problem.measurement_shape), 0))
    misfit = ((y - law.mean) ** 2 / law.variance).mean(axes)
    return torch.stack([law.log_prob(y), misfit], dim=-1)


def _moved(base: Tensor, centre: Tensor) -> Tensor:
    """A⁺y moved by one pixel along each axis, and its centred square, `(k, B, *signal)`."""
    axes = range(2, base.ndim)
    square = (base - centre) ** 2
    return torch.stack([*(base.roll(1, axis) for axis in axes), square])


def _weight(problem: InverseProblem, y: Tensor, centre: Tensor) -> float | None:
    """Noise-to-signal ratio of the data times ‖A‖²."""
    if not isinstance(problem.operator, LinearOperator):
        return None
    clean = problem.operator(centre)
    noise = problem.noise.elementwise(clean).variance.mean().item()
    power = y.square().mean().item()
    ratio = min(max(noise / power, 1e-8), 1.0) if power > 0 else 1.0
    return ratio * problem.operator.norm() ** 2


def _null_directions(problem: InverseProblem, like: Tensor, seed: int) -> Tensor | None:
    """Random unit directions that the measurement misses; None where it misses nothing."""
    if not isinstance(problem.operator, LinearOperator):
        return None
    key = (seed, Purpose.SIMULATION, _DIRECTION)
    rows = range(NULL_DIRECTIONS)
    white = row_noise(key, rows, (1, *like.shape[2:]), like.dtype, like.device)[0]
    try:
        missed = problem.operator.null_projection(white)
    except NumericalError:  # too large for singular values, and too ill-conditioned to iterate
        return None
    size = missed.flatten(1).norm(dim=1)
    if bool((size <= _NO_NULL_SPACE * white.flatten(1).norm(dim=1)).any()):
        return None
    return missed / size.reshape(-1, *[1] * (missed.ndim - 1))
