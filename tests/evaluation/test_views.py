"""Arrays behind the pictures of a mixture model, against what they are made of."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.evaluation.assess import Sample, assess
from latens.evaluation.mixture import classify, read
from latens.evaluation.views import (
    SHOWN,
    Views,
    decoded_components,
    latent_means,
    principal_scores,
    views_of,
)
from latens.metrics.components import certainty, scale_reliability
from latens.models.mixture import MixtureVAE
from latens.models.mixture_settings import Prior
from latens.nets.components import Decoder

K, Y, N = 4, 3, 40


def make(component: str = "film", posterior: str = "per_component") -> MixtureVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MixtureVAE(
            (1, 8, 8),
            Y,
            components=K,
            dim=3,
            decoder=Decoder(component=component, width=8),
            prior=Prior(posterior=posterior),
            width=4,
            features=8,
        )
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def made() -> tuple[MixtureVAE, Sample, Views]:
    model, stream = make(), NoiseStream(1)
    x = stream.uniform((N, 1, 8, 8))
    y = (torch.arange(N) % (Y - 1)).numpy()  # no image of the last class
    sample = Sample(x, y, stream.uniform((20, 1, 8, 8)), stream.uniform((9, 1, 8, 8)), draws=4)
    return model, sample, views_of(model, sample, assess(model, sample))


def test_images_are_those_with_the_largest_probability(made):
    model, sample, views = made
    q = classify(model, sample.x)[0]
    for c in range(K):
        for place, row in enumerate(np.argsort(-q[:, c])[:SHOWN]):
            expected = np.round(255 * sample.x[row].numpy())
            np.testing.assert_array_equal(views.images[c, place], expected)
    np.testing.assert_allclose(views.usage, q.mean(0))
    np.testing.assert_array_equal(views.component, q.argmax(1))


def test_right_wrong_and_strange_images_are_apart(made):
    model, sample, views = made
    q, p = classify(model, sample.x)
    sure = certainty(q, views.tau)
    right = p.argmax(1) == sample.y
    assert 0 < right.sum() < N
    np.testing.assert_allclose(views.sure_right, sure[right])
    np.testing.assert_allclose(views.sure_wrong, sure[~right])
    assert sample.strange is not None
    outside = certainty(classify(model, sample.strange)[0], views.tau)
    np.testing.assert_allclose(views.sure_strange, outside)


def test_sigma_and_error_by_class(made):
    model, sample, views = made
    found = read(model, sample.x)
    np.testing.assert_allclose(views.error**2, found.squared_error)
    for kind in range(Y - 1):
        own = sample.y == kind
        assert views.sigma_of_class[kind] == pytest.approx(found.scale[own].mean())
        assert views.error_of_class[kind] == pytest.approx(views.error[own].mean())
    assert np.isnan(views.sigma_of_class[Y - 1])
    bins = scale_reliability(found.scale, found.squared_error)
    np.testing.assert_allclose(views.sigma_reliability, bins)
    rows = assess(model, sample).rows
    share, sigma, error = bins.T
    assert rows["sigma_ece"].item() == pytest.approx((share * abs(sigma - error) / sigma).sum())


@pytest.mark.parametrize("posterior", ["per_component", "shared"])
@pytest.mark.parametrize("component", ["film", "plain"])
def test_a_component_is_decoded_at_the_mean_of_its_latents(component, posterior):
    model, x = make(component, posterior), NoiseStream(1).uniform((N, 1, 8, 8))
    found = decoded_components(model, x)
    with torch.no_grad():
        q = model.log_component(x).exp()
        loc = model.latent_posterior(x).mean
        for c in range(K):
            own = loc[min(c, len(loc) - 1)]
            z = (q[:, c, None] * own).sum(0) / q[:, c].sum()
            one = torch.eye(K)[c : c + 1]
            torch.testing.assert_close(found[c], model.decoder(z[None], one).mean[0])
        mean = sum(q[:, c, None] * loc[min(c, len(loc) - 1)] for c in range(K))
    np.testing.assert_allclose(latent_means(model, x), mean, rtol=1e-4, atol=1e-6)


def test_principal_scores_are_those_of_a_singular_value_decomposition():
    rows = np.random.default_rng(0).normal(size=(30, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5])
    scores, shares = principal_scores(rows)
    u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(scores), np.abs(u[:, :2] * s[:2]))
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:2])
    single, share = principal_scores(rows[:, :1])
    np.testing.assert_allclose(np.abs(single[:, 0]), np.abs(rows[:, 0] - rows[:, 0].mean()))
    assert (single[:, 1] == 0).all()
    np.testing.assert_allclose(share, [1, 0])
