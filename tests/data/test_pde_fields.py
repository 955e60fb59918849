"""Readers of the public PDE fields, on files made here and on the published ones."""

import h5py
import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline

from latens.data import read_darcy_case, read_darcy_fields, read_eit_codes, read_eit_fields
from latens.errors import DataError
from latens.problems.pde import EIT, Darcy
from latens.problems.pde.eit import boundary_values


def darcy_arrays() -> dict[str, np.ndarray]:
    x, y = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 3))
    fields = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return {"X": x, "Y": y, "coe": fields + 1, "u": -fields}


def eit_arrays() -> dict[str, np.ndarray]:
    x, y = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 3), indexing="ij")
    fields = np.stack([np.cos(k * x) + k * y for k in (1, 2)], -1)  # (x, y, pattern)
    return {
        "X": x,
        "Y": y,
        "a_sol": np.stack([1 + x + 10 * y] * 2, -1),
        "u_sol": fields,
        "dux_sol": fields + 1,
        "duy_sol": fields + 2,
        "coe_val": np.ones((4, 2)) * [[1], [2], [3], [4]],
        "g_l": np.array([[1.0, 2.0]]),
    }


def write(path, arrays) -> str:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return str(path)


def test_darcy_fields_keep_their_orientation(tmp_path):
    arrays = darcy_arrays()
    fields = read_darcy_fields(write(tmp_path / "a.mat", arrays))
    assert fields.coefficient.shape == (2, 1, 3, 4)
    np.testing.assert_array_equal(fields.coefficient[:, 0].numpy(), arrays["coe"])
    np.testing.assert_array_equal(fields.solution[:, 0].numpy(), arrays["u"])
    assert fields.sensors is None


def test_darcy_case_has_rows_along_y(tmp_path):
    x, y = np.meshgrid(np.linspace(0, 1, 3), np.linspace(0, 1, 3))
    places = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
    a = (1 + x + 10 * y).reshape(-1, 1)
    index = np.array([5, 1, 6])
    path = write(tmp_path / "a.mat", {"a": a, "u": -a, "x": places, "index_obs": index})
    case = read_darcy_case(path)
    np.testing.assert_allclose(case.coefficient[0, 0].numpy(), 1 + x + 10 * y)
    np.testing.assert_allclose(case.sensors.numpy(), places[index], atol=1e-7)
    arrays = {"a": a, "u": -a, "x": places, "index_obs": np.array([9])}
    with pytest.raises(DataError, match=r"index_obs.*numbers of nodes below 9"):
        read_darcy_case(write(tmp_path / "b.mat", arrays))


def test_eit_fields_have_rows_along_y(tmp_path):
    fields = read_eit_fields(write(tmp_path / "a.mat", eit_arrays()))
    y, x = np.meshgrid(np.linspace(0, 1, 3), np.linspace(0, 1, 4), indexing="ij")
    np.testing.assert_allclose(fields.coefficient[0].numpy(), 1 + x + 10 * y)
    for k in (0, 1):
        np.testing.assert_allclose(fields.potential[k].numpy(), np.cos((k + 1) * x) + (k + 1) * y)
        shift = fields.gradient[k] - fields.potential[k]
        np.testing.assert_allclose(shift[0].numpy(), 1)
        np.testing.assert_allclose(shift[1].numpy(), 2)
    assert fields.code.tolist() == [1, 2, 3, 4]


def changed(arrays, name, value) -> dict[str, np.ndarray]:
    return arrays | {name: value}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({k: v for k, v in darcy_arrays().items() if k != "u"}, "no member 'u'"),
        (changed(darcy_arrays(), "coe", np.full((2, 3, 4), np.nan)), "finite numbers"),
        (changed(darcy_arrays(), "u", np.ones((2, 4, 3))), r"u`: expected shape \(2, 3, 4\)"),
        (changed(darcy_arrays(), "coe", np.ones((3, 4))), "fields with 3 axes"),
        (changed(darcy_arrays(), "X", darcy_arrays()["X"] * 2), "uniform grid"),
        (changed(darcy_arrays(), "Y", darcy_arrays()["X"]), "uniform grid"),
        (changed(darcy_arrays(), "u", np.array(["a"], dtype="S3")), "not numbers"),
        (changed(darcy_arrays(), "u", h5py.Empty("f8")), "no array"),
        (changed(darcy_arrays(), "u", np.empty((0, 3))), "empty array"),
    ],
)
def test_bad_darcy_files(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        read_darcy_fields(write(tmp_path / "a.mat", arrays))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a_sol", eit_arrays()["u_sol"] + 5, "one conductivity, got several"),
        ("g_l", np.array([[2.0, 1.0]]), "patterns in order"),
        ("X", eit_arrays()["Y"], "uniform grid"),
    ],
)
def test_bad_eit_files(tmp_path, name, value, message):
    with pytest.raises(DataError, match=message):
        read_eit_fields(write(tmp_path / "a.mat", changed(eit_arrays(), name, value)))


