"""`latens reconstruct` on NIfTI files, and on measurements laid out on their full grid."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from latens.cli import main
from latens.inference import as_solver
from latens.problems import (
    Downsampling,
    FourierSampling,
    GaussianNoise,
    Identity,
    Inpainting,
    InverseProblem,
    LinearOperator,
)
from latens.store import Outcome, Status, from_rows, write_parquet
from latens.store.schemas import IMAGE_SCORES
from latens.studies.load import Loaded

SHAPE = (6, 8, 10)  # D, H, W
STD = 0.1
ARRAYS = {"mean", "std", "lower", "upper"}
Trained = Callable[[LinearOperator], None]


@pytest.fixture
def trained(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Let every run hold one solver, whose posterior is N(Aᵀy, 0.1²), for an operator."""
    folder = tmp_path_factory.mktemp("run")
    cell = {"solver": "plain", "n": 8, "data_seed": 0, "init_seed": None}
    rows = [
        {**cell, "image": i, "group": str(i), "score": "residual", "value": 50.0 + i}
        for i in range(30)
    ]
    write_parquet(folder / "scores.parquet", IMAGE_SCORES, from_rows(rows, IMAGE_SCORES))

    def use(operator: LinearOperator) -> None:
        def solve(y: Tensor) -> Independent:
            loc = operator.A_adjoint(y)
            return Independent(Normal(loc, STD), loc.ndim - 1)

        problem = InverseProblem(operator, GaussianNoise(0.1))
        signal, measurement = operator.signal_shape, operator.measurement_shape
        outcome = Outcome(Status.CONVERGED)
        loaded = Loaded(
            as_solver(solve),
            problem,
            "plain",
            8,
            0,
            None,
            outcome,
            "",
            folder,
            signal,
            measurement,
        )
        run = SimpleNamespace(description={"study": "scarcity"})
        monkeypatch.setattr("latens.store.RunFolder.open", lambda _: run)
        monkeypatch.setattr("latens.studies.reconstruct.load", lambda *_, **__: loaded)

    return use


def save_volume(file: Path, stored: np.ndarray, axes: str = "LPS") -> nibabel.Nifti1Image:
    """Write a volume whose file has its axes towards `axes`, and voxels of 1, 2, 3 mm."""
    signs = [-1.0 if letter in "LPI" else 1.0 for letter in axes]
    affine = np.zeros((4, 4))
    for column, (letter, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[
            ["RL", "AP", "SI"].index(next(p for p in ("RL", "AP", "SI") if letter in p)), column
        ] = sign * (column + 1)
    affine[:, 3] = (4, 30, -9, 1)
    image = nibabel.Nifti1Image(stored, affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=2)
    image.to_filename(file)
    return image


def volume(seed: int = 0) -> np.ndarray:
    """As stored with axes towards L, P, S: `(W, H, D)`."""
    return np.random.default_rng(seed).random(SHAPE[::-1]).astype(np.float32)


def reconstruct(file: Path, *extra: str) -> int:
    return main(["reconstruct", "any", str(file), *extra])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "SRP"])
