"""Phantom subjects: keys, factors that show, exact targets, growth."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import elliprg
from scipy.stats import kstest

from latens.data import LesionGrowth, PhantomSubjects
from latens.data.head_painting import HALF_FIELD, TISSUES, bias_field, paint_heads
from latens.data.heads import ANATOMY, SCANNER, SIZE, draw_subjects, lesion_axes, true_targets
from latens.data.lesion_shape import lesion_targets
from latens.data.subjects import MODALITIES, PARTS, TARGETS
from latens.errors import ConfigError, DataError

SMALL = (20, 24, 22)


@pytest.fixture(scope="module")
def subjects():
    return PhantomSubjects(SMALL, count=12, seed=3).load()


def test_scans_depend_on_seed_and_number_alone(subjects):
    whole = subjects[:]
    few = PhantomSubjects(SMALL, count=5, seed=3).load()
    for part, all_ in zip(
        (few[:].images, few[:].lesion, few.targets, few.factors),
        (whole.images, whole.lesion, subjects.targets, subjects.factors),
        strict=True,
    ):
        torch.testing.assert_close(part, all_[:5], rtol=0, atol=0)
    backwards = subjects[[7, 2]]
    torch.testing.assert_close(backwards.images, whole.images[[7, 2]], rtol=0, atol=0)
    other = PhantomSubjects(SMALL, count=5, seed=4).load()[:]
    assert (other.images - whole.images[:5]).abs().amax(dim=(1, 2, 3, 4)).min() > 1


def test_every_channel_is_standardised_over_the_brain(subjects):
    scans = subjects[:]
    assert scans.images.shape == (12, 4, *SMALL)
    assert (scans.images.dtype, scans.brain.dtype, scans.lesion.dtype) == (
        torch.float32,
        torch.bool,
        torch.bool,
    )
    for image, brain in zip(scans.images, scans.brain[:, 0], strict=True):
        inside = image[:, brain].double()
        torch.testing.assert_close(inside.mean(1), torch.zeros(4).double(), rtol=0, atol=1e-6)
        torch.testing.assert_close(
            inside.std(1, correction=0), torch.ones(4).double(), rtol=0, atol=1e-6
        )
        assert (image[:, ~brain] == 0).all()
    assert (scans.lesion & ~scans.brain).sum() == 0


def test_factors_are_many_independent_and_uniform():
    kinds = (*ANATOMY, SIZE)
    drawn = draw_subjects(11, range(3000), kinds)
    assert len(kinds) + len(SCANNER) >= 40
    assert len({kind.name for kind in (*kinds, *SCANNER)}) == len(kinds) + len(SCANNER)
    for kind, column in zip(kinds, drawn.T, strict=True):
        scaled = (column - kind.low) / (kind.high - kind.low)
        assert kstest(scaled, "uniform").pvalue > 1e-4, kind.name
    correlation = np.corrcoef(drawn.T) - np.eye(len(kinds))
    assert np.abs(correlation).max() < 5 / math.sqrt(3000)


def test_every_factor_shows():
    """From end to end of its range each changes the noiseless image by more than its noise."""
    kinds = (*ANATOMY, SIZE, *SCANNER[:-1])
    n = len(kinds)
    middle = {kind.name: np.full(2 * n, (kind.low + kind.high) / 2) for kind in kinds}
    for k, kind in enumerate(kinds):
        middle[kind.name][2 * k : 2 * k + 2] = kind.low, kind.high
    weights, _, _ = paint_heads(middle, SMALL)
    levels = np.ones((2 * n, 4, len(TISSUES)))
    for t, tissue in enumerate(TISSUES[1:], start=1):
        for c, modality in enumerate(MODALITIES):
            levels[:, c, t] = middle[f"{tissue}_{modality}"]
    images = (levels @ weights.reshape(2 * n, len(TISSUES), -1)).reshape(2 * n, 4, *SMALL)
    images = images * bias_field(middle, SMALL)[:, None]
    change = np.sqrt(((images[1::2] - images[::2]) ** 2).sum(axis=(1, 2, 3, 4)))
    for kind, size in zip(kinds, change, strict=True):
        assert size > 10 * SCANNER[-1].low, kind.name  # ten standard deviations of noise


def test_targets_are_those_of_a_fine_mask():
    size = (88, 88, 88)
    subjects = PhantomSubjects(size, count=4, seed=0).load()
    spacing = np.full(3, 2 * HALF_FIELD / 88)
    measured = np.stack([lesion_targets(mask[0].numpy(), spacing) for mask in subjects[:].lesion])
    worst = np.abs(measured - subjects.targets.numpy()).max(axis=0)
    bounds = (0.02, 0.003, 0.003, 0.003, 0.02, 0.01, 0.01, 0.006)
    for name, error, bound in zip(TARGETS, worst, bounds, strict=True):
        assert error < bound, name


def test_targets_of_a_coarse_mask_scatter_about_the_truth():
    subjects = PhantomSubjects(count=64, seed=1).load()
    spacing = np.full(3, 2 * HALF_FIELD / 32)
    measured = np.stack([lesion_targets(mask[0].numpy(), spacing) for mask in subjects[:].lesion])
    error = measured - subjects.targets.numpy()
    assert abs(error[:, 0].mean()) < 4 * error[:, 0].std() / 8, "no bias of the volume"
    assert error[:, 0].std() < 0.06
    assert np.abs(error[:, 1:4]).max() < 0.25 * 2 / 32, "a quarter of a voxel"


def test_smooth_lesions_are_ellipsoids():
    one = np.ones(3)
    axes = lesion_axes(
        np.log([5e3, 2e4, 7e4]), np.asarray([1.0, 0.8, 0.6]), 0.9 * one, 0 * one, 0.3 * one
    )
    np.testing.assert_allclose(4 / 3 * math.pi * axes.prod(1), [5e3, 2e4, 7e4], rtol=1e-12)
    targets = true_targets(np.log([5e3, 2e4, 7e4]), np.zeros((3, 3)), axes, 0 * one, 0.3 * one)
    for (a, b, c), row in zip(axes, targets, strict=True):
        area = 4 * math.pi * elliprg((a * b) ** 2, (a * c) ** 2, (b * c) ** 2)
        assert row[7] == pytest.approx(area * math.exp(-row[0]), rel=1e-6)
        assert row[4] == pytest.approx(
            math.pi ** (1 / 3) * (6 * math.exp(row[0])) ** (2 / 3) / area
        )
    np.testing.assert_allclose(targets[:, 5], [1.0, 0.8, 0.6])
    np.testing.assert_allclose(targets[:, 6], [0.9, 0.72, 0.54])


def test_area_of_a_lobed_star_by_triangles():
    """The product rule against the flat triangles of a fine mesh of the same surface."""
    lobulation, mixture = np.asarray([0.3]), np.asarray([0.7])
    axes = np.asarray([[20.0, 15.0, 11.0]])
    theta, phi = np.meshgrid(
        np.linspace(0, math.pi, 401), np.linspace(0, 2 * math.pi, 801), indexing="ij"
    )
    u = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    rho = (
        1
        + 0.3 * 2.5 * math.cos(0.7) * ((u**4).sum(0) - 0.6)
        + 0.3 * 3 * math.sqrt(3) * math.sin(0.7) * u.prod(0)
    )
    x = np.moveaxis(rho * u, 0, -1) * axes
    a, b, c, d = x[:-1, :-1], x[1:, :-1], x[1:, 1:], x[:-1, 1:]
    mesh = sum(
        np.linalg.norm(np.cross(q - p, r - p), axis=-1).sum() / 2
        for p, q, r in ((a, b, c), (a, c, d))
    )
    volume = sum((np.cross(p, q) * r).sum() / 6 for p, q, r in ((a, b, c), (a, c, d)))
    found = true_targets(np.log([volume]), np.zeros((1, 3)), axes, lobulation, mixture)[0]
    assert found[7] * volume == pytest.approx(mesh, rel=1e-4)
    scaled = lesion_axes(
        np.log([volume]), *(np.asarray([v]) for v in (15 / 20, 11 / 15)), lobulation, mixture
    )
    np.testing.assert_allclose(scaled, axes, rtol=1e-4)


def test_affine_has_the_patient_where_the_lesion_is(subjects):
    """Head is up, the back is posterior, the left is left, in millimetres."""
    centre = subjects.targets[:, 1:4].numpy()
    index = (centre + 1) / 2 * np.asarray(SMALL) - 0.5
    for affine, voxel, q in zip(subjects.affines, index, centre, strict=True):
        right, anterior, superior, _ = affine @ [*voxel, 1]
        np.testing.assert_allclose([superior, -anterior, -right], HALF_FIELD * q, atol=1e-4)


def test_growth_follows_the_equation_and_shows():
    growth = LesionGrowth(visits=3, effect=(0.01, 0.02))
    subjects = PhantomSubjects((32, 32, 32), count=3, seed=5, growth=growth).load()
    assert len(subjects) == 9
    assert len(set(subjects.groups)) == 3
    series = subjects.series()
    row = {
        name: subjects.factor(name).reshape(3, 3)[:, 0].tolist() for name in subjects.factor_names
    }
    for i in range(3):
        names = ("growth_rate", "plateau", "treatment_effect", "treatment_decay")
        days = series.times[i].numpy()
        solved = solve_ivp(
            lambda t, y, alpha, kappa, effect, decay: (
                alpha * (kappa - y) - effect * math.exp(-decay * t)
            ),
            (0, days[-1]),
            [row["start_log_volume"][i]],
            args=tuple(row[name][i] for name in names),
            t_eval=days,
            rtol=1e-9,
            atol=1e-11,
        )
        np.testing.assert_allclose(series.log_volumes[i], solved.y[0], atol=1e-5)
    voxels = subjects[:].lesion.sum(dim=(1, 2, 3, 4)).double() * (2 * HALF_FIELD / 32) ** 3
    assert (voxels.log() - subjects.targets[:, 0]).abs().max() < 0.2
    alone = PhantomSubjects((32, 32, 32), count=3, seed=5).load()
    for kind in ANATOMY:
        np.testing.assert_array_equal(subjects.factor(kind.name)[::3], alone.factor(kind.name))


def test_untreated_lesions_below_their_plateau_only_grow():
    growth = LesionGrowth(visits=4, effect=(0.0, 0.0), plateau=(11.2, 11.5))
    series = PhantomSubjects(SMALL, count=40, seed=0, growth=growth).load().series()
    assert (torch.diff(series.log_volumes, dim=1) > 0).all()


def test_parts_collections_and_names(subjects):
    assert subjects.target("volume", "location").shape == (12, 4)
    assert sum(len(part) for part in PARTS.values()) == 7
    chosen = subjects.select([5, 1])
    assert chosen.names == (subjects.names[5], subjects.names[1])
    torch.testing.assert_close(chosen[[1]].images, subjects[[1]].images, rtol=0, atol=0)
    held = subjects.held(5)
    torch.testing.assert_close(held[[11, 0]].images, subjects[[11, 0]].images, rtol=0, atol=0)
    assert chosen.identity != subjects.identity
    assert [len(block) for block in subjects.blocks(5)] == [5, 5, 2]
    with pytest.raises(ConfigError, match="log_volume"):
        subjects.target("size")
    with pytest.raises(ConfigError, match="factor_names"):
        subjects.factor("size")
    with pytest.raises(ConfigError, match="0 to 11"):
        subjects[[12]]
    with pytest.raises(DataError, match="days of the visits"):
        subjects.series()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": (32, 32)}, "size"),
        ({"size": (32, 8, 32)}, "size"),
        ({"count": 0}, "count"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_be(wrong, said):
    with pytest.raises(ConfigError, match=f"`{said}`: expected"):
        PhantomSubjects(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"visits": 1}, {"rate": (0.2, 0.1)}, {"effect": (-1.0, 0.0)}, {"interval": 0.0}]
)
def test_growth_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match="growth"):
        LesionGrowth(**wrong)


def test_a_batch_takes_seconds():
    subjects = PhantomSubjects((32, 32, 32), count=64).load()
    began = time.process_time()
    subjects[:]
    assert time.process_time() - began < 6
