"""Quality metrics against direct implementations."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_poisson_deviance
from torchmetrics.functional.image import structural_similarity_index_measure

from latens.errors import ConfigError, DataError, ShapeError
from latens.metrics import (
    data_chi2,
    mse,
    nmse,
    oracle_gap,
    poisson_deviance,
    psnr,
    psnr_of_draws,
    relative_error,
    ssim,
)


def _pair(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x + 0.2 * noise, x


def _direct_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Window by window, two-pass moments: nothing shared with the implementation."""
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = taps
    for _ in range(a.ndim - 1):
        window = np.multiply.outer(window, taps)
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for corner in np.ndindex(*(n - 10 for n in a.shape)):
        part = tuple(slice(i, i + 11) for i in corner)
        mean_a, mean_b = (window * a[part]).sum(), (window * b[part]).sum()
        var_a = (window * (a[part] - mean_a) ** 2).sum()
        var_b = (window * (b[part] - mean_b) ** 2).sum()
        cov = (window * (a[part] - mean_a) * (b[part] - mean_b)).sum()
        values.append(
            (2 * mean_a * mean_b + c1)
            * (2 * cov + c2)
            / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    return float(np.mean(values))


def test_errors_reduce_over_the_event_and_keep_the_batch():
    x_hat, x = _pair((3, 2, 5, 4))
    square = ((x_hat - x) ** 2).numpy()
    np.testing.assert_allclose(mse(x_hat, x), square.mean((1, 2, 3)))
    np.testing.assert_allclose(
        nmse(x_hat, x), square.sum((1, 2, 3)) / (x.numpy() ** 2).sum((1, 2, 3))
    )
    np.testing.assert_allclose(
        psnr(x_hat, x, 2.0), 10 * np.log10(4 / square.mean((1, 2, 3))), rtol=1e-12
    )


def test_psnr_of_a_known_error():
    x = torch.zeros(1, 1, 4, 4)
    assert psnr(x + 0.1, x, 1.0).item() == pytest.approx(20.0, abs=1e-5)
    assert psnr(x, x, 1.0).item() == math.inf


def test_psnr_of_single_draws_averages_decibels():
    x = torch.zeros(2, 1, 4, 4)
    draws = torch.stack([x + 0.1, x - 1.0, x + 0.01])  # 20, 0 and 40 dB
    torch.testing.assert_close(psnr_of_draws(draws, x, 1.0), torch.full((2,), 20.0))
    with pytest.raises(ShapeError, match="draws"):
        psnr_of_draws(draws[0], x, 1.0)


def test_nmse_of_the_zero_image_is_one():
    _, x = _pair((2, 1, 6, 6))
    torch.testing.assert_close(nmse(torch.zeros_like(x), x), torch.ones(2, dtype=x.dtype))


@pytest.mark.parametrize("shape", [(2, 1, 16, 13), (2, 2, 12, 14), (1, 1, 12, 13, 14)])
def test_ssim_agrees_with_a_direct_implementation(shape: tuple[int, ...]):
    x_hat, x = _pair(shape)
    for image in range(shape[0]):
        direct = np.mean(
            [
                _direct_ssim(x_hat[image, c].numpy(), x[image, c].numpy(), 1.3)
                for c in range(shape[1])
            ]
        )
        assert ssim(x_hat, x, 1.3)[image].item() == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize("shape", [(3, 2, 24, 30), (2, 1, 16, 18, 20)])
def test_ssim_agrees_with_torchmetrics_inside_the_image(shape: tuple[int, ...]):
    x_hat, x = _pair(shape)
    _, full = structural_similarity_index_measure(
        x_hat, x, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = full[(..., *(slice(5, -5) for _ in shape[2:]))]
    torch.testing.assert_close(ssim(x_hat, x, 1.0), inside.flatten(1).mean(1))


def test_ssim_of_equal_images_is_one_and_far_offsets_keep_their_digits():
    x_hat, x = _pair((2, 1, 16, 16))
    torch.testing.assert_close(ssim(x, x, 1.0), torch.ones(2, dtype=x.dtype))
    single = ssim((x_hat + 100).float(), (x + 100).float(), 1.0)
    double = ssim(x_hat + 100, x + 100, 1.0)
    torch.testing.assert_close(single.double(), double, atol=2e-4, rtol=0)


def test_ssim_refuses_images_smaller_than_its_window():
    x = torch.rand(1, 1, 10, 32)
    with pytest.raises(ShapeError, match="at least 11 elements"):
        ssim(x, x, 1.0)


@pytest.mark.parametrize("metric", [mse, nmse])
def test_shapes_never_broadcast(metric):
    with pytest.raises(ShapeError, match="x_hat"):
        metric(torch.rand(2, 1, 4, 4), torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan, math.inf])
def test_the_range_is_positive_and_finite(data_range: float):
    x = torch.rand(1, 1, 12, 12)
    with pytest.raises(ConfigError, match="data_range"):
        psnr(x, x + 1, data_range)


def test_chi2_of_the_truth_is_one():
    noise = torch.randn(400, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    assert data_chi2(noise).mean().item() == pytest.approx(1.0, abs=4 * math.sqrt(2 / 102400))


def test_unit_variance_likelihood_is_a_function_of_the_rmse():
    """−(D/2)(log 2π + RMSE²): the identity that reproduces published tables."""
    x_hat, x = _pair((3, 1, 7, 5))
    log_prob = torch.distributions.Normal(x_hat, 1.0).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(log_prob, -(35 / 2) * (math.log(2 * math.pi) + mse(x_hat, x)))


def test_poisson_deviance_agrees_with_scikit_learn():
    rng = np.random.default_rng(5)
    expected = rng.uniform(0.05, 8, size=(6, 1, 5, 7))
    counts = rng.poisson(expected).astype(float)
    assert (counts == 0).any()
    found = poisson_deviance(torch.from_numpy(counts), torch.from_numpy(expected))
    direct = [
        mean_poisson_deviance(c.ravel(), e.ravel()) for c, e in zip(counts, expected, strict=True)
    ]
    np.testing.assert_allclose(found, direct, rtol=1e-12)


@pytest.mark.parametrize(("rate", "stated"), [(0.1, 0.47), (1.5, 1.16), (5.0, 1.05), (200.0, 1.0)])
def test_poisson_deviance_of_the_truth_is_what_its_definition_says(rate: float, stated: float):
    k = np.arange(500)
    each = poisson_deviance(
        torch.from_numpy(k[:, None].astype(float)), torch.full((500, 1), rate).double()
    )
    assert (stats.poisson.pmf(k, rate) * each.numpy()).sum() == pytest.approx(stated, abs=0.006)


def test_counts_below_zero_have_no_deviance():
    with pytest.raises(DataError, match="shifted_counts"):
        poisson_deviance(-torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(DataError, match="expected counts"):
        poisson_deviance(torch.ones(1, 3), torch.zeros(1, 3))


def test_oracle_gap_of_the_exact_mean_and_of_one_draw():
    """x ~ N(0, 1) seen in noise of variance s²: the posterior is N(y/(1 + s²), s²/(1 + s²))."""
    generator = torch.Generator().manual_seed(6)
    n, noise = 4000, 0.5

    def normal() -> torch.Tensor:
        return torch.randn(n, 20, generator=generator, dtype=torch.float64)

    x = normal()
    y = x + noise**0.5 * normal()
    mean, variance = y / (1 + noise), noise / (1 + noise)
    mmse = torch.full((n,), variance, dtype=torch.float64)
    assert oracle_gap(mse(mean, x), mmse) == pytest.approx(0.0, abs=4 * (2 / (20 * n)) ** 0.5)
    draw = mean + variance**0.5 * normal()
    assert oracle_gap(mse(draw, x), mmse) == pytest.approx(1.0, abs=8 * (2 / (20 * n)) ** 0.5)
    with pytest.raises(ShapeError, match="mmse"):
        oracle_gap(mmse, mmse[:3])
    with pytest.raises(ConfigError, match="mmse"):
        oracle_gap(mmse, 0 * mmse)


def test_relative_error_is_the_root_of_nmse():
    x_hat, x = _pair((3, 1, 6, 6))
    torch.testing.assert_close(relative_error(x_hat, x), nmse(x_hat, x).sqrt())
