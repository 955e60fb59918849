"""Stability to disturbed measurements, found by search: every worst case is a lower bound."""

import math
from math import inf, nan

from latens.metrics.metric import (
    LEVEL,
    Metric,
    difference,
    first,
    mean_of_counted,
    ratio,
)
from latens.metrics.stability import (
    DETAIL_WIDTHS,
    NOISE_LEVELS,
    RANDOM_DISTURBANCES,
    RELATIVE_LEVELS,
    TV_ITERATIONS,
    VISIBILITIES,
)

SLOPE: tuple[Metric, ...] = (
    Metric(
        "lipschitz",
        "local Lipschitz constant",
        "signal/measurement",
        "lower",
        nan,
        "Largest singular value of the Jacobian of the reconstruction at y, Euclidean norms; the "
        "search gives a lower bound; mean over images.",
        ("lipschitz",),
        first,
        (0.0, inf),
    ),
    Metric(
        "lipschitz_whitened",
        "local Lipschitz constant, whitened",
        "signal/noise std",
        "lower",
        nan,
        "Largest change ‖J Σ^{1/2} u‖ of the reconstruction for one noise standard deviation, "
        "‖u‖ = 1; lower bound; mean over images.",
        ("lipschitz",),
        first,
        (0.0, inf),
    ),
    Metric(
        "lipschitz_ball",
        "Lipschitz constant, ball of the noise",
        "signal/noise std",
        "lower",
        nan,
        "Largest ‖R(y + Σ^{1/2} u) − R(y)‖/‖u‖ found for 0 < ‖u‖ ≤ √m; at least the local "
        "constant, which is its limit for small u; lower bound; mean over images.",
        ("lipschitz",),
        first,
        (0.0, inf),
    ),
    Metric(
        "condition_number",
        "condition number",
        "",
        "lower",
        nan,
        "‖J‖₂ ‖y‖/‖R(y)‖: relative change of the reconstruction over that of y, at worst; lower "
        "bound; mean over images.",
        ("condition",),
        first,
        (0.0, inf),
    ),
    Metric(
        "mean_square_gain",
        "mean square gain",
        "(signal/measurement)²",
        "lower",
        nan,
        "‖J‖²_F/m: squared change of the reconstruction over that of y for small white "
        "disturbances, from Gaussian probes; mean over images.",
        ("gain",),
        first,
        (0.0, inf),
    ),
    Metric(
        "expected_chi2",
        "expected data residual χ²/m",
        "",
        "higher",
        nan,
        "‖I − Σ^{−1/2} A J Σ^{1/2}‖²_F/m, from Gaussian probes: the least χ²/m expected of an "
        "affine reconstruction with this Jacobian, 1 if none of the noise reaches it, 0 if all of "
        "it is fitted; for noise of mean 0; mean over images.",
        ("chi2",),
        first,
        (0.0, inf),
    ),
    Metric(
        "noise_amplification",
        "noise amplification, random",
        "",
        "lower",
        nan,
        "Relative change of the reconstruction over relative change of y for random disturbances "
        f"of the norm of the noise; mean over {RANDOM_DISTURBANCES} disturbances and images.",
        ("amplification",),
        first,
        (0.0, inf),
    ),
    Metric(
        "noise_amplification_q95",
        "noise amplification, 95 % of disturbances",
        "",
        "lower",
        nan,
        "Relative change of the reconstruction over relative change of y that a random "
        f"disturbance of the norm of the noise stays below with chance {LEVEL:g}: the "
        f"{math.ceil(LEVEL * (RANDOM_DISTURBANCES + 1))}th smallest of {RANDOM_DISTURBANCES}; "
        "mean over images.",
        ("amplification",),
        first,
        (0.0, inf),
    ),
    Metric(
        "noise_amplification_max",
        "noise amplification, largest tried",
        "",
        "lower",
        nan,
        "Largest relative change of the reconstruction over relative change of y among "
        f"{RANDOM_DISTURBANCES} random disturbances of the norm of the noise; it grows with their "
        "number; mean over images.",
        ("amplification",),
        first,
        (0.0, inf),
    ),
)

