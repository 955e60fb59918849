"""Fits that go wrong are recorded and marked; the others go on."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stand_ins.tiny_study import run, small, statuses, write_config

TRUST = ["--trust", "stand_ins"]


def broken(name: str, **settings: object) -> dict[str, object]:
    return {"class_path": f"stand_ins.broken_models.{name}", "init_args": settings}


def study(tmp_path: Path, **models: object) -> Path:
    tree = small(models=models, ensembles=[], sizes=[16])
    return write_config(tmp_path / "broken.yaml", tree)


def by_solver(out: Path) -> dict[str, set[str]]:
    """Statuses of the evaluations of each solver."""
    found: dict[str, set[str]] = {}
    for hash, status in statuses(out, "evaluations").items():
        entry = json.loads((out / "evaluations" / hash / "evaluation.json").read_text())
        found.setdefault(entry["solver"], set()).add(status)
    return found


def test_failed_fits_are_marked_and_the_others_finish(
    tmp_path: Path, without_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    good = small()["models"]["latent"]
    models = {"raising": broken("Raising"), "lost": broken("NotFinite"), "latent": good}
    tree = small(models=models, ensembles=["lost"], sizes=[16])
    config, out = write_config(tmp_path / "b.yaml", tree), tmp_path / "run"
    assert run(config, out, extra=TRUST) == 0
    text = capsys.readouterr()
    assert "failed: raising, N = 16, data seed 0, init seed 0 (fits/" in text.out
    assert "RuntimeError: a fault in two lines (broken_models.py:" in text.out
    assert "nan: lost, N = 16, data seed 0, init seed 1" in text.out
    assert "delete its folder" in text.out
    fits = sorted(statuses(out, "fits").values())
    assert fits.count("failed") == 2
    assert fits.count("nan") == 2
    evaluations = by_solver(out)
    assert evaluations["raising"] == {"failed"}
    assert evaluations["lost"] == {"nan"}
    assert evaluations["lost_ensemble"] == {"nan"}
    assert evaluations["tikhonov"] == {"converged"}
    curves = pd.read_csv(out / "tables" / "curves.csv")
    marks = {solver: set(rows["status"]) for solver, rows in curves.groupby("solver")}
    assert marks["raising"] == {"2 of 2 failed"}
    assert marks["lost"] == {"2 of 2 nan"}
    assert marks["tikhonov"] == {"ok"}
    assert curves.loc[curves["solver"] == "raising", "mean"].isna().all()


def test_a_run_in_which_everything_fails_still_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = small(models={"raising": broken("Raising")}, ensembles=[], baselines=[], sizes=[16])
    out = tmp_path / "run"
    assert run(write_config(tmp_path / "b.yaml", tree), out, extra=TRUST) == 0
    assert "a fault in two lines" in capsys.readouterr().out
    assert "a fault in two lines" in (out / "report.html").read_text()


def test_an_evaluation_that_fails_alone_is_named(
    tmp_path: Path,
    without_report: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from latens.studies import work

    def refuse(*arguments: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(work, "evaluate_cell", refuse)
    tree = small(models={}, ensembles=[], sizes=[16])
    assert run(write_config(tmp_path / "t.yaml", tree), tmp_path / "run") == 0
    assert "failed: tikhonov, N = 16, data seed 0" in capsys.readouterr().out


def test_a_full_disk_stops_the_run_and_records_nothing(
    small_copy: Path,
    tmp_path: Path,
    without_report: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import errno

    from latens.studies import work

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = statuses(small_copy, "evaluations")
    monkeypatch.setattr(work, "save_evaluation", full)
    config = write_config(tmp_path / "more.yaml", small(sizes=[16, 24, 32]))
    assert run(config, small_copy) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("latens: `")
    assert "space" in line
    assert statuses(small_copy, "evaluations") == before
    assert not list(small_copy.rglob(".tmp-*"))


def test_a_killed_worker_is_one_line_and_the_run_resumes(
    tmp_path: Path, without_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    cure, out = tmp_path / "cure", tmp_path / "run"
    tree = small(models={"deadly": broken("Deadly", cure=str(cure))}, ensembles=[], sizes=[16])
    config = write_config(tmp_path / "d.yaml", tree)
    assert run(config, out, jobs=2, extra=TRUST) == 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("latens: `jobs`: expected worker processes that live")
    assert set(statuses(out, "fits")) == set()
    cure.touch()
    assert run(config, out, jobs=1, extra=TRUST) == 0
    assert len(statuses(out, "fits")) == 2
    assert not list(out.rglob(".tmp-*"))


def test_data_that_vanish_from_a_worker_are_named(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latens.errors import DataError
    from latens.studies import workers
    from latens.studies.configure import construct, resolve
    from latens.studies.enumeration import units_of
    from latens.studies.scarcity import Scarcity

    config = resolve(Scarcity, [small()], [])
    fits, _ = units_of(construct(Scarcity, config), config)
    gone = {"class_path": "latens.data.NpyFolder", "init_args": {"path": str(tmp_path / "gone")}}
    orders = "scarcity", resolve(Scarcity, [small(data=gone)], []), str(small_run)
    monkeypatch.setattr(workers, "_orders", orders, raising=False)
    monkeypatch.setattr(workers, "_job", None)
    missing = replace(fits[0], data_seed=5)
    with pytest.raises(DataError, match="gone"):
        workers.work_in_process(missing)
    assert missing.hash not in statuses(small_run, "fits")


def test_ctrl_c_records_nothing(
    tmp_path: Path,
    without_report: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("latens.studies.expected.seconds_per_fit", lambda study, name: 0.0)
    handler = signal.getsignal(signal.SIGINT)
    try:
        config = study(tmp_path, interrupted=broken("Interrupted"))
        assert run(config, tmp_path / "run", extra=TRUST) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "interrupted" in capsys.readouterr().err
    assert statuses(tmp_path / "run", "fits") == {}


@pytest.mark.parametrize(
    ("name", "message"), [("Unbuildable", "no such thing"), ("Neither", "a LatentModel, or")]
)
def test_a_model_that_cannot_take_part_is_refused_before_anything_is_written(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(study(tmp_path, strange=broken(name)), tmp_path / "run", extra=TRUST) == 2
    text = capsys.readouterr().err
    assert text.startswith("latens: `models.strange`: ")
    assert message in text
    assert not (tmp_path / "run").exists()
