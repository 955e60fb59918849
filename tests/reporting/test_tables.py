"""Tables and sentences: digits, n/a, marks, and claims no stronger than the intervals."""

import math
from dataclasses import replace

import numpy as np
import pytest

from latens import store
from latens.reporting import Definition, read_results, summary, summary_text
from latens.reporting.facts import data_facts, describe, problem_facts, status_counts
from latens.reporting.headlines import answers, asked, caveats
from latens.reporting.tables import (
    cost_rows,
    failures,
    format_interval,
    format_value,
    meets_target,
    scaling_rows,
)
from latens.reporting.tiles import gallery
from reporting.synthetic_run import POINTS, SIZES, SOLVERS, UNCERTAIN, curves


@pytest.mark.parametrize(
    ("value", "lower", "upper", "text"),
    [
        (0.94213, 0.9312, 0.9534, "0.942"),
        (24.5618, 24.44, 24.69, "24.56"),
        (1234.5, 1000.0, 1500.0, "1234"),
        (-0.01234, -0.02, -0.005, "−0.0123"),
        (0.5, math.nan, math.nan, "0.5"),
        (0.5, 0.5, 0.5, "0.5"),
        (math.nan, math.nan, math.nan, "–"),
        (math.inf, math.nan, math.nan, "∞"),
        (3.21e-7, 1e-7, 5e-7, "3.21e−07"),
        (-0.3, -600.0, 600.0, "0"),
    ],
)
def test_digits_follow_the_interval(value: float, lower: float, upper: float, text: str) -> None:
    assert format_value(value, lower, upper) == text


def test_interval_has_the_digits_of_its_value() -> None:
    assert format_interval(0.94213, 0.9312, 0.9534) == "[0.931, 0.953]"
    assert format_interval(1.0, math.nan, 2.0) == ""


def test_target_is_met_only_by_an_interval_that_contains_it() -> None:
    aim = Definition("coverage", "coverage", better="target", target=0.95)
    assert meets_target(aim, 0.93, 0.96)
    assert not meets_target(aim, 0.90, 0.94)
    assert not meets_target(aim, math.nan, math.nan)
    ideal = Definition("nmse", "NMSE", better="lower", target=0.0)
    assert not meets_target(ideal, 0.0, 0.1)


def test_point_estimates_have_no_uncertainty(run: store.RunFolder) -> None:
    results = read_results(run)
    rows = {row.solver: row for row in summary(results, SIZES[-1])}
    assert list(rows) == results.solvers
    for solver in SOLVERS:
        for metric in results.measured:
            absent = solver in POINTS and metric in UNCERTAIN
            assert (rows[solver].cells[metric].text == "n/a") == absent


def test_excluded_cells_are_marked(run: store.RunFolder) -> None:
    results = read_results(run)
    cells = {row.solver: row.cells["psnr"] for row in summary(results, 32)}
    assert cells["latent"].mark == "1 of 6 cells excluded"
    assert cells["cvae"].mark == ""


def test_size_at_which_all_cells_collapsed_shows_the_word(empty_run: store.RunFolder) -> None:
    rows = curves()
    for row in rows:
        if row["solver"] == "latent" and row["n"] == 64:
            lost = {"mean": math.nan, "lower": math.nan, "upper": math.nan}
            row.update(lost, fits=0, excluded=6, status="collapsed")
    store.write_table(empty_run.tables, store.CURVES, store.from_rows(rows, store.CURVES))
    results = read_results(empty_run)
    cell = {r.solver: r for r in summary(results, 64)}["latent"].cells["nmse"]
    assert (cell.kind, cell.text, cell.mark) == (
        "status",
        "collapsed",
        "all 6 cells excluded",
    )


def test_laws_that_were_not_identified_say_so(run: store.RunFolder) -> None:
    rows = {row.solver: row for row in scaling_rows(read_results(run))}
    assert set(rows) == set(SOLVERS)
    assert rows["tikhonov"].status == "not identified"
    assert [c.text for c in rows["tikhonov"].parameters] == ["–"] * 4
    assert rows["cvae"].parameters[0].text == "0.0240"
    assert rows["cvae"].parameters[2].interval == "[0.83, 1.03]"


def test_failures_carry_cell_and_reason(run: store.RunFolder) -> None:
    found = failures(read_results(run))
    cells = {(f.cell["solver"], f.cell["n"], f.cell["data_seed"], f.status) for f in found}
    assert cells == {("cvae", 64, 2, "nan"), ("latent", 32, 1, "collapsed")}
    assert all(f.message for f in found)


def test_every_fit_is_counted_once(run: store.RunFolder) -> None:
    counts = status_counts(read_results(run))
    assert counts["cvae"] == {"converged": 29, "nan": 1}
    assert sum(sum(of_solver.values()) for of_solver in counts.values()) == 120


def test_cost_adds_up(run: store.RunFolder) -> None:
    results = read_results(run)
    rows = cost_rows(results)
    assert sum(row.count for row in rows) == len(results.cost)
    assert sum(row.total for row in rows) == pytest.approx(results.cost["seconds"].sum())
    assert {row.memory for row in rows if row.unit == "fit"} == {410.0 + 0.1 * SIZES[-1]}


def test_facts_are_found_in_description_and_configuration(run: store.RunFolder) -> None:
    results = read_results(run)
    assert ("fingerprint", "sha256:5f1d3a9c") in data_facts(results)
    assert problem_facts(results) == [
        ("operator", "GaussianBlur(width=2.0)"),
        ("noise", "GaussianNoise(std=0.05)"),
    ]
    assert describe({"class_path": "a.B", "init_args": {"x": [1, None]}}) == "B(x=1, not given)"


