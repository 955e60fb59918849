"""Properties of every model."""

import math

import pytest
import torch

from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError
from latens.models import CVAE, Direct, Latent, LatentModel, UNet
from latens.nets import AffineFlow, Linear
from latens.objectives import reduce_terms
from latens.training import Training, fit_model
from models.model_cases import (
    LATENT_MODELS,
    MODELS,
    REGRESSORS,
    SHAPE,
    STAGES,
    make_model,
    make_pairs,
    make_problem,
)

X, Y = make_pairs(5, seed=1)


def terms_of(model, stage, x=X, y=Y, noise=0, problem=None):
    return model.terms(stage, x, y, NoiseStream(noise), problem or make_problem())


def test_every_stage_is_listed():
    assert {name for name, _ in STAGES} == set(MODELS)
    assert ("latent", "amortisation") in STAGES


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_terms_are_per_sample(name, stage):
    model = make_model(name)
    terms = terms_of(model, stage)
    for value in (terms.log_likelihood, terms.kl, *terms.extras.values()):
        if value is not None:
            assert value.shape == (5,)
            assert torch.isfinite(value).all()
            assert value.std() > 0
    if terms.kl is not None:
        assert (terms.kl >= 0).all()
    again = terms_of(model, stage)
    assert torch.equal(terms.log_likelihood, again.log_likelihood)


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_noise_enters_by_its_argument_alone(name, stage):
    model = make_model(name)
    before = torch.get_rng_state()
    first, second = terms_of(model, stage), terms_of(model, stage, noise=1)
    assert torch.equal(torch.get_rng_state(), before)
    same = torch.equal(first.log_likelihood, second.log_likelihood)
    assert same == (name == "unet")  # a regressor draws nothing


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_gradients_reach_the_parameters_of_the_stage_and_no_others(name, stage):
    model = make_model(name)
    reduce_terms(terms_of(model, stage), model.stage_event_size(stage)).backward()
    trained = {id(p) for p in model.stage_parameters(stage)}
    reached = {id(p) for p in model.parameters() if p.grad is not None}
    assert reached == trained
    assert sum(bool(p.grad.abs().sum() > 0) for p in model.stage_parameters(stage)) > 0.5 * len(
        trained
    )


@pytest.mark.parametrize("name", list(MODELS))
def test_every_parameter_has_a_stage(name):
    model = make_model(name)
    trained = [id(p) for stage in model.stages for p in model.stage_parameters(stage)]
    assert set(trained) == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_nats_refer_to_the_units_of_the_data(name, stage):
    # ten times larger data: log p(x) falls by D log 10, log q(z | y) stays
    model = make_model(name).double()
    x, y = (torch.cat([a, b]).double() for a, b in zip(make_pairs(16), (X, Y), strict=True))
    model.fit_units(x, y)
    before = terms_of(model, stage, x, y)
    model.fit_units(10 * x, 10 * y)
    after = terms_of(model, stage, 10 * x, 10 * y, problem=make_problem(noise=1.0))
    of_signal = model.stage_event_size(stage) == model.event_size
    shift = 144 * math.log(10) if of_signal else 0.0
    torch.testing.assert_close(
        after.log_likelihood, before.log_likelihood - shift, rtol=0, atol=1e-6
    )
    if before.kl is not None:
        torch.testing.assert_close(after.kl, before.kl)


@pytest.mark.parametrize("name", LATENT_MODELS)
@pytest.mark.parametrize("leading", [(), (4,), (2, 4)])
def test_decode(name, leading):
    model = make_model(name)
    assert isinstance(model, LatentModel)
    z = NoiseStream(3).normal((*leading, 5, model.dim))
    p = model.decode(z, Y)
    assert p.batch_shape == (*leading, 5)
    assert p.event_shape == SHAPE
    one = model.decode(z[..., 3:4, :], Y[3:4])
    torch.testing.assert_close(
        one.mean[..., 0, :, :, :], p.mean[..., 3, :, :, :], rtol=1e-4, atol=1e-4
    )
    assert abs(p.mean.mean() - X.mean()) < 3 * X.std()  # data units, not standard ones


