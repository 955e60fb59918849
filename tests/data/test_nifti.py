"""NIfTI files: orientation, place, intensity, groups, and files that must be refused."""

import gzip
import os

import nibabel
import numpy as np
import pytest
import torch

from latens.data import NiftiFolder, check_folder, read_volume, write_volume
from latens.data.grids import moved_affine
from latens.errors import ConfigError, DataError, LatensError, ShapeError

SHAPE = (6, 8, 10)  # R, A, S
ORIENTATIONS = ["RAS", "LPS", "LAS", "SPL", "PIR", "ASR"]


def anatomy(seed: int = 0, shape=SHAPE) -> np.ndarray:
    """Distinct values, axes towards R, A, S."""
    return np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)


def image(values: np.ndarray, axes: str = "RAS", spacing=(1.0, 2.0, 3.0), dtype=np.float32):
    """A NIfTI image that shows `values` (R, A, S), stored with its axes towards `axes`."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-7, 11, 5)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    stored = nibabel.orientations.apply_orientation(values, turn)
    placed = affine @ nibabel.orientations.inv_ornt_aff(turn, values.shape)
    made = nibabel.Nifti1Image(stored.astype(dtype), placed)
    made.set_sform(placed, code=1)
    made.set_qform(placed, code=1)
    return made


def save(path, values, axes="RAS", **options):
    image(values, axes, **options).to_filename(path)
    return path


def world(volume_affine: np.ndarray, shape) -> np.ndarray:
    """Millimetres of every voxel, `(*shape, 3)`."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ volume_affine[:3, :3].T + volume_affine[:3, 3]


class TestVolumes:
    @pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
    @pytest.mark.parametrize("axes", ORIENTATIONS)
    def test_every_orientation_reads_the_same(self, tmp_path, axes, suffix):
        values = anatomy()
        volume = read_volume(save(tmp_path / f"a.{suffix}", values, axes))
        # D towards the head, H towards the back, W towards the left.
        np.testing.assert_array_equal(volume.values, values[::-1, ::-1].transpose(2, 1, 0))
        assert "".join(volume.axes) == axes
        np.testing.assert_allclose(volume.spacing, (3, 2, 1))
        places = world(volume.affine, volume.values.shape)
        np.testing.assert_allclose(places[0, 0, 0], (-7 + 5 * 1, 11 + 7 * 2, 5))
        np.testing.assert_allclose(places[-1, 0, 0] - places[0, 0, 0], (0, 0, 9 * 3))
        np.testing.assert_allclose(places[0, -1, 0] - places[0, 0, 0], (0, -7 * 2, 0))

    @pytest.mark.parametrize("axes", ORIENTATIONS)
    @pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
    def test_a_volume_goes_back_to_where_it_came_from(self, tmp_path, axes, suffix):
        path = save(tmp_path / f"a.{suffix}", anatomy(), axes)
        volume = read_volume(path)
        write_volume(tmp_path / f"b.{suffix}", volume.values, volume.affine, like=volume)
        before, after = nibabel.load(path), nibabel.load(tmp_path / f"b.{suffix}")
        np.testing.assert_array_equal(after.get_fdata(), before.get_fdata())
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
        assert nibabel.aff2axcodes(after.affine) == tuple(axes)
        assert after.header.get_zooms() == before.header.get_zooms()
        for name in ("qform_code", "sform_code"):
            assert int(after.header[name]) == 1
        assert list(tmp_path.glob(".tmp*")) == []

    def test_a_new_grid_keeps_its_place_where_the_file_names_no_space(self, tmp_path):
        made = nibabel.Nifti1Image(np.zeros((10, 12, 14), np.float32), None)
        made.header.set_zooms((1.0, 1.5, 2.0))
        nibabel.save(made, tmp_path / "plain.nii")
        volume = read_volume(tmp_path / "plain.nii")
        assert volume.code == 0
        affine = moved_affine(volume.affine, (2, 3, 1), (2, 2, 2))
        write_volume(tmp_path / "coarse.nii", volume.values[2::2, 3::2, 1::2], affine, volume)
        np.testing.assert_allclose(read_volume(tmp_path / "coarse.nii").affine, affine)
        write_volume(tmp_path / "same.nii", volume.values, volume.affine, volume)
        assert read_volume(tmp_path / "same.nii").code == 0

    def test_oblique_volumes_keep_their_angle(self, tmp_path):
        turned = image(anatomy())
        angle = 0.2
        affine = turned.affine.copy()
        turn = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        affine[:3, :3] = turn @ affine[:3, :3]
        path = tmp_path / "a.nii"
        nibabel.Nifti1Image(turned.get_fdata(dtype=np.float32), affine).to_filename(path)
        volume = read_volume(path)
        write_volume(tmp_path / "b.nii", volume.values, volume.affine, like=volume)
        np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine, affine, atol=1e-5)

    def test_integers_with_slope_and_intercept_are_read_as_numbers(self, tmp_path):
        made = image(np.zeros(SHAPE))
        stored = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        scaled = nibabel.Nifti1Image(stored, made.affine)
        scaled.header.set_slope_inter(0.5, -100)
        content = bytearray(scaled.to_bytes())
        np.frombuffer(content, np.float32, 2, 112)[:] = (0.5, -100)  # scl_slope, scl_inter
        (tmp_path / "a.nii").write_bytes(content)
        assert read_volume(tmp_path / "a.nii").values.min() == -100
        assert read_volume(tmp_path / "a.nii").values.max() == 0.5 * (stored.size - 1) - 100
        assert read_volume(tmp_path / "a.nii").dtype == "int16"

    def test_a_series_of_one_and_a_single_slice_are_volumes(self, tmp_path):
        made = image(anatomy())
        series = nibabel.Nifti1Image(made.get_fdata(dtype=np.float32)[..., None], made.affine)
        series.to_filename(tmp_path / "a.nii")
        assert read_volume(tmp_path / "a.nii").values.shape == (10, 8, 6)
        slice_ = nibabel.Nifti1Image(made.get_fdata(dtype=np.float32)[..., 0], made.affine)
        slice_.to_filename(tmp_path / "b.nii")
        assert read_volume(tmp_path / "b.nii").values.shape == (1, 8, 6)

    def test_only_volumes_are_written(self, tmp_path):
        volume = read_volume(save(tmp_path / "a.nii", anatomy()))
        with pytest.raises(ShapeError, match="values"):
            write_volume(tmp_path / "b.nii", volume.values[0], volume.affine, like=volume)
        with pytest.raises(DataError, match="Create the folder"):
            write_volume(tmp_path / "no" / "b.nii", volume.values, volume.affine, like=volume)


