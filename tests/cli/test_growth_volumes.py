"""`latens run growth --stage exp1|exp2|exp3` on tiny phantom subjects."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

from latens.cli import main
from latens.data import ShapeFile
from latens.errors import ConfigError, NumericalError
from latens.store import Outcome, Status, read_csv
from latens.studies.configure import construct, load_layers, presets, resolve
from latens.studies.volumes import fit as volumes_fit
from latens.studies.volumes.command import LAYERS
from latens.studies.volumes.fit import WEAK
from latens.studies.volumes.study import VolumeStudy
from latens.studies.volumes.tables import VOLUME_HISTORY, VOLUME_METRICS, definition

TINY = {
    "data": {
        "class_path": "latens.data.PhantomSubjects",
        "init_args": {"size": [16, 16, 16], "count": 48},
    },
    "model": {"dim": 16, "width": 4, "coarse": 4, "features": 8},
    "test_scans": 12,
    "validation_scans": 8,
    "seeds": 1,
    "shown": 2,
    "dip": {"start": 1, "ramp": 2},
    "partition": {"start": 1, "ramp": 2},
    "training": {
        "max_steps": 6,
        "batch_size": 8,
        "warmup_steps": 1,
        "kl_warmup_steps": 2,
        "validate_every": 3,
    },
}
KEYS = (
    "diag/au_count",
    "diag/au_frac",
    "diag/kl_raw",
    "diag/mu_var_mean",
    "diag/recon_mu_mse",
    "diag/recon_z0_mse",
    "diag/recon_delta_mu_vs_sampled",
    "sched/beta",
    "sched/expected_kl_floor",
    "train_epoch/loss",
    "val_epoch/loss",
    "val_epoch/psnr_t1c",
    "val_epoch/ssim_t2w",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volumes") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def command(tiny: Path, stage: str) -> list[str]:
    out = str(tiny.parent / stage)
    return ["run", "growth", "--stage", stage, "--config", str(tiny), "--out", out]


@pytest.fixture(scope="module")
def run(tiny: Path) -> Path:
    assert main(command(tiny, "exp3")) in (0, 4)  # six steps may well fail the gate
    return tiny.parent / "exp3"


def test_tables_of_a_partitioned_run(run: Path) -> None:
    metrics = read_csv(run / "tables" / "volume_metrics.csv", VOLUME_METRICS).set_index("metric")
    named = {f"{kind}_{part}" for kind in ("aligned", "r2", "leak") for part in TARGET_PARTS}
    assert set(metrics.index) >= {"au_count", "kl", "neg_elbo", "permuted_rest", *named}
    for part in TARGET_PARTS:
        kinds = ("ridge", "kernel", "ridge_within", "kernel_within")
        each = [metrics.loc[f"leak_{part}_{kind}", "value"] for kind in kinds]
        assert metrics.loc[f"leak_{part}", "value"] == max(each)
        each = [f"{kind}_{part}" for kind in ("sigma_leak", "draw_leak")]
        assert metrics.loc[each, "value"].notna().all()
        assert metrics.loc[f"sigma_leak_{part}", "value"] == metrics.loc[f"leak_{part}", "value"]
    assert metrics.loc["kl", "subjects"] == 12
    assert metrics.loc["nll_bound", "scans"] == metrics.loc["nll", "scans"] == 12
    assert metrics.loc["mig", "missing"] == "12 subjects, 40 are needed"
    assert {"rest_units", "recon_permuted_rest_mse"} <= set(metrics.index)
    assert (metrics["lower"].isna() | (metrics["lower"] <= metrics["value"])).all()
    assert all(definition(name) for name in NAMED)
    history = read_csv(run / "tables" / "volume_history.csv", VOLUME_HISTORY)
    assert set(history["step"]) == {3, 6}
    assert set(history["quantity"]) >= {*KEYS, "train_epoch/supervised", "val_epoch/dependence"}


NAMED = ("leak_volume_ridge", "sigma_leak_volume", "draw_leak_shape_kernel", "ablation_z0")
NAMED += ("rest_units", "nll_bound", "mig", "dci_completeness", "corr_max", "dcor_mean", "kl_told")
TARGET_PARTS = ("volume", "location", "shape")


def test_the_gate_is_loud(run: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fit,) = json.loads((run / "tables" / "units.json").read_text())["fits"].values()
    outcome = Outcome.read(run / "fits" / fit)
    code = main(command(tiny, "exp3"))
    printed = capsys.readouterr()
    assert "trained in" not in printed.err  # nothing is computed twice
    assert ("gate: seed 0" in printed.out) == (
        outcome.status == Status.COLLAPSED or outcome.message.startswith(WEAK)
    )
    assert (code == 4) == (outcome.status == Status.COLLAPSED)
    assert "au_count" in printed.out


def test_report_and_pictures(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert "default-src &#39;none&#39;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(page) < 10e6
    (folder,) = (run / "evaluations").iterdir()
    arrays = load_file(folder / "pictures.safetensors")
    assert arrays["truth"].shape == arrays["std"].shape == (2, 4, 16, 16, 16)
    assert (arrays["std"] > 0).all()
    assert {path.stem for path in (run / "figures").glob("slices*")} == {
        "slices_0_1",
        "slices_0_2",
    }
    assert arrays["lesions"].all()
    study = construct(VolumeStudy, json.loads((run / "run.json").read_text())["config"])
    masks = study.subjects[study.roles["test"][:2]].lesion[:, 0].numpy()
    sizes = masks.sum((2, 3))
    assert arrays["slices"].tolist() == sizes.argmax(1).tolist()
    assert arrays["traversal"].shape == (7 + 3, 17, 4, 16, 16)
    assert arrays["latents"][:7].tolist() == list(range(7))  # volume, place and shape first
    assert np.isfinite(arrays["traversal"]).all()
    assert {path.suffix for path in (run / "figures").iterdir()} == {".pdf", ".gif"}
    assert "figures/traversals_0.gif" in page
    with Image.open(run / "figures" / "traversals_0.gif") as video:
        assert video.format == "GIF"
        assert video.size == (4 * 64, 10 * 64)  # modalities across, latents down
        assert video.n_frames == 32  # there and back
        assert video.info["duration"] == 120


def test_a_seed_that_fails_is_in_the_tables_and_no_gate_passes_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = volumes_fit.fit_model

    def explode(model, pair, held, settings, seed, **more):
        if seed == 0:
            raise NumericalError("loss", "a finite value", "nan at step 3", "Lower the rate.")
        return train(model, pair, held, settings, seed, **more)

    monkeypatch.setattr(volumes_fit, "fit_model", explode)
    out = tiny.parent / "failing"
    arguments = ["run", "growth", "--stage", "exp1", "--config", str(tiny), "--seeds", "2"]
    assert main([*arguments, "--out", str(out)]) == 4
    metrics = read_csv(out / "tables" / "volume_metrics.csv", VOLUME_METRICS)
    status = metrics.groupby("seed")["status"].unique()
    assert status[0].tolist() == ["nan"]
    assert "nan" not in status[1]
    page = (out / "report.html").read_text("utf-8")
    assert "A seed ended" in page
    assert "of 2 seeds pass (more than 10)." in page
    assert "figures/traversals_1.gif" in page
    assert "figures/traversals_0.gif" not in page


def test_a_seed_without_memory_is_trained_by_the_next_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = volumes_fit.fit_model

    def lacking(model, pair, held, settings, seed, **more):
        if seed == 0:
            raise torch.OutOfMemoryError("no memory")
        return train(model, pair, held, settings, seed, **more)

    monkeypatch.setattr(volumes_fit, "fit_model", lacking)
    out = tiny.parent / "without_memory"
    arguments = ["run", "growth", "--stage", "exp1", "--config", str(tiny), "--seeds", "2"]
    assert main([*arguments, "--out", str(out)]) == 4
    assert "seed 0: failed: OutOfMemoryError: no memory" in capsys.readouterr().err
    monkeypatch.setattr(volumes_fit, "fit_model", train)
    assert main([*arguments, "--out", str(out)]) in (0, 4)
    said = capsys.readouterr().err
    assert "seed 0: trained in" in said
    assert "seed 1: trained in" not in said
    metrics = read_csv(out / "tables" / "volume_metrics.csv", VOLUME_METRICS)
    assert not (metrics["status"] == "failed").any()


def test_published_splits_are_kept(tmp_path: Path) -> None:
    """Both glands of a patient lie in one split of AdrenalMNIST3D; none may change sides."""
    arrays = {}
    for split, count in (("train", 20), ("val", 9), ("test", 12)):
        arrays[f"{split}_images"] = np.zeros((count, 16, 16, 16), np.uint8)
        arrays[f"{split}_images"][:, 4:12, 5:12, 6:12] = 255
        arrays[f"{split}_labels"] = np.zeros((count, 1), np.uint8)
    np.savez(tmp_path / "shapes.npz", **arrays)
    study = VolumeStudy(ShapeFile(str(tmp_path / "shapes.npz")), test_scans=8, validation_scans=8)
    names = study.subjects.names
    for role, split in (("train", "train"), ("validation", "val"), ("test", "test")):
        own = [names[row] for row in study.roles[role]]
        assert own == [name for name in names if name.startswith(split)]
    one = ShapeFile(str(tmp_path / "shapes.npz"), limit=30)
    assert len(VolumeStudy(one).roles["test"]) == 1
    none = ShapeFile(str(tmp_path / "shapes.npz"), limit=29)
    for study in (VolumeStudy(one, "exp3"), VolumeStudy(none)):
        with pytest.raises(ConfigError, match="to test"):
            _ = study.roles


def test_scans_forecast_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = tmp_path / "new.csv"
    series.write_text("id,day,mm3\na,0,3000\n")
    assert main(["forecast", str(run), str(series), "--horizon", "30"]) == 2
    assert "growth, stage exp3" in capsys.readouterr().err


def test_dip_with_a_broadcast_decoder(tiny: Path) -> None:
    arguments = ["--model.decoder", "sbd", "--dip.estimator", "squares"]
    assert main([*command(tiny, "exp2"), *arguments]) in (0, 4)
    run = tiny.parent / "exp2"
    history = read_csv(run / "tables" / "volume_history.csv", VOLUME_HISTORY)
    found = history[history["step"] == 6].set_index("quantity")["value"]
    assert found["sched/lambda_od"] == 10
    assert found["sched/lambda_d"] == 5
    assert "train_epoch/cov_penalty" in found.index
    metrics = read_csv(run / "tables" / "volume_metrics.csv", VOLUME_METRICS)
    assert not metrics["metric"].str.startswith("leak").any()


@pytest.mark.parametrize("name", presets(LAYERS))
def test_presets(name: str) -> None:
    missing = ["--data.path", "x"] if name in ("adrenal", "folder") else []
    config = resolve(VolumeStudy, load_layers(LAYERS, [name], []), missing)
    assert resolve(VolumeStudy, [config], []) == config
    study = construct(VolumeStudy, config)
    assert study.stage == (name if name.startswith("exp") else "exp1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage=exp1", "--preset", "exp2"], "stage"),
        (["--stage=exp4"], "one of ode, exp1, exp2, exp3, got exp4"),
        (["--model.dim", "0"], "dim"),
        (["--model.decoder", "linear"], "decoder"),
        (["--dip.start", "999999", "--stage=exp2"], "schedules that end"),
        (["--control.cycles", "4", "--control.cycle_steps", "1"], "kl_warmup_steps"),
        (["--test_scans", "4000"], "test"),
        (["--seeds", "0"], "seeds"),
        (["--hardware.accumulate", "3"], "batch_size"),
        (["--hardware.processes", "2"], "torchrun"),
        (["--parts", "[volume,volume]"], "parts"),
        (["--data.count", "0"], "count"),
        (["--colour", "red"], "colour"),
        (["--jobs", "2"], "jobs"),
    ],
)
def test_bad_settings(
    tiny: Path,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = "exp2" if "--stage=exp2" in arguments else "exp1"
    rest = [word for word in arguments if word != "--stage=exp2"]
    out = tmp_path / "run"
    head = ["run", "growth", "--stage", stage, "--config", str(tiny), "--out", str(out)]
    assert main([*head, *rest]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not list(out.glob("fits/*"))


@pytest.mark.parametrize(
    ("stage", "arguments", "said"),
    [
        ("exp3", ["--hardware.accumulate", "4"], "4 rows or more in each of the 4 parts"),
        ("exp2", ["--training.batch_size", "1"], "Set it to 2 or more.\n"),
    ],
)
def test_too_few_rows_are_refused_before_anything_is_prepared(
    tiny: Path,
    stage: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("latens.data.PhantomSubjects.load", None)
    head = ["run", "growth", "--stage", stage, "--config", str(tiny), "--out"]
    assert main([*head, str(tmp_path / "run"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


RECIPES = {
    "free_bits": {"free_bits": 0.1},
    "cycles": {"cycles": 4, "cycle_steps": 400},
    "capacity": {"capacity": 40.0, "capacity_steps": 1000},
    "learned_scale": {"free_bits": 0.0, "cycles": 0, "capacity": None},
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stage", ["exp1", "growth/exp2"])
def test_recipes_are_presets_of_every_stage(
    recipe: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "growth", "--preset", f"{stage},{recipe}", "--show"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["stage"] == stage[-4:]
    assert config["control"].items() >= RECIPES[recipe].items()
    assert config["model"]["scale"] == "shared"
    study = construct(VolumeStudy, config)
    assert study.control.steps <= study.training.max_steps
    assert study.training.kl_warmup_steps == (0 if recipe == "cycles" else 200)


def test_a_recipe_of_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--preset", "exp1,quick,cycles", "--control.cycle_steps", "50"]
    assert main(["run", "growth", *short, "--show"]) == 0
    control = construct(VolumeStudy, yaml.safe_load(capsys.readouterr().out)).control
    assert control.steps == 200


@pytest.mark.parametrize("preset", ["ode", "growth/ode", "ode,quick", "growth/quick"])
def test_the_stage_of_series_by_its_name(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "growth", "--preset", preset, "--show"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["stage"] == "ode"
    assert (config["folds"] == 3) == ("quick" in preset)


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("free_bits", "Write --preset exp1,free_bits"),
        ("ode,capacity", "Write --preset exp1,capacity"),
        ("slow", "one of ode, quick; of scans, with exp1, exp2 or exp3: adrenal, capacity"),
        ("ode,exp1", "one stage"),
        ("exp1,slow", "expected one of adrenal, capacity, cycles"),
    ],
)
def test_presets_that_are_not_there(
    preset: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "growth", "--preset", preset, "--show"]) == 2
    assert said in capsys.readouterr().err