@pytest.mark.parametrize("slices", [False, True])
def test_axes_and_affine_are_those_of_the_file(
    tmp_path: Path,
    trained: Trained,
    capsys: pytest.CaptureFixture[str],
    axes: str,
    suffix: str,
    slices: bool,
) -> None:
    """Of the identity with a posterior around y, the mean must be the file itself."""
    file = tmp_path / f"scan.v2{suffix}"
    lps = volume()
    start, end = (nibabel.orientations.axcodes2ornt(a) for a in ("LPS", axes))
    turn = nibabel.orientations.ornt_transform(start, end)
    before = save_volume(file, nibabel.orientations.apply_orientation(lps, turn), axes)
    seen: list[Tensor] = []
    operator = Identity((1, *SHAPE[1:]) if slices else (1, *SHAPE))
    trained(operator)
    original = operator.A_adjoint
    operator.A_adjoint = lambda y: seen.append(y) or original(y)
    assert reconstruct(file) == 0
    # Whatever the file, the solver sees slices that stand upright.
    expected = torch.from_numpy(lps.transpose(2, 1, 0).copy())
    torch.testing.assert_close(seen[0], expected[:, None] if slices else expected[None, None])
    out = tmp_path / "scan.v2"
    assert {path.name for path in out.iterdir()} == {
        "reconstruction.json",
        *(f"{name}{suffix}" for name in ARRAYS),
    }
    images = {name: nibabel.load(out / f"{name}{suffix}") for name in ARRAYS}
    for image in images.values():
        np.testing.assert_allclose(image.affine, before.affine, atol=1e-5)
        assert image.header.get_zooms() == before.header.get_zooms()
        assert int(image.header["sform_code"]) == 2
    arrays = {name: image.get_fdata() for name, image in images.items()}
    np.testing.assert_allclose(arrays["mean"], before.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(arrays["std"], STD, atol=1e-6)
    assert (arrays["lower"] < arrays["upper"]).all()
    flags = json.loads((out / "reconstruction.json").read_text())["flags"]
    assert len(flags) == (SHAPE[0] if slices else 1)
    assert f"mean{suffix}" in capsys.readouterr().out


def test_a_finer_image_shows_the_same_field_of_view(tmp_path: Path, trained: Trained) -> None:
    fine = (2 * SHAPE[0], 2 * SHAPE[1], 2 * SHAPE[2])
    trained(Downsampling((1, *fine), factor=2))
    before = save_volume(tmp_path / "y.nii", volume())
    assert reconstruct(tmp_path / "y.nii", "--out", str(tmp_path / "out")) == 0
    after = nibabel.load(tmp_path / "out" / "mean.nii")
    assert after.shape == tuple(2 * n for n in before.shape)
    np.testing.assert_allclose(after.header.get_zooms(), (0.5, 1, 1.5))
    edges = np.array([[-0.5, -0.5, -0.5, 1], [*(n - 0.5 for n in before.shape), 1]])
    finer = np.array([[-0.5, -0.5, -0.5, 1], [*(n - 0.5 for n in after.shape), 1]])
    np.testing.assert_allclose(finer @ after.affine.T, edges @ before.affine.T, atol=1e-5)


def test_voxels_that_are_not_measured_are_not_read(tmp_path: Path, trained: Trained) -> None:
    operator = Inpainting((1, *SHAPE), kept=0.5, seed=3)
    trained(operator)
    values = volume()
    missing = ~operator.mask.numpy().transpose(2, 1, 0)
    save_volume(tmp_path / "y.nii.gz", np.where(missing, np.float32(np.nan), values))
    assert reconstruct(tmp_path / "y.nii.gz") == 0
    mean = nibabel.load(tmp_path / "y" / "mean.nii.gz").get_fdata()
    np.testing.assert_allclose(mean, np.where(missing, 0, values), atol=1e-6)


LAYOUTS = ["grid", "channel", "batch", "batch without channel", "compact", "compact batch"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("filler", [0.0, np.nan, np.inf])
def test_layouts_of_an_npy_file_agree(
    tmp_path: Path, trained: Trained, layout: str, filler: float
) -> None:
    operator = Inpainting((1, 8, 10), kept=0.4, seed=1)
    trained(operator)
    mask = operator.mask.numpy()
    grid = np.where(mask, np.random.default_rng(0).random((8, 10)), filler)
    layouts = {
        "grid": grid,
        "channel": grid[None],
        "batch": np.stack([grid, grid])[:, None],
        "batch without channel": np.stack([grid, grid]),
        "compact": grid[mask],
        "compact batch": np.stack([grid[mask], grid[mask]])[:, None],
    }
    np.save(tmp_path / "y.npy", layouts[layout])
    assert reconstruct(tmp_path / "y.npy") == 0
    mean = np.load(tmp_path / "y" / "mean.npy")
    assert mean.shape == (2 if "batch" in layout else 1, 1, 8, 10)
    np.testing.assert_allclose(mean[-1, 0], np.where(mask, grid, 0), atol=1e-6)


def test_a_complex_k_space_is_refused_with_the_way_to_save_it(
    tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(FourierSampling((2, 8, 10), acceleration=2))
    z = np.random.default_rng(0).standard_normal((3, 8, 10, 2)) @ [1, 1j]  # a batch of three
    np.save(tmp_path / "y.npy", z)
    assert reconstruct(tmp_path / "y.npy") == 2
    assert "np.stack([z.real, z.imag], axis=-3)" in capsys.readouterr().err
    np.save(tmp_path / "y.npy", np.stack([z.real, z.imag], axis=-3))
    assert reconstruct(tmp_path / "y.npy") == 0
    assert np.load(tmp_path / "y" / "mean.npy").shape == (3, 2, 8, 10)


def test_full_k_space_is_accepted(tmp_path: Path, trained: Trained) -> None:
    operator = FourierSampling((1, 8, 10), acceleration=2)
    trained(operator)
    assert operator.grid_shape is not None
    full = np.random.default_rng(0).standard_normal(operator.grid_shape).astype(np.float32)
    y = operator.from_grid(torch.from_numpy(full))
    np.save(tmp_path / "full.npy", full)
    np.save(tmp_path / "compact.npy", y.numpy())
    for name in ("full", "compact"):
        assert reconstruct(tmp_path / f"{name}.npy") == 0
    means = [np.load(tmp_path / name / "mean.npy") for name in ("full", "compact")]
    np.testing.assert_array_equal(*means)
    assert means[0].std() > 0.1


VOLUMES: dict[str, tuple[Callable[[Path], object], str]] = {
    "other size": (lambda file: save_volume(file, volume()[:, :, 1:]), "6 × 8 × 10 voxels"),
    "NaN": (lambda file: save_volume(file, volume() * np.nan), "finite"),
    "series": (lambda file: save_volume(file, np.stack([volume()] * 2, -1)), "one volume"),
    "complex": (lambda file: save_volume(file, volume() * 1j), "real numbers"),
    "empty": (lambda file: file.write_bytes(b""), "an empty file"),
    "truncated": (
        lambda file: (save_volume(file, volume()), file.write_bytes(file.read_bytes()[:900])),
        "complete NIfTI file",
    ),
    "missing": (lambda file: None, "no such file"),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_refused_volumes(
    tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    trained(Identity((1, *SHAPE)))
    write, fragment = VOLUMES[name]
    write(tmp_path / "y.nii")
    before = sorted(tmp_path.rglob("*"))
    assert reconstruct(tmp_path / "y.nii") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("latens: `")
    assert "y.nii" in lines[0]
    assert fragment in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "operator",
    [Identity((2, *SHAPE)), Identity((1, 8)), FourierSampling((1, 8, 10), acceleration=2)],
    ids=["two channels", "one axis", "k-space"],
)
def test_what_has_no_place_in_a_volume(
    tmp_path: Path,
    trained: Trained,
    capsys: pytest.CaptureFixture[str],
    operator: LinearOperator,
) -> None:
    trained(operator)
    save_volume(tmp_path / "y.nii", volume())
    assert reconstruct(tmp_path / "y.nii") == 2
    assert "numpy.save" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "fragment"),
    [
        (np.where(np.eye(8, 10) > 0, np.nan, 1.0), "finite"),
        (np.ones((8, 10)) * 1j, "real numbers"),
        (np.ones((10, 8)), "full grid (1, 8, 10)"),
        (np.full((8, 10), "a"), "real numbers"),
    ],
)
def test_refused_grids(
    tmp_path: Path,
    trained: Trained,
    capsys: pytest.CaptureFixture[str],
    array: np.ndarray,
    fragment: str,
) -> None:
    trained(Inpainting((1, 8, 10), mask=torch.eye(8, 10)))  # 8 numbers: a line of (10, 8)
    np.save(tmp_path / "y.npy", array)
    assert reconstruct(tmp_path / "y.npy") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert fragment in lines[0]
