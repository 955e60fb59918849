"""Gompertz growth under a treatment that wears off, and series simulated from it.

    dV/dt = α V ln(K/V) − e exp(−λ t) V

With y = ln V and κ = ln K this is linear, dy/dt = α(κ − y) − e exp(−λ t), and

    y(t + Δ) = κ + (y(t) − κ) exp(−αΔ) − e exp(−λ t) (exp(−λΔ) − exp(−αΔ)) / (α − λ).

References:
    Gompertz growth of tumours: Laird (1964), https://doi.org/10.1038/bjc.1964.55;
    a drug effect that decays as resistance grows: Claret et al. (2009),
    https://doi.org/10.1200/JCO.2008.21.0807.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.data.series import VolumeSeries
from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError


def treated_gompertz(
    level: Tensor,
    gap: Tensor,
    since: Tensor,
    rate: Tensor,
    plateau: Tensor,
    effect: Tensor,
    decay: Tensor,
) -> Tensor:
    """Log volume after a gap, in closed form; all arguments are broadcast.

    Args:
        level: y(t), log volume.
        gap: Δ ≥ 0, time.
        since: t ≥ 0, time since treatment began.
        rate: α > 0, per time.
        plateau: κ, log volume.
        effect: e, fall of the log volume per time when treatment begins.
        decay: λ ≥ 0, per time.

    Returns:
        y(t + Δ), log volume.
    """
    apart = (rate - decay).abs() * gap
    # (exp(−λΔ) − exp(−αΔ))/(α − λ), symmetric in α and λ, without 0/0 where they meet
    near = apart < 1e-5
    safe = torch.where(near, 1.0, apart)
    quotient = torch.where(near, 1 - apart / 2, -torch.expm1(-safe) / safe)
    memory = gap * torch.exp(-torch.minimum(rate, decay) * gap) * quotient
    fall = effect * torch.exp(-decay * since) * memory
    return plateau + (level - plateau) * torch.exp(-rate * gap) - fall


@dataclass(frozen=True)
class GrowthSimulation:
    """A population of treated lesions with known parameters.

    Patient i has α_i = rate · exp(spread · n), κ_i = plateau + plateau_spread · n,
    e_i = effect · exp(spread · n), first log volume start + start_spread · n, with its own
    standard normal n each time. A visit reads log V with a normal error; with the probability
    `repeat` it copies the reading before; what is below the limit is read as 0.

    Args:
        count: Patients.
        visits: Visits of each, at least 2.
        interval: Mean time between visits, days; each gap is uniform within ± half of it.
        rate: Median α, per day.
        plateau: Mean κ, log mm³.
        plateau_spread: Standard deviation of κ.
        effect: Median e, per day; 0 for no treatment.
        decay: λ, per day.
        spread: Standard deviation of log α and of log e.
        start: Mean log volume at the first visit.
        start_spread: Its standard deviation.
        noise: Standard deviation of a reading of log V.
        repeat: Probability that a reading copies the one before.
        limit: Limit of detection, mm³.

    Raises:
        ConfigError: If a number is out of range.
    """

    count: int = 100
    visits: int = 7
    interval: float = 42.0
    rate: float = 0.01
    plateau: float = 9.0
    plateau_spread: float = 1.0
    effect: float = 0.03
    decay: float = 0.02
    spread: float = 0.3
    start: float = 8.0
    start_spread: float = 1.0
    noise: float = 0.1
    repeat: float = 0.0
    limit: float = 5.0

    def __post_init__(self) -> None:
        positive = min(self.interval, self.rate, self.limit) > 0
        counted = self.count >= 1 and self.visits >= 2
        others = (self.effect, self.decay, self.spread, self.plateau_spread, self.start_spread)
        if not (positive and counted and min(*others, self.noise) >= 0 and 0 <= self.repeat < 1):
            raise ConfigError(
                "simulation",
                "count ≥ 1, visits ≥ 2, interval, rate and limit above 0, repeat in [0, 1), all "
                "other spreads and rates 0 or more",
                self,
                "Correct the number that breaks this.",
            )

    def make(self, seed: int) -> tuple[VolumeSeries, Tensor]:
        """Series, and the true log volume at each visit, `(count, visits)`."""
        noise = NoiseStream(seed, Purpose.SIMULATION)
        n, t = self.count, self.visits
        own = noise.normal((4, n, 1), torch.float64)
        rate = self.rate * (self.spread * own[0]).exp()
        plateau = self.plateau + self.plateau_spread * own[1]
        effect = self.effect * (self.spread * own[2]).exp()
        start = self.start + self.start_spread * own[3]
        gaps = self.interval * (0.5 + noise.uniform((n, t), torch.float64))
        gaps[:, 0] = 0.0
        times = gaps.cumsum(1)
        decay = torch.tensor(self.decay, dtype=torch.float64)
        zero = torch.zeros_like(times)
        truth = treated_gompertz(start, times, zero, rate, plateau, effect, decay)
        read = truth + self.noise * noise.normal((n, t), torch.float64)
        copied = noise.uniform((n, t), torch.float64) < self.repeat
        for k in range(1, t):
            read[:, k] = torch.where(copied[:, k], read[:, k - 1], read[:, k])
        volumes = torch.where(read > math.log(self.limit), read.exp(), 0.0)
        names = tuple(f"patient{i:04d}" for i in range(n))
        mask = torch.ones(n, t, dtype=torch.bool)
        return VolumeSeries(names, times, volumes, mask, self.limit), truth
