"""Which units a study has, and what they depend on."""

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
