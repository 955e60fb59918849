"""Solvers with widened intervals, and their record on disk."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError, DataError, ShapeError, UnsupportedError
from latens.inference import (
    Amortised,
    Calibrated,
    Calibration,
    Ensemble,
    as_solver,
    load_calibration,
    save_calibration,
)
from latens.inference.calibrated import FLOOR, base_level
from latens.store import Status
from models.model_cases import SHAPE, make_model, make_pairs, make_problem

RCPS = Calibration("rcps", "width", 0.9, 0.25, 0.9, None, 0.1, 200, 50, SHAPE)
FORMS = {
    "std": replace(RCPS, widens="std", factor=2.0),
    "offset": replace(RCPS, widens="offset", factor=0.3),
    "width": RCPS,
    "narrower": replace(RCPS, widens="width", factor=-0.2),
}


def gaussian(spread=1.0):
    return as_solver(lambda y: diagonal_normal(y, spread * torch.ones_like(y), 3))


SOLVERS = {
    "distribution": gaussian,
    "amortised": lambda: Amortised(make_model("cvae"), make_problem()),
    "ensemble": lambda: Ensemble(
        [Amortised(make_model("latent", s), make_problem()) for s in (0, 1)]
    ),
}


@pytest.mark.parametrize("name", list(SOLVERS))
@pytest.mark.parametrize("form", list(FORMS))
def test_only_the_interval_changes(name, form):
    _, y = make_pairs(3)
    plain = SOLVERS[name]()(y, keys=[4, 5, 6], seed=1)
    found = Calibrated(SOLVERS[name](), FORMS[form])(y, keys=[4, 5, 6], seed=1)
    with torch.no_grad():
        for part in ("mean", "std"):
            assert torch.equal(getattr(found, part), getattr(plain, part))
        for count in (39, 5):
            assert torch.equal(found.sample(count), plain.sample(count))
        own, wide = plain.interval(0.9), found.interval(0.9)
        width = own.upper - own.lower
        step = {"std": 2 * plain.std, "offset": 0.3, "width": 0.25 * width}.get(form, -0.2 * width)
        lower, upper = (plain.mean, plain.mean) if form == "std" else (own.lower, own.upper)
        torch.testing.assert_close(wide.lower, lower - step)
        torch.testing.assert_close(wide.upper, upper + step)
    assert wide.level == 0.9
    assert torch.equal(found.interval().upper, wide.upper)
    assert (found.status, found.keys, found.seed) == (plain.status, plain.keys, plain.seed)
    assert found.includes_decoder_spread == plain.includes_decoder_spread


def test_status_diagnostics_and_trust_pass_through():
    def solver(y):
        posterior = gaussian()(y)
        posterior.status = Status.UNMIXED
        posterior.diagnostics = {"rhat": 1.3}
        posterior.trusted = torch.tensor([True, False])
        return posterior

    found = Calibrated(as_solver(solver), RCPS)(torch.zeros(2, *SHAPE))
    assert found.status is Status.UNMIXED
    assert found.diagnostics == {"rhat": 1.3}
    assert found.trusted.tolist() == [True, False]


def test_refuses_other_levels_shapes_and_point_estimates():
    y = torch.zeros(2, *SHAPE)
    for level in (0.95, 0.5):
        with pytest.raises(ConfigError, match=r"0\.9, which the intervals were calibrated"):
            Calibrated(gaussian(), RCPS)(y).interval(level)
    with pytest.raises(ShapeError, match="calibration of this solver"):
        Calibrated(gaussian(), RCPS)(torch.zeros(2, 1, 6, 6)).interval()
    with pytest.raises(UnsupportedError, match="point estimate"):
        Calibrated(as_solver(lambda y: y), RCPS)(y)


@pytest.mark.parametrize("widens", ["std", "width"])
def test_elements_without_spread_have_a_floor(widens):
    spread = torch.ones(SHAPE)
    spread[..., :6] = 0
    posterior = gaussian(spread)(torch.zeros(2, *SHAPE))
    calibration = replace(RCPS, widens=widens, factor=10.0)
    interval = calibration.interval(posterior)
    half = (interval.upper - interval.lower) / 2
    own = posterior.interval(0.9)
    size = posterior.std if widens == "std" else own.upper - own.lower
    floor = FLOOR * size.square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(
        half[..., :6], (10 * floor)[:, None, None, None].expand(2, 1, 12, 6)
    )
    x = torch.full((2, *SHAPE), 0.5)
    needed = calibration.exceedance(posterior, x)
    torch.testing.assert_close(needed[:, 0, 0, 0], 0.5 / floor)
    assert (calibration.exceedance(gaussian(0 * spread)(x), x + 1) == math.inf).all()


def test_intervals_never_cross():
    posterior = gaussian()(NoiseStream(0).normal((2, *SHAPE)))
    for widens in ("offset", "width"):
        interval = replace(RCPS, widens=widens, factor=-9.0).interval(posterior)
        own = posterior.interval(0.9)
        assert torch.equal(interval.lower, interval.upper)
        torch.testing.assert_close(interval.lower, (own.lower + own.upper) / 2)


def test_base_levels():
    assert base_level(0.95) == pytest.approx(0.95)
    assert base_level(0.99) == pytest.approx(0.95)
    assert base_level(0.93) == pytest.approx(0.9)
    assert base_level(0.01) == pytest.approx(0.05)


@pytest.mark.parametrize("form", list(FORMS))
def test_written_and_read_back(form, tmp_path):
    assert load_calibration(tmp_path) is None
    save_calibration(FORMS[form], tmp_path)
    assert load_calibration(tmp_path) == FORMS[form]
    tree = json.loads((tmp_path / "calibration.json").read_text())
    assert tree["factor"] == FORMS[form].factor


def test_promises_in_words():
    split = replace(RCPS, method="split", share=0.95, delta=None, units=200)
    assert split.promise == "at least 0.95 of the elements inside, in 0.9 of new images"
    assert "images of new groups inside, on average, but for a chance of 0.1" in RCPS.promise


WRONG = {
    "method": "magic",
    "widens": ["std"],
    "level": 95,
    "factor": "2",
    "base_level": 0.123,
    "share": 0.5,
    "delta": None,
    "units": 201,
    "images": 2.0,
    "signal_shape": [12],
}
FILES = {
    **{name: {name: value} for name, value in WRONG.items()},
    "another version": {"version": 2},
    "unknown key": {"code": "import os"},
    "infinite factor": {"factor": 1e999},
    "factor true": {"factor": True},
    "shape of text": {"signal_shape": "abc"},
    "negative units": {"units": -1},
    "negative shape": {"signal_shape": [1, -3]},
}


@pytest.mark.parametrize("name", list(FILES))
def test_damaged_files_are_refused(name, tmp_path):
    tree = {"version": 1, **asdict(RCPS)} | FILES[name]
    (tmp_path / "calibration.json").write_text(json.dumps(tree).replace("Infinity", "1e999"))
    with pytest.raises(DataError, match="a calibration as latens writes it") as caught:
        load_calibration(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1}', "null", '{"a": NaN}'])
def test_files_that_hold_something_else(text, tmp_path):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(DataError):
        load_calibration(tmp_path)
