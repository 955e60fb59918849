"""Shifted test sets against what they say they are."""

import math

import numpy as np
import pytest
import torch

from latens.data import ImageSet, Phantoms
from latens.distributions import NoiseStream
from latens.errors import LatensError
from latens.evaluation import (
    KernelWidth,
    LostSamples,
    LostShare,
    MagnitudeNoise,
    NoiseLevel,
    OtherImages,
    PhotonNoise,
    applicable_shifts,
)
from latens.problems import (
    Chain,
    Composition,
    Downsampling,
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Inpainting,
    InverseProblem,
    MotionBlur,
    PoissonGaussianNoise,
    RicianNoise,
)

SHAPE = (1, 16, 16)


def images(n: int = 12, seed: int = 0) -> ImageSet:
    x = NoiseStream(seed).uniform((n, *SHAPE)) + 0.2
    return ImageSet(x, data_range=(0, 2), groups=tuple(f"s{i // 2}" for i in range(n)))


def gaussian(operator=None, scale: float = 0.01) -> InverseProblem:
    return InverseProblem(operator or GaussianBlur(SHAPE, 1.0), GaussianNoise(scale))


def residual(shift, problem, other, n: int = 400) -> torch.Tensor:
    """What the shift measures, less the clean measurement of another operator."""
    shown = images(n)
    shifted = shift.apply(shown, problem, 3)
    assert torch.equal(shifted.x, shown.x)
    assert shifted.groups == shown.groups
    return (shifted.y - other(shown.x)).double()


OPERATORS = {
    "gaussian": (GaussianBlur(SHAPE, 1.0), GaussianBlur(SHAPE, 1.5)),
    "zero boundary": (GaussianBlur(SHAPE, 1.0, "zero"), GaussianBlur(SHAPE, 1.5, "zero")),
    "motion": (MotionBlur(SHAPE, [2.0, 4.0]), MotionBlur(SHAPE, [3.0, 6.0])),
    "super-resolution": tuple(
        Composition(SHAPE, [lambda s, w=w: GaussianBlur(s, w), lambda s: Downsampling(s, 2)])
        for w in (1.0, 1.5)
    ),
}


@pytest.mark.parametrize("name", list(OPERATORS))
def test_another_kernel(name):
    expected, real = OPERATORS[name]
    found = residual(KernelWidth(1.5), gaussian(expected), real)
    assert found.std() == pytest.approx(0.01, rel=0.02)
    assert residual(KernelWidth(1.5), gaussian(expected), expected).std() > 0.02
    assert (KernelWidth(1.5).name, KernelWidth(1.5).strength) == ("kernel width", 1.5)


@pytest.mark.parametrize(
    "noise", [GaussianNoise(0.1), RicianNoise(0.02), PoissonGaussianNoise(0.01, 0.05)]
)
def test_another_noise_level(noise):
    problem = InverseProblem(Identity(SHAPE), noise)
    same = residual(NoiseLevel(1.0), problem, Identity(SHAPE)).std()
    twice = residual(NoiseLevel(2.0), problem, Identity(SHAPE)).std()
    assert twice / same == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("shift", [PhotonNoise(0.9), PhotonNoise(0.3), MagnitudeNoise()])
@pytest.mark.parametrize("scale", [0.05, 0.4])
def test_another_family_has_the_same_mean_variance(shift, scale):
    problem = gaussian(Identity(SHAPE), scale)
    shown = images(400)
    found = residual(shift, problem, Identity(SHAPE))
    if isinstance(shift, PhotonNoise):
        assert found.mean().abs() < 0.01 * scale
        variance = found.square().mean()
        bright = shown.x > shown.x.median()
        ratio = found[bright].square().mean() / found[~bright].square().mean()
        spread = shown.x[bright].mean() / shown.x[~bright].mean()
        p = shift.photons
        mean = shown.x.mean()
        expected = (1 - p + p * shown.x[bright].mean() / mean) / (
            1 - p + p * shown.x[~bright].mean() / mean
        )
        assert spread > 1.5
        assert ratio == pytest.approx(expected.item(), rel=0.05)
    else:  # the variance of y given x: the mean is not the clean value
        shifted = torch.stack([shift.apply(shown, problem, s).y for s in range(8)]).double()
        variance = shifted.var(0).mean()
        assert (shifted >= 0).all()
    assert variance == pytest.approx(scale**2, rel=0.02)


