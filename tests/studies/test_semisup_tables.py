"""Means of a `semisup` run from the numbers of its evaluations."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scipy import stats

from latens.evaluation.assess import metric_rows
from latens.evaluation.evaluate import Cell, metric_record
from latens.reporting import read_results, summary, summary_text
from latens.reporting.headlines import answers, caveats
from latens.store import (
    CURVES,
    METRICS,
    OVERVIEW,
    Outcome,
    RunFolder,
    Status,
    from_rows,
    read_csv,
    read_table,
    write_csv,
)
from latens.store import write_json as write_tree
from latens.studies.semisup.overview import active_rows, write_overview
from latens.studies.semisup.tables import METRIC, ROWS, gather, image_variance

IMAGES = 400
RIGHT = {0: 0.9, 1: 0.8, 2: 0.94}  # by draw of the labels


def unit(solver: str, seed: int) -> SimpleNamespace:
    name = f"{solver}{seed}".encode().hex().ljust(16, "0")[:16]
    place = {"solver": solver, "n": 50, "data_seed": seed, "check": "", "needs": ()}
    return SimpleNamespace(hash=name, fits=(SimpleNamespace(hash=name[::-1]),), **place)


def rows(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    right = np.zeros((IMAGES, 1))
    right[: round(RIGHT[seed] * IMAGES)] = 1
    errors = generator.gamma(2.0, 0.01, (IMAGES, 2))
    return {"accuracy": right, "rmse_over_twin": errors, "k_eff": np.array([[9.0 + seed]])}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """Three draws of `a`, the second collapsed, and one of `b`, which failed."""
    model = {"init_args": {"decoder": {"trunk": "conv"}, "terms": {"likelihood": "faithful"}}}
    config = {"models": {"a": model}}
    identity = {"study": "semisup", "name": "x", "config": config, "data": {}, "result_version": 5}
    made = RunFolder.create(tmp_path / "run", identity)
    units = [unit("a", seed) for seed in RIGHT] + [unit("b", 0)]
    statuses = [Status.STOPPED, Status.COLLAPSED, Status.CONVERGED, Status.FAILED]
    for each, status in zip(units, statuses, strict=True):
        outcome, folder = Outcome(status, "because"), made.evaluation(each.hash)
        folder.mkdir(parents=True)
        place = {"solver": each.solver, "n": 50, "data_seed": each.data_seed, "init_seed": 0}
        write_tree(folder / "evaluation.json", {**place, "fits": [], "kind": "mixture"})
        outcome.write(folder)
        if status is not Status.FAILED:
            cell = Cell(each.solver, 50, each.data_seed, 0, each.hash)
            found = rows(each.data_seed)
            write_csv(folder / "metrics.csv", METRICS, metric_rows(found, cell, outcome))
            save_file(found, folder / ROWS)
    gather(made, units)  # pyright: ignore[reportArgumentType]
    return made


def test_a_collapsed_cell_is_in_the_mean_and_marked(run):
    curves = read_table(run.tables, CURVES).set_index(["solver", "metric"])
    accuracy = curves.loc[("a", "accuracy")]
    assert accuracy["mean"] == pytest.approx(np.mean(list(RIGHT.values())))
    assert (accuracy["fits"], accuracy["excluded"]) == (3, 0)
    assert accuracy["status"] == "1 of 3 collapsed"
    assert curves.loc[("a", "k_eff")]["mean"] == pytest.approx(10)
    results = read_results(run)
    cells = {row.solver: row for row in summary(results, 50)}["a"].cells
    assert cells["accuracy"].mark == "1 of 3 collapsed"
    assert cells["accuracy"].kind == "value"
    assert "1 of 3 collapsed" in summary_text(run, width=200)
    assert not any("left out of every mean" in note for note in caveats(results))


def test_the_overview_has_settings_numbers_and_minutes_of_each_model(run):
    for seed, seconds in ((0, 60.0), (1, 180.0)):
        (fit,) = unit("a", seed).fits
        run.record_cost("fit", fit.hash, "of another name", 50, seed, 0, seconds, 1.0)
    gather(run, [unit("a", seed) for seed in RIGHT])  # pyright: ignore[reportArgumentType]
    row = read_csv(run.path / "overview.csv", OVERVIEW).set_index("solver").loc["a"]
    assert (row["trunk"], row["objective"], row["labels"]) == ("conv", "faithful", 50)
    assert row["accuracy"] == pytest.approx(np.mean(list(RIGHT.values())))
    assert row["k_eff"] == pytest.approx(10)
    assert row["minutes"] == pytest.approx(2)
    assert np.isnan(row["neg_elbo"])
    assert row["status"] == "1 of 3 collapsed"


def test_a_chain_of_rounds_has_the_settings_of_its_model(run):
    place = {"metric": "accuracy", "fits": 1, "excluded": 0, "status": "ok", "n": 50}
    numbers = dict.fromkeys(("mean", "lower", "upper", "level"), 0.5)
    rows = [{**place, **numbers, "solver": solver} for solver in ("a", "a bald")]
    write_overview(run, [], pd.DataFrame(rows))
    table = read_csv(run.path / "overview.csv", OVERVIEW).set_index("solver")
    for column in ("trunk", "objective"):
        assert table.loc["a bald", column] == table.loc["a", column] != ""


def test_chosen_labels_are_compared_with_drawn_ones_draw_by_draw():
    found = {
        ("a", 100): [0.90, 0.80, 0.70],
        ("a bald", 25): [0.5, 0.5, 0.5],
        ("a bald", 50): [0.93, 0.82, 0.74],
        ("b", 100): [0.1, 0.1, 0.1],
    }
    records = []
    for (solver, n), values in found.items():
        for seed, value in enumerate(values):
            number = value, np.nan, np.nan, np.nan
            cell, ok = Cell(solver, n, seed, 0, "hash"), Outcome(Status.STOPPED)
            records.append(metric_record(cell, ok, "accuracy", number, images=9, groups=9))
    table = active_rows(from_rows(records, METRICS))
    assert table[["acquisition", "n", "drawn"]].to_numpy().tolist() == [
        ["bald", 25, 100],
        ["bald", 50, 100],
    ]
    last = table.iloc[1]
    gain = np.array([0.03, 0.02, 0.04])
    assert last["value"] == pytest.approx(0.03)
    radius = stats.t.ppf(0.975, 2) * gain.std(ddof=1) / np.sqrt(3)
    assert last["lower"] == pytest.approx(0.03 - radius)  # between draws accuracy varies by .1


def test_a_failed_cell_has_no_mean(run):
    curves = read_table(run.tables, CURVES).set_index(["solver", "metric"])
    assert np.isnan(curves.loc[("b", "accuracy")]["mean"])
    assert curves.loc[("b", "accuracy")]["excluded"] == 1


def test_the_interval_holds_the_variance_over_images_too(run):
    curves = read_table(run.tables, CURVES).set_index(["solver", "metric"])
    row = curves.loc[("a", "accuracy")]
    values = np.array(list(RIGHT.values()))
    seeds = values.var(ddof=1) / 3
    mean = np.mean([rows(seed)["accuracy"] for seed in RIGHT], axis=0)
    images = mean.var(ddof=1) / IMAGES
    degrees = (seeds + images) ** 2 / (seeds**2 / 2 + images**2 / (IMAGES - 1))
    radius = stats.t.ppf(0.975, degrees) * np.sqrt(seeds + images)
    assert row["lower"] == pytest.approx(values.mean() - radius)
    alone = stats.t.ppf(0.975, 2) * np.sqrt(np.array([9, 10, 11.0]).var(ddof=1) / 3)
    assert curves.loc[("a", "k_eff")]["lower"] == pytest.approx(10 - alone)


def test_variance_of_a_ratio_over_images_by_the_bootstrap():
    table = rows(0)["rmse_over_twin"]
    metric, generator = METRIC["rmse_over_twin"], np.random.default_rng(0)
    drawn = [metric.value(table[generator.integers(0, IMAGES, IMAGES)]) for _ in range(2000)]
    assert image_variance(metric, table) == pytest.approx(np.var(drawn), rel=0.15)


def test_what_is_better_the_higher_has_no_target(run):
    """An ideal value of 1 is no bar: only the coverage of σ has a value to hit."""
    leads = [answer.lead for answer in answers(read_results(run))]
    assert leads
    assert not any("target" in lead for lead in leads)
