"""Batches of labelled and unlabelled images."""

import pytest
import torch

from latens.errors import ConfigError
from latens.training import Training
from latens.training.labelled import LabelledBatches, LabelledData

N = 30
X = torch.arange(float(N))
Y = torch.full((N,), -1)
Y[[3, 7, 19]] = torch.tensor([0, 1, 2])
Y[[5, 6]] = 1  # believed, not labelled
ROWS = torch.tensor([3, 7, 19])


def test_labelled_rows_come_first_with_their_classes():
    for x, y in LabelledBatches((X, Y), ROWS, 8, 12, seed=0, start=0, stop=9):
        assert len(x) == len(y) == 20
        assert torch.equal(y[:8], Y[x[:8].long()])
        assert (y[:8] >= 0).all()
        assert set(x[:8].tolist()) <= {3.0, 7.0, 19.0}
        assert torch.equal(y[8:], Y[x[8:].long()])


def test_every_labelled_and_every_other_row_comes_in_turn():
    batches = list(LabelledBatches((X, Y), ROWS, 6, 10, seed=1, start=0, stop=6))
    labelled = torch.cat([x[:6] for x, _ in batches])
    assert sorted(labelled.unique().tolist()) == [3, 7, 19]
    counts = [int((labelled == row).sum()) for row in (3, 7, 19)]
    assert counts == [12, 12, 12]
    others = torch.cat([x[6:] for x, _ in batches])
    assert torch.equal(others.sort().values, X.repeat_interleave(2))


def test_a_batch_is_a_function_of_seed_and_step():
    (late,) = LabelledBatches((X, Y), ROWS, 4, 5, seed=2, start=17, stop=18)
    again = list(LabelledBatches((X, Y), ROWS, 4, 5, seed=2, start=0, stop=18))[-1]
    other = next(iter(LabelledBatches((X, Y), ROWS, 4, 5, seed=3, start=17, stop=18)))
    assert torch.equal(late[0], again[0])
    assert not torch.equal(late[0], other[0])


def test_the_unlabelled_part_does_not_know_which_rows_are_labelled():
    for (a, _), (b, _) in zip(
        LabelledBatches((X, Y), ROWS, 4, 6, 0, 0, 5),
        LabelledBatches((X, Y), torch.tensor([5]), 4, 6, 0, 0, 5),
        strict=True,
    ):
        assert torch.equal(a[4:], b[4:])


def test_without_labels_only_the_others():
    (x, y), *_ = LabelledBatches((X, Y), ROWS[:0], 4, 6, 0, 0, 2)
    assert len(x) == 6
    assert torch.equal(y, Y[x.long()])


def test_as_lightning_asks_for_them():
    settings = Training(max_steps=7, warmup_steps=0, kl_warmup_steps=0, validate_every=4)
    data = LabelledData((X, Y), (X, Y), settings, 0, rows=ROWS, labelled=3)
    assert len(data.train_dataloader()) == 4
    assert sum(len(x) for x, _ in data.val_dataloader()) == N
    with pytest.raises(ConfigError, match="labelled"):
        LabelledData((X, Y), (X, Y), settings, 0, rows=ROWS, labelled=0)
