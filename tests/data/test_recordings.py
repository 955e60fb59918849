"""Truth, reconstructions, draws and groups of another program, in every layout they come in."""

import numpy as np
import pytest

from data.test_nifti import anatomy, save
from latens.data.recordings import read_draws, read_labels, read_like, read_signals
from latens.errors import DataError, ShapeError

RNG = np.random.default_rng(0)
GREY = RNG.normal(size=(5, 6, 7)).astype(np.float32)


def folder_of(path, images, names=None):
    path.mkdir(parents=True)
    for i, image in enumerate(images):
        np.save(path / f"{names[i] if names else f'img{i + 1}'}.npy", image)
    return str(path)


@pytest.fixture
def truth(tmp_path):
    np.save(tmp_path / "truth.npy", GREY)
    return read_signals(str(tmp_path / "truth.npy"))


class TestSignals:
    @pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", "bool", ">f4"])
    def test_types(self, tmp_path, dtype):
        values = (10 * np.abs(GREY)).astype(dtype)
        np.save(tmp_path / "x.npy", values)
        found = read_signals(str(tmp_path / "x.npy")).values
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found[:, 0], values.astype(np.float32))

    def test_npz_with_one_member_or_a_named_one(self, tmp_path):
        np.savez(tmp_path / "one.npz", whatever=GREY)
        np.savez_compressed(tmp_path / "two.npz", a=GREY, b=GREY + 1)
        one = read_signals(str(tmp_path / "one.npz"))
        two = read_signals(str(tmp_path / "two.npz:b"))
        np.testing.assert_array_equal(two.values, one.values + 1)
        with pytest.raises(DataError, match=r"two\.npz:a"):
            read_signals(str(tmp_path / "two.npz"))
        with pytest.raises(DataError, match=r"'c\.npy'"):
            read_signals(str(tmp_path / "two.npz:c"))

    def test_channels_and_volumes(self, tmp_path):
        np.save(tmp_path / "x.npy", GREY.reshape(1, 5, 6, 7))
        assert read_signals(str(tmp_path / "x.npy")).values.shape == (1, 5, 6, 7)
        np.save(tmp_path / "v.npy", GREY.reshape(1, 1, 5, 6, 7))
        assert read_signals(str(tmp_path / "v.npy")).values.shape == (1, 1, 5, 6, 7)

    def test_a_folder_in_natural_order(self, tmp_path):
        folder = folder_of(tmp_path / "x", GREY, ["a10", "a9", "a2", "a1", "a0"])
        found = read_signals(folder)
        assert found.names == ("a0", "a1", "a2", "a9", "a10")
        np.testing.assert_array_equal(found.values[:, 0], GREY[[4, 3, 2, 1, 0]])

    def test_nifti_in_any_orientation(self, tmp_path):
        (tmp_path / "x").mkdir()
        save(tmp_path / "x" / "s1.nii.gz", anatomy(0), "LPS")
        save(tmp_path / "x" / "s2.nii", anatomy(1), "SPL")
        found = read_signals(str(tmp_path / "x"))
        assert found.values.shape == (2, 1, 10, 8, 6)
        assert found.names == ("s1", "s2")
        np.testing.assert_array_equal(
            found.values[1, 0], anatomy(1)[::-1, ::-1].transpose(2, 1, 0)
        )

    def test_slices_of_nifti_are_images(self, tmp_path):
        (tmp_path / "x").mkdir()
        save(tmp_path / "x" / "s1.nii.gz", anatomy(0, (6, 8, 1)))
        assert read_signals(str(tmp_path / "x")).values.shape == (1, 1, 8, 6)


