"""The tables of a run: names, columns, order of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from latens.errors import DataError

Kind = Literal["str", "int64", "Int64", "float64"]
"""Type of a column: text, integer, integer that may be blank, number that may be NaN."""


@dataclass(frozen=True)
class Schema:
    """Columns of a table.

    Args:
        name: Stem of the table's files.
        columns: Kind of each column, in order.
        sort_by: Columns that order the rows, the others breaking ties; empty keeps the order in
            which the rows were given.
    """

    name: str
    columns: Mapping[str, Kind]
    sort_by: tuple[str, ...] = ()


_CELL: dict[str, Kind] = {
    "solver": "str",
    "n": "int64",
    "data_seed": "int64",
    "init_seed": "Int64",  # blank where a solver combines several initialisations
}
_BAND: dict[str, Kind] = {
    "value": "float64",
    "lower": "float64",
    "upper": "float64",
    "level": "float64",
}

METRICS = Schema(
    "metrics",
    {
        **_CELL,
        "metric": "str",
        **_BAND,
        "images": "int64",
        "groups": "int64",
        "status": "str",
        "evaluation": "str",
    },
    ("solver", "n", "data_seed", "init_seed", "metric"),
)
PER_IMAGE = Schema(
    "per_image",
    {
        **_CELL,
        "image": "int64",
        "group": "str",
        "metric": "str",
        "component": "int64",
        "value": "float64",
    },
    ("solver", "n", "data_seed", "init_seed", "metric", "image", "component"),
)
IMAGE_SCORES = Schema(
    "scores",
    {**_CELL, "image": "int64", "group": "str", "score": "str", "value": "float64"},
    ("solver", "n", "data_seed", "init_seed", "score", "image"),
)
CURVES = Schema(
    "curves",
    {
        "solver": "str",
        "n": "int64",
        "metric": "str",
        "mean": "float64",
        "lower": "float64",
        "upper": "float64",
        "level": "float64",
        "data_seeds": "int64",
        "fits": "int64",  # cells used
        "excluded": "int64",  # cells left out because they are not usable
        "status": "str",
    },
    ("solver", "metric", "n"),
)
SCALING = Schema(
    "scaling",
    {
        "solver": "str",
        "metric": "str",
        "parameter": "str",
        **_BAND,
        "sizes": "int64",
        "status": "str",
    },
    ("solver", "metric", "parameter"),
)
SCALING_BAND = Schema(
    "scaling_band",
    {"solver": "str", "metric": "str", "n": "float64", **_BAND},
    ("solver", "metric", "n"),
)
REJECTS = 0.05
"""An adjusted p-value of at most this rejects. Adjusted p-values count 1000 relabellings: of
twenty tests none smaller than about .01 is left, however clear the case."""

ANY = "any"
"""Score of the table SHIFTS: the rule that flags measurements, see `evaluation.flags`."""

TESTS = Schema(
    "tests",
    {
        **_CELL,
        "test": "str",
        "quantity": "str",
        "statistic": "float64",
        "p_value": "float64",
        "p_adjusted": "float64",  # for all tests of one set of pairs
        "images": "int64",
        "draws": "int64",
        "evaluation": "str",
    },
    ("solver", "n", "data_seed", "init_seed", "test", "quantity"),
)
POWER = Schema(
    "power",
    {
        **_CELL,
        "source": "str",  # pairs of the tests, as in RANK_CURVES
        "posterior": "str",  # how the posterior was made wrong
        "power": "float64",  # share of times in which the tests of ranks find it
        "images": "int64",
        "draws": "int64",
        "evaluation": "str",
    },
    ("solver", "n", "data_seed", "init_seed", "source", "posterior"),
)
SHIFTS = Schema(
    "shifts",
    {
        **_CELL,
        "shift": "str",  # `none` for the test set as it is
        "strength": "float64",
        "score": "str",  # empty for a metric inside the shift
        "number": "str",
        **_BAND,
        "images": "int64",
        "groups": "int64",
        "status": "str",
        "evaluation": "str",
    },
    ("solver", "n", "data_seed", "init_seed", "shift", "strength", "score", "number"),
)
RANK_CURVES = Schema(
    "rank_curves",
    {
        **_CELL,
        "source": "str",  # `data` for held-out pairs, `model` for simulated ones
        "quantity": "str",
        "members": "int64",  # numbers of the family, each with a curve of its own
        "below": "int64",  # k: the curve is #{rank < k}/images − k/(draws + 1)
        "lowest": "float64",  # over the members
        "highest": "float64",
        "band_lower": "float64",  # holds all curves of the family at once
        "band_upper": "float64",
        "level": "float64",
        "images": "int64",
        "draws": "int64",
        "evaluation": "str",
    },
    ("solver", "n", "data_seed", "init_seed", "source", "quantity", "below"),
)
RISK_COVERAGE = Schema(
    "risk_coverage",
    {
        **_CELL,
        "score": "str",  # `oracle` for the risk itself
        "kept": "float64",  # share of the images, those with the lowest scores
        "risk": "float64",  # mean over those kept
        "images": "int64",
        "evaluation": "str",
    },
    ("solver", "n", "data_seed", "init_seed", "score", "kept"),
)
TRUST = Schema(
    "trust",
    {
        "solver": "str",
        "n": "int64",
        "question": "str",
        "verdict": "str",  # yes, no, open, not measured
        "metric": "str",
        "value": "float64",
        "lower": "float64",
        "upper": "float64",
        "bar_lower": "float64",
        "bar_upper": "float64",
        "reason": "str",
    },
)
METRIC_DEFINITIONS = Schema(
    "metric_definitions",
    {
        "metric": "str",
        "label": "str",
        "unit": "str",
        "better": "str",
        "target": "float64",  # NaN if the metric has none
        "definition": "str",
        "section": "str",  # heading under which it is shown; rows are in the order of the page
    },
)
PLAN = Schema(
    "plan",
    {
        "solver": "str",
        "metric": "str",
        "bar": "str",
        "purpose": "str",
        "bar_lower": "float64",  # infinite where the bar has no such end
        "bar_upper": "float64",
        "verdict": "str",
        "n": "float64",  # NaN where no N is named
        "lower": "float64",
        "upper": "float64",
        "level": "float64",
        "met": "float64",  # probability at the largest size
        "floor_p": "float64",
        "law": "str",  # smallest AICc
        "smallest": "int64",
        "largest": "int64",
        "data_seeds": "int64",
        "reason": "str",
        "advice": "str",
    },
    ("purpose", "metric", "bar", "solver"),
)
PLAN_BAND = Schema(
    "plan_band",
    {"solver": "str", "metric": "str", "n": "float64", **_BAND},
    ("solver", "metric", "n"),
)
PLAN_LAWS = Schema(
    "plan_laws",
    {"solver": "str", "metric": "str", "law": "str", "aicc": "float64"},
    ("solver", "metric", "law"),
)
PLAN_RATIOS = Schema(
    "plan_ratios",
    {
        "solver": "str",
        "bar": "str",  # of calibration or stability
        "against": "str",  # of accuracy
        "ratio": "float64",  # N of `bar` over N of `against`; NaN where the sizes cannot say
        "lower": "float64",
        "upper": "float64",
        "level": "float64",
        "later": "float64",  # probability that `bar` needs more samples
        "sooner": "float64",
    },
    ("solver", "bar", "against"),
)
BACK_TEST = Schema(
    "back_test",
    {
        "solver": "str",
        "metric": "str",
        "target": "float64",
        "found": "float64",
        "found_lower": "float64",
        "found_upper": "float64",
        "foretold": "float64",
        "lower": "float64",
        "upper": "float64",
        "level": "float64",
        "log2_ratio": "float64",
        "octaves": "float64",
        "contains": "int64",
        "counts": "int64",  # 0 where the whole sweep finds no N to compare with
    },
    ("solver", "metric", "found"),
)
COST = Schema(
    "cost",
    {"unit": "str", "hash": "str", **_CELL, "seconds": "float64", "peak_memory_mib": "float64"},
)
FORECAST_SCORES = Schema(
    "forecast_scores",
    {
        "forecaster": "str",
        "patient": "str",
        "fold": "int64",
        "truth": "float64",  # log volume, as are the next three
        "median": "float64",
        "lower": "float64",
        "upper": "float64",
        "absolute_error": "float64",
        "crps": "float64",
        "interval_score": "float64",
        "covered": "float64",
        "width": "float64",
        "rank": "float64",
        "made_by": "str",  # forecaster behind the row, where one was chosen for every fold
    },
    ("forecaster", "patient"),
)
FORECAST_METRICS = Schema(
    "forecast_metrics",
    {
        "forecaster": "str",
        "metric": "str",
        **_BAND,
        "reference": "str",  # forecaster that the difference is taken to; empty for itself
        "difference": "float64",
        "difference_lower": "float64",
        "difference_upper": "float64",
        "patients": "int64",
        "doubts": "str",  # why bands of this forecaster should not be relied on; empty if known
    },
)
FORECAST = Schema(
    "forecast",
    {
        "patient": "str",
        "time": "float64",
        "horizon": "float64",  # time since the last visit
        "median": "float64",  # volume, as are the next two
        "lower": "float64",
        "upper": "float64",
        "level": "float64",
        "conformal_lower": "float64",  # band of the same level, calibrated; NaN where it was not
        "conformal_upper": "float64",
        "unseen": "float64",  # probability of a volume at or below the limit of detection
        "doubts": "str",
    },
)
OVERVIEW_METRICS = (
    *("k_eff", "accuracy", "neg_elbo", "nll_sampled", "rmse", "rmse_over_twin"),
    *("nll_gain_sampled", "sigma", "sigma_at_bounds", "sigma_coverage", "sigma_error"),
    *("information_latent", "information_component"),
)
OVERVIEW = Schema(
    "overview",
    {
        "solver": "str",
        "trunk": "str",
        "component": "str",
        "scale": "str",
        "objective": "str",
        "labels": "int64",
        **dict.fromkeys(OVERVIEW_METRICS, "float64"),
        "minutes": "float64",  # of a fit, wall clock
        "fits": "int64",
        "status": "str",
    },
    ("labels", "solver"),
)
ACTIVE = Schema(
    "active",
    {
        "solver": "str",
        "acquisition": "str",
        "n": "int64",  # labels after the round
        "drawn": "int64",  # labels drawn without a model, that the chain is compared with
        **_BAND,
        "data_seeds": "int64",
    },
    ("solver", "acquisition", "n", "drawn"),
)
HISTORY = Schema(
    "history", {"stage": "str", "step": "int64", "quantity": "str", "value": "float64"}
)

SCHEMAS: dict[str, Schema] = {
    schema.name: schema
    for schema in (
        METRICS,
        PER_IMAGE,
        IMAGE_SCORES,
        CURVES,
        SCALING,
        SCALING_BAND,
        TESTS,
        POWER,
        SHIFTS,
        RANK_CURVES,
        RISK_COVERAGE,
        TRUST,
        METRIC_DEFINITIONS,
        PLAN,
        PLAN_BAND,
        PLAN_LAWS,
        PLAN_RATIOS,
        BACK_TEST,
        COST,
        FORECAST_SCORES,
        FORECAST_METRICS,
        FORECAST,
        HISTORY,
        OVERVIEW,
        ACTIVE,
    )
}


def schema_of(schema: str | Schema) -> Schema:
    """The schema of this name; a schema is passed through.

    Raises:
        DataError: If there is no table of this name.
    """
    if isinstance(schema, Schema):
        return schema
    if schema not in SCHEMAS:
        raise DataError(
            "schema", f"one of {', '.join(SCHEMAS)}", repr(schema), "Correct the name."
        )
    return SCHEMAS[schema]
