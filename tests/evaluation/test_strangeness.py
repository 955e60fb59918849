"""Scores that ask a model: what evidence it has of y, and where the latent of x̂ lies."""

import numpy as np
import pytest
import torch
from scipy import stats

from latens.distributions import NoiseStream
from latens.evaluation.strangeness import TWO_SIDED, strangeness
from latens.inference import Amortised
from latens.metrics import auroc
from latens.metrics.detection import two_sided
from latens.metrics.surprise import two_sided_p_value
from models.model_cases import make_model, make_pairs, make_problem

MODEL_OF = {"evidence": "latent-linear", "code": "cvae-vector"}


def scores(name: str, y: torch.Tensor) -> np.ndarray:
    """One score of measurements of `make_pairs`."""
    problem = make_problem()
    found = strangeness(Amortised(make_model(MODEL_OF[name]), problem)(y), y, problem)
    return found[name]


@pytest.mark.parametrize("model", ["latent", "latent-linear", "latent-flow"])
def test_evidence_against_dense_matrices(model):
    """log N(y; A D(z), A V Aᵀ + σ²I) + log N(z; 0, I) − log q(z | y), over the same latents."""
    _, y = make_pairs(3, seed=3)
    problem, solver = make_problem(), Amortised(make_model(model), make_problem())
    posterior = solver(y, seed=2)
    found = strangeness(posterior, y, problem)["evidence"]
    with torch.no_grad():
        z = posterior.latent_draws(39)
        decoded = posterior.model.decode(z, y)
        a = problem.operator.matrix(torch.float64)
        loc, variance = decoded.mean.double().flatten(2), decoded.variance.double().flatten(2)
        noise = 0.1**2 * torch.eye(len(a), dtype=torch.float64)
        spread = (a * variance[..., None, :]) @ a.mT + noise  # (M, B, m, m)
        normal = torch.distributions.MultivariateNormal(loc @ a.mT, spread)
        measured = normal.log_prob(y.double().flatten(1))
        q = posterior.model.latent_posterior(y).log_prob(z)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        expected = -(measured + prior - q).mean(0) / 144
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_code_of_a_reconstruction_by_its_definition():
    _, y = make_pairs(4, seed=3)
    problem, model = make_problem(), make_model("cvae")
    posterior = Amortised(model, problem)(y)
    found = strangeness(posterior, y, problem)["code"]
    with torch.no_grad():
        prior, encoded = model.prior(y), model.encoder(posterior.mean, y)
        lengths = (encoded.mean - prior.mean) ** 2 / prior.variance
        np.testing.assert_allclose(found, lengths.mean(1), rtol=1e-5)


@pytest.mark.parametrize("name", MODEL_OF)
def test_p_values_are_uniform_on_usual_images_and_a_shift_moves_them(name):
    """Bright images, three times as large, against two halves of the usual ones."""
    x, y = make_pairs(240, seed=5)
    values = scores(name, y)
    p = two_sided_p_value(values[:120], values[120:])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    problem = make_problem()
    bright = problem.simulate(3 * x[:60], NoiseStream(8).normal((60, *x.shape[1:])))
    scale = TWO_SIDED[name]
    both = scale(np.concatenate([values, scores(name, bright)]))
    blind = np.sqrt(301 / (12 * 60 * 240))  # standard deviation of the AUROC without a shift
    assert two_sided(auroc)(both, np.arange(300) >= 240)[0] > 0.5 + 4 * blind
