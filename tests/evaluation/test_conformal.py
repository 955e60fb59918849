"""Fitting a calibration through a solver, and the metrics of the solver it makes."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, LatensError, ShapeError, SolverError
from latens.evaluation import conformal as module
from latens.evaluation import evaluate, fit_calibration, save_evaluation
from latens.inference import Calibrated, Calibration, Solver, as_solver
from latens.metrics import (
    CATALOGUE,
    RiskCurve,
    breakpoints,
    covering_score,
    crc_allowance,
    rcps_allowance,
)
from oracles.conformal_population import METHODS, SHAPE, pairs, solver

TOO_SURE = "a fifth of the spread, biased"


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("grouped", [False, True])
def test_the_factor_is_that_of_the_pure_functions(method, grouped):
    x, y, labels = pairs(60, 3, 60 if grouped else 0)
    groups = [f"subject {i}" for i in labels] if grouped else None
    base = solver("right spread")
    found = fit_calibration(base, x, y, method=method, level=0.9, groups=groups, seed=2)
    exceeded = found.exceedance(base(y, seed=2), x)
    if found.share is None:
        steps, heights = breakpoints(exceeded)
    else:
        steps, heights = covering_score(exceeded, found.share)[:, None], torch.ones(1)
    curve = RiskCurve.from_steps(steps.double().numpy(), heights.double().numpy(), groups)
    allowed = rcps_allowance(0.9, 0.1, 60) if method == "rcps" else crc_allowance(0.9, 60)
    assert found.factor == curve.threshold(allowed)
    assert (found.images, found.units) == (len(x), 60)
    assert found.widens == METHODS[method]
    assert (found.share, found.delta) == {
        "split": (0.9, None), "cqr": (0.9, None), "simultaneous": (1.0, None),
        "crc": (None, None), "rcps": (None, 0.1),
    }[method]  # fmt: skip
    assert (found.level, found.base_level) == (0.9, pytest.approx(0.9))
    assert found.signal_shape == SHAPE


def test_new_images_share_no_noise_with_the_calibration():
    """Draws of new images are keyed by seed 0 where nothing is said, those of a fit are not."""
    seen = []

    class Spy(Solver):
        def solve(self, y, keys, seed):
            seen.append(seed)
            return solver("right spread").solve(y, keys, seed)

    x, y, _ = pairs(50, 4)
    found = fit_calibration(Spy(), x, y, level=0.9)
    Calibrated(Spy(), found)(y)
    assert seen == [1, 0]


def test_the_factor_does_not_depend_on_the_blocks(monkeypatch):
    x, y, _ = pairs(50, 4)
    whole = fit_calibration(solver(TOO_SURE), x, y, level=0.9)
    monkeypatch.setattr(module, "block_size", lambda shape: 7)
    assert fit_calibration(solver(TOO_SURE), x, y, level=0.9) == whole
    shifted = fit_calibration(solver(TOO_SURE), x, y, level=0.9, keys=range(100, 150))
    assert shifted.factor == pytest.approx(whole.factor, rel=0.2)
    assert shifted.factor != whole.factor  # other noise of the draws


@pytest.mark.parametrize("method", list(METHODS))
def test_a_calibrated_solver_keeps_its_promise_on_new_images(method):
    x, y, _ = pairs(400, 5)
    new, y_new, _ = pairs(1000, 6)
    base = solver(TOO_SURE)
    found = fit_calibration(base, x, y, method=method, level=0.9)
    before = evaluate(base, None, new, y=y_new)
    after = evaluate(Calibrated(base, found), None, new, y=y_new)
    table = after.metrics.set_index("metric")
    margin = table.loc["conformal_margin"]
    # Of the calibration: √(0.9·0.1/400) = 0.015; of the test set its interval.
    assert margin.value > -0.045 - (margin.value - margin.lower)
    assert margin.value < 0.045 + (margin.upper - margin.value)
    assert table.loc["conformal_gain"].value > 3
    own = before.metrics.set_index("metric")
    for name in own.index:  # what is computed from draws is as before
        assert table.loc[name].value == own.loc[name].value


def test_components_by_brute_force():
    x, y, _ = pairs(30, 7)
    found = fit_calibration(solver("right spread"), *pairs(80, 8)[:2], method="crc", level=0.8)
    made = Calibrated(solver("right spread"), found)
    evaluation = evaluate(made, None, x, y=y)
    interval = made(y).interval(0.8)
    own = solver("right spread")(y).interval(0.8)
    inside = ((x >= interval.lower) & (x <= interval.upper)).double()
    covered = inside.mean((1, 2, 3)).numpy()
    rows = evaluation.rows
    np.testing.assert_allclose(rows["conformal_coverage"][:, 0], covered, atol=1e-6)
    np.testing.assert_allclose(rows["conformal_margin"][:, 0], covered - 0.8, atol=1e-6)
    width = (interval.upper - interval.lower).double()
    np.testing.assert_allclose(rows["conformal_width"][:, 0], width.mean((1, 2, 3)), rtol=1e-5)
    base = (own.upper - own.lower).double().mean((1, 2, 3))
    np.testing.assert_allclose(rows["conformal_gain"][:, 1], base, rtol=1e-5)
    np.testing.assert_array_equal(rows["conformal_bad_images"][:, 0], 1 - covered > 0.4)
    blocks = (1 - inside).reshape(30, 4, 2, 4, 2).mean((2, 4)).flatten(1)
    np.testing.assert_allclose(rows["conformal_miss_block"], blocks, atol=1e-6)
    for name, sign in (("narrow", 1), ("wide", -1)):
        order = (sign * width.flatten(1)).argsort(1)[:, :16]
        missed = (1 - inside).flatten(1).gather(1, order).mean(1)
        measured = rows[f"conformal_miss_{name}"]
        np.testing.assert_allclose(measured[:, 0] / measured[:, 1], missed, atol=1e-6)
    known = {m.name: m for m in CATALOGUE}
    worst = known["conformal_miss_block"].value(rows["conformal_miss_block"])
    assert worst == pytest.approx(blocks.mean(0).max().item())


@pytest.mark.parametrize(("level", "missed"), [(0.95, 10), (0.9, 20), (0.8, 40), (0.99, 2)])
def test_twice_the_misses_exactly_is_not_more(level, missed):
    """Of 100 pixels at level .95, 10 are twice what may be missed, and 11 are more."""
    found = Calibration(
        method="crc", widens="offset", level=level, factor=0.0, base_level=0.95, share=None,
        delta=None, images=100, units=100, signal_shape=(1, 10, 10),
    )  # fmt: skip
    x = torch.zeros(2, 100)
    x[0, :missed], x[1, : missed + 1] = 9.0, 9.0
    x = x.reshape(2, 1, 10, 10)
    draws = NoiseStream(0).uniform((39, *x.shape)) - 0.5
    made = Calibrated(as_solver(lambda y, n: draws[:n]), found)
    rows = evaluate(made, None, x, y=0 * x).rows
    assert rows["conformal_bad_images"][:, 0].tolist() == [0.0, 1.0]


def test_simultaneous_margin_counts_whole_images():
    x, y, _ = pairs(40, 9)
    base = solver("right spread")
    found = fit_calibration(base, *pairs(60, 10)[:2], method="simultaneous", level=0.8)
    evaluation = evaluate(Calibrated(base, found), None, x, y=y)
    interval = Calibrated(base, found)(y).interval(0.8)
    whole = ((x >= interval.lower) & (x <= interval.upper)).flatten(1).all(1).double()
    np.testing.assert_allclose(evaluation.rows["conformal_margin"][:, 0], whole - 0.8, atol=1e-6)


def test_examples_show_the_posterior_s_own_interval():
    x, y, _ = pairs(40, 9)
    base = solver("right spread")
    found = fit_calibration(base, *pairs(60, 10)[:2], method="crc")
    examples = evaluate(Calibrated(base, found), None, x, y=y).examples
    own = base(y).interval(0.95)
    np.testing.assert_allclose(examples.arrays["lower"], own.lower[list(examples.images)])
    np.testing.assert_allclose(examples.arrays["upper"], own.upper[list(examples.images)])


@pytest.mark.parametrize("shape", [(1, 20), (2, 9, 7), (1, 4, 5, 6), (1, 3)])
def test_other_dimensions(shape, tmp_path):
    x = NoiseStream(0).normal((60, *shape))
    base = as_solver(lambda y, n: y + NoiseStream(1).normal((n, *y.shape)))
    found = fit_calibration(base, x, 0 * x, level=0.9, method="crc")
    evaluation = evaluate(Calibrated(base, found), None, x, y=0 * x)
    assert evaluation.rows["conformal_miss_block"].shape == (60, 16)
    assert abs(evaluation.rows["conformal_margin"].mean()) < 0.05
    (tmp_path / "out").mkdir()
    save_evaluation(evaluation, tmp_path / "out", {})
    assert '"level": 0.9' in (tmp_path / "out" / "examples" / "examples.json").read_text()


class Doubtful(Solver):
    """Wrong, and known to be, wherever the measurement is."""

    def solve(self, y, keys, seed):
        posterior = solver("right spread").solve(y, keys, seed)
        posterior.trusted = torch.tensor([key % 4 != 0 for key in keys])
        return posterior


def test_untrusted_images_are_left_out():
    x, y, _ = pairs(80, 11)
    spoiled = x.clone()
    spoiled[::4] += 1000
    found = fit_calibration(Doubtful(), spoiled, y, level=0.9)
    kept = [i for i in range(80) if i % 4]
    expected = fit_calibration(solver("right spread"), x[kept], y[kept], level=0.9, keys=kept)
    assert (found.factor, found.images, found.units) == (expected.factor, 60, 60)


def test_broken_estimates_are_misses():
    x, y, _ = pairs(60, 12)
    for broken, fine in ((2, True), (20, False)):
        spoiled = y.clone()
        spoiled[:broken, 0] = torch.nan
        if fine:
            found = fit_calibration(solver("right spread"), x, spoiled, level=0.9, method="crc")
            whole = fit_calibration(solver("right spread"), x, y, level=0.9, method="crc")
            assert found.factor > whole.factor
        else:
            with pytest.raises(SolverError, match="not finite"):
                fit_calibration(solver("right spread"), x, spoiled, level=0.9, method="crc")


def fit(n=60, **changes):
    x, y, _ = pairs(60, 13)
    return fit_calibration(solver("right spread"), x[:n], y[:n], **changes)


WRONG = {
    "too few images": (lambda: fit(18, method="crc"), ConfigError, "at least 19"),
    "too few for rcps": (lambda: fit(44), ConfigError, "at least 45"),
    "too few groups": (lambda: fit(groups=["a"] * 30 + ["b"] * 30), ConfigError, "units"),
    "unknown method": (lambda: fit(method="jackknife"), ConfigError, "split, cqr"),
    "level in percent": (lambda: fit(level=95), ConfigError, "probability"),
    "delta of crc": (lambda: fit(method="crc", delta=0.1), ConfigError, "rcps"),
    "share of rcps": (lambda: fit(share=0.9), ConfigError, "split"),
    "share above 1": (lambda: fit(method="split", share=1.1), ConfigError, "share"),
    "unknown widens": (lambda: fit(widens="all"), ConfigError, "widens"),
    "fewer groups": (lambda: fit(groups=["a"]), ShapeError, "groups"),
    "fewer keys": (lambda: fit(keys=[1]), ShapeError, "keys"),
    "no image": (lambda: fit(0), ShapeError, "at least one"),
    "NaN": (
        lambda: fit_calibration(
            solver("right spread"), torch.full((60, *SHAPE), torch.nan), pairs(60, 0)[1]
        ),
        DataError,
        "finite",
    ),
    "point estimates": (
        lambda: fit_calibration(as_solver(lambda y: y[:, :1]), *pairs(60, 0)[:2]),
        LatensError,
        "point estimate",
    ),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_does_not_fit(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
