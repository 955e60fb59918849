"""Hierarchical Gompertz growth of treated lesions, read at irregular visits.

    ε_i ~ N(0, I₅)                                         what is special about patient i
    m_k+1 = G(l_k; α_i, κ_i, e_i, λ)                       Gompertz growth under treatment
    y_k+1 ~ repeat of y_k | vanished | N-mixture(m_k+1, s_i)   a reading, left-censored
    l_k+1 = m_k+1 + g (y_k+1 − m_k+1)                      the level after the reading

The level follows the readings by a gain g (an innovations model): changes that Gompertz growth
does not explain last, as they do in patients, and g < 1 forgives errors of measurement. With
α_i → 0 and g = 1 it is a random walk around the last value with the scale s_i of the patient.
All levels are logs of volumes over the limit of detection, times are in units of the usual gap.

| symbol | entry of `POPULATION` or effect | meaning |
|---|---|---|
| κ_i | `plateau` + exp(`plateau_spread`) ε₁ | level at which growth ends |
| log α_i | `rate` + exp(`rate_spread`) ε₂ | rate of approach |
| log e_i | `effect` + exp(`effect_spread`) ε₃ | fall per gap when treatment begins |
| log λ | `decay` | how fast the treatment wears off |
| log s_i | `scale` + exp(`scale_spread`) ε₄ + … | width of a change |
| repeat | `repeat` + exp(`repeat_spread`) ε₅ + … | log-odds that a reading repeats |

A patient's few visits say little about five numbers; the population says the rest.

References:
    Hyndman, Koehler, Ord, Snyder (2008), Forecasting with exponential smoothing (innovations
    models), https://doi.org/10.1007/978-3-540-71918-2.
"""

import torch
from torch import Tensor

from latens.data import treated_gompertz
from latens.distributions import Reading
from latens.models.visits import Visits

EFFECTS = 5
"""Numbers that are special to a patient."""

POPULATION: dict[str, tuple[float, float]] = {
    "plateau": (7.0, 3.0),
    "plateau_spread": (0.0, 1.0),
    "rate": (-2.5, 1.0),
    "rate_spread": (-1.0, 1.0),
    "effect": (-2.0, 1.0),
    "effect_spread": (-0.5, 1.0),
    "decay": (-1.0, 1.0),
    "gain": (1.0, 0.5),
    "scale": (-1.5, 1.0),
    "scale_spread": (-1.0, 1.0),
    "scale_size": (0.0, 0.5),
    "scale_gap": (0.0, 0.5),
    "ratio": (1.0, 0.5),
    "wide": (-1.5, 1.0),
    "repeat": (-1.0, 1.0),
    "repeat_spread": (-0.5, 1.0),
    "repeat_size": (0.0, 0.5),
    "repeat_gap": (0.0, 0.5),
    "repeat_move": (-0.5, 1.0),
    "repeat_again": (0.0, 1.0),
    "vanish": (-5.0, 2.0),
    "vanish_size": (-1.0, 1.0),
    "vanish_fall": (0.0, 0.5),
    "reappear": (-2.0, 2.0),
    "reappear_scale": (1.0, 1.0),
    "final_shift": (0.0, 0.5),
    "final_scale": (0.0, 0.5),
    "final_repeat": (0.0, 1.0),
    "final_vanish": (0.0, 1.0),
}
"""Population parameters: where each normal prior is centred, and its standard deviation."""

_SIZE, _SIZE_SPREAD = 7.0, 2.5
"""Level, and change of it, that counts as one unit of size."""


class Population:
    """Population parameters by name, from one vector.

    Args:
        theta: `(p,)` in the order of `POPULATION`.
    """

    def __init__(self, theta: Tensor) -> None:
        self._theta = dict(zip(POPULATION, theta.unbind(-1), strict=True))

    def __getitem__(self, name: str) -> Tensor:
        return self._theta[name]

    def spread(self, name: str) -> Tensor:
        """Standard deviation over patients."""
        return self._theta[f"{name}_spread"].exp()


def prior_start(dtype: torch.dtype) -> Tensor:
    """Centre of the prior of the population parameters, `(p,)`."""
    return torch.tensor([centre for centre, _ in POPULATION.values()], dtype=dtype)


def log_prior(theta: Tensor) -> Tensor:
    """Log-density of the population parameters up to a constant, `(..., p)` → `(...)`."""
    spread = torch.tensor([s for _, s in POPULATION.values()], dtype=theta.dtype)
    return -0.5 * ((theta - prior_start(theta.dtype)) / spread).square().sum(-1)