def test_lost_samples_of_inpainting_and_mri():
    shown = images()
    for problem, other in (
        (gaussian(Inpainting(SHAPE, 0.7, seed=1)), Inpainting(SHAPE, 0.5, seed=2)),
        (gaussian(FourierSampling(SHAPE, 2.0)), FourierSampling(SHAPE, 4.0)),
    ):
        shift = LostSamples(other)
        y = shift.apply(shown, problem, 0).y
        usual = NoiseLevel(1.0).apply(shown, problem, 0).y
        kept = (y != 0).any(0)
        assert torch.equal(y[:, kept], usual[:, kept])
        # A place is kept where both masks sample it.
        both = problem.operator.mask & other.mask
        per_place = kept.flatten().numel() // int(problem.operator.mask.sum())
        assert int(kept.sum()) == per_place * int(both.sum())
        assert 0 < int(both.sum()) < int(problem.operator.mask.sum())
    assert shift.strength == pytest.approx(other.mask.numel() / int(other.mask.sum()))


def after_blur(kind, last):
    return kind(SHAPE, [lambda s: GaussianBlur(s, 1.0), lambda _: last])


POINTS = np.s_[:]
SAMPLING = {
    # operator, one place of each line of its mask, lines that are lost
    "pixels": (Inpainting(SHAPE, 0.5), POINTS, 32),
    "lines of pixels": (Inpainting(SHAPE, 0.5, "lines"), np.s_[:, :1], 2),
    "lines of k-space": (FourierSampling(SHAPE, 2.0), np.s_[:1], 2),
    "rows of k-space": (FourierSampling(SHAPE, 2.0, axis=0), np.s_[:, :1], 2),
    "points of k-space": (FourierSampling(SHAPE, 4.0, pattern="points"), POINTS, 16),
    "coils": (FourierSampling(SHAPE, 2.0, coils=3), np.s_[:1], 2),
    "all frequencies": (FourierSampling(SHAPE, mask=torch.ones(16, 16)), POINTS, 64),
    "after a blur": (after_blur(Composition, Inpainting(SHAPE, 0.5)), POINTS, 32),
    "after something else": (after_blur(Chain, Inpainting(SHAPE, 0.5)), POINTS, 32),
}


@pytest.mark.parametrize("name", list(SAMPLING))
def test_a_quarter_of_the_own_samples_is_lost(name):
    """Whole lines where the mask skips lines; what is left is what was measured anyway."""
    operator, lines, lost = SAMPLING[name]
    shown, problem, shift = images(), gaussian(operator), LostShare(0.25, seed=1)
    y = shift.apply(shown, problem, 3).y
    usual = NoiseLevel(1.0).apply(shown, problem, 3).y
    kept = (y != 0).any(0)
    assert torch.equal(y[:, kept], usual[:, kept])
    assert (y[:, ~kept] == 0).all()
    # every place of the mask by its number, as the operator orders them
    sampling = getattr(operator, "steps", [operator])[-1]
    places = torch.arange(256.0).reshape(16, 16).expand(sampling.grid_shape)
    index = sampling.from_grid(places).long()
    remains = torch.zeros(256, dtype=torch.bool)
    remains[index[kept]] = True
    remains = remains.reshape(16, 16)
    assert (remains <= sampling.mask).all()
    assert int(sampling.mask[lines].sum() - remains[lines].sum()) == lost
    assert torch.equal(remains, remains[lines].expand_as(remains))
    if isinstance(sampling, FourierSampling):
        assert remains[8, 8]
    again, other = (LostShare(0.25, s).apply(shown, problem, 3).y for s in (1, 2))
    assert torch.equal(again, y)
    assert not torch.equal(other, y)


