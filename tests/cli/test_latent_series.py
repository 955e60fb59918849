"""Scans over time: `latens encode`, the latent ODE of scans, and decoded forecasts as NIfTI."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from latens.cli import main
from latens.data import LesionGrowth, PhantomSubjects
from latens.data.latent_series import LatentSeries
from latens.errors import DataError
from latens.store import RunFolder, read_csv
from latens.store.schemas import FORECAST, FORECAST_METRICS, FORECAST_SCORES
from latens.studies import forecast
from latens.studies.volumes import decode, encode
from latens.studies.volumes.encode import PHANTOM_GROWTH, PHANTOM_SEED, trained
from stand_ins.tiny_scans import TINY_SCANS, trained_scans

SERIES = ["--forecasters", "[last_value]", "--min_visits", "4", "--folds", "2", "--members", "2"]
for name, value in TINY_SCANS["training"].items():
    SERIES += [f"--training.{name}", str(value)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def file(encoder: Path) -> Path:
    out = encoder.parent / "latents.safetensors"
    assert main(["encode", str(encoder), "--count", "20", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run(file: Path) -> Path:
    out = file.parent / "ode"
    command = ["run", "growth", "--stage", "ode", "--latents", str(file), "--out", str(out)]
    assert main([*command, *SERIES]) == 0
    return out


def test_an_encoder_says_that_it_has_seen_some_of_these_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = PhantomSubjects((16, 16, 16), 17, 0, LesionGrowth(visits=2))  # one subject more
    data = {"size": [16, 16, 16], "count": 16, "growth": {"visits": 2}}
    source = {"class_path": "latens.data.PhantomSubjects", "init_args": data}
    out = trained_scans(tmp_path, data=source, test_scans=8)
    for name in ("others", "same"):
        if name == "same":
            monkeypatch.setattr(encode, "growing_phantoms", lambda *_: growing)
        capsys.readouterr()
        file = tmp_path / f"{name}.safetensors"
        assert main(["encode", str(out), "--count", "4", "--out", str(file)]) == 0
        said = capsys.readouterr().out  # 8 of the 32 are for the test
        assert ("was trained on 24 of these 34 scans" in said) == (name == "same")


def test_every_visit_is_what_the_encoder_says(encoder: Path, file: Path) -> None:
    series = LatentSeries.load(file)
    assert len(series.patients) == 140
    subjects = PhantomSubjects((16, 16, 16), 20, PHANTOM_SEED, PHANTOM_GROWTH).load()
    assert subjects.times is not None
    torch.testing.assert_close(series.times, subjects.times)
    torch.testing.assert_close(series.log_volumes, subjects.targets[:, 0].double())
    _, model, fit = trained(encoder)
    assert series.encoder == fit
    with torch.no_grad():
        q = model.encode(subjects[[5]].images)
    torch.testing.assert_close(series.loc[[5]], q.mean)
    torch.testing.assert_close(series.variance[[5]], q.variance)
    assert series.volume_units is not None
    volumes = series.volumes()
    assert volumes.mask.shape == (20, 7)
    known = volumes.log_volumes[1, 1]
    torch.testing.assert_close(known, series.log_volumes[8])


def test_the_latent_ode_stands_beside_the_last_value(run: Path) -> None:
    scores = read_csv(run / "tables" / "forecast_scores.csv", FORECAST_SCORES)
    assert set(scores["forecaster"]) == {"last_value", "scan_ode", "chosen"}
    assert len(scores) == 60
    assert np.isfinite(scores["crps"]).all()
    truth = scores.groupby("patient")["truth"].nunique()
    assert truth.tolist() == [1] * 20  # both forecast the same readings
    page = (run / "report.html").read_text("utf-8")
    assert "scan ode: the spread of its bands rests on 4 patients, 20 are needed." in page
    metrics = read_csv(run / "tables" / "forecast_metrics.csv", FORECAST_METRICS)
    doubtful = metrics["doubts"] != ""
    assert "scan_ode" in set(metrics["forecaster"][doubtful])
    assert "last_value" not in set(metrics["forecaster"][doubtful])


@pytest.fixture(scope="module")
def decoded(run: Path, file: Path, encoder: Path) -> Path:
    out = run.parent / "new.csv"
    horizon = ["--horizon", "30,90", "--out", str(out), "--decode", str(encoder)]
    assert main(["forecast", str(run), str(file), *horizon]) == 0
    return out


def test_forecasts_of_volumes_and_scans(decoded: Path) -> None:
    rows = read_csv(decoded, FORECAST)
    assert len(rows) == 40
    ordered = rows[["lower", "median", "upper"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()
    assert np.isnan(rows["conformal_lower"].to_numpy()).all()
    assert rows["doubts"].str.contains("the spread of its bands rests on").all()
    files = sorted(decoded.with_suffix("").iterdir())
    assert len(files) == 20 * 2 * 4 * 2  # patients, horizons, modalities, mean and std
    std = nibabel.load(decoded.with_suffix("") / "subject00003_90_t2f_std.nii.gz")
    assert (np.asarray(std.dataobj) > 0).all()  # pyright: ignore[reportAttributeAccessIssue]


def test_decoded_forecasts_lie_where_the_last_scan_lay(
    run: Path, file: Path, encoder: Path, tmp_path: Path
) -> None:
    """Oblique affines, files with other axes and another space for every scan."""
    series = LatentSeries.load(file)
    angle = np.deg2rad(20.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    turn = np.vstack([turn, [0.0, 0.0, 1.0]])
    affines = series.affines.numpy().copy()
    for row in range(len(affines)):
        affines[row, :3, :3] = turn @ affines[row, :3, :3]
        affines[row, :3, 3] += [row, -2 * row, 7.0]
    moved = LatentSeries(
        **{
            **vars(series),
            "affines": torch.from_numpy(affines),
            "axes": (("A", "R", "I"), ("P", "S", "L"), ("L", "P", "S"), ("R", "A", "S")) * 35,
            "codes": (4, 2, 1, 1) * 35,
        }
    )
    path = moved.save(tmp_path / "moved.safetensors")
    out = tmp_path / "new.csv"
    horizon = ["--horizon", "30", "--out", str(out), "--decode", str(encoder)]
    assert main(["forecast", str(run), str(path), *horizon]) == 0
    image = nibabel.load(tmp_path / "new" / "subject00002_30_t1c_mean.nii.gz")
    last = 2 * 7 + 6  # the last of seven visits
    assert nibabel.aff2axcodes(image.affine) == ("A", "R", "I")  # pyright: ignore
    assert int(image.header["sform_code"]) == 4  # pyright: ignore
    turned = nibabel.as_closest_canonical(image)  # pyright: ignore
    corners = np.array([[0, 0, 0, 1], [15, 0, 0, 1], [0, 15, 0, 1], [3, 7, 15, 1]], float)
    ours = {tuple(np.round(affines[last] @ c, 3)[:3]) for c in _corners(15)}
    theirs = {tuple(np.round(turned.affine @ c, 3)[:3]) for c in _corners(15)}  # pyright: ignore
    assert ours == theirs  # the same eight corners in space
    # and the same value at the same place: a voxel of ours, found through the file's affine
    plain = nibabel.load(_plain(run, file, encoder, tmp_path))
    values = np.asarray(plain.dataobj)  # pyright: ignore[reportAttributeAccessIssue]
    back = nibabel.orientations
    turn_back = back.ornt_transform(
        back.io_orientation(plain.affine),  # pyright: ignore
        back.axcodes2ornt(("S", "P", "L")),
    )
    inside = back.apply_orientation(values, turn_back)
    for index in corners.astype(int)[:, :3]:
        place = affines[last] @ [*index, 1]
        voxel = np.linalg.solve(image.affine, place)[:3]  # pyright: ignore
        found = np.asarray(image.dataobj)[tuple(np.round(voxel).astype(int))]  # pyright: ignore
        assert np.allclose(voxel, np.round(voxel), atol=1e-3)
        assert found == pytest.approx(inside[tuple(index)], abs=1e-5)


def _corners(last: int) -> list[np.ndarray]:
    return [np.array([i, j, k, 1.0]) for i in (0, last) for j in (0, last) for k in (0, last)]


def _plain(run: Path, file: Path, encoder: Path, folder: Path) -> Path:
    """The same forecast with the affines that the phantoms have."""
    out = folder / "plain.csv"
    horizon = ["--horizon", "30", "--out", str(out), "--decode", str(encoder)]
    assert main(["forecast", str(run), str(file), *horizon]) == 0
    return folder / "plain" / "subject00002_30_t1c_mean.nii.gz"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("not there", "no such file"),
        ("truncated", "Encode the scans again"),
        ("variance", "positive variances"),
        ("twice", "two of `subject00000`"),
        ("negative shape", "latent series"),
    ],
)
def test_bad_files(change: str, said: str, run: Path, file: Path, tmp_path: Path, capsys) -> None:
    bad = tmp_path / "bad.safetensors"
    series = LatentSeries.load(file)
    if change == "truncated":
        bad.write_bytes(file.read_bytes()[:-100])
    elif change != "not there":
        content = vars(series).copy()
        if change == "variance":
            series.variance[3, 2] = 0.0
        elif change == "twice":
            series.times[1] = series.times[0]
        else:
            object.__setattr__(series, "shape", (4, 16))
        LatentSeries.save(series, bad)
        assert content["encoder"] == series.encoder
    assert main(["forecast", str(run), str(bad), "--horizon", "30"]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not (tmp_path / "bad-forecast.csv").exists()


def test_a_forecast_that_cannot_be_decoded_leaves_nothing(
    run: Path, file: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one whose table cannot be written: the same command can be given again."""
    out = tmp_path / "new.csv"
    command = ["forecast", str(run), str(file), "--horizon", "30", "--out", str(out)]
    command += ["--decode", str(encoder)]

    def full(*_: object) -> None:
        raise DataError("out", "a place that can be written", "'no space'", "Free some.")

    for place, name in ((decode, "write_volume"), (forecast, "write_csv")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            assert main(command) == 2
        assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("latens.store.atomic._publish", full)  # after the table
        assert main(command) == 2
    assert not list(tmp_path.iterdir())
    assert main(command) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"new.csv", "new"}