def write_series(path):
    made = image(anatomy())
    series = np.stack([made.get_fdata(dtype=np.float32)] * 2, axis=-1)
    nibabel.Nifti1Image(series, made.affine).to_filename(path)


def write_typed(dtype):
    return lambda path: nibabel.Nifti1Image(np.zeros(SHAPE, dtype), np.eye(4)).to_filename(path)


def write_truncated(path):
    content = gzip.compress(image(anatomy()).to_bytes())
    path.with_suffix(".nii.gz").write_bytes(content[: len(content) // 2])


def write_packed_bomb(path):
    header = image(anatomy(shape=(4, 4, 4))).header
    header.set_data_shape((30000, 30000, 30000))
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1000)))


def write_other_voxels(path):
    made = image(anatomy())
    content = bytearray(made.to_bytes())
    np.frombuffer(content, np.float32, 1, 80)[:] = 4.0  # pixdim[1]
    content[252:254] = (0).to_bytes(2, "little")  # qform_code
    path.write_bytes(content)


def write_two_orientations(path):
    made = image(anatomy())
    made.set_qform(made.affine @ np.diag([-1, 1, 1, 1]), code=1)
    made.to_filename(path)


def write_flat(path):
    made = image(anatomy())
    made.set_sform(np.diag([1, 1, 0, 1]), code=1)
    made.to_filename(path)