def test_metrics_stand_under_their_headings(run: store.RunFolder) -> None:
    assert read_results(run).groups == [
        ("Reconstruction quality", ["psnr", "nmse"]),
        ("Calibration", ["coverage_pixel", "coverage_region", "spread_skill"]),
        ("Sharpness and scores", ["interval_width", "crps"]),
    ]


def test_a_metric_without_a_definition_comes_last(empty_run: store.RunFolder) -> None:
    rows = curve("cvae", {16: (0.8, 0.79, 0.81)})
    rows += [{**row, "metric": "mystery"} for row in rows]
    store.write_table(empty_run.tables, store.CURVES, store.from_rows(rows, store.CURVES))
    assert read_results(empty_run).groups == [("Other", ["coverage_pixel", "mystery"])]


def curve(solver: str, points: dict[int, tuple[float, float, float]]) -> list[dict]:
    return [
        {
            "solver": solver,
            "n": n,
            "metric": "coverage_pixel",
            "mean": mean,
            "lower": lower,
            "upper": upper,
            "level": 0.95,
            "data_seeds": 3,
            "fits": 6,
            "excluded": 0,
            "status": "converged",
        }
        for n, (mean, lower, upper) in points.items()
    ]


def test_sentence_says_where_the_target_is_first_contained(empty_run: store.RunFolder) -> None:
    bad, good = (0.8, 0.79, 0.81), (0.95, 0.93, 0.96)
    rows = [
        *curve("cvae", {16: bad, 32: good, 64: good}),
        *curve("latent", {16: bad, 32: bad, 64: good}),
        *curve("direct", {16: bad, 32: bad, 64: bad}),
        *curve("hmc", {16: good, 32: bad, 64: bad}),
        *curve("map", {16: (0.95, math.nan, math.nan)}),
    ]
    store.write_table(empty_run.tables, store.CURVES, store.from_rows(rows, store.CURVES))
    schema = store.METRIC_DEFINITIONS
    definition = (
        "coverage_pixel",
        "coverage",
        "",
        "target",
        0.95,
        "Fraction inside.",
        "Calibration",
    )
    table = store.from_rows([dict(zip(schema.columns, definition, strict=True))], schema)
    store.write_csv(empty_run.tables / "metric_definitions.csv", schema, table)
    results = read_results(empty_run)
    (headline,) = answers(results)
    assert headline.lead == "Coverage, target 0.95"
    assert headline.text.replace("\xa0", " ") == (
        "The interval contains 0.95 from N = 32 on for cvae, at N = 64, the largest size, for "
        "latent and for hmc at N = 16 only. At no measured size for direct "
        "(0.800 [0.790, 0.810] at N = 64)."
    )
    assert any("without an interval" in note for note in caveats(results))


def test_ranking_speaks_of_overlap(run: store.RunFolder) -> None:
    results = read_results(run)
    first = answers(results)[0]
    assert first.lead == "PSNR"
    means = {s: results.cell(s, SIZES[-1], "psnr") for s in SOLVERS}
    best = max(SOLVERS, key=lambda s: means[s]["mean"] if means[s] else -np.inf)
    assert f"by {best}." in first.text
    assert "overlap" in first.text
    text = asked(results).replace("\xa0", " ")
    assert "6 solvers" in text
    assert "from N = 32 to 512" in text


def test_solvers_on_fewer_images_are_ranked_with_nobody(run: store.RunFolder) -> None:
    whole = read_results(run)
    best = answers(whole)[0].text.replace("\xa0", " ").partition(", by ")[2].split(".")[0]
    metrics = whole.metrics.assign(
        images=whole.metrics["images"].where(whole.metrics["solver"] != best, 6)
    )
    partial = replace(whole, metrics=metrics)
    ranking = answers(partial)[0].text
    assert best not in ranking.partition(", by ")[2].split()
    assert f"but {best} on fewer" in asked(partial)
    assert any(f"{best} (6)" in note for note in caveats(partial))
    assert "fewer" not in " ".join([asked(whole), *caveats(whole)])


def test_gallery_states_scales_and_shares_outside(run: store.RunFolder) -> None:
    from latens.reporting import choose_examples

    drawn = gallery(choose_examples(read_results(run)))
    assert drawn is not None
    assert list(drawn.sizes) == list(SIZES)
    assert drawn.kept == 2
    assert drawn.level == 0.95
    assert 0.05 < drawn.scale < 1.0
    block = drawn.sizes[32][0]
    unet = next(s for s in block.solvers if s.solver == "unet")
    assert [bool(t.source) for t in unet.tiles] == [True, False, True, False]
    cvae = next(s for s in block.solvers if s.solver == "cvae")
    assert cvae.tiles[3].caption.endswith("% outside")
    assert cvae.seeds == "data seed 0, init seed 0"


def test_terminal_summary_is_plain_text(run: store.RunFolder) -> None:
    text = summary_text(run, width=120)
    assert "N = 512" in text
    assert "n/a" in text
    assert "\x1b" not in text
    assert "2 of 120 fits are excluded: 1 collapsed, 1 nan." in text
    assert "direct: not a posterior" in text
    assert max(map(len, text.splitlines())) <= 120


def test_terminal_summary_of_an_empty_run(empty_run: store.RunFolder) -> None:
    assert summary_text(empty_run).startswith("No results yet")


@pytest.mark.parametrize(
    ("label", "title"), [("mean error", "Mean error"), ("σ at its bounds", "σ at its bounds")]
)
def test_a_title_begins_with_a_capital_and_a_symbol_stays(label, title):
    assert Definition("any", label).title == title
