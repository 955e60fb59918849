"""The summed-out bound and its task terms against brute force, in float64."""

import itertools
import math

import pytest
import torch

from latens.distributions import NoiseStream
from latens.objectives.mixture import (
    component_kl,
    entropy,
    invariance_loss,
    pseudo_label_loss,
    summed_out_terms,
    supervised_loss,
    usage_dirichlet_loss,
    usage_entropy_loss,
)

B, K = 5, 3


def rows(seed: int = 0, k: int = K) -> torch.Tensor:
    return (1.5 * NoiseStream(seed).normal((B, k), torch.float64)).softmax(1)


def test_the_sum_over_components_one_by_one():
    stream = NoiseStream(7)
    ll = stream.normal((K, B), torch.float64)
    kl = stream.normal((K, B), torch.float64).abs()
    q, pi = rows(), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    terms = summed_out_terms(ll, kl, q.log(), pi.log())
    for b in range(B):
        bound = sum(
            float(q[b, c]) * (float(ll[c, b] - kl[c, b]) + math.log(pi[c] / q[b, c]))
            for c in range(K)
        )
        assert float(terms.elbo[b]) == pytest.approx(bound, rel=1e-12)
    shared = summed_out_terms(ll[:1], kl[:1], q.log(), pi.log())
    torch.testing.assert_close(shared.log_likelihood, ll[0])


def test_locked_components_count_for_nothing():
    stream = NoiseStream(7)
    ll, kl = stream.normal((K, B), torch.float64), torch.zeros(K, B, dtype=torch.float64)
    logits = stream.normal((B, K), torch.float64).requires_grad_()
    locked = torch.tensor([False, False, True])
    log_q = logits.masked_fill(locked, -math.inf).log_softmax(1)
    log_pi = torch.zeros(K, dtype=torch.float64).masked_fill(locked, -math.inf).log_softmax(0)
    terms = summed_out_terms(ll, kl, log_q, log_pi)
    smaller = summed_out_terms(ll[:2], kl[:2], log_q[:, :2], log_pi[:2])
    torch.testing.assert_close(terms.elbo, smaller.elbo)
    terms.elbo.sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 2] == 0).all()


def test_component_kl_of_known_values():
    q = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    log_pi = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    expected = torch.tensor([math.log(3 / 2), math.log(3)], dtype=torch.float64)
    torch.testing.assert_close(component_kl(q.log(), log_pi), expected)
    torch.testing.assert_close(entropy(q), torch.tensor([math.log(2), 0.0]).double())


def test_usage():
    even = torch.eye(K, dtype=torch.float64)
    assert float(usage_entropy_loss(even)[0]) == pytest.approx(0, abs=1e-12)
    assert float(usage_dirichlet_loss(even, 3.0)[0]) == pytest.approx(0, abs=1e-12)
    q = rows()
    usage = q.mean(0)
    expected = math.log(K) + sum(float(u) * math.log(u) for u in usage)
    assert float(usage_entropy_loss(q)[2]) == pytest.approx(expected)
    # the logarithm of a Dirichlet density, up to its constant
    prior = torch.distributions.Dirichlet(torch.full((K,), 3.0, dtype=torch.float64))
    level = prior.log_prob(torch.full((K,), 1 / K, dtype=torch.float64))
    assert float(usage_dirichlet_loss(q, 3.0)[0]) * K == pytest.approx(
        float(level - prior.log_prob(usage)), rel=1e-9
    )


def test_invariance_is_the_information_of_the_joint():
    q, other = rows(0), rows(1)
    joint = sum(torch.outer(a, b) + torch.outer(b, a) for a, b in zip(q, other, strict=True))
    joint = joint / (2 * B)
    information = 0.0
    for c, d in itertools.product(range(K), repeat=2):
        expected = float(joint[c].sum() * joint[:, d].sum())
        information += float(joint[c, d]) * math.log(joint[c, d] / expected)
    found = invariance_loss(q, other)
    assert found.shape == (B,)
    assert float(found[0]) == pytest.approx(-information)
    sure = torch.eye(K, dtype=torch.float64)
    assert float(invariance_loss(sure, sure)[0]) == pytest.approx(-math.log(K))
    constant = rows()[:1].expand(B, K)
    assert float(invariance_loss(constant, constant)[0]) == pytest.approx(0, abs=1e-12)


def test_supervised_is_the_mean_over_labelled_images():
    p, labels = rows(), torch.tensor([2, -1, 0, -1, 1])
    expected = -sum(math.log(p[b, y]) for b, y in ((0, 2), (2, 0), (4, 1))) / 3
    loss = supervised_loss(p.log(), labels)
    assert float(loss.mean()) == pytest.approx(expected)
    assert loss[1] == loss[3] == 0
    assert float(supervised_loss(p.log(), torch.full((B,), -1)).abs().sum()) == 0


def test_pseudo_labels_above_the_threshold():
    p = torch.tensor([[0.97, 0.03], [0.6, 0.4], [0.02, 0.98]], requires_grad=True)
    other = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.8, 0.2]], requires_grad=True)
    loss = pseudo_label_loss(p, other.log(), 0.95)
    torch.testing.assert_close(loss.detach(), -torch.tensor([0.7, 1.0, 0.2]).log())
    loss.sum().backward()
    assert p.grad is None
    assert (other.grad[1] == 0).all()
    assert other.grad[0, 0] < 0
