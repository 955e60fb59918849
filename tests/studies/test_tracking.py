"""Histories as offline runs of Weights & Biases: no network, every number, once."""

import importlib.util

import pytest
import wandb

from latens.errors import ConfigError
from latens.store import HISTORY, RunFolder, read_csv
from latens.studies.volumes.study import VolumeStudy
from latens.studies.volumes.tracking import write_offline_run
from stand_ins.tiny_scans import trained_scans


def test_a_training_becomes_an_offline_run(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "online")  # of the user's shell: it must not matter
    logged: list[tuple[int, dict[str, float]]] = []
    log = wandb.Run.log

    def noted(self, data, step=None):
        logged.append((step, data))
        log(self, data, step=step)

    monkeypatch.setattr(wandb.Run, "log", noted)
    run = RunFolder.open(trained_scans(tmp_path, wandb=True))
    (hash,) = run.finished_fits()
    (offline,) = (run.path / "wandb").glob(f"offline-run-*-{hash}")
    history = read_csv(run.fit(hash) / "history.csv", HISTORY)
    found = {(step, name): value for step, row in logged for name, value in row.items()}
    rows = zip(history["step"], history["quantity"], history["value"], strict=True)
    assert found == {(step, name): value for step, name, value in rows}
    assert {"diag/kl_raw", "sched/beta", "val_epoch/loss"} <= {name for _, name in found}
    content = (offline / f"run-{hash}.wandb").read_bytes()
    assert repr(found[4, "val_epoch/loss"]).encode() in content
    assert b"exp3 seed 0" in content
    assert write_offline_run(run, hash, "again", {}) == offline
    assert len(list((run.path / "wandb").glob("offline-run-*"))) == 1


def test_without_the_package(monkeypatch: pytest.MonkeyPatch):
    from latens.data import PhantomSubjects

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb.*installed.*latens\[wandb\]"):
        VolumeStudy(PhantomSubjects(), wandb=True)
    VolumeStudy(PhantomSubjects())
