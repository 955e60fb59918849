"""A resumed fit is the uninterrupted one, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latens.errors import DataError
from latens.training import callbacks
from latens.training.module import StageModule
from models.model_cases import make_model
from training.ddp_case import fit
from training.resume_case import SETTINGS, run


class Killed(Exception):
    """Stands for the end of the process."""


def assert_same(first, second):
    (a, left), (b, right) = first, second
    assert left.history == right.history
    assert left.outcome == right.outcome
    state = b.state_dict()
    for name, value in a.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.fixture
def kill_at(monkeypatch):
    """Raise in the middle of a training step."""
    original = StageModule.training_step

    def arm(stage: str, step: int) -> None:
        def training_step(self, batch, index):
            if (self.stage, self.global_step) == (stage, step):
                raise Killed
            return original(self, batch, index)

        monkeypatch.setattr(StageModule, "training_step", training_step)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("name", "stage", "step"),
    [
        ("cvae", "elbo", 2),  # before the first checkpoint
        ("cvae", "elbo", 6),
        ("cvae", "elbo", 8),  # the first step after one
        ("cvae-vector", "elbo", 17),
        ("latent", "representation", 10),
        ("latent", "amortisation", 0),
        ("latent", "amortisation", 9),
        ("latent-spline", "amortisation", 9),
        ("unet-dropout", "likelihood", 6),
    ],
)
def test_killed_in_a_step(tmp_path, kill_at, monkeypatch, name, stage, step):
    kill_at(stage, step)
    with pytest.raises(Killed):
        run(name, tmp_path)
    monkeypatch.undo()
    assert_same(run(name, tmp_path), run(name))


@pytest.mark.parametrize("step", [1, 2])
def test_a_projection_that_moves(tmp_path, kill_at, monkeypatch, step):
    kill_at("elbo", step)
    with pytest.raises(Killed):
        fit(1, tmp_path)
    monkeypatch.undo()
    again, whole = fit(1, tmp_path), fit(1)
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


def test_killed_twice(tmp_path, kill_at, monkeypatch):
    for step in (6, 13):
        kill_at("elbo", step)
        with pytest.raises(Killed):
            run("cvae", tmp_path)
        monkeypatch.undo()
    assert_same(run("cvae", tmp_path), run("cvae"))


def test_killed_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    whole, calls = os.replace, []

    def replace_once(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise Killed
        whole(source, target)

    monkeypatch.setattr(callbacks.os, "replace", replace_once)
    with pytest.raises(Killed):
        run("cvae", tmp_path)
    monkeypatch.undo()
    assert_same(run("cvae", tmp_path), run("cvae"))


@pytest.mark.parametrize("name", ["cvae", "latent"])
def test_a_finished_fit_does_not_train_again(tmp_path, monkeypatch, name):
    first = run(name, tmp_path)

    def refuse(self, batch, index):
        raise AssertionError("trained again")

    monkeypatch.setattr(StageModule, "training_step", refuse)
    assert_same(run(name, tmp_path), first)


def test_a_stage_that_stopped_early_stays_stopped(tmp_path, kill_at, monkeypatch):
    settings = replace(SETTINGS, max_steps=100, learning_rate=0.3, validate_every=2, patience=2)
    alone = run("latent", settings=settings)
    last = max(step for stage, step, *_ in alone[1].history if stage == "representation")
    assert last < 100
    kill_at("amortisation", 3)
    with pytest.raises(Killed):
        run("latent", tmp_path, settings)
    monkeypatch.undo()
    assert_same(run("latent", tmp_path, settings), alone)


def test_killed_for_good(tmp_path):
    # SIGKILL as soon as a checkpoint of the second stage lies there
    tests = Path(__file__).resolve().parents[1]
    places = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "training.resume_case", "latent", str(tmp_path)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "amortisation.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    assert_same(run("latent", tmp_path), run("latent"))


DAMAGE = {
    "empty": lambda whole: b"",
    "torn": lambda whole: whole[: len(whole) // 2],
    "garbage": lambda whole: b"not a checkpoint",
    "flipped": lambda whole: whole[:2000] + bytes(200) + whole[2200:],
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_a_damaged_checkpoint_costs_time_alone(tmp_path, kill_at, monkeypatch, kind):
    kill_at("elbo", 9)
    with pytest.raises(Killed):
        run("cvae", tmp_path)
    monkeypatch.undo()
    path = tmp_path / "elbo.ckpt"
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="damaged"):
        resumed = run("cvae", tmp_path)
    assert_same(resumed, run("cvae"))


def test_a_checkpoint_without_its_parts(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "elbo.ckpt")
    with pytest.warns(RuntimeWarning, match="callbacks"):
        run("cvae", tmp_path)


class Payload:
    """A pickle that would run code."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "elbo.ckpt")
    with pytest.warns(RuntimeWarning, match="damaged"):
        run("cvae", tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_another_model(tmp_path):
    run("cvae", tmp_path)
    with pytest.raises(DataError, match="`resume`") as caught:
        run("cvae-vector", tmp_path)
    assert "\n" not in str(caught.value)
    assert set(make_model("cvae").state_dict()) != set(make_model("cvae-vector").state_dict())
