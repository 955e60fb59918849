"""Numbers of a mixture model, against what they are made of."""

import math

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.evaluation.assess import SATURATED, Sample, assess, metric_rows
from latens.evaluation.evaluate import Cell
from latens.evaluation.mixture import log_evidence, pixel_shares, read
from latens.models.mixture import MixtureVAE
from latens.nets.components import Decoder
from latens.store import Outcome, Status

K, Y, N = 3, 2, 24
X = NoiseStream(1).uniform((N, 1, 8, 8))


def make(likelihood: str = "per_pixel", seed: int = 0, **settings) -> MixtureVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(likelihood=likelihood, width=8)  # pyright: ignore
        model = MixtureVAE(
            (1, 8, 8), Y, components=K, dim=3, decoder=decoder, width=4, features=8, **settings
        )
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def sample(**changes) -> Sample:
    y = (torch.arange(N) % Y).numpy()
    settings = {"sampled": 9, "draws": 7, **changes}
    return Sample(X, y, NoiseStream(2).uniform((12, 1, 8, 8)), **settings)


def test_pixels_at_a_bound_are_counted_where_the_mean_square_hides_them():
    """Half of the pixels at the lower bound, half inside: σ of the image lies between."""
    model = make()
    free = torch.where(torch.arange(64) % 2 == 0, -20.0, 0.0).reshape(1, 8, 8)
    model.decoder.scale.forward = lambda h: model.decoder.scale.bounded(  # pyright: ignore
        free.expand(len(h), 1, 8, 8)
    )
    found = read(model, X)
    low = model.decoder.scale.lower  # pyright: ignore
    assert (found.scale > 1.5 * low).all()
    np.testing.assert_allclose(found.at_bound, 0.5, rtol=1e-6)
    rows = assess(model, sample()).rows
    np.testing.assert_allclose(rows["sigma_at_bounds"], 0.5, rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["per_pixel", "per_image", "shared", "fixed"])
@pytest.mark.parametrize("component", ["plain", "film"])
@torch.no_grad()
def test_coverage_of_pixels_is_that_of_the_stated_intervals(likelihood, component):
    model = make(likelihood)
    q = model.log_component(X).exp().numpy()
    eye = torch.eye(K)[:, None]
    decoded = model.decoder(model.latent_posterior(X).mean, eye)
    inside = (X - decoded.mean).abs() <= 1.959964 * decoded.stddev
    share = inside.flatten(2).double().mean(2).numpy()  # (K, N)
    np.testing.assert_allclose(read(model, X).covered, (q.T * share).sum(0), atol=1e-6)


def test_coverage_of_images_that_the_decoder_drew_is_nominal():
    model = make()
    with torch.no_grad():
        decoded = model.decoder(model.latent_posterior(X).mean, torch.eye(K)[:, None])
        drawn = decoded.mean + decoded.stddev * NoiseStream(3).normal(decoded.mean.shape)
        q = torch.eye(K)[:, 1:2].expand(K, N)  # all of the second component
        _, covered = pixel_shares(model, decoded, q, drawn[1])
    assert abs(covered.mean() - 0.95) < 4 * math.sqrt(0.95 * 0.05 / (N * 64))


def test_the_sampled_gain_over_the_twin_is_paired():
    model, twin = make("per_image"), make("shared", seed=1)
    rows = assess(model, sample(), twin).rows
    expected = log_evidence(model, X[:9], 7) - log_evidence(twin, X[:9], 7)
    np.testing.assert_allclose(rows["nll_gain_sampled"][:, 0], expected.numpy())
    assert "nll_gain_sampled" not in assess(model, sample()).rows
    table = metric_rows(rows, Cell("a", 50, 0, 0, "hash"), Outcome(Status.CONVERGED))
    row = table.set_index("metric").loc["nll_gain_sampled"]
    assert row["lower"] < row["value"] < row["upper"]
    assert row["images"] == 9


@pytest.mark.parametrize(("informative", "expected"), [(2, True), (N, False)])
def test_information_that_no_longer_grows_is_flagged(informative, expected):
    model = make("shared")
    with torch.no_grad():
        if expected:  # two images that are told apart beyond doubt
            model.latent_head.weight[:3] *= 1e4
            model.latent_head.bias[3:] = -6
        else:
            model.latent_head.weight.zero_()
    rows = assess(model, sample(informative=informative)).rows
    information = float(rows["information_latent"].item())
    assert (information > math.log(informative) - SATURATED) == expected
    assert bool(rows["information_saturated"].item()) == expected
