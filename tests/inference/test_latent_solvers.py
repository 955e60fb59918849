"""MAP, Laplace and chains in latent space against a posterior that is known in closed form.

With an affine decoder x = W z + b + τ ε everything is Gaussian:

    z | y ~ N(Σ Wᵀ Aᵀ S⁻¹ (y − A b), Σ),   S = τ² A Aᵀ + σ² I,   Σ⁻¹ = I + Wᵀ Aᵀ S⁻¹ A W

computed here with dense matrices, without the library's conditioning.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from latens.distributions import diagonal_normal
from latens.errors import ConfigError, UnsupportedError
from latens.inference import SAMPLERS, LatentChains, LatentImportance, LatentLaplace, LatentMAP
from latens.inference.latent_target import (
    JointTarget,
    MarginalTarget,
    PlugInTarget,
    TargetPosterior,
    latent_target,
)
from latens.inference.samplers import HMC, NUTS
from latens.inference.samplers.maximise import hessian, maximise
from latens.models import Latent
from latens.nets import Linear
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem, PoissonGaussianNoise
from latens.store import Status
from models.model_cases import make_model
from stand_ins.sampling import sample

SHAPE, DIM = (1, 8, 8), 3


def affine(problem=None, seed=0):
    torch.manual_seed(seed)
    model = Latent(SHAPE, SHAPE, dim=DIM, scale="shared", architecture=Linear()).double()
    with torch.no_grad():
        for parameter in model.decoder_net.parameters():
            parameter.copy_(torch.randn_like(parameter) * (1.0 if parameter.ndim else 0.05))
    return model.eval()


def blurred():
    return InverseProblem(GaussianBlur(SHAPE, 0.8), GaussianNoise(0.7))


def measurements(count=4):
    generator = torch.Generator().manual_seed(5)
    return 2 * torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


class Exact:
    """Moments of z | y and x | y of an affine model, by dense linear algebra in numpy."""

    def __init__(self, model, problem, y):
        with torch.no_grad():
            origin = model.decode(torch.zeros(1, DIM).double(), y[:1])
            b = origin.mean.flatten().numpy()
            spread = float(origin.variance.flatten()[0])
            unit = model.decode(torch.eye(DIM).double(), y[:1].expand(DIM, *SHAPE)).mean
            basis = torch.eye(math.prod(SHAPE)).double().reshape(-1, *SHAPE)
            a = problem.operator(basis).flatten(1).numpy().T
        w = unit.flatten(1).numpy().T - b[:, None]
        noise = problem.noise.scale**2
        s = spread * a @ a.T + noise * np.eye(len(a))
        gain = w.T @ a.T @ np.linalg.inv(s)
        self.covariance = np.linalg.inv(np.eye(DIM) + gain @ a @ w)
        residual = y.flatten(1).numpy() - a @ b
        self.mean = residual @ gain.T @ self.covariance  # (B, dim)
        total = w @ w.T + spread * np.eye(len(b))
        k = total @ a.T @ np.linalg.inv(a @ total @ a.T + noise * np.eye(len(a)))
        self.signal_mean = (b + residual @ k.T).reshape(-1, *SHAPE)
        self.signal_covariance = total - k @ a @ total
        self.evidence = MultivariateNormal(
            torch.from_numpy(a @ b), torch.from_numpy(a @ total @ a.T + noise * np.eye(len(a)))
        ).log_prob(y.flatten(1))


@pytest.fixture
def case():
    model, problem, y = affine(), blurred(), measurements()
    return model, problem, y, Exact(model, problem, y)


def test_the_marginal_density_is_the_exact_one(case):
    model, problem, y, exact = case
    target = latent_target(model, problem, y)
    assert isinstance(target, MarginalTarget)
    z = torch.from_numpy(exact.mean)
    posterior = MultivariateNormal(z, torch.from_numpy(exact.covariance))
    other = z + torch.randn(4, DIM, generator=torch.manual_seed(1), dtype=torch.float64)
    for point in (z, other):
        torch.testing.assert_close(
            target.rows(1)(point), posterior.log_prob(point) + exact.evidence
        )


def test_variances_that_depend_on_the_latents_keep_their_determinant():
    model = make_model("latent-pixel").double().eval()
    problem = InverseProblem(GaussianBlur(model.signal_shape, 0.8), GaussianNoise(0.3))
    y = torch.randn(2, *model.signal_shape, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.decoder_net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        z = torch.randn(2, model.dim, dtype=torch.float64)
        target = latent_target(model, problem, y)
        decoded = model.decode(z, y)
        size = math.prod(model.signal_shape)
        basis = torch.eye(size).double().reshape(-1, *model.signal_shape)
        a = problem.operator(basis).flatten(1).T
        covariance = a @ torch.diag_embed(decoded.variance.flatten(1)) @ a.T
        covariance = covariance + 0.09 * torch.eye(len(a)).double()
        expected = MultivariateNormal(
            problem.operator(decoded.mean).flatten(1), covariance
        ).log_prob(y.flatten(1)) + MultivariateNormal(
            torch.zeros(model.dim).double(), torch.eye(model.dim).double()
        ).log_prob(z)
        torch.testing.assert_close(target.rows(1)(z), expected)


def test_map_is_the_mode_and_its_reconstruction_the_posterior_mean(case):
    model, problem, y, exact = case
    solver = LatentMAP(model, problem)
    _, found = solver.maximum(y, range(4), 0)
    np.testing.assert_allclose(found.position, exact.mean, atol=2e-3)
    estimate = solver(y)
    assert estimate.status is Status.CONVERGED
    np.testing.assert_allclose(estimate.mean, exact.signal_mean, atol=4e-3)


def moments_agree(posterior, exact, tolerance):
    std = torch.from_numpy(exact.covariance).diagonal().sqrt()
    z = posterior.latent_draws(800)  # (M, B, dim)
    error = (z.mean(0) - torch.from_numpy(exact.mean)) / std
    assert error.abs().max() < tolerance
    precision = torch.linalg.inv(torch.from_numpy(exact.covariance))
    for b in range(z.shape[1]):
        ratio = z[:, b].T.cov() @ precision
        assert (ratio - torch.eye(DIM)).abs().max() < 2 * tolerance
    x = posterior.sample(800)
    variance = torch.from_numpy(exact.signal_covariance).diagonal()
    assert abs((x.var(0).flatten(1).mean(0) / variance).mean() - 1) < tolerance
    regions = x.flatten(2).mean(-1).var(0) / exact.signal_covariance.mean()
    assert (regions - 1).abs().max() < 2 * tolerance
    mean = torch.from_numpy(exact.signal_mean)
    assert ((x.mean(0) - mean).flatten(1) / variance.sqrt()).abs().max() < 0.25


CHAINS = {"chains": 16, "draws": 400, "warmup": 100}
"""As many draws as of four chains of 1600; all chains move at once."""


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(LatentLaplace, id="laplace"),
        pytest.param(lambda m, p: LatentChains(m, p, kernel=HMC(), **CHAINS), id="hmc"),
        pytest.param(
            lambda m, p: LatentChains(m, p, kernel=NUTS(), draws=600, warmup=100), id="nuts"
        ),
        pytest.param(
            lambda m, p: LatentChains(m, p, kernel=HMC(), start="prior", **CHAINS), id="prior"
        ),
        pytest.param(
            lambda m, p: LatentChains(m, p, kernel=HMC(), start="laplace", **CHAINS), id="around"
        ),
        pytest.param(lambda m, p: SAMPLERS["refined"](m, p, Status.CONVERGED), id="refined"),
    ],
)
def test_posteriors_are_the_exact_one(case, make):
    model, problem, y, exact = case
    posterior = make(model, problem)(y, seed=3)
    assert posterior.status is Status.CONVERGED
    moments_agree(posterior, exact, 0.12)


def test_importance_corrects_an_amortised_posterior(case, monkeypatch):
    model, problem, y, exact = case
    std = torch.from_numpy(exact.covariance).diagonal().sqrt()
    mean = torch.from_numpy(exact.mean) + 0.3 * std
    monkeypatch.setattr(model, "latent_posterior", lambda y: diagonal_normal(mean, 1.6 * std, 1))
    posterior = LatentImportance(model, problem, draws=8000)(y, seed=1)
    assert posterior.status is Status.CONVERGED
    moments_agree(posterior, exact, 0.12)
    torch.testing.assert_close(posterior.log_evidence, exact.evidence, atol=0.05, rtol=0)
    assert (posterior.size < 6000).all()


def test_a_few_steps_of_many_chains_mend_an_amortised_posterior(case, monkeypatch):
    """Starts a standard deviation off and far too narrow; too few steps are found out."""
    model, problem, y, exact = case
    std = torch.from_numpy(exact.covariance).diagonal().sqrt()
    mean = torch.from_numpy(exact.mean) + std
    monkeypatch.setattr(model, "latent_posterior", lambda y: diagonal_normal(mean, 0.3 * std, 1))
    posterior = SAMPLERS["refined"](model, problem, Status.CONVERGED)(y, seed=1)
    assert posterior.status is Status.CONVERGED
    moments_agree(posterior, exact, 0.2)  # 256 chains: .2 are 3 standard errors


def test_a_few_steps_that_are_too_few_are_found_out(case):
    model, problem, y, _ = case
    hurried = HMC(length=0.02, max_steps=1)
    few = {"chains": 256, "superchains": 8, "warmup": 0, "draws": 4}
    posterior = LatentChains(model, problem, kernel=hurried, start="prior", **few)(y)
    assert posterior.status is Status.UNMIXED
    assert not posterior.trusted.any()


def test_importance_confesses_to_a_proposal_that_is_too_narrow(case, monkeypatch):
    model, problem, y, exact = case
    std = torch.from_numpy(exact.covariance).diagonal().sqrt()
    mean = torch.from_numpy(exact.mean) + std
    monkeypatch.setattr(model, "latent_posterior", lambda y: diagonal_normal(mean, 0.3 * std, 1))
    posterior = LatentImportance(model, problem)(y)
    assert posterior.status is Status.UNMIXED
    assert not posterior.trusted.any()


def test_the_joint_density_has_the_same_posterior(case):
    model, problem, y, exact = case
    target = JointTarget(model, problem, y[:1])
    start = torch.randn(32, target.dim, generator=torch.manual_seed(2), dtype=torch.float64)
    run = sample(target.rows(32), start, HMC(), draws=150, warmup=150)
    z = target.latents(run.draws)
    std = torch.from_numpy(exact.covariance).diagonal().sqrt()
    error = (z.mean((0, 1)) - torch.from_numpy(exact.mean[0])) / std
    assert error.abs().max() < 0.1
    with torch.no_grad():
        x = target.signal_mean(run.draws.flatten(0, 1)[:, None])[:, 0]
    ratio = x.var(0).flatten() / torch.from_numpy(exact.signal_covariance).diagonal()
    assert abs(ratio.mean() - 1) < 0.05


def test_the_plug_in_density_is_overconfident_where_the_decoder_has_spread(case):
    model, problem, y, exact = case
    with torch.no_grad():
        model.decoder_net.scale.set(1.0)
    exact = Exact(model, problem, y)
    plug_in = LatentLaplace(model, problem, target="plug-in")
    target, found = plug_in.maximum(y, range(4), 0)
    assert isinstance(target, PlugInTarget)
    covariance = torch.linalg.inv(hessian(target.rows(1), found.position))
    assert (np.diag(exact.covariance) > 1.5 * covariance[0].diagonal().numpy()).all()


def test_other_noise_is_sampled_jointly():
    problem = InverseProblem(GaussianBlur(SHAPE, 0.8), PoissonGaussianNoise(gain=0.1, scale=0.1))
    model, y = affine(), measurements(2).abs()
    assert isinstance(latent_target(model, problem, y), JointTarget)
    assert isinstance(latent_target(model, problem, y, "plug-in"), PlugInTarget)


def test_problems_of_a_batch_are_independent(case):
    model, problem, y, _ = case
    solver = LatentChains(model, problem, chains=4, draws=40, warmup=40)
    whole = solver(y, keys=[3, 5, 7, 11]).latent_draws(5)
    part = solver(y[1:3], keys=[5, 7]).latent_draws(5)
    torch.testing.assert_close(whole[:, 1:3], part, rtol=1e-5, atol=1e-5)


def test_too_few_draws_are_said_and_refused(case):
    model, problem, y, _ = case
    posterior = LatentChains(model, problem, chains=4, draws=20, warmup=60)(y)
    assert posterior.status is Status.UNMIXED
    assert set(posterior.warnings) == {0, 1, 2, 3}
    assert "draw more" in posterior.warnings[0][-1]
    with pytest.raises(ConfigError, match="effective sample size"):
        posterior.sample(500)
    assert posterior.sample(5).shape == (5, 4, *SHAPE)


def test_the_status_of_the_fit_is_handed_on(case):
    model, problem, y, _ = case
    chains = partial(LatentChains, draws=40, warmup=40)
    for solver in (LatentMAP, LatentLaplace, chains):
        estimate = solver(model, problem, Status.COLLAPSED)(y[:1])
        assert estimate.status is Status.COLLAPSED


def test_inference_data(case):
    model, problem, y, _ = case
    posterior = LatentChains(model, problem, chains=4, draws=20, warmup=40)(y, keys=[2, 4, 6, 8])
    data = posterior.to_inference_data()
    assert data.posterior.problem.values.tolist() == [2, 4, 6, 8]
    assert dict(data.posterior.sizes) == {"chain": 4, "draw": 20, "problem": 4, "z_dim": DIM}


@pytest.mark.parametrize(
    ("model", "problem"), [("cvae", blurred()), ("latent", None)], ids=["cvae", "no problem"]
)
def test_what_has_no_density_is_refused(model, problem):
    with pytest.raises(UnsupportedError):
        latent_target(make_model(model), problem, measurements())


# --- the optimiser by itself


def test_many_quadratics_at_once():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 5, 5, generator=generator, dtype=torch.float64)
    curvature = root @ root.mT + 0.1 * torch.eye(5).double()
    centre = torch.randn(6, 5, generator=generator, dtype=torch.float64)

    def density(x):
        return -0.5 * torch.einsum("ci,cij,cj->c", x - centre, curvature, x - centre)

    found = maximise(density, torch.zeros(6, 5).double(), tolerance=1e-10)
    assert found.converged.all()
    torch.testing.assert_close(found.position, centre, atol=1e-4, rtol=0)
    torch.testing.assert_close(hessian(density, found.position), curvature)


def test_rosenbrock_from_many_starts_with_and_without_adam():
    def density(x):
        return -((1 - x[:, 0]).square() + 100 * (x[:, 1] - x[:, 0].square()).square())

    start = 2 * torch.randn(20, 2, generator=torch.manual_seed(0), dtype=torch.float64)
    for steps in (0, 50):
        found = maximise(density, start, adam_steps=steps, tolerance=1e-12)
        assert found.converged.all()
        torch.testing.assert_close(found.position, torch.ones(20, 2).double(), atol=1e-4, rtol=0)


def test_a_density_without_a_maximum_is_not_called_converged():
    found = maximise(
        lambda x: x.sum(-1).exp().clamp(max=1e30), torch.zeros(2, 2).double(), max_iterations=20
    )
    assert not found.converged.any()


def test_an_indefinite_hessian_is_reported():
    """A saddle in the second latent: the decoder is even in it, and the data want it large."""

    class Saddle(LatentLaplace):
        def maximum(self, y, keys, seed):
            target, found = super().maximum(y, keys, seed)
            original = target.log_joint
            target.log_joint = lambda v, y: (
                original(v, y) + 500 * (v[:, 1] - found.position[:, 1]).square()
            )
            return target, found

    model, problem, y = affine(), blurred(), measurements(2)
    posterior = Saddle(model, problem)(y)
    assert isinstance(posterior, TargetPosterior)
    assert posterior.status is Status.UNMIXED
    assert posterior.diagnostics["indefinite"] == 2
    assert posterior.sample(5).isfinite().all()
