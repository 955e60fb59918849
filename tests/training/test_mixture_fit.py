"""Fits of a mixture VAE: what they learn, and that they resume bit for bit."""

from functools import partial

import pytest
import torch

from latens.distributions import NoiseStream
from latens.evaluation.mixture import read
from latens.models.mixture import MixtureVAE
from latens.models.mixture_settings import Prior, Terms
from latens.nets.components import Decoder
from latens.training import Training, fit_model
from latens.training.labelled import LabelledData
from latens.training.module import StageModule

SHAPE, CLASSES = (1, 8, 8), 3
SETTINGS = Training(
    max_steps=18,
    batch_size=16,
    learning_rate=5e-3,
    warmup_steps=2,
    kl_warmup_steps=4,
    validate_every=4,
    patience=9,
)


def bars(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a horizontal, a vertical or a diagonal bar, with noise."""
    labels = torch.arange(n) % CLASSES
    clean = torch.zeros(CLASSES, 8, 8)
    clean[0, 3:5, 1:7], clean[1, 1:7, 3:5] = 1, 1
    clean[2] = torch.eye(8)
    noise = 0.1 * NoiseStream(seed).normal((n, 8, 8))
    return (0.1 + 0.7 * clean[labels] + noise).clamp(0, 1)[:, None], labels


def fit(settings: Training = SETTINGS, resume=None, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MixtureVAE(
            SHAPE,
            CLASSES,
            components=4,
            dim=2,
            decoder=Decoder(width=16),
            width=4,
            features=16,
            **{"prior": Prior(unlocked=2, unlock_every=5), **changes},
        )
    x, labels = bars(90, 0)
    y = torch.where(torch.arange(90) < 9, labels, -1)
    validation = (bars(30, 1)[0], torch.full((30,), -1))
    data = partial(LabelledData, rows=torch.arange(9), labelled=6)
    result = fit_model(model, (x, y), validation, settings, 5, resume=resume, make_data=data)
    return model, result


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", [2, 8, 13])
def test_a_killed_fit_goes_on_with_its_counts(tmp_path, monkeypatch, step):
    original = StageModule.training_step

    def training_step(self, batch, index):
        if self.global_step == step:
            raise Killed
        return original(self, batch, index)

    monkeypatch.setattr(StageModule, "training_step", training_step)
    with pytest.raises(Killed):
        fit(resume=tmp_path)
    monkeypatch.undo()
    (resumed, left), (whole, right) = fit(resume=tmp_path), fit()
    assert left.history == right.history
    state = whole.state_dict()
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_nine_labels_are_enough_for_bars():
    settings = Training(
        max_steps=200,
        batch_size=32,
        learning_rate=5e-3,
        warmup_steps=5,
        kl_warmup_steps=20,
        validate_every=50,
    )
    model, result = fit(settings, prior=Prior())
    x, labels = bars(60, 2)
    with torch.no_grad():
        log_component = model.log_component(x)
        found = model.log_class(log_component).argmax(1)
    assert (found == labels).float().mean() > 0.95
    quantities = {quantity for _, _, quantity, _ in result.history}
    assert {"val/log_likelihood", "val/kl", "train/invariance"} <= quantities


def test_the_scale_follows_the_noise_of_an_image():
    """Half of the images are noisier: σ per image tells them apart, and its twin cannot."""
    settings = Training(
        max_steps=300,
        batch_size=32,
        learning_rate=5e-3,
        warmup_steps=5,
        kl_warmup_steps=20,
        validate_every=100,
    )
    terms = Terms(supervised=0, invariance=0, pseudo_label=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MixtureVAE(
            SHAPE,
            2,
            components=2,
            dim=2,
            decoder=Decoder(width=16),
            width=4,
            features=16,
            terms=terms,
        )
    labels = torch.arange(200) % 2
    x = 0.5 + torch.where(labels == 0, 0.06, 0.2)[:, None, None] * NoiseStream(0).normal(
        (200, 8, 8)
    )
    x = x.clamp(0, 1)[:, None]
    pair = (x, torch.full((200,), -1))
    fit_model(
        model, pair, pair, settings, 0, make_data=partial(LabelledData, rows=torch.arange(0))
    )
    scale = torch.from_numpy(read(model, x).scale)
    assert scale[labels == 0].max() < scale[labels == 1].min()
    assert scale[labels == 0].mean() == pytest.approx(0.06, rel=0.2)
    assert scale[labels == 1].mean() == pytest.approx(0.2, rel=0.2)