def test_frequency_zero_is_never_lost():
    problem = gaussian(FourierSampling(SHAPE, 4.0))
    for seed in range(8):
        y = LostShare(0.7, seed).apply(images(), problem, 0).y
        image = problem.operator.A_adjoint(y)
        torch.testing.assert_close(
            image.mean((1, 2, 3)), images().x.mean((1, 2, 3)), atol=3e-3, rtol=0
        )


def names(shown, problem, others=()):
    return [shift.name for shift in applicable_shifts(shown, problem, others)]


def test_the_usual_shifts_of_a_problem():
    lost, blurred = "share of samples lost", "kernel width"
    for operator in (Inpainting(SHAPE, 0.5), FourierSampling(SHAPE, 2.0)):
        assert lost in names(images(), gaussian(operator))
        assert blurred not in names(images(), gaussian(operator))
    both = names(images(), gaussian(after_blur(Composition, Inpainting(SHAPE, 0.5))))
    assert {lost, blurred, "noise level", "images: inverted contrast"} <= set(both)
    assert lost not in names(images(), gaussian())
    other = Phantoms((16, 16), 9).load()
    assert names(images(), gaussian(), [other])[-1] == f"images: {other.name}"


def test_a_shift_must_apply_to_every_image():
    """Photons of the first image, which is bright, cannot be counted in the second."""
    x = images(2).x
    x[1] -= 1.0
    shown = ImageSet(x, data_range=(-1, 2))
    assert "photon noise" in names(shown.select([0]), gaussian())
    assert not {"photon noise", "magnitude noise"} & set(names(shown, gaussian()))


def test_other_images():
    other = Phantoms((16, 16), 9).load()
    problem = gaussian()
    shift = OtherImages(other)
    found = shift.apply(images(), problem, 0)
    assert torch.equal(found.x, other.x)
    assert (found.y - problem.operator(other.x)).std() == pytest.approx(0.01, rel=0.05)
    assert not shift.same_images
    assert shift.name.startswith("images")


def test_noise_is_keyed():
    shown, problem = images(), gaussian()
    first, again, other = (KernelWidth(1.5).apply(shown, problem, s).y for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


WRONG = {
    "no kernel": lambda: KernelWidth(2.0).apply(images(), gaussian(Identity(SHAPE)), 0),
    "photons of Rician": lambda: PhotonNoise().apply(
        images(), InverseProblem(Identity(SHAPE), RicianNoise(0.1)), 0
    ),
    "negative brightness": lambda: MagnitudeNoise().apply(
        ImageSet(images().x - 1, data_range=(-2, 2)), gaussian(Identity(SHAPE)), 0
    ),
    "mask of a blur": lambda: LostSamples(Inpainting(SHAPE, 0.5)).apply(images(), gaussian(), 0),
    "mask of another size": lambda: LostSamples(Inpainting((1, 8, 8), 0.5)).apply(
        images(), gaussian(Inpainting(SHAPE, 0.5)), 0
    ),
    "images of another size": lambda: OtherImages(Phantoms((8, 8), 9).load()).apply(
        images(), gaussian(), 0
    ),
    "lost share of a blur": lambda: LostShare().apply(images(), gaussian(), 0),
    "one sample": lambda: LostShare().apply(
        images(), gaussian(Inpainting(SHAPE, mask=torch.eye(256)[0].reshape(16, 16))), 0
    ),
    "all samples": lambda: LostShare(1.0),
    "factor 0": lambda: NoiseLevel(0.0),
    "infinite factor": lambda: KernelWidth(math.inf),
    "all photons": lambda: PhotonNoise(1.0),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_does_not_apply(name):
    with pytest.raises(LatensError) as caught:
        WRONG[name]()
    assert "\n" not in str(caught.value)
