"""Spectra of A Aᵀ and what is built on them, against dense linear algebra in float64."""

import copy
import pickle

import pytest
import torch

from latens.errors import ConfigError
from latens.problems import (
    Convolution,
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    Radon,
    condition,
)
from latens.problems.innovation import (
    DisjointInnovation,
    FourierInnovation,
    GeneralInnovation,
    SpectralInnovation,
    innovation,
)
from problems.operator_cases import OPERATORS, BlockSum, Matrix, normal, random_kernel

CLOSE = {"atol": 1e-9, "rtol": 1e-9}
CIRCULANT = ["blur-average-2d", "blur-decimate-2d-odd", "blur-average-blur-3d"]
DECOMPOSED = ["zero-2d", "mri-2d-coils", "mri-3d-real-coils", "radon-wide", "radon-channels"]
CASES = {
    **{
        name: OPERATORS[name]
        for name in OPERATORS
        if name.startswith("mri") and "coils" not in name
    },
    **{name: OPERATORS[name] for name in CIRCULANT + DECOMPOSED},
    "mri-full-even": lambda: FourierSampling((1, 4, 6), 1),
    "mri-no-pair": lambda: FourierSampling((1, 5, 5), mask=half_plane()),
    "matrix": Matrix,
    "radon-tall": lambda: Radon((1, 4, 5), 9),
}


def half_plane() -> torch.Tensor:
    """Frequencies whose mirror images are not sampled."""
    mask = torch.zeros(5, 5)
    mask[3:] = 1
    return mask


@pytest.fixture(params=list(CASES))
def operator(request):
    return CASES[request.param]()


def dense_gram(operator, function):
    """f(A Aᵀ) from an eigendecomposition of its own."""
    matrix = operator.matrix()
    values, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    return (vectors * function(values.clamp_min(0))) @ vectors.mT


def test_eigenvalues(operator):
    spectrum = operator.spectrum()
    matrix = operator.matrix()
    expected = torch.linalg.eigvalsh(matrix @ matrix.mT)
    values = spectrum.eigenvalues.repeat_interleave(spectrum.counts.long()).sort().values
    torch.testing.assert_close(values, expected, **CLOSE)
    assert operator.norm() == pytest.approx(expected[-1].sqrt().item(), rel=1e-12)


def test_functions(operator):
    spectrum = operator.spectrum()
    scale = torch.tensor([0.3, 2.0], dtype=torch.float64)[:, None]  # two functions
    w = normal(2, *operator.measurement_shape)
    result = spectrum.gram(w, lambda v: 1 / (scale * v + 0.7))
    diagonal = spectrum.diagonal(lambda v: 1 / (scale * v + 0.7))
    matrix = operator.matrix()
    for i, s in enumerate(scale[:, 0]):
        gram = dense_gram(operator, lambda v, s=s: 1 / (s * v + 0.7))
        torch.testing.assert_close(result[i].flatten(), gram @ w[i].flatten(), **CLOSE)
        expected = (matrix.mT @ gram @ matrix).diagonal().reshape(operator.signal_shape)
        torch.testing.assert_close(diagonal[i].expand_as(expected), expected, **CLOSE)
    assert spectrum.gram(w.float(), torch.sqrt).dtype == torch.float32


def test_innovation_is_that_of_dense_algebra(operator):
    variance = torch.tensor([0.2, 3.0], dtype=torch.float64)
    variance = variance.reshape(2, *[1] * len(operator.signal_shape))
    closed = innovation(operator, variance, 0.04)
    general = GeneralInnovation(operator, variance, 0.04)
    assert isinstance(closed, SpectralInnovation)
    residual = normal(2, *operator.measurement_shape, seed=3)
    matrix = operator.matrix()
    for i, v in enumerate(variance.flatten()):
        s = v * matrix @ matrix.mT + 0.04 * torch.eye(len(matrix), dtype=torch.float64)
        expected = torch.linalg.solve(s, residual[i].flatten())
        torch.testing.assert_close(closed.solve(residual)[i].flatten(), expected, **CLOSE)
        torch.testing.assert_close(closed.log_det()[i], torch.logdet(s), **CLOSE)
    explained = closed.explained_variance()
    assert explained.max() > 1e-3
    expected = general.explained_variance()
    torch.testing.assert_close(explained.expand_as(expected), expected, **CLOSE)
    torch.testing.assert_close(closed.log_prob(residual), general.log_prob(residual), **CLOSE)


