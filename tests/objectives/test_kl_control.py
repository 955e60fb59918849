"""Free bits, capacity and cycles against their definitions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError, UnsupportedError
from latens.objectives.kl_control import KLControl, Ramp, kl_per_latent

LOC = NoiseStream(1, 0).normal((5, 4), torch.float64)
SCALE = (0.4 * NoiseStream(1, 1).normal((5, 4), torch.float64)).exp()
KL = kl_per_latent(diagonal_normal(LOC, SCALE, 1))


def test_kl_per_latent_is_that_of_torch():
    zeros, ones = torch.zeros_like(LOC), torch.ones_like(LOC)
    torch.testing.assert_close(KL, kl_divergence(Normal(LOC, SCALE), Normal(zeros, ones)))
    with pytest.raises(UnsupportedError, match="factorises"):
        kl_per_latent(torch.distributions.MultivariateNormal(zeros, torch.eye(4).double()))


def test_default_is_the_evidence_bound():
    control = KLControl()
    torch.testing.assert_close(control.controlled(KL, 0), KL.sum(1))
    assert control.beta(0) == 1
    assert control.floor(64) == 0
    assert control.steps == 0


def test_free_bits_of_the_batch_and_of_every_sample():
    free = 0.3
    batch = KLControl(free_bits=free).controlled(KL, 7)
    expected = sum(max(free, float(KL[:, k].mean())) for k in range(4))
    torch.testing.assert_close(batch, torch.full((5,), expected, dtype=torch.float64))
    sample = KLControl(free_bits=free, over="sample").controlled(KL, 7)
    rows = [sum(max(free, float(v)) for v in row) for row in KL]
    torch.testing.assert_close(sample, torch.tensor(rows, dtype=torch.float64))
    assert float(sample.mean()) >= float(batch.mean()) > float(KL.sum(1).mean())
    assert KLControl(free_bits=0.1).floor(128) == pytest.approx(12.8)


def test_latents_below_the_floor_feel_no_pull():
    loc = torch.tensor([[0.1, 2.0], [-0.1, 1.0]], dtype=torch.float64, requires_grad=True)
    per_latent = kl_per_latent(diagonal_normal(loc, torch.ones_like(loc), 1))
    KLControl(free_bits=0.1).controlled(per_latent, 0).mean().backward()
    assert torch.equal(loc.grad[:, 0], torch.zeros(2).double())
    torch.testing.assert_close(loc.grad[:, 1], loc.detach()[:, 1] / 2)


def test_capacity_rises_and_pulls_from_both_sides():
    control = KLControl(capacity=20.0, capacity_steps=10, capacity_weight=3.0)
    assert [control.target(s) for s in (0, 4, 9, 99)] == pytest.approx([2, 10, 20, 20])
    mean = KL.sum(1).mean()
    for step in (0, 9):
        expected = 3 * (mean - control.target(step)).abs()
        torch.testing.assert_close(control.controlled(KL, step), expected.expand(5))
    assert control.steps == 10


def linear_vae(control: KLControl, steps: int = 600) -> float:
    """KL at the end, nats, of a linear VAE whose data have eight directions of variance 100."""
    noise = NoiseStream(2)
    x = 10 * noise.normal((64, 8), torch.float64)
    free = {
        "encoder": 0.1 * torch.eye(8).double(),
        "decoder": torch.eye(8).double(),
        "log_scale": torch.zeros(8).double(),
    }
    leaves = [value.requires_grad_() for value in free.values()]
    optimiser = torch.optim.Adam(leaves, lr=0.02)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        q = diagonal_normal(x @ free["encoder"], free["log_scale"].exp().expand(64, 8), 1)
        z = q.mean + q.stddev * noise.normal((64, 8), torch.float64)
        error = (x - z @ free["decoder"]).square().sum(1) / 2  # a decoder of variance 1
        loss = (error + control.controlled(kl_per_latent(q), step)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return float(kl_per_latent(q).sum(1).mean().detach())


def test_capacity_holds_the_kl_with_its_default_weight():
    """Half of the data's information, ½ Σ log 100 = 18 nats, is bought at more than a nat each."""
    assert linear_vae(KLControl()) > 16
    assert linear_vae(KLControl(capacity=9.0, capacity_steps=200)) == pytest.approx(9, rel=0.03)
    assert linear_vae(KLControl(capacity=30.0, capacity_steps=200)) == pytest.approx(30, rel=0.03)


def test_cycles():
    control = KLControl(cycles=2, cycle_steps=10)
    betas = [control.beta(s) for s in range(25)]
    assert betas[:10] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])
    assert betas[10:20] == betas[:10]
    assert betas[20:] == [1.0] * 5


def test_ramp():
    ramp = Ramp(start=20, length=40)
    assert [ramp(s) for s in (0, 19, 20, 39, 59, 99)] == pytest.approx([0, 0, 1 / 40, 0.5, 1, 1])
    assert Ramp()(0) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"free_bits": -0.1},
        {"cycles": 4},
        {"cycle_steps": 40},
        {"cycles": 1, "cycle_steps": 5, "rising": 0.0},
        {"capacity": -1.0},
        {"capacity": 5.0, "capacity_weight": 1.0},
        {"capacity": 5.0, "free_bits": 0.1},
        {"capacity": 5.0, "cycles": 1, "cycle_steps": 5},
    ],
)
def test_contradictions(settings):
    with pytest.raises(ConfigError):
        KLControl(**settings)
    with pytest.raises(ConfigError):
        Ramp(start=-1)
