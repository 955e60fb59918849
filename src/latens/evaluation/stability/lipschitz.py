"""Largest singular value of a Jacobian, by power iteration that stops on its residual.

Every step takes the best vector in the span of v, of its residual JᵀJv − ρ²v and of the last
direction (Rayleigh-Ritz, the locally optimal variant of the power method), at the same price as
a plain step: one product. It needs about the square root of their number.

ρ = ‖J v‖ with ‖v‖ = 1 is a lower bound of the largest singular value whatever v is. Some singular
value squared lies within the residual ‖JᵀJv − ρ²v‖ of ρ²; that it is the largest one, random
starts make likely and nothing proves.

References:
    Knyazev (2001), Toward the optimal preconditioned eigensolver: locally optimal block
    preconditioned conjugate gradient method, https://doi.org/10.1137/S1064827500366124 (block
    size 1, no preconditioner).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.evaluation.stability.reconstruction import Reconstruction, norms, repeat, scaled
from latens.problems import Operator

_INDEPENDENT = 1e-4
"""Relative length below which what is left of a vector is rounding error."""


@dataclass(frozen=True, eq=False)
class Slope:
    """The steepest direction found of each image.

    Attributes:
        value: ‖J S v‖, S the scale of the directions, `(B,)`.
        direction: v, `(B, *measurement_shape)`, of length 1.
        residual: ‖SJᵀJSv − ρ²v‖/ρ², computed at the end from v itself, `(B,)`.
    """

    value: Tensor
    direction: Tensor
    residual: Tensor


def largest_singular_value(
    gram: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, max_steps: int
) -> Slope:
    """Largest singular value of B linear maps in lockstep.

    Args:
        gram: v to MᵀM v, row by row, `(B, *shape)`.
        start: Starts, `(B, *shape)`, not zero.
        tolerance: Residual relative to ρ² at which all rows must have arrived.
        max_steps: Products after which it stops in any case; the residual tells.
    """
    shape = start.shape
    v = start.flatten(1)
    v = v / v.norm(dim=1, keepdim=True)

    def product(vector: Tensor) -> Tensor:
        return gram(vector.reshape(shape)).flatten(1)

    image = product(v)
    previous, previous_image = torch.zeros_like(v), torch.zeros_like(v)
    for _ in range(max_steps):
        square = (v * image).sum(1, keepdim=True)
        residual = image - square * v
        if bool((residual.norm(dim=1) <= tolerance * square[:, 0]).all()):
            break
        step = _unit(residual - (residual * v).sum(1, keepdim=True) * v, residual)[0]
        step_image = product(step)
        last, last_image = _orthogonal(previous, previous_image, [(v, image), (step, step_image)])
        basis = torch.stack([v, step, last], 2)  # (B, n, 3)
        images = torch.stack([image, step_image, last_image], 2)
        projected = basis.mT @ images
        finite = projected.isfinite().all(2, keepdim=True).all(1, keepdim=True)
        projected = torch.where(finite, projected, 0)  # one bad row must not end all searches
        weights = torch.linalg.eigh((projected + projected.mT) / 2).eigenvectors[:, :, -1:]
        aside = weights.clone()
        aside[:, 0] = 0
        previous, previous_image = (basis @ aside)[..., 0], (images @ aside)[..., 0]
        v, image = (basis @ weights)[..., 0], (images @ weights)[..., 0]
        length = v.norm(dim=1, keepdim=True)
        v, image = v / length, image / length
    image = product(v)
    square = (v * image).sum(1).clamp_min(0)
    residual = (image - square[:, None] * v).norm(dim=1)
    tiny = torch.finfo(v.dtype).tiny
    return Slope(square.sqrt(), v.reshape(shape), residual / square.clamp_min(tiny))


def steepest(
    reconstruction: Reconstruction,
    y: Tensor,
    scale: Tensor,
    start: Tensor,
    tolerance: float,
    max_steps: int,
) -> Slope:
    """Largest singular value of J diag(scale) at every measurement, in blocks.

    Args:
        reconstruction: R with the keys of the rows of `y`.
        y: Measurements, `(B, *measurement_shape)`.
        scale: Of every element, `(B, *measurement_shape)`; the noise's standard deviation for the
            whitened constant, 1 for the plain one.
        start: Starts, `(B, S, *measurement_shape)`; the best of S ends is returned.
        tolerance: See `largest_singular_value`.
        max_steps: See there.
    """
    copies = start.shape[1]
    every = reconstruction.repeated(copies)
    rows_y, rows_scale = repeat(y, copies), repeat(scale, copies)
    rows_start = start.flatten(0, 1)
    found = []
    for part, rows in every.blocks(rows_y):
        jacobian, own = part.jacobian(rows_y[rows]), rows_scale[rows]

        def gram(v: Tensor, jacobian=jacobian, own=own) -> Tensor:
            return own * jacobian.pull(jacobian.push(own * v))

        found.append(largest_singular_value(gram, rows_start[rows], tolerance, max_steps))
    value = torch.cat([slope.value for slope in found])
    best = value.unflatten(0, (-1, copies)).argmax(1)
    best = best + copies * torch.arange(len(y), device=y.device)
    return Slope(
        value[best],
        torch.cat([slope.direction for slope in found])[best],
        torch.cat([slope.residual for slope in found])[best],
    )


def mean_square_gain(reconstruction: Reconstruction, y: Tensor, probes: Tensor) -> Tensor:
    """‖J‖²_F/m by Hutchinson's estimate, the mean of ‖J v‖²/m over Gaussian v.

    Args:
        reconstruction: R.
        y: Measurements, `(B, *measurement_shape)`.
        probes: Standard normal, `(K, B, *measurement_shape)`.

    Returns:
        `(B,)`, (unit of the signal/unit of the measurement)², without bias; the relative standard
        error is at most √(2/K).
    """
    gains = []
    for part, rows in reconstruction.blocks(y):
        jacobian = part.jacobian(y[rows])
        pushed = torch.stack([norms(jacobian.push(v[rows])).square() for v in probes])
        gains.append(pushed.mean(0))
    return torch.cat(gains) / y[0].numel()


def expected_chi2(
    reconstruction: Reconstruction, operator: Operator, y: Tensor, scale: Tensor, probes: Tensor
) -> Tensor:
    """Least expected χ²/m of the data residual of an estimate as sensitive to the noise as R.

        E = ‖I − B‖²_F/m = 1 − 2 tr(B)/m + ‖B‖²_F/m,   B = Σ^{−1/2} A J Σ^{1/2}

    by Hutchinson's estimate, the mean of ‖v − B v‖²/m over Gaussian v. For an affine R and a
    linear A the expectation of χ²/m over noise is E plus the square of the residual of what
    would be measured without noise; mE is the degrees of freedom for error of a linear smoother.

    Args:
        reconstruction: R.
        operator: A, linearised at R(y).
        y: Measurements, `(B, *measurement_shape)`.
        scale: Noise standard deviation of every element, shape of `y`.
        probes: Standard normal, `(K, B, *measurement_shape)`.

    Returns:
        `(B,)` in [0, ∞), no unit, without bias.

    References:
        Buja, Hastie, Tibshirani (1989), Linear smoothers and additive models, section 2.7,
        https://doi.org/10.1214/aos/1176347115. Hutchinson (1990), A stochastic estimator of the
        trace of the influence matrix, https://doi.org/10.1080/03610919008812866.
    """
    found = []
    for part, rows in reconstruction.blocks(y):
        jacobian, own = part.jacobian(y[rows]), scale[rows]
        left = []
        for v in probes:
            moved = jacobian.push(own * v[rows])
            with torch.no_grad():
                seen = operator.jvp(jacobian.x, moved) / own
            left.append((v[rows] - seen).square().flatten(1).mean(1))
        found.append(torch.stack(left).mean(0))
    return torch.cat(found)


def condition_number(lipschitz: Tensor, y: Tensor, x_hat: Tensor) -> Tensor:
    """‖J‖₂ ‖y‖/‖R(y)‖, `(B,)`."""
    return lipschitz * norms(y) / norms(x_hat)


def _unit(vector: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """A vector of length 1, or 0 in rows where it is rounding error, and the factor of it."""
    length = vector.norm(dim=1, keepdim=True)
    kept = length > _INDEPENDENT * reference.norm(dim=1, keepdim=True)
    factor = torch.where(kept, 1 / torch.where(kept, length, 1), 0)
    return scaled(vector, factor[:, 0]), factor


def _orthogonal(
    vector: Tensor, image: Tensor, others: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What of a vector is orthogonal to others, of length 1 or 0, with its image."""
    left, left_image = vector, image
    for other, other_image in others:
        overlap = (left * other).sum(1, keepdim=True)
        left, left_image = left - overlap * other, left_image - overlap * other_image
    unit, factor = _unit(left, vector)
    return unit, left_image * factor
