"""Task terms of a mixture VAE: what decides on the meaning of its components. See `mixture`."""

from collections.abc import Callable

from torch import Tensor

from latens.models.mixture_settings import Terms
from latens.objectives import LossTerms
from latens.objectives.mixture import (
    invariance_loss,
    pseudo_label_loss,
    supervised_loss,
    usage_dirichlet_loss,
    usage_entropy_loss,
)

TASKS = ("supervised", "invariance", "pseudo_label")
"""Terms that need a jittered copy of the images."""


def compares(settings: Terms) -> bool:
    """Whether a term needs copies of the images."""
    return any(getattr(settings, name) > 0 for name in TASKS)


def with_usage(terms: LossTerms, settings: Terms, log_component: Tensor) -> LossTerms:
    """With the evenness of the mean of q(c | x), where it has a weight.

    Args:
        terms: Those of the bound.
        settings: Kind and weight.
        log_component: log q(c | x), `(B, K)`.
    """
    if settings.usage_weight == 0:
        return terms
    component = log_component.exp()
    if settings.usage == "entropy":
        loss = usage_entropy_loss(component)
    else:
        loss = usage_dirichlet_loss(component, settings.concentration)
    return terms.adding("usage", loss, settings.usage_weight)


def with_comparisons(
    terms: LossTerms,
    settings: Terms,
    y: Tensor,
    log_component: Tensor,
    other: Tensor,
    log_class: Callable[[Tensor], Tensor],
) -> LossTerms:
    """With the terms of `TASKS` that have a weight.

    Args:
        terms: Those of the bound.
        settings: Weights and threshold.
        y: Classes, `(B,)`; −1 for images without one.
        log_component: log q(c | x) of the images, `(B, K)`.
        other: The same of their copies T x.
        log_class: log p(y | x), `(B, Y)`, from log q(c | x).
    """
    log_copy = log_class(other)
    tasks = {
        "supervised": lambda: supervised_loss(log_copy, y),
        "invariance": lambda: invariance_loss(log_component.exp(), other.exp()),
        "pseudo_label": lambda: pseudo_label_loss(
            log_class(log_component).exp(), log_copy, settings.threshold
        ),
    }
    for name in TASKS:
        if getattr(settings, name) > 0:
            terms = terms.adding(name, tasks[name](), getattr(settings, name))
    return terms
