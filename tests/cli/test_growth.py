"""`latens run growth` and `latens forecast`, from a table to a table."""

import csv
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from latens.cli import main
from latens.data import GrowthSimulation
from latens.errors import NumericalError
from latens.evaluation.forecasts import ForecastScores
from latens.inference.forecasting import HierarchicalGompertz, LatentODEForecaster, support
from latens.store import read_csv
from latens.store.schemas import FORECAST, FORECAST_METRICS, FORECAST_SCORES
from latens.studies import growth, growth_tables
from latens.studies.configure import construct, resolve
from latens.studies.growth_run import _unit_hash

TINY = {
    "forecasters": ["last_value", "exponential", "hierarchical_gompertz", "latent_ode"],
    "min_visits": 5,
    "folds": 2,
    "members": 1,
    "training": {
        "max_steps": 20,
        "batch_size": 16,
        "warmup_steps": 2,
        "kl_warmup_steps": 5,
        "validate_every": 10,
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    series, _ = GrowthSimulation(count=40, visits=5, repeat=0.2, limit=20.0).make(0)
    path = tmp_path_factory.mktemp("series") / "lesions.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["day", "mm3", "id"])
        for i, name in enumerate(series.patients):
            for t, v in zip(series.times[i].tolist(), series.volumes[i].tolist(), strict=True):
                writer.writerow([t, v, name])
    return path


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    folder = table.parent / "run"
    config = table.parent / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    data = ["--data.path", str(table), "--data.patient", "id", "--data.time", "day"]
    arguments = ["run", "growth", "--stage", "ode", "--config", str(config), "--out", str(folder)]
    coarse = partial(HierarchicalGompertz, points=4, rounds=1, parameter_draws=3)
    with pytest.MonkeyPatch.context() as patch:  # a rough fit travels as far as a good one
        patch.setattr(growth, "HierarchicalGompertz", coarse)
        assert main([*arguments, *data, "--data.volume", "mm3"]) == 0
    return folder


def test_tables_of_a_run(run: Path) -> None:
    scores = read_csv(run / "tables" / "forecast_scores.csv", FORECAST_SCORES)
    assert len(scores) == 5 * 40
    assert set(scores["forecaster"]) == {*TINY["forecasters"], "chosen"}
    chosen = scores[scores["forecaster"] == "chosen"]
    assert (chosen.groupby("fold")["made_by"].nunique() == 1).all()
    behind = scores.set_index(["forecaster", "patient"])["crps"]
    keys = list(zip(chosen["made_by"], chosen["patient"], strict=True))
    assert behind.loc[keys].tolist() == chosen["crps"].tolist()
    assert ((scores["lower"] <= scores["median"]) & (scores["median"] <= scores["upper"])).all()
    metrics = read_csv(run / "tables" / "forecast_metrics.csv", FORECAST_METRICS)
    last = metrics[metrics["forecaster"] == "last_value"]
    assert (last["reference"] == "").all()
    mae = metrics[metrics["metric"] == "forecast_mae"].set_index("forecaster")
    for name in TINY["forecasters"]:
        own = scores[scores["forecaster"] == name]["absolute_error"].mean()
        assert mae.loc[name, "value"] == pytest.approx(own)
    gap = mae.loc["exponential", "value"] - mae.loc["last_value", "value"]
    assert mae.loc["exponential", "difference"] == pytest.approx(gap)
    described = json.loads((run / "run.json").read_text())
    assert described["data"]["patients"] == 40


def test_a_second_run_computes_nothing(
    run: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {f: f.stat().st_mtime_ns for f in run.glob("*/*/*.npy")}
    arguments = ["run", "growth", "--config", str(table.parent / "tiny.yaml"), "--out", str(run)]
    named = ["--data.path", str(table), "--data.patient", "id", "--data.time", "day"]
    assert main([*arguments, *named, "--data.volume", "mm3"]) == 0
    assert "folds in" not in capsys.readouterr().err
    assert {f: f.stat().st_mtime_ns for f in run.glob("*/*/*.npy")} == before


def test_another_limit_of_detection_is_another_result(table: Path, tmp_path: Path) -> None:
    arguments = ["run", "growth", "--stage", "ode", "--out", str(tmp_path / "run")]
    arguments += ["--data.path", str(table), "--data.patient", "id", "--data.time", "day"]
    arguments += ["--data.volume", "mm3", "--forecasters", "[last_value]"]
    arguments += ["--min_visits", "5", "--folds", "2", "--data.limit"]
    for limit in (30.0, 800.0):
        assert main([*arguments, str(limit)]) == 0
        scores = read_csv(tmp_path / "run" / "tables" / "forecast_scores.csv", FORECAST_SCORES)
        assert scores["truth"].min() >= math.log(limit) - 1e-12
        assert scores["lower"].min() >= math.log(limit) - 1e-12


def test_what_is_forecast_does_not_decide_the_limit_of_detection(tmp_path: Path) -> None:
    """One last visit below all others: it counts as not seen, and the scale of scores stays."""
    found = {}
    for last in (0.01, 900.0):
        file = tmp_path / f"{last}.csv"
        rows = [f"p{i},{k},{1000 + 10 * i + k}" for i in range(8) for k in range(4)]
        rows[3] = f"p0,3,{last}"
        file.write_text("patient,time,volume\n" + "\n".join(rows) + "\n")
        out = tmp_path / f"run{last}"
        few = ["--forecasters", "[last_value]", "--min_visits", "4", "--folds", "2"]
        assert main(["run", "growth", "--data.path", str(file), *few, "--out", str(out)]) == 0
        found[last] = read_csv(out / "tables" / "forecast_scores.csv", FORECAST_SCORES)
        described = json.loads((out / "run.json").read_text())["data"]
        assert described["limit"] == 1000
        assert "smallest positive volume of the visits" in (out / "report.html").read_text("utf-8")
    assert found[0.01].equals(found[900.0])
    assert found[0.01]["truth"][0] == math.log(1000)


@pytest.mark.parametrize("name", ["hierarchical_gompertz", "latent_ode"])
def test_forecasts_of_new_patients(
    run: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\na,40,2500\na,90,2600\nb,5,0\n")
    out = tmp_path / "forecast.csv"
    horizon = ["--horizon", "30,60,4000", "--forecaster", name, "--out", str(out)]
    assert main(["forecast", str(run), str(series), *horizon]) == 0
    rows = read_csv(out, FORECAST)
    assert rows["patient"].tolist() == ["a"] * 3 + ["b"] * 3
    assert rows["time"].tolist() == [120, 150, 4090, 35, 65, 4005]
    assert ((rows["lower"] <= rows["median"]) & (rows["median"] <= rows["upper"])).all()
    assert (rows["upper"] > 0).all()
    assert rows["unseen"].between(0, 1).all()
    assert rows["doubts"][0] == ""
    assert "days after the last visit" in rows["doubts"][2]
    assert "a at 4090" in capsys.readouterr().out
    assert main(["forecast", str(run), str(series), *horizon]) == 2  # it exists


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hierarchical_gompertz", "run the study with --sampler nuts"),
        ("latent_ode", "compare --forecaster hierarchical_gompertz"),
    ],
)
def test_patients_of_few_effective_draws_are_named(
    run: Path,
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No forecast has a thousand effective draws; which one is named, and where."""
    monkeypatch.setattr(support, "FEWEST_DRAWS", 1000)
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\na,40,2500\na,90,2600\n")
    out = tmp_path / "forecast.csv"
    command = [str(series), "--horizon", "30", "--forecaster", name, "--out", str(out)]
    assert main(["forecast", str(run), *command]) == 0
    doubts = read_csv(out, FORECAST)["doubts"][0]
    assert doubts.startswith("few effective draws (")
    assert said in doubts
    assert f"warning: a at 120: {doubts}" in capsys.readouterr().out


def test_tables_say_how_many_patients_have_few_effective_draws(run: Path) -> None:
    """As many as the folds counted, and no warning where none has."""
    metrics = read_csv(run / "tables" / "forecast_metrics.csv", FORECAST_METRICS)
    for name in ("hierarchical_gompertz", "latent_ode"):
        entries = [json.loads(file.read_text()) for file in run.glob("*/*/evaluation.json")]
        (entry,) = [entry for entry in entries if entry["forecaster"] == name]
        few = int(sum(entry["diagnostics"]["patients_of_few_draws"]))
        (said,) = set(metrics[metrics["forecaster"] == name]["doubts"])
        expected = f"{few} of 40 patients have fewer than 20 effective draws of their state"
        assert said == (expected if few else "")
    counts = {"patients_of_few_draws": [1.0, 2.0]}
    scores = ForecastScores("", ("a",) * 40, *[np.zeros(40)] * 5, {}, (0.0, 0.0), counts)
    assert growth_tables._doubts(scores).startswith("3 of 40 patients have fewer than 20")


def test_sampler_and_solver_are_settings() -> None:
    config = resolve(
        growth.Growth,
        [],
        ["--sampler", "nuts", "--ode.dim", "3", "--ode.gradient=adjoint", "--ode.steps=2"],
    )
    study = construct(growth.Growth, {**config, "ode": {**config["ode"], "timed": True}})
    chains = study.maker("hierarchical_gompertz", "next")()
    assert isinstance(chains, HierarchicalGompertz)
    assert chains.sampler == "nuts"
    member = study.maker("latent_ode", "next")().new_model(4)  # pyright: ignore
    assert (member.dim, member.ode.steps, member.ode.gradient) == (3, 2, "adjoint")
    assert member.ode.field.timed
    units = {
        _unit_hash("evaluation", {**config, "sampler": sampler}, "hierarchical_gompertz", "x")
        for sampler in ("importance", "nuts")
    }
    assert len(units) == 2


def test_a_forecaster_that_fails_has_a_row_without_numbers(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def explode(self: LatentODEForecaster, series: object, seed: int = 0) -> None:
        raise NumericalError("loss", "a finite value", "nan at step 3", "Lower the rate.")

    monkeypatch.setattr(LatentODEForecaster, "fit", explode)
    out = tmp_path / "run"
    settings = ["--forecasters", "[last_value,latent_ode]", "--min_visits", "5", "--folds", "2"]
    named = ["--data.path", str(table), "--data.patient", "id", "--data.time", "day"]
    command = ["run", "growth", "--out", str(out), *settings, *named, "--data.volume", "mm3"]
    for _ in range(2):  # computed, then read
        assert main(command) == 0
        told = capsys.readouterr()
        assert "nan at step 3" in told.err
        assert [line.split()[1] for line in told.out.splitlines() if "latent_ode" in line] == [
            "failed"
        ]
    metrics = read_csv(out / "tables" / "forecast_metrics.csv", FORECAST_METRICS)
    assert set(metrics["forecaster"]) == {"last_value", "latent_ode"}
    own = metrics[metrics["forecaster"] == "latent_ode"]
    assert len(own) == len(metrics) / 2
    assert own["value"].isna().all()
    page = (out / "report.html").read_text("utf-8")
    assert "latent ode failed in a fold" in page
    assert "No forecaster has a smaller CRPS" in page
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\n")
    assert main(["forecast", str(out), str(series), "--horizon", "30"]) == 4
    assert "nan at step 3" in capsys.readouterr().err


@pytest.fixture(scope="module")
def calibrated(table: Path) -> Path:
    """A run with calibrated bands beside the others."""
    folder = table.parent / "calibrated"
    config = table.parent / "calibrated.yaml"
    config.write_text(yaml.safe_dump({**TINY, "forecasters": ["last_value", "latent_ode"]}))
    data = ["--data.path", str(table), "--data.patient", "id", "--data.time", "day"]
    arguments = ["run", "growth", "--config", str(config), "--out", str(folder), *data]
    assert main([*arguments, "--data.volume", "mm3", "--conformal", "true"]) == 0
    return folder


def test_calibrated_bands_stand_beside_the_others(calibrated: Path) -> None:
    metrics = read_csv(calibrated / "tables" / "forecast_metrics.csv", FORECAST_METRICS)
    own = ["chosen", "last_value", "latent_ode"]
    names = sorted(own + [f"{name} conformal" for name in own])
    assert sorted(set(metrics["forecaster"])) == names
    table = metrics.pivot(index="forecaster", columns="metric", values="value")
    for name in ("last_value", "latent_ode"):
        own, other = table.loc[name], table.loc[f"{name} conformal"]
        assert own["forecast_mae"] == other["forecast_mae"]
        assert own["forecast_width"] != other["forecast_width"]
    # λ is the largest exceedance of 20 others; networks of 20 patients differ too much for it
    assert table.loc["last_value conformal", "forecast_coverage"] >= 0.875
    assert "Calibrated on the patients of the other folds" in (
        calibrated / "report.html"
    ).read_text("utf-8")


def test_forecasts_with_calibrated_bands(calibrated: Path, run: Path, tmp_path: Path) -> None:
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\na,40,2500\nb,5,0\n")
    out = tmp_path / "forecast.csv"
    command = [str(series), "--horizon", "30,60", "--conformal", "--out", str(out)]
    assert main(["forecast", str(calibrated), *command]) == 0
    rows = read_csv(out, FORECAST)
    (fit,) = (calibrated / "fits").iterdir()
    factor = json.loads((fit / "forecaster.json").read_text())["conformal"]["factor"]
    seen = rows[rows["patient"] == "a"]
    assert seen["conformal_upper"].to_numpy() == pytest.approx(
        seen["upper"].to_numpy() * math.exp(factor), rel=1e-6
    )
    assert main(["forecast", str(run), str(series), "--horizon", "30", "--conformal"]) == 2


BAD_HORIZONS = ["0", "60,30", "soon", "-5", "inf", ""]


@pytest.mark.parametrize("horizon", BAD_HORIZONS)
def test_bad_horizons(
    run: Path, horizon: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\n")
    assert main(["forecast", str(run), str(series), f"--horizon={horizon}"]) == 2
    assert "`horizon`" in capsys.readouterr().err
    assert not (tmp_path / "new-forecast.csv").exists()


def test_bad_tables_and_runs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\na,0,2000\n")
    assert main(["forecast", str(run), str(series), "--horizon", "30"]) == 2
    assert "two of `a` at 0 days" in capsys.readouterr().err
    assert main(["forecast", str(tmp_path), str(series), "--horizon", "30"]) == 2
    assert "no run.json" in capsys.readouterr().err
    series.write_text("id,day,mm3\na,0,3000\n")
    chosen = ["--forecaster", "last_value", "--horizon", "30"]
    assert main(["forecast", str(run), str(series), *chosen]) == 2
    assert "latent_ode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data.path", "none.csv"], "no such file"),
        (["--folds", "999"], "folds"),
        (["--min_visits", "2"], "min_visits"),
        (["--min_visits", "50"], "at least 50 visits"),
        (["--forecasters", "[exponential]"], "last_value"),
        (["--forecasters", "[last_value,arima]"], "forecasters"),
        (["--stage", "exp9"], "stage"),
        (["--jobs", "2"], "jobs"),
        (["--colour", "red"], "colour"),
        (["--training.max_steps", "5"], "max_steps"),
        (["--simulation.count", "0"], "count"),
        (["--simulation.count", "20", "--conformal", "true"], "19"),
    ],
)
def test_bad_settings(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = ["--preset", "quick", "--simulation.count", "30", "--out", str(out)]
    assert main(["run", "growth", *settings, *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not out.exists() or not list(out.glob("*/*/*.npy"))