WORST: tuple[Metric, ...] = (
    *(
        Metric(
            worst_name,
            f"worst-case error, {level:.0%} of the noise",
            "",
            "lower",
            nan,
            f"Largest ‖R(y + e) − x‖/‖x‖ found for ‖Σ^{{−1/2}} e‖ ≤ {level:g} √m; lower bound; "
            "mean over images.",
            ("error",),
            first,
            (0.0, inf),
        )
        for level in NOISE_LEVELS
        for worst_name in ["worst_error" if level == 1 else f"worst_error_{level * 100:.0f}"]
    ),
    *(
        Metric(
            f"relative_worst_error_{level * 100:.0f}",
            f"worst-case error, {level:.0%} of ‖y‖",
            "",
            "lower",
            nan,
            f"Largest ‖R(y + e) − x‖/‖x‖ found for ‖e‖ ≤ {level:g} ‖y‖, Euclidean norms whatever "
            "the noise is; lower bound; mean over images.",
            ("error",),
            first,
            (0.0, inf),
        )
        for level in RELATIVE_LEVELS
    ),
    Metric(
        "worst_excess",
        "worst case − random",
        "",
        "lower",
        0.0,
        "Largest ‖R(y + e) − x‖/‖x‖ found in the ball ‖Σ^{−1/2} e‖ ≤ √m, less its mean over "
        "random e of the same norm; mean over images.",
        ("worst", "random"),
        difference,
    ),
    Metric(
        "worst_over_baseline",
        "worst case / that of the baseline",
        "",
        "lower",
        nan,
        "Worst-case error in the ball of the noise over that of a baseline attacked in the same "
        "way on the same images, means over images before the ratio.",
        ("solver", "baseline"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "worst_over_wiener",
        "worst case / that of Wiener's filter",
        "",
        "lower",
        nan,
        "Worst-case error in the ball of the noise over that of Wiener's filter attacked in the "
        "same way on the same images, means over images before the ratio.",
        ("solver", "wiener"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "worst_over_tv",
        "worst case / that of total variation",
        "",
        "lower",
        nan,
        "Worst-case error in the ball of the noise over that of total variation attacked in the "
        f"same way on the same images: {TV_ITERATIONS} primal-dual iterations from Tikhonov's "
        "image, weight chosen on pairs, means over images before the ratio.",
        ("solver", "tv"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "transferred_over_baseline",
        "transferred case / worst of the baseline",
        "",
        "lower",
        nan,
        "Error at the worst disturbance of another solver over that of a baseline at its own "
        "worst case, means over images before the ratio: a lower bound of what "
        "`worst_over_baseline` would be.",
        ("solver", "donor", "baseline"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "worst_patch_error",
        "largest local artefact",
        "signal",
        "lower",
        0.0,
        "Root mean square error of the worst patch of the reconstruction at the worst-case "
        "measurement; mean over images.",
        ("rmse",),
        first,
        (0.0, inf),
    ),
    Metric(
        "transferred_error",
        "error at another solver's worst case",
        "",
        "lower",
        nan,
        "‖R(y + e) − x‖/‖x‖ at the e in the ball of the noise that is the worst found for another "
        "solver; no worst case of this one; mean over images.",
        ("error",),
        first,
        (0.0, inf),
    ),
    Metric(
        "image_attack",
        "change / change of the image, attacked",
        "",
        "target",
        1.0,
        "‖R(A(x + r)) − R(A x)‖/‖x‖ over ‖r‖/‖x‖ for the r found by ascent, both averaged over "
        "images before the ratio.",
        ("change", "perturbation"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "image_attack_perturbation",
        "change of the image, attacked",
        "",
        "target",
        nan,
        "‖r‖/‖x‖ of the r found by ascent, to be read beside the change that it makes; mean over "
        "images.",
        ("perturbation",),
        first,
        (0.0, inf),
    ),
    Metric(
        "image_attack_change",
        "change of the output, image attacked",
        "",
        "target",
        nan,
        "‖R(A(x + r)) − R(A x)‖/‖x‖ for the r found by ascent; mean over images.",
        ("change",),
        first,
        (0.0, inf),
    ),
    Metric(
        "image_attack_error",
        "error at the attacked image",
        "",
        "lower",
        0.0,
        "‖R(A(x + r)) − (x + r)‖/‖x‖ without noise, for the r found by ascent; mean over images.",
        ("error",),
        first,
        (0.0, inf),
    ),
)

DETAILS: tuple[Metric, ...] = (
    *(
        Metric(
            f"contrast_recovery_{visibility}",
            f"share of details kept, visibility {visibility}",
            "",
            "target",
            1.0,
            "⟨R(y + A δ) − R(y), δ⟩/‖δ‖² for Gaussian details δ with ‖Σ^{−1/2} A δ‖ = "
            f"{visibility}, at a random place that the measurement sees; mean over the images "
            "where there is one of four, then over widths "
            f"{' and '.join(f'{w:g}' for w in DETAIL_WIDTHS)} pixels.",
            tuple(f"{kind}_{w:g}" for kind in ("width", "seen") for w in DETAIL_WIDTHS),
            mean_of_counted,
        )
        for visibility in VISIBILITIES
    ),
    Metric(
        "more_samples",
        "error with more samples / error",
        "",
        "lower",
        nan,
        "‖R(y⁺) − x‖/‖x‖ of a measurement with half of the missing samples added, over "
        "‖R(y) − x‖/‖x‖, means over images before the ratio; above 1 = more data hurt.",
        ("more", "given"),
        ratio,
        (0.0, inf),
    ),
)

BELIEF: tuple[Metric, ...] = (
    *(
        Metric(
            f"worst_coverage_{kind}",
            f"coverage of {label} at the worst case",
            "",
            "target",
            LEVEL,
            f"Fraction of {label} inside the {LEVEL:.0%} interval at a worst-case measurement in "
            "the ball of the noise (another solver's if this one cannot be attacked), mean over "
            "images.",
            ("covered",),
            first,
            (0.0, 1.0),
        )
        for kind, label in (("pixel", "pixels"), ("region", "region means"))
    ),
    Metric(
        "worst_width",
        "interval width at the worst case / at y",
        "",
        "higher",
        nan,
        f"Mean width of the {LEVEL:.0%} interval at the worst-case measurement over that at y, "
        "means over the event and images before the ratio.",
        ("worst", "given"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "posterior_lipschitz",
        "W2 of marginals / disturbance",
        "signal/measurement",
        "lower",
        nan,
        "2-Wasserstein distance of Gaussians with the mean and std of every element at y and at "
        "the worst-case y + e, over ‖e‖, Euclidean over the event. Correlations between elements "
        "do not enter: a lower bound of the distance of the posteriors; mean over images.",
        ("w2",),
        first,
        (0.0, inf),
    ),
    Metric(
        "posterior_energy",
        "energy distance / disturbance",
        "signal/measurement",
        "lower",
        nan,
        "Half the energy distance, E‖X − Y‖ − ½ E‖X − X'‖ − ½ E‖Y − Y'‖, of draws X at y and Y at "
        "the worst-case y + e, over ‖e‖, Euclidean over the event. It sees the joint "
        "distribution, is ‖δ‖/‖e‖ for points that move by δ, and a lower bound of W2/‖e‖ that is "
        "far below where the posteriors overlap; unbiased; mean over images.",
        ("energy",),
        first,
    ),
)

STABILITY: tuple[Metric, ...] = (*SLOPE, *WORST, *DETAILS, *BELIEF)
