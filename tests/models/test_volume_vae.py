"""The VAE of volumes and its partitioned form: terms against their equations."""

from dataclasses import replace
from math import exp, log, pi

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError, DataError, ShapeError
from latens.models.partitioned import Partition, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.nets import Linear, Volumetric
from latens.nets.erasure import LinearErasure
from latens.objectives import reduce_terms
from latens.objectives.covariance import covariance, squares
from latens.objectives.dependence import distance_correlation
from latens.objectives.dip import Dip
from latens.objectives.kl_control import KLControl
from latens.objectives.segmentation import mask_loss

SHAPE = (2, 6, 8, 6)
NETS = Volumetric(4, features=8, coarse=4)
X = 1.5 + 2 * NoiseStream(0, 0).normal((6, *SHAPE))
Y = torch.stack([torch.arange(6.0), torch.arange(6.0).square(), torch.arange(6.0).cos()], 1)
PARTS = {"volume": 1, "place": 2}


def noise() -> NoiseStream:
    return NoiseStream(0, 1)


def made(model: VolumeVAE) -> VolumeVAE:
    model.fit_units(X, Y)
    return model


@pytest.fixture(autouse=True)
def fixed_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_the_bound_of_a_plain_vae():
    model = made(VolumeVAE(SHAPE, dim=5, architecture=NETS))
    terms = model.terms("elbo", X, Y, noise(), None)
    q = model.encode(X)
    z = draw(q, noise().normal((6, 5)))
    p = model.decode(z)
    scale = p.stddev
    by_hand = Normal(p.mean, scale).log_prob(X).flatten(1).sum(1)
    torch.testing.assert_close(terms.log_likelihood, by_hand)
    prior = Normal(torch.zeros(6, 5), torch.ones(6, 5))
    torch.testing.assert_close(terms.kl, kl_divergence(q.base_dist, prior).sum(1))
    assert scale[:, 0].unique().numel() == 1
    torch.testing.assert_close(scale[0, 0, 0, 0, 0], 0.5 * X.std())  # the start, in data units
    trained = model.training_terms("elbo", X, Y, noise(), None, 0)
    torch.testing.assert_close(reduce_terms(trained, 288), reduce_terms(terms, 288))


def test_dip_is_the_penalty_of_the_encoder_and_ramps():
    dip = Dip(3.0, 2.0, start=10, ramp=4, estimator="squares")
    model = made(VolumeVAE(SHAPE, dim=5, architecture=NETS, dip=dip))
    plain = -model.terms("elbo", X, Y, noise(), None).elbo.mean() / 576
    q = model.encode(X)
    found = squares(q.mean, q.variance)
    for step, share in ((0, 0.0), (9, 0.0), (10, 0.25), (13, 1.0), (99, 1.0)):
        terms = model.training_terms("elbo", X, Y, noise(), None, step)
        cost = share * (3 * found.off_diagonal + 2 * found.diagonal) / 576
        expected = plain + cost
        torch.testing.assert_close(reduce_terms(terms, 576), expected)
        assert model.schedule(step)["sched/lambda_od"] == pytest.approx(3 * share)
        assert model.schedule(step)["sched/lambda_d"] == pytest.approx(2 * share)
        assert model.watched(terms)["cov_penalty"] == pytest.approx(float(cost.detach()), abs=1e-6)
    final = model.terms("elbo", X, Y, noise(), None)
    torch.testing.assert_close(reduce_terms(final, 576), expected)


def test_the_buffer_belongs_to_the_weights_and_rests_outside_training():
    model = made(VolumeVAE(SHAPE, dim=3, architecture=NETS, dip=Dip()))
    model.terms("elbo", X, Y, noise(), None)
    state = model.state_dict()
    assert state["dip.buffer.weight"] > 0
    model.eval()
    before = state["dip.buffer.average"].clone()
    model.terms("elbo", X + 1, Y, noise(), None)
    assert torch.equal(model.state_dict()["dip.buffer.average"], before)


def test_control_is_for_training_alone():
    control = KLControl(free_bits=2.0, cycles=2, cycle_steps=10)
    model = made(VolumeVAE(SHAPE, dim=5, architecture=NETS, control=control))
    terms = model.terms("elbo", X, Y, noise(), None)
    trained = model.training_terms("elbo", X, Y, noise(), None, 0)
    assert trained.weights["kl"] == pytest.approx(0.2)
    torch.testing.assert_close(trained.kl, torch.full((6,), 10.0))  # all below the floor
    torch.testing.assert_close(trained.extras["kl_raw"], terms.kl)
    assert trained.weights["kl_raw"] == 0
    assert model.schedule(0)["sched/expected_kl_floor"] == 10
    assert model.schedule_steps == 20


