"""Solvers from a finished run: `latens.load` and `latens reconstruct`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import latens
from latens.cli import main
from latens.errors import ConfigError, DataError, LatensError
from latens.inference import Calibration, save_calibration
from latens.store import METRICS, TRUST, read_csv, read_table, write_csv, write_table


def measurement(run: Path, solver: str = "latent_ensemble") -> np.ndarray:
    """Measurements of the example images of a solver, `(images, 1, 16, 16)`."""
    return np.load(latens.load(run, solver).folder / "examples" / "measurement.npy")


def entries(run: Path, part: str) -> dict[Path, dict]:
    name = "fit.json" if part == "fits" else "evaluation.json"
    return {file: json.loads(file.read_text()) for file in (run / part).glob(f"*/{name}")}


@pytest.mark.parametrize("solver", [None, "latent", "direct", "latent_ensemble", "tikhonov"])
@pytest.mark.parametrize("n", [None, 16])
def test_a_loaded_solver_gives_the_stored_answer(
    orphan_run: Path, solver: str | None, n: int | None
) -> None:
    loaded = latens.load(orphan_run, solver, n)
    assert loaded.name == (solver or "latent_ensemble")
    assert loaded.n == (n or 32)
    examples = loaded.folder / "examples"
    keys = json.loads((examples / "examples.json").read_text())["images"]
    y = torch.from_numpy(np.load(examples / "measurement.npy"))
    estimate = loaded.solver(y, keys=keys)
    stored = np.load(examples / "mean.npy")
    assert stored.std() > 1e-3
    np.testing.assert_allclose(estimate.mean.detach().numpy(), stored, atol=2e-6)
    assert estimate.is_posterior == (solver != "tikhonov")
    assert bool(loaded.note) == (solver == "direct")


def test_default_passes_over_what_is_not_usable(orphan_copy: Path) -> None:
    for file, entry in entries(orphan_copy, "evaluations").items():
        if entry["solver"] == "latent_ensemble" and entry["n"] == 32:
            outcome = file.with_name("outcome.json")
            changed = json.loads(outcome.read_text()) | {"status": "collapsed"}
            outcome.write_text(json.dumps(changed))
    loaded = latens.load(orphan_copy)
    assert (loaded.name, loaded.n) == ("latent_ensemble", 16)
    assert latens.load(orphan_copy, n=32).name == "latent"


@pytest.mark.parametrize(("best", "other"), [("direct", "latent"), ("latent", "direct")])
def test_default_among_equals_has_the_smallest_error(
    orphan_copy: Path, best: str, other: str
) -> None:
    for file, entry in entries(orphan_copy, "evaluations").items():
        metrics = file.with_name("metrics.csv")
        changed = read_csv(metrics, METRICS)
        mine = changed["metric"] == "nmse"
        changed.loc[mine, "value"] = {best: 0.01, other: 0.02}.get(entry["solver"], 0.001)
        write_csv(metrics, METRICS, changed)
        file.write_text(json.dumps(entry | {"note": ""}))
        if entry["solver"] == "latent_ensemble":
            outcome = file.with_name("outcome.json")
            outcome.write_text(json.dumps(json.loads(outcome.read_text()) | {"status": "failed"}))
    assert latens.load(orphan_copy, n=32).name == best


@pytest.mark.parametrize(
    ("shape", "count"), [((16, 16), 1), ((1, 16, 16), 1), ((3, 16, 16), 3), ((3, 1, 16, 16), 3)]
)
def test_shapes_of_a_measurement(
    orphan_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shape: tuple[int, ...],
    count: int,
) -> None:
    y = measurement(orphan_run)[:count]
    np.save(tmp_path / "new.npy", y.reshape(shape))
    assert main(["reconstruct", str(orphan_run), str(tmp_path / "new.npy")]) == 0
    out = tmp_path / "new"
    arrays = {file.stem: np.load(file) for file in out.glob("*.npy")}
    assert set(arrays) == {"mean", "std", "lower", "upper"}
    assert {array.shape for array in arrays.values()} == {(count, 1, 16, 16)}
    estimate = latens.load(orphan_run).solver(torch.from_numpy(y))
    np.testing.assert_allclose(arrays["mean"], estimate.mean.numpy(), atol=2e-6)
    assert (arrays["lower"] < arrays["upper"]).all()
    assert (arrays["std"] > 0).all()
    text = capsys.readouterr().out
    assert "latent_ensemble trained on N = 32" in text
    assert "wrote mean.npy, std.npy, lower.npy, upper.npy" in text
    facts = json.loads((out / "reconstruction.json").read_text())
    assert len(facts["flags"]) == count
    assert facts["level"] == 0.95
    assert not any(row["suspicious"] for row in facts["flags"])


def test_a_strange_measurement_is_flagged(
    orphan_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    y = measurement(orphan_run)[:2]
    noise = np.random.default_rng(0).standard_normal(y.shape[1:])
    y[1] += 0.5 * noise.astype(np.float32)
    np.save(tmp_path / "new.npy", y)
    assert main(["reconstruct", str(orphan_run), str(tmp_path / "new.npy")]) == 0
    facts = json.loads((tmp_path / "new" / "reconstruction.json").read_text())
    usual, strange = facts["flags"]
    assert (usual["suspicious"], strange["suspicious"]) == (False, True)
    mine, other = ({e["score"]: e for e in row["scores"]} for row in (strange, usual))
    assert mine["residual"]["value"] > 10 * other["residual"]["value"]
    assert mine["residual"]["p_value"] == pytest.approx(2 / 31)
    assert set(mine) >= {"representation", "latent_tail", "disagreement", "spread"}
    text = capsys.readouterr().out
    assert "residual" in text.partition("← ")[2].partition(" unlike the test set")[0]
    assert "unlike the test set: 1 of 2" in text


def test_warnings_and_point_estimates(
    orphan_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "new.npy", measurement(orphan_run)[0])
    argv = ["reconstruct", str(orphan_run), str(tmp_path / "new.npy")]
    assert main([*argv, "--solver", "direct", "--out", str(tmp_path / "d")]) == 0
    assert "warning: not a posterior" in capsys.readouterr().out
    assert main([*argv, "--solver", "tikhonov", "--n", "16", "--out", str(tmp_path / "t")]) == 0
    assert {file.name for file in (tmp_path / "t").iterdir()} == {
        "mean.npy",
        "reconstruction.json",
    }


def test_a_collapsed_solver_is_named_as_such(
    orphan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "new.npy", measurement(orphan_copy)[0])
    for file in (orphan_copy / "evaluations").glob("*/outcome.json"):
        tree = {**json.loads(file.read_text()), "status": "collapsed", "message": "0 units"}
        file.write_text(json.dumps(tree))
    assert main(["reconstruct", str(orphan_copy), str(tmp_path / "new.npy")]) == 0
    assert "warning: collapsed: 0 units" in capsys.readouterr().out


def _array(array: np.ndarray) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        np.save(file, array, allow_pickle=array.dtype.hasobject)

    return write


ORDINARY = np.zeros((1, 16, 16), np.float32) + np.eye(16, dtype=np.float32)
FILES: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "missing": (lambda file: None, [], "expected a file"),
    "empty": (lambda file: file.write_bytes(b"") and None, [], "empty"),
    "no array": (lambda file: file.write_text("hello") and None, [], "intact"),
    "pickled": (_array(np.array([{}], dtype=object)), [], "pickled"),
    "another size": (_array(np.zeros((16, 12))), [], "(1, 16, 16)"),
    "three channels": (_array(np.zeros((3, 3, 16, 16))), [], "(1, 16, 16)"),
    "a number": (_array(np.array(3.0)), [], "(1, 16, 16)"),
    "NaN": (_array(ORDINARY * np.nan), [], "finite"),
    "too large": (_array(ORDINARY.astype(float) * 1e300), [], "finite"),
    "complex": (_array(ORDINARY * 1j), [], "real numbers"),
    "text": (_array(np.full((16, 16), "a")), [], "real numbers"),
    "level out of reach": (_array(ORDINARY), ["--level", "0.999"], "level"),
    "level above 1": (_array(ORDINARY), ["--level", "2"], "level"),
    "no level": (_array(ORDINARY), ["--level", "nan"], "level"),
    "unknown solver": (_array(ORDINARY), ["--solver", "cvae"], "latent_ensemble"),
    "unknown size": (_array(ORDINARY), ["--n", "17"], "one of 16, 32"),
    "output in a missing folder": (_array(ORDINARY), ["--out", "no/where"], "Create"),
}


@pytest.mark.parametrize("name", FILES)
def test_refused_files(
    name: str,
    orphan_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, extra, fragment = FILES[name]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "new.npy")
    before = sorted(tmp_path.rglob("*"))
    assert main(["reconstruct", str(orphan_run), "new.npy", *extra]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("latens: `")
    assert fragment in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_exists_is_left_alone(
    orphan_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "new.npy", ORDINARY)
    (tmp_path / "new").mkdir()
    assert main(["reconstruct", str(orphan_run), str(tmp_path / "new.npy")]) == 2
    assert "does not exist yet" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def _fits(run: Path, change: Callable[[Path], None]) -> None:
    for file in entries(run, "fits"):
        change(file)


def _edit(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        tree = json.loads(file.read_text())
        change(tree)
        file.write_text(json.dumps(tree))

    return edit


def _weights(content: bytes | None) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        weights = file.with_name("weights.safetensors")
        weights.unlink() if content is None else weights.write_bytes(content)

    return write


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights missing": (_weights(None), "weights.safetensors"),
    "weights corrupt": (_weights(b"\x10\0\0\0\0\0\0\0{not json"), "weights.safetensors"),
    "weights empty": (_weights(b""), "weights.safetensors"),
    "foreign class": (_edit(lambda t: t["model"].update(class_path="os.system")), "os.system"),
    "planted class": (_edit(lambda t: t["model"].update(class_path="planted.M")), "planted.M"),
    "planted argument": (
        _edit(lambda t: t["model"]["init_args"].update(architecture="planted.M")),
        "planted.M",
    ),
    "no model": (_edit(lambda t: t.pop("model")), "model"),
    "no shape": (_edit(lambda t: t.update(signal_shape=None)), "wrote them"),
    "another model": (_edit(lambda t: t["model"]["init_args"].update(dim=9)), "weights"),
    "no JSON": (lambda file: file.write_text("{") and None, "fit.json"),
    "a list": (lambda file: file.write_text("[]") and None, "wrote them"),
    "file missing": (lambda file: file.unlink(), "fit.json"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_runs(
    name: str,
    orphan_copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    change, fragment = DAMAGES[name]
    _fits(orphan_copy, change)
    np.save(tmp_path / "new.npy", ORDINARY)
    assert main(["reconstruct", str(orphan_copy), str(tmp_path / "new.npy")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("latens: `")
    assert fragment in lines[0]
    assert "planted" not in sys.modules
    assert not (tmp_path / "new").exists()


def test_planted_problem_is_not_imported(
    orphan_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for file, entry in entries(orphan_copy, "evaluations").items():
        entry["problem"]["operator"] = {"class_path": "planted.Operator"}
        file.write_text(json.dumps(entry))
    (orphan_copy / "config.yaml").write_text("data: {class_path: planted.Data}\n")
    with pytest.raises(ConfigError, match=r"planted\.Operator"):
        latens.load(orphan_copy)


def test_tikhonov_without_its_arrays(orphan_copy: Path) -> None:
    for file in orphan_copy.rglob("classical.safetensors"):
        file.unlink()
    with pytest.raises(DataError, match=r"classical\.safetensors"):
        latens.load(orphan_copy, "tikhonov")


def test_a_run_without_evaluations(orphan_copy: Path) -> None:
    import shutil

    shutil.rmtree(orphan_copy / "tables")
    assert latens.load(orphan_copy).name == "latent_ensemble"
    shutil.rmtree(orphan_copy / "evaluations")
    with pytest.raises(LatensError, match="at least one finished evaluation"):
        latens.load(orphan_copy)


def _calibrate(run: Path, **changes) -> Calibration:
    calibration = Calibration(
        **{
            "method": "rcps",
            "widens": "width",
            "level": 0.9,
            "factor": 0.5,
            "base_level": 0.9,
            "share": None,
            "delta": 0.1,
            "images": 40,
            "units": 40,
            "signal_shape": (1, 16, 16),
            **changes,
        }
    )
    save_calibration(calibration, latens.load(run).folder)
    return calibration


def test_a_calibration_beside_the_solver_is_applied_and_named(
    orphan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    y = measurement(orphan_copy)[:2]
    np.save(tmp_path / "new.npy", y)
    argv = ["reconstruct", str(orphan_copy), str(tmp_path / "new.npy")]
    assert main([*argv, "--level", "0.9", "--out", str(tmp_path / "own")]) == 0
    printed = capsys.readouterr().out
    assert "intervals calibrated" not in printed
    assert "accurate? " in printed  # verdicts of the trust card
    calibration = _calibrate(orphan_copy)
    assert main([*argv, "--out", str(tmp_path / "wide")]) == 0
    assert f"intervals calibrated (rcps): {calibration.promise}" in capsys.readouterr().out
    own, wide = (
        {f.stem: np.load(f) for f in (tmp_path / name).glob("*.npy")} for name in ("own", "wide")
    )
    for name in ("mean", "std"):
        np.testing.assert_array_equal(own[name], wide[name])
    ratio = (wide["upper"] - wide["lower"]) / (own["upper"] - own["lower"])
    np.testing.assert_allclose(ratio, 2.0, rtol=1e-3)
    facts = [
        json.loads((tmp_path / n / "reconstruction.json").read_text()) for n in ("own", "wide")
    ]
    assert facts[0]["calibration"] is None
    assert facts[1]["level"] == 0.9
    assert facts[1]["calibration"]["factor"] == 0.5
    assert facts[1]["calibration"]["promise"] == calibration.promise


def test_a_level_that_was_not_calibrated_is_said(
    orphan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "new.npy", measurement(orphan_copy)[0])
    argv = ["reconstruct", str(orphan_copy), str(tmp_path / "new.npy"), "--level", "0.95"]
    assert main([*argv, "--out", str(tmp_path / "own")]) == 0
    _calibrate(orphan_copy)
    capsys.readouterr()
    assert main([*argv, "--out", str(tmp_path / "other")]) == 0
    assert "intervals at 0.95 are not calibrated; those at 0.9 would be" in capsys.readouterr().out
    own, other = (np.load(tmp_path / name / "upper.npy") for name in ("own", "other"))
    np.testing.assert_array_equal(own, other)
    assert json.loads((tmp_path / "other" / "reconstruction.json").read_text())["level"] == 0.95


def test_a_calibration_for_other_signals(
    orphan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "new.npy", measurement(orphan_copy)[0])
    _calibrate(orphan_copy, signal_shape=(1, 8, 8))
    argv = ["reconstruct", str(orphan_copy), str(tmp_path / "new.npy")]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 2
    assert "a calibration for signals (1, 16, 16)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_gate_refuses_what_is_unlike_the_test_set_and_writes_it(
    orphan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _judge(orphan_copy, "open")
    strange = np.stack([measurement(orphan_copy)[0]] * 2)
    strange[1] = 30 * np.random.default_rng(0).standard_normal(strange[1].shape)
    np.save(tmp_path / "new.npy", strange)
    argv = ["reconstruct", str(orphan_copy), str(tmp_path / "new.npy")]
    assert main([*argv, "--out", str(tmp_path / "free")]) == 0
    capsys.readouterr()
    assert main([*argv, "--gate", "--out", str(tmp_path / "gated")]) == 4
    assert "refused: measurement 1 unlike the test set" in capsys.readouterr().err
    free, facts = (
        json.loads((tmp_path / name / "reconstruction.json").read_text())
        for name in ("free", "gated")
    )
    assert (free["refused"], facts["refused"]) == ([], [1])
    assert (tmp_path / "gated" / "mean.npy").is_file()
    np.save(tmp_path / "usual.npy", strange[:1])
    usual = ["reconstruct", str(orphan_copy), str(tmp_path / "usual.npy"), "--gate"]
    assert main([*usual, "--out", str(tmp_path / "usual")]) == 0


def _judge(run: Path, verdict: str) -> None:
    """Let the trust card say the same of everything."""
    card = read_table(run / "tables", TRUST)
    write_table(run / "tables", TRUST, card.assign(verdict=verdict, reason="as it was found"))


def test_a_gate_refuses_a_solver_that_the_card_refuses(
    orphan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "new.npy", measurement(orphan_copy)[:2])
    argv = ["reconstruct", str(orphan_copy), str(tmp_path / "new.npy"), "--gate"]
    _judge(orphan_copy, "open")
    assert main([*argv, "--out", str(tmp_path / "open")]) == 0
    _judge(orphan_copy, "no")
    capsys.readouterr()
    assert main([*argv, "--out", str(tmp_path / "no")]) == 4
    told = capsys.readouterr().err
    assert "the solver is not calibrated" in told
    assert "the solver is not consistent" in told
    facts = json.loads((tmp_path / "no" / "reconstruction.json").read_text())
    assert facts["refused"] == [0, 1]
    _calibrate(orphan_copy)
    assert main([*argv, "--out", str(tmp_path / "promised")]) == 4
    told = capsys.readouterr().err
    assert "not consistent" in told
    assert "not calibrated" not in told


def test_a_blank_measurement_is_refused(orphan_copy: Path, tmp_path: Path) -> None:
    """Nothing to see and no noise: the residual lies far below those of all test images."""
    _judge(orphan_copy, "open")
    np.save(tmp_path / "new.npy", np.zeros((1, 16, 16), np.float32))
    argv = ["reconstruct", str(orphan_copy), str(tmp_path / "new.npy"), "--gate"]
    argv += ["--solver", "tikhonov"]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 4
    facts = json.loads((tmp_path / "out" / "reconstruction.json").read_text())
    (row,) = facts["flags"]
    assert (row["suspicious"], row["score"]) == (True, "residual")
    assert row["p_value"] == pytest.approx(2 / 31)
