"""Detection against brute force, and against scikit-learn where it is there."""

import numpy as np
import pytest
from sklearn import metrics

from latens.errors import DataError
from latens.metrics import auroc, average_precision, false_positive_rate
from latens.metrics.detection import two_sided

DETECTION = {"auroc": auroc, "ap": average_precision, "fpr": false_positive_rate}


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


def test_what_does_not_fit():
    for scores, strange in (([1.0], [True, False]), ([], []), ([np.nan, 1], [True, False])):
        with pytest.raises(DataError):
            auroc(scores, strange)
    with pytest.raises(DataError):
        auroc([1, 2], [True, False], np.ones((3, 5)))
