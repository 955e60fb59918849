"""Folders of subjects: place in space, standardisation, caches, visits, and bad input."""

import math
import os
import shutil

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from latens.data import SubjectFolder, check_folder, scan_cache
from latens.data.lesion_shape import lesion_targets
from latens.data.scan_preparation import VERSION, Preparation, _resampled
from latens.data.subjects import MODALITIES
from latens.errors import ConfigError, DataError, LatensError, ShapeError
from stand_ins.spoiled_scans import BAD, constant, missing
from stand_ins.subject_scans import SHAPE, SPACING, affine_of, head, subject, write

AXES = ("LPS", "RAS", "PIR", "SPL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("subjects")
    for k, axes in enumerate(AXES):
        subject(path, f"s{k}", axes=axes)
    return path


@pytest.fixture(scope="module")
def source(folder):
    return SubjectFolder(str(folder), size=(16, 20, 18), spacing=2.0)


@pytest.fixture(scope="module")
def subjects(source):
    return source.load()


def test_one_head_in_any_orientation_is_one_scan(subjects):
    scans = subjects[:]
    assert scans.images.shape == (4, 4, 16, 20, 18)
    for k in range(1, 4):
        torch.testing.assert_close(scans.images[k], scans.images[0], rtol=0, atol=1e-4)
        assert (scans.lesion[k] == scans.lesion[0]).all()
    np.testing.assert_allclose(subjects.affines[1:], subjects.affines[:-1], atol=1e-5)  # float32
    torch.testing.assert_close(subjects.targets[1:], subjects.targets[:-1])
    assert subjects.axes == tuple(tuple(axes) for axes in AXES)


def test_channels_are_standardised_over_the_brain(subjects):
    scans = subjects[:]
    for image, brain in zip(scans.images, scans.brain[:, 0], strict=True):
        inside = image[:, brain].double()
        assert inside.mean(1).abs().max() < 1e-6
        assert (inside.std(1, correction=0) - 1).abs().max() < 1e-6
        assert (image[:, ~brain] == 0).all()


def test_targets_are_measured_in_the_file(subjects):
    _, _, lesion = head()
    expected = lesion_targets(lesion, np.asarray(SPACING))
    found = subjects.targets[0].numpy()
    np.testing.assert_allclose(found[[0, 4, 5, 6, 7]], expected[[0, 4, 5, 6, 7]], rtol=1e-6)
    spl, _, _ = affine_of("LPS")
    middle = spl @ [*np.argwhere(lesion).mean(0), 1]
    index = ((found[1:4] + 1) * (16, 20, 18) - 1) / 2
    np.testing.assert_allclose(subjects.affines[0] @ [*index, 1], middle, atol=1e-4)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL"])
@pytest.mark.parametrize("tilt", [0.0, 0.1])
def test_a_marked_voxel_keeps_its_place_in_the_world(tmp_path, axes, tilt):
    """From the file to the model and back to a file: millimetres agree to 1e-4."""
    voxel = (7, 12, 9)
    lesion = np.zeros(SHAPE, dtype=np.uint8)
    lesion[voxel] = 1
    subject(tmp_path / "in", "a", axes=axes, tilt=tilt, lesion=lesion)
    spl, _, _ = affine_of(axes, tilt=tilt)
    world = (spl @ [*voxel, 1])[:3]
    subjects = SubjectFolder(str(tmp_path / "in"), size=(30, 32, 31), spacing=1.1).load()
    index = ((subjects.targets[0, 1:4].double().numpy() + 1) * (30, 32, 31) - 1) / 2
    np.testing.assert_allclose((subjects.affines[0] @ [*index, 1])[:3], world, atol=1e-4)

    # A ball of light about the marked place, written by latens, read by nibabel.
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (30, 32, 31)], indexing="ij"), -1)
    light = np.exp(-((grid - index) ** 2).sum(-1) / 2)
    path = subjects.write(0, light, tmp_path / "out.nii.gz")
    image = nibabel.load(path)
    assert "".join(nibabel.aff2axcodes(image.affine)) == axes
    values = image.get_fdata()
    places = np.argwhere(values >= 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    centre = (values.ravel()[:, None] * places).sum(0) / values.sum()
    np.testing.assert_allclose(centre, world, atol=1e-4)


def test_the_mark_itself_lands_where_its_coordinates_say(tmp_path):
    """The images are moved as the affine says, not only the numbers."""
    values = head()[1].astype(float)
    mark = np.zeros(SHAPE)
    mark[6:10, 9:13, 8:12] = 1
    subject(tmp_path, "a", axes="RAS")
    for modality in MODALITIES:
        write(tmp_path / "a" / f"a-{modality}.nii.gz", values + 5 * mark, "RAS")
    subjects = SubjectFolder(str(tmp_path), size=(40, 40, 40), spacing=1.0).load()
    image = subjects[[0]].images[0, 0].double().numpy()
    bright = np.clip(image - np.median(image[image != 0]), 0, None)
    bright[image == 0] = 0
    middle = (np.argwhere(bright >= 0) * bright.ravel()[:, None]).sum(0) / bright.sum()
    spl, _, _ = affine_of("RAS")
    np.testing.assert_allclose(
        subjects.affines[0] @ [*middle, 1], spl @ [7.5, 10.5, 9.5, 1], atol=0.05
    )


def test_resampling_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    source, _, _ = affine_of("LPS")
    inner = np.diag([0.7, 0.9, 0.8, 1.0])
    inner[:3, 3] = 2.3, 1.9, 3.1
    how = Preparation(MODALITIES, (15, 17, 16), (1.0, 1.0, 1.0))
    found, affine = _resampled(values, source, source @ inner, how)
    np.testing.assert_allclose(affine, source @ inner, atol=1e-9)
    points = np.stack(np.meshgrid(*[np.arange(n) for n in how.size], indexing="ij"))
    points = points * np.diag(inner)[:3].reshape(3, 1, 1, 1) + inner[:3, 3].reshape(3, 1, 1, 1)
    expected = np.stack([map_coordinates(part.astype(float), points, order=1) for part in values])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_thinning_out_does_not_alias():
    """A chequerboard of the file becomes its mean, not a pattern of its own."""
    board = np.indices((40, 40, 40)).sum(0) % 2
    how = Preparation(MODALITIES, (10, 10, 10), (3.0, 3.0, 3.0))
    target = np.diag([3.0, 3.0, 3.0, 1.0])
    target[:3, 3] = 6.0
    found, _ = _resampled(board[None].astype(np.float32), np.eye(4), target, how)
    assert np.abs(found - 0.5).max() < 0.02


def test_the_dark_surroundings_do_not_leak_into_the_rim(tmp_path):
    """Where a modality is nearly flat, the rim of the brain is no darker than its middle."""
    _, brain, _ = head()
    flat = brain * (100 + 0.5 * np.random.default_rng(1).normal(size=SHAPE))
    subject(tmp_path, "a")
    write(tmp_path / "a" / "a-t1c.nii.gz", flat)
    scans = SubjectFolder(str(tmp_path), size=(12, 14, 13), spacing=3.0).load()[[0]]
    assert scans.images[0, 0].min() > -10, "a voxel with zeros mixed in would lie at −50 or below"


def test_a_given_brain_mask_is_used(tmp_path):
    subject(tmp_path, "a")
    _, brain, _ = head()
    half = brain.copy()
    half[:, :, : SHAPE[2] // 2] = False  # the lesion lies in the other half
    source = SubjectFolder(str(tmp_path), size=(40, 40, 40), spacing=1.0)
    plain = source.load()[[0]]
    write(tmp_path / "a" / "a_brain_mask.nii.gz", half, dtype=np.uint8)
    given = source.load()[[0]]
    share = half.sum() / brain.sum()
    assert given.brain.sum() / plain.brain.sum() == pytest.approx(share, abs=0.04)


def test_without_segmentation_targets_are_unknown(tmp_path):
    subject(tmp_path, "a")
    (tmp_path / "a" / "a-seg.nii.gz").unlink()
    subjects = SubjectFolder(str(tmp_path), size=(16, 20, 18), spacing=2.0).load()
    assert subjects.targets.isnan().all()
    assert not subjects[:].lesion.any()


def test_labels_choose_what_counts(tmp_path):
    _, _, lesion = head()
    both = lesion.astype(np.uint8)
    both[:, :11] *= 4
    subject(tmp_path, "a", lesion=both)
    sizes = {}
    for labels in (None, (1,), (4,), (1, 4)):
        loaded = SubjectFolder(str(tmp_path), size=(16, 20, 18), spacing=2.0, labels=labels).load()
        sizes[labels] = float(loaded.volumes[0])
    assert sizes[None] == sizes[1, 4]
    assert sizes[(1,)] + sizes[(4,)] == pytest.approx(sizes[None], rel=1e-5)


def test_an_empty_segmentation_is_refused_or_means_no_lesion(tmp_path):
    subject(tmp_path, "a", lesion=np.zeros(SHAPE))
    settings = {"size": (16, 20, 18), "spacing": 2.0}
    with pytest.raises(DataError, match=r"a-seg\.nii\.gz.*an empty segmentation, as 1 of 1"):
        SubjectFolder(str(tmp_path), **settings).load()
    kept = SubjectFolder(str(tmp_path), **settings, no_lesion="keep").load()
    assert kept.volumes[0] == 0
    assert kept.targets[0, 0] == -math.inf
    assert kept.targets[0, 1:].isnan().all()
    assert not kept[[0]].lesion.any()


@pytest.mark.parametrize(("share", "refused"), [(0.45, False), (0.55, True), (1.0, True)])
def test_a_lesion_that_lies_mostly_outside_the_brain_is_refused(tmp_path, share, refused):
    """Preparation and inspection say the same."""
    _, brain, _ = head()
    inside, outside = np.argwhere(brain), np.argwhere(~brain)
    lesion = np.zeros(SHAPE, dtype=np.uint8)
    for places, count in ((inside, round(100 * (1 - share))), (outside, round(100 * share))):
        near = ((places - [9, 11, 10]) ** 2).sum(1).argsort()[:count]
        lesion[tuple(places[near].T)] = 1
    subject(tmp_path, "a", lesion=lesion)
    source = SubjectFolder(str(tmp_path), size=(40, 40, 40), spacing=1.5)
    if not refused:
        assert float(source.load().volumes[0]) == pytest.approx(100 * np.prod(SPACING))
        assert not check_folder(tmp_path).errors
        return
    with pytest.raises(DataError, match=rf"a-seg.*outside the brain.*{round(100 * share)} %"):
        source.load()
    assert "outside the brain" in _said(tmp_path, "error")


# caches


def entries(cache):
    return sorted(path.name for path in cache.iterdir())


def test_a_cache_gives_the_same_scans_and_saves_the_work(folder, subjects, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cached = SubjectFolder(str(folder), size=(16, 20, 18), spacing=2.0, cache=str(cache))
    loaded = cached.load()
    for a, b in ((loaded[[2, 0]], subjects[[2, 0]]),):
        torch.testing.assert_close(a.images, b.images, rtol=0, atol=0)
        assert (a.brain == b.brain).all()
        assert (a.lesion == b.lesion).all()
    torch.testing.assert_close(loaded.targets, subjects.targets, rtol=0, atol=0)
    np.testing.assert_array_equal(loaded.affines, subjects.affines)
    assert loaded.identity == subjects.identity
    names = {path.name for path in cache.rglob("*") if path.is_file()}
    assert names == {"images.npy", "masks.npy", "scan.json"}

    def again(*_):
        raise AssertionError("prepared twice")

    monkeypatch.setattr(scan_cache, "prepare", again)
    torch.testing.assert_close(cached.load()[[1]].images, loaded[[1]].images, rtol=0, atol=0)


def test_a_cache_is_wiped_where_files_or_settings_change(tmp_path):
    data, cache = tmp_path / "data", tmp_path / "cache"
    for name in ("a", "b"):
        subject(data, name)
    cache.mkdir()
    (cache / "notes.txt").write_text("mine")
    (cache / "mine").mkdir()
    settings = {"size": (16, 20, 18), "spacing": 2.0, "cache": str(cache)}
    first = SubjectFolder(str(data), **settings).load()
    before = entries(cache)
    values, _, _ = head(seed=5)
    write(data / "b" / "b-t2w.nii.gz", values[3])
    second = SubjectFolder(str(data), **settings).load()
    after = entries(cache)
    assert len(after) == len(before)
    assert len(set(after) - set(before)) == 1, "one scan made anew, its old entry gone"
    assert (second[[1]].images[0, 3] - first[[0]].images[0, 3]).abs().max() > 0.5
    assert second.identity != first.identity
    SubjectFolder(str(data), **{**settings, "spacing": 2.5}).load()
    assert not set(entries(cache)) & (set(after) - {"mine", "notes.txt"}), "all made anew"
    assert {"mine", "notes.txt"} <= set(entries(cache))
    SubjectFolder(str(data), **{**settings, "spacing": 2.5}, limit=1).load()
    assert len(entries(cache)) == 4, "a part of the scans leaves the others"


def plain(folder, name, seed=0, when=1_600_000_000):
    """A subject as files that are not packed, so that others of its shape have the same size."""
    values, _, lesion = head(seed)
    for modality, channel in zip(MODALITIES, values, strict=True):
        write(folder / name / f"{name}-{modality}.nii", channel)
    write(folder / name / f"{name}-seg.nii", lesion * (1 + np.indices(SHAPE)[0] % 2))
    for file in (folder / name).iterdir():
        os.utime(file, (when, when))


def _other_values(data):
    plain(data, "a", seed=5, when=1_600_000_001)


def _given_brain(data):
    write(data / "a" / "a_brain_mask.nii", np.indices(SHAPE)[0] >= 8, dtype=np.uint8)


def _no_segmentation(data):
    (data / "a" / "a-seg.nii").unlink()


def _other_role(data):
    (data / "a" / "a-seg.nii").rename(data / "a" / "a_brain_mask.nii")


CHANGES = {
    "order of modalities": ({"modalities": MODALITIES[::-1]}, None),
    "fewer modalities": ({"modalities": MODALITIES[:2]}, None),
    "size": ({"size": (20, 20, 18)}, None),
    "spacing": ({"spacing": 2.5}, None),
    "labels": ({"labels": (2,)}, None),
    "values": ({}, _other_values),
    "brain mask": ({}, _given_brain),
    "no segmentation": ({}, _no_segmentation),
    "another role of a file": ({}, _other_role),
    "another folder, names, sizes and times alike": ({"path": "others"}, None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_cache_gives_what_preparing_anew_would(tmp_path, change):
    data, cache = tmp_path / "data", str(tmp_path / "cache")
    plain(data, "a")
    plain(tmp_path / "others", "a", seed=5)
    settings = {"size": (16, 20, 18), "spacing": 2.0}
    before = SubjectFolder(str(data), **settings, cache=cache).load()
    other, spoil = CHANGES[change]
    if spoil is not None:
        spoil(data)
    path = str(tmp_path / other.get("path", "data"))
    settings |= {key: value for key, value in other.items() if key != "path"}
    cached = SubjectFolder(path, **settings, cache=cache).load()
    anew = SubjectFolder(path, **settings).load()
    assert cached.identity == anew.identity != before.identity
    torch.testing.assert_close(cached[[0]].images, anew[[0]].images, rtol=0, atol=0)


def test_folders_of_the_same_subjects_share_a_cache(tmp_path):
    settings = {"size": (16, 20, 18), "spacing": 2.0, "cache": str(tmp_path / "cache")}
    for k in (0, 1):
        plain(tmp_path / str(k), "a", seed=k)
        SubjectFolder(str(tmp_path / str(k)), **settings).load()
    both = entries(tmp_path / "cache")
    assert len(both) == 2
    SubjectFolder(str(tmp_path / "0"), **settings).load()
    assert entries(tmp_path / "cache") == both
    shutil.rmtree(tmp_path / "1")
    SubjectFolder(str(tmp_path / "0"), **settings).load()
    assert len(entries(tmp_path / "cache")) == 1, "files that are gone"


def test_another_library_prepares_anew(tmp_path, monkeypatch):
    plain(tmp_path / "data", "a")
    settings = {"size": (16, 20, 18), "spacing": 2.0, "cache": str(tmp_path / "cache")}
    SubjectFolder(str(tmp_path / "data"), **settings).load()
    before = entries(tmp_path / "cache")
    versions = {**scan_cache.major_versions(), "scipy": "99.0"}
    monkeypatch.setattr(scan_cache, "major_versions", lambda: versions)
    SubjectFolder(str(tmp_path / "data"), **settings).load()
    assert not set(before) & set(entries(tmp_path / "cache"))


PREPARED = [2.7507, 2.1688, 1.9814, 2.3435, 5552.0, 64.0]
PREPARED += [6.1052, 0.1062, -0.1523, 0.15, 1.0356, 0.9784, 0.9479, 0.6102]
"""A voxel of each modality, the sum of squares, voxels of the lesion, the targets."""


def test_what_preparation_gives_under_its_version(subjects):
    """Where these numbers change, `scan_preparation.VERSION` must: caches hold the old ones."""
    images = subjects[[0]].images[0].double()
    found = [float(images[c, 8, 10, 9]) for c in range(4)]
    found += [float(images.square().sum()), float(subjects[[0]].lesion.sum())]
    found += subjects.targets[0].tolist()
    assert VERSION == 2
    assert found == pytest.approx(PREPARED, abs=1e-3)


def test_the_identity_knows_subjects_and_targets(tmp_path):
    """What splits and supervision are made of, also where no voxel of the model changes."""
    found = []
    for k, (names, corner) in enumerate(
        ((("x_v1", "x_v2"), 0), (("x_v1", "y_v1"), 0), (("x_v1", "x_v2"), 1))
    ):
        for name in names:
            lesion = head()[2].copy()
            lesion[tuple(np.argwhere(lesion)[0])] = corner == 0
            subject(tmp_path / str(k), name, lesion=lesion)
        found.append(SubjectFolder(str(tmp_path / str(k)), size=(8, 10, 9), spacing=4.0).load())
    assert found[0].groups == ("x", "x")
    assert found[1].groups == ("x", "y")
    assert (found[0][:].lesion == found[2][:].lesion).all()
    assert found[0].targets[0, 0] != found[2].targets[0, 0]
    assert len({subjects.identity for subjects in found}) == 3


def test_a_damaged_entry_says_so(tmp_path):
    subject(tmp_path / "data", "a")
    cache = tmp_path / "cache"
    loaded = SubjectFolder(
        str(tmp_path / "data"), size=(16, 20, 18), spacing=2.0, cache=str(cache)
    )
    subjects = loaded.load()
    (entry,) = cache.iterdir()
    images = entry / "images.npy"
    images.write_bytes(images.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"images\.npy"):
        subjects[[0]]
    np.save(images, np.zeros((4, 2, 2, 2), dtype=np.float32))
    with pytest.raises(DataError, match="Delete this folder"):
        subjects[[0]]


def test_what_does_not_fit_into_memory_needs_a_cache(folder, monkeypatch):
    monkeypatch.setattr("latens.data.subject_folder.LARGEST_IN_MEMORY", 1000)
    with pytest.raises(ConfigError, match="`cache`: expected a folder for"):
        SubjectFolder(str(folder)).load()


# visits


def test_visits_make_series(tmp_path):
    for visit in ("000", "001", "002"):
        _, _, lesion = head()
        lesion = lesion.copy()
        lesion[: 8 + int(visit)] = False
        subject(tmp_path, f"BraTS-GLI-00001-{visit}", lesion=lesion)
    (tmp_path / "visits.csv").write_text(
        "scan,day\nBraTS-GLI-00001/002,200\nBraTS-GLI-00001/000,0\nBraTS-GLI-00001/001,90\n"
    )
    subjects = SubjectFolder(str(tmp_path), size=(16, 20, 18), spacing=2.0).load()
    series = subjects.series()
    assert series.patients == ("BraTS-GLI-00001",)
    assert series.times.tolist() == [[0, 90, 200]]
    torch.testing.assert_close(series.volumes[0], subjects.volumes)
    assert (torch.diff(series.volumes) < 0).all()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "scan,day\nB/v1,0\nB/v2,0\n",
            "one visit of a subject at a time.*B/v1` and `B/v2` on day 0",
        ),
        ("scan,day\nB/v1,0\nB/v2,soon\n", "finite day.*soon"),
        ("scan,day\nB/v1,0\nB/v2,nan\n", "finite day"),
        ("scan,day\nB/v1,0\nB/v1,3\n", "each scan once"),
        ("scan,day\nB/v1,0\n", "no row for B/v2"),
        ("file,time\nB/v1,0\n", "columns `scan` and `day`"),
    ],
)
def test_visits_that_cannot_be(tmp_path, rows, said):
    for visit in ("v1", "v2"):
        for modality in ("t1c",):
            write(tmp_path / "B" / visit / f"x_{modality}.nii.gz", head()[0][0])
    (tmp_path / "visits.csv").write_text(rows)
    source = SubjectFolder(str(tmp_path), modalities=("t1c",), size=(8, 8, 8), spacing=5.0)
    with pytest.raises(DataError, match=said) as caught:
        source.load()
    assert "\n" not in str(caught.value)


# bad input


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_bad_input_is_one_line_and_leaves_no_half_file(folder, tmp_path, spoil):
    error, said = BAD[spoil]
    data, cache = tmp_path / "data" / "a", tmp_path / "cache"
    data.mkdir(parents=True)
    for file in (folder / "s0").iterdir():
        shutil.copy(file, data / file.name.replace("s0", "a"))
    spoil(data)
    source = SubjectFolder(str(data.parent), size=(16, 20, 18), spacing=2.0, cache=str(cache))
    with pytest.raises(error, match=said) as caught:
        source.load()
    assert isinstance(caught.value, LatensError)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())


def test_inspection_says_what_the_source_would(tmp_path):
    subject(tmp_path, "a")
    subject(tmp_path, "b", seed=1, axes="RAS")
    sound = check_folder(tmp_path)
    assert (sound.kind, sound.count, sound.shape) == ("subjects", 2, (4, *SHAPE))
    assert not sound.errors
    assert "2 scans of 2 subjects with t1c, t1n, t2f, t2w; 2 with a" in _said(tmp_path)
    assert "mixes orientations" in _said(tmp_path)
    (tmp_path / "visits.csv").write_text("scan,day\na,1\n")
    assert "no row for b" in _said(tmp_path, "error")
    constant(tmp_path / "a")
    write(tmp_path / "b" / "b-t2w.nii.gz", head(shape=(18, 22, 21))[0][3])
    errors = _said(tmp_path, "error")
    assert "the constant 7" in errors
    assert "Resample the files" in errors
    missing(tmp_path / "a")
    assert "no t2w (only" in _said(tmp_path, "error")


def test_inspection_tells_heads_from_brains(tmp_path):
    subject(tmp_path, "a")
    assert "nowhere zero" not in _said(tmp_path)
    write(tmp_path / "a" / "a-t1c.nii.gz", head()[0][0] + 1)
    assert "nowhere zero" in _said(tmp_path, "warning")


def test_inspection_finds_copies(tmp_path):
    for name in ("a", "b"):
        subject(tmp_path, name)
    assert "has the same t1c as a" in _said(tmp_path, "warning")


def _said(folder, severity=""):
    found = check_folder(folder).findings
    return "\n".join(one.message for one in found if one.severity.startswith(severity))


def test_a_lesion_outside_the_field_is_refused(folder):
    with pytest.raises(DataError, match=r"within the field of view.*outside"):
        SubjectFolder(str(folder), size=(4, 4, 4), spacing=2.0).load()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": (8, 8)}, "size"),
        ({"spacing": 0.0}, "spacing"),
        ({"modalities": ("t1c", "t1c")}, "modalities"),
        ({"labels": (0, 1)}, "labels"),
        ({"limit": 0}, "limit"),
        ({"no_lesion": "ignore"}, "no_lesion"),
    ],
)
def test_settings_that_cannot_be(wrong, said):
    with pytest.raises(ConfigError, match=f"`{said}`"):
        SubjectFolder("anywhere", **wrong)


def test_maps_of_another_grid_are_not_written(subjects, tmp_path):
    with pytest.raises(ShapeError, match="the grid of the scan"):
        subjects.write(0, np.zeros((4, 16, 20, 18)), tmp_path / "x.nii")
    assert not list(tmp_path.iterdir())