class TestLike:
    def test_with_and_without_channel(self, tmp_path, truth):
        for values in (GREY, GREY[:, None]):
            np.save(tmp_path / "mean.npy", values)
            np.testing.assert_array_equal(read_like(str(tmp_path / "mean.npy"), truth)[:, 0], GREY)

    def test_a_folder_against_an_array(self, tmp_path, truth):
        folder = folder_of(tmp_path / "mean", GREY)
        np.testing.assert_array_equal(read_like(folder, truth), truth.values)

    @pytest.mark.parametrize(
        "values", [GREY[:4], GREY.transpose(0, 2, 1), GREY[..., None], GREY[0]]
    )
    def test_other_shapes(self, tmp_path, truth, values):
        np.save(tmp_path / "mean.npy", values)
        with pytest.raises(ShapeError, match=r"truth\.npy"):
            read_like(str(tmp_path / "mean.npy"), truth)

    def test_names_say_what_belongs_together(self, tmp_path):
        truth = read_signals(folder_of(tmp_path / "x", GREY))
        other = folder_of(tmp_path / "mean", GREY, ["img1", "img2", "img3", "img4", "img9"])
        with pytest.raises(DataError, match="img5"):
            read_like(other, truth)

    def test_volumes_must_lie_in_the_same_place(self, tmp_path):
        """The same voxels under another affine are another image, flipped perhaps."""
        for name in ("x", "same", "elsewhere"):
            (tmp_path / name).mkdir()
        save(tmp_path / "x" / "s.nii.gz", anatomy(), "LPS")
        save(tmp_path / "same" / "s.nii.gz", anatomy(), "RAS")  # stored otherwise, same place
        image = save(tmp_path / "elsewhere" / "s.nii.gz", anatomy(), "LPS")
        truth = read_signals(str(tmp_path / "x"))
        np.testing.assert_array_equal(read_like(str(tmp_path / "same"), truth), truth.values)
        import nibabel

        stored = nibabel.load(image)
        plain = nibabel.Nifti1Image(np.asarray(stored.dataobj), np.diag([1.0, 2.0, 3.0, 1.0]))
        plain.to_filename(image)
        with pytest.raises(DataError, match="affine"):
            read_like(str(tmp_path / "elsewhere"), truth)


class TestDraws:
    draws = GREY + 0.1 * RNG.normal(size=(4, *GREY.shape)).astype(np.float32)

    def test_layouts(self, tmp_path, truth):
        np.save(tmp_path / "a.npy", self.draws)
        np.save(tmp_path / "b.npy", self.draws[:, :, None])
        each = folder_of(tmp_path / "c", self.draws.swapaxes(0, 1))
        for k, draw in enumerate(self.draws):
            folder_of(tmp_path / "d" / f"draw{k}", draw)
        for place in ("a.npy", "b.npy", each, tmp_path / "d"):
            found = read_draws(str(tmp_path / place), truth)
            np.testing.assert_array_equal(found[:, :, 0], self.draws)

    def test_nifti_draws_lie_in_folders(self, tmp_path):
        values = [anatomy(0), anatomy(1)]
        for name in ("x", "draws/1", "draws/2", "flat"):
            (tmp_path / name).mkdir(parents=True)
            for i, value in enumerate(values):
                save(tmp_path / name / f"s{i}.nii.gz", value)
        truth = read_signals(str(tmp_path / "x"))
        found = read_draws(str(tmp_path / "draws"), truth)
        np.testing.assert_array_equal(found, np.stack([truth.values] * 2))
        with pytest.raises(DataError, match="sub-folder"):
            read_draws(str(tmp_path / "flat"), truth)

    def test_swapped_axes_are_seen_by_their_lengths(self, tmp_path, truth):
        np.save(tmp_path / "d.npy", self.draws.swapaxes(0, 1))
        with pytest.raises(DataError, match="swapaxes"):
            read_draws(str(tmp_path / "d.npy"), truth)

    def test_and_by_their_content_where_lengths_are_equal(self, tmp_path, truth):
        draws = GREY + RNG.normal(size=(5, *GREY.shape)).astype(np.float32)
        np.save(tmp_path / "d.npy", draws)
        np.testing.assert_array_equal(read_draws(str(tmp_path / "d.npy"), truth)[:, :, 0], draws)
        np.save(tmp_path / "s.npy", draws.swapaxes(0, 1))
        with pytest.raises(DataError, match="swapaxes"):
            read_draws(str(tmp_path / "s.npy"), truth)

    def test_draws_that_know_nothing_are_taken_as_they_are(self, tmp_path, truth):
        np.save(tmp_path / "d.npy", RNG.normal(size=(5, *GREY.shape)))
        assert read_draws(str(tmp_path / "d.npy"), truth).shape == (5, 5, 1, 6, 7)

    @pytest.mark.parametrize("shape", [(4, 6, 6, 7), (4, 5, 7, 6), (5, 6, 7), (4, 5, 2, 6, 7)])
    def test_other_shapes(self, tmp_path, truth, shape):
        np.save(tmp_path / "d.npy", np.zeros(shape))
        with pytest.raises(ShapeError, match=r"draws, 5, 1, 6, 7"):
            read_draws(str(tmp_path / "d.npy"), truth)

    def test_images_with_fewer_draws(self, tmp_path, truth):
        folder = folder_of(tmp_path / "d", self.draws.swapaxes(0, 1))
        np.save(tmp_path / "d" / "img5.npy", self.draws[:3, 4])
        with pytest.raises(ShapeError, match="as many for every image"):
            read_draws(folder, truth)


