"""What is written down of a VAE of volumes: numbers against their definitions, and resuming."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from latens.distributions import NoiseStream
from latens.metrics.collapse import kl_per_unit
from latens.models.partitioned import Partition, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.nets import Volumetric
from latens.objectives.dip import Dip
from latens.objectives.kl_control import KLControl
from latens.training import Training, fit_model, module
from latens.training.diagnostics import (
    BLOCK,
    LatentDiary,
    LatentUse,
    encoded,
    latent_use,
    of_others,
)
from latens.training.hardware import Hardware
from latens.training.volumes import VolumeData

SHAPE = (2, 12, 12, 12)
CHANNELS = ("first", "second")
X = NoiseStream(0, 0).normal((2 * BLOCK + 5, *SHAPE)).cumsum(2) / 3


def made() -> VolumeVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = Volumetric(4, features=8, coarse=4)
        model = VolumeVAE(SHAPE, dim=4, architecture=nets, dip=Dip(0.1, 0.1))
    model.fit_units(X, X)
    return model


def test_every_number_is_what_its_name_says():
    model = made().eval()
    use = latent_use(model, X, NoiseStream(0, 1), CHANNELS, 6.0)
    found = use.numbers
    with torch.no_grad():
        q = model.encode(X)
        torch.testing.assert_close(use.loc, q.mean, rtol=1e-4, atol=1e-5)
        kl = kl_per_unit(q.mean, q.stddev).sum(1).mean()
        assert found["diag/kl_raw"] == pytest.approx(float(kl), rel=1e-4)
        variance = q.mean.var(0)
        assert found["diag/au_count"] == int((variance >= 0.01).sum())
        assert found["diag/au_frac"] == found["diag/au_count"] / 4
        assert found["diag/mu_var_mean"] == pytest.approx(float(variance.mean()), rel=1e-4)
        noise = NoiseStream(0, 1).normal((len(X), 4))
        codes = {
            "mu": q.mean,
            "sample": q.mean + q.stddev * noise,
            "z0": torch.zeros_like(q.mean),
            "permuted": q.mean.roll(-1, 0),
        }
        errors = {n: (model.decode(z).mean - X).square().mean() for n, z in codes.items()}
        for name, error in errors.items():
            assert found[f"diag/recon_{name}_mse"] == pytest.approx(float(error), rel=1e-4)
        gap = float(errors["sample"] - errors["mu"])
        assert found["diag/recon_delta_mu_vs_sampled"] == pytest.approx(gap, abs=1e-6)
        channel = (model.decode(q.mean).mean - X)[:, 1].square().flatten(1).mean(1)
        decibel = float((10 * torch.log10(36 / channel)).mean())
        assert found["val_epoch/psnr_second"] == pytest.approx(decibel, rel=1e-4)
        assert -1 < found["val_epoch/ssim_first"] < 1
    ratio = float(errors["z0"] / errors["mu"])
    assert use.diagnosis.ablation_ratio == pytest.approx(ratio, rel=1e-4)


def use_of(loc: torch.Tensor, errors: dict[str, float], **more) -> LatentUse:
    numbers = {f"diag/recon_{name}_mse": error for name, error in errors.items()}
    return LatentUse(loc, torch.full_like(loc, 0.9), numbers, 48, **more)


def test_the_gate_knows_the_floor_of_free_bits():
    """σ = .9 and means of .44: .1 nats of every latent."""
    loc = 0.44 * NoiseStream(0, 4).normal((48, 128))
    errors = {"mu": 1.0, "z0": 2.1}
    kl = float(use_of(loc, errors).kl_per_latent.mean())
    assert kl == pytest.approx(0.1, abs=0.02)
    assert use_of(loc, errors).diagnosis.verdict == "healthy"
    assert use_of(loc, errors, free_bits=0.1).diagnosis.verdict == "collapsed"
    strong = loc * (1 + 4 * (torch.arange(128) < 20))
    assert use_of(strong, errors, free_bits=0.1).diagnosis.verdict == "healthy"


def test_the_gate_judges_the_rest_by_itself():
    """Seven aligned latents with all of the information beside a rest that moves a little."""
    loc = NoiseStream(0, 5).normal((48, 96))
    loc[:, 7:] *= 0.11 * (torch.arange(89) < 4)
    dead = use_of(4 * loc, {"mu": 1.0, "z0": 2.1, "permuted_rest": 1.0})
    assert dead.diagnosis.verdict == "healthy"
    parted = replace(dead, rest=slice(7, 96))
    assert parted.diagnosis.verdict == "collapsed"
    assert "rest: MSE with that of another subject only 1 ×" in parted.diagnosis.reasons[-1]
    alive = NoiseStream(0, 6).normal((48, 96))
    errors = {"mu": 1.0, "z0": 2.1, "permuted_rest": 2.2}
    assert use_of(4 * alive, errors, rest=slice(7, 96)).diagnosis.verdict == "healthy"


def test_what_is_counted_of_the_rest():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = Volumetric(4, features=8, coarse=4)
        control = KLControl(free_bits=0.5)
        model = PartitionedVAE(SHAPE, {"volume": 1}, dim=4, architecture=nets, control=control)
    model.fit_units(X, X.flatten(1)[:, :1])
    use = latent_use(model.eval(), X, NoiseStream(0, 1), CHANNELS, 6.0)
    with torch.no_grad():
        loc, scale = encoded(model, X)
        others = torch.cat([loc[:, :1], loc.roll(-1, 0)[:, 1:]], 1)
        error = float((model.decode(others).mean - X).square().mean())
    found = use.numbers
    assert use.rest == slice(1, 4)
    assert found["diag/recon_permuted_rest_mse"] == pytest.approx(error, rel=1e-4)
    assert found["diag/rest_units"] == int((loc[:, 1:].var(0) >= 0.01).sum())
    above = (kl_per_unit(loc, scale).mean(0) - 0.5).clamp(min=0).sum()
    assert found["diag/kl_told"] == pytest.approx(float(above), rel=1e-4)
    plain = latent_use(made().eval(), X, NoiseStream(0, 1), CHANNELS, 6.0).numbers
    assert not {"diag/rest_units", "diag/recon_permuted_rest_mse", "diag/kl_told"} & set(plain)


def test_blocks_do_not_matter():
    model = made().eval()
    with torch.no_grad():
        loc, scale = encoded(model, X)
        one = torch.cat([model.encode(x[None]).mean for x in X])
    torch.testing.assert_close(loc, one, rtol=1e-4, atol=1e-5)
    assert scale.shape == loc.shape


class Interruption(Exception):
    """Stands for the end of the process."""


class Interrupter(Callback):
    """Ends a fit at a step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 5:
            raise Interruption


