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
from latens.metrics.lc2st import LocalTest, lc2st
from latens.metrics.metric import CALIBRATION_LEVELS, LEVEL, Metric, Statistic
from latens.metrics.null_space import (
    hallucinated_share,
    hallucination,
    null_energy,
    split_error,
    split_variance,
)
from latens.metrics.population import PopulationTest, holm, holm_adjusted
from latens.metrics.quality import data_chi2, mse, nmse, psnr, ssim
from latens.metrics.relabelling import member_ranks, random_orders, relabelling_test
from latens.metrics.scores import crps, crps_gaussian, energy_score, interval_score
from latens.metrics.sparsification import error_rank_correlation, sparsification_areas
from latens.metrics.spread import (
    draw_mse_components,
    spread_skill_components,
    z_variance,
    z_variance_divisor,
)
from latens.metrics.spread_bins import (
    ence,
    halves,
    spread_bin_components,
    spread_bin_deviations,
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
from latens.metrics.tarp import (
    area_to_curve,
    hpd_ranks,
    inside_regions,
    reference_distance,
    tarp_ranks,
)
from latens.metrics.uniformity import (
    chi_square_statistic,
    chi_square_test,
    ecdf_band,
    ecdf_statistic,
    ecdf_test,
    rank_counts,
)
from latens.metrics.variogram import lag_pairs, variogram_score

__all__ = [
    "CALIBRATION_LEVELS",
    "CATALOGUE",
    "DETAIL_WIDTHS",
    "LEVEL",
    "NOISE_LEVELS",
    "VISIBILITIES",
    "CollapseDiagnosis",
    "CollapseThresholds",
    "LocalTest",
    "Metric",
    "PopulationTest",
    "Statistic",
    "active_units",
    "amplification",
    "area_to_curve",
    "attainable_levels",
    "bulk_ess",
    "central_interval",
    "chi_square_statistic",
    "chi_square_test",
    "contrast_recovery",
    "coverage",
    "crps",
    "crps_gaussian",
    "data_chi2",
    "diagnose_collapse",
    "draw_mse_components",
    "e_bfmi",
    "ecdf_band",
    "ecdf_statistic",
    "ecdf_test",
    "ence",
    "energy_score",
    "error_rank_correlation",
    "hallucinated_share",
    "hallucination",
    "halves",
    "holm",
    "holm_adjusted",
    "hpd_ranks",
    "inside_regions",
    "interval_score",
    "interval_width",
    "kl_per_unit",
    "lag_pairs",
    "largest_patch_error",
    "lc2st",
    "marginal_gap",
    "marginal_w2",
    "mean_ess",
    "member_ranks",
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
    "random_orders",
    "rank",
    "rank_counts",
    "reference_distance",
    "region_means",
    "relabelling_test",
    "relative_error",
    "rhat",
    "sparsification_areas",
    "split_error",
    "split_variance",
    "spread_bin_components",
    "spread_bin_deviations",
    "spread_skill_components",
    "ssim",
    "tail_ess",
    "tarp_ranks",
    "unit_variance",
    "upper_share",
    "variogram_score",
    "z_variance",
    "z_variance_divisor",
]
