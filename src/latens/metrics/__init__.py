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
from latens.metrics.conformal import (
    RiskCurve,
    breakpoints,
    covering_score,
    crc_allowance,
    exceedance,
    hoeffding_bentkus,
    hoeffding_bentkus_bound,
    miss_by_width,
    rcps_allowance,
    split_quantile,
    units_needed,
)
from latens.metrics.coverage import (
    attainable_levels,
    central_interval,
    coverage,
    interval_width,
    order_index,
    rank,
)
from latens.metrics.detection import (
    augrc,
    aurc,
    auroc,
    average_precision,
    false_positive_rate,
    random_augrc,
    risk_coverage,
)
from latens.metrics.functionals import principal_directions, principal_scores, region_means
from latens.metrics.gap import marginal_gap
from latens.metrics.importance import pareto_smooth
from latens.metrics.metric import CALIBRATION_LEVELS, LEVEL, Metric, Statistic
from latens.metrics.quality import data_chi2, mse, nmse, psnr, ssim
from latens.metrics.scores import crps, crps_gaussian, energy_score, interval_score
from latens.metrics.spread import (
    draw_mse_components,
    spread_skill_components,
    z_variance,
    z_variance_divisor,
)

__all__ = [
    "CALIBRATION_LEVELS",
    "CATALOGUE",
    "LEVEL",
    "CollapseDiagnosis",
    "CollapseThresholds",
    "Metric",
    "RiskCurve",
    "Statistic",
    "active_units",
    "attainable_levels",
    "augrc",
    "aurc",
    "auroc",
    "average_precision",
    "breakpoints",
    "bulk_ess",
    "central_interval",
    "coverage",
    "covering_score",
    "crc_allowance",
    "crps",
    "crps_gaussian",
    "data_chi2",
    "diagnose_collapse",
    "draw_mse_components",
    "e_bfmi",
    "energy_score",
    "exceedance",
    "false_positive_rate",
    "hoeffding_bentkus",
    "hoeffding_bentkus_bound",
    "interval_score",
    "interval_width",
    "kl_per_unit",
    "marginal_gap",
    "mean_ess",
    "metric",
    "miss_by_width",
    "mse",
    "nested_rhat",
    "nmse",
    "order_index",
    "pareto_smooth",
    "principal_directions",
    "principal_scores",
    "psnr",
    "random_augrc",
    "rank",
    "rcps_allowance",
    "region_means",
    "rhat",
    "risk_coverage",
    "split_quantile",
    "spread_skill_components",
    "ssim",
    "tail_ess",
    "unit_variance",
    "units_needed",
    "z_variance",
    "z_variance_divisor",
]