class TestLabels:
    def test_of_an_array(self, tmp_path, truth):
        assert read_labels(None, truth) == ("0", "1", "2", "3", "4")
        (tmp_path / "g.txt").write_text("group\na\na\nb\nb\nc\n")
        np.save(tmp_path / "g.npy", np.array([3, 3, 4, 4, 5]))
        assert read_labels(str(tmp_path / "g.txt"), truth) == ("a", "a", "b", "b", "c")
        assert read_labels(str(tmp_path / "g.npy"), truth) == ("3", "3", "4", "4", "5")

    def test_of_a_folder(self, tmp_path):
        truth = read_signals(folder_of(tmp_path / "x", GREY[:2]))
        assert read_labels(None, truth) == ("img1", "img2")
        (tmp_path / "x" / "groups.csv").write_text("file,group\nimg2.npy,b\nimg1.npy,a\n")
        assert read_labels(None, truth) == ("a", "b")
        (tmp_path / "other.csv").write_text("file,group\nimg2.npy,c\nimg1.npy,c\n")
        assert read_labels(str(tmp_path / "other.csv"), truth) == ("c", "c")

    @pytest.mark.parametrize("text", ["a\nb\n", "a\nb\n\nc\nd\n", "a\nb\nc\nd\ne\nf\n", ""])
    def test_other_numbers(self, tmp_path, truth, text):
        (tmp_path / "g.txt").write_text(text)
        with pytest.raises(DataError, match="5 images"):
            read_labels(str(tmp_path / "g.txt"), truth)

    def test_what_is_no_text(self, tmp_path, truth):
        (tmp_path / "g.txt").write_bytes(b"\xff\xfe\x00\x80")
        for name in ("g.txt", "missing.txt"):
            with pytest.raises(DataError, match="text file"):
                read_labels(str(tmp_path / name), truth)


BAD = {
    "missing": lambda p: p / "nowhere.npy",
    "empty file": lambda p: _bytes(p / "x.npy", b""),
    "text": lambda p: _bytes(p / "x.npy", b"hello there, this is text"),
    "pickled": lambda p: _saved(p, np.array([{"a": 1}], dtype=object), allow_pickle=True),
    "truncated": lambda p: _bytes(p / "x.npy", _bytes_of(p, GREY)[:-9]),
    "complex": lambda p: _saved(p, GREY + 1j),
    "NaN": lambda p: _saved(p, np.where(GREY > 1, np.nan, GREY)),
    "infinite": lambda p: _saved(p, np.where(GREY > 1, np.inf, GREY)),
    "beyond float32": lambda p: _saved(p, GREY.astype(float) * 1e300),
    "one axis": lambda p: _saved(p, GREY[0, 0]),
    "one image": lambda p: _saved(p, GREY[0]),
    "damaged npz": lambda p: _bytes(p / "x.npz", b"PK\x03\x04 nothing"),
    "npz of nothing": lambda p: _npz(p),
    "empty folder": lambda p: p,
    "one NIfTI file": lambda p: save(p / "x.nii.gz", anatomy()),
}


def _bytes(path, content):
    path.write_bytes(content)
    return path


def _saved(folder, array, **options):
    np.save(folder / "x.npy", array, **options)
    return folder / "x.npy"


def _npz(folder):
    np.savez(folder / "x.npz")
    return folder / "x.npz"


def _bytes_of(folder, array):
    return _saved(folder, array).read_bytes()


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read(name, tmp_path):
    path = BAD[name](tmp_path)
    with pytest.raises((DataError, ShapeError)) as caught:
        read_signals(str(path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_where_the_first_nan_is(tmp_path):
    broken = GREY.copy()
    broken[3, 2, 1] = np.nan
    path = _saved(tmp_path, broken)
    with pytest.raises(DataError, match=r"1 that are NaN.*\(3, 2, 1\)"):
        read_signals(str(path))
