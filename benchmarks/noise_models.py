"""How exact are the noise models? Deviations that the tests bound, as numbers.

    python benchmarks/noise_models.py

compares each model with quadrature of its own density, with automatic differentiation and with
100,000 of its own samples, at clean values 0, 0.1, 0.6 and 3, in float64. Half a minute.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from scipy import stats

from problems.operator_cases import NOISES
from problems.test_noise_models import CLEAN, measured, quadrature, score_by_autograd

SAMPLES = 100_000


def main() -> None:
    """Print one row per model."""
    print("| model | 1 − ∫p | mean, variance | score | Fisher information | smallest KS p of 4 |")
    print("|---|---|---|---|---|---|")
    for name, make in NOISES.items():
        noise = make()
        y, weight, density = quadrature(noise, CLEAN)
        distribution = noise.elementwise(CLEAN)
        mass = weight * density
        mean = (mass * y).sum(0)
        variance = (mass * (y - mean).square()).sum(0)
        moments = max(
            (distribution.mean - mean).abs().max().item(),
            (distribution.variance / variance - 1).abs().max().item(),
        )
        # without the ends of the grid, where a density of e⁻⁹⁸ has no accurate logarithm
        inner = y[2000:6001:400]
        exact = score_by_autograd(noise, inner, CLEAN)
        score = ((noise.score(inner, CLEAN) - exact).abs() / (1 + exact.abs())).max().item()
        information = (mass * noise.score(y, CLEAN).square()).sum(0)
        fisher = noise.fisher(CLEAN)
        kept = information > 0  # the mean of a Rician says nothing of c at c = 0
        error = (fisher[kept] / information[kept] - 1).abs().max().item()
        samples, cumulative = measured(noise, CLEAN, SAMPLES), mass.cumsum(0)
        p = min(
            stats.kstest(
                samples[:, k].numpy(),
                partial(np.interp, xp=y[:, k].numpy(), fp=cumulative[:, k].numpy()),
            ).pvalue
            for k in range(len(CLEAN))
        )
        total = (mass.sum(0) - 1).abs().max().item()
        print(f"| {name} | {total:.0e} | {moments:.0e} | {score:.0e} | {error:.0e} | {p:.2f} |")


if __name__ == "__main__":
    main()
