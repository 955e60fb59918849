"""The forecaster that one would have chosen, scored on patients that did not choose it.

    j(k) = argmin_j  mean CRPS of forecaster j over the tested patients outside fold k
    forecast of a patient of fold k: that of j(k)

The smallest of several mean scores is too small: the patients who decided are those it is a mean
of, and its interval knows nothing of that. Here no score of a patient decides about the forecast
of that patient. What is left is that the forecasters of the other folds have learned from the
patients of fold k, as in all cross-validation. Intervals take the choices as given.
"""

from collections.abc import Mapping

import numpy as np

from latens.errors import ConfigError
from latens.evaluation.forecasts import COMPONENTS, Array, ForecastScores
from latens.metrics.catalogue.forecast import FORECAST

_CRPS = next(metric for metric in FORECAST if metric.name == "forecast_crps")


def chosen_by_others(found: Mapping[str, ForecastScores]) -> tuple[ForecastScores, list[str]]:
    """Scores of the forecaster that the patients of the other folds choose, fold by fold.

    Args:
        found: Scores of two forecasters or more, of the same patients in the same folds.

    Returns:
        The scores; the forecaster behind each of the n patients.

    Raises:
        ConfigError: If the patients or folds are not the same, or all are in one fold.
    """
    every = list(found.values())
    first = every[0]
    alike = all(s.patients == first.patients and np.array_equal(s.fold, first.fold) for s in every)
    folds = np.unique(first.fold)
    if not alike or len(folds) < 2:
        raise ConfigError(
            "found",
            "scores of the same patients in the same two folds or more",
            f"{len(every)} forecasters, {len(folds)} folds of the first",
            "Score all of them on the same folds.",
        )
    crps = np.stack([s.rows(_CRPS)[:, 0] for s in every])  # (J, n)
    place = np.zeros(len(first.fold), dtype=np.int64)
    for k in folds:
        place[first.fold == k] = crps[:, first.fold != k].mean(1).argmin()
    rows = np.arange(len(place))

    def pick(values: list[Array]) -> Array:
        return np.stack(values)[place, rows]

    scores = ForecastScores(
        "chosen on the other folds",
        first.patients,
        first.fold,
        first.truth,
        pick([s.median for s in every]),
        pick([s.lower for s in every]),
        pick([s.upper for s in every]),
        {name: pick([s.components[name] for s in every]) for name in COMPONENTS},
        (0.0, 0.0),
    )
    return scores, [list(found)[j] for j in place]
