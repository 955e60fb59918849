import gzip
import os
import shutil

import numpy as np
import pytest

from latens.data import IdxImages, MedMnist, NpyFolder, PairedFolder, check_folder
from latens.errors import LatensError


def image(seed: int, shape=(6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        np.save(tmp_path / f"img{i}.npy", image(i))
    return tmp_path


@pytest.fixture
def paired(tmp_path):
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
        for i in range(4):
            np.save(tmp_path / part / f"{i}.npy", image(i + (part == "y")))
    return tmp_path


def write_idx(path, pixels):
    header = b"\0\0\x08" + bytes([pixels.ndim]) + np.array(pixels.shape, dtype=">u4").tobytes()
    path.write_bytes(gzip.compress(header + pixels.tobytes()))


def write_medmnist(path, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"{split}_images" for split in ("train", "val", "test")]
    arrays = {name: rng.integers(0, 256, (3, 6, 5), dtype=np.uint8) for name in names}
    labels = {name.replace("images", "labels"): np.ones((3, 1), dtype=np.uint8) for name in names}
    np.savez(path, **arrays, **labels)


def found(report, severity: str) -> str:
    return "\n".join(
        f"{one.file}: {one.message}" for one in report.findings if one.severity == severity
    )


def test_sound_npy_folder(folder):
    (folder / "groups.csv").write_text(
        "file,group\n" + "".join(f"img{i}.npy,p{i}\n" for i in range(6))
    )
    report = check_folder(folder)
    assert report.findings == []
    assert (report.kind, report.count, report.shape) == ("npy folder", 6, (1, 6, 5))
    images = NpyFolder(str(folder)).load()
    assert report.data_range == images.data_range
    assert "6 images" in report.summary


def test_sound_paired_folder(paired):
    report = check_folder(paired)
    assert not report.errors
    assert (report.kind, report.count, report.shape) == ("paired folder", 4, (1, 6, 5))


def test_idx_and_medmnist(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(file, pixels)
    for path in (file, tmp_path):
        report = check_folder(path)
        assert not report.errors
        assert (report.kind, report.count, report.shape) == ("idx", 5, (1, 6, 4))
    assert "no label" in found(report, "note")
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(4, dtype=np.uint8))
    assert "4 labels for 5 images" in found(check_folder(tmp_path), "error")

    other = tmp_path / "other"
    other.mkdir()
    write_medmnist(other / "set.npz")
    for path in (other, other / "set.npz"):
        report = check_folder(path)
        assert report.findings == []
        assert (report.kind, report.count, report.shape) == ("MedMNIST", 9, (1, 6, 5))


def test_repeats_and_blanks_in_blocks_are_counted(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 4), dtype=np.uint8)
    pixels[4] = pixels[5] = pixels[8]
    pixels[0] = 7
    write_idx(tmp_path / "images-idx3-ubyte.gz", pixels)
    warnings = found(check_folder(tmp_path), "warning")
    assert "2 images repeat" in warnings
    assert "1 images are constant" in warnings


BROKEN = {
    "nan": lambda p: np.save(p, np.full((6, 5), np.nan)),
    "rank": lambda p: np.save(p, np.ones(30)),
    "shape": lambda p: np.save(p, image(9, (5, 6))),
    "channels": lambda p: np.save(p, image(9, (2, 6, 5))),
    "complex": lambda p: np.save(p, image(9) * 1j),
    "pickle": lambda p: np.save(p, np.array([{}, []], dtype=object), allow_pickle=True),
    "truncated": lambda p: (np.save(p, image(9)), p.write_bytes(p.read_bytes()[:-1])),
    "too long": lambda p: (np.save(p, image(9)), p.write_bytes(p.read_bytes() + b"1")),
    "header only": lambda p: (np.save(p, image(9)), p.write_bytes(p.read_bytes()[:128])),
    "half a header": lambda p: (np.save(p, image(9)), p.write_bytes(p.read_bytes()[:40])),
    "empty": lambda p: p.write_bytes(b""),
    "noise": lambda p: p.write_bytes(os.urandom(300)),
    "folder": lambda p: p.mkdir(),
    "pipe": lambda p: os.mkfifo(p),
    "loop": lambda p: p.symlink_to(p),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_errors_by_name_and_do_not_load(folder, case):
    BROKEN[case](folder / "bad.npy")
    report = check_folder(folder)
    assert [os.path.basename(one.file) for one in report.errors] == ["bad.npy"]
    assert "\n" not in report.errors[0].message
    with pytest.raises(LatensError):
        NpyFolder(str(folder)).load()
    (folder / "bad.npy").rename(folder / "good.txt")
    assert not check_folder(folder).errors
    NpyFolder(str(folder)).load()


SUSPICIOUS = {
    "constant": (lambda p: np.save(p, np.full((6, 5), 0.5)), "constant"),
    "other units": (lambda p: np.save(p, 255 * image(9)), "same units"),
    "tiny": (lambda p: np.save(p, 1e-3 * image(9)), "same units"),
    "type": (lambda p: np.save(p, image(9).astype(np.float32)), "1 × float32"),
    "duplicate": (lambda p: np.save(p, image(3)), "same content"),
    "duplicate in another type": (lambda p: np.save(p, np.asfortranarray(image(3))), "img3"),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_suspicious_files_are_warnings_and_load(folder, case):
    write, message = SUSPICIOUS[case]
    write(folder / "zz.npy")
    report = check_folder(folder)
    assert not report.errors
    assert message in found(report, "warning")
    assert "zz.npy" in found(report, "warning") or case == "type"
    NpyFolder(str(folder)).load()


def test_duplicates_within_a_group_are_a_note(folder):
    shutil.copy(folder / "img0.npy", folder / "img6.npy")
    rows = "".join(f"img{i}.npy,p{i % 6}\n" for i in range(7))
    (folder / "groups.csv").write_text("file,group\n" + rows)
    report = check_folder(folder)
    assert not found(report, "warning")
    assert "same content" in found(report, "note")


def test_groups_file_with_unknown_and_missing_names(folder):
    rows = "".join(f"img{i}.npy,p\n" for i in range(1, 6))
    (folder / "groups.csv").write_text(f"file,group\n{rows}ghost.npy,p\n")
    errors = found(check_folder(folder), "error")
    assert "ghost.npy" in errors
    assert "img0.npy" in errors


def test_groups_file_that_is_no_table(folder):
    (folder / "groups.csv").write_bytes(b"\xff\xfe\0")
    assert "groups.csv" in found(check_folder(folder), "error")


def test_folder_without_groups_says_what_that_means(folder):
    assert "independent" in found(check_folder(folder), "note")
    (folder / "readme.md").write_text("x")
    assert "readme.md" in found(check_folder(folder), "note")


def test_unmatched_pairs_are_errors_by_name(paired):
    np.save(paired / "x" / "only_x.npy", image(20))
    np.save(paired / "y" / "only_y.npy", image(21))
    errors = found(check_folder(paired), "error")
    assert "only_x.npy" in errors
    assert "only_y.npy" in errors
    with pytest.raises(LatensError):
        PairedFolder(str(paired)).load()


def test_broken_measurement_and_missing_side(paired):
    np.save(paired / "y" / "2.npy", np.full((6, 5), np.inf))
    report = check_folder(paired)
    assert [os.path.basename(one.file) for one in report.errors] == ["2.npy"]
    shutil.rmtree(paired / "y")
    assert "y" in found(check_folder(paired), "error")


def test_all_constant_is_an_error(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.ones((4, 4)))
    assert "constant" in found(check_folder(tmp_path), "error")


@pytest.mark.parametrize("name", ["set.npz", "a-images-idx3-ubyte", "a-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\0\0\x08\3", os.urandom(200)])
def test_other_broken_formats_are_errors(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        report = check_folder(path)
        assert len(report.errors) == 1
        assert name in report.errors[0].file
        assert "no readable image" in report.summary


def test_several_npz_files_are_not_guessed_between(tmp_path):
    write_medmnist(tmp_path / "a.npz")
    write_medmnist(tmp_path / "b.npz")
    assert "a.npz, b.npz" in found(check_folder(tmp_path), "error")


def test_unknown_places_are_errors(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "photo.png", tmp_path / "nothing"):
        report = check_folder(path)
        assert report.kind == "unknown"
        assert len(report.errors) == 1
    (tmp_path / "photo.png").unlink()
    assert "empty folder" in found(check_folder(tmp_path), "error")


def test_file_names_that_no_terminal_prints(folder):
    strange = os.fsdecode(os.fsencode(str(folder)) + b"/\xff\xfe.npy")
    with open(strange, "wb") as stream:
        stream.write(b"")
    report = check_folder(folder)
    assert len(report.errors) == 1
    report.errors[0].file.encode("utf-8")


@pytest.mark.parametrize("trial", range(40))
def test_no_traceback_whatever_is_flipped(tmp_path, trial):
    """Check and source agree on a file with random damage, and neither lets one through."""
    rng = np.random.default_rng(trial)
    kind = trial % 3
    if kind == 0:
        target, source = tmp_path / "img0.npy", NpyFolder(str(tmp_path))
        np.save(tmp_path / "img1.npy", image(1))
        np.save(target, image(0))
    elif kind == 1:
        target = tmp_path / "a-images-idx3-ubyte.gz"
        source = IdxImages(str(target))
        write_idx(target, rng.integers(0, 256, (5, 6, 4), dtype=np.uint8))
    else:
        target = tmp_path / "set.npz"
        source = MedMnist(str(target))
        write_medmnist(target)
    content = bytearray(target.read_bytes())
    for place in rng.integers(0, min(len(content), 160), size=3):
        content[place] = rng.integers(256)
    target.write_bytes(content[: rng.integers(1, len(content)) if trial % 2 else None])
    report = check_folder(target if kind else tmp_path)
    try:
        source.load()
    except LatensError:
        assert report.errors
    else:
        assert not report.errors


def test_real_sets(shared_data):
    report = check_folder(shared_data / "medmnist" / "BreastMNIST.npz")
    assert not report.errors
    assert report.count == 780
    report = check_folder(shared_data / "mnist")
    assert not report.errors
    assert (report.count, report.shape, report.data_range) == (70_000, (1, 28, 28), (0.0, 1.0))
    report = check_folder(shared_data / "slices")
    assert "MR2.npy" in found(report, "error"), "its shape differs"
