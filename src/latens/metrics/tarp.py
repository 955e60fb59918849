"""Regions around a reference point, and regions of highest density.

**TARP.** Draws closer to a reference than the truth are counted; the region is the ball around the
reference through the truth. For an exact posterior the count is uniform on {0, …, M} *whatever*
the references, as long as they do not know the truth: a count of this kind is a rank like any
other. What a set of references can *see* depends on them. References that know nothing of y are
passed by the prior; references near A⁺y are not.

**HPD.** The same with the density q(x | y) in place of the distance.

Lemos, Coogan, Hezaveh, Perreault-Levasseur (2023), Sampling-based accuracy testing of posterior
estimators for general inference, https://arxiv.org/abs/2302.03026.
"""

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.metrics.coverage import rank
from latens.metrics.reduction import check_draws, check_pair


def reference_distance(signals: Tensor, references: Tensor) -> Tensor:
    """Euclidean distance to a reference point, summed over the event.

    Args:
        signals: `(..., B, *event)`.
        references: `(B, *event)`, signal units.

    Returns:
        `(..., B)`, unit of the signal.
    """
    first = signals.ndim - references.ndim + 1
    if signals.ndim == references.ndim:
        return (signals - references).flatten(first).norm(dim=-1)
    flat = signals.reshape(-1, *references.shape)
    distances = [(part - references).flatten(1).norm(dim=-1) for part in flat]
    return torch.stack(distances).reshape(signals.shape[:first])


def tarp_ranks(draws: Tensor, x: Tensor, references: Tensor, uniform: Tensor) -> Tensor:
    """How many draws are closer to the reference than the truth, ties broken at random.

        r_i = #{m : ‖x_i^(m) − ρ_i‖ < ‖x_i − ρ_i‖},   f_i = r_i/M

    Args:
        draws: Exchangeable draws, `(M, B, *event)`.
        x: Truth, `(B, *event)`.
        references: ρ, `(B, *event)`; a function of y and of noise, never of x.
        uniform: Independent uniforms in [0, 1), `(B,)`.

    Returns:
        Integer ranks in {0, …, M}, `(B,)`.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    check_draws(draws, x, least=1)
    check_pair(references, x, "references")
    distance = reference_distance(draws, references)
    return _rank_of(distance, reference_distance(x, references), uniform)


def hpd_ranks(log_density_draws: Tensor, log_density_x: Tensor, uniform: Tensor) -> Tensor:
    """How many draws have a higher density than the truth, ties broken at random.

        r_i = #{m : log q(x_i^(m) | y_i) > log q(x_i | y_i)}

    The truth is inside the highest-density region of level k/(M+1) where r_i < k.

    Args:
        log_density_draws: `(M, B)`, up to a constant that is the same for all M draws.
        log_density_x: `(B,)`, with the same constant.
        uniform: Independent uniforms in [0, 1), `(B,)`.

    Returns:
        Integer ranks in {0, …, M}, `(B,)`.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    return _rank_of(-log_density_draws, -log_density_x, uniform)


def inside_regions(ranks: Tensor, draws: int) -> Tensor:
    """Is the truth inside the region of level k/(M+1)? Its mean over images is the coverage.

    Args:
        ranks: From `tarp_ranks` or `hpd_ranks`, `(B,)`.
        draws: M.

    Returns:
        1 or 0 for k = 1 … M, `(B, M)`, float64; expectation k/(M+1) for an exact posterior.
    """
    return (ranks[:, None] < torch.arange(1, draws + 1, device=ranks.device)).double()


def area_to_curve(ranks: Tensor, draws: int) -> Tensor:
    """Signed area between expected coverage and level, over the levels above one half.

        ATC = 1/(M+1) · Σ_{k/(M+1) > 1/2} (1[r < k] − k/(M+1))

    Args:
        ranks: From `tarp_ranks` or `hpd_ranks`, `(B,)`.
        draws: M, at least 2.

    Returns:
        Contribution of each image, `(B,)`, no unit; the mean over images is 0 for an exact
        posterior, below 0 where regions of high level hold the truth too seldom (too sure), above
        where too often.

    Raises:
        ConfigError: If M is below 2.
    """
    if draws < 2:
        raise ConfigError("draws", "at least 2 draws", draws, "Draw more from the posterior.")
    level = torch.arange(1, draws + 1, dtype=torch.float64, device=ranks.device) / (draws + 1)
    upper = level > 0.5
    return (inside_regions(ranks, draws) - level)[:, upper].sum(dim=1) / (draws + 1)


def _rank_of(draws: Tensor, x: Tensor, uniform: Tensor) -> Tensor:
    if draws.ndim != 2 or draws.shape[1:] != x.shape or uniform.shape != x.shape:
        raise ShapeError(
            "draws",
            "one number per draw and image (M, B), and (B,) for truth and uniform",
            (tuple(draws.shape), tuple(x.shape), tuple(uniform.shape)),
            "Reduce each signal to one number first.",
        )
    return rank(draws[..., None], x[:, None], uniform[:, None])[:, 0]
