"""Scores of the spread of every image: bins of spread, sparsification, multivariate scores."""

import torch
from torch import Tensor

from latens.metrics import (
    LEVEL,
    central_interval,
    energy_score,
    error_rank_correlation,
    halves,
    interval_score,
    lag_pairs,
    sparsification_areas,
    spread_bin_components,
    spread_bin_deviations,
    variogram_score,
)
from latens.metrics.catalogue.uncertainty import LAGS, SPREAD_EDGES


def uncertainty_rows(draws: Tensor, x: Tensor, data_range: float) -> dict[str, Tensor]:
    """Components of the metrics of `metrics.catalogue.uncertainty`, `(B, p)` each.

    Sparsification sorts by the spread of one half of the draws and compares the other half with
    the truth, as the bins of spread do.

    Args:
        draws: Exchangeable draws, `(M, B, *signal_shape)`.
        x: Truth, `(B, *signal_shape)`.
        data_range: L, the fixed range of the data set, signal units.
    """
    lower, upper, _ = central_interval(draws, LEVEL)
    edges = [fraction * data_range for fraction in SPREAD_EDGES]
    bins = spread_bin_components(draws, x, edges)
    deciding, compared = halves(draws)
    centred = compared - x  # first: the mean of equal float32 numbers differs from them
    spread, error = deciding.std(dim=0), centred.mean(dim=0)
    areas = sparsification_areas(spread, error, centred.var(dim=0))
    rows = {
        "interval_score": interval_score(lower, upper, x, LEVEL)[:, None],
        "energy_score": energy_score(draws, x)[:, None],
        "ence": bins,
        "uce": spread_bin_deviations(bins),
        "ause": areas[:, 0:1],
        "aurg": areas[:, 1:2],
        "ause_reference": areas[:, 2:3],
        "error_rank_correlation": error_rank_correlation(spread, error)[:, None],
    }
    lags = [lag for lag in LAGS if lag < max((1, *x.shape[2:]))]
    if lags:
        pairs = lag_pairs(tuple(x.shape[1:]), lags)
        rows["variogram_score"] = torch.stack([variogram_score(draws, x, pairs)], dim=1)
    return rows
