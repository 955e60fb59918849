"""Metrics applied to solvers: intervals, scaling laws, and the tables of a run."""

from latens.evaluation.ambiguity import (
    Ambiguity,
    measure_ambiguity,
)
from latens.evaluation.anybody import (
    evaluate,
)
from latens.evaluation.calibration import (
    calibration_tests,
    data_calibration,
    model_calibration,
)
from latens.evaluation.calibration_outcome import (
    CalibrationTests,
)
from latens.evaluation.checks import (
    CHECKS,
    Check,
    Checked,
    Donor,
    Subject,
    run_check,
    save_check,
)
from latens.evaluation.conformal import (
    fit_calibration,
)
from latens.evaluation.declared import (
    declares_model,
    simulate_declared,
)
from latens.evaluation.evaluate import (
    Cell,
    Evaluation,
    evaluate_cell,
    fit_directions,
    simulate,
)
from latens.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    metric_interval,
)
from latens.evaluation.local_calibration import (
    local_calibration,
)
from latens.evaluation.lost_samples import (
    LostSamples,
    LostShare,
)
from latens.evaluation.measure import (
    Context,
    Examples,
)
from latens.evaluation.null_space import (
    NullSpace,
    measure_null_space,
)
from latens.evaluation.reliability import (
    Condition,
    Reliability,
    reliability,
)
from latens.evaluation.save import (
    save_evaluation,
)
from latens.evaluation.seed_intervals import (
    SeedInterval,
    seed_interval,
)
from latens.evaluation.shifts import (
    KernelWidth,
    MagnitudeNoise,
    NoiseLevel,
    OtherImages,
    PhotonNoise,
    Shift,
)
from latens.evaluation.stability import (
    Stability,
    StabilitySettings,
    measure_stability,
    measure_transfer,
    stability_cost,
)
from latens.evaluation.strangeness import (
    strangeness,
)
from latens.evaluation.usual_shifts import (
    applicable_shifts,
)
from latens.scaling import (
    ScalingFit,
    fit_scaling,
)

__all__ = [
    "CHECKS",
    "Ambiguity",
    "CalibrationTests",
    "Cell",
    "Check",
    "Checked",
    "Condition",
    "Context",
    "Donor",
    "Evaluation",
    "Examples",
    "Interval",
    "KernelWidth",
    "LostSamples",
    "LostShare",
    "MagnitudeNoise",
    "NoiseLevel",
    "NullSpace",
    "OtherImages",
    "PhotonNoise",
    "Reliability",
    "ScalingFit",
    "SeedInterval",
    "Shift",
    "Stability",
    "StabilitySettings",
    "Subject",
    "applicable_shifts",
    "bootstrap_interval",
    "calibration_tests",
    "data_calibration",
    "declares_model",
    "evaluate",
    "evaluate_cell",
    "fit_calibration",
    "fit_directions",
    "fit_scaling",
    "local_calibration",
    "measure_ambiguity",
    "measure_null_space",
    "measure_stability",
    "measure_transfer",
    "metric_interval",
    "model_calibration",
    "reliability",
    "run_check",
    "save_check",
    "save_evaluation",
    "seed_interval",
    "simulate",
    "simulate_declared",
    "stability_cost",
    "strangeness",
]
