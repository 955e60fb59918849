"""Loss terms per sample, and the only function that reduces them.

    loss = −(1/D) · mean over the batch of [ log_likelihood − β · kl − component_kl ]
           + Σ_j w_j · mean(extra_j)

D, the number of elements of the event, is a constant: it changes neither the optimum nor the
balance of likelihood and KL, and keeps the learning rate and the clipping threshold comparable
between an image of 28² and a volume of 4·128³. β = 1 is the evidence lower bound.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from latens.errors import NumericalError


@dataclass(frozen=True)
class LossTerms:
    """Terms of an objective, one value per sample, in nats.

    Args:
        log_likelihood: `(B,)`, summed over the event, constants kept.
        kl: `(B,)`, summed over latents; None where the objective has none.
        extras: Named task terms, `(B,)` each; added after the division by D.
        weights: Weight of each extra, and of `kl` (default 1: the ELBO).
        component_kl: `(B,)`, of a discrete component; None where there is none. A warm-up has no
            share in it: with a small β nothing would keep the component from being settled
            before it means anything.
    """

    log_likelihood: Tensor
    kl: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    component_kl: Tensor | None = None

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound with β = 1, `(B,)` in nats, whatever the weights."""
        bound = self.log_likelihood if self.kl is None else self.log_likelihood - self.kl
        return bound if self.component_kl is None else bound - self.component_kl

    def adding(self, name: str, values: Tensor, weight: float) -> "LossTerms":
        """The same terms with one more extra, `(B,)`, and its weight."""
        extras, weights = {**self.extras, name: values}, {**self.weights, name: weight}
        return replace(self, extras=extras, weights=weights)

    def means(self) -> dict[str, float]:
        """Batch mean of every term, for logs and error messages."""
        named = {
            "log_likelihood": self.log_likelihood,
            "kl": self.kl,
            "component_kl": self.component_kl,
            **self.extras,
        }
        return {k: float(v.detach().mean()) for k, v in named.items() if v is not None}


def reduce_terms(terms: LossTerms, event_size: int) -> Tensor:
    """Scalar loss: sum over event axes, mean over the batch, divided by D.

    Args:
        terms: Per-sample terms.
        event_size: D, the number of elements of one event.

    Returns:
        Scalar, nats per element (plus weighted extras).
    """
    objective = terms.log_likelihood
    if terms.kl is not None:
        objective = objective - terms.weights.get("kl", 1.0) * terms.kl
    if terms.component_kl is not None:
        objective = objective - terms.component_kl
    loss = -objective.mean() / event_size
    for name, value in terms.extras.items():
        loss = loss + terms.weights.get(name, 1.0) * value.mean()
    return loss


def require_finite(loss: Tensor, terms: LossTerms, step: int) -> None:
    """Raise `NumericalError` with the step and the terms if the loss is not finite."""
    if not bool(torch.isfinite(loss)):
        raise NumericalError(
            "loss",
            "a finite value",
            f"{float(loss.detach())} at step {step} with {terms.means()}",
            "Lower the learning rate or look for extreme values in the data.",
            step=step,
            terms=terms.means(),
        )
