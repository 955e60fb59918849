"""Laws and curves of numbers that are no core metrics: AUROC of shifts, deep checks, slopes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latens import store
from latens.studies.curves import AWARENESS, awareness_rows, learning_curves, with_awareness
from latens.studies.gather import _scaling

SIZES = (32, 64, 128, 256)


def metric_row(metric, n, seed, value):
    return {
        **{"solver": "a", "n": n, "data_seed": seed, "init_seed": 0, "metric": metric},
        **{"value": value, "lower": value - 0.01, "upper": value + 0.01, "level": 0.95},
        **{"images": 50, "groups": 50, "status": "converged", "evaluation": f"m{n}-{seed}"},
    }


def shift_row(shift, n, seed, value, score="any", number="auroc"):
    row = metric_row("", n, seed, value)
    del row["metric"]
    own = {"shift": shift, "strength": 1.0, "score": score, "number": number}
    return {**row, **own, "evaluation": f"s{n}-{seed}"}


def shifts(sizes=SIZES, seeds=(0, 1, 2)):
    """The noise is noticed less than the blur: AUROC 1 − .4 (32/N)^½, give or take."""
    rows = []
    for seed in seeds:
        for n in sizes:
            least = 1 - (0.4 + 0.002 * seed) * (32 / n) ** 0.5
            rows += [shift_row("noise", n, seed, least), shift_row("blur", n, seed, 0.995)]
            rows.append(shift_row("noise", n, seed, 0.1, score="residual"))
            rows.append(shift_row("noise", n, seed, 0.2, number="psnr"))
    return store.from_rows(rows, store.SHIFTS)


def metrics(name, law, sizes=SIZES, seeds=(0, 1, 2)):
    rows = [metric_row(name, n, s, law(n) * (1 + 0.003 * s)) for n in sizes for s in seeds]
    return store.from_rows(rows, store.METRICS)


NONE = store.from_rows([], store.SHIFTS)


def laws(*arguments):
    return pd.DataFrame(_scaling(*arguments)[0]).set_index(["metric", "parameter"])


def test_the_least_auroc_of_every_cell():
    rows = awareness_rows(shifts())
    assert len(rows) == len(SIZES) * 3
    assert set(rows["metric"]) == {AWARENESS}
    first = rows[(rows["n"] == 32) & (rows["data_seed"] == 0)].iloc[0]
    assert first["value"] == pytest.approx(0.6)
    assert awareness_rows(NONE).empty


def test_auroc_has_a_learning_curve_and_a_law(tmp_path: Path):
    run = store.RunFolder.create(
        tmp_path, {"study": "evaluate", "name": "", "config": {}, "data": {}, "result_version": 1}
    )
    own = metrics("nmse", lambda n: n**-0.5)
    definitions = store.from_rows([], store.METRIC_DEFINITIONS)
    assert with_awareness(run, own, definitions)[0] is own
    store.write_table(run.tables, "shifts", shifts())
    both, definitions = with_awareness(run, own, definitions)
    (curve,) = learning_curves(both, definitions, [AWARENESS])
    assert curve.followed
    np.testing.assert_allclose(curve.table[0], 0.4 * (32 / np.array(SIZES)) ** 0.5)  # 1 − AUROC
    found = laws(own, awareness_rows(shifts()))
    assert found.loc[(AWARENESS, "exponent"), "value"] == pytest.approx(0.5, abs=0.02)
    assert found.loc[(AWARENESS, "floor"), "value"] == pytest.approx(1, abs=0.01)
    assert found.loc[(AWARENESS, "amplitude"), "value"] < 0  # it rises


@pytest.mark.parametrize("name", ["spread_skill", "worst_error", "condition_number"])
def test_deep_checks_and_ratios_have_laws_with_three_sizes(name: str):
    found = laws(metrics(name, lambda n: 0.5 + 4 / n, SIZES[:3]), awareness_rows(NONE))
    assert found.loc[(name, "floor"), "value"] == pytest.approx(0.5, rel=0.02)
    assert found.loc[(name, "exponent"), "value"] == pytest.approx(1, rel=0.05)
    assert set(found["sizes"]) == {3}
    rows, band = _scaling(metrics(name, lambda n: 0.5 + 4 / n, SIZES[:2]), awareness_rows(NONE))
    assert {row["status"] for row in rows} == {"too few sizes"}
    assert band == []


def test_the_over_confidence_slope():
    falling = laws(metrics("spread_skill", lambda n: n**-0.1), awareness_rows(NONE))
    slope = falling.loc[("spread_skill", "log_slope")]
    assert slope["value"] == pytest.approx(-0.1)
    assert slope["lower"] <= -0.1 + 1e-9
    assert slope["upper"] >= -0.1 - 1e-9
    other = laws(metrics("nmse", lambda n: n**-0.1), awareness_rows(NONE))
    assert ("nmse", "log_slope") not in other.index
