"""`latens run scarcity` from end to end: what it writes, and what it leaves alone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from latens.store import METRICS, RunFolder, read_table
from stand_ins.tiny_study import (
    TINY,
    leftovers,
    run,
    small,
    statuses,
    tables,
    units,
    write_config,
)


def test_whole_run_and_repetition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = write_config(tmp_path / "tiny.yaml", TINY), tmp_path / "run"
    assert run(config, out) == 0
    text = capsys.readouterr()
    assert f"report: {out}/report.html" in text.out
    assert "PSNR" in text.out
    assert "latent_ensemble" in text.out
    assert "16 fits and 32 evaluations" in text.err
    assert (out / "report.html").stat().st_size > 10_000
    assert {file.suffix for file in (out / "figures").iterdir()} == {".pdf", ".svg"}
    assert len(statuses(out, "fits")) == 16
    assert len(statuses(out, "evaluations")) == 32
    assert leftovers(out) == []

    metrics = read_table(out / "tables", METRICS)
    assert set(metrics["solver"]) == {"latent", "latent_ensemble", "tikhonov"}
    assert set(metrics["n"]) == {16, 32, 48, 64}
    errors = metrics[(metrics["metric"] == "mse") & (metrics["solver"] == "tikhonov")]
    assert errors["value"].between(1e-4, 1e-2).all()
    scaling = pd.read_csv(out / "tables" / "scaling.csv")
    assert "tikhonov" in set(scaling["solver"])

    before_tables, before_units = tables(out), units(out)
    costs = (out / "cost.csv").read_bytes()
    report = (out / "report.html").read_text()
    monkeypatch.setattr("latens.studies.run.write_figures", lambda folder: None)
    assert run(config, out) == 0
    assert "48 finished before" in capsys.readouterr().err
    assert tables(out) == before_tables
    assert units(out) == before_units
    assert (out / "cost.csv").read_bytes() == costs
    assert (out / "report.html").read_text() == report


def test_run_from_its_own_config_finds_everything_finished(
    small_copy: Path, without_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = units(small_copy)
    assert run(small_copy / "config.yaml", small_copy) == 0
    assert "12 finished before" in capsys.readouterr().err
    assert units(small_copy) == before


def test_number_of_processes_does_not_matter(
    small_run: Path, tmp_path: Path, without_report: None
) -> None:
    config = write_config(tmp_path / "small.yaml", small())
    assert run(config, tmp_path / "two", jobs=2) == 0
    assert tables(tmp_path / "two") == tables(small_run)
    assert units(tmp_path / "two").keys() == units(small_run).keys()
    assert leftovers(tmp_path / "two") == []


def test_another_setting_adds_units_and_the_tables_show_only_its_own(
    small_copy: Path, tmp_path: Path, without_report: None
) -> None:
    before = units(small_copy)
    first = tables(small_copy)
    changed = small(sizes=[16, 24], ensembles=[])
    assert run(write_config(tmp_path / "b.yaml", changed), small_copy) == 0
    after = units(small_copy)
    assert before.items() < after.items()
    metrics = read_table(small_copy / "tables", METRICS)
    assert set(metrics["n"]) == {16, 24}
    assert set(metrics["solver"]) == {"latent", "tikhonov"}
    listed = json.loads((small_copy / "tables" / "units.json").read_text())
    assert set(metrics["evaluation"]) == set(listed["evaluations"])
    assert len(listed["fits"]) == 4

    from latens.reporting.results import read_results

    results = read_results(RunFolder(small_copy))
    assert "latent_ensemble" not in results.solvers
    assert set(results.fits) == set(listed["fits"])

    assert run(write_config(tmp_path / "a.yaml", small()), small_copy) == 0
    assert tables(small_copy) == first
    assert units(small_copy) == after


def test_a_renamed_model_keeps_its_units_and_takes_its_name(
    small_copy: Path, tmp_path: Path, without_report: None
) -> None:
    import latens

    before = units(small_copy)
    renamed = small(models={"mine": small()["models"]["latent"]}, ensembles=["mine"])
    assert run(write_config(tmp_path / "r.yaml", renamed), small_copy) == 0
    assert units(small_copy) == before
    metrics = read_table(small_copy / "tables", METRICS)
    assert set(metrics["solver"]) == {"mine", "mine_ensemble", "tikhonov"}
    assert latens.load(small_copy, "mine_ensemble").name == "mine_ensemble"


def test_a_deleted_fit_is_repeated_with_its_evaluations(
    small_copy: Path, tmp_path: Path, without_report: None
) -> None:
    import shutil

    before, first = units(small_copy), tables(small_copy)
    victim = sorted((small_copy / "fits").iterdir())[0]
    shutil.rmtree(victim)
    assert run(write_config(tmp_path / "s.yaml", small()), small_copy) == 0
    after = units(small_copy)
    again = {Path(name).parts[1] for name in after if after[name] != before.get(name)}
    made_of_it = {
        file.parent.name
        for file in (small_copy / "evaluations").glob("*/evaluation.json")
        if victim.name in json.loads(file.read_text())["fits"]
    }
    assert len(made_of_it) == 2
    assert again == {victim.name, *made_of_it}
    assert tables(small_copy) == first


def test_checkpoints_of_finished_fits_are_removed(
    small_copy: Path, tmp_path: Path, without_report: None
) -> None:
    fit = sorted((small_copy / "fits").iterdir())[0].name
    (small_copy / "resume" / fit).mkdir()
    (small_copy / "resume" / fit / "old.ckpt").write_bytes(b"left by a kill")
    assert run(write_config(tmp_path / "s.yaml", small()), small_copy) == 0
    assert leftovers(small_copy) == []
