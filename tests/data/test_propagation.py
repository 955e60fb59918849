"""Labels carried along a graph, against dense linear algebra."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from latens.data.propagation import Propagation, gradient_histograms, poisson_potential
from latens.errors import ConfigError, ShapeError

GENERATOR = np.random.default_rng(0)


def random_graph(n: int = 12) -> csr_matrix:
    weights = GENERATOR.random((n, n)) * (GENERATOR.random((n, n)) < 0.6)
    return csr_matrix(weights + weights.T)


def test_the_potential_solves_the_poisson_equation():
    graph = random_graph()
    rows, labels = np.array([0, 3, 7]), np.array([1, 0, 1])
    potential = poisson_potential(graph, rows, labels, 2, 4000)
    weights = graph.toarray()
    laplacian = np.diag(weights.sum(1)) - weights
    source = np.zeros((12, 2))
    source[rows] = np.eye(2)[labels] - np.eye(2)[labels].mean(0)
    np.testing.assert_allclose(laplacian @ potential, source, atol=1e-10)
    # the iteration keeps the mean weighted by degrees at zero: the solution is the only one
    np.testing.assert_allclose(weights.sum(1) @ potential, 0, atol=1e-9)


def two_clouds(n: int = 40) -> tuple[torch.Tensor, np.ndarray]:
    kinds = np.arange(n) % 2
    x = 0.05 * GENERATOR.random((n, 1, 3, 3)) + 0.5 * kinds[:, None, None, None]
    return torch.as_tensor(x, dtype=torch.float32), kinds


def test_the_graph_joins_neighbours_with_the_stated_weights():
    x, kinds = two_clouds()
    graph = Propagation("pixels", neighbours=4).graph(x).toarray()
    np.testing.assert_allclose(graph, graph.T)
    assert (graph[kinds == 0][:, kinds == 1] == 0).all()
    flat = x.flatten(1).double().numpy()
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    half = np.zeros_like(distance)
    for i, row in enumerate(distance):
        near = np.argsort(row)[:4]
        half[i, near] = np.exp(-4 * (row[near] / row[near].max()) ** 2)
    np.testing.assert_allclose(graph, (half + half.T) / 2, atol=1e-4)


def test_two_labels_name_two_clouds():
    x, kinds = two_clouds()
    method = Propagation("pixels", neighbours=6, trusted=1.0)
    beliefs = method.beliefs(method.graph(x), np.array([0, 1]), np.array([1, 0]), 2)
    np.testing.assert_array_equal(beliefs.argmax(1), 1 - kinds)
    assert (beliefs.sum(1) == 1).all()


def test_the_least_certain_are_not_believed():
    x, _ = two_clouds(60)
    rows, labels = np.array([0, 1]), np.array([0, 1])
    method = Propagation("pixels", neighbours=6, trusted=0.5)
    graph = method.graph(x)
    beliefs = method.beliefs(graph, rows, labels, 2)
    potential = poisson_potential(graph, rows, labels, 2, method.steps)
    margin = np.abs(potential[:, 0] - potential[:, 1])
    for kind in (0, 1):
        members = np.flatnonzero(potential.argmax(1) == kind)
        kept = members[beliefs[members].any(1)]
        left = np.setdiff1d(members, kept)
        assert 0.45 < len(kept) / len(members) < 0.6
        assert margin[kept].min() >= margin[left].max()
    np.testing.assert_array_equal(beliefs[rows], np.eye(2))


def test_what_no_label_tells_is_not_believed():
    x, kinds = two_clouds(60)
    method = Propagation("pixels", neighbours=6, trusted=1.0)
    graph = method.graph(x)
    lone = method.beliefs(graph, np.array([1, 3]), np.array([1, 1]), 2)
    np.testing.assert_array_equal(np.flatnonzero(lone.any(1)), [1, 3])  # one class
    island = graph.tolil()
    island[10:20] = 0
    island[:, 10:20] = 0
    beliefs = method.beliefs(island.tocsr(), np.array([0, 1]), np.array([0, 1]), 2)
    assert not beliefs[10:20].any()
    assert (beliefs[20:].argmax(1) == kinds[20:]).mean() > 0.9


def test_a_label_is_believed_against_its_neighbours():
    x, _ = two_clouds()
    method = Propagation("pixels", neighbours=6)
    rows = np.array([0, 2, 4, 6, 1])
    labels = np.array([0, 0, 0, 1, 1])  # image 6 lies in the first cloud
    beliefs = method.beliefs(method.graph(x), rows, labels, 2)
    np.testing.assert_array_equal(beliefs[rows], np.eye(2)[labels])


def test_histograms_of_a_ramp_have_one_direction():
    ramp = torch.linspace(0, 1, 16).expand(16, 16)
    across, down = gradient_histograms(ramp[None, None]), gradient_histograms(ramp.T[None, None])
    bins = [rows.reshape(8, -1).square().sum(1) for rows in (across, down)]
    assert bins[0].argmax() == 0
    assert bins[1].argmax() == 2  # a quarter turn is two of eight directions
    for each in bins:  # its neighbours have a strength of cos³ 45°
        expected = 1 / (1 + 2 * 0.5**1.5)
        assert float(each.max() / each.sum()) == pytest.approx(expected, abs=1e-3)
    assert float(across.pow(4).sum()) == pytest.approx(1, rel=1e-4)


def test_histograms_know_no_contrast():
    x = torch.as_tensor(GENERATOR.random((3, 1, 12, 12)), dtype=torch.float32)
    torch.testing.assert_close(gradient_histograms(x), gradient_histograms(0.3 * x + 0.2))
    assert float(gradient_histograms(torch.full((1, 1, 8, 8), 0.5)).abs().max()) == 0
    colour = x.expand(3, 3, 12, 12)
    torch.testing.assert_close(gradient_histograms(colour), gradient_histograms(x))


def test_what_cannot_be_propagated():
    with pytest.raises(ShapeError, match="pixels"):
        Propagation().graph(torch.rand(20, 1, 4, 4, 4))
    with pytest.raises(ConfigError, match="neighbours"):
        Propagation("pixels").graph(torch.rand(10, 1, 4, 4))
    with pytest.raises(ConfigError, match="trusted"):
        Propagation(trusted=0.0)
    with pytest.raises(ConfigError, match="steps"):
        Propagation(steps=0)
