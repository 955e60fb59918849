"""The mixture VAE against brute force, quadrature and its homoscedastic twin, in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily

from latens.distributions import NoiseStream, Purpose, row_noise
from latens.errors import ConfigError, DataError
from latens.evaluation.mixture import latent_log_densities, log_evidence, read
from latens.models.mixture import MixtureVAE
from latens.models.mixture_settings import Prior, Terms
from latens.nets.components import Decoder
from latens.objectives import reduce_terms
from latens.objectives.mixture import usage_dirichlet_loss, usage_entropy_loss

SHAPE, K, Y = (1, 8, 8), 4, 3
PRIORS = {
    "standard": Prior(),
    "learned": Prior("learned", "learned"),
    "shared": Prior("learned", "learned", posterior="shared"),
    "full": Prior("learned", "learned", "full"),
    "flow": Prior(latents="flow", couplings=2),
    "gumbel": Prior(inference="gumbel"),
    "gumbel-learned": Prior("learned", "learned", inference="gumbel"),
    "curriculum": Prior(unlocked=2, unlock_every=3),
}
PLAIN = Terms(supervised=0, invariance=0, pseudo_label=0)


def make(prior: str = "standard", dim: int = 2, decoder: Decoder | None = None, **settings):
    decoder = Decoder(width=8) if decoder is None else decoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = {"terms": PLAIN, "latent_encoder": "conv", **settings}
        model = MixtureVAE(
            SHAPE,
            Y,
            components=K,
            dim=dim,
            decoder=decoder,
            prior=PRIORS[prior],
            width=4,
            features=8,
            **settings,
        ).double()
        for parameter in model.parameters():  # away from the zeros of the start
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def images(n: int = 5) -> torch.Tensor:
    return NoiseStream(1).uniform((n, *SHAPE), torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bernoulli", "per_image", "per_pixel"])
@pytest.mark.parametrize("component", ["plain", "film"])
@pytest.mark.parametrize("prior", ["standard", "learned", "shared", "curriculum"])
def test_the_bound_component_by_component(prior, component, decoder):
    model = make(prior, decoder=Decoder("dense", component, decoder, width=8))
    x = images()
    terms = model.terms("elbo", x, torch.full((5,), -1), NoiseStream(3), None)
    eps = NoiseStream(3).normal((1, 5, 2), torch.float64)[0]
    q = model.log_component(x)
    posterior, p_z = model.latent_posterior(x), model.latent_prior()
    for b in range(5):
        total = 0.0
        for c in range(int(model.unlocked)):
            own, of_prior = min(c, len(posterior.mean) - 1), min(c, len(p_z.mean) - 1)
            loc, scale = posterior.mean[own, b], posterior.stddev[own, b]
            m, s = p_z.mean[of_prior, 0], p_z.stddev[of_prior, 0]
            kl = (s / scale).log() + (scale**2 + (loc - m) ** 2) / (2 * s**2) - 0.5
            one = torch.eye(K, dtype=torch.float64)[c : c + 1]
            log_prob = model.decoder((loc + scale * eps[b])[None], one).log_prob(x[b])
            inside = log_prob - kl.sum() + model.log_weights[c] - q[b, c]
            total += float(q[b, c].exp() * inside)
        assert float(terms.elbo[b]) == pytest.approx(total, rel=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("prior", ["standard", "learned", "shared", "full"])
def test_the_bound_lies_below_the_evidence_by_quadrature(prior):
    """With one latent p(x) is an integral; importance sampling finds it, the bound stays below."""
    model = make(prior, dim=1, decoder=Decoder(likelihood="fixed", start=0.4, width=8))
    x = images(3)
    grid = torch.linspace(-9, 9, 6001, dtype=torch.float64)[:, None]
    log_joint = []
    p_z = model.latent_prior()
    for c in range(K):
        of_prior = min(c, len(p_z.mean) - 1)
        normal = torch.distributions.Normal(p_z.mean[of_prior, 0, 0], p_z.stddev[of_prior, 0, 0])
        one = torch.eye(K, dtype=torch.float64)[c].expand(len(grid), K)
        decoded = model.decoder(grid, one)
        density = torch.stack([decoded.log_prob(image) for image in x], 1)  # (G, 3)
        log_joint.append(density + normal.log_prob(grid) + model.log_weights[c])
    step = math.log(float(grid[1] - grid[0]))
    exact = torch.logsumexp(torch.cat(log_joint), 0) + step
    found = log_evidence(model, x, draws=4000)
    np.testing.assert_allclose(found.numpy(), exact.detach().numpy(), atol=0.05)
    many = [read(model, x, seed=s).elbo for s in range(200)]
    assert (np.mean(many, 0) <= exact.detach().numpy()).all()


def test_a_gumbel_draw_has_the_bound_as_its_mean():
    """E_c of the drawn terms is the exact sum, up to what the straight-through draw changes."""
    exact, drawn = make("standard"), make("gumbel")
    assert all(
        torch.equal(a, b) for a, b in zip(exact.parameters(), drawn.parameters(), strict=True)
    )
    x, hidden = images().repeat(300, 1, 1, 1), torch.full((1500,), -1)

    @torch.no_grad()
    def bounds(model: MixtureVAE, seeds: int) -> torch.Tensor:
        """Bounds of the five images, each with `300 seeds` draws."""
        found = [model.terms("elbo", x, hidden, NoiseStream(s), None).elbo for s in range(seeds)]
        return torch.cat(found).unflatten(0, (-1, 5))

    sums, draws = bounds(exact, 5), bounds(drawn, 20)
    assert len(sums) == 1500
    assert len(draws) == 6000
    error = (sums.std(0) / 1500**0.5).hypot(draws.std(0) / 6000**0.5)
    assert ((sums.mean(0) - draws.mean(0)).abs() < 4 * error).all()


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_a_gumbel_draw_is_one_hot_and_its_gradient_that_of_the_softmax(monkeypatch, temperature):
    """∂w_c/∂logit_d = w̃_c (1{c = d} − w̃_d) / temperature, w̃ the relaxed draw."""
    monkeypatch.setitem(PRIORS, "gumbel", Prior(inference="gumbel", temperature=temperature))
    model, x = make("gumbel"), images()
    h = model.component_trunk(x)
    log_q = model._components(h).detach().requires_grad_()
    seen = []

    def likelihood(x, z, weights):
        seen.append(weights)
        return (weights * torch.arange(K)).sum(1), None

    terms = model._drawn(x, h, log_q, NoiseStream(3), likelihood)
    (weights,) = seen
    uniform = NoiseStream(3).uniform((5, K), torch.float64)
    soft = ((log_q - (-uniform.log()).log()) / temperature).softmax(1).detach()
    one_hot = torch.nn.functional.one_hot(soft.argmax(1), K).double()
    torch.testing.assert_close(weights.detach(), one_hot)
    (found,) = torch.autograd.grad(terms.log_likelihood.sum(), log_q)
    values = torch.arange(K).double()
    expected = soft * (values - (soft * values).sum(1, keepdim=True)) / temperature
    torch.testing.assert_close(found, expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("usage", "loss"),
    [
        ("entropy", usage_entropy_loss),
        ("dirichlet", lambda component: usage_dirichlet_loss(component, 3.0)),
    ],
)
def test_the_regulariser_of_the_usage_is_the_one_that_was_chosen(usage, loss):
    chosen = replace(PLAIN, usage=usage, usage_weight=0.7, concentration=3.0)
    model, plain, x = make(terms=chosen), make(), images()
    hidden = torch.full((5,), -1)
    terms = model.training_terms("elbo", x, hidden, NoiseStream(0), None, 0)
    expected = loss(model.log_component(x).exp())
    assert float(expected[0]) > 0.01
    torch.testing.assert_close(terms.extras["usage"], expected)
    without = plain.training_terms("elbo", x, hidden, NoiseStream(0), None, 0)
    gained = reduce_terms(terms, 64) - reduce_terms(without, 64)
    torch.testing.assert_close(gained, 0.7 * expected[0])


@pytest.mark.parametrize("prior", list(PRIORS))
@pytest.mark.parametrize("likelihood", ["nll", "beta_nll", "faithful", "legacy"])
def test_every_parameter_learns(prior, likelihood):
    terms = Terms(
        likelihood, supervised=1, invariance=1, pseudo_label=1, threshold=0, usage_weight=1
    )
    model = make(prior, terms=terms)
    y = torch.tensor([0, 1, 2, -1, -1])
    model.before_step(0, images(), y)
    found = model.training_terms("elbo", images(), y, NoiseStream(0), None, 0)
    expected = {"supervised", "invariance", "pseudo_label", "usage"}
    assert found.extras.keys() - {"scale"} == expected
    reduce_terms(found, model.event_size).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name


def test_faithful_gives_every_other_parameter_the_gradients_of_the_twin():
    x, hidden = images(), torch.full((5,), -1)
    model = make(terms=replace(PLAIN, likelihood="faithful"))
    twin = make(decoder=Decoder(likelihood="shared", width=8))
    own = dict(model.named_parameters())
    names = [n for n, _ in twin.named_parameters() if not n.startswith("decoder.scale")]
    for name in names:
        twin.get_parameter(name).data.copy_(own[name].data)
    twin.decoder.scale.free.data.copy_(model.reference.free.data)
    for each in (model, twin):
        terms = each.training_terms("elbo", x, hidden, NoiseStream(4), None, 0)
        reduce_terms(terms, each.event_size).backward()
    for name in names:
        torch.testing.assert_close(own[name].grad, twin.get_parameter(name).grad)
    torch.testing.assert_close(model.reference.free.grad, twin.decoder.scale.free.grad)
    assert (own["decoder.scale.linear.weight"].grad != 0).any()


@torch.no_grad()
def test_counts_decay_and_make_tau():
    model = make(decay=0.5, prior_count=0.1)
    x, y = images(4), torch.tensor([2, -1, 0, 2])
    start = model.counts.clone()
    assert torch.equal(start.argmax(1), torch.arange(K) % Y)
    q = model.log_component(x).exp().detach()
    model.training_terms("elbo", x, y, NoiseStream(0), None, 0)
    expected = 0.5 * start
    expected[:, 2] += 0.5 * K / 3 * (q[0] + q[3])
    expected[:, 0] += 0.5 * K / 3 * q[2]
    torch.testing.assert_close(model.counts, expected)
    tau = (expected + 0.1) / (expected + 0.1).sum(1, keepdim=True)
    torch.testing.assert_close(model.class_given_component, tau)
    probability = model.log_class(q.log()).exp()
    torch.testing.assert_close(probability, q @ tau)
    before = model.counts.clone()
    model.terms("elbo", x, y, NoiseStream(0), None)  # the choice of weights counts nothing
    model.training_terms("elbo", x, torch.full((4,), -1), NoiseStream(0), None, 1)
    assert torch.equal(model.counts, before)


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["shared", "conv", "dense"])
def test_the_bound_that_is_trained_chooses_the_weights_without_classes(encoder):
    """Training adds task terms to the bound; what chooses the weights has none, whatever y is."""
    model = make(terms=Terms(threshold=0), latent_encoder=encoder)
    x, y = images(), torch.tensor([0, 1, 2, -1, -1])
    chosen = [model.terms("elbo", x, u, NoiseStream(3), None) for u in (y, torch.full((5,), -1))]
    assert not chosen[0].extras
    assert torch.equal(chosen[0].elbo, chosen[1].elbo)
    trained = model.training_terms("elbo", x, y, NoiseStream(3), None, 0)
    assert set(trained.extras) == {"supervised", "invariance", "pseudo_label"}
    torch.testing.assert_close(trained.component_kl, chosen[0].component_kl)
    assert set(model.watched(trained)) == {*trained.extras, "log_likelihood", "kl", "component_kl"}


@torch.no_grad()
@pytest.mark.parametrize("likelihood", ["beta_nll", "faithful", "legacy"])
def test_weights_are_chosen_by_the_density_whatever_trains_it(likelihood):
    x, hidden = images(), torch.full((5,), -1)
    exact, other = make(), make(terms=replace(PLAIN, likelihood=likelihood))
    other.load_state_dict(exact.state_dict(), strict=False)
    bounds = [m.terms("elbo", x, hidden, NoiseStream(4), None).elbo for m in (exact, other)]
    assert torch.equal(*bounds)
    trained = other.training_terms("elbo", x, hidden, NoiseStream(4), None, 0)
    assert not torch.isclose(trained.elbo, bounds[1]).any()


@torch.no_grad()
def test_components_are_unlocked_one_by_one():
    model = make("curriculum")
    hidden = torch.full((5,), -1)
    for step, count in ((0, 2), (2, 2), (3, 3), (6, 4), (60, 4)):
        model.before_step(step, images(), hidden)
        used = model.log_component(images()).exp().sum(0) > 0
        assert used.tolist() == [c < count for c in range(K)]
        assert float(model.log_weights.exp().sum()) == pytest.approx(1)


def test_reading_does_not_depend_on_blocks():
    model = make("learned").float()
    x = NoiseStream(5).uniform((300, *SHAPE))
    whole, alone = read(model, x), read(model, x[290:], first=290)
    for name in ("component", "probability", "elbo", "squared_error", "scale"):
        np.testing.assert_allclose(
            getattr(whole, name)[290:], getattr(alone, name), rtol=2e-4, atol=1e-5
        )
    np.testing.assert_allclose(whole.probability.sum(1), 1, atol=1e-6)


@torch.no_grad()
def test_reading_is_the_bound_of_training():
    model = make("learned")
    x = images()
    found = read(model, x)
    again = [
        model.terms("elbo", x, torch.full((5,), -1), NoiseStream(s), None) for s in range(400)
    ]
    draws = [read(model, x, seed=s).elbo for s in range(400)]
    trained = torch.stack([t.elbo.detach() for t in again]).numpy()
    error = np.hypot(np.std(draws, 0), trained.std(0)) / 20
    assert (np.abs(np.mean(draws, 0) - trained.mean(0)) < 4.5 * error).all()
    q = torch.from_numpy(found.component)
    posterior = model.latent_posterior(x)
    eye = torch.eye(K, dtype=torch.float64)[:, None]
    mean = (q.T[..., None, None, None] * model.decoder(posterior.mean, eye).mean).sum(0)
    error = (x - mean).square().flatten(1).mean(1).detach().numpy()
    np.testing.assert_allclose(found.squared_error, error)


@torch.no_grad()
def test_latent_densities_are_those_of_the_mixture():
    model = make("learned")
    x = images(4)
    table = latent_log_densities(model, x)
    posterior, q = model.latent_posterior(x), model.log_component(x).exp()
    noise = row_noise((0, Purpose.LATENT), range(4), (1, 2), torch.float64)[0]
    for i in range(4):
        matches = []
        for c in range(K):
            z = posterior.mean[c, i] + posterior.stddev[c, i] * noise[i]
            row = []
            for j in range(4):
                parts = torch.distributions.Independent(
                    torch.distributions.Normal(posterior.mean[:, j], posterior.stddev[:, j]), 1
                )
                mixture = MixtureSameFamily(Categorical(q[j]), parts)
                row.append(float(mixture.log_prob(z)))
            matches.append(np.allclose(row, table[i]))
        assert any(matches)


def test_images_outside_the_range():
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        make().fit_units(2 * images(), torch.zeros(5))
    make().fit_units(images(), torch.zeros(5))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"components": 0}, "components"),
        ({"dim": 0}, "dim"),
        ({"decay": 1.0}, "decay"),
        ({"prior_count": 0.0}, "prior_count"),
        ({"prior": Prior(unlocked=11)}, "unlocked"),
        ({"prior": Prior(temperature=0.0)}, "temperature"),
        (
            {"terms": Terms("faithful"), "decoder": Decoder(likelihood="bernoulli")},
            "likelihood",
        ),
        ({"terms": Terms("legacy"), "decoder": Decoder(likelihood="per_pixel")}, "per_image"),
        ({"terms": Terms("legacy_mean")}, "fixed"),
        ({"width": 0}, "width"),
        ({"features": 0}, "features"),
        ({"prior_count": math.inf}, "prior_count"),
        ({"prior": Prior(temperature=math.inf)}, "temperature"),
        ({"prior": Prior(unlocked=2, unlock_every=0)}, "unlock_every"),
        ({"prior": Prior(latents="flow"), "dim": 1}, "latents"),
    ],
)
def test_settings_that_do_not_fit(settings, name):
    with pytest.raises(ConfigError, match=name):
        MixtureVAE(SHAPE, Y, **settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("invariance", -1.0),
        ("supervised", math.nan),
        ("usage_weight", math.inf),
        ("threshold", 1.01),
        ("threshold", -0.1),
        ("concentration", 1.0),
        ("concentration", math.nan),
        ("beta", 1.5),
    ],
)
def test_terms_out_of_their_range(name, value):
    with pytest.raises(ConfigError, match=rf"terms\.{name}"):
        Terms(**{name: value})


def test_a_full_covariance_is_for_learned_priors():
    with pytest.raises(ConfigError, match="covariance"):
        Prior(covariance="full")
