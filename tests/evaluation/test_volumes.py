"""Assessment of a VAE of volumes whose latents are known."""

from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from latens.distributions import NoiseStream, Purpose, diagonal_normal
from latens.evaluation.volumes import Sample, assess_volumes, log_evidence
from latens.models.partitioned import PartitionedVAE
from latens.models.volume_vae import Encoded
from latens.nets import Architecture
from latens.nets.patches import Patches
from latens.nets.scale import GAIN

SHAPE = (1, 2, 2, 2)
ROWS = torch.arange(400)


class Reading(nn.Module):
    """Latents are the voxels; `leaking` is how much of the first ends up in the last."""

    def __init__(self, leaking: float) -> None:
        super().__init__()
        self.leaking = nn.Parameter(torch.tensor(leaking))

    def forward(self, x: Tensor) -> Independent:
        z = x.flatten(1)
        last = (1 - self.leaking) * z[:, -1:] + self.leaking * z[:, :1]
        loc = torch.cat([z[:, :-1], last], 1)
        return diagonal_normal(loc, torch.full_like(loc, 0.1), 1)


class Writing(nn.Module):
    """Voxels are the latents, with σ = .1."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = Patches(SHAPE, 1)

    def forward(self, z: Tensor) -> Independent:
        loc = z.reshape(*z.shape[:-1], *SHAPE)
        return diagonal_normal(loc, torch.full_like(loc, 0.1), 4)

    def log_prob(self, z: Tensor, x: Tensor) -> Tensor:
        return self(z).log_prob(x)


@dataclass
class Exact(Architecture):
    """Networks without anything to learn."""

    leaking: float

    def posterior(self, shapes, dim, signal_shape) -> nn.Module:
        return Reading(self.leaking)

    def decoder(self, dim, shape, scale, context=None):
        return Writing()


def partitioned(leaking: float, parts: dict[str, int], kind: type = PartitionedVAE):
    """A model whose every σ is .1."""
    model = kind(SHAPE, parts, dim=8, architecture=Exact(leaking))
    scale = model.rest_scale
    with torch.no_grad():
        scale.free.copy_(scale.unbounded(torch.full_like(scale.free, 0.1)) / GAIN)
    return model


@lru_cache
def assessed(leaking: float):
    """Numbers of a model on 300 fitting and 100 held-out volumes; computed once."""
    model = partitioned(leaking, {"volume": 1, "shape": 2})
    x = NoiseStream(0, 0).normal((400, *SHAPE))
    flat = x.flatten(1)
    targets = {"volume": 5 + 2 * flat[:, :1], "shape": flat[:, 1:3]}
    model.target_loc[0], model.target_scale[0] = 5.0, 2.0
    unknown = targets["volume"].clone()
    unknown[:3] = float("-inf")  # no lesion
    sample = Sample(
        x[:300],
        {"volume": unknown[:300], "shape": targets["shape"][:300]},
        x[300:],
        {name: values[300:] for name, values in targets.items()},
        [str(i // 2) for i in range(100)],
        ("only",),
        6.0,
        flat[:300, :4],
        flat[300:, :4],
    )
    return assess_volumes(model, sample).values


def test_a_model_that_keeps_its_parts_apart():
    found = assessed(0.0)
    for part in ("volume", "shape"):
        assert found[f"aligned_{part}"].value == pytest.approx(1, abs=1e-6)
        assert found[f"r2_{part}"].value > 0.95
        assert found[f"leak_{part}"].value < 0.05
        assert abs(found[f"dependence_{part}"].value) < 0.05
    assert found["kl"].groups == 50
    assert found["mse"].value < 1e-10
    assert found["neg_elbo"].value < 3


def test_a_leak_is_found_and_named():
    found = assessed(0.7)
    assert found["leak_volume_ridge"].value > 0.7
    assert found["leak_volume"].value >= found["leak_volume_ridge"].value
    assert found["leak_volume_kernel_within"].value > 0.3
    assert found["leak_shape"].value < 0.05
    assert found["dependence_volume"].value > 0.1
    lower, upper = found["leak_volume"].lower, found["leak_volume"].upper
    assert lower < found["leak_volume"].value < upper < 1


class Telling(PartitionedVAE):
    """The σ of its last latent is a function of the first voxel."""

    def _encoded(self, standard: Tensor, y: Tensor | None = None) -> Encoded:
        q, mask = super()._encoded(standard, y)
        last = 0.1 * (0.5 * standard.flatten(1)[:, :1]).exp()
        scale = torch.cat([q.stddev[:, :-1], last], 1)
        return Encoded(diagonal_normal(q.mean, scale, 1), mask)


def test_what_sigma_tells_is_found_where_the_means_tell_nothing():
    model = partitioned(0.0, {"volume": 1}, Telling)
    x = NoiseStream(0, 0).normal((400, *SHAPE))
    volume = x.flatten(1)[:, :1]
    there, here = {"volume": volume[:300]}, {"volume": volume[300:]}
    groups = [str(i) for i in range(100)]
    found = assess_volumes(model, Sample(x[:300], there, x[300:], here, groups, ("only",), 6.0))
    values = found.values
    assert values["leak_volume"].value < 0.05
    assert values["sigma_leak_volume"].value > 0.95
    assert values["sigma_leak_volume_ridge_within"].value > 0.95
    assert values["draw_leak_volume_ridge"].value < 0.05


def test_where_sigma_is_constant_it_adds_nothing_and_draws_tell_less():
    for leaking in (0.0, 0.7):
        found = assessed(leaking)
        for kind in ("volume", "volume_kernel", "shape_ridge_within"):
            assert found[f"sigma_leak_{kind}"] == found[f"leak_{kind}"]
    # A draw adds .01 to the variance .09 + .49 of the last latent, of which .49 is the volume.
    means, draws = (found[f"{name}_volume_ridge"].value for name in ("leak", "draw_leak"))
    assert means > draws > means - 0.1


def test_the_bound_beside_the_likelihood_is_of_the_same_volumes():
    found = assessed(0.0)
    model = partitioned(0.0, {"volume": 1, "shape": 2})
    x = NoiseStream(0, 0).normal((400, *SHAPE))[300:364].double()
    nats = []
    for number, block in enumerate(x.split(16)):
        q = Normal(block.flatten(1), 0.1)
        z = q.mean + 0.1 * NoiseStream(0, Purpose.LATENT, 1 + number).normal((16, 8))
        inside = Normal(z, 0.1).log_prob(block.flatten(1)).sum(1)
        nats.append(kl_divergence(q, Normal(0.0, 1.0)).sum(1) - inside)
    bound = torch.cat(nats).mean() / model.event_size
    assert found["nll_bound"].value == pytest.approx(float(bound), abs=1e-5)
    assert found["nll_bound"].images == found["nll"].images == 64
    gain = (found["nll_bound"].value - found["nll"].value) * 8
    assert found["nll_gain"].value == pytest.approx(gain, abs=1e-9)
    assert found["neg_elbo"].value != found["nll_bound"].value


def test_latents_that_are_factors():
    found = assessed(0.0)
    for name in ("mig", "modularity", "dci_disentanglement", "dci_completeness"):
        assert found[name].value > 0.9, name
    assert found["sap"].value > 0.7  # of 50 subjects; the second best of eight is chance
    assert found["dci_informativeness"].value > 0.99
    assert found["corr_mean"].value == pytest.approx((2 / (torch.pi * 50)) ** 0.5, abs=0.04)
    assert found["corr_max"].value < 0.5
    assert abs(found["dcor_mean"].value) < 0.02
    assert found["mig"].groups == found["mig"].images == 50  # the first volume of each subject
    leaking = assessed(0.7)
    assert leaking["corr_max"].value > 0.7
    assert leaking["mig"].value < found["mig"].value - 0.1


def test_factors_of_few_subjects_or_of_none():
    model = partitioned(0.0, {"volume": 1})
    x = NoiseStream(0, 0).normal((60, *SHAPE))
    known = x.flatten(1)[:, :3]
    for subjects, factors in ((39, 3), (40, 3), (40, 0)):
        groups = [str(min(i, subjects - 1)) for i in range(40)]
        own = known[40:, :factors], known[:40, :factors]
        found = assess_volumes(model, Sample(x[40:], {}, x[:40], {}, groups, ("a",), 6.0, *own))
        assert ("corr_mean" in found.values) == (subjects == 40)
        assert ("mig" in found.values) == (subjects == 40 and factors == 3)
        said = "39 subjects, 40 are needed" if subjects == 39 else None
        assert found.missing.get("mig") == found.missing.get("corr_mean") == said


def test_a_leak_that_training_subjects_do_not_show():
    """Where held-out subjects alone leak, the probes of training subjects see nothing."""
    model = partitioned(0.0, {"volume": 1})
    x = NoiseStream(0, 0).normal((400, *SHAPE))
    x[300:, 0, 1, 1, 1] = x[300:, 0, 0, 0, 0]
    targets = {"volume": x.flatten(1)[:, :1]}
    there, here = ({n: t[rows] for n, t in targets.items()} for rows in (ROWS[:300], ROWS[300:]))
    groups = [str(i // 2) for i in range(100)]
    sample = Sample(x[:300], there, x[300:], here, groups, ("only",), 6.0)
    found = assess_volumes(model, sample).values
    assert found["leak_volume_ridge"].value < 0.1
    assert found["leak_volume_ridge_within"].value > 0.95
    assert found["leak_volume"].value == max(
        found[f"leak_volume_{kind}"].value
        for kind in ("ridge", "kernel", "ridge_within", "kernel_within")
    )


def test_ablations_are_ratios_of_errors():
    found = assessed(0.7)
    assert found["ablation_z0"].value > found["permuted_rest"].value / 2 > 2
    assert found["ablation_permuted"].value > found["permuted_rest"].value


def test_latents_are_exchanged_between_subjects():
    """Visits of one subject are alike: its own latents would change next to nothing. Those of
    another one miss by twice the variance, zeros by once.
    """
    model = partitioned(0.7, {"volume": 1})
    x = NoiseStream(0, 2).normal((40, 1, *SHAPE)).expand(-1, 3, *SHAPE).flatten(0, 1)
    x = x + 0.01 * NoiseStream(0, 3).normal(tuple(x.shape))
    groups = [str(i // 3) for i in range(120)]
    sample = Sample(x[60:], {}, x[:60], {}, groups[:60], ("only",), 6.0)
    assessed = assess_volumes(model, sample)
    found, numbers = assessed.values, assessed.use.numbers
    apart = (x[:60] - x[60:].mean(0)).square().mean()
    assert found["ablation_mean"].value == pytest.approx(float(apart) / found["mse"].value)
    assert found["ablation_permuted"].value > 1.5 * found["ablation_z0"].value
    assert numbers["diag/recon_permuted_mse"] > 1.5 * numbers["diag/recon_z0_mse"]


def test_importance_sampling_finds_the_likelihood():
    """x = z + .1 ε with z ~ N(0, I) has the density N(0, 1.01)."""
    model = partitioned(0.0, {"volume": 1})
    x = NoiseStream(0, 1).normal((20, *SHAPE))
    exact = Normal(0.0, 1.01**0.5).log_prob(x).flatten(1).sum(1).double()
    found, shape = log_evidence(model, x, 256)
    # The weights of q = N(x, .01) against the posterior N(x/1.01, .0099) have a relative standard
    # deviation near .28, so 256 draws miss by .02 nats each.
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0)
    assert (found - exact).mean().abs() < 0.02
    assert (shape < 0.7).all()
    few, _ = log_evidence(model, x, 256, seed=1)
    assert not torch.equal(few, found)
    apart, _ = log_evidence(model, x[:3], 256)  # keyed by the place of the volume
    torch.testing.assert_close(apart, found[:3])


def test_the_likelihood_stands_below_the_bound():
    found = assessed(0.0)
    flat = NoiseStream(0, 0).normal((400, *SHAPE))[300:364].flatten(1)
    exact = -Normal(0.0, 1.01**0.5).log_prob(flat).mean()
    assert found["nll"].value == pytest.approx(float(exact), abs=0.01)
    assert found["nll"].images == 64
    assert found["nll_gain"].value > 0
    assert found["nll_unreliable"].value == 0
    broken = assessed(0.7)  # q is nowhere near the posterior: its likelihood is a bound
    assert broken["nll_unreliable"].value > 0.5
    assert broken["nll"].value > found["nll"].value