class Filter:
    """The level of every patient, carried from visit to visit.

    Args:
        theta: Population parameters, `(p,)`.
        effects: ε, `(S, B, 5)` or `(B, 5)`.
        first: Level of the first reading, `(B,)` or `(S, B)`.
    """

    def __init__(self, theta: Tensor, effects: Tensor, first: Tensor) -> None:
        self.population = Population(theta)
        self.effects = effects
        self.level = first.expand(effects.shape[:-1])
        self.loc = self.level
        self.fall = torch.zeros_like(self.level)
        self.repeated = torch.zeros_like(self.level)

    def narrowed(self, rows: int) -> None:
        """Go on with the first patients only."""
        self.effects = self.effects[..., :rows, :]
        self.level, self.fall = self.level[..., :rows], self.fall[..., :rows]
        self.repeated = self.repeated[..., :rows]

    def reading(self, last: Tensor, since: Tensor, gap: Tensor, final: Tensor) -> Reading:
        """Distribution of the next reading.

        Args:
            last: Level read before, broadcastable to `(S, B)`.
            since: Time of that visit since the first one.
            gap: Time until the next.
            final: 1 where the next visit is known to end the series, else 0.

        Returns:
            Batch `(S, B)`, in levels: its limit of detection is 0.
        """
        p, effects = self.population, self.effects.unbind(-1)
        loc = treated_gompertz(
            self.level,
            gap,
            since,
            (p["rate"] + p.spread("rate") * effects[1]).exp(),
            p["plateau"] + p.spread("plateau") * effects[0],
            (p["effect"] + p.spread("effect") * effects[2]).exp(),
            p["decay"].exp(),
        )
        size = (last - _SIZE) / _SIZE_SPREAD
        unseen = (last <= 0).to(loc)
        log_gap = gap.clamp(min=1e-3).log()
        log_scale = p["scale"] + p.spread("scale") * effects[3] + p["scale_size"] * size
        log_scale = log_scale + p["scale_gap"] * log_gap + p["final_scale"] * final
        scale = (log_scale + p["reappear_scale"] * unseen).clamp(-6.0, 3.0).exp()
        loc = loc + p["final_shift"] * final
        move = (loc - last).abs()
        repeat = p["repeat"] + p.spread("repeat") * effects[4] + p["repeat_size"] * size
        repeat = repeat + p["repeat_gap"] * log_gap + p["repeat_move"] * move
        repeat = repeat + p["repeat_again"] * self.repeated + p["final_repeat"] * final
        vanish = p["vanish"] + p["vanish_size"] * size + p["vanish_fall"] * self.fall
        vanish = vanish + p["final_vanish"] * final
        new = p["reappear"] * unseen
        kinds = torch.stack(torch.broadcast_tensors(new, repeat, vanish), -1)
        self.loc = loc
        return Reading(loc, scale, 1 + p["ratio"].exp(), p["wide"], kinds, last, 0.0)

    def observe(self, last: Tensor, value: Tensor) -> None:
        """Move the levels after a reading.

        Args:
            last: Level read before.
            value: Level read now, broadcastable to `(S, B)`.
        """
        # All that a reading below the limit says of a level below it is that it may stand.
        innovation = torch.where(value > 0, value - self.loc, (-self.loc).clamp(max=0.0))
        self.level = self.loc + self.population["gain"] * innovation
        self.fall = (last - value).clamp(-3.0, 3.0).expand(self.level.shape)
        same = ((value == last) & (value > 0)).to(self.level)
        self.repeated = same.expand(self.level.shape)


def run_filter(theta: Tensor, effects: Tensor, visits: Visits) -> tuple[Tensor, Filter]:
    """Log-likelihood of all readings after the first, and the filter at the last visit.

    Args:
        theta: Population parameters, `(p,)`.
        effects: ε, `(S, B, 5)`.
        visits: Readings of B patients, those with most visits first.

    Returns:
        Nats, `(S, B)`, summed over visits; and the filter, whose levels stand at the last visit of
        each patient.
    """
    count = visits.mask.sum(0).tolist()  # patients who have a k-th visit
    gaps, final = visits.gaps, visits.final.to(visits.level)
    state = Filter(theta, effects, visits.level[:, 0])
    total = torch.zeros_like(state.level)
    ended: list[tuple[Tensor, Tensor, Tensor]] = []
    for k in range(1, len(count)):
        n = int(count[k])
        if n < state.level.shape[-1]:
            ended.append(_tail(state, n))
            state.narrowed(n)
        if n == 0:
            break
        last, value = visits.level[:n, k - 1], visits.level[:n, k]
        reading = state.reading(last, visits.since[:n, k - 1], gaps[:n, k], final[:n, k])
        gained = reading.log_prob(value)
        rest = total.shape[-1] - n
        total = total + torch.nn.functional.pad(gained, (0, rest))
        state.observe(last, value)
    pieces = [_tail(state, 0), *reversed(ended)]
    state.level, state.fall, state.repeated = (
        torch.cat([piece[j] for piece in pieces], -1) for j in range(3)
    )
    state.effects = effects
    return total, state


def _tail(state: Filter, start: int) -> tuple[Tensor, Tensor, Tensor]:
    return state.level[..., start:], state.fall[..., start:], state.repeated[..., start:]