def test_codes_are_masked(tmp_path):
    values = np.arange(8.0).reshape(4, 2) + 1
    mask = np.array([[1, 1], [1, 0], [0, 0], [0, 0.0]])
    codes = read_eit_codes(write(tmp_path / "a.mat", {"coe_val": values, "coe_mask": mask}))
    assert codes.tolist() == [[1, 3, 0, 0], [2, 0, 0, 0]]


def errors(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Relative L2 error of each field, `(n, 1, H, W)` → `(n,)`."""
    difference = (found - expected).flatten(1)
    return difference.norm(dim=1) / expected.flatten(1).norm(dim=1)


def test_public_piecewise_fields(shared_data):
    """What is left is where the jumps lie between nodes, which the files do not say.

    Halves of elements around each node take its value, the reading that fits best: bilinear
    interpolation of the jumps fits worse, and refinement changes neither.
    """
    fields = read_darcy_fields(shared_data / "igno" / "pwc_test_in.mat")
    assert fields.coefficient.unique().tolist() == [5, 10]
    some = slice(0, 200, 10)
    a, u = fields.coefficient[some].double(), fields.solution[some].double()
    bilinear = errors(Darcy((1, 29, 29), refine=2)(a), u)
    assert bilinear.mean() < 0.0055
    nearest = (torch.arange(56) + 1) // 2
    cells = a[..., nearest, :][..., nearest]
    found = Darcy((1, 56, 56), coefficient="element")(cells)[..., ::2, ::2]
    assert errors(found, u).mean() < 0.0033
    transposed = errors(Darcy((1, 29, 29))(a.mT), u)
    assert transposed.mean() > 0.1


def test_public_smooth_field(shared_data):
    """With the coefficient interpolated smoothly, ours converges to the published pressure."""
    case = read_darcy_case(shared_data / "igno" / "smh_inverse_coe.mat")
    a, u = case.coefficient.double(), case.solution.double()
    assert case.sensors.shape == (100, 2)
    assert errors(Darcy((1, 29, 29))(a), u).item() < 0.002
    assert errors(Darcy((1, 29, 29))(a.mT), u).item() > 0.1
    axis, fine = np.linspace(0, 1, 29), np.linspace(0, 1, 113)
    spline = RectBivariateSpline(axis, axis, a[0, 0].numpy())(fine, fine)
    smooth = Darcy((1, 113, 113))(torch.from_numpy(spline)[None, None])[..., ::4, ::4]
    assert errors(smooth, u).item() < 3e-4
    sensors = Darcy((1, 29, 29), case.sensors)(a)[0]
    index = (case.sensors * 28).round().long()
    nodes = Darcy((1, 29, 29))(a)[0, 0][index[:, 1], index[:, 0]]
    torch.testing.assert_close(sensors, nodes, atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", ["problem_EIT.mat", "inverse_EIT_in.mat"])
def test_public_tomography(shared_data, name):
    fields = read_eit_fields(shared_data / "igno" / name)
    a = fields.coefficient
    operators = {r: EIT((1, 32, 32), refine=r) for r in (1, 2)}
    rim = operators[1].diffusion.grid.boundary()
    points = operators[1].diffusion.grid.points()[rim]
    given = fields.potential.flatten(1)[:, rim]
    # the numbers of the patterns; the files' boundary values are themselves off by up to 5e-4
    assert (given - boundary_values(range(1, 21), points)).abs().max() < 5e-4
    found = {
        r: errors(op.potential(a)[:, None], fields.potential[:, None])
        for r, op in operators.items()
    }
    assert found[1].max() < 1.6e-3
    assert found[2].max() < 9e-4
    assert found[2].mean() < 0.7 * found[1].mean()

    # Published gradients are values at nodes, ours means over hats: narrower hats fit better, down
    # to the irregularities of the published ones.
    normals = torch.zeros(124, 2, dtype=torch.float64)
    for start, direction in zip((0, 31, 62, 93), ((0, -1), (1, 0), (0, 1), (-1, 0)), strict=True):
        normals[start : start + 31] = torch.tensor(direction, dtype=torch.float64)
    gradient = fields.gradient.flatten(2)[..., rim]  # (20, 2, 124)
    flux = a.flatten()[rim] * (gradient * normals.mT).sum(1)
    smooth = torch.ones(124, dtype=torch.bool)
    smooth[[0, 31, 62, 93]] = False  # at corners it jumps
    grid = operators[1].diffusion.grid
    fine = torch.from_numpy(grid.prolongation(2) @ a.flatten().numpy()).reshape(1, 63, 63)
    fluxes = {"wide": operators[1](a), "narrow": EIT((1, 63, 63))(fine)[:, ::2]}
    error = {
        hats: (ours - flux)[:, smooth].norm(dim=1) / flux[:, smooth].norm(dim=1)
        for hats, ours in fluxes.items()
    }
    assert error["wide"].max() < 6e-3
    assert error["narrow"].max() < 3e-3
    assert error["narrow"].mean() < 0.5 * error["wide"].mean()