def fit(diary: LatentDiary, resume: Path | None, *watchers: Callback, parts: int = 1):
    model = made()
    settings = Training(
        max_steps=6, batch_size=8, warmup_steps=1, kl_warmup_steps=2, validate_every=2
    )
    pair = X[:16], X[:16].flatten(1)[:, :1]
    result = fit_model(
        model,
        pair,
        (X[16:], X[16:].flatten(1)[:, :1]),
        settings,
        3,
        resume=resume,
        make_data=partial(VolumeData, parts=parts),
        hardware=Hardware(accumulate=parts),
        watchers=[diary, *watchers],
    )
    return model, result


def diary() -> LatentDiary:
    return LatentDiary(X[16:], 3, CHANNELS, 6.0)


def test_a_resumed_fit_ends_with_the_same_diary_and_buffer(tmp_path):
    whole = diary()
    model, _ = fit(whole, None)
    with pytest.raises(Interruption):
        fit(diary(), tmp_path, Interrupter())
    resumed = diary()
    again, _ = fit(resumed, tmp_path)
    assert resumed.rows == whole.rows
    assert {step for step, _, _ in whole.rows} == {2, 4, 6}
    state = again.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert state["dip.buffer.weight"] > 0


@pytest.mark.parametrize("alone", [0, 3])
def test_the_weight_of_the_kl_is_that_of_the_loss(monkeypatch, alone):
    """What is written down at every look is what the loss of that step had."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PartitionedVAE(
            SHAPE,
            {"volume": 1},
            dim=4,
            partition=Partition(alone=alone),
            architecture=Volumetric(4, features=8, coarse=4),
            control=KLControl(capacity=5.0, capacity_steps=2),
        )
    seen, reduce = [], module.reduce_terms

    def noting(terms, event_size):
        if torch.is_grad_enabled():
            seen.append(0.0 if terms.kl is None else terms.weights["kl"])
        return reduce(terms, event_size)

    monkeypatch.setattr(module, "reduce_terms", noting)
    settings = Training(
        max_steps=7, batch_size=4, warmup_steps=1, kl_warmup_steps=4, validate_every=1
    )
    known = X.flatten(1)[:, :1]
    watched = diary()
    pairs = (X[:8], known[:8]), (X[16:], known[16:])
    fit_model(model, *pairs, settings, 0, make_data=VolumeData, watchers=[watched])
    written = [value for _, name, value in watched.rows if name == "sched/beta"]
    assert written == seen
    begun = [min(1.0, (k + 1) / 4) for k in range(7 - alone)]
    assert written == [0.0] * alone + begun


def test_every_look_is_told_in_one_line():
    lines: list[str] = []
    told = LatentDiary(X[16:], 3, CHANNELS, 6.0, tell=lines.append)
    fit(told, None)
    assert [line.split(":")[0] for line in lines] == [f"step {k} of 6" for k in (2, 4, 6)]
    last = {name: value for step, name, value in told.rows if step == 6}
    assert f"error {last['diag/recon_mu_mse']:.4f}, {last['diag/recon_z0_mse']:.4f}" in lines[-1]


def test_accumulated_parts_have_noise_of_their_own():
    """Two parts of four rows train with other draws than one batch of eight, but as many steps."""
    whole, halves = diary(), diary()
    fit(whole, None)
    fit(halves, None, parts=2)
    steps = [{step for step, _, _ in d.rows} for d in (whole, halves)]
    assert steps[0] == steps[1] == {2, 4, 6}
    last = [{name: value for _, name, value in d.rows} for d in (whole, halves)]
    key = "train_epoch/log_likelihood"
    assert last[0][key] != last[1][key]
    assert last[0][key] == pytest.approx(last[1][key], rel=0.1)


def test_each_row_has_one_of_another_subject():
    assert of_others(range(4)) == [1, 2, 3, 0]
    groups = ["a", "b", "a", "c", "b", "b"]
    others = of_others(groups)
    assert sorted(others) == list(range(6))
    assert all(groups[row] != groups[other] for row, other in enumerate(others))
