"""A linear VAE is probabilistic PCA: its maximum likelihood and posterior are closed forms.

Tipping, Bishop (1999), Probabilistic principal component analysis;
Lucas et al. (2019), Don't blame the ELBO! https://arxiv.org/abs/1911.02469
"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from latens.distributions import NoiseStream
from latens.models import Latent
from latens.nets import Linear
from latens.store import Status
from latens.training import Training, fit_model

N, D, K = 2000, 12, 3


class Representation(Latent):
    """The first stage of `Latent` alone."""

    stages = ("representation",)


@dataclass
class Fitted:
    """A trained linear VAE in data units, beside its data."""

    x: Tensor
    status: Status
    weight: Tensor
    bias: Tensor
    variance: Tensor
    loc: Tensor
    covariance: Tensor


def sample_data() -> Tensor:
    """Data around three directions of different strength, in units of their own, `(N, 1, D)`."""
    directions = torch.linalg.qr(NoiseStream(0).normal((D, K), torch.float64))[0]
    strengths = torch.tensor([2.0, 1.5, 1.0], dtype=torch.float64)
    z = NoiseStream(1).normal((N, K), torch.float64)
    offset = 4 + NoiseStream(2).normal((D,), torch.float64)
    x = offset + z * strengths @ directions.mT + 0.5 * NoiseStream(3).normal((N, D), torch.float64)
    return (20 * x[:, None]).float()


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    x = sample_data()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Representation((1, D), (1, D), dim=K, architecture=Linear())
    settings = Training(
        max_steps=1200,
        batch_size=250,
        learning_rate=2e-2,
        kl_warmup_steps=0,
        validate_every=100,
        patience=15,
    )
    result = fit_model(model, (x, x), (x, x), settings, seed=0)
    model = model.double()
    with torch.no_grad():
        linear, units = model.decoder_net.trunk.linear, model.signal_units
        q = model.encoder(x.double())
        return Fitted(
            x=x[:, 0].double(),
            status=result.outcome.status,
            weight=units.scale * linear.weight,
            bias=units.inverse(linear.bias),
            variance=model.decode(torch.zeros(1, K).double(), x).variance[0, 0, 0],
            loc=q.mean,
            covariance=torch.diag(q.variance[0]),
        )


def test_it_reaches_the_maximum_likelihood(fitted):
    x = fitted.x
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    noise = eigenvalues[K:].mean()
    best = -0.5 * (
        D * math.log(2 * math.pi) + eigenvalues[:K].log().sum() + (D - K) * noise.log() + D
    )
    model = LowRankMultivariateNormal(fitted.bias, fitted.weight, fitted.variance.expand(D))
    reached = model.log_prob(x).mean()
    assert best - 0.1 < reached <= best
    white = LowRankMultivariateNormal(x.mean(0), 1e-6 * fitted.weight, x.var(0))
    assert white.log_prob(x).mean() < best - 2  # the tolerance is small beside what is learned
    assert fitted.variance == pytest.approx(float(noise), rel=0.05)
    assert fitted.status in (Status.CONVERGED, Status.STOPPED)


def test_its_encoder_is_the_exact_posterior(fitted):
    precision = torch.eye(K).double() + fitted.weight.mT @ fitted.weight / fitted.variance
    covariance = torch.linalg.inv(precision)
    mean = (fitted.x - fitted.bias) @ fitted.weight @ covariance / fitted.variance
    difference = fitted.loc - mean
    # in posterior standard deviations: the divergence is half the mean square
    scaled = torch.einsum("ni,ij,nj->n", difference, precision, difference)
    assert scaled.mean() < 0.1
    assert mean.std() > 0.5
    excess = torch.linalg.solve(covariance, fitted.covariance)
    divergence = 0.5 * (excess.trace() - K - torch.logdet(excess))
    assert 0 <= divergence < 0.1
