"""Size and power of the calibration tests, on reduced replicates.

`benchmarks/calibration_tests.py` measures the same at full size. Here, with R data sets, a rate
is compared with its bound at three binomial standard errors.
"""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
import torch
from scipy import stats

from latens.distributions import NoiseStream
from latens.evaluation.calibration import uniformity_tests
from latens.evaluation.quantities import fit_quantities
from latens.metrics import PopulationTest, chi_square_test, ecdf_test, holm
from oracles.masked_field import SHAPE, MaskedField

FIELD = MaskedField()
SIZE = FIELD.problem.measurement_shape[0]
IMAGES = 500
LEVEL = 0.05


@pytest.mark.parametrize("draws", [8, 20, 100])
def test_the_size_of_both_tests_of_ranks(draws: int):
    """0.05 ± 0.015, widened by three binomial errors of 4000 runs."""
    runs = 4000
    ranks = np.random.default_rng(draws).integers(0, draws + 1, size=(IMAGES, runs))
    slack = 3 * sqrt(0.05 * 0.95 / runs)
    for test in (ecdf_test, chi_square_test):
        rate = (test(ranks, draws)[1] <= LEVEL).mean()
        assert 0.035 - slack < rate < 0.065 + slack, (test.__name__, rate)


def _tests(members: torch.Tensor, y: torch.Tensor, run: int) -> tuple[PopulationTest, ...]:
    """All tests of one data set, the local one among them."""
    quantities = fit_quantities(members, y, FIELD.problem, None, run)
    values = quantities(members, y, list(range(members.shape[1])))
    arrays = {name: numbers.numpy() for name, numbers in values.items()}
    summaries = (quantities.summaries(s, 3) for s in (members, quantities.regularised(y)))
    theta, given = (numbers.double().numpy() for numbers in summaries)
    return uniformity_tests(arrays, np.random.default_rng(run), 499, (theta, given))[0]


def _few(kind: str, images: int, draws: int, run: int) -> tuple[torch.Tensor, torch.Tensor]:
    stream = NoiseStream(6, images, draws, run)
    x, y = FIELD.pairs(stream.normal((images, 64)), stream.normal((images, SIZE)))
    return torch.cat([x[None], FIELD.draws(y, stream.normal((draws, images, 64)), kind)]), y


def test_few_images_are_tested_at_the_level():
    """20 images and 8 draws: one alarm or more at 5, 20 and 50 %, three binomial errors of 150."""
    runs = 150
    smallest = np.array(
        [min(t.p_adjusted for t in _tests(*_few("exact", 20, 8, run), run)) for run in range(runs)]
    )
    for level in (LEVEL, 0.2, 0.5):
        rate, error = (smallest <= level).mean(), sqrt(level * (1 - level) / runs)
        assert rate <= level + 3 * error
        assert rate >= 0.7 * level - 3 * error


def test_what_is_known_of_dependence_finds_more_than_holm():
    """Independent pixels on 24 images, 39 draws: what Holm finds is found, and more."""
    runs, found, by_holm = 30, 0, 0
    for run in range(runs):
        tests = _tests(*_few("uncorrelated", 24, 39, run), run)
        together = min(test.p_adjusted for test in tests) <= LEVEL
        alone = holm([test.p_value for test in tests]).min() <= LEVEL
        found, by_holm = found + together, by_holm + alone
    assert found > by_holm
    assert found >= 0.2 * runs


def test_a_shift_whose_sign_depends_on_the_measurement_is_found_by_the_local_test():
    """Up by .3 std where y leans one way, down where it leans the other; 50 images."""
    runs, local = 10, 0
    spread = FIELD.posterior_covariance.diagonal().sqrt().float().reshape(SHAPE)
    for run in range(runs):
        members, y = _few("exact", 50, 19, run)
        sign = torch.sign(y.mean(dim=1)).reshape(-1, 1, 1, 1)
        moved = torch.cat([members[:1], members[1:] + 0.3 * sign * spread])
        tests = _tests(moved, y, run)
        local += tests[-1].p_adjusted <= LEVEL
        assert tests[-1].test == "classifier"
    assert local >= 0.8 * runs


