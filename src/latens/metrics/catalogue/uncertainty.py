"""Is the spread right element by element, and does it know where the errors are?"""

from math import inf, nan

from latens.metrics.metric import (
    LEVEL,
    MEAN_MAGNITUDE,
    Kinked,
    Metric,
    first,
    share,
    total_magnitude,
)
from latens.metrics.spread_bins import ence, ence_deviations

SPREAD_EDGES = tuple(2.0**power for power in range(-8, 1))
"""Edges of the bins of predicted standard deviation, as fractions of the range of the data set:
the same for every solver and N, so that numbers compare."""

LAGS = (1, 2, 4)
"""Distances along each axis at which differences of pixels are scored."""

_BINS = len(SPREAD_EDGES) + 1
_BINNED = (
    f"over {_BINS} bins (octaves) of predicted standard deviation; one half of the draws bins, "
    "the other is compared, (M+1)/M times its variance; means over pixels and images come first"
)

_HALVES = (
    "the spread is the standard deviation of one half of the draws, the error that of the mean "
    "of the other half"
)


UNCERTAINTY: tuple[Metric, ...] = (
    Metric(
        "interval_width",
        f"width of the {LEVEL:.0%} interval",
        "signal",
        "lower",
        nan,
        f"Mean width of the {LEVEL:.0%} central interval of a pixel, mean over the event, then "
        "over images; to be read only beside coverage.",
        ("interval_width",),
        first,
        (0.0, inf),
    ),
    Metric(
        "crps",
        "CRPS",
        "signal",
        "lower",
        nan,
        "Fair continuous ranked probability score of each pixel, mean over the event, then "
        "over images.",
        ("crps",),
        first,
    ),
    Metric(
        "interval_score",
        f"interval score at {LEVEL:.0%}",
        "signal",
        "lower",
        nan,
        f"Width of the {LEVEL:.0%} central interval plus {2 / (1 - LEVEL):.0f} times the distance "
        "of what lies outside, mean over the event, then over images.",
        ("interval_score",),
        first,
        (0.0, inf),
    ),
    Metric(
        "nll",
        "negative log-likelihood, joint",
        "nats/element",
        "lower",
        nan,
        "−log q(x | y)/d of the whole image where the posterior states that density (of an "
        "ensemble that of the mixture), constants kept; mean over images. Where pixels "
        "are independent in q it is the one of pixels.",
        ("nll",),
        first,
    ),
    Metric(
        "nll_pixel",
        "negative log-likelihood, pixels",
        "nats/element",
        "lower",
        nan,
        "−log q(x_i | y) of each pixel on its own where the posterior has that density in closed "
        "form (a mean and a standard deviation alone count as Gaussian), constants kept; mean "
        "over the event, then over images.",
        ("nll_pixel",),
        first,
    ),
    Metric(
        "energy_score",
        "energy score",
        "signal √d",
        "lower",
        nan,
        "Fair energy score of the whole image, Euclidean norms summed over the event; mean over "
        "images.",
        ("energy_score",),
        first,
    ),
    Metric(
        "variogram_score",
        "variogram score",
        "signal",
        "lower",
        nan,
        f"Fair variogram score of order ½ of pairs of pixels at distances {LAGS} along each axis, "
        "mean over pairs, then over images; sees wrong correlations.",
        ("variogram_score",),
        first,
    ),
    Metric(
        "variance_within",
        "variance within members",
        "signal²",
        "lower",
        nan,
        "Mean of the members' variances, of an ensemble, mean over the event, then over images: "
        "what each member leaves open. With the variance between members it adds up to that of "
        "the ensemble.",
        ("within",),
        first,
        (0.0, inf),
    ),
    Metric(
        "variance_between",
        "variance between members",
        "signal²",
        "lower",
        nan,
        "Variance of the members' means about their mean (divided by the number of members), of "
        "an ensemble, mean over the event, then over images. Means of draws add up to 1/39 of "
        "the variance within.",
        ("between",),
        first,
        (0.0, inf),
    ),
    Metric(
        "between_share",
        "share of the variance between members",
        "",
        "target",
        nan,
        "Variance between members over that of the ensemble, means over the event and images "
        "before the ratio.",
        ("between", "within"),
        share,
        (0.0, 1.0),
    ),
    Metric(
        "ence",
        "ENCE",
        "",
        "lower",
        0.0,
        f"Share-weighted mean of |√mVAR − RMSE|/√mVAR {_BINNED}.",
        tuple(f"{what}_{j}" for what in ("share", "variance", "error") for j in range(_BINS)),
        Kinked(ence, norm=total_magnitude, deviations=ence_deviations),
        (0.0, inf),
    ),
    Metric(
        "uce",
        "UCE",
        "signal²",
        "lower",
        0.0,
        f"Share-weighted mean of |mVAR − MSE| {_BINNED}.",
        tuple(f"variance_minus_error_{j}" for j in range(_BINS)),
        MEAN_MAGNITUDE,
        (0.0, inf),
    ),
    Metric(
        "ause",
        "AUSE",
        "",
        "lower",
        nan,
        "Area between the sparsification curves (RMSE left after removing the most uncertain "
        f"pixels of an image, over the whole) by predicted spread and by error; {_HALVES}; mean "
        "over images.",
        ("ause",),
        first,
        (0.0, 1.0),
    ),
    Metric(
        "aurg",
        "AURG",
        "",
        "higher",
        nan,
        "Area between the random sparsification curve and the one by predicted spread; "
        f"{_HALVES}; mean over images.",
        ("aurg",),
        first,
        (-inf, 1.0),
    ),
    Metric(
        "ause_reference",
        "sparsification against stated spread",
        "",
        "target",
        0.0,
        "Area between the sparsification curve by predicted spread and the one of errors drawn "
        "from the stated distribution; above 0 = errors follow the spread less than it claims; "
        f"{_HALVES}, of which the stated variance is, too; mean over images.",
        ("ause_reference",),
        first,
        (-1.0, inf),
    ),
    Metric(
        "error_rank_correlation",
        "Spearman(|error|, spread)",
        "",
        "higher",
        nan,
        "Rank correlation of magnitude of the error and predicted standard deviation over the "
        f"pixels of an image, 0 where either is constant; {_HALVES}; mean over images.",
        ("error_rank_correlation",),
        first,
        (-1.0, 1.0),
    ),
)
