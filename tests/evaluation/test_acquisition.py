"""Choice of the images to label next."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import digamma

from latens.data.propagation import Propagation
from latens.errors import ConfigError
from latens.evaluation.acquisition import acquire, bald, class_entropy, typical
from latens.evaluation.mixture import classify
from latens.models.mixture import MixtureVAE
from latens.nets.components import Decoder

PIXELS = Propagation("pixels")
GENERATOR = np.random.default_rng(0)


def model() -> MixtureVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MixtureVAE(
            (1, 8, 8), 3, components=4, dim=2, decoder=Decoder(width=8), width=4, features=8
        )
        torch.nn.init.normal_(made.component_head.weight, std=3.0)
    return made


X = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_entropy_of_classes():
    p = GENERATOR.dirichlet(np.ones(5), 7)
    np.testing.assert_allclose(class_entropy(p), stats.entropy(p, axis=1))
    assert class_entropy(np.eye(3)).tolist() == [0, 0, 0]


def test_information_about_one_row_of_tau_in_closed_form():
    """q one-hot: H(mean of a Dirichlet) − E H, with E H = ψ(A + 1) − Σ (a/A) ψ(a + 1)."""
    concentration = np.array([[0.5, 2.0, 1.0], [30.0, 0.1, 0.1]])
    found = bald(np.eye(2), concentration, 20000, np.random.default_rng(1))
    for row, a in zip(found, concentration, strict=True):
        total = a.sum()
        inner = digamma(total + 1) - (a / total * digamma(a + 1)).sum()
        assert row == pytest.approx(stats.entropy(a / total) - inner, abs=0.01)
    assert found[0] > 10 * found[1]


@pytest.mark.parametrize("acquisition", ["random", "uncertainty", "bald", "typical", "mixed"])
def test_new_images_and_no_others(acquisition):
    labelled = np.array([3, 10, 11])
    new = acquire(model(), X, labelled, 8, acquisition, seed=0, similarity=PIXELS)
    assert len(set(new.tolist())) == 8
    assert not set(new.tolist()) & set(labelled.tolist())
    again = acquire(model(), X, labelled, 8, acquisition, seed=0, similarity=PIXELS)
    assert np.array_equal(new, again)
    assert not np.array_equal(
        new, acquire(model(), X, labelled, 8, "random", seed=1, similarity=PIXELS)
    )
    with pytest.raises(ConfigError, match="57 images left"):
        acquire(model(), X, labelled, 58, acquisition, seed=0, similarity=PIXELS)


def test_uncertainty_takes_the_largest_entropies():
    labelled = np.arange(5)
    new = acquire(model(), X, labelled, 6, "uncertainty", seed=0, similarity=PIXELS)
    entropy = class_entropy(classify(model(), X)[1])
    left = np.setdiff1d(np.arange(60), [*labelled, *new])
    assert entropy[new].min() >= entropy[left].max() - 1e-6


def test_bald_asks_about_the_component_without_labels():
    """Three components are known well; images of the fourth are asked for."""
    made = model()
    made.counts.fill_(0)
    made.counts[[0, 1, 2], [0, 1, 2]] = 1.0
    labelled = np.arange(9)
    new = acquire(made, X, labelled, 4, "bald", seed=0, similarity=PIXELS)
    q = classify(made, X)[0]
    free = np.setdiff1d(np.arange(60), labelled)
    assert q[new, 3].mean() > q[free, 3].mean()


def test_typical_images_are_those_in_the_middle_of_groups_without_a_label():
    """Seven groups of different sizes; four hold a label, and three labels are asked for."""
    sizes = [40, 30, 20, 90, 80, 70, 60]
    group = np.repeat(np.arange(7), sizes)
    middles = 20.0 * np.eye(7, dtype=np.float32)
    features = middles[group] + GENERATOR.normal(size=(390, 7)).astype(np.float32)
    labelled = np.array([np.flatnonzero(group == k)[0] for k in (0, 3, 5, 6)])
    new = typical(features, labelled, 3, seed=0)
    assert set(group[new]) == {1, 2, 4}
    for place in new:
        own = features[group == group[place]]
        distance = ((own - own.mean(0)) ** 2).sum(1)
        assert ((features[place] - own.mean(0)) ** 2).sum() <= distance.min() + 1e-4


def test_typical_images_where_all_are_alike():
    new = typical(np.zeros((30, 2), np.float32), np.array([4]), 9, seed=0)
    assert len(set(new.tolist()) - {4}) == 9


@pytest.mark.parametrize("count", [1, 5, 6])
def test_mixed_is_half_typical_half_uncertain(count):
    labelled = np.arange(4)
    new = acquire(model(), X, labelled, count, "mixed", seed=0, similarity=PIXELS)
    half = (count + 1) // 2
    first = acquire(model(), X, labelled, half, "typical", seed=0, similarity=PIXELS)
    entropy = class_entropy(classify(model(), X)[1])
    left = np.setdiff1d(np.arange(60), [*labelled, *new])
    assert np.array_equal(new[:half], first)
    assert (entropy[new[half:]] >= entropy[left].max() - 1e-6).all()
