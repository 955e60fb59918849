"""The amortised posterior against the sampled one."""

from math import inf

from latens.metrics.metric import LEVEL, Metric, difference, exponential, first, ratio, root

GAP: tuple[Metric, ...] = (
    Metric(
        "gap_shift",
        "amortisation gap, means",
        "posterior std",
        "target",
        0.0,
        "Root mean square over latents and images of (mean of q(z | y) − mean of the sampled "
        "posterior)/its standard deviation, less the Monte Carlo error.",
        ("square",),
        root,
        (0.0, inf),
    ),
    Metric(
        "gap_w2",
        "amortisation gap, W2",
        "posterior std",
        "target",
        0.0,
        "Root mean square over latents and images of the 2-Wasserstein distance of the Gaussian "
        "marginals of q(z | y) and of the sampled posterior, in its standard deviations.",
        ("square",),
        root,
        (0.0, inf),
    ),
    Metric(
        "gap_spread",
        "amortisation gap, spread",
        "",
        "target",
        1.0,
        "Geometric mean over latents and images of (standard deviation of q(z | y) / that of the "
        "sampled posterior); below 1 = too sure.",
        ("log_ratio",),
        exponential,
        (0.0, inf),
    ),
    Metric(
        "gap_kl",
        "amortisation gap, KL",
        "nats",
        "lower",
        0.0,
        "KL(sampled ‖ q) of Gaussian marginals, summed over latents, mean over images.",
        ("kl",),
        first,
    ),
    Metric(
        "gap_crps",
        "CRPS amortised / sampled",
        "",
        "target",
        1.0,
        "CRPS of the amortised posterior over that of the sampled one on the same images, means "
        "over the event and images before the ratio; above 1 = sampling helps.",
        ("crps_amortised", "crps_sampled"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "gap_coverage_region",
        "coverage of region means, amortised − sampled",
        "",
        "target",
        0.0,
        f"Difference of the fractions of block means inside the {LEVEL:.0%} interval, amortised "
        "less sampled, on the same images.",
        ("amortised", "sampled"),
        difference,
        (-1.0, 1.0),
    ),
)
