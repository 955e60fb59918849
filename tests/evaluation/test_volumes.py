"""Assessment of a VAE of volumes whose latents are known."""

from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from latens.distributions import NoiseStream, diagonal_normal
from latens.evaluation.volumes import Sample, assess_volumes, log_evidence
from latens.models.partitioned import PartitionedVAE
from latens.nets import Architecture
from latens.nets.patches import Patches

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


@lru_cache
def assessed(leaking: float):
    """Numbers of a model on 300 fitting and 100 held-out volumes; computed once."""
    model = PartitionedVAE(SHAPE, {"volume": 1, "shape": 2}, dim=8, architecture=Exact(leaking))
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


def test_a_leak_that_training_subjects_do_not_show():
    """Where held-out subjects alone leak, the probes of training subjects see nothing."""
    model = PartitionedVAE(SHAPE, {"volume": 1}, dim=8, architecture=Exact(0.0))
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
    model = PartitionedVAE(SHAPE, {"volume": 1}, dim=8, architecture=Exact(0.7))
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
    model = PartitionedVAE(SHAPE, {"volume": 1}, dim=8, architecture=Exact(0.0))
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
