"""The score of a chosen forecaster is that of new patients, and not the smallest of several."""

from dataclasses import replace

import numpy as np
import pytest

from latens.errors import ConfigError
from latens.evaluation.forecast_choice import chosen_by_others
from latens.evaluation.forecasts import COMPONENTS, ForecastScores

N, FOLDS, FORECASTERS = 60, 10, 8


def scores(crps: np.ndarray, shift: float = 0.0) -> ForecastScores:
    zeros = np.zeros(len(crps))
    return ForecastScores(
        "made up",
        tuple(f"p{i}" for i in range(len(crps))),
        np.arange(len(crps)) % FOLDS,
        zeros,
        zeros + shift,
        zeros + shift - 1,
        zeros + shift + 1,
        {**dict.fromkeys(COMPONENTS, zeros), "crps": crps},
        (0.0, 0.0),
    )


def test_choosing_among_equals_gains_nothing() -> None:
    """400 studies of eight forecasters whose CRPS is 1 on the average, whatever the patient."""
    rng = np.random.default_rng(0)
    smallest, chosen = [], []
    for _ in range(400):
        crps = rng.gamma(2.0, 0.5, (FORECASTERS, N))
        found = {str(j): scores(row) for j, row in enumerate(crps)}
        smallest.append(crps.mean(1).min())
        chosen.append(chosen_by_others(found)[0].components["crps"].mean())
    error = np.std(chosen) / 20
    assert abs(np.mean(chosen) - 1) < 3 * error
    assert np.mean(smallest) < 1 - 10 * error


def test_a_fold_has_the_forecaster_that_the_others_chose() -> None:
    a, b = np.ones(N), np.full(N, 1.1)
    a[3] = 8.0  # the patient for whom `a` is far off, of fold 3
    found = {"a": scores(a), "b": scores(b, 5.0)}
    best, behind = chosen_by_others(found)
    own = np.arange(N) % FOLDS == 3
    assert [name == "a" for name in behind] == own.tolist()  # all others know of patient 3
    np.testing.assert_array_equal(best.components["crps"], np.where(own, a, b))
    np.testing.assert_array_equal(best.median, np.where(own, 0.0, 5.0))
    np.testing.assert_array_equal(best.upper - best.lower, np.full(N, 2.0))


def test_scores_that_do_not_belong_together() -> None:
    one = scores(np.ones(N))
    for other in (
        replace(one, patients=one.patients[::-1]),
        replace(one, fold=one.fold[::-1]),
    ):
        with pytest.raises(ConfigError, match="same patients in the same two folds"):
            chosen_by_others({"a": one, "b": other})
    together = replace(one, fold=np.zeros(N, dtype=np.int64))
    with pytest.raises(ConfigError, match="two folds"):
        chosen_by_others({"a": together, "b": together})
