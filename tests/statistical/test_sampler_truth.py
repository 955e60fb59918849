"""Samplers against targets whose moments are known, and against one they must confess to.

Chains are independent once warm-up is over, so the standard error of a moment is the spread of
the chains' own means, whatever their autocorrelation. On each target and for each kernel the
largest |z| of all moments of twenty seeds stays below its 1 % Šidák quantile, and Σ z² passes χ²
at 1 % (slow). The quick test has two seeds and a level of .02 %, 1 % for the whole family.
"""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chi2, norm

from latens.inference.samplers import HMC, NUTS, TWO_STAGE
from stand_ins.sampling import sample

CHAINS, DRAWS, WARMUP = 200, 60, 150
QUICK_LEVEL = 0.0002
KERNELS = {"hmc": HMC(), "hmc two stage": HMC(integrator=TWO_STAGE), "nuts": NUTS()}


class Normal:
    """N(0, diag(scale²)) after a rotation; moments along the principal axes."""

    def __init__(self, scale, rotated=False):
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self.dim = len(self.scale)
        axes = torch.eye(self.dim, dtype=torch.float64)
        if rotated:
            generator = torch.Generator().manual_seed(3)
            square = torch.randn(self.dim, self.dim, generator=generator, dtype=torch.float64)
            axes = torch.linalg.qr(square)[0]
        self.axes = axes

    def log_density(self, x):
        return -0.5 * (x @ self.axes / self.scale).square().sum(-1)

    def moments(self, x):
        white = x @ self.axes / self.scale
        return torch.cat([white, white.square()], -1)

    @property
    def truth(self):
        return torch.cat([torch.zeros(self.dim), torch.ones(self.dim)]).double()


class Banana:
    """x₁ ~ N(0, 1), x₂ | x₁ ~ N(x₁² − 1, .5²)."""

    dim = 2
    truth = torch.tensor([0.0, 1.0, 0.0, 0.25, 2.25], dtype=torch.float64)

    def log_density(self, x):
        bent = (x[:, 1] - x[:, 0].square() + 1) / 0.5
        return -0.5 * (x[:, 0].square() + bent.square())

    def moments(self, x):
        first, second = x[..., 0], x[..., 1]
        residual = second - first.square() + 1
        return torch.stack([first, first.square(), second, residual.square(), second.square()], -1)


class TwoModes:
    """.3 N(−2, .7²) + .7 N(2, 1), moments by quadrature."""

    dim = 1

    def log_density(self, x):
        x = x[:, 0]
        left = math.log(0.3 / 0.7) - 0.5 * ((x + 2) / 0.7).square()
        right = math.log(0.7) - 0.5 * (x - 2).square()
        return torch.logaddexp(left, right)

    def moments(self, x):
        return torch.cat([x, x.square(), (x < 0).double()], -1)

    @property
    def truth(self):
        def density(x):
            return math.exp(self.log_density(torch.tensor([[x]], dtype=torch.float64)).item())

        def integral(f):
            return (
                quad(lambda x: f(x) * density(x), -12, 0)[0]
                + quad(lambda x: f(x) * density(x), 0, 12)[0]
            )

        total = integral(lambda x: 1.0)
        values = [
            integral(f) / total for f in (lambda x: x, lambda x: x * x, lambda x: float(x < 0))
        ]
        return torch.tensor(values, dtype=torch.float64)


TARGETS = {
    "N(0, I), 1-D": Normal(torch.ones(1)),
    "N(0, I), 2-D": Normal(torch.ones(2)),
    "N(0, I), 10-D": Normal(torch.ones(10)),
    "N(0, I), 100-D": Normal(torch.ones(100)),
    "condition 1e4, 10-D, rotated": Normal(torch.logspace(-1, 1, 10), rotated=True),
    "banana": Banana(),
    "two modes": TwoModes(),
}


def z_scores(target, kernel, seed, *, chains=CHAINS, draws=DRAWS, warmup=WARMUP):
    generator = torch.Generator().manual_seed(1000 + seed)
    start = 2 * torch.randn(chains, target.dim, generator=generator, dtype=torch.float64)
    run = sample(target.log_density, start, kernel, draws=draws, warmup=warmup, seed=seed)
    diagnosis = run.diagnoses[0]
    assert diagnosis.frozen_chains == 0
    means = target.moments(run.draws).mean(0)  # (C, q)
    error = means.mean(0) - target.truth
    if len(error) <= 5:  # few moments, which may depend on each other: decorrelate them
        factor = torch.linalg.cholesky(torch.atleast_2d(means.T.cov()) / chains)
        return torch.linalg.solve_triangular(factor, error[:, None], upper=False)[:, 0].numpy()
    return (error / (means.std(0) / math.sqrt(chains))).numpy()


def judge(z, level):
    """The two tests of all z-scores, each at a level."""
    count = z.size
    limit = norm.isf((1 - (1 - level) ** (1 / count)) / 2)
    assert np.abs(z).max() < limit, f"largest |z| {np.abs(z).max():.2f}, limit {limit:.2f}"
    low, high = chi2.ppf([level / 2, 1 - level / 2], count)
    assert low < (z**2).sum() < high, f"Σz² {(z**2).sum():.1f} of {count}"


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_moments(target, kernel):
    scores = [z_scores(target, kernel, seed, draws=30, warmup=100) for seed in (0, 1)]
    judge(np.concatenate(scores), QUICK_LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_moments_on_twenty_seeds(request, target, kernel):
    if isinstance(target, Banana):
        reason = "at the usual step size too few chains enter the arms, |z| 7 to 11"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    judge(np.concatenate([z_scores(target, kernel, seed) for seed in range(20)]), 0.01)


@pytest.mark.slow
def test_small_steps_enter_the_arms_of_the_banana():
    seeds = range(20)
    scores = [z_scores(TARGETS["banana"], HMC(target=0.98), seed) for seed in seeds]
    judge(np.concatenate(scores), 0.01)


@pytest.mark.slow
def test_steps_at_the_edge_of_stability_do_not_reflect():
    """With steps up to a whole trajectory Σz² was 272 of 200."""
    target = TARGETS["N(0, I), 1-D"]
    judge(np.concatenate([z_scores(target, HMC(), seed) for seed in range(100)]), 0.01)


@pytest.mark.parametrize("kernel", [HMC(), NUTS(max_depth=6)], ids=["hmc", "nuts"])
def test_the_funnel_is_flagged(kernel):
    """Neal's funnel in 10-D: whatever comes out is marked as not to be trusted."""

    def funnel(x):
        narrow = x[:, 1:].square().sum(-1) * torch.exp(-x[:, 0])
        return -x[:, 0].square() / 18 - 0.5 * (narrow + 9 * x[:, 0])

    for seed in (0,):
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(32, 10, generator=generator, dtype=torch.float64)
        run = sample(funnel, start, kernel, draws=100, warmup=100, seed=seed)
        assert not run.diagnoses[0].trusted


def test_a_wrong_kernel_is_caught():
    """Momenta 6 % too small: the tests above notice."""

    class Cold(HMC):
        def transition(self, hamiltonian, phase, tuning, noise):
            normal = noise.normal
            noise.normal = lambda *shape: 0.94 * normal(*shape)
            return super().transition(hamiltonian, phase, tuning, noise)

    with pytest.raises(AssertionError, match=r"limit|Σz²"):
        judge(z_scores(TARGETS["N(0, I), 10-D"], Cold(), 0), QUICK_LEVEL)
