"""Thresholds against their definitions by brute force, in float64."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    RiskCurve,
    breakpoints,
    covering_score,
    crc_allowance,
    exceedance,
    hoeffding_bentkus,
    hoeffding_bentkus_bound,
    miss_by_width,
    rcps_allowance,
    split_quantile,
    units_needed,
)
from latens.metrics import conformal as module


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(rng(seed).standard_normal(shape))


def test_exceedance_is_what_the_interval_lacks():
    x, mean, std = normal(4, 1, 6, 5), normal(4, 1, 6, 5, seed=1), normal(4, 1, 6, 5, seed=2).exp()
    torch.testing.assert_close(exceedance(x, mean, mean, std), (x - mean).abs() / std)
    lower, upper = mean - std, mean + 0.3 * std
    for unit in (1.0, std):
        needed = exceedance(x, lower, upper, unit)
        for slack, all_in in ((1e-9, True), (-1e-9, False)):
            widened = (needed + slack) * unit
            inside = (lower - widened <= x) & (x <= upper + widened)
            assert bool(inside.all() if all_in else (~inside).all())
    assert (exceedance(x, lower, upper, 1.0) < 0).any()  # inside already


@pytest.mark.parametrize("broken", ["x", "lower", "unit"])
def test_what_is_not_finite_is_missed(broken):
    parts = {"x": normal(2, 3), "lower": -normal(2, 3).abs(), "unit": torch.ones(2, 3).double()}
    parts[broken][0, 1] = math.nan
    found = exceedance(parts["x"], parts["lower"], parts["lower"] + 1, parts["unit"])
    assert found[0, 1] == math.inf
    assert torch.isfinite(found).sum() == 5
    zero = exceedance(torch.ones(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), 0.0)
    assert (zero == math.inf).all()  # 0/0 is not known to be covered


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 7, 20, 100])
def test_covering_score_is_the_smallest_that_covers_the_share(share, count):
    e = normal(5, count)
    scores = covering_score(e, share)
    for row, score in zip(e.numpy(), scores.numpy(), strict=True):
        candidates = [v for v in row if np.mean(row <= v) >= share - 1e-12]
        assert score == min(candidates)
    assert torch.equal(covering_score(e), e.max(1).values)


@pytest.mark.parametrize("most", [50, 12, 7])
def test_breakpoints_are_the_risk_curve_or_lie_above_it(most, monkeypatch):
    monkeypatch.setattr(module, "BREAKPOINTS", most)
    e = normal(3, 1, 5, 10).round(decimals=1)  # with ties
    steps, heights = breakpoints(e)
    assert steps.shape == (3, min(most, 50))
    assert heights.sum() == pytest.approx(1)
    for lam in np.linspace(-3, 3, 41):
        true = (e > lam).double().flatten(1).mean(1)
        kept = ((steps > lam).double() * heights).sum(1)
        assert (kept >= true - 1e-12).all()
        assert (kept - true).max() <= (1e-12 if most == 50 else 1 / most + 1 / 50)


def test_split_quantile_is_the_textbook_order_statistic():
    for n in (9, 19, 20, 99, 137):
        for level in (0.5, 0.8, 0.9, 0.95):
            if n < units_needed(level):
                continue
            scores = rng(n).standard_normal(n)
            k = math.ceil(round((n + 1) * level, 9))
            assert split_quantile(scores, level) == np.sort(scores)[k - 1]
    assert split_quantile([1.0, 1.0, 1.0, 2.0], 0.6) == 1.0  # ties
    assert split_quantile([1.0, math.inf, 0.0, math.nan], 0.8) == math.inf


def test_mean_risk_by_brute_force_with_groups():
    steps = np.round(rng().standard_normal((11, 6)), 1)
    steps[2, 3], steps[5, 1] = math.inf, math.nan
    heights = np.array([0.1, 0.3, 0.2, 0.2, 0.15, 0.05])
    groups = np.array(list("aaabbcddddd"))
    curve = RiskCurve.from_steps(steps, heights, groups.tolist())
    assert curve.units == 4

    def risk(lam: float) -> float:
        image = (~(steps <= lam) * heights).sum(1)
        return float(np.mean([image[groups == g].mean() for g in "abcd"]))

    assert len(curve.points) == len(np.unique(steps[np.isfinite(steps)]))
    for point, value in zip(curve.points, curve.risk, strict=True):
        assert value == pytest.approx(risk(point), abs=1e-12)
        assert curve.threshold(value) <= point
    assert curve.risk[-1] == pytest.approx((0.2 / 3 + 0.3) / 4)  # what no λ reaches
    assert curve.threshold(curve.risk[-1] - 1e-6) == math.inf


def test_the_threshold_is_the_smallest_from_which_all_larger_ones_hold():
    grid = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    wavy = RiskCurve(grid, np.array([0.3, 0.05, 0.2, 0.1, 0.0]), 10)
    assert [wavy.threshold(a) for a in (0.3, 0.25, 0.15, 0.07, 0.0)] == [0, 1, 3, 4, 4]
    table = np.array([[1, 0.5, 0.5, 0, 0], [1, 1, 0.25, 0.25, 0]])
    curve = RiskCurve.on_grid(grid, table)
    np.testing.assert_array_equal(curve.risk, table.mean(0))
    assert curve.threshold(0.2) == 3


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_risk_control_by_its_definition(level):
    n, alpha = 200, 1 - level
    steps = rng(3).standard_normal((n, 25))
    curve = RiskCurve.from_steps(steps, np.full(25, 1 / 25))
    found = curve.threshold(crc_allowance(level, n))
    lambdas = np.sort(steps.ravel())
    risks = np.array([(steps > lam).mean() for lam in lambdas])
    assert found == lambdas[n / (n + 1) * risks + 1 / (n + 1) <= alpha + 1e-12].min()
    found = curve.threshold(rcps_allowance(level, 0.1, n))
    place = int(np.flatnonzero(lambdas == found)[0])
    for i in (place, place + 1, len(lambdas) - 1):
        assert hoeffding_bentkus_bound(risks[i], n, 0.1) <= alpha + 1e-9
    for i in (place - 1, place - 5, 0):
        assert hoeffding_bentkus_bound(risks[i], n, 0.1) > alpha


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_hoeffding_bentkus_p_value(alpha, n):
    for risk in (0.0, alpha / 10, alpha / 2, 0.9 * alpha):
        a = risk
        kl = (a * math.log(a / alpha) if a else 0) + (1 - a) * math.log((1 - a) / (1 - alpha))
        bentkus = math.e * stats.binom.cdf(math.ceil(round(n * risk, 9)), n, alpha)
        expected = min(1, math.exp(-n * kl), bentkus)
        assert hoeffding_bentkus(risk, n, alpha) == pytest.approx(expected)
    assert hoeffding_bentkus(alpha, n, alpha) == 1
    assert hoeffding_bentkus(0.9, n, alpha) == 1
    bound = hoeffding_bentkus_bound(alpha / 2, n, 0.1)
    assert hoeffding_bentkus(alpha / 2, n, bound + 1e-6) <= 0.1
    assert hoeffding_bentkus(alpha / 2, n, bound - 1e-6) > 0.1


@pytest.mark.parametrize("n", [50, 300])
def test_the_p_value_is_valid_by_exact_enumeration(n):
    """Binary risks are the extreme case: P(p ≤ δ) ≤ δ at the boundary R = α, exactly."""
    alpha = 0.1
    counts = np.arange(n + 1)
    chance = stats.binom.pmf(counts, n, alpha)
    p = np.array([hoeffding_bentkus(k / n, n, alpha) for k in counts])
    assert (np.diff(p) >= -1e-12).all()
    for delta in (0.01, 0.05, 0.1, 0.3):
        assert chance[p <= delta].sum() <= delta


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_too_few_units_are_named(level):
    needed = units_needed(level)
    assert needed == math.ceil(round(1 / (1 - level) - 1, 6))
    assert crc_allowance(level, needed) >= 0
    with pytest.raises(ConfigError, match=f"at least {needed}"):
        crc_allowance(level, needed - 1)
    needed = units_needed(level, 0.1)
    assert level**needed <= 0.1 < level ** (needed - 1)
    assert rcps_allowance(level, 0.1, needed) >= 0
    with pytest.raises(ConfigError, match=f"at least {needed}"):
        rcps_allowance(level, 0.1, needed - 1)


def test_misses_by_width():
    width = torch.tensor([[4.0, 1, 2, 3, 8, 7, 6, 5], [2.0] * 8]).double()
    missed = torch.tensor([[0.0, 1, 1, 0, 0, 1, 0, 0], [1.0, 0, 0, 0, 0, 0, 0, 0]]).double()
    found = miss_by_width(missed, width)
    expected = [[[2 / 8, 2 / 8], [1 / 8, 2 / 8]], [[1 / 8, 1], [1 / 8, 1]]]
    torch.testing.assert_close(found, torch.tensor(expected).double())


def test_what_does_not_fit():
    x = normal(2, 3)
    with pytest.raises(ShapeError):
        exceedance(x, x[:1], x, 1.0)
    for share in (0.0, 1.5):
        with pytest.raises(ConfigError):
            covering_score(x, share)
    with pytest.raises(ShapeError):
        RiskCurve.from_steps(x.numpy(), [1.0])
    with pytest.raises(ShapeError):
        RiskCurve.from_steps(x.numpy(), np.full(3, 1 / 3), ["a"])
    for points, risks in (([1, 0], [[1, 0]]), ([0, 1], [[0, 1]]), ([0, 1], [[2, 0]])):
        with pytest.raises(ConfigError):
            RiskCurve.on_grid(points, risks)
    for level, delta in ((1.0, None), (95, None), (0.9, 0.0)):
        with pytest.raises(ConfigError):
            units_needed(level, delta)
