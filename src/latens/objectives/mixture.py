"""Evidence lower bound with the component summed out, and terms that shape its use.

    log p(x) ≥ Σ_c q(c|x) { E_q(z|x,c)[log p(x|z,c)] − KL(q(z|x,c) ‖ p(z|c)) } − KL(q(c|x) ‖ π)

Every term below is a value per sample; terms that are functions of a whole batch have the same
value for every sample of it.
"""

import torch
from torch import Tensor

from latens.objectives.terms import LossTerms


def summed_out_terms(
    log_likelihood: Tensor, latent_kl: Tensor, log_component: Tensor, log_weights: Tensor
) -> LossTerms:
    """Terms of the bound, exact in the component.

    Args:
        log_likelihood: log p(x | z, c) at a draw of q(z | x, c), `(K, B)`, or `(1, B)` where it
            does not depend on the component; nats.
        latent_kl: KL(q(z | x, c) ‖ p(z | c)), `(K, B)`; nats.
        log_component: log q(c | x), `(B, K)`; −∞ for components that are locked.
        log_weights: log π, `(K,)`; the same components are −∞.

    Returns:
        Terms whose `elbo` is the bound, `(B,)`.
    """
    q = log_component.exp()
    inside = (q.T * log_likelihood).sum(0)  # (B,)
    kl = (q.T * latent_kl).sum(0)
    of_component = component_kl(log_component, log_weights)
    return LossTerms(inside, kl, component_kl=of_component)


def component_kl(log_component: Tensor, log_weights: Tensor) -> Tensor:
    """KL(q(c | x) ‖ π), `(B,)` nats; components with q = 0 add nothing."""
    q = log_component.exp()
    ratio = torch.where(q > 0, log_component - log_weights, 0.0)
    return (q * ratio).sum(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """−Σ p log p along the last axis, nats."""
    tiny = torch.finfo(probabilities.dtype).tiny  # the gradient at zero is finite
    return -(probabilities * probabilities.clamp(min=tiny).log()).sum(-1)


def usage_entropy_loss(component: Tensor) -> Tensor:
    """log K − H(q̄), q̄ = mean over the batch of q(c | x): 0 where all are used alike.

    Args:
        component: q(c | x), `(B, K)`.

    Returns:
        `(B,)`, nats, the same value for every sample.
    """
    usage = component.mean(0)
    loss = torch.log(usage.new_tensor(usage.shape[-1])) - entropy(usage)
    return loss.expand(len(component))


def usage_dirichlet_loss(component: Tensor, concentration: float) -> Tensor:
    """−(α − 1) · mean_c log (K q̄_c): a symmetric Dirichlet prior on the usage, up to constants.

    Args:
        component: q(c | x), `(B, K)`.
        concentration: α > 1; the larger, the more even the usage.

    Returns:
        `(B,)`, nats, the same value for every sample; 0 where all components are used alike.
    """
    usage = component.mean(0).clamp(min=torch.finfo(component.dtype).tiny)
    loss = -(concentration - 1) * (usage.shape[-1] * usage).log().mean()
    return loss.expand(len(component))


def invariance_loss(component: Tensor, other: Tensor) -> Tensor:
    """−I(c; c') of two views of the same images, in nats.

        P = (1/B) Σ_b q(c | x_b) q(c' | T x_b)ᵀ, made symmetric;   I = Σ P log P / (P_c P_c')

    It is least, −log K, where every image has one component, its views have the same, and all
    components are used alike.

    Args:
        component: q(c | x), `(B, K)`.
        other: q(c | T x), `(B, K)`.

    Returns:
        `(B,)`, the same value for every sample.

    References:
        Ji, Henriques, Vedaldi (2019), Invariant information clustering for unsupervised image
        classification and segmentation, https://arxiv.org/abs/1807.06653
    """
    joint = component.T @ other / len(component)  # (K, K)
    joint = (joint + joint.T) / 2
    information = 2 * entropy(joint.sum(0)) - entropy(joint.flatten())
    return -information.expand(len(component))


def supervised_loss(log_class: Tensor, labels: Tensor) -> Tensor:
    """−log p(y | x) of labelled samples, scaled so that the batch mean is theirs.

    Args:
        log_class: log p(y | x), `(B, Y)`.
        labels: Class, `(B,)`, −1 where it is not known.

    Returns:
        `(B,)` nats, zero where the class is not known.
    """
    known = labels >= 0
    picked = log_class.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    scale = len(labels) / known.sum().clamp(min=1)
    return torch.where(known, -picked, 0.0) * scale


def pseudo_label_loss(class_probability: Tensor, log_other: Tensor, threshold: float) -> Tensor:
    """−log p(ŷ | T x) with ŷ the class of x, where that is at least `threshold` probable.

    Args:
        class_probability: p(y | x), `(B, Y)`; no gradient passes through it.
        log_other: log p(y | T x), `(B, Y)`.
        threshold: Probability from which a class is believed.

    Returns:
        `(B,)` nats, zero where no class is believed.

    References:
        Sohn et al. (2020), FixMatch: simplifying semi-supervised learning with consistency and
        confidence, https://arxiv.org/abs/2001.07685
    """
    probability, label = class_probability.detach().max(-1)
    picked = log_other.gather(1, label[:, None])[:, 0]
    return torch.where(probability >= threshold, -picked, 0.0)
