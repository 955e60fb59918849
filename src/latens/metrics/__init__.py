"""Pure functions of arrays: per image → `(B,)`, statistics of a population → a number."""

from latens.metrics.catalogue import CATALOGUE, metric
from latens.metrics.chains import (
    bulk_ess,
    e_bfmi,
    mean_ess,
    nested_rhat,
    rhat,
    tail_ess,
)
from latens.metrics.collapse import (
    CollapseDiagnosis,
    CollapseThresholds,
    active_units,
    diagnose_collapse,
    kl_per_unit,
    unit_variance,
)
from latens.metrics.coverage import (
    attainable_levels,
    central_interval,
    coverage,
    interval_width,
    order_index,
    rank,
)
from latens.metrics.functionals import principal_directions, principal_scores, region_means
from latens.metrics.gap import marginal_gap
from latens.metrics.importance import pareto_smooth
from latens.metrics.metric import CALIBRATION_LEVELS, LEVEL, Metric, Statistic
from latens.metrics.null_space import (
    hallucinated_share,
    hallucination,
    null_energy,
    split_error,
    split_variance,
)
from latens.metrics.quality import data_chi2, mse, nmse, psnr, ssim
from latens.metrics.scores import crps, crps_gaussian, energy_score, interval_score
from latens.metrics.spread import (
    draw_mse_components,
    spread_skill_components,
    z_variance,
    z_variance_divisor,
)
from latens.metrics.stability import (
    DETAIL_WIDTHS,
    NOISE_LEVELS,
    VISIBILITIES,
    amplification,
    contrast_recovery,
    largest_patch_error,
    marginal_w2,
    relative_error,
    upper_share,
)

__all__ = [
    "CALIBRATION_LEVELS",
    "CATALOGUE",
    "DETAIL_WIDTHS",
    "LEVEL",
    "NOISE_LEVELS",
    "VISIBILITIES",
    "CollapseDiagnosis",
    "CollapseThresholds",
    "Metric",
    "Statistic",
    "active_units",
    "amplification",
    "attainable_levels",
    "bulk_ess",
    "central_interval",
    "contrast_recovery",
    "coverage",
    "crps",
    "crps_gaussian",
    "data_chi2",
    "diagnose_collapse",
    "draw_mse_components",
    "e_bfmi",
    "energy_score",
    "hallucinated_share",
    "hallucination",
    "interval_score",
    "interval_width",
    "kl_per_unit",
    "largest_patch_error",
    "marginal_gap",
    "marginal_w2",
    "mean_ess",
    "metric",
    "mse",
    "nested_rhat",
    "nmse",
    "null_energy",
    "order_index",
    "pareto_smooth",
    "principal_directions",
    "principal_scores",
    "psnr",
    "rank",
    "region_means",
    "relative_error",
    "rhat",
    "split_error",
    "split_variance",
    "spread_skill_components",
    "ssim",
    "tail_ess",
    "unit_variance",
    "upper_share",
    "z_variance",
    "z_variance_divisor",
]
