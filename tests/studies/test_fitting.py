"""What becomes of a fit: every end of a training has its outcome, or stops the sweep."""

import numpy as np
import pytest
import torch
from torch import nn

from latens.errors import DataError, NumericalError, SolverError
from latens.store import Outcome, RunFolder, Status, read_json
from latens.studies.fitting import publish_fit, settled
from latens.studies.load import WEIGHTS, load_weights
from latens.training import FitResult

HASH = "0123456789abcdef"


class Shared(nn.Module):
    """Two names for one layer, and a weight that is not contiguous."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        values = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3)))
        self.first = self.second = nn.Linear(3, 2, bias=False)
        self.first.weight = nn.Parameter(values)
        self.turned = nn.Parameter(2 * values.T)


@pytest.fixture
def run(tmp_path):
    description = {"study": "s", "name": "n", "config": {}, "data": {}, "result_version": 1}
    return RunFolder.create(tmp_path / "run", description)


def publish(run: RunFolder, train) -> Outcome:
    found = publish_fit(run, HASH, train, lambda: {"name": "shared"})
    assert found == Outcome.read(run.fit(HASH))
    return found


def trained(resume):
    """A training that leaves a checkpoint."""
    assert torch.get_num_threads() == 1
    resume.mkdir(parents=True)
    (resume / "one.ckpt").write_bytes(b"checkpoint")
    outcome = Outcome(Status.STOPPED, "still improving", statistics={"kl": 1.5})
    return Shared(), FitResult(outcome, [("elbo", 7, "loss", 0.25)])


def test_a_training_that_ends(run):
    assert publish(run, trained).statistics == {"kl": 1.5}
    assert read_json(run.fit(HASH) / "fit.json") == {"name": "shared"}
    assert "elbo,7,loss,0.25" in (run.fit(HASH) / "history.csv").read_text()
    assert not run.resume(HASH).exists()
    loaded, own = load_weights(Shared(seed=1).train(), run.fit(HASH)), Shared()
    assert not loaded.training
    for name, value in own.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def stumble(error):
    """A training that ends with an error, after a checkpoint."""

    def train(resume):
        trained(resume)
        raise error

    return train


ENDS = {
    "not finite": (
        NumericalError("loss", "finite", "nan", "Lower it.", 4, {"kl": 2.0}),
        (Status.NAN, "Lower it.", 4, {"kl": 2.0}),
    ),
    "ours": (DataError("x", "rule", "value", "Remedy."), (Status.FAILED, "Remedy.", None, {})),
    "bug": (ValueError("what\n  now"), (Status.FAILED, "ValueError: what now (test_", None, {})),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_error_becomes_the_outcome(run, name):
    error, (status, words, step, statistics) = ENDS[name]
    found = publish(run, stumble(error))
    assert (found.status, found.step, found.statistics) == (status, step, statistics)
    assert words in found.message
    assert (run.resume(HASH) / "one.ckpt").exists()  # to go on from, or to find out why
    assert not (run.fit(HASH) / WEIGHTS).exists()
    with pytest.raises(SolverError, match="a fit that left weights"):
        load_weights(Shared(), run.fit(HASH))


def test_the_history_before_a_loss_that_is_not_finite_is_kept(run):
    error = NumericalError("loss", "finite", "nan", "Lower it.", 4)
    error.history = [("elbo", 2, "val/loss", 0.75)]
    publish(run, stumble(error))
    assert "elbo,2,val/loss,0.75" in (run.fit(HASH) / "history.csv").read_text()


def test_what_is_settled_is_not_tried_again(run):
    """A loss that is not finite belongs to the settings; a lack of memory does not."""
    assert not settled(run, HASH)

    def lacking(resume):
        raise torch.OutOfMemoryError("no memory")

    publish(run, lacking)
    assert not settled(run, HASH)
    assert not run.has_fit(HASH)
    publish(run, stumble(ENDS["not finite"][0]))
    assert settled(run, HASH)
    assert Outcome.read(run.fit(HASH)).status == Status.NAN


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left"), DataError), (SystemExit(143), KeyboardInterrupt)],
)
def test_what_is_not_the_own_fault_of_a_fit_stops_the_sweep(run, error, raised):
    with pytest.raises(raised):
        publish(run, stumble(error))
    assert not run.has_fit(HASH)
    assert (run.resume(HASH) / "one.ckpt").exists()


@pytest.mark.parametrize("damage", [None, b"", b"\x10\0\0\0\0\0\0\0{not json"])
def test_weights_that_cannot_be_read(run, damage):
    publish(run, trained)
    file = run.fit(HASH) / WEIGHTS
    file.unlink()
    if damage is not None:
        file.write_bytes(damage)
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        load_weights(Shared(), run.fit(HASH))


def test_weights_of_another_model(run):
    publish(run, trained)
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        load_weights(nn.Linear(3, 2), run.fit(HASH))
