"""The plan in words and as a figure, for every verdict, and its absence."""

from math import inf, nan
from pathlib import Path

import pytest

from latens import store
from latens.reporting import back_test_text, plan_text, read_plan, read_results, write_report
from latens.reporting.facts import stopped_from, stopped_words
from latens.reporting.headlines import caveats
from latens.reporting.plan import format_size
from latens.reporting.plan_figure import plan_panel
from reporting.synthetic_run import IDENTITY, SOLVERS, curves

VERDICTS = [
    # verdict, n, lower, upper, words, interval
    ("reached", 310.4, 190.0, inf, "310", "[190, > 4096]"),
    ("reached", 40.0, 0.0, 95.51, "40", "[≤ 32, 96]"),
    ("lost", 215.0, 39.0, 400.0, "until 215", "[39, 400]"),
    ("met throughout", nan, 0.0, 0.0, "≤ 32", ""),
    ("met throughout", nan, 0.0, 70.0, "≤ 32", "[≤ 32, 70]"),
    ("not within range", nan, 4096.0, inf, "> 4096", ""),
]
OTHERS = ("floor misses the bar", "cannot say", "uses no training data")


def _row(solver: str, verdict: str, n: float, lower: float, upper: float) -> dict:
    bar = {"bar": "nmse<=0.04", "purpose": "given", "bar_lower": -inf, "bar_upper": 0.04}
    said = {"verdict": verdict, "n": n, "lower": lower, "upper": upper, "level": 0.9, "met": 0.25}
    rest = {"floor_p": nan, "law": "floor", "smallest": 32, "largest": 512, "data_seeds": 3}
    words = {"reason": "a reason", "advice": "Do this."}
    return {"solver": solver, "metric": "nmse", **bar, **said, **rest, **words}


def _write(folder: Path, rows: list[dict]) -> store.RunFolder:
    run = store.RunFolder.create(folder, IDENTITY)
    store.write_table(run.tables, store.CURVES, store.from_rows(curves(), store.CURVES))
    store.write_table(run.tables, store.PLAN, store.from_rows(rows, store.PLAN))
    band = [
        {"solver": row["solver"], "metric": "nmse", "n": n, "value": 3 / n + 0.02}
        | {"lower": 2 / n + 0.02, "upper": 4 / n + 0.02, "level": 0.9}
        for row in rows
        for n in (32.0, 512.0, 4096.0)
    ]
    store.write_table(run.tables, store.PLAN_BAND, store.from_rows(band, store.PLAN_BAND))
    return run


@pytest.mark.parametrize(("verdict", "n", "lower", "upper", "words", "interval"), VERDICTS)
def test_words(verdict, n, lower, upper, words, interval, tmp_path: Path):
    run = _write(tmp_path / "run", [_row("cvae", verdict, n, lower, upper)])
    (bar,) = read_plan(run, read_results(run)).bars
    (row,) = bar.rows
    assert (row.size.text, row.size.interval) == (words, interval)
    assert (row.met.text, row.note) == ("25%", "A reason. Do this.")
    assert row.met_at_all == (verdict in ("reached", "met throughout"))
    text = plan_text(run)
    assert bar.text == "at most 0.04"
    assert words in text
    assert "No N beyond 4096" in text


def test_solvers_whose_budget_ended_training_are_named(tmp_path: Path):
    """From the smallest N from which on more than half of the cells stopped, at every size."""
    run = _write(tmp_path / "run", [_row(s, "reached", 150.0, 100.0, 200.0) for s in SOLVERS[1:3]])
    assert "budget" not in plan_text(run)
    first, second = SOLVERS[1:3]
    stopped = {(first, 32): 3, (first, 64): 1, (first, 128): 2, (first, 256): 3, (second, 64): 3}
    cells = [
        {"solver": solver, "n": n, "data_seed": seed, "init_seed": 0, "metric": "nmse"}
        | {"value": 0.1, "lower": 0.05, "upper": 0.2, "level": 0.95, "images": 10, "groups": 10}
        | {"status": "stopped" if seed < stopped.get((solver, n), 0) else "converged"}
        | {"evaluation": f"{solver}{n}{seed}"}
        for solver in (first, second)
        for n in (32, 64, 128, 256)
        for seed in range(3)
    ]
    store.write_table(run.tables, store.METRICS, store.from_rows(cells, store.METRICS))
    assert stopped_from(read_results(run)) == {first: 128}
    assert f"{first} from N = 128 on." in plan_text(run).replace("\n", " ")
    assert stopped_words(read_results(run)) in caveats(read_results(run))


def test_sizes():
    assert [format_size(n) for n in (31.6, 95.51, 310.4, 4096.0, inf)] == [
        "32", "96", "310", "4100", "∞",
    ]  # fmt: skip


def test_a_figure_with_the_bar_and_its_crossings(tmp_path: Path):
    rows = [_row(s, "reached", 150.0, 100.0, 200.0) for s in SOLVERS[1:3]]
    rows += [_row(s, v, nan, inf, inf) for s, v in zip(SOLVERS[3:], OTHERS, strict=True)]
    run = _write(tmp_path / "run", rows)
    results = read_results(run)
    plan = read_plan(run, results)
    figure = plan_panel(results.curves, plan.band, plan.bars[0], results.solvers or SOLVERS)
    ax = figure.axes[0]
    assert any(list(line.get_ydata()) == [0.04, 0.04] for line in ax.lines)
    assert ax.get_xlim()[1] >= 4096
    assert ax.get_ylim()[0] < 0.04 < ax.get_ylim()[1]
    dotted = [c for c in ax.collections if str(c.get_gid()) == f"series:{SOLVERS[1]}"]
    assert dotted
    assert write_report(run).stat().st_size < 1e6


def test_without_a_plan(empty_run: store.RunFolder):
    assert plan_text(empty_run) == "There is no plan yet.\n"
    assert "nothing is compared" in back_test_text(empty_run)
    assert "No plan was made" in write_report(empty_run).read_text("utf-8")


def test_the_verdict_of_a_back_test(empty_run: store.RunFolder):
    outcomes = ((-1.0, 200.0, 1.0, 0), (0.5, inf, inf, 1), (2.0, inf, inf, 1))
    rows = [
        {"solver": "cvae", "metric": "nmse", "target": 0.1, "found": 256.0, "found_lower": 200.0}
        | {"found_upper": 300.0, "foretold": 256.0 * 2**ratio, "lower": 100.0, "upper": upper}
        | {"level": 0.9, "log2_ratio": ratio, "octaves": width, "contains": inside, "counts": 1}
        for ratio, upper, width, inside in outcomes
    ]
    rows.append({**rows[0], "counts": 0, "log2_ratio": 9.0})
    frame = store.from_rows(rows, store.BACK_TEST)
    store.write_table(empty_run.tables, store.BACK_TEST, frame)
    verdict = read_plan(empty_run, read_results(empty_run)).verdict
    assert verdict is not None
    assert (verdict.targets, verdict.all) == (3, 4)
    assert verdict.contained == pytest.approx(2 / 3)
    assert (verdict.ratio, verdict.bounded) == (1.0, pytest.approx(1 / 3))
    text = back_test_text(empty_run)
    assert "factor of 2 in the median (|log₂| = 1.00)" in text
    assert "3 targets, of 4 tried" in text
    assert "most are open above" in text