def test_bad_commands(
    run: Path, file: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "new.csv"
    table.write_text("patient,time,volume\na,0,3000\n")
    out = str(tmp_path / "x.safetensors")
    cases = [
        (["encode", str(run), "--out", out], "exp1, exp2 or exp3"),
        (["encode", str(encoder), "--seed", "7", "--out", out], "seed"),
        (["encode", str(encoder), "--out", str(tmp_path / "x.csv")], ".safetensors"),
        (["encode", str(encoder), "--out", str(file)], "does not exist yet"),
        (["encode", str(encoder), str(tmp_path / "none"), "--out", out], "none"),
        (["encode", str(encoder), "--count", "0", "--out", out], "count"),
        (["forecast", str(run), str(table), "--horizon", "30"], "forecaster"),
        (["forecast", str(run), str(file), "--horizon", "30", "--conformal"], "conformal"),
        (["forecast", str(run), str(file), "--horizon", "30", "--decode", str(run)], "exp1"),
    ]
    for arguments, said in cases:
        assert main(arguments) == 2, arguments
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
    assert not Path(out).exists()
    study = ["run", "growth", "--latents", str(file), "--data.path", str(table)]
    assert main([*study, "--out", str(tmp_path / "run")]) == 2
    assert "one of the two" in capsys.readouterr().err


def test_another_encoder_does_not_decode(
    run: Path, file: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = LatentSeries.load(file)
    object.__setattr__(series, "encoder", "0" * 64)
    other = series.save(tmp_path / "other.safetensors")
    command = ["forecast", str(run), str(other), "--horizon", "30", "--decode", str(encoder)]
    assert main(command) == 2
    assert "fit 000000" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [other]


def test_what_is_finished_is_not_computed_again(
    run: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "growth", "--stage", "ode", "--latents", str(file), "--out", str(run)]
    assert main([*command, *SERIES]) == 0
    assert "folds in" not in capsys.readouterr().err
    fits = json.loads(RunFolder.open(run).units_file.read_text())["fits"]
    assert set(fits) == {"scan_ode"}
