"""Training of a model on endless fresh pairs, for comparison with what is exact at N → ∞."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from latens.distributions import NoiseStream
from latens.models import CVAE, Model
from latens.objectives import reduce_terms
from latens.training import Training
from latens.training.module import StageModule
from oracles.few_modes import FewModes

ANNEALED = 0.8
"""Share of the first round after which β is 1."""

TOGETHER = 0.7
"""Share of the second round of `CVAE` after which the decoder is trained again."""

DATA, STEP = 10, 11
"""Purposes in the keys of noise: fresh pairs, and the model's own draws."""


def train_online(
    model: Model, field: FewModes, settings: Training, seed: int, first_weight: float
) -> None:
    """Fit a model to pairs of which none is seen twice: N → ∞.

    Loss, optimiser, schedule and clipping are those of `latens.training`; what differs is the
    order in which things are learned. With many pixels per latent the likelihood holds encoder
    and decoder together so firmly that scale and rotation of z, which only the KL decides, hardly
    move once images are reconstructed. So the weight β of the KL falls geometrically from
    `first_weight` to 1 over most of the first round: principal directions appear one after
    another, each with the scale of the prior. The learned prior of `CVAE` would leave z free up
    to a linear map; it is set to N(0, I) for this round and the decoder waits for it in the
    second.

    Args:
        model: Trained in place, round after round.
        field: Where the pairs come from.
        settings: Budget of each round and optimiser.
        seed: Key of the pairs and of the model's noise.
        first_weight: β at the first step.
    """
    model.fit_units(*field.pairs(256, NoiseStream(seed, DATA)))
    if isinstance(model, CVAE):
        nn.init.zeros_(model.prior_net.head.weight)
    for place, stage in enumerate(rounds(model)):
        event_size = model.stage_event_size(stage)
        configured = StageModule(
            model, stage, field.problem, settings, seed
        ).configure_optimizers()
        optimiser, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        for step in range(settings.max_steps):
            progress = step / settings.max_steps
            beta = first_weight ** max(0.0, 1 - progress / ANNEALED) if place == 0 else 1.0
            x, y = field.pairs(settings.batch_size, NoiseStream(seed, DATA, place, step))
            noise = NoiseStream(seed, STEP, place, step)
            terms = model.terms(stage, x, y, noise, field.problem)
            optimiser.zero_grad()
            loss = reduce_terms(replace(terms, weights={"kl": beta}), event_size)
            (loss / beta).backward()  # gradients grow: Adam forgets large ones slowly
            for parameter in _resting(model, place, progress):
                parameter.grad = None
            nn.utils.clip_grad_norm_(model.stage_parameters(stage), settings.gradient_clip)
            optimiser.step()
            schedule.step()
    model.eval()


def rounds(model: Model) -> tuple[str, ...]:
    """Stage of each round of `train_online`."""
    return ("elbo", "elbo") if isinstance(model, CVAE) else model.stages


def _resting(model: Model, place: int, progress: float) -> Iterable[nn.Parameter]:
    if not isinstance(model, CVAE) or (place == 1 and progress >= TOGETHER):
        return []
    if place == 0:
        return model.prior_net.parameters()
    return model.decoder_net.parameters()
