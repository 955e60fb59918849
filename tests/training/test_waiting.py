"""Parameters that wait, and gradients that are clipped, in float32 and in bfloat16."""

import pytest
import torch
from lightning.pytorch import Callback

from latens.distributions import NoiseStream
from latens.models.partitioned import Partition, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.nets import Volumetric
from latens.objectives import reduce_terms
from latens.training import Training, fit_model, module
from latens.training.hardware import Hardware
from latens.training.volumes import VolumeData

SHAPE = (1, 8, 8, 8)
X = NoiseStream(0, 0).normal((24, *SHAPE))
MASK = (X[:, 0] > 0.5).float()
Y = torch.cat([MASK.flatten(1).sum(1, keepdim=True), X.flatten(1)[:, :1], MASK.flatten(1)], 1)
SETTINGS = Training(max_steps=8, batch_size=8, warmup_steps=2, kl_warmup_steps=2, validate_every=2)


class Watcher(Callback):
    """Notes learning rates, norms of gradients and weights at every step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.norms: list[float] = []
        self.decoders: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        groups = trainer.optimizers[0].param_groups
        self.rates.append([group["lr"] for group in groups])
        weight = next(pl_module.model.decoder_net.parameters())
        self.decoders.append(weight.detach().clone())

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        known = [p.grad for p in pl_module.model.parameters() if p.grad is not None]
        if known:
            self.norms.append(float(torch.stack([g.norm() for g in known]).norm()))


def fit(model, y: torch.Tensor, watcher: Watcher, precision="float32", **changed) -> None:
    settings = Training(**{**vars(SETTINGS), **changed})
    fit_model(
        model,
        (X[:16], y[:16]),
        (X[16:], y[16:]),
        settings,
        0,
        make_data=VolumeData,
        hardware=Hardware(precision=precision),
        watchers=[watcher],
    )


def partitioned() -> PartitionedVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PartitionedVAE(
            SHAPE,
            {"volume": 1, "place": 1},
            dim=6,
            partition=Partition(0.1, 0.0, mask=1.0, alone=4),
            architecture=Volumetric(4, features=8, coarse=4),
        )


def test_what_waits_begins_as_if_training_did():
    model, watcher = partitioned(), Watcher()
    fit(model, Y, watcher)
    first, rest = (list(rates) for rates in zip(*watcher.rates, strict=True))
    peak = SETTINGS.learning_rate
    assert first[:2] == pytest.approx([peak / 3, 2 * peak / 3])
    assert rest[:4] == [0.0] * 4
    assert rest[4:6] == pytest.approx([peak / 3, 2 * peak / 3])
    assert rest[6:] == first[6:]
    starts = watcher.decoders
    assert all(torch.equal(weight, starts[0]) for weight in starts[1:5])
    moved = (starts[5] - starts[4]).abs()
    # The first step of Adam is one learning rate long wherever there is a gradient.
    assert moved.max().item() == pytest.approx(rest[4], rel=0.01)


def test_the_kl_warms_up_when_the_decoder_begins(monkeypatch):
    weights = []

    def noted(terms, event_size):
        if "kl" in terms.weights:
            weights.append(terms.weights["kl"])
        return reduce_terms(terms, event_size)

    monkeypatch.setattr(module, "reduce_terms", noted)
    fit(partitioned(), Y, Watcher(), kl_warmup_steps=3)
    assert weights == pytest.approx([1 / 3, 2 / 3, 1, 1])  # nothing is decoded for four steps


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gradients_are_clipped(precision):
    bounds = {}
    for clip in (1e-3, 1e3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = VolumeVAE(SHAPE, dim=4, architecture=Volumetric(4, features=8, coarse=4))
        watcher = Watcher()
        fit(model, X.flatten(1)[:, :0], watcher, precision, gradient_clip=clip)
        assert len(watcher.norms) > 0
        bounds[clip] = max(watcher.norms)
        assert all(p.isfinite().all() for p in model.parameters())
    assert bounds[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert bounds[1e3] > 1e-2