def test_principal_scores_together_keep_the_level_and_see_correlations():
    """Sums and differences of what is wide and what is narrow: 8 directions, 39 draws, 100 images.

    Draws whose directions are shuffled against each other have the right margins.
    """
    runs, exact, shuffled, margins = 150, 0, 0, 0
    vectors = torch.linalg.eigh(FIELD.posterior_covariance).eigenvectors.T.float()
    wide, narrow = vectors[-4:], vectors[:4]
    directions = torch.cat([wide + narrow, wide - narrow]).reshape(8, *SHAPE) / 2**0.5
    for run in range(runs):
        members, y = _few("exact", 100, 39, run)
        quantities = fit_quantities(members, y, None, directions, run)
        found = _alone(quantities(members, y, list(range(100))), run)
        exact += found["principal together"] <= LEVEL
        if run < 10:
            scores = members[1:].flatten(2) @ directions.flatten(1).T  # (M, n, 8)
            order = NoiseStream(7, run).normal((39, 1, 8)).argsort(0)
            moved = (scores.gather(0, order.expand_as(scores)) - scores) @ directions.flatten(1)
            wrong = torch.cat([members[:1], members[1:] + moved.reshape_as(members[1:])])
            found = _alone(quantities(wrong, y, list(range(100))), run)
            shuffled += found["principal together"] <= LEVEL
            margins += found["principal"] <= LEVEL
    slack = 3 * sqrt(LEVEL * (1 - LEVEL) / runs)
    assert LEVEL - slack <= exact / runs <= LEVEL + slack
    assert shuffled >= 8
    assert margins <= 4


def _alone(values: dict[str, torch.Tensor], run: int) -> dict[str, float]:
    """p-value of two families by the distance of the ECDF, each on its own."""
    kept = {n: values[n].double().numpy() for n in ("principal", "principal together")}
    tests = uniformity_tests(kept, np.random.default_rng(run), 199)[0]
    return {t.quantity.split(" (")[0]: t.p_value for t in tests if t.test.endswith("ecdf")}


def _rejections(kind: str, draws: int, runs: int) -> tuple[Counter[str], float]:
    """How often each family rejects at 5 %, and how often one or more does after adjustment."""
    hits: Counter[str] = Counter()
    alarms = 0
    for run in range(runs):
        stream = NoiseStream(5, draws, run)
        x, y = FIELD.pairs(stream.normal((IMAGES, 64)), stream.normal((IMAGES, SIZE)))
        sample = FIELD.draws(y, stream.normal((draws, IMAGES, 64)), kind)
        members = torch.cat([x[None], sample])
        quantities = fit_quantities(members, y, FIELD.problem, None, run)
        values = quantities(members, y, list(range(IMAGES)))
        arrays = {name: numbers.numpy() for name, numbers in values.items()}
        found, _ = uniformity_tests(arrays, np.random.default_rng(run), 499)
        hits.update({t.quantity.split(" (")[0] for t in found if t.p_value <= LEVEL})
        alarms += min(test.p_adjusted for test in found) <= LEVEL
    return hits, alarms / runs


def test_false_alarms_of_all_tests_together_stay_at_the_level():
    """The rate of one alarm or more is 0.05 at most; 60 runs, three binomial errors."""
    runs = 60
    _, alarms = _rejections("exact", 20, runs)
    assert alarms <= LEVEL + 3 * sqrt(LEVEL * (1 - LEVEL) / runs)


def test_what_is_too_narrow_is_found_by_every_family():
    """Power 0.9 or more against 0.8 times the standard deviation, 8 draws."""
    runs = 12
    hits, alarms = _rejections("narrow", 8, runs)
    assert alarms == 1
    families = ("pixels", "norm", "regions", "data fit", "null space", "TARP near A⁺y")
    for family in families:
        assert hits[family] >= runs * (0.9 - 3 * sqrt(0.9 * 0.1 / runs)), family


def test_the_prior_is_no_posterior():
    """Rejected in 0.95 or more; what it passes is passed at the level."""
    runs = 12
    hits, alarms = _rejections("prior", 20, runs)
    assert alarms == 1
    for family in ("data fit", "TARP near A⁺y", "null space given y"):
        assert hits[family] == runs
    both = 2 * LEVEL  # two tests of each family
    for family in ("pixels", "regions", "norm", "null space"):
        assert hits[family] <= runs * (both + 3 * sqrt(both * (1 - both) / runs)), family


def test_a_continuous_test_of_few_ranks_would_be_wrong():
    """The trap that these tests avoid: Kolmogorov–Smirnov on nine whole numbers."""
    ranks = np.random.default_rng(0).integers(0, 9, size=(IMAGES, 50))
    p = [stats.kstest(column, stats.uniform(0, 8).cdf).pvalue for column in ranks.T]
    assert np.mean(np.array(p) <= LEVEL) == 1
