"""Probes read what is there, and nothing where nothing is."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from latens.errors import ShapeError
from latens.metrics.probes import explained, explained_rows, probe

RANDOM = np.random.default_rng(0)
Z = RANDOM.normal(size=(420, 5))
LINEAR = Z @ RANDOM.normal(size=(5, 2)) + 0.1 * RANDOM.normal(size=(420, 2))
CURVED = np.stack([Z[:, 0] ** 2 + Z[:, 1] * Z[:, 2], np.cos(2 * Z[:, 3])], 1)
NOTHING = 7 + RANDOM.normal(size=(420, 2))


def r2(kind: str, target: np.ndarray) -> float:
    found = probe(kind, Z[:300], target[:300], Z[300:])
    rows = explained_rows(found, target[300:])
    value = float(explained(rows.mean(0)[None])[0])
    assert value == pytest.approx(r2_score(target[300:], found), abs=1e-9)
    return value


def test_both_probes_read_a_linear_code():
    assert r2("ridge", LINEAR) > 0.98
    assert r2("kernel", LINEAR) > 0.9


def test_only_the_kernel_reads_a_curved_code():
    assert r2("ridge", CURVED) < 0.1
    assert r2("kernel", CURVED) > 0.5


@pytest.mark.parametrize("kind", ["ridge", "kernel"])
def test_noise_holds_nothing(kind):
    assert -0.1 < r2(kind, NOTHING) < 0.03


def test_units_and_constant_latents_do_not_matter():
    features = np.concatenate([1e6 * Z + 5, np.full((420, 1), 3.0)], 1)
    found = probe("ridge", features[:300], 1e-3 * LINEAR[:300], features[300:])
    plain = probe("ridge", Z[:300], LINEAR[:300], Z[300:])
    np.testing.assert_allclose(found, 1e-3 * plain, rtol=1e-6, atol=1e-9)


def test_rows_that_do_not_fit():
    with pytest.raises(ShapeError, match="one row per subject"):
        probe("ridge", Z, LINEAR[:5], Z)
