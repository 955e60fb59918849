"""What tests of ranks would have found: alterations, planted truths, power against simulation."""

from math import sqrt

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.evaluation.calibration import uniformity_tests
from latens.evaluation.quantities import fit_quantities
from latens.evaluation.sight import REPLICATES, alterations, planted_ranks, power_of_ranks
from oracles.masked_field import MaskedField

FIELD = MaskedField()
SIZE = FIELD.problem.measurement_shape[0]
IMAGES, DRAWS = 24, 19


def members_of(run: int, kind: str = "exact") -> tuple[torch.Tensor, torch.Tensor]:
    stream = NoiseStream(31, run)
    x, y = FIELD.pairs(stream.normal((IMAGES, 64)), stream.normal((IMAGES, SIZE)))
    return torch.cat([x[None], FIELD.draws(y, stream.normal((DRAWS, IMAGES, 64)), kind)]), y


def numbers_of(members, y, quantities) -> dict[str, np.ndarray]:
    found = quantities(members, y, list(range(IMAGES)))
    return {name: values.double().numpy() for name, values in found.items()}


def test_alterations_change_what_they_say():
    members, _ = members_of(0)
    made = {name: alter(members, list(range(IMAGES)), 0) for name, alter in alterations().items()}
    std, mean = members.std(0), members.mean(0)
    for factor in (0.8, 1.25):
        found = made[f"std × {factor:g}"]
        torch.testing.assert_close(found.std(0), factor * std)
        torch.testing.assert_close(found.mean(0), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        made["mean off by 0.2 std"] - members, (0.2 * std).expand_as(members)
    )
    torch.testing.assert_close(made["of another image"][:, 1:], members[:, :-1])
    alone = made["independent pixels"]
    torch.testing.assert_close(alone.sort(0).values, members.sort(0).values)
    together = [_correlation(m - mean) for m in (members, alone)]
    assert together[0] > 2 * together[1]


def _correlation(signals: torch.Tensor) -> float:
    """Mean square correlation between pixels."""
    found = torch.corrcoef(signals.flatten(0, 1).flatten(1).T)
    return float((found - torch.eye(64)).square().mean())


def test_members_of_another_image_do_not_depend_on_blocks():
    members, _ = members_of(0)
    alter = alterations()["of another image"]
    blocks = [alter(members[:, i : i + 1], [i], 0) for i in range(IMAGES)]
    torch.testing.assert_close(torch.cat(blocks, 1)[:, 1:], members[:, :-1])


def test_planted_ranks_count_the_others():
    rng = np.random.default_rng(0)
    right, wrong = rng.standard_normal((2, 5, 6, 2))
    found = planted_ranks(right, wrong, rng)
    for row in range(5):
        others = np.delete(wrong, row, axis=0)
        np.testing.assert_array_equal(found[row], (others < right[row]).sum(0))
    equal = planted_ranks(np.zeros((4, 3000, 1)), np.zeros((4, 3000, 1)), rng)
    shares = np.bincount(equal.ravel(), minlength=4) / equal.size
    np.testing.assert_allclose(shares, 0.25, atol=0.02)


def test_without_alteration_the_power_is_the_level():
    members, y = members_of(1)
    values = numbers_of(members, y, fit_quantities(members, y, FIELD.problem, None, 0))
    found = power_of_ranks(values, {"none": values}, np.random.default_rng(1))
    assert 0 < found["none"] <= 0.05 + 3 * sqrt(0.05 * 0.95 / REPLICATES)
    assert power_of_ranks(values, {}, np.random.default_rng(1)) == {}


@pytest.mark.parametrize(
    ("kind", "name"), [("shifted", "mean off by 0.2 std"), ("uncorrelated", "independent pixels")]
)
def test_the_power_is_that_of_tests_of_such_posteriors(kind: str, name: str):
    """One set of images says what fresh truths and wrong draws would have shown."""
    runs, hits = 40, 0
    for run in range(runs):
        members, y = members_of(100 + run, kind)
        quantities = fit_quantities(members, y, FIELD.problem, None, run)
        tests, _ = uniformity_tests(
            numbers_of(members, y, quantities), np.random.default_rng(run), 499
        )
        hits += min(test.p_adjusted for test in tests) <= 0.05
    said = []
    for run in range(4):
        members, y = members_of(run)
        quantities = fit_quantities(members, y, FIELD.problem, None, run)
        values = numbers_of(members, y, quantities)
        changed = alterations()[name](members, list(range(IMAGES)), run)
        altered = {name: numbers_of(changed, y, quantities)}
        said.append(power_of_ranks(values, altered, np.random.default_rng(run))[name])
    power = np.mean(said)
    assert 0.1 < power < 0.995
    assert hits / runs == pytest.approx(power, abs=3 * sqrt(0.25 / runs))