def test_autocast_keeps_the_sums_in_float32():
    model = made(VolumeVAE(SHAPE, dim=5, architecture=NETS, dip=Dip(estimator="squares")))
    exact = model.terms("elbo", X, Y, noise(), None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.terms("elbo", X, Y, noise(), None)
    for value in (mixed.log_likelihood, mixed.kl, *mixed.extras.values()):
        assert value.dtype == torch.float32
    torch.testing.assert_close(mixed.log_likelihood, exact.log_likelihood, rtol=0.02, atol=1)
    assert not torch.equal(mixed.log_likelihood, exact.log_likelihood)


def partitioned(**settings) -> PartitionedVAE:
    model = PartitionedVAE(SHAPE, PARTS, dim=8, architecture=NETS, **settings)
    made(model)
    return model


def test_parts_are_slices_of_the_latents():
    model = partitioned()
    z = torch.arange(16.0).reshape(2, 8)
    assert model.part("volume", z).tolist() == [[0], [8]]
    assert model.part("place", z).tolist() == [[1, 2], [9, 10]]
    assert model.part("rest", z).tolist() == [[3, 4, 5, 6, 7], [11, 12, 13, 14, 15]]
    with pytest.raises(ConfigError, match="volume, place, rest"):
        model.part("shape", z)
    units = model.standard_targets(Y)
    torch.testing.assert_close(units.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(units.std(0), torch.ones(3))
    back = model.predicted_targets(torch.cat([units, z[:1].expand(6, 8)[:, 3:]], 1))
    torch.testing.assert_close(back, Y)


def test_terms_of_the_partition():
    model = partitioned(partition=Partition(2.0, 3.0))
    y = Y.clone()
    y[0, 0], y[1, 2] = float("-inf"), float("nan")
    terms = model.terms("elbo", X, y, noise(), None)
    q = model.encode(X)
    z = draw(q, noise().normal((6, 8)))
    s = model.target_spread.value
    t = (y - Y.mean(0)) / Y.std(0)
    nats = -Normal(z[:, :3], s).log_prob(torch.nan_to_num(t, 0, 0, 0))
    nats[1, 2] = 0.0  # not known
    floor = (Y[:, 0].min() - Y[:, 0].mean()) / Y[:, 0].std()
    nats[0, 0] = (
        -Normal(z[0, 0].double(), s[0].double()).cdf(floor.double()).log()
    )  # too small to be seen
    torch.testing.assert_close(terms.extras["supervised"], nats.sum(1))
    assert nats[2, 0] > log(2 * pi) / 2 + log(0.5) - 1e-6
    expected = sum(
        distance_correlation(q.mean[:, 3:], q.mean[:, part]) for part in (slice(0, 1), slice(1, 3))
    )
    torch.testing.assert_close(terms.extras["dependence"], expected.expand(6))
    loss = -terms.elbo.mean() / 288 + 2 * nats.sum(1).mean() + 3 * expected
    torch.testing.assert_close(reduce_terms(terms, 288), loss)


def test_a_vanished_lesion_is_censored_and_not_unknown():
    """−log ∫ N(t; z, s²) dt below the smallest volume, by quadrature."""
    model = partitioned(partition=Partition(2.0, 3.0)).double()
    y = Y.double()
    y[0, 0] = float("-inf")
    z = torch.zeros(6, 8).double()
    z[0, 0] = 1.2
    z.requires_grad_()
    found = model.supervised(z, y)
    s = float(model.target_spread.value[0].detach())
    floor = float((Y[:, 0].min() - Y[:, 0].mean()) / Y[:, 0].std())
    t = torch.linspace(-12, floor, 200_001).double()
    below = torch.trapezoid(Normal(1.2, s).log_prob(t).exp(), t)
    t = model.standard_targets(Y.double())
    others = -Normal(z[0, 1:3], model.target_spread.value[1:]).log_prob(t[0, 1:]).sum()
    torch.testing.assert_close(found[0], others - below.log(), rtol=1e-6, atol=0)
    found[0].backward()
    assert z.grad is not None
    assert z.grad[0, 0] > 1
    unknown = y.clone()
    unknown[0, 0] = float("nan")
    torch.testing.assert_close(model.supervised(z, unknown)[0], others)


def test_a_vanished_lesion_far_above_the_limit_has_a_finite_gradient():
    model = partitioned()
    z = torch.full((6, 8), 40.0, requires_grad=True)
    y = Y.clone()
    y[0, 0] = float("-inf")
    cost = model.supervised(z, y)
    cost.sum().backward()
    assert torch.isfinite(cost).all()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert z.grad[0, 0] > 40


def test_the_partition_ramps_in():
    model = partitioned(partition=Partition(2.0, 3.0, start=10, ramp=4))
    for step, share in ((9, 0.0), (10, 0.25), (13, 1.0)):
        terms = model.training_terms("elbo", X, Y, noise(), None, step)
        assert terms.weights["supervised"] == pytest.approx(2 * share)
        assert model.schedule(step)["sched/dependence"] == pytest.approx(3 * share)
    assert model.terms("elbo", X, Y, noise(), None).weights["supervised"] == 2
    assert model.schedule_steps == 14


def test_at_first_the_known_quantities_alone_are_learned():
    model = partitioned(partition=Partition(2.0, 3.0, alone=5))
    model.train()
    first = model.training_terms("elbo", X, Y, noise(), None, 4)
    loss = reduce_terms(first, 288)
    q = model.encode(X)
    z = draw(q, noise().normal((6, 8)))
    t = model.standard_targets(Y)
    nats = -Normal(z[:, :3], model.target_spread.value).log_prob(t)
    torch.testing.assert_close(loss, nats.sum(1).mean())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(float(p.grad.abs().sum()) == 0 for p in model.decoder_net.parameters())
    assert float(model.encoder_net.head.weight.grad[:3].abs().sum()) > 0
    assert float(model.encoder_net.head.weight.grad[3:8].abs().sum()) == 0
    later = model.training_terms("elbo", X, Y, noise(), None, 5)
    assert later.kl is not None
    assert set(later.extras) > {"supervised", "dependence"}
    assert model.schedule_steps == 5
    with pytest.raises(ConfigError, match="alone"):
        Partition(alone=-1)


def test_independence_moves_the_rest_alone():
    model = partitioned()
    terms = model.terms("elbo", X, Y, noise(), None)
    head = model.encoder_net.head
    (gradient,) = torch.autograd.grad(terms.extras["dependence"].mean(), head.bias)
    assert torch.equal(gradient[:3], torch.zeros(3))
    (gradient,) = torch.autograd.grad(
        model.terms("elbo", X, Y, noise(), None).extras["dependence"].mean(), head.weight
    )
    assert torch.equal(gradient[:3], torch.zeros_like(gradient[:3]))
    assert (gradient[3:8].abs().sum(1) > 0).all()


def cases(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Volumes whose brightness and slopes are known; some are not."""
    x = NoiseStream(3, 0).normal((count, *SHAPE))
    t = NoiseStream(3, 1).normal((count, 3))
    slope = torch.linspace(-1, 1, 8)[:, None]
    x[:, 0] += t[:, :1, None, None] + t[:, 1, None, None, None] * slope
    x[:, 1] += t[:, 2, None, None, None] * slope
    t[0, 0], t[1, 2] = float("-inf"), float("nan")
    return x, t


def fitted_partition() -> tuple[PartitionedVAE, torch.Tensor, torch.Tensor]:
    model = PartitionedVAE(SHAPE, PARTS, dim=12, architecture=NETS)
    x, y = cases(200)
    model.fit_units(x, y)
    model.eval().fit_closed_form(x, y)
    return model, x, y


def covariance_with_known(model: PartitionedVAE, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Correlations of the rest with the known quantities, `(k, T)`."""
    with torch.no_grad():
        rest = model.part("rest", model.encode(x).mean).double()
    rows = torch.cat([rest / rest.std(0), model.standard_targets(y).double()], 1)
    return covariance(rows)[:-3, -3:]


def test_the_rest_of_the_final_encoder_is_projected():
    model, x, y = fitted_partition()
    head = model.encoder_net(model.signal_units(x))
    q = model.encode(x)
    torch.testing.assert_close(q.mean[:, :3], head.mean[:, :3])
    torch.testing.assert_close(q.mean[:, 3:], model.erasure(head.mean[:, 3:]))
    torch.testing.assert_close(q.stddev[:, :3], head.stddev[:, :3])
    prior = Normal(torch.zeros(200, 12), torch.ones(200, 12))
    terms = model.terms("elbo", x, y, noise(), None)
    torch.testing.assert_close(terms.kl, kl_divergence(q.base_dist, prior).sum(1))
    y = torch.where(torch.isfinite(y), y, model.predicted_targets(q.mean))  # it stands for it
    assert covariance_with_known(model, x, y).abs().max() < 1e-5  # of float32 latents
    model.erasure = LinearErasure(9, 3)
    assert covariance_with_known(model, x, y).abs().max() > 0.2


def test_sigma_of_the_rest_is_that_of_every_volume():
    model, x, _ = fitted_partition()
    with torch.no_grad():
        model.encoder_net.head.weight[15:] *= 30  # the encoder writes x into σ of the rest
        model.rest_scale.free.copy_(0.1 * torch.arange(9.0))
    told = model.encoder_net(model.signal_units(x)).stddev[:, 3:]
    assert (told.log().std(0) > 0.1).all()
    own = model.encode(x).stddev[:, 3:]
    assert torch.equal(own, own[:1].expand_as(own))
    torch.testing.assert_close(own[0], model.rest_scale.value)
    assert own[0].unique().numel() == 9
    terms = model.terms("elbo", x, torch.full((200, 3), torch.nan), noise(), None)
    (gradient,) = torch.autograd.grad(terms.elbo.sum(), model.rest_scale.free)
    assert (gradient != 0).all()


def test_sigma_of_the_rest_keeps_the_floor_of_the_posterior():
    nets = Volumetric(4, features=8, coarse=4, posterior_logvar_min=-8.0)
    model = PartitionedVAE(SHAPE, PARTS, dim=8, architecture=nets)
    assert model.rest_scale.value.tolist() == pytest.approx([exp(-2.0)] * 5)
    with torch.no_grad():
        model.rest_scale.free.fill_(-100.0)
    assert model.rest_scale.value.tolist() == pytest.approx([exp(-4.0)] * 5)


def test_the_reported_likelihood_is_summed_in_float64():
    """A million elements: float32 has no more than a sixteenth of a nat there."""
    shape = (4, 64, 64, 64)
    model = VolumeVAE(shape, dim=1, architecture=Linear())
    x, z = NoiseStream(0, 9).normal((2, *shape)) + 3, torch.tensor([[0.3], [-1.0]])
    model.fit_units(x, x)
    with torch.no_grad():
        model.decoder_net.scale.set(0.2)
        p = model.decode(z)
        density = Normal(p.mean.double(), p.stddev.double())
        exact = density.log_prob(x.double()).flatten(1).sum(1)
        found = model.log_likelihood(x, z)
        assert found.dtype == torch.float64
        # Rounded once more or less than here: 1e-7 of each square, at random.
        torch.testing.assert_close(found, exact, atol=0.01, rtol=0)
        one = model.log_likelihood(x[:1], z)
        torch.testing.assert_close(one[0], found[0], atol=1e-9, rtol=0)
        assert one[1] != found[1]


def test_training_batches_alone_move_the_projection():
    model, x, y = fitted_partition()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.terms("elbo", x, y, noise(), None)
    model.train().encode(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.training_terms("elbo", x[:50], y[:50], noise(), None, 0)
    moved = {name for name, value in model.state_dict().items() if not before[name].equal(value)}
    state = ("mean", "second", "weight", "rows", "centre", "projection")
    assert moved == {f"erasure.{name}" for name in state} - {"erasure.weight"}
    alone = partitioned(partition=Partition(alone=1)).train()
    alone.training_terms("elbo", X, Y, noise(), None, 0)
    assert alone.erasure.rows == 6


def test_the_weights_hold_the_projection():
    model, x, _ = fitted_partition()
    other = PartitionedVAE(SHAPE, PARTS, dim=12, architecture=NETS).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encode(x).mean, model.encode(x).mean)


def test_the_bound_moves_the_rest_through_the_projection():
    model, x, y = fitted_partition()
    terms = model.terms("elbo", x, y, noise(), None)
    (gradient,) = torch.autograd.grad(terms.elbo.mean(), model.encoder_net.head.bias)
    rest = gradient[3:12].double()  # means of the rest
    assert rest.abs().max() > 0
    # Nothing asks for what is erased: gradients have no part along Σ_rt.
    erased = torch.linalg.svd(model.erasure.projection).Vh[-3:]  # right null space of P
    assert torch.linalg.norm(model.erasure.projection @ erased.T) < 1e-8
    assert (erased @ rest).abs().max() < 1e-5 * rest.abs().max()


def test_unknown_everything_costs_nothing_and_gives_no_nan():
    model = partitioned(partition=Partition(1.0, 0.0))
    terms = model.terms("elbo", X, torch.full_like(Y, torch.nan), noise(), None)
    assert torch.equal(terms.extras["supervised"], torch.zeros(6))
    reduce_terms(terms, 288).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VolumeVAE(SHAPE, dim=0),
        lambda: PartitionedVAE(SHAPE, {"rest": 1}, dim=4),
        lambda: PartitionedVAE(SHAPE, {"volume": 4}, dim=8),
        lambda: PartitionedVAE(SHAPE, {}, dim=4),
        lambda: Partition(supervised=-1.0),
        lambda: Dip(off_diagonal=-1.0),
        lambda: Dip(decay=1.0),
        lambda: Dip(start=-1),
    ],
)
def test_contradictions(make):
    with pytest.raises(ConfigError):
        make()


def test_quantities_that_nobody_knows():
    model = PartitionedVAE(SHAPE, PARTS, dim=8, architecture=NETS)
    unknown = Y.clone()
    unknown[1:, 1] = torch.nan
    with pytest.raises(DataError, match="1 of quantity 1"):
        model.fit_units(X, unknown)


def test_other_networks_work_too():
    """Probabilistic PCA as a VAE of volumes: the scale is one number."""
    model = made(VolumeVAE(SHAPE, dim=2, architecture=Linear(), control=KLControl(free_bits=0.1)))
    terms = model.training_terms("elbo", X, Y, noise(), None, 0)
    z = draw(model.encode(X), noise().normal((6, 2)))
    torch.testing.assert_close(terms.log_likelihood, model.decode(z).log_prob(X))


def test_settings_are_plain_data():
    assert replace(Dip(), ramp=7).steps == 7


def told(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Scans with a mask, and what is known of them; of one no mask."""
    x = NoiseStream(5, 0).normal((count, 1, 6, 8, 8))
    mask = NoiseStream(5, 1).uniform((count, 6, 8, 8)) < 0.3
    y = torch.cat([NoiseStream(5, 2).normal((count, 3)), mask.flatten(1).float()], 1)
    y[1, 3:] = torch.nan
    return x + mask[:, None], y


def reading(**settings) -> PartitionedVAE:
    x, y = told()
    partition = Partition(2.0, 3.0, mask=0.7, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PartitionedVAE(x[0].shape, PARTS, dim=8, partition=partition, architecture=NETS)
    model.fit_units(x, y)
    return model


def test_aligned_latents_are_read_from_the_mask():
    model, (x, y) = reading().eval(), told()
    assert model.measurement_shape == (3 + 6 * 8 * 8,)
    assert model.reader is not None
    terms = model.terms("elbo", x, y, noise(), None)
    read = model.reader(model.signal_units(x))
    q = model.encode(x)
    torch.testing.assert_close(q.mean[:, :3], read.q.mean)
    torch.testing.assert_close(q.stddev[:, :3], read.q.stddev)
    assert q.mean.shape == (6, 8)
    expected = mask_loss(read.mask, y[:, 3:].unflatten(1, (6, 8, 8)))
    torch.testing.assert_close(terms.extras["mask"], expected)
    assert expected[1] == 0
    assert terms.weights["mask"] == pytest.approx(0.7)
    assert (expected[[0, 2, 3, 4, 5]] > 0).all()


def test_alone_the_reader_learns_mask_and_quantities():
    model, (x, y) = reading(alone=2).train(), told()
    loss = reduce_terms(model.training_terms("elbo", x, y, noise(), None, 0), 384)
    read = model.reader(model.signal_units(x))  # pyright: ignore[reportOptionalCall]
    z = draw(read.q, noise().normal((6, 3)))
    nats = -Normal(z, model.target_spread.value).log_prob(model.standard_targets(y))
    masks = mask_loss(read.mask, y[:, 3:].unflatten(1, (6, 8, 8)))
    torch.testing.assert_close(loss, nats.sum(1).mean() + 0.7 * masks.mean())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not any(p.grad.any() for p in model.encoder_net.parameters())  # pyright: ignore
    assert model.reader.last[-1].weight.grad.any()  # pyright: ignore


def test_a_saved_reader_knows_its_voxels():
    x, y = told()
    made_for = PartitionedVAE(
        x[0].shape,
        PARTS,
        dim=8,
        partition=Partition(mask=1.0),
        voxel=(1.0, 2.0, 3.0),
        architecture=NETS,
    )
    made_for.fit_units(x, y)
    other = PartitionedVAE(
        x[0].shape, PARTS, dim=8, partition=Partition(mask=1.0), architecture=NETS
    )
    other.load_state_dict(made_for.state_dict())
    assert torch.equal(made_for.eval().encode(x).mean, other.eval().encode(x).mean)


def test_masks_must_be_known_of_two_lesions():
    x, y = told()
    y[1:, 3:] = torch.nan
    with pytest.raises(DataError, match="two lesions"):
        reading().fit_units(x, y)


def test_a_mask_needs_three_axes():
    with pytest.raises(ShapeError, match="three spatial axes"):
        PartitionedVAE((1, 8, 8), PARTS, dim=8, partition=Partition(mask=1.0))
