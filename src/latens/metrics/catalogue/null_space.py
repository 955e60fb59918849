"""Range and null space: what was measured, and what the solver made up."""

from math import inf, nan

from latens.metrics.metric import LEVEL, Metric, first, root_ratio, share

NULL_SPACE: tuple[Metric, ...] = (
    Metric(
        "null_error",
        "share of the error in the null space",
        "",
        "target",
        nan,
        "‖P_N (x̂ − x)‖² over ‖x̂ − x‖², means over images before the ratio; P_N projects on what "
        "the noise hides.",
        ("null", "range"),
        share,
        (0.0, 1.0),
    ),
    Metric(
        "range_mse",
        "MSE in the range",
        "signal²",
        "lower",
        0.0,
        "‖P_R (x̂ − x)‖²/d, mean over the event, then over images; P_R projects on what the "
        "measurement tells above the noise.",
        ("mse",),
        first,
        (0.0, inf),
    ),
    Metric(
        "null_variance",
        "share of the variance in the null space",
        "",
        "target",
        nan,
        "tr(P_N C P_N)/tr(C) of the posterior draws, means over images before the ratio; that of "
        "the error for a calibrated posterior.",
        ("null", "range"),
        share,
        (0.0, 1.0),
    ),
    *(
        Metric(
            f"null_variance_{part}",
            f"share in the null space, variance {part} members",
            "",
            "target",
            nan,
            f"tr(P_N C P_N)/tr(C), C the {what} of an ensemble; means over images before the "
            "ratio.",
            ("null", "range"),
            share,
            (0.0, 1.0),
        )
        for part, what in (
            ("within", "mean of the covariances of the members' draws"),
            ("between", "covariance of the members' means"),
        )
    ),
    *(
        Metric(
            f"spread_skill_{part}",
            f"spread-skill, {label}",
            "",
            "target",
            1.0,
            f"√(variance of the draws/squared error of their mean) in the {label}, both averaged "
            "over images before the ratio, corrected for the number of draws; below 1 = too sure.",
            ("spread", "skill"),
            root_ratio,
            (0.0, inf),
        )
        for part, label in (("range", "range"), ("null", "null space"))
    ),
    Metric(
        "injected_content",
        "content of the null space / truth",
        "",
        "target",
        nan,
        "‖P_N x̂‖/‖P_N x‖, root mean squares over images before the ratio; at most 1 for a "
        "posterior mean, above 1 = more than there was.",
        ("estimate", "truth"),
        root_ratio,
        (0.0, inf),
    ),
    Metric(
        "hallucinated",
        "hallucinated pixels",
        "",
        "lower",
        0.0,
        "Share of pixels with |P_N (x̂ − x)| above the threshold, mean over images.",
        ("share",),
        first,
        (0.0, 1.0),
    ),
    Metric(
        "unflagged",
        "hallucinated pixels that are not flagged",
        "",
        "lower",
        0.0,
        "Share of the pixels with |P_N (x̂ − x)| above the threshold whose truth lies outside the "
        f"{LEVEL:.0%} interval, sums over images before the ratio.",
        ("unflagged", "flagged"),
        share,
        (0.0, 1.0),
    ),
    Metric(
        "ambiguity",
        "pair that y confuses, bound on errors",
        "",
        "lower",
        nan,
        "½‖x − x'‖/‖x‖ for the farthest x' of the learned prior found with ‖Σ^{−1/2} (A x − A "
        "x')‖ ≤ 2 √m, x the prior's version of the truth. At the y half way, which is within the "
        "noise of both, the larger of the errors to x and to x' is at least this for every "
        "solver; it bounds no error at x alone, such as `worst_error`; mean over images.",
        ("error",),
        first,
        (0.0, inf),
    ),
    Metric(
        "ambiguity_error",
        "pair that y confuses, larger error",
        "",
        "lower",
        nan,
        "max(‖R(y) − x‖, ‖R(y) − x'‖)/‖x‖ of the solver for the pair of `ambiguity`, at the y "
        "half way between their measurements: what `ambiguity` bounds from below; mean over "
        "images.",
        ("error",),
        first,
        (0.0, inf),
    ),
    Metric(
        "ambiguity_slope",
        "pair that y confuses, proven slope",
        "signal/noise std",
        "lower",
        nan,
        "(‖x − x'‖ − ‖R(A x) − x‖ − ‖R(A x') − x'‖)/‖Σ^{−1/2} (A x − A x')‖ for the pair of "
        "`ambiguity`, 0 if negative: being right on both makes a solver this steep, a lower bound "
        "of its Lipschitz constant in the ball of the noise about the y half way (0 proves "
        "nothing); mean over images.",
        ("slope",),
        first,
        (0.0, inf),
    ),
)
