"""Downsampling and inpainting against loops and masks; squared entries against matrices."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from latens.errors import ConfigError, DataError, ShapeError
from latens.problems import (
    Downsampling,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    Operator,
    condition,
)
from latens.studies.configure import construct_object
from latens.types import Shape
from problems.operator_cases import OPERATORS, normal

DISJOINT = [
    "average-1d",
    "average-2d",
    "average-3d",
    "decimate-2d",
    "inpainting-2d",
    "inpainting-3d-lines",
    "average-inpainting-2d",
]
"""Operators whose rows share no pixel."""


@pytest.mark.parametrize("method", ["average", "decimate"])
@pytest.mark.parametrize(
    ("size", "factor"), [((12,), (4,)), ((6, 8), (3, 2)), ((4, 3, 6), (2, 1, 3)), ((4, 4), (4, 4))]
)
def test_blocks(size, factor, method):
    x = normal(2, 3, *size)
    operator = Downsampling((3, *size), list(factor), method)
    y = operator(x)
    assert y.shape[2:] == tuple(n // f for n, f in zip(size, factor, strict=True))
    for index in product(*map(range, y.shape)):
        block = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index[2:], factor, strict=True))
        pixels = x[index[:2] + block]
        expected = pixels.mean() if method == "average" else pixels.flatten()[0]
        torch.testing.assert_close(y[index], expected)


def test_one_factor_for_all_axes():
    x = normal(2, 4, 8)
    torch.testing.assert_close(Downsampling((2, 4, 8), 2)(x), Downsampling((2, 4, 8), [2, 2])(x))


def test_dagger_of_averages_repeats_them():
    y = normal(1, 3, 2)
    expected = torch.from_numpy(np.kron(y.numpy(), np.ones((1, 2, 3))))
    torch.testing.assert_close(Downsampling((1, 6, 6), [2, 3]).A_dagger(y), expected)


@pytest.mark.parametrize("name", DISJOINT)
def test_entrywise_square(name):
    operator = OPERATORS[name]()
    square = operator.entrywise_square()
    assert square is not None
    torch.testing.assert_close(square.matrix(), operator.matrix().square())
    variance = normal(*operator.signal_shape).square()
    covariance = operator.matrix() * variance.flatten() @ operator.matrix().mT
    torch.testing.assert_close(covariance, square.A(variance).flatten().diag())


@pytest.mark.parametrize("name", DISJOINT)
def test_conditioning_in_closed_form(name):
    operator = OPERATORS[name]()
    problem = InverseProblem(operator, GaussianNoise(0.3))
    loc, variance = normal(*operator.signal_shape), normal(*operator.signal_shape, seed=1) ** 2
    y = normal(*operator.measurement_shape, seed=2)
    posterior = condition(loc, variance, y, problem)
    a, v = operator.matrix(), variance.flatten().diag()
    s = a @ v @ a.mT + 0.09 * torch.eye(a.shape[0], dtype=torch.float64)
    gain = v @ a.mT @ torch.linalg.inv(s)
    residual = y.flatten() - a @ loc.flatten()
    torch.testing.assert_close(posterior.mean.flatten(), loc.flatten() + gain @ residual)
    torch.testing.assert_close(posterior.variance.flatten(), (v - gain @ a @ v).diagonal())
    normal_y = torch.distributions.MultivariateNormal(a @ loc.flatten(), s)
    torch.testing.assert_close(posterior.marginal_log_prob, normal_y.log_prob(y.flatten()))


@pytest.mark.parametrize("name", DISJOINT[:-1])
def test_spectrum(name):
    operator = OPERATORS[name]()
    spectrum, matrix = operator.spectrum(), operator.matrix()
    gram = matrix @ matrix.mT
    torch.testing.assert_close(gram, spectrum.eigenvalues * torch.eye(len(gram)).double())
    assert spectrum.counts.tolist() == [len(gram)]
    scale = torch.tensor([[0.3], [2.0]], dtype=torch.float64)  # two functions
    w = normal(2, *operator.measurement_shape)
    solved = spectrum.gram(w, lambda v: 1 / (scale * v + 0.7)).flatten(1)
    diagonal = spectrum.diagonal(lambda v: 1 / (scale * v + 0.7)).flatten(1)
    for i, s in enumerate(scale.flatten()):
        inverse = torch.linalg.inv(s * gram + 0.7 * torch.eye(len(gram)))
        torch.testing.assert_close(solved[i], inverse @ w[i].flatten())
        torch.testing.assert_close(diagonal[i], (matrix.mT @ inverse @ matrix).diagonal())
    assert spectrum.gram(w.float(), torch.sqrt).dtype == torch.float32


def test_bad_downsampling():
    with pytest.raises(ShapeError, match=r"divisors of .* Crop the signal to \(6, 9\)"):
        Downsampling((1, 7, 9), [2, 3])
    with pytest.raises(ShapeError, match="Use a smaller factor"):
        Downsampling((1, 7, 9), 8)
    with pytest.raises(ShapeError, match="`factor`: expected one factor per spatial axis, 2"):
        Downsampling((1, 8, 8), [2])
    with pytest.raises(ShapeError, match="at least one axis"):
        Downsampling((3,), 2)
    with pytest.raises(ConfigError, match="`factor`: expected whole numbers of at least 1, got 0"):
        Downsampling((1, 8, 8), 0)
    with pytest.raises(ConfigError, match="`method`: expected 'average' or 'decimate'"):
        Downsampling((1, 8, 8), 2, "nearest")


@pytest.mark.parametrize("shape", [(2, 9), (3, 5, 7), (2, 3, 4, 5)])
def test_kept_pixels_and_their_places(shape):
    keep = normal(*shape[1:], seed=4) > 0
    operator = Inpainting(shape, mask=keep)
    x = normal(2, *shape)
    y = operator(x)
    assert operator.measurement_shape == (shape[0], int(keep.sum()))
    torch.testing.assert_close(y, x[..., keep], atol=0, rtol=0)
    assert torch.equal(operator.mask, keep)
    assert operator.view_shape == shape
    torch.testing.assert_close(operator.view(y), torch.where(keep, x, 0), atol=0, rtol=0)


def test_from_grid_does_not_read_the_holes():
    operator = Inpainting((2, 6, 5), 0.5, seed=1)
    x = normal(3, 2, 6, 5)
    full = torch.where(operator.mask, x, torch.nan)
    assert operator.grid_shape == (2, 6, 5)
    assert torch.equal(operator.from_grid(full), operator(x))
    with pytest.raises(ShapeError, match="`full`: expected trailing axes"):
        operator.from_grid(x[..., :4])


def test_random_pixels():
    operator = Inpainting((1, 40, 50), 0.3, seed=7)
    assert operator.measurement_shape == (1, 600)
    assert torch.equal(operator.mask, Inpainting((2, 40, 50), 0.3, "random", seed=7).mask)
    other = Inpainting((1, 40, 50), 0.3, seed=8).mask
    assert (operator.mask & other).sum().item() == pytest.approx(0.3**2 * 2000, abs=60)
    quarters = torch.stack([half.float().mean() for half in operator.mask.chunk(4)])
    torch.testing.assert_close(quarters, torch.full((4,), 0.3), atol=0.08, rtol=0)


def test_lines_are_kept_whole():
    mask = Inpainting((1, 6, 4, 9), 0.25, "lines", seed=2).mask
    assert torch.equal(mask.all(-1), mask.any(-1))
    assert mask[..., 0].sum() == 6
    assert not torch.equal(mask, Inpainting((1, 6, 4, 9), 0.25, "lines", seed=3).mask)


def test_block_is_one_centred_hole():
    hole = ~Inpainting((1, 12, 16), 0.75, "block").mask
    expected = torch.zeros(12, 16, dtype=torch.bool)
    expected[3:9, 4:12] = True
    assert torch.equal(hole, expected)
    volume = ~Inpainting((1, 8, 8, 8), 0.875, "block").mask
    assert volume[2:6, 2:6, 2:6].all()
    assert volume.sum() == 64


def test_mask_of_a_file(tmp_path):
    keep = np.eye(6, 8)
    path = tmp_path / "mask.npy"
    np.save(path, keep)
    spec = {"class_path": "latens.problems.Inpainting", "init_args": {"mask": str(path)}}

    operator = construct_object(Callable[[Shape], Operator], spec)((2, 6, 8))
    assert operator.measurement_shape == (2, 6)
    np.testing.assert_array_equal(operator.mask, keep == 1)


def test_bad_inpainting(tmp_path):
    with pytest.raises(ConfigError, match="`kept`: expected a fraction between 0 and 1, got None"):
        Inpainting((1, 8, 8))
    with pytest.raises(ConfigError, match="`kept`: expected a fraction between 0 and 1, got 1"):
        Inpainting((1, 8, 8), 1.0)
    with pytest.raises(ConfigError, match="`kept`: expected a fraction that keeps and misses"):
        Inpainting((1, 2, 2), 0.99)
    with pytest.raises(ConfigError, match="`kept`: expected a fraction that keeps and misses"):
        Inpainting((1, 8, 8), 0.05, "lines")
    with pytest.raises(ConfigError, match="`pattern`: expected 'random', 'lines' or 'block'"):
        Inpainting((1, 8, 8), 0.5, "spiral")
    with pytest.raises(ConfigError, match="`pattern`: expected 'random' or 'block' for one axis"):
        Inpainting((1, 8), 0.5, "lines")
    with pytest.raises(ConfigError, match="`seed`: expected no value with pattern 'block'"):
        Inpainting((1, 8, 8), 0.5, "block", seed=0)
    with pytest.raises(ShapeError, match="`signal_shape`: expected channels and at least one"):
        Inpainting((3,), 0.5)


def test_bad_masks(tmp_path):
    mask = torch.ones(8, 8)
    for setting in ({"kept": 0.5}, {"pattern": "random"}, {"seed": 0}):
        with pytest.raises(ConfigError, match="expected no value beside `mask`"):
            Inpainting((1, 8, 8), mask=mask, **setting)
    with pytest.raises(ShapeError, match=r"`mask`: expected shape \(8, 8\), got \(1, 8, 8\)"):
        Inpainting((1, 8, 8), mask=mask[None])
    for bad in (0.5 * mask, mask * torch.nan, 0 * mask):
        with pytest.raises(DataError, match="`mask`: expected 1 where a pixel is kept"):
            Inpainting((1, 8, 8), mask=bad)
    with pytest.raises(DataError, match="Correct the path"):
        Inpainting((1, 8, 8), mask=str(tmp_path / "missing.npy"))
    np.save(tmp_path / "text.npy", np.full((8, 8), "a"))
    with pytest.raises(DataError, match="expected 1 where a pixel is kept"):
        Inpainting((1, 8, 8), mask=str(tmp_path / "text.npy"))