@pytest.mark.parametrize(
    ("make", "event", "expected"),
    [
        (lambda: GaussianBlur((1, 6, 6), 0.5), (1, 1, 1), FourierInnovation),
        (lambda: Inpainting((1, 6, 6), 0.5), (1, 1, 1), DisjointInnovation),
        (BlockSum, (2, 8), DisjointInnovation),
        (
            lambda: Convolution((1, 6, 6), random_kernel(3, 3), "zero"),
            (1, 1, 1),
            SpectralInnovation,
        ),
        (lambda: Radon((1, 6, 6), 4), (1, 1, 1), SpectralInnovation),
        (lambda: Radon((1, 6, 6), 4), (1, 6, 6), GeneralInnovation),
        (lambda: Radon((2, 6, 6), 4), (2, 1, 1), GeneralInnovation),
        (lambda: FourierSampling((2, 600, 500), 4), (1, 1, 1), SpectralInnovation),
        (lambda: FourierSampling((2, 48, 48), 2, coils=2), (1, 1, 1), GeneralInnovation),
        (lambda: Radon((1, 48, 48), 45), (1, 1, 1), GeneralInnovation),
    ],
)
def test_structure_chooses_the_representation(make, event, expected):
    for variance in (torch.zeros(3, *event), torch.full((3, *event), 0.5)):
        assert type(innovation(make(), variance, 0.1)) is expected


@pytest.mark.parametrize(
    "make", [lambda: Radon((1, 6, 6), 4), lambda: FourierSampling((1, 6, 6), 2)]
)
def test_zero_variance(make):
    problem = InverseProblem(make(), GaussianNoise(0.2))
    loc, y = normal(1, 6, 6), normal(*problem.measurement_shape, seed=1)
    conditioned = condition(loc, 0.0, y, problem)
    torch.testing.assert_close(conditioned.mean, loc)
    torch.testing.assert_close(conditioned.marginal_log_prob, problem.log_likelihood(y, loc))


def test_sizes_alone_decide():
    assert Radon((1, 16, 16), [0.0, 0.0]).spectrum() is not None  # the same angle twice
    assert GaussianBlur((1, 46, 46), 1.0, "zero").spectrum() is None
    assert Radon((1, 130, 130), 4).spectrum() is None  # longer than 8 times the limit


@pytest.mark.parametrize("cutoff", [1e-2, 0.2])
def test_cutoff_is_shared_by_pseudo_inverse_and_projections(cutoff):
    operator = Radon((1, 8, 8), 16, relative_cutoff=cutoff)
    left, values, right = torch.linalg.svd(operator.matrix(), full_matrices=False)
    kept = values > cutoff * values[0]
    assert 5 < kept.sum() < len(values)
    x, y = normal(3, 1, 8, 8), normal(3, *operator.measurement_shape, seed=1)
    pinv = (right[kept].mT / values[kept]) @ left[:, kept].mT
    torch.testing.assert_close(operator.A_dagger(y).flatten(1), y.flatten(1) @ pinv.mT, **CLOSE)
    expected = x.flatten(1) @ right[kept].mT @ right[kept]
    torch.testing.assert_close(operator.range_projection(x).flatten(1), expected, **CLOSE)
    missed = operator.null_projection(x)
    torch.testing.assert_close(missed, operator.null_projection(missed), **CLOSE)
    assert operator.A(missed).norm() <= cutoff * operator.norm() * x.norm()


def test_cutoff_that_does_not_apply():
    with pytest.raises(ConfigError, match="`relative_cutoff`: expected no value beyond 2048"):
        Radon((1, 64, 64), 60, relative_cutoff=1e-3)
    with pytest.raises(ConfigError, match="`relative_cutoff`: expected a fraction"):
        Radon((1, 8, 8), 6, relative_cutoff=1.5)


def test_first_use_leaves_a_usable_decomposition():
    problem = InverseProblem(Radon((1, 5, 5), 4), GaussianNoise(0.3))
    loc, y = normal(2, 1, 5, 5), normal(2, *problem.measurement_shape, seed=1)

    def density(loc, y, variance):
        return condition(loc, variance, y, problem).marginal_log_prob

    with torch.inference_mode():
        expected = density(loc, y, 0.5)
    again = copy.deepcopy(problem)
    torch.testing.assert_close(condition(loc, 0.5, y, again).marginal_log_prob, expected)
    stored = pickle.loads(pickle.dumps(problem))
    torch.testing.assert_close(condition(loc, 0.5, y, stored).marginal_log_prob, expected)
    variance = torch.full((1, 1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    density(loc, y, variance).sum().backward()
    step = 1e-6
    change = (density(loc, y, 0.5 + step) - density(loc, y, 0.5 - step)).sum() / (2 * step)
    torch.testing.assert_close(variance.grad.squeeze(), change, atol=1e-5, rtol=1e-6)

    fresh = InverseProblem(Radon((1, 5, 5), 4), GaussianNoise(0.3))
    torch.func.vmap(
        torch.func.grad(lambda loc, y: condition(loc, 0.5, y, fresh).marginal_log_prob)
    )(loc, y)
    copied = copy.deepcopy(fresh)
    torch.testing.assert_close(condition(loc, 0.5, y, copied).marginal_log_prob, expected)
