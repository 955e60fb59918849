"""Poisson-Gaussian noise against sums over every number of photons, and in extremes."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from latens.distributions import draw
from latens.errors import ConfigError
from latens.problems import PoissonGaussianNoise
from latens.problems.photon_sums import poisson_quantile
from latens.problems.poisson_gaussian import DARK, photon_information
from problems.operator_cases import normal

WIDTHS = [1e-3, 0.1, 0.5, 3.0, 100.0, 1e3]
RATES = [0.0, 1e-3, 0.3, 5.0, 23.0, 25.0, 60.0, 1e3, 1e6]
OFFSETS = [-6.0, -1.0, 0.2, 3.0, 8.0]


def brute_force(u: float, rate: float, width: float) -> tuple[float, float]:
    """log p(u) and its derivative in the rate, summed over every relevant number of photons."""
    margin = 12 * math.sqrt(rate) + 60
    k = np.arange(max(0, math.floor(min(rate, u) - margin)), math.ceil(max(rate, u) + margin))
    # log Poisson(k; λ) by its ratio to the largest term: sums of logarithms of k/λ
    peak = int(np.clip(math.floor(rate), k[0], k[-1]))
    ratios = np.cumsum(np.log(rate / k[1:].astype(np.longdouble)))
    ratios = np.concatenate([[0], ratios])
    log_poisson = ratios - ratios[peak - k[0]] + stats.poisson.logpmf(peak, rate)
    terms = log_poisson - 0.5 * ((np.longdouble(u) - k) / width) ** 2
    weight = np.exp(terms - terms.max())
    total = np.log(weight.sum()) + terms.max() - math.log(width) - 0.5 * math.log(2 * math.pi)
    return float(total), float((weight * (k - rate)).sum() / weight.sum() / rate)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rate", RATES)
def test_density_and_score_against_brute_force(rate, width):
    gain = 0.02
    noise = PoissonGaussianNoise(gain, gain * width)
    spread = math.sqrt(rate + width**2)
    photons = {*(rate + z * spread for z in OFFSETS), round(rate) + 0.7 * width}
    y = gain * torch.tensor(sorted(photons), dtype=torch.float64)
    clean = torch.full_like(y, gain * rate).requires_grad_()
    log_prob = noise.elementwise(clean).log_prob(y)
    (slope,) = torch.autograd.grad(log_prob.sum(), clean)
    for at, found, derivative in zip(y.tolist(), log_prob, slope, strict=True):
        expected, expected_slope = brute_force(at / gain, rate + DARK, noise.scale / gain)
        assert found.item() == pytest.approx(expected - math.log(gain), rel=1e-9, abs=1e-9)
        # a slope of 1/spread is one unit of information
        allowed = 1e-7 / max(spread, 1)
        assert gain * derivative.item() == pytest.approx(expected_slope, rel=1e-7, abs=allowed)


@pytest.mark.parametrize("rate", [0.0, 0.3, 23.0, 1e3, 1e6])
def test_float32(rate):
    noise = PoissonGaussianNoise(0.02, 0.05)
    spread = 0.02 * math.sqrt(rate + 2.5**2)
    clean = torch.full((5,), 0.02 * rate)
    y = clean + spread * torch.tensor([-4.0, -1.0, 0.1, 2.0, 6.0])
    wide = noise.elementwise(clean.double())
    found = noise.elementwise(clean).log_prob(y)
    torch.testing.assert_close(found, wide.log_prob(y.double()).float())
    torch.testing.assert_close(noise.score(y, clean), wide.score(y.double()).float())


def test_no_jump_where_the_nodes_change():
    """Derivatives that miss a jump of the value would show in its differences."""
    noise = PoissonGaussianNoise(1.0, 2.0)
    clean = torch.linspace(15, 40, 20_001, dtype=torch.float64)
    y = torch.full_like(clean, 27.3)
    value, slope = noise.elementwise(clean).log_prob(y), noise.score(y, clean)
    step = clean[1] - clean[0]
    missed = value.diff() - step * (slope[1:] + slope[:-1]) / 2
    assert missed.abs().max() < 1e-9


def test_negative_brightness_counts_as_zero():
    noise = PoissonGaussianNoise(0.3, 0.2)
    y = torch.tensor([-0.3, 0.1, 0.5], dtype=torch.float64)
    clean = torch.tensor([-1.0, 0.0], dtype=torch.float64)[:, None].expand(2, 3).clone()
    distribution = noise.elementwise(clean.requires_grad_())
    log_prob = distribution.log_prob(y)
    dark = stats.norm.logpdf(y.numpy(), 0, 0.2)
    np.testing.assert_allclose(log_prob.detach(), [dark, dark], rtol=1e-7)
    (slope,) = torch.autograd.grad(log_prob.sum(), clean)
    assert (slope[0] == 0).all()
    from_the_right = (np.exp((y.numpy() / 0.3 - 0.5) / (0.2 / 0.3) ** 2) - 1) / 0.3
    np.testing.assert_allclose(slope[1], from_the_right, rtol=1e-6)
    torch.testing.assert_close(noise.score(y, clean.detach()), slope)
    assert (distribution.mean[0] == distribution.mean[1]).all()
    assert (noise.fisher(clean[0]) == noise.fisher(clean[1])).all()


def test_everything_is_finite_far_from_the_truth():
    noise = PoissonGaussianNoise(1e-3, 1e-3)
    clean = torch.tensor([0.0, 0.0, 1e3, 1.0])
    y = torch.tensor([1.0, -5.0, 0.0, 100.0])
    for value in (noise(clean, 0).log_prob(y), noise.score(y, clean), noise.fisher(clean)):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("rate", [1e-9, 0.01, 0.7, 12.0, 400.0, 1e6])
def test_photons_are_the_inverse_of_their_distribution(rate):
    z = np.concatenate([normal(3000).numpy(), [-7.5, -6.0, 0.0, 6.0, 7.5]])
    k = poisson_quantile(z, np.array(rate))
    assert (k == np.round(k)).all()
    # the smallest k with P(K ≤ k) ≥ Φ(z), each tail on its own scale
    below = special.pdtr(k - 1, rate) < special.ndtr(z)
    reached = special.pdtr(k, rate) >= special.ndtr(z)
    upper = z > 0
    below[upper] = (special.pdtrc(k - 1, rate) > special.ndtr(-z))[upper]
    reached[upper] = (special.pdtrc(k, rate) <= special.ndtr(-z))[upper]
    assert (below | (k == 0)).all()
    assert reached.all()


def test_photons_follow_poisson():
    rate = 3.4
    k = poisson_quantile(normal(20_000).numpy(), np.array(rate))
    observed = np.bincount(np.minimum(k, 10).astype(int), minlength=11)
    share = np.append(stats.poisson.pmf(range(10), rate), stats.poisson.sf(9, rate))
    assert stats.chisquare(observed, share * 20_000).pvalue > 0.001


def test_draws_are_a_function_of_their_noise():
    noise = PoissonGaussianNoise(0.5, 0.1)
    clean = torch.tensor([0.0, 1.0, 30.0], dtype=torch.float64)
    numbers = normal(40, 3, 2)
    drawn = draw(noise(clean, 1), numbers)
    photons = (drawn - 0.1 * numbers[..., 1]) / 0.5
    torch.testing.assert_close(photons, photons.round(), rtol=0, atol=1e-9)
    assert (photons.diff(dim=0) != 0).any(0).tolist() == [False, True, True]
    assert torch.equal(drawn, draw(noise(clean, 1), numbers))
    assert torch.equal(drawn[3], draw(noise(clean, 1), numbers[3]))


@pytest.mark.parametrize("width", [0.05, 0.2, 1.0, 30.0])
def test_information_over_its_whole_range(width):
    noise = PoissonGaussianNoise(0.1, 0.1 * width)
    rates = torch.logspace(-8.5, 6, 40, dtype=torch.float64)
    found = noise.fisher(0.1 * (rates - DARK)) * 0.1**2
    assert (found.diff() <= 0).all()  # adding photons that one does not need tells nothing more
    for rate, value in list(zip(rates.tolist(), found.tolist(), strict=True))[::3]:
        assert value == pytest.approx(photon_information(rate, width), rel=1e-5)
    bright = 1 / (rates[-1] + width**2)
    assert found[-1].item() == pytest.approx(bright.item(), rel=1e-5)


def test_information_of_the_dark_is_closed_form():
    noise = PoissonGaussianNoise(1.0, 0.8)
    found = noise.fisher(torch.zeros((), dtype=torch.float64)).item()
    assert found == pytest.approx(math.expm1(1 / 0.8**2), rel=1e-5)


def test_estimate_keeps_what_is_known():
    clean = torch.linspace(0, 1, 5000, dtype=torch.float64)
    truth = PoissonGaussianNoise(0.05, 0.03)
    y = draw(truth(clean, 1), normal(5000, 2))
    with_scale = PoissonGaussianNoise(scale=0.03).estimate(y, clean)
    assert with_scale.scale == 0.03
    assert with_scale.gain == pytest.approx(0.05, rel=0.1)
    with_gain = PoissonGaussianNoise(gain=0.05).estimate(y, clean)
    assert with_gain.gain == 0.05
    assert with_gain.scale == pytest.approx(0.03, rel=0.15)


def test_estimate_is_the_maximum():
    clean = 2 * torch.linspace(0, 1, 400, dtype=torch.float64)
    y = draw(PoissonGaussianNoise(0.2, 0.1)(clean, 1), normal(400, 2))
    found = PoissonGaussianNoise().estimate(y, clean)
    best = found(clean, 1).log_prob(y)
    for factor in (0.97, 1.03):
        assert PoissonGaussianNoise(found.gain * factor, found.scale)(clean, 1).log_prob(y) < best
        assert PoissonGaussianNoise(found.gain, found.scale * factor)(clean, 1).log_prob(y) < best


def test_estimate_does_not_depend_on_where_the_bright_pixels_are():
    # images of 64 × 64 with a dark first column, so many that most elements are left out
    clean = torch.zeros(512, 64, 64, dtype=torch.float64)
    clean[:, :, 1:] = torch.linspace(0.1, 1, 63, dtype=torch.float64)
    truth = PoissonGaussianNoise(0.05, 0.02)
    y = draw(truth(clean, 3), normal(512, 64, 64, 2, dtype=torch.float32).double())
    found = PoissonGaussianNoise().estimate(y, clean)
    assert found.gain == pytest.approx(0.05, rel=0.05)
    assert found.scale == pytest.approx(0.02, rel=0.2)


def test_bad_gain():
    with pytest.raises(ConfigError, match="`gain`: expected a positive number, got -1"):
        PoissonGaussianNoise(-1.0, 0.1)
    with pytest.raises(ConfigError, match="`gain`: expected a known noise level"):
        PoissonGaussianNoise(scale=0.1).elementwise(torch.ones(2))


@pytest.mark.parametrize("brightness", [0.02, 0.5])
def test_shifted_counts_have_mean_and_variance_of_a_count(brightness):
    """u less what is cut off at 0: mean and variance λ + τ², here at 1 and 25 photons."""
    noise = PoissonGaussianNoise(gain=0.02, scale=0.01)
    clean = torch.full((200_000,), brightness, dtype=torch.float64)
    y = draw(noise.elementwise(clean), normal(200_000, 2, seed=3))
    counts, expected = noise.shifted_counts(y, clean)
    rate = brightness / 0.02 + 0.25
    torch.testing.assert_close(expected, torch.full_like(expected, rate))
    assert counts.min() >= 0
    uncut = y / 0.02 + 0.25
    torch.testing.assert_close(counts, uncut.clamp_min(0))
    assert uncut.mean().item() == pytest.approx(rate, abs=4 * (rate / 200_000) ** 0.5)
    assert uncut.var().item() == pytest.approx(rate, rel=0.02)
