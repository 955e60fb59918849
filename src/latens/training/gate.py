"""Does a trained latent model use its latents? Asked of the validation share of every fit."""

import torch
from torch import Tensor

from latens.metrics.collapse import CollapseDiagnosis, CollapseThresholds, diagnose_collapse
from latens.models import LatentModel
from latens.objectives import kl_divergence

THRESHOLDS = CollapseThresholds(
    variance_collapsed=0.0, variance_healthy=0.0, ratio_collapsed=1.01, ratio_healthy=1.05
)
"""Collapse is no active unit, or less than 2 nats in z, or an ablation that costs less than 1 %.
The mean variance over units says nothing here: of hundreds of latents on a grid a few may carry
the image. The prior mean of a conditional VAE is already a good image, hence the low ratios."""


@torch.no_grad()
def collapse_diagnosis(model: LatentModel, x: Tensor, y: Tensor) -> CollapseDiagnosis:
    """Active units, KL and ablation of a model on pairs it was not trained on.

    The means of q are measured from the prior and in units of its scale, (μ_q − μ_p)/σ_p: for a
    standard normal prior that is μ_q, for the learned prior of a conditional VAE it is what z
    says about x beyond y. The ablation decodes the prior mean instead of the posterior mean.

    Args:
        model: The trained model.
        x: Signals, `(n, *signal_shape)`, n ≥ 2.
        y: Measurements, `(n, *measurement_shape)`.

    Returns:
        Numbers and verdict.
    """
    posterior, prior = model.inference_pair(x, y)
    shift = (posterior.mean - prior.mean) / prior.stddev  # (n, dim)
    kl = float(kl_divergence(posterior, prior).mean())
    used = (model.decode(posterior.mean, y).mean - x).square().mean()
    ablated = (model.decode(prior.mean, y).mean - x).square().mean()
    return diagnose_collapse(shift, kl, float(ablated / used), THRESHOLDS)
