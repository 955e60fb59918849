"""What a posterior states beside its draws: densities, and the parts of its variance.

| number | density | posteriors |
|---|---|---|
| `nll` | of the whole signal | a given distribution, a regressor's Gaussian, ensembles of them |
| `nll_pixel` | of each element | the same with independent elements, `wiener`, ensembles of them |

Where elements are independent given y both are the same number, but for ensembles: their members
differ by whole images. Posteriors that are known by draws alone have no density, and an estimate
from 39 draws would be a number of the estimator.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from latens.inference import (
    CalibratedPosterior,
    EnsemblePosterior,
    HasLogProb,
    HasMarginals,
    Posterior,
)
from latens.metrics import member_variance_components, nll
from latens.metrics.reduction import event_mean


@torch.no_grad()
def belief_rows(posterior: Posterior, x: Tensor) -> dict[str, Tensor]:
    """Components of what this posterior states, `(B, p)` each.

    Args:
        posterior: Of any kind; a calibrated one is asked for what is inside.
        x: Truth, `(B, *signal_shape)`.
    """
    inner = posterior.base if isinstance(posterior, CalibratedPosterior) else posterior
    rows = _density_rows(inner, x)
    if isinstance(inner, EnsemblePosterior):
        means = torch.stack([member.mean for member in inner.members])
        variances = torch.stack([member.variance for member in inner.members])
        parts = member_variance_components(means, variances)
        rows |= {
            "variance_between": parts[:, :1],
            "variance_within": parts[:, 1:],
            "between_share": parts,
        }
    return rows


def _density_rows(posterior: Posterior, x: Tensor) -> dict[str, Tensor]:
    rows: dict[str, Tensor] = {}
    if isinstance(posterior, HasLogProb) and posterior.is_joint:
        joint = _density(posterior.log_prob, x)
        if joint is not None:
            rows["nll"] = nll(joint, x)[:, None]
    if isinstance(posterior, HasMarginals):
        marginal = _density(posterior.marginal_log_prob, x)
        if marginal is not None:
            rows["nll_pixel"] = -event_mean(marginal.double())[:, None]
    return rows


def _density(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
    """log q, or None of a distribution without one, or one that refuses the truth as a value."""
    try:
        return log_prob(x)
    except (NotImplementedError, ValueError):  # foreign distributions validate their support
        return None