@pytest.mark.parametrize("name", LATENT_MODELS)
def test_latent_distributions(name):
    model = make_model(name)
    assert isinstance(model, LatentModel)
    posterior, prior = model.inference_pair(X, Y)
    for q in (posterior, prior, model.latent_posterior(Y)):
        assert q.batch_shape == (5,)
        assert q.event_shape == (model.dim,)
    noise = NoiseStream(4).normal((7, 5, model.dim))
    torch.testing.assert_close(
        draw(model.latent_posterior(Y[2:3]), noise[:, 2:3])[:, 0],
        draw(model.latent_posterior(Y), noise)[:, 2],
        rtol=1e-4,
        atol=1e-4,
    )
    stage = model.stages[0]
    expected = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(terms_of(model, stage).kl, expected)


def test_who_reads_what():
    cvae, direct, latent = (make_model(n) for n in ("cvae-vector", "direct", "latent"))
    other = Y.flip(0)
    means = [lambda y, m=m: m.inference_pair(X, y)[0].mean for m in (cvae, direct, latent)]
    reads = [not torch.equal(mean(Y), mean(other)) for mean in means]
    assert reads == [True, True, False]
    assert torch.equal(direct.inference_pair(X, Y)[0].mean, direct.latent_posterior(Y).mean)
    assert torch.equal(cvae.inference_pair(X, Y)[1].mean, cvae.latent_posterior(Y).mean)
    z = NoiseStream(3).normal((5, cvae.dim))
    assert not torch.equal(cvae.decode(z, Y).mean, cvae.decode(z, other).mean)
    assert [m.is_posterior for m in (cvae, latent, direct)] == [True, True, False]


def test_latent_needs_a_problem_to_simulate_from():
    model = make_model("latent")
    assert model.needs_problem
    with pytest.raises(ConfigError, match="`problem`") as caught:
        model.terms("amortisation", X, Y, NoiseStream(0), None)
    assert "\n" not in str(caught.value)
    assert not any(make_model(name).needs_problem for name in ("cvae", "direct", "unet"))


def test_amortisation_trains_on_the_model_and_not_on_the_data():
    model = make_model("latent")
    first = terms_of(model, "amortisation")
    second = terms_of(model, "amortisation", *make_pairs(5, seed=8))
    assert torch.equal(first.log_likelihood, second.log_likelihood)


@pytest.mark.parametrize(
    ("signal", "measurement"),
    [((1, 13), (2, 7)), ((2, 13, 9), (1, 7, 5)), ((1, 9, 10, 11), (1, 9, 5, 6))],
)
@pytest.mark.parametrize("name", list(MODELS))
def test_other_shapes(name, signal, measurement):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = MODELS[name]()
        nets = None if name in REGRESSORS else _architecture(name)
        model = (
            type(base)(signal, measurement, width=4)
            if nets is None
            else type(base)(signal, measurement, dim=2, architecture=nets)
        )
    x, y = NoiseStream(0).normal((3, *signal)), NoiseStream(1).normal((3, *measurement))
    model.fit_units(x, y)
    terms = model.terms(model.stages[0], x, y, NoiseStream(2), None)
    assert torch.isfinite(terms.log_likelihood).all()
    if isinstance(model, LatentModel):
        assert model.latent_posterior(y).batch_shape == (3,)
        assert model.decode(NoiseStream(3).normal((2, 3, model.dim)), y).event_shape == signal
    else:
        assert model.reconstruct(y).shape == x.shape


def _architecture(name):
    from latens.nets import Conv, ConvMap, Linear

    if "linear" in name:
        return Linear()
    return Conv(4, features=6) if "vector" in name or "pixel" in name else ConvMap(4)


def test_default_networks():
    model = Latent((1, 28, 28), (1, 28, 28), dim=2)
    assert model.dim == 2 * 7 * 7


def test_a_flow_changes_no_other_weight():
    # the flow is made last: encoder and decoder start as they do without one
    plain, refined = make_model("latent"), make_model("latent-flow")
    state = refined.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    z = NoiseStream(3).normal((5, plain.dim))
    torch.testing.assert_close(
        refined.latent_posterior(Y).log_prob(z), plain.latent_posterior(Y).log_prob(z)
    )


@pytest.mark.parametrize("name", ["latent-flow", "latent-spline"])
def test_the_flow_trains_in_the_second_stage_alone(name):
    model = make_model(name)
    flow = {id(p) for p in model.refinement.parameters()}
    assert flow
    assert flow <= {id(p) for p in model.stage_parameters("amortisation")}
    assert not flow & {id(p) for p in model.stage_parameters("representation")}


