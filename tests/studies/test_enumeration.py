"""Which units a study has, and what they depend on."""

from dataclasses import replace

import numpy as np
import pytest

from latens.data import Phantoms
from latens.distributions import NoiseStream
from latens.errors import ConfigError
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


def test_checks_are_made_of_every_solver_at_three_sizes():
    every = ["stability", "calibration", "null_space", "reliability", "ambiguity"]
    _, evaluations = units(sizes=[16, 24, 32, 48, 64], checks=every, data_seeds=2)
    checked = [unit for unit in evaluations if unit.check]
    assert {unit.n for unit in checked} == {16, 32, 64}
    assert {(u.data_seed, u.init_seed) for u in checked} == {(0, 0), (0, None)}
    solvers = {check: {u.solver for u in checked if u.check == check} for check in every}
    posteriors = {"latent", "latent_ensemble"}
    assert solvers.pop("calibration") == posteriors
    assert solvers.pop("ambiguity") == {"latent"}
    assert all(names == {*posteriors, "tikhonov"} for names in solvers.values())
    ensemble = next(u for u in checked if u.solver == "latent_ensemble")
    assert len(ensemble.fits) == 2
    assert ensemble.donor is None  # its mean can be differentiated


def test_numbers_with_learning_curves_are_checked_for_several_data_seeds():
    every = ["stability", "calibration", "null_space", "reliability", "ambiguity"]
    more = {"data_seeds": 3, "checks": every, "baselines": ["tikhonov", "tv"]}
    _, one = units(**more)
    _, two = units(**more, checked_data_seeds=2)
    added = [unit for unit in two if unit.hash not in {u.hash for u in one}]
    assert {u.check for u in added} == {"stability", "null_space", "ambiguity"}
    assert {u.data_seed for u in added} == {1}
    assert {u.hash for u in one} <= {u.hash for u in two}
    for unit in two:
        if unit.donor is not None:
            assert (unit.donor.n, unit.donor.data_seed) == (unit.n, unit.data_seed)
    assert {u.data_seed for u in two if u.donor} == {0, 1}


def phantoms(seed, count=60):
    arguments = {"size": [16, 16], "count": count, "seed": seed}
    return {"class_path": "latens.data.Phantoms", "init_args": arguments}


def test_other_images_are_part_of_what_is_shown_them_alone():
    checks = ["stability", "reliability"]
    _, without = units(checks=checks)
    _, some = units(checks=checks, other_images=phantoms(7))
    _, others = units(checks=checks, other_images=phantoms(8))
    shown = [hashes(e, check="reliability") for e in (without, some, others)]
    assert all(shown)
    assert len(set.union(*shown)) == sum(map(len, shown))
    for rest in ({"check": "stability"}, {"check": ""}):
        assert hashes(without, **rest) == hashes(some, **rest)


def test_as_many_other_images_as_are_checked_are_loaded():
    config = resolve(
        Scarcity,
        [small(checks=["reliability"], other_images=phantoms(7), checked_images=20)],
        [],
    )
    others = construct(Scarcity, config).others
    assert others.x.shape == (20, 1, 16, 16)


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


def test_checked_images_of_few_groups_are_refused_before_anything_is_trained(monkeypatch):
    load = Phantoms.load
    pairs = [f"subject {i // 2}" for i in range(1200)]

    def grouped(source):
        images = load(source)
        return replace(images, groups=tuple(pairs[: len(images.x)]))

    monkeypatch.setattr(Phantoms, "load", grouped)
    settings = small(checks=["calibration"], test_images=24, checked_images=24)
    study = construct(Scarcity, resolve(Scarcity, [settings], []))
    with pytest.raises(ConfigError, match="24 checked images of 12 groups"):
        _ = study.corpus
    settings = small(checks=["calibration"], test_images=80, checked_images=24)
    study = construct(Scarcity, resolve(Scarcity, [settings], []))
    assert len(study.corpus.test) == 80  # 24 of them, spread evenly, are of as many groups
