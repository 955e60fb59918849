"""Convergence of Markov chains, for many quantities and many posteriors in one call.

Draws come as `(S, K, *event)`: S draws of each of K chains, and any number of quantities. Every
function works on all quantities at once and returns one number for each, `(*event)`.

    B = S Var_k[mean of chain k],   W = mean of the chains' variances
    R̂² = (W (S − 1)/S + B/S) / W
    ESS = S K / (1 + 2 Σ_t ρ_t)

Definitions and truncation of the sum follow Vehtari et al., and agree with ArviZ.

References:
    Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), Rank-normalization, folding, and
    localization, https://arxiv.org/abs/1903.08008;
    Margossian et al. (2024), Nested R̂, https://arxiv.org/abs/2110.13017;
    Betancourt (2016), Diagnosing suboptimal cotangent disintegrations,
    https://arxiv.org/abs/1604.00695.
"""

import math

import torch
from torch import Tensor

from latens.errors import ShapeError

MIN_DRAWS = 4


def rhat(draws: Tensor) -> Tensor:
    """Rank-normalised split R̂: the larger of bulk and folded.

    Args:
        draws: `(S, K, *event)`, S ≥ 4.

    Returns:
        `(*event)`; 1 at convergence, NaN for a quantity that never moves in any chain or is not
        finite.

    Raises:
        ShapeError: If there are fewer than 4 draws.
    """
    halves = _split(draws)
    folded = (halves - _pooled_median(halves)).abs()
    return torch.maximum(_rhat(_rank_normal(halves)), _rhat(_rank_normal(folded)))