def test_dropout_leaves_the_weights_and_the_last_block_alone():
    plain, masked = make_model("unet"), make_model("unet-dropout")
    assert isinstance(masked, UNet)
    state = masked.state_dict()
    assert plain.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    assert masked.maps == 4 + 4 + 8 + 8 + 16 + 16 + 4 + 4  # not the maps of the signal
    masked.eval()
    nothing = masked.reconstruct_dropped(Y, torch.full((5, masked.maps), -9.0))
    with torch.no_grad():
        assert nothing.std() > 1e-4  # the residual paths are never dropped


def test_masks_come_from_the_noise_of_the_step():
    model = make_model("unet-dropout").eval()
    assert isinstance(model, UNet)
    terms = terms_of(model, "likelihood", noise=6)
    loc = model.reconstruct_dropped(Y, NoiseStream(6).normal((5, model.maps)))
    torch.testing.assert_close(terms.log_likelihood, model.around(loc).log_prob(X))


@pytest.mark.parametrize("name", REGRESSORS)
def test_the_scale_of_largest_likelihood(name):
    model = make_model(name).eval()
    assert isinstance(model, UNet)
    x, y = make_pairs(20, seed=3)

    def likelihood(shift: float) -> float:
        with torch.no_grad():
            model.scale.free += shift
            value = float(terms_of(model, "likelihood", x, y).log_likelihood.mean())
            model.scale.free -= shift
        return value

    before = likelihood(0.0)
    model.fit_scale(x, y, NoiseStream(0))
    best = likelihood(0.0)
    assert best > before + 1
    assert best > max(likelihood(0.1), likelihood(-0.1))
    with torch.no_grad():
        masks = NoiseStream(0).normal((20, model.maps))
        loc = model.reconstruct_dropped(y, masks) if model.dropout else model.reconstruct(y)
        expected = (x - loc).square().mean().sqrt()
        torch.testing.assert_close(model.around(loc).stddev, expected.expand_as(loc))


CONSISTENT = [(name, stage) for name, stage in STAGES if MODELS[name]().consistency > 0]


@pytest.mark.parametrize(("name", "stage"), CONSISTENT)
def test_consistency_is_the_misfit_of_what_was_decoded(name, stage):
    model = make_model(name).eval()
    assert model.needs_problem
    terms = terms_of(model, stage)
    if stage == "amortisation":
        assert terms.extras == {}  # its measurements are simulated
        return
    assert terms.weights["consistency"] == 0.1
    noise = NoiseStream(0)
    if isinstance(model, LatentModel):
        z = model.draw_latents(model.inference_pair(X, Y)[0], noise)
        x = model.decode(z, Y).mean
    else:
        x = model.reconstruct_dropped(Y, noise.normal((5, model.maps)))
    torch.testing.assert_close(terms.extras["consistency"], make_problem().chi2(Y, x))


@pytest.mark.parametrize("name", ["cvae-consistent", "unet-dropout"])
def test_consistency_needs_a_problem(name):
    model = make_model(name)
    with pytest.raises(ConfigError, match="`problem`") as caught:
        model.terms(model.stages[0], X, Y, NoiseStream(0), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "steps", "share"), [("cvae", 150, 0.9), ("unet", 60, 0.2)])
def test_a_large_weight_makes_reconstructions_fit_the_data(family, steps, share):
    settings = Training(
        max_steps=steps, batch_size=16, learning_rate=1e-2, warmup_steps=0, kl_warmup_steps=20
    )
    misfits = []
    for weight in (0.0, 1.0):
        model = make_model(family)
        model.consistency = weight
        fit_model(model, make_pairs(64), make_pairs(16, seed=2), settings, 0, make_problem())
        with torch.no_grad():
            mean = (
                model.reconstruct(Y)
                if isinstance(model, UNet)
                else model.decode(model.latent_posterior(Y).mean, Y).mean
            )
            misfits.append(float(make_problem().chi2(Y, mean).mean()))
    assert misfits[1] < share * misfits[0]


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        *[
            (family, {"consistency": value})
            for family in (CVAE, Latent, Direct, UNet)
            for value in (-0.1, math.nan, math.inf)
        ],
        (UNet, {"dropout": 1.0}),
        (UNet, {"dropout": -0.1}),
        (UNet, {"dropout": math.nan}),
        (UNet, {"width": 2}),
        (Latent, {"dim": 1, "architecture": Linear(), "flow": AffineFlow()}),
    ],
)
def test_settings_out_of_range(family, wrong):
    with pytest.raises(ConfigError) as caught:
        family(SHAPE, SHAPE, **wrong)
    assert list(wrong)[-1] in str(caught.value)
    assert "\n" not in str(caught.value)
