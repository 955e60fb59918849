"""p-values against usual images, and the smallest of several, by their definitions."""

import numpy as np
import pytest

from latens.errors import DataError
from latens.metrics import auroc, average_precision, false_positive_rate
from latens.metrics.surprise import (
    smallest_p_value,
    strangest,
    two_sided_p_value,
    upper_p_value,
)


def test_p_values_are_ranks_and_hold_their_size():
    usual = np.array([1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(upper_p_value([0, 2, 3, 4], usual), [1, 0.8, 0.4, 0.2])
    np.testing.assert_allclose(two_sided_p_value([0, 2, 3, 4], usual), [0.4, 1, 0.8, 0.4])
    np.testing.assert_allclose(two_sided_p_value([np.inf, -np.inf], usual), 0.4)
    generator = np.random.default_rng(7)
    drawn = generator.standard_normal((4000, 40))
    for number in (upper_p_value, two_sided_p_value):
        p = np.array([number(row[:1], row[1:])[0] for row in drawn])
        for size in (0.05, 0.1, 0.3):  # multiples of 1/40 and of 2/40
            slack = 4 * np.sqrt(size * (1 - size) / 4000)
            assert np.mean(p <= size) == pytest.approx(size, abs=slack)


def strangest_by_hand(scores, strange, two_sided, groups):
    """One image and one score at a time, from the definition."""
    scores, found = np.asarray(scores), []
    for i, row in enumerate(scores):
        best = 0.0
        for j, both in enumerate(two_sided):
            for sign in (1, -1) if both else (1,):
                every = sorted(sign * scores[~strange, j])
                usual = [
                    sign * s[j]
                    for s, odd, g in zip(scores, strange, groups, strict=True)
                    if not odd and g != groups[i]
                ]
                v, n = sign * row[j], len(every)
                p = (1 + sum(u >= v for u in usual)) / (1 + len(usual))
                # The largest values with more than a tenth, and half, at or above them.
                high, middle = (
                    max(t for t in every if sum(u >= t for u in every) > part * n)
                    for part in (0.1, 0.5)
                )
                scale = (high - middle) / np.log(5)
                surprise = -np.log(p) + max(0.0, v - max(usual)) / scale
                best = max(best, surprise - (np.log(2) if both else 0))
        found.append(best)
    return found


@pytest.mark.parametrize("usual", [7, 34])
def test_the_strangest_score_by_its_definition(usual):
    rng = np.random.default_rng(usual)
    scores = np.round(rng.standard_normal((usual + 9, 3)), 1)  # with ties
    scores[-3:] *= 5
    strange = np.arange(usual + 9) >= usual
    groups = [str(i // 2 % 6) if i < usual + 7 else f"new {i}" for i in range(usual + 9)]
    sides = (True, False, True)
    expected = strangest_by_hand(scores, strange, sides, groups)
    np.testing.assert_allclose(strangest(scores, strange, sides, groups)[0], expected)
    # Each image as often as its weight, or not at all.
    weights = rng.integers(0, 4, len(scores))
    rows = np.arange(len(scores)).repeat(weights)
    repeated = strangest(scores[rows], strange[rows], sides, [groups[i] for i in rows])[0]
    weighted = strangest(scores, strange, sides, groups, weights[None])[0]
    np.testing.assert_allclose(weighted[rows], repeated)
    for number in (auroc, average_precision, false_positive_rate):
        combined = smallest_p_value(number, sides, groups)
        direct = number(strangest(scores, strange, sides, groups), strange)
        np.testing.assert_allclose(combined(scores, strange), direct)


def test_the_smallest_p_value_decides_the_order():
    """No value beyond the usual ones: −log of the smaller p-value, one of them on two sides."""
    rng = np.random.default_rng(2)
    known, new = rng.uniform(-1, 1, (60, 2)), rng.uniform(-0.9, 0.9, (200, 2))
    strange, groups = np.arange(260) >= 60, [str(i) for i in range(260)]
    found = strangest(np.vstack([known, new]), strange, (True, False), groups)[0, 60:]
    first, second = (
        two_sided_p_value(new[:, 0], known[:, 0]),
        upper_p_value(new[:, 1], known[:, 1]),
    )
    np.testing.assert_allclose(found, -np.log(np.minimum(first, second)))


def test_strangest_scores_that_are_infinite():
    """Residuals of nothing on their ratio scale, and estimates that are no numbers."""
    usual = np.linspace(0, 1, 20)
    scores = np.concatenate([usual, [np.inf, -np.inf, 0.5]])[:, None]
    strange, groups = np.arange(23) >= 20, [str(i) for i in range(23)]
    found = strangest(scores, strange, [True], groups)[0]
    assert np.isinf(found[20:22]).all()
    assert np.isfinite(found[:20]).all()
    assert found[22] == 0
    for spoilt in (np.inf, -np.inf):
        scores[:3] = spoilt
        for sides in ([True], [False]):
            assert not np.isnan(strangest(scores, strange, sides, groups)).any()
    level = strangest(np.ones((4, 1)), np.arange(4) > 1, [False], list("abcd"))
    np.testing.assert_array_equal(level, 0)
    with pytest.raises(DataError):
        strangest([[np.nan]] * 4, np.arange(4) > 1, [False], list("abcd"))
    with pytest.raises(DataError, match="groups"):
        strangest(np.ones((4, 1)), np.arange(4) > 1, [False], list("abc"))


def test_usual_images_are_as_strange_as_others_of_their_kind():
    """Mean AUROC of ½ over 1000 draws of 25 usual images and 25 more, in three scores."""
    strange, found = np.arange(50) >= 25, []
    groups = [str(i % 25) for i in range(50)]
    for run in range(1000):
        scores = np.random.default_rng([run, 5]).standard_normal((50, 3))
        number = smallest_p_value(auroc, (True, False, False), groups)
        found.append(number(scores, strange)[0])
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / 1000**0.5)