def nested_rhat(draws: Tensor, superchains: int) -> Tensor:
    """Nested R̂ of many short chains, grouped in superchains that share their start.

        R̂² = 1 + B̂ / Ŵ,   B̂ variance between superchains, Ŵ variance within

    With one draw per chain it still measures what remains of the starts, where R̂ has nothing to
    go by.

    Args:
        draws: `(S, K, *event)`; chains k·M, …, k·M + M − 1 make superchain k.
        superchains: Their number, at least 2, a divisor of K.

    Returns:
        `(*event)`.

    Raises:
        ShapeError: If the chains cannot be grouped, or a superchain has a single draw.
    """
    total = draws.shape[1]
    if superchains < 2 or total % superchains or draws.shape[0] * total // superchains < 2:
        raise ShapeError(
            "superchains",
            f"a divisor of the {total} chains, 2 or more, with 2 draws or more in each",
            superchains,
            "Start groups of equally many chains at the same point.",
        )
    nested = draws.unflatten(1, (superchains, total // superchains))  # (S, G, M, *event)
    means = nested.mean(0)  # (G, M, *event)
    between_chains = means.var(1) if means.shape[1] > 1 else torch.zeros_like(means[:, 0])
    within_chains = nested.var(0).mean(1) if len(nested) > 1 else torch.zeros_like(means[:, 0])
    within = (between_chains + within_chains).mean(0)
    between = means.mean(1).var(0)
    return (1 + between / within).sqrt()


def bulk_ess(draws: Tensor) -> Tensor:
    """Effective sample size of the rank-normalised draws.

    Args:
        draws: `(S, K, *event)`, S ≥ 4.

    Returns:
        `(*event)`, number of independent draws that a mean is worth.
    """
    return _ess(_rank_normal(_split(draws)))


def tail_ess(draws: Tensor) -> Tensor:
    """Smaller of the effective sample sizes of the 5 % and 95 % quantiles, `(*event)`."""
    require_draws(draws)
    flat = draws.flatten(0, 1)
    sizes = []
    for probability in (0.05, 0.95):
        below = (draws <= _quantile(flat, probability)).to(draws.dtype)
        sizes.append(_ess(_split(below)))
    return torch.minimum(*sizes)


def mean_ess(draws: Tensor) -> Tensor:
    """Effective sample size of the plain mean, for Monte Carlo errors, `(*event)`."""
    return _ess(_split(draws))


def e_bfmi(energy: Tensor) -> Tensor:
    """Energy Bayesian fraction of missing information of each chain.

        E-BFMI = Σ_s (E_s − E_{s−1})² / Σ_s (E_s − mean)²

    Below .3 the momenta cannot carry a chain through the energies of its target.

    Args:
        energy: Hamiltonian at the start of each transition, `(S, K)`, nats.

    Returns:
        `(K,)`.
    """
    require_draws(energy)
    return energy.diff(dim=0).square().sum(0) / (energy - energy.mean(0)).square().sum(0)


def require_draws(draws: Tensor) -> None:
    """Check the layout `(S, K, *event)` and that there are 4 draws or more.

    Raises:
        ShapeError: If there are not.
    """
    if draws.ndim < 2 or len(draws) < MIN_DRAWS:
        raise ShapeError(
            "draws",
            f"(S, K, ...) with S of {MIN_DRAWS} draws or more per chain",
            tuple(draws.shape),
            "Draw more, or put the draws of a chain on the first axis.",
        )


def _split(draws: Tensor) -> Tensor:
    """Both halves of each chain as chains of their own, `(S // 2, 2 K, *event)`."""
    require_draws(draws)
    half = len(draws) // 2
    return torch.cat([draws[:half], draws[len(draws) - half :]], dim=1)


def _rhat(chains: Tensor) -> Tensor:
    count = len(chains)
    between = count * chains.mean(0).var(0)
    within = chains.var(0).mean(0)
    return ((between / within + count - 1) / count).sqrt()


def _rank_normal(chains: Tensor) -> Tensor:
    """Normal scores Φ⁻¹((rank − 3/8)/(n + 1/4)) of the pooled draws, mean ranks for ties."""
    rows = chains.flatten(0, 1).movedim(0, -1).contiguous()  # (*event, n)
    ordered = rows.sort(-1).values
    below = torch.searchsorted(ordered, rows)
    not_above = torch.searchsorted(ordered, rows, right=True)
    rank = (below + not_above + 1).to(torch.float64) / 2
    scores = torch.special.ndtri((rank - 0.375) / (rows.shape[-1] + 0.25))
    scores = torch.where(rows.isfinite().all(-1, keepdim=True), scores, math.nan)
    return scores.movedim(-1, 0).reshape(chains.shape)


def _ess(chains: Tensor) -> Tensor:
    """Geyer's initial monotone sequence, all quantities at once."""
    count, number = chains.shape[:2]
    chains = chains.double()
    covariance = _autocovariance(chains).mean(1)  # (n, *event)
    within = covariance[0] * count / (count - 1)
    total = covariance[0] + (chains.mean(0).var(0) if number > 1 else 0.0)
    correlation = 1 - (within - covariance) / total  # (n, *event)
    correlation[0] = 1.0
    pairs = correlation[: 2 * max((count - 1) // 2, 1)].unflatten(0, (-1, 2)).sum(1)  # (t, ...)
    # The sum ends at the first pair that is not positive, or at the last pair of all.
    ends = pairs <= 0
    ends[-1] = True
    end = ends.to(torch.uint8).argmax(0)  # (*event)
    index = torch.arange(len(pairs), device=chains.device).reshape(-1, *[1] * end.ndim)
    kept = torch.where(index < end, pairs.cummin(0).values, 0.0).sum(0)
    tail = correlation[::2].gather(0, end[None])[0].clamp(min=0)
    length = (2 * kept - 1 + tail).clamp(min=1 / math.log10(count * number))
    size = count * number / length
    return torch.where(correlation.isfinite().all(0), size, math.nan)


def _autocovariance(chains: Tensor) -> Tensor:
    """Autocovariance of each chain at lags 0, …, n − 1, divisor n."""
    count = len(chains)
    centred = chains - chains.mean(0)
    padded = 2 ** math.ceil(math.log2(2 * count))
    spectrum = torch.fft.rfft(centred, n=padded, dim=0).abs().square()
    return torch.fft.irfft(spectrum, n=padded, dim=0)[:count] / count


def _pooled_median(chains: Tensor) -> Tensor:
    return _quantile(chains.flatten(0, 1), 0.5)


def _quantile(flat: Tensor, probability: float) -> Tensor:
    """Linearly interpolated quantile along the first axis; torch's own stops at 2^24 values."""
    ordered = flat.sort(0).values
    place = probability * (len(flat) - 1)
    low = math.floor(place)
    high = min(low + 1, len(flat) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low)
