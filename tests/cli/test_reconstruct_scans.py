"""`latens reconstruct` of a run of scans: stand-in subjects, and the two real ones."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml

from latens.cli import main
from latens.data import PhantomSubjects, SubjectFolder
from latens.models.partitioned import PartitionedVAE
from latens.store import read_csv
from latens.studies.volumes.decode import file_names
from latens.studies.volumes.encode import folder_like, trained
from latens.studies.volumes.reconstruct import RECONSTRUCTED
from latens.studies.volumes.study import VolumeStudy
from stand_ins.subject_scans import subject
from stand_ins.tiny_scans import TINY_SCANS, trained_scans


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_scans(tmp_path_factory.mktemp("scans"))


def test_maps_lie_where_the_scans_lie(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    subject(data, "a", axes="RAS")
    subject(data, "b", seed=1, axes="PIR", tilt=0.1)
    assert main(["reconstruct", str(run), str(data), "--out", str(tmp_path / "out")]) == 0
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert len(files) == 2 * 4 * 3 + 1
    subjects = SubjectFolder(str(data), size=(16, 16, 16), spacing=11.0).load()
    for k, axes in enumerate((("R", "A", "S"), ("P", "I", "R"))):
        name = "ab"[k]
        image = nibabel.load(tmp_path / "out" / f"{name}_t1c_input.nii.gz")
        assert nibabel.aff2axcodes(image.affine) == axes  # pyright: ignore
        values = np.asarray(image.dataobj)  # pyright: ignore
        scan = subjects[[k]].images[0, 0].numpy()
        for index in ((8, 7, 9), (5, 9, 8)):  # the same value at the same place in the world
            place = subjects.affines[k] @ [*index, 1]
            voxel = np.linalg.solve(image.affine, place)[:3]  # pyright: ignore
            assert values[tuple(np.round(voxel).astype(int))] == pytest.approx(scan[index])
        for kind in ("mean", "std"):
            other = nibabel.load(tmp_path / "out" / f"{name}_t1c_{kind}.nii.gz")
            np.testing.assert_array_equal(other.affine, image.affine)  # pyright: ignore
    rows = read_csv(tmp_path / "out" / "scans.csv", RECONSTRUCTED)
    assert set(rows["scan"]) == {"a", "b"}
    assert {"mse", "log_volume", "centroid_s", "flatness"} <= set(rows["quantity"])
    first = rows.index[(rows["scan"] == "a") & (rows["quantity"] == "log_volume")]
    _, model, _ = trained(run)
    assert isinstance(model, PartitionedVAE)
    with torch.no_grad():
        q = model.encode(subjects[[0]].images)
        width = (q.variance[0, 0] + model.target_spread.value[0].square()).sqrt()
    width = float(width * model.target_scale[0])  # of z | x and of t | z
    np.testing.assert_allclose(rows["std"].to_numpy()[first], width, rtol=1e-3)
    known = rows["measured"].to_numpy()[first]
    np.testing.assert_allclose(known, float(subjects.targets[0, 0]))
    errors = rows["value"].to_numpy()[rows["quantity"].to_numpy() == "mse"]
    mean = np.asarray(nibabel.load(tmp_path / "out" / "a_t2w_mean.nii.gz").dataobj)  # pyright: ignore
    assert np.isfinite(mean).all()
    assert (errors > 0).all()


def test_a_folder_has_voxels_as_large_as_those_of_the_phantoms(run: Path) -> None:
    study, model, _ = trained(run)
    source = folder_like(study, model.signal_shape, "somewhere")
    assert isinstance(source, SubjectFolder)
    affine = PhantomSubjects((16, 16, 16), 1).load().affines[0]
    np.testing.assert_allclose(source.preparation.spacing, np.linalg.norm(affine[:3, :3], axis=0))


def test_days_of_visits_are_those_of_the_same_folder(tmp_path: Path) -> None:
    known = SubjectFolder(str(tmp_path / "a"), size=(16, 16, 16), visits="days.csv", limit=3)
    study = VolumeStudy(known)
    same, other = (folder_like(study, (4, 16, 16, 16), str(tmp_path / name)) for name in "ab")
    assert isinstance(same, SubjectFolder)
    assert isinstance(other, SubjectFolder)
    assert (same.visits, other.visits) == ("days.csv", None)
    assert same.limit is None  # all of the folder was asked for


def test_scans_that_a_model_has_seen_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One subject more than it was trained on does not hide the others."""
    data = tmp_path / "data"
    names = [f"s{k:02d}" for k in range(26)]
    for k, name in enumerate(names[:25]):
        subject(data, name, seed=k)
    source = {
        "class_path": "latens.data.SubjectFolder",
        "init_args": {"path": str(data), "size": [16, 16, 16], "spacing": 11.0, "limit": 24},
    }
    config, run = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(TINY_SCANS | {"data": source, "test_scans": 8}))
    arguments = ["--stage", "exp1", "--config", str(config), "--out", str(run)]
    assert main(["run", "growth", *arguments]) in (0, 4)
    subject(data, names[25], seed=25)
    capsys.readouterr()
    assert main(["reconstruct", str(run), str(data), "--out", str(tmp_path / "out")]) == 0
    assert "warning: 16 of them were trained on" in capsys.readouterr().out
    rows = read_csv(tmp_path / "out" / "scans.csv", RECONSTRUCTED)
    roles = rows.groupby("scan")["role"].first()
    assert roles[names[24:]].tolist() == ["", ""]
    assert roles.value_counts().to_dict() == {"train": 8, "validation": 8, "test": 8, "": 2}


def test_every_patient_has_files_of_its_own() -> None:
    names = file_names(("a-b-2", "a-b", "a b", "a/b", "?"))
    assert len(set(names)) == 5
    assert names[:2] == ["a-b-2", "a-b"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--solver", "map"], "solver"),
        (["--gate"], "gate"),
        (["--out", "."], "does not exist yet"),
        ([], "none"),
    ],
)
def test_bad_commands(
    run: Path, more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", str(run), str(tmp_path / "none"), *more]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_both_real_subjects(run: Path, shared_data: Path, tmp_path: Path) -> None:
    """Through a model of phantoms that was trained for four steps: files at the right place."""
    path = shared_data / "brain_mri"
    if not path.is_dir():
        pytest.skip(f"real data absent: no folder {path}")
    out = tmp_path / "out"
    assert main(["reconstruct", str(run), str(path), "--out", str(out)]) == 0
    rows = read_csv(out / "scans.csv", RECONSTRUCTED)
    assert set(rows["scan"]) == {"TCGA-DU-7294", "TCGA-FG-6692"}
    original = nibabel.load(path / "TCGA-FG-6692" / "OtherEXampleFromTCIA_fla_bet.nii.gz")
    image = nibabel.load(out / "TCGA-FG-6692_t2f_input.nii.gz")
    middles = []
    for one in (original, image):  # the brain, which is not zero, in both
        voxels = np.argwhere(np.asarray(one.dataobj) != 0)  # pyright: ignore
        middles.append(voxels.mean(0) @ one.affine[:3, :3].T + one.affine[:3, 3])  # pyright: ignore
    assert np.linalg.norm(middles[0] - middles[1]) < 4  # mm, a third of a voxel of 12
