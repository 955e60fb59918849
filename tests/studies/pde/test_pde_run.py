"""A tiny run of `pde` from end to end, finished twice and read by `reconstruct`."""

import html
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from latens.cli import main
from latens.errors import ConfigError, UnsupportedError
from latens.reporting.pde import DEFINITIONS
from latens.store.hdf5 import read_hdf5
from latens.studies.configure import construct, load_layers, presets, resolve
from latens.studies.load import load
from latens.studies.pde.study import Inversion, Pde
from latens.studies.pde.tables import expected_calibration_error
from studies.pde.tiny import SETTINGS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run with every solver."""
    folder = tmp_path_factory.mktemp("pde") / "run"
    solvers = "--inversion.solvers=[descent,map,laplace,corrected,solver]"
    assert main(["run", "pde", "--out", str(folder), *SETTINGS, solvers]) == 0
    return folder


def test_tables_and_report(run):
    table = pd.read_csv(run / "tables" / "pde.csv")
    fields = pd.read_csv(run / "tables" / "pde_fields.csv")
    assert set(table["solver"]) == {
        "igno",
        *("descent", "map", "laplace", "corrected", "solver"),
    }
    assert set(table["metric"]) <= DEFINITIONS.keys()
    assert set(fields["field"]) == {2 * 10**6 + k for k in range(3)}
    for (solver, metric), part in fields.groupby(["solver", "metric"]):
        row = table[(table["solver"] == solver) & (table["metric"] == metric)].iloc[0]
        assert row["mean"] == pytest.approx(part["value"].mean())
        assert row["fields"] == (2 if solver in ("corrected", "solver") else 3)
    errors = table[table["metric"] == "relative_l2"].set_index("solver")["mean"]
    assert errors.between(0.01, 1).all()  # a model of 30 steps knows about the mean field
    points = {"descent", "map"}
    assert set(table[table["metric"] == "coverage_95"]["solver"]).isdisjoint(points)
    page = (run / "report.html").read_text("utf-8")
    assert "Accuracy, calibration and time" in page
    assert page.count("<img") == 7  # two per posterior, and ranks
    assert "default-src 'none'" in html.unescape(page)
    assert len(list((run / "figures").glob("*.pdf"))) == 7


def test_pictures_are_those_of_the_posterior(run):
    (evaluation,) = (run / "evaluations").iterdir()
    arrays = load_file(evaluation / "pictures.safetensors")
    assert arrays["truth"].shape == (3, 1, 9, 9)
    assert (arrays["laplace/lower"] <= arrays["laplace/upper"]).all()
    assert arrays["laplace/draws"].shape == (8, 2, 1, 9, 9)  # of the first block
    assert arrays["laplace/std"].min() > 0


def test_the_same_command_goes_on_where_it_stopped(run, capsys):
    before = {f: f.stat().st_mtime_ns for f in run.glob("*/*/*") if f.is_file()}
    tables = (run / "tables" / "pde.csv").read_bytes()
    solvers = "--inversion.solvers=[descent,map,laplace,corrected,solver]"
    assert main(["run", "pde", "--out", str(run), *SETTINGS, solvers]) == 0
    assert {f: f.stat().st_mtime_ns for f in run.glob("*/*/*") if f.is_file()} == before
    assert (run / "tables" / "pde.csv").read_bytes() == tables
    assert "relative_l2" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0


@pytest.fixture
def readings(run, tmp_path):
    """Sensors of a field of the family, elsewhere than those of the run."""
    config = json.loads((run / "run.json").read_text())["config"]
    study = construct(Pde, config)
    fields = study.fields(5 * 10**6, 1)
    sensors = study.system.sensors(20, seed=9)
    y = study.system.operator(sensors)(fields.fine)[0]
    table = pd.DataFrame(sensors.numpy(), columns=["x", "y"]).assign(value=y.numpy())
    file = tmp_path / "sensors.csv"
    table.to_csv(file, index=False)
    return file, table, fields.coarse[0, 0].numpy()


@pytest.mark.parametrize("noise", [["--sigma", "0.003"], ["--snr", "40"], []])
def test_reconstruct_from_other_sensors(run, readings, noise, capsys):
    file, _, truth = readings
    assert main(["reconstruct", str(run), str(file), *noise]) == 0
    out = file.with_name("sensors")
    mean, lower, upper = (np.load(out / f"{name}.npy") for name in ("mean", "lower", "upper"))
    assert mean.shape == truth.shape == (9, 9)
    assert (lower <= mean).mean() > 0.9
    assert (mean <= upper).mean() > 0.9
    assert np.load(out / "draws.npy").shape == (39, 9, 9)
    whole = read_hdf5(out / "posterior.h5", ["mean", "map", "draws", "predicted", "correlation"])
    np.testing.assert_allclose(whole["mean"][0, 0], mean, rtol=1e-6)
    np.testing.assert_array_equal(whole["map"][0, 0], np.load(out / "map.npy"))
    assert whole["predicted"].shape == (3, 1, 20)
    assert whole["correlation"].shape == (1, 3, 9, 9)
    np.testing.assert_allclose(whole["correlation"][0, 0, 4, 4], 1, rtol=1e-5)  # the middle
    assert {f.name for f in out.glob("*.svg")} == {"field.svg", "closer.svg"}
    numbers = json.loads((out / "reconstruction.json").read_text())
    if noise[:1] == ["--sigma"]:
        assert numbers["sigma"] == pytest.approx(0.003)
    assert 0 < numbers["sigma"] < 0.1
    assert "Pareto" in capsys.readouterr().out


def test_readings_unlike_any_of_the_family_are_doubted(run, readings, capsys):
    file, table, _ = readings
    wild = table["value"] * (1 + 3 * (-1.0) ** np.arange(len(table)))
    table.assign(value=wild).to_csv(file, index=False)
    options = ["--sigma", "0.003"]
    assert main(["reconstruct", str(run), str(file), *options, "--gate"]) == 4
    assert "readings fit worse than 99 %" in capsys.readouterr().out
    numbers = json.loads((file.with_name("sensors") / "reconstruction.json").read_text())
    assert numbers["misfit_p"] < 0.01


def changed(table: pd.DataFrame, row: int, column: str, value) -> pd.DataFrame:
    table = table.astype(object)
    table.loc[row, column] = value
    return table


BROKEN = {
    "outside": (lambda t: changed(t, 3, "x", 1.5), "outside"),
    "repeated": (lambda t: pd.concat([t, t[:1]]), "coincide"),
    "nan": (lambda t: changed(t, 2, "value", math.nan), "line 4"),
    "text": (lambda t: changed(t, 2, "value", "high"), "line 4"),
    "no-value": (lambda t: t.drop(columns="value"), "no value"),
    "empty": (lambda t: t[:0], "one reading"),
    "infinite": (lambda t: changed(t, 0, "y", math.inf), "line 2"),
    "silent": (lambda t: t.assign(value=0.0), "not all 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_readings_that_make_no_sense(run, readings, name, capsys):
    change, words = BROKEN[name]
    file, table, _ = readings
    change(table).to_csv(file, index=False)
    noise = ["--snr", "40"] if name == "silent" else ["--sigma", "0.01"]
    assert main(["reconstruct", str(run), str(file), *noise]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not file.with_name("sensors").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sigma", "-1"], "positive"),
        (["--sigma", "1", "--snr", "3"], "one of them"),
        (["--snr", "500"], "decibel"),
        (["--snr", "nan"], "decibel"),
        (["--level", "0.999"], "level"),
        (["--solver", "cvae"], "pde"),
    ],
)
def test_settings_of_reconstruct(run, readings, arguments, words, capsys):
    assert main(["reconstruct", str(run), str(readings[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not readings[0].with_name("sensors").exists()


def test_a_run_of_fields_has_no_curve_and_no_solver_of_its_own(run, capsys):
    assert main(["plan", str(run)]) == 2
    assert "a run of pde" in capsys.readouterr().err
    with pytest.raises(UnsupportedError, match=r"latens reconstruct RUN sensors\.csv"):
        load(run)


def test_one_reading_is_answered_with_a_doubt(run, readings):
    file, table, _ = readings
    table[:1].to_csv(file, index=False)
    assert main(["reconstruct", str(run), str(file), "--sigma", "0.01", "--gate"]) == 4
    doubts = json.loads((file.with_name("sensors") / "reconstruction.json").read_text())["doubts"]
    assert "1 readings for 2 latents" in doubts[0]


def test_no_table_at_all(run, tmp_path, capsys):
    file = tmp_path / "a.csv"
    assert main(["reconstruct", str(run), str(file)]) == 2
    file.write_bytes(b"\x00\xff\x00")
    assert main(["reconstruct", str(run), str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("name", presets("pde"))
def test_presets_are_valid(name):
    config = resolve(Pde, load_layers("pde", [name], []), [])
    study = construct(Pde, config)
    model = study.build()
    assert model.signal_shape == (1, *study.system.grid)
    fields = study.fields(0, 2)
    assert fields.coarse.shape == (2, *model.signal_shape)
    assert fields.fine.shape == (2, 1, *study.system.fine)
    model.fit_units(fields.coarse, study.system.solutions(fields.fine).float())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--pairs=3"], "pairs"),
        (["--sensors=[]"], "sensors"),
        (["--inversion.solvers=[corrected]"], "laplace"),
        (["--inversion.solved=5"], "39"),
        (["--network.dim=1"], "dim"),
        (["--family=latens.data.field_families.GaussianFields"], "coordinates"),
        (["--snrs=[3]"], "snr"),
        (["--system.init_args.nodes=2"], "nodes"),
    ],
)
def test_settings_that_make_no_sense(overrides, words, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["run", "pde", "--out", str(out), *overrides]) == 2
    assert words in capsys.readouterr().err


def test_calibration_error_of_probabilities():
    p = np.repeat([0.125, 0.875], 1000)
    chi = np.concatenate([np.arange(1000) < 125, np.arange(1000) < 775]).astype(float)
    assert expected_calibration_error(p, chi) == pytest.approx(0.05)


def test_inversion_defaults():
    assert Inversion().solvers[0] == "descent"
    with pytest.raises(ConfigError, match="chains"):
        Inversion(chains=0)


def test_noise_is_of_the_stated_ratio():
    config = resolve(Pde, load_layers("pde", [], []), SETTINGS)
    study = construct(Pde, config)
    clean = torch.linspace(0.1, 1, 400).expand(30, 400)
    y, scale = study.noise(clean, 30.0, list(range(30)))
    assert scale[0] == pytest.approx(float(clean[0].square().mean().sqrt()) * 10**-1.5)
    assert float((y - clean).std() / scale[0]) == pytest.approx(1, abs=0.03)
    again, _ = study.noise(clean[:1], 30.0, [7])
    assert torch.equal(again[0], y[7])


def test_fields_of_a_strange_family(tmp_path):
    out = tmp_path / "run"
    command = ["run", "pde", "--out", str(out), *SETTINGS, "--inversion.solvers=[laplace]"]
    assert main([*command, "--strange_fields=2"]) == 0
    table = pd.read_csv(out / "tables" / "pde.csv")
    errors = table[(table["metric"] == "relative_l2") & (table["solver"] == "laplace")]
    assert list(errors["population"]) == ["family", "strange"]
    assert list(errors["fields"]) == [3, 2]
    fields = [read_hdf5(f, ["truth"])["truth"] for f in out.glob("evaluations/*/fields.h5")]
    few, many = sorted(fields, key=len)
    assert not np.isclose(few, many[:2]).all()
    page = (out / "report.html").read_text("utf-8")
    assert "fields of a strange family" in page


@pytest.mark.parametrize(
    ("setting", "argument", "rule"),
    [
        ("--strange_fields=-1", "strange_fields", "0 or more"),
        ("--strange=null", "strange_fields", "names no family"),
        ("--strange.class_path=GaussianFields", "strange", "2 coordinates"),
        ("--strange.class_path=TwoValuedFields", "strange", "as `family`"),
    ],
)
def test_strange_fields_that_make_no_sense(setting, argument, rule, tmp_path, capsys):
    out = tmp_path / "run"
    family = "latens.data.field_families." + setting.partition("=")[2]
    if "class_path" in setting:
        setting = "--strange=" + json.dumps({"class_path": family})
    settings = [*SETTINGS, "--strange_fields=2", setting]
    assert main(["run", "pde", "--out", str(out), *settings]) == 2
    error = capsys.readouterr().err
    assert argument in error
    assert rule in error
    assert not out.exists()


@pytest.mark.parametrize("kernel", ["hmc", "nuts"])
def test_short_chains_are_weighted_with_the_solver_and_not_trusted(kernel, tmp_path):
    out = tmp_path / "run"
    solvers = f"--inversion.solvers=[{kernel},corrected]"
    settings = [*SETTINGS, solvers, "--inversion.draws=30", "--inversion.solved=50"]
    assert main(["run", "pde", "--out", str(out), *settings]) == 0
    table = pd.read_csv(out / "tables" / "pde.csv")
    trusted = table[table["metric"] == "trusted"].set_index("solver")["mean"]
    assert trusted[kernel] == 0  # sixty draws of two chains
    assert trusted["corrected"] == 0
    assert set(table[table["metric"] == "relative_l2"]["solver"]) == {kernel, "corrected"}
