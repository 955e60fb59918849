"""The power spectrum learned from images, on fields whose spectrum is known."""

import pytest
import torch

from latens.errors import ConfigError, UnsupportedError
from latens.problems import StationaryPrior, fit_stationary
from latens.problems.stationary import filter_channels, radial_average
from oracles.stationary_gaussian import StationaryGaussian, gaussian_power
from problems.operator_cases import normal

SIZE = (12, 13)


def oracle(power: torch.Tensor) -> StationaryGaussian:
    return StationaryGaussian(power, torch.ones_like(power), 0.1)


def half(power: torch.Tensor) -> torch.Tensor:
    return power[..., : power.shape[-1] // 2 + 1]


def stretched() -> torch.Tensor:
    """Power that differs between axes."""
    power = gaussian_power(SIZE, 1.0, 1.0)
    frequency = torch.fft.fftfreq(SIZE[0], dtype=torch.float64)[:, None].abs()
    return power * torch.where(frequency > 0.1, 0.2, 1.0)


@pytest.mark.parametrize("kind", ["isotropic", "stretched"])
def test_many_images_give_the_spectrum(kind):
    power = gaussian_power(SIZE, 1.0, 2.0) if kind == "isotropic" else stretched()
    x = oracle(power).sample_prior(normal(4000, 2, *SIZE)) + normal(2, *SIZE, seed=1)
    prior = fit_stationary(x)
    torch.testing.assert_close(prior.mean, x.mean(0))
    assert prior.power.shape == (2, 12, 7)
    ratio = prior.power / half(power)
    assert (ratio - 1).abs().max() < 0.12  # 5 standard errors of a frequency that has no mirror
    assert (ratio - 1).square().mean().sqrt() < 0.025
    assert prior.variance.flatten().tolist() == pytest.approx([power.mean().item()] * 2, rel=0.02)


@pytest.mark.parametrize("n", [2, 4, 16, 64])
@pytest.mark.parametrize("kind", ["isotropic", "stretched"])
def test_shrinkage_helps_where_images_are_few(n, kind):
    power = gaussian_power(SIZE, 0.5, 2.0) if kind == "isotropic" else stretched()
    shrunk, raw, averaged = [], [], []
    for seed in range(20):
        x = oracle(power).sample_prior(normal(n, 1, *SIZE, seed=seed))
        centred = x - x.mean(0)
        plain = torch.fft.fft2(centred, norm="ortho").abs().square().sum(0) / (n - 1)
        for errors, estimate in (
            (shrunk, fit_stationary(x).power / (1 + 1 / n)),
            (raw, half(plain)),
            (averaged, half(radial_average(plain, 2))),
        ):
            errors.append(((estimate - half(power)) / half(power)).square().mean().item())
    mean = {name: sum(e) / 20 for name, e in (("s", shrunk), ("r", raw), ("a", averaged))}
    if kind == "isotropic":
        assert mean["s"] < 0.6 * mean["r"]
    else:  # shells mix what differs by a factor of 5: little is shrunk
        assert mean["s"] < 1.4 * mean["r"] or n == 2
        assert mean["s"] < 0.5 * mean["a"] or n == 2


def test_the_error_of_the_mean_image_is_in_the_spectrum():
    power = gaussian_power(SIZE, 1.0, 2.0)
    n, trials = 3, 300
    total, predicted = 0.0, 0.0
    for seed in range(trials):
        x = oracle(power).sample_prior(normal(n + 1, 1, *SIZE, seed=seed))
        prior = fit_stationary(x[:n])
        total += (x[n] - prior.mean).square().mean().item() / trials
        predicted += prior.variance.item() / trials
    assert predicted == pytest.approx(total, rel=0.06)
    assert total == pytest.approx(2.0 * (1 + 1 / n), rel=0.06)


def test_variance_of_a_pixel():
    for size in ((7,), (8,), (5, 6), (3, 4, 5)):
        power = gaussian_power(size, 0.8, 1.7)
        prior = StationaryPrior(torch.zeros(1, *size), half(power)[None])
        assert prior.variance.shape == (1, *[1] * len(size))
        assert prior.variance.item() == pytest.approx(1.7)


def test_radial_average():
    values = normal(2, *SIZE)
    average = radial_average(values, 2)
    torch.testing.assert_close(average.sum((1, 2)), values.sum((1, 2)))
    torch.testing.assert_close(average[:, 0, 0], values[:, 0, 0])
    torch.testing.assert_close(radial_average(average, 2), average)
    assert average.std() < 0.5 * values.std()
    torch.testing.assert_close(average[:, 1, 2], average[:, -1, -2])
    far = radial_average(normal(4, 4, 9), 2)  # along the longer axis every frequency is a shell
    assert len(far[0, 0, :5].unique()) == 5


def test_filter_channels():
    power = gaussian_power(SIZE, 1.0, 1.0)
    x = normal(3, 2, *SIZE)
    both = torch.stack([half(power), 2 * half(power)])
    result = filter_channels(x, both, SIZE)
    expected = oracle(power).filter(x, power)
    torch.testing.assert_close(result[:, 0], expected[:, 0])
    torch.testing.assert_close(result[:, 1], 2 * expected[:, 1])
    assert filter_channels(x.float(), both, SIZE).dtype == torch.float32


def test_equal_images_have_no_spectrum():
    x = normal(1, 1, *SIZE).expand(5, 1, *SIZE)
    prior = fit_stationary(x)
    assert prior.power.abs().max() < 1e-25
    assert prior.power.isfinite().all()
    torch.testing.assert_close(prior.mean, x[0])


def test_bad_input():
    with pytest.raises(ConfigError, match="`x`: expected two or more images"):
        fit_stationary(normal(1, 1, 4, 4))
    with pytest.raises(UnsupportedError, match="needs a grid"):
        fit_stationary(normal(5, 4))
