"""Grouped folds: whole groups, everything tested once, even sizes."""

import numpy as np
import pytest

from latens.data import default_folds, grouped_folds
from latens.errors import ConfigError

GROUPS = [f"g{i // 3}" for i in range(100)] + ["big"] * 20


def test_groups_stay_whole_and_everything_is_tested_once() -> None:
    folds = grouped_folds(GROUPS, 5, seed=3)
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(len(GROUPS)))
    for train, test in folds:
        assert not {GROUPS[i] for i in train} & {GROUPS[i] for i in test}
        assert len(train) + len(test) == len(GROUPS)
    sizes = [len(test) for _, test in folds]
    assert max(sizes) - min(sizes) <= 3


def test_the_seed_decides() -> None:
    first, again, other = (grouped_folds(GROUPS, 4, seed)[0][1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bad_numbers() -> None:
    with pytest.raises(ConfigError, match="2 to 35"):
        grouped_folds(GROUPS, 36)
    with pytest.raises(ConfigError, match="seed"):
        grouped_folds(GROUPS, 3, seed=-1)


def test_small_sets_leave_one_group_out() -> None:
    assert default_folds(12) == 12
    assert default_folds(600) == 10