REFUSED = {
    "truncated gzip": (write_truncated, "complete NIfTI file"),
    "promises too much": (write_packed_bomb, "the header promises"),
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "empty gzip": (lambda path: path.with_suffix(".nii.gz").write_bytes(b""), "an empty file"),
    "text": (lambda path: path.write_text("<html>" * 100), "complete NIfTI file"),
    "header alone": (
        lambda path: path.write_bytes(image(anatomy()).to_bytes()[:352]),
        "complete NIfTI file",
    ),
    "series": (write_series, "Save one volume per file"),
    "complex": (write_typed(np.complex64), "real numbers"),
    "colour": (write_typed(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), "real numbers"),
    "NaN": (lambda path: save(path, anatomy() * np.nan), "finite"),
    "infinite": (lambda path: save(path, anatomy() / 0.0), "finite"),
    "too large": (lambda path: save(path, 1e300 * anatomy().astype(float), dtype=float), "finite"),
    "other voxel sizes": (write_other_voxels, "voxel sizes of the header"),
    "two orientations": (write_two_orientations, "disagree (LAS and RAS)"),
    "flat affine": (write_flat, "inverted"),
    "other spacing": (lambda path: save(path, anatomy(), spacing=(1, 2, 4)), "voxels of"),
    "other shape": (lambda path: save(path, anatomy(shape=(6, 8, 9))), "shape"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_files_are_named_in_one_line(tmp_path, case, capfd):
    write, fragment = REFUSED[case]
    for seed in range(3):
        save(tmp_path / f"a{seed}.nii", anatomy(seed))
    write(tmp_path / "bad.nii")
    with pytest.raises(LatensError) as caught:
        NiftiFolder(str(tmp_path)).load()
    text = str(caught.value)
    assert "bad.nii" in text
    assert fragment in text
    assert "\n" not in text
    report = check_folder(tmp_path)
    assert [os.path.basename(one.file).partition(".")[0] for one in report.errors] == ["bad"]
    assert "\n" not in report.errors[0].message
    assert capfd.readouterr().err == "", "nibabel prints nothing beside it"


def test_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.nii")
    with pytest.raises(DataError, match="no such file"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("trial", range(30))
def test_no_traceback_whatever_is_flipped(tmp_path, trial):
    """Check and source agree on a file with random damage, and neither lets one through."""
    rng = np.random.default_rng(trial)
    save(tmp_path / "a.nii", anatomy())
    content = bytearray(image(anatomy(1)).to_bytes())
    for place in rng.integers(0, 352, size=3):
        content[place] = rng.integers(256)
    cut = content[: rng.integers(1, len(content)) if trial % 3 == 0 else None]
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(cut)))
    report = check_folder(tmp_path)
    try:
        NiftiFolder(str(tmp_path)).load()
    except LatensError:
        assert report.errors
    else:
        assert not report.errors


@pytest.fixture
def folder(tmp_path):
    """Two subjects in sub-folders, T1 and T2 each, in different orientations."""
    for k, axes in enumerate(("LPS", "RAS")):
        (tmp_path / f"sub{k}").mkdir()
        for j, name in enumerate(("t1", "t2")):
            save(tmp_path / f"sub{k}" / f"{name}.nii.gz", anatomy(2 * k + j), axes)
        (tmp_path / f"sub{k}" / "notes.txt").write_text("x")
    return tmp_path


def upright(seed):
    return anatomy(seed)[::-1, ::-1].transpose(2, 1, 0)


class TestFolder:
    def test_volumes_with_place_and_subject(self, folder):
        images = NiftiFolder(str(folder), pattern="./*/*.nii.gz").load()
        assert images.x.shape == (4, 1, 10, 8, 6)
        for seed in range(4):
            np.testing.assert_array_equal(images.x[seed, 0].numpy(), upright(seed))
        assert images.groups == ("sub0", "sub0", "sub1", "sub1")
        assert images.data_range == (float(images.x.min()), float(images.x.max()))
        assert images.affines is not None
        np.testing.assert_allclose(images.affines[0], images.affines[3])
        kept = images.select([2]).affines
        assert kept is not None
        np.testing.assert_array_equal(kept, images.affines[[2]])

    def test_pattern_and_limit(self, folder):
        images = NiftiFolder(str(folder), pattern="./*/t2.nii.gz").load()
        np.testing.assert_array_equal(images.x[1, 0].numpy(), upright(3))
        assert len(NiftiFolder(str(folder), pattern="./*/*", limit=3).load()) == 3

    def test_files_side_by_side_are_their_own_groups(self, tmp_path):
        for seed in (10, 9):
            save(tmp_path / f"s{seed}.nii", anatomy(seed))
        images = NiftiFolder(str(tmp_path)).load()
        assert images.groups == ("s9", "s10")

    def test_table_of_groups(self, folder):
        rows = "sub0/t1.nii.gz,p\nsub1/t1.nii.gz,p\nsub1/t2.nii.gz,q\n"
        (folder / "groups.csv").write_text(f"file,group\n{rows}")
        images = NiftiFolder(str(folder), pattern="./*/t1.nii.gz").load()
        assert images.groups == ("p", "p")
        with pytest.raises(DataError, match=r"sub0/t2\.nii\.gz"):
            NiftiFolder(str(folder), pattern="./*/t2.nii.gz").load()

    def test_size_crops_and_pads_about_the_centre(self, folder):
        whole = NiftiFolder(str(folder), pattern="./*/t1.nii.gz").load()
        images = NiftiFolder(str(folder), pattern="./*/t1.nii.gz", size=(6, 8, 10)).load()
        assert images.x.shape == (2, 1, 6, 8, 10)
        torch.testing.assert_close(images.x[..., 2:8], whole.x[:, :, 2:8])
        assert len(images.x[0, ..., :2].unique()) == 1
        assert images.affines is not None
        assert whole.affines is not None
        places = world(images.affines[0], (6, 8, 10))[:, :, 2:8]
        np.testing.assert_allclose(places, world(whole.affines[0], (10, 8, 6))[2:8])

    def test_size_makes_other_shapes_fit(self, folder):
        save(folder / "sub0" / "t3.nii.gz", anatomy(5, (7, 7, 9)))
        with pytest.raises(ShapeError, match=r"t3\.nii\.gz.*Set `size`"):
            NiftiFolder(str(folder), pattern="./*/*.nii.gz").load()
        images = NiftiFolder(str(folder), pattern="./*/*.nii.gz", size=(8, 6, 6)).load()
        assert images.x.shape == (5, 1, 8, 6, 6)

    def test_blocks_are_averaged_in_place(self, folder):
        whole = NiftiFolder(str(folder), pattern="./*/t1.nii.gz").load()
        images = NiftiFolder(str(folder), pattern="./*/t1.nii.gz", block=2).load()
        expected = whole.x.reshape(2, 1, 5, 2, 4, 2, 3, 2).mean(dim=(3, 5, 7))
        torch.testing.assert_close(images.x, expected)
        assert images.affines is not None
        assert whole.affines is not None
        fine = world(whole.affines[0], (10, 8, 6)).reshape(5, 2, 4, 2, 3, 2, 3).mean((1, 3, 5))
        np.testing.assert_allclose(world(images.affines[0], (5, 4, 3)), fine)
        with pytest.raises(ShapeError, match="multiples of `block`"):
            NiftiFolder(str(folder), pattern="./*/t1.nii.gz", block=4).load()

    def test_slices_lie_in_the_middle_and_keep_their_place(self, folder):
        whole = NiftiFolder(str(folder), pattern="./*/t1.nii.gz").load()
        images = NiftiFolder(str(folder), pattern="./*/t1.nii.gz", slices=3, size=(8, 4)).load()
        assert images.x.shape == (6, 1, 8, 4)
        assert images.groups == ("sub0",) * 3 + ("sub1",) * 3
        assert images.affines is not None
        assert whole.affines is not None
        places = world(whole.affines[1], (10, 8, 6))[..., 1:5, :]
        for k, depth in enumerate((3, 5, 7)):
            torch.testing.assert_close(images.x[3 + k, 0], whole.x[1, 0, depth, :, 1:5])
            np.testing.assert_allclose(world(images.affines[3 + k], (1, 8, 4))[0], places[depth])

    def test_slabs_hold_neighbours(self, folder):
        images = NiftiFolder(str(folder), pattern="./*/*.gz", slices=4, slab=2).load()
        assert images.groups[:4] == ("sub0/slab 0",) * 2 + ("sub0/slab 1",) * 2
        assert len(set(images.groups)) == 4, "both modalities of a slab stay together"

    def test_unit_scale_is_robust_and_per_volume(self, tmp_path):
        shape = (24, 24, 24)
        for seed, gain in enumerate((1.0, 40.0)):
            values = anatomy(0, shape).clip(0) * gain
            values[:12] = 0  # background
            values[13, 5, 5] = 1e6  # one hot voxel
            save(tmp_path / f"{seed}.nii", values)
        images = NiftiFolder(str(tmp_path), scale="unit").load()
        assert images.data_range == (0, 1)
        torch.testing.assert_close(images.x[0], images.x[1])
        assert images.x[0].max() == 1
        assert (images.x[0] == 0).float().mean() == pytest.approx(0.5, abs=0.01)
        assert 0.2 < images.x[0].mean() < 0.35, "the hot voxel does not darken the rest"
        raw = NiftiFolder(str(tmp_path), scale="none", data_range=(0, 2e6)).load()
        assert raw.x.max() == 1e6
        assert raw.data_range == (0, 2e6)

    @pytest.mark.parametrize(
        ("argument", "changes"),
        [
            ("size", {"size": (8, 8)}),
            ("size", {"size": (8, 8, 8), "slices": 2}),
            ("size", {"size": (8, 8, 0)}),
            ("block", {"block": 0}),
            ("slices", {"slices": 0}),
            ("slab", {"slab": 2}),
            ("slab", {"slab": 0, "slices": 2}),
            ("scale", {"scale": "log"}),
            ("limit", {"limit": 0}),
        ],
    )
    def test_bad_settings_are_refused(self, argument, changes):
        with pytest.raises(ConfigError) as caught:
            NiftiFolder("nowhere", **changes)
        assert caught.value.argument == argument

    @pytest.mark.parametrize(
        ("fragment", "changes"),
        [
            ("no such folder", {"path": "nowhere"}),
            ("none", {"pattern": "./*.nii"}),
            ("pattern", {"pattern": "/*/*.nii"}),
            ("pattern", {"pattern": ""}),
            ("fewer slices", {"pattern": "./*/*.gz", "slices": 7}),
        ],
    )
    def test_what_is_not_there_is_said(self, folder, fragment, changes):
        with pytest.raises(LatensError, match=fragment):
            NiftiFolder(**{"path": str(folder), **changes}).load()


class TestCheck:
    def test_sound_folder(self, folder):
        report = check_folder(folder)
        assert not report.errors
        assert [one.severity for one in report.findings] == ["note", "note"]
        assert "mixes orientations (2 × LPS, 2 × RAS)" in report.findings[1].message
        assert (report.kind, report.count, report.shape) == ("NIfTI", 4, (1, 10, 8, 6))
        single = check_folder(folder / "sub0" / "t1.nii.gz")
        assert single.findings == []
        assert single.count == 1

    def messages(self, folder) -> str:
        found = check_folder(folder).findings
        return "\n".join(f"{one.severity} {one.file} {one.message}" for one in found)

    def test_a_copy_in_another_orientation_is_a_duplicate(self, folder):
        save(folder / "sub1" / "again.nii", anatomy(0), "PIR")
        assert "has the same content" in self.messages(folder)

    def test_unregistered_volumes_of_a_subject_are_reported(self, folder):
        made = image(anatomy(7))
        moved = made.affine.copy()
        moved[0, 3] += 20
        nibabel.Nifti1Image(made.get_fdata(dtype=np.float32), moved).to_filename(
            folder / "sub1" / "t3.nii"
        )
        assert "t3.nii lie elsewhere in space than t1.nii.gz" in self.messages(folder)

    def test_headers_without_orientation_are_reported(self, folder):
        made = image(anatomy(8), "LAS")
        made.set_sform(None, code=0)
        made.set_qform(None, code=0)
        made.to_filename(folder / "sub1" / "t3.nii")
        assert "do not say how they are oriented" in self.messages(folder)

    def test_missing_rows_are_reported(self, folder):
        (folder / "groups.csv").write_text("file,group\nsub0/t1.nii.gz,p\n")
        assert "lacks a row for sub0/t2.nii.gz" in self.messages(folder)


def test_real_brains(shared_data):
    source = NiftiFolder(
        str(shared_data / "brain_mri"),
        pattern="./*/*_t1*_bet.nii.gz",
        size=(144, 192, 168),
        block=12,
        scale="unit",
    )
    images = source.load()
    assert images.x.shape == (4, 1, 12, 16, 14)
    assert len(set(images.groups)) == 2
    assert images.affines is not None
    x = images.x[:, 0]
    np.testing.assert_allclose(images.affines, images.affines[:1].repeat(4, 0))
    assert (x[:, :, :, 0] < 0.05).all(), "air beside the head"
    assert x[:, 4:8, 4:12, 4:10].mean() > 0.2


def test_atlas_and_subjects_overlay_once_turned(shared_data):
    """The atlas is stored RAS and the subjects LPS: turned, their brains coincide."""
    folder = shared_data / "brain_mri"
    atlas = read_volume(next((folder / "atlas").glob("*.nii.gz")))
    subject = read_volume(next((folder / "TCGA-DU-7294").glob("*_t1_bet.nii.gz")))
    assert (atlas.axes, subject.axes) == (("R", "A", "S"), ("L", "P", "S"))
    a, b = atlas.values > 0, subject.values > 20
    dice = 2 * (a & b).sum() / (a.sum() + b.sum())
    flipped = 2 * (a & b[:, ::-1]).sum() / (a.sum() + b.sum())
    assert dice > 0.8
    assert dice > flipped + 0.02
