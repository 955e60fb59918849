"""Detection and selective risk against brute force, and against scikit-learn where it is there."""

from itertools import permutations

import numpy as np
import pytest
from sklearn import metrics

from latens.errors import DataError
from latens.metrics import (
    augrc,
    aurc,
    auroc,
    average_precision,
    false_positive_rate,
    random_augrc,
    risk_coverage,
)
from latens.metrics.detection import (
    smallest_p_value,
    strangest,
    two_sided,
    two_sided_p_value,
    upper_p_value,
)

DETECTION = {"auroc": auroc, "ap": average_precision, "fpr": false_positive_rate}
SELECTION = {"aurc": aurc, "augrc": augrc}


def sample(seed: int, n: int = 40, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and kinds."""
    generator = np.random.default_rng(seed)
    strange = np.arange(n) % 3 == 0
    return np.round(generator.standard_normal(n) + strange, digits), strange


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [0, 1, 8])
def test_detection_by_brute_force(seed, digits):
    scores, strange = sample(seed, digits=digits)
    s, u = scores[strange], scores[~strange]
    pairs = (s[:, None] > u) + 0.5 * (s[:, None] == u)
    assert auroc(scores, strange)[0] == pytest.approx(pairs.mean())
    ap, before = 0.0, 0.0
    for t in np.unique(scores)[::-1]:
        recall = np.mean(s >= t)
        ap += (recall - before) * strange[scores >= t].mean()
        before = recall
    assert average_precision(scores, strange)[0] == pytest.approx(ap)
    threshold = max(t for t in scores if np.mean(s >= t) >= 0.95)
    assert false_positive_rate(scores, strange)[0] == pytest.approx(np.mean(u >= threshold))


@pytest.mark.parametrize("seed", range(3))
def test_detection_against_scikit_learn(seed):
    scores, strange = sample(seed, 200)
    assert auroc(scores, strange)[0] == pytest.approx(metrics.roc_auc_score(strange, scores))
    assert average_precision(scores, strange)[0] == pytest.approx(
        metrics.average_precision_score(strange, scores)
    )
    fpr, tpr, _ = metrics.roc_curve(strange, scores, drop_intermediate=False)
    assert false_positive_rate(scores, strange)[0] == pytest.approx(fpr[tpr >= 0.95].min())


def test_known_values():
    strange = np.repeat([False, True], 50)
    perfect = np.arange(100.0)
    assert (auroc(perfect, strange)[0], average_precision(perfect, strange)[0]) == (1, 1)
    assert false_positive_rate(perfect, strange)[0] == 0
    assert auroc(-perfect, strange)[0] == 0
    assert false_positive_rate(-perfect, strange)[0] == 1
    blind = np.ones(100)
    assert auroc(blind, strange)[0] == 0.5
    assert average_precision(blind, strange)[0] == pytest.approx(0.5)
    assert false_positive_rate(blind, strange)[0] == 1
    infinite = np.where(strange, np.inf, -np.inf)
    assert auroc(infinite, strange)[0] == 1
    for number in DETECTION.values():
        assert np.isnan(number(perfect, np.zeros(100, bool))[0])
        assert np.isnan(number(perfect, np.ones(100, bool))[0])


@pytest.mark.parametrize("name", list(DETECTION))
def test_weights_of_detection_are_repetitions(name):
    scores, strange = sample(0)
    counts = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=9)
    many = DETECTION[name](scores, strange, counts)
    for value, count in zip(many, counts, strict=True):
        once = DETECTION[name](np.repeat(scores, count), np.repeat(strange, count))[0]
        assert value == pytest.approx(once)


@pytest.mark.parametrize("name", list(DETECTION))
@pytest.mark.parametrize("ties", [True, False])
def test_two_sided_by_brute_force(name, ties):
    """|v − median of the other usual images of the resample|, then the number itself."""
    generator = np.random.default_rng(5)
    scores = generator.standard_normal(31)
    if ties:
        scores = np.round(3 * scores)
    strange = np.arange(31) % 3 == 0
    counts = generator.multinomial(31, np.full(31, 1 / 31), size=20)
    found = two_sided(DETECTION[name])(scores, strange, counts)
    for value, count in zip(found, counts, strict=True):
        distance = np.empty(31)
        for i in range(31):
            others = np.where(strange | (np.arange(31) == i), 0, count)
            distance[i] = abs(scores[i] - np.median(np.repeat(scores, others)))
        repeated = np.repeat(distance, count), np.repeat(strange, count)
        assert value == pytest.approx(DETECTION[name](*repeated)[0])


def test_two_sided_sees_either_side_and_is_blind_without_a_shift():
    generator = np.random.default_rng(6)
    strange = np.repeat([False, True], 25)
    usual = generator.normal(1.0, 0.1, 25)
    number = two_sided(auroc)
    for shifted in (np.full(25, 0.16), np.full(25, 3.0), np.repeat([0.1, np.inf], [12, 13])):
        assert number(np.concatenate([usual, shifted]), strange)[0] == 1
    assert auroc(np.concatenate([usual, np.full(25, 0.16)]), strange)[0] == 0
    null = [number(generator.standard_normal(50), strange)[0] for _ in range(2000)]
    assert np.mean(null) == pytest.approx(0.5, abs=0.01)  # .53 with the image in its own median
    assert np.isnan(number(usual, np.ones(25, bool))[0])


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


def brute(uncertainty: np.ndarray, risk: np.ndarray) -> tuple[float, float]:
    """AURC and AUGRC averaged over every order of tied images."""
    n = len(risk)
    found = []
    for order in permutations(range(n)):
        if (np.diff(uncertainty[list(order)]) < 0).any():
            continue
        summed = np.cumsum(risk[list(order)])
        curve = np.concatenate([[0], summed]) / n
        found.append([(summed / np.arange(1, n + 1)).mean(), np.trapezoid(curve, dx=1 / n)])
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("seed", range(4))
def test_selection_by_brute_force_over_ties(seed):
    generator = np.random.default_rng(seed)
    uncertainty = generator.integers(0, 3, 7).astype(float)
    risk = generator.exponential(size=7)
    expected = brute(uncertainty, risk)
    assert aurc(uncertainty, risk)[0] == pytest.approx(expected[0])
    assert augrc(uncertainty, risk)[0] == pytest.approx(expected[1])


@pytest.mark.parametrize("name", list(SELECTION))
def test_weights_of_selection_are_repetitions(name):
    generator = np.random.default_rng(2)
    uncertainty, risk = generator.integers(0, 9, 30), generator.exponential(size=30)
    counts = generator.multinomial(30, np.full(30, 1 / 30), size=8)
    many = SELECTION[name](uncertainty, risk, counts)
    for value, count in zip(many, counts, strict=True):
        once = SELECTION[name](np.repeat(uncertainty, count), np.repeat(risk, count))[0]
        assert value == pytest.approx(once)


@pytest.mark.parametrize("digits", [0, 6])
def test_augrc_of_failures_is_a_function_of_auroc(digits):
    """f(1−f)(1 − AUROC) + f²/2, Traub et al. (2024)."""
    generator = np.random.default_rng(3)
    failed = generator.random(300) < 0.3
    uncertainty = np.round(generator.standard_normal(300) + failed, digits)
    f = failed.mean()
    expected = f * (1 - f) * (1 - auroc(uncertainty, failed)[0]) + f**2 / 2
    assert augrc(uncertainty, failed)[0] == pytest.approx(expected)
    assert augrc(np.ones(300), failed)[0] == pytest.approx(f / 2)
    assert random_augrc(failed)[0] == pytest.approx(f / 2)


def test_the_curve_of_selective_risk():
    curve = risk_coverage([1, 3, 2, 2], [0.1, 4.0, 1.0, 2.0])
    expected = [[0.25, 0.1, 0.025], [0.75, 3.1 / 3, 3.1 / 4], [1, 7.1 / 4, 7.1 / 4]]
    np.testing.assert_allclose(curve, expected)


def test_what_does_not_fit():
    for scores, strange in (([1.0], [True, False]), ([], []), ([np.nan, 1], [True, False])):
        with pytest.raises(DataError):
            auroc(scores, strange)
    with pytest.raises(DataError):
        aurc([1, 2], [np.nan, 1])
    with pytest.raises(DataError):
        auroc([1, 2], [True, False], np.ones((3, 5)))


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
