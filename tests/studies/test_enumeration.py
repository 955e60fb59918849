"""Which units a study has, and what they depend on."""

import numpy as np
import pytest

from latens.data import Phantoms
from latens.distributions import NoiseStream
from latens.problems import GaussianBlur
from latens.studies.configure import construct, resolve
from latens.studies.enumeration import units_of
from latens.studies.scarcity import Scarcity
from stand_ins.tiny_study import small


def units(**changes):
    config = resolve(Scarcity, [small(**changes)], [])
    return units_of(construct(Scarcity, config), config)


def hashes(evaluations, **place):
    return {
        unit.hash
        for unit in evaluations
        if all(getattr(unit, name) == value for name, value in place.items())
    }


def test_the_method_of_calibration_is_part_of_what_it_calibrates():
    fits, crc = units(conformal="crc")
    other_fits, split = units(conformal="split")
    assert [fit.hash for fit in fits] == [fit.hash for fit in other_fits]
    for algorithm in ("amortised", "ensemble"):
        assert not hashes(crc, algorithm=algorithm) & hashes(split, algorithm=algorithm)
    assert hashes(crc, algorithm="tikhonov") == hashes(split, algorithm="tikhonov")


def test_checks_and_samplers_are_not_calibrated():
    extra = {"checks": ["stability"], "samplers": ["map"]}
    _, crc = units(conformal="crc", **extra)
    _, none = units(conformal=None, **extra)
    for place in ({"check": "stability"}, {"algorithm": "map"}):
        assert hashes(crc, **place)
        assert hashes(crc, **place) == hashes(none, **place)


def test_checks_are_made_of_single_solvers_at_three_sizes():
    _, evaluations = units(sizes=[16, 24, 32, 48, 64], checks=["stability", "calibration"])
    checked = [unit for unit in evaluations if unit.check]
    assert {unit.n for unit in checked} == {16, 32, 64}
    assert {(unit.data_seed, unit.init_seed) for unit in checked} == {(0, 0)}
    assert {unit.solver for unit in checked if unit.check == "stability"} == {"latent", "tikhonov"}
    assert {unit.solver for unit in checked if unit.check == "calibration"} == {"latent"}


def test_the_noise_level_is_not_estimated_from_calibration_pairs(tmp_path):
    """Their residuals are made ten times as large: the level is that of all other pairs."""
    x = Phantoms((16, 16), 80, seed=0).load().x
    blur = GaussianBlur((1, 16, 16), 1.0)
    noise = 0.05 * NoiseStream(0).normal(x.shape)
    pairs = {
        "class_path": "latens.data.PairedFolder",
        "init_args": {"path": str(tmp_path), "data_range": [0.0, 1.0]},
    }

    def study(y):
        for name, arrays in (("x", x), ("y", y)):
            (tmp_path / name).mkdir(exist_ok=True)
            for i, array in enumerate(arrays):
                np.save(tmp_path / name / f"{i:03}.npy", array[0].numpy())
        tree = small(data=pairs, noise={"class_path": "latens.problems.GaussianNoise"})
        return construct(Scarcity, resolve(Scarcity, [tree], []))

    first = study(blur(x) + noise)
    subset = first.subset(32, 0)
    used = np.concatenate([subset.train, subset.validation])
    expected = float(noise[used].square().mean().sqrt())
    assert first.problem(32, 0).noise.scale == pytest.approx(expected, rel=1e-5)
    noise[subset.calibration] *= 10
    assert study(blur(x) + noise).problem(32, 0).noise.scale == pytest.approx(expected, rel=1e-5)
