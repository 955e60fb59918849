"""q(z | y) with a flow reaches posteriors that no diagonal Gaussian can.

The decoder is fixed and only the second stage of `Latent` is trained, so that p(z | y) is known:
in closed form for a linear problem, by quadrature for one that cannot tell z from −z.
E log p(z | y) − E log q(z | y) over pairs of the model is the divergence that is left.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from latens.distributions import NoiseStream, draw
from latens.models import Latent
from latens.nets import AffineFlow, Flow, Linear, SplineFlow
from latens.nets.scale import GAIN
from latens.problems import GaussianNoise, Identity, InverseProblem, Operator
from latens.training import Training, fit_model

SETTINGS = Training(
    max_steps=400,
    batch_size=128,
    learning_rate=2e-2,
    warmup_steps=20,
    kl_warmup_steps=0,
    validate_every=100,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return NoiseStream(seed, len(shape)).normal(shape)


class Amortisation(Latent):
    """The second stage of `Latent` alone."""

    stages = ("amortisation",)


class Square(Operator):
    """y = x², which does not know the sign of x."""

    def __init__(self, signal_shape: tuple[int, ...]) -> None:
        super().__init__(signal_shape, signal_shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.square()


@dataclass
class Fitted:
    """A trained q(z | y) with pairs of its own model; x ~ N(weight z, scale²)."""

    model: Latent
    weight: Tensor
    scale: Tensor
    z: Tensor
    y: Tensor

    def divergence(self, exact: Tensor) -> tuple[float, float]:
        """E log p(z | y) − E log q(z | y) in nats, and its standard error."""
        with torch.no_grad():
            gap = exact - self.model.latent_posterior(self.y).log_prob(self.z)
        return float(gap.mean()), float(gap.std() / len(gap) ** 0.5)


def fit(weight: Tensor, free_scale: float, problem: InverseProblem, flow: Flow | None) -> Fitted:
    """Train q(z | y) of a model with the decoder weight z (up to the units of the data)."""
    size, dim = weight.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Amortisation((1, size), (1, size), dim=dim, architecture=Linear(), flow=flow)
    with torch.no_grad():
        model.decoder_net.trunk.linear.weight.copy_(weight)
        model.decoder_net.trunk.linear.bias.zero_()
        model.decoder_net.scale.free.fill_(free_scale / GAIN)
        half = (normal(250, dim, seed=1) @ weight.mT)[:, None]
        x = torch.cat([half, -half])  # data of mean 0 that set the units and nothing else
        y = problem.simulate(x, normal(500, 1, size, seed=2))
        fit_model(model, (x, y), (x[:64], y[:64]), SETTINGS, 0, problem)
        z = normal(4000, dim, seed=20)
        decoded = model.decode(z, z)
        x = draw(decoded, normal(4000, 1, size, seed=21))
        y = problem.simulate(x, normal(4000, 1, size, seed=22))
    assert abs(model.signal_units.loc) < 1e-6
    scale = decoded.stddev.flatten()[0].detach()
    return Fitted(model, model.signal_units.scale * weight, scale, z, y)


@pytest.mark.parametrize(("flow", "bound"), [(None, 1.2), (AffineFlow(width=32), 0.03)])
def test_correlated_latents_of_a_linear_problem(flow, bound):
    weight = 0.6 * normal(6, 3, seed=7)
    weight[:, 1] = 0.9 * weight[:, 0] + 0.4 * weight[:, 1]  # two columns that look alike
    problem = InverseProblem(Identity((1, 6)), GaussianNoise(0.4))
    fitted = fit(weight, -2.0, problem, flow)
    noise = 0.4**2 + fitted.scale**2
    covariance = torch.linalg.inv(torch.eye(3) + fitted.weight.mT @ fitted.weight / noise)
    loc = fitted.y[:, 0] @ fitted.weight @ covariance / noise
    gap, error = fitted.divergence(MultivariateNormal(loc, covariance).log_prob(fitted.z))
    # forward KL of the diagonal Gaussian with the exact marginals: the best there is
    diagonal = 0.5 * float(covariance.diagonal().log().sum() - torch.logdet(covariance))
    assert 1.0 < diagonal < 1.1
    assert error < 0.03
    least = diagonal if flow is None else 0.0
    assert least - 4 * error < gap < bound


@pytest.mark.parametrize(
    ("flow", "least", "most"), [(None, 0.5, 2.0), (SplineFlow(width=32), 0.0, 0.1)]
)
def test_four_modes(flow, least, most):
    problem = InverseProblem(Square((1, 2)), GaussianNoise(0.5))
    fitted = fit(torch.eye(2), -30.0, problem, flow)
    assert fitted.scale < 2e-3  # so that y = (weight z)² + noise
    prior, noise = Normal(0.0, 1.0), Normal(0.0, 0.5)
    gain = fitted.weight.diagonal()

    def joint(z: Tensor) -> Tensor:
        """log p(z_k) + log p(y_k | z_k), `(…, n, 2)`."""
        return prior.log_prob(z) + noise.log_prob(fitted.y[:, 0] - (gain * z).square())

    axis = torch.linspace(-6, 6, 2001)
    evidence = torch.logsumexp(joint(axis[:, None, None]), 0) + (axis[1] - axis[0]).log()
    gap, error = fitted.divergence((joint(fitted.z) - evidence).sum(-1))
    assert error < 0.03
    assert least - 4 * error < gap < most
