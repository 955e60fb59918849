"""Batches, budgets, early stopping, failures and the verdict of a fit."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from latens.errors import ConfigError, DataError, NumericalError
from latens.models import CVAE, UNet
from latens.store import Status
from latens.training import Training, fit_model
from latens.training.batches import Blocks, StepBatches, batch_indices
from latens.training.callbacks import BestWeights
from latens.training.fit import _improving
from latens.training.gate import collapse_diagnosis
from models.model_cases import MODELS, REGRESSORS, make_model, make_pairs, make_problem

SHORT = Training(
    max_steps=8, batch_size=8, warmup_steps=2, kl_warmup_steps=4, validate_every=4, patience=9
)
TRAIN, VALIDATION = make_pairs(20), make_pairs(8, seed=1)


def fit(name: str, settings: Training = SHORT, **paths):
    model = make_model(name)
    result = fit_model(model, TRAIN, VALIDATION, settings, 3, make_problem(), **paths)
    return model, result


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 7), (5, 12), (32, 8)])
def test_batches_are_consecutive_places_of_shuffled_passes(n, batch_size):
    batches = [batch_indices(n, batch_size, 3, step) for step in range(2 * n)]
    assert all(len(batch) == batch_size for batch in batches)
    sequence = torch.cat(batches).tolist()
    passes = [sequence[i : i + n] for i in range(0, len(sequence), n)]
    assert all(sorted(p) == list(range(n)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_batches_are_a_function_of_seed_and_step():
    alone = batch_indices(50, 8, 3, 17)
    torch.rand(1)
    assert torch.equal(alone, batch_indices(50, 8, 3, 17))
    assert not torch.equal(alone, batch_indices(50, 8, 4, 17))
    x = torch.arange(50.0)
    late = list(StepBatches(x, -x, 8, 3, 17, 20))
    assert len(late) == 3
    assert torch.equal(late[0][0], x[alone])
    assert torch.equal(late[0][1], -x[alone])


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 256)])
def test_blocks_hold_everything_once(n, size):
    x = torch.arange(float(n))
    blocks = Blocks(x, 2 * x, size)
    parts = list(blocks)
    assert len(parts) == len(blocks) == math.ceil(n / size)
    assert torch.equal(torch.cat([a for a, _ in parts]), x)
    assert torch.equal(torch.cat([b for _, b in parts]), 2 * x)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_learns(name):
    settings = replace(SHORT, max_steps=120, validate_every=30, learning_rate=5e-3)
    before = make_model(name).state_dict()
    model, result = fit(name, settings)
    assert not model.training
    for stage in model.stages:
        losses = [v for s, _, q, v in result.history if (s, q) == (stage, "val/loss")]
        assert len(losses) == 4
        assert losses[-1] < losses[0]
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) > 0.5 * len(before)
    assert torch.get_num_threads() >= 1
    assert set(result.outcome.statistics) == (
        set()
        if name in REGRESSORS
        else {"active_units", "units", "kl_raw", "mean_variance", "ablation_ratio"}
    )


def test_history_and_the_last_short_look():
    _, result = fit("cvae", replace(SHORT, max_steps=10))
    steps = [step for _, step, quantity, _ in result.history if quantity == "val/loss"]
    assert steps == [4, 8, 10]
    quantities = Counter(quantity for _, _, quantity, _ in result.history)
    names = ("train/loss", "val/loss", "val/log_likelihood", "val/kl")
    assert quantities == dict.fromkeys(names, 3)
    for step in steps:  # β = 1 in validation, whatever the warm-up
        row = {q: v for _, s, q, v in result.history if s == step}
        elbo = (row["val/log_likelihood"] - row["val/kl"]) / 144
        assert row["val/loss"] == pytest.approx(-elbo, rel=1e-5)


def test_a_fit_is_a_function_of_its_seeds():
    (a, first), (b, second) = fit("cvae"), fit("cvae")
    assert first.history == second.history
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name])
    c = make_model("cvae")
    fit_model(c, TRAIN, VALIDATION, SHORT, 4)
    assert not torch.equal(
        c.state_dict()["decoder_net.trunk.last.weight"], a.decoder_net.trunk.last.weight
    )


def overfit(**changes):
    """A fit of two images whose validation loss turns soon."""
    settings = Training(
        max_steps=200,
        batch_size=2,
        learning_rate=2e-2,
        warmup_steps=0,
        kl_warmup_steps=0,
        validate_every=5,
        patience=3,
    )
    model = make_model("unet")
    train = tuple(t[:2] for t in TRAIN)
    return model, fit_model(model, train, VALIDATION, replace(settings, **changes), 0)


def test_a_fit_ends_with_the_error_of_the_validation_share_as_scale():
    model, _ = overfit()
    x, y = VALIDATION
    with torch.no_grad():
        loc = model.reconstruct(y)
        found = model.around(loc).stddev.flatten()[0]
    assert float(found) == pytest.approx(float((x - loc).square().mean().sqrt()), rel=1e-5)


def test_early_stopping_restores_the_best_weights(monkeypatch):
    monkeypatch.setattr(UNet, "fit_scale", lambda *_: None)
    model, result = overfit()
    losses = {s: v for _, s, q, v in result.history if q == "val/loss"}
    best = min(losses, key=losses.__getitem__)
    assert list(losses) == list(range(5, best + 16, 5))  # three looks after the best one
    assert best + 15 < 200
    assert result.outcome.status is Status.CONVERGED
    terms = model.terms("likelihood", *VALIDATION, None, None)
    loss = -float(terms.log_likelihood.mean().detach()) / 144
    assert loss == pytest.approx(losses[best], rel=1e-5)
    assert loss < losses[best + 15]


@pytest.mark.parametrize("what", ["schedule", "warmup"])
def test_no_stage_ends_before_its_schedules_do(monkeypatch, what):
    """Two images are learned by heart within 40 steps; looks without a gain end the fit later."""
    _, free = overfit()
    if what == "schedule":
        monkeypatch.setattr(UNet, "schedule_steps", property(lambda self: 120))
        _, held = overfit()
    else:
        _, held = overfit(warmup_steps=120, learning_rate=0.05)
        _, free = overfit(warmup_steps=20, learning_rate=0.05)
    ends = [max(step for _, step, *_ in result.history) for result in (free, held)]
    losses = {s: v for _, s, q, v in held.history if q == "val/loss"}
    best = min(losses, key=losses.__getitem__)
    assert ends[0] < 120
    if what == "schedule":
        assert ends[1] == max(best, 120) + 15  # three looks that count
    else:
        assert ends[1] == max(best + 15, 120)


@pytest.mark.parametrize(
    ("losses", "since", "improving"),
    [
        ([5.0, 4.0], 0, True),  # too few looks to know
        ([5.0, 4.0, 3.0, 2.0, 1.0], 0, True),
        ([5.0, 1.0, 1.0 - 5e-4, 1.0 - 6e-4, 1.0 - 7e-4], 0, False),  # gains below the limit
        ([5.0, 1.0, 2.0, 2.0, 2.0], 3, False),  # patience ran out
        ([5.0, 4.0, 1.0, 2.0, 2.0], 2, True),
    ],
)
def test_who_was_still_improving(losses, since, improving):
    best = BestWeights(patience=3)
    best.history = [(i, "val/loss", value) for i, value in enumerate(losses)]
    best.best_loss, best.looks_since_best = min(losses), since
    assert _improving(best, 3) is improving


def test_a_budget_that_ends_too_soon_says_so():
    _, result = fit("latent", replace(SHORT, max_steps=12, learning_rate=5e-3))
    if result.outcome.status is not Status.COLLAPSED:
        assert result.outcome.status is Status.STOPPED
    _, result = fit("unet", SHORT)
    assert result.outcome.status is Status.STOPPED
    assert "likelihood still improved" in result.outcome.message


class IgnoresLatents(CVAE):
    """A decoder that has collapsed."""

    def decode(self, z, y):
        return super().decode(torch.zeros_like(z), y)


def test_the_gate_flags_a_decoder_that_ignores_its_latents():
    base = make_model("cvae-vector")
    assert isinstance(base, CVAE)
    base.__class__ = IgnoresLatents
    result = fit_model(base, TRAIN, VALIDATION, replace(SHORT, max_steps=40), 0)
    assert result.outcome.status is Status.COLLAPSED
    assert not result.outcome.usable
    assert "z = 0" in result.outcome.message
    assert result.outcome.statistics["ablation_ratio"] == pytest.approx(1.0)


def test_the_gate_lets_a_working_model_pass():
    settings = Training(max_steps=150, learning_rate=2e-2, validate_every=50, kl_warmup_steps=0)
    model = make_model("latent-linear")
    result = fit_model(model, make_pairs(200), make_pairs(50, seed=1), settings, 0, make_problem())
    assert result.outcome.usable
    gate = collapse_diagnosis(model, *make_pairs(50, seed=2))
    assert gate.verdict in ("healthy", "weak")
    assert gate.active_units == 3  # the data have three degrees of freedom
    assert gate.kl_raw > 5
    assert gate.ablation_ratio > 5


class PoisonAt(CVAE):
    """Terms that are NaN from a step on."""

    calls, at = 0, 0

    def terms(self, stage, x, y, noise, problem):
        terms = super().terms(stage, x, y, noise, problem)
        if torch.is_grad_enabled():
            self.calls += 1
            if self.calls == self.at + 1:
                return replace(terms, log_likelihood=terms.log_likelihood * math.nan)
        return terms


@pytest.mark.parametrize("step", [0, 2, 6])
def test_nan_ends_the_fit_with_its_step_and_terms(tmp_path, step):
    model = make_model("cvae")
    model.__class__, model.at = PoisonAt, step
    with pytest.raises(NumericalError, match=f"step {step} ") as caught:
        fit_model(model, TRAIN, VALIDATION, SHORT, 0, resume=tmp_path)
    assert caught.value.step == step
    assert math.isnan(caught.value.terms["log_likelihood"])
    assert math.isfinite(caught.value.terms["kl"])
    files = [path.name for path in tmp_path.iterdir()]
    assert files == (["elbo.ckpt"] if step >= 4 else [])
    for path in tmp_path.iterdir():
        saved = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in saved.values())


@pytest.mark.parametrize("training", [True, False])
def test_a_matrix_that_cannot_be_decomposed_is_an_explosion(monkeypatch, training):
    model = make_model("cvae")
    terms = model.terms

    def failing(*arguments):
        if torch.is_grad_enabled() == training:
            raise torch.linalg.LinAlgError("eigh: failed to converge")
        return terms(*arguments)

    monkeypatch.setattr(model, "terms", failing)
    with pytest.raises(NumericalError, match="decomposed") as caught:
        fit_model(model, TRAIN, VALIDATION, SHORT, 0)
    assert caught.value.step == (0 if training else 4)


def test_a_rate_that_explodes():
    settings = replace(SHORT, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(NumericalError, match="learning rate") as caught:
        fit("unet", settings)
    assert caught.value.step is not None
    assert caught.value.step <= 4


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_training_data_that_are_not_finite(which, bad):
    pair = tuple(t.clone() for t in TRAIN)
    pair[which][5, 0, 3, 3] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        fit_model(make_model("cvae"), pair, VALIDATION, SHORT, 0)


@pytest.mark.parametrize("which", [0, 1])
def test_validation_data_that_are_not_finite(which):
    pair = tuple(t.clone() for t in VALIDATION)
    pair[which][5, 0, 3, 3] = math.nan
    with pytest.raises(NumericalError) as caught:
        fit_model(make_model("cvae"), TRAIN, pair, SHORT, 0)
    assert caught.value.step == 4


def test_a_fit_leaves_the_threads_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []

        class Spy(CVAE):
            def terms(self, stage, x, y, noise, problem):
                seen.append(torch.get_num_threads())
                return super().terms(stage, x, y, noise, problem)

        model = make_model("cvae")
        model.__class__ = Spy
        fit_model(model, TRAIN, VALIDATION, SHORT, 0)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_kl_weight_rises_to_one(monkeypatch):
    from latens.training import module

    seen = []

    def spy(terms, size):
        seen.append((torch.is_grad_enabled(), terms.weights.get("kl")))
        return original(terms, size)

    original = module.reduce_terms
    monkeypatch.setattr(module, "reduce_terms", spy)
    fit("cvae")
    assert [beta for training, beta in seen if training] == [0.25, 0.5, 0.75, *[1.0] * 5]
    assert {beta for training, beta in seen if not training} == {None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_steps": 0},
        {"batch_size": 0},
        {"patience": 0},
        {"learning_rate": 0.0},
        {"gradient_clip": math.nan},
        {"warmup_steps": 2000},
        {"kl_warmup_steps": 2000},
        {"kl_warmup_steps": -1},
        {"validate_every": 1001},
    ],
)
def test_settings_that_contradict(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))) as caught:
        Training(**wrong)
    assert "\n" not in str(caught.value)
