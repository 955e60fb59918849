"""Settings of a fit."""

from dataclasses import dataclass

from latens.errors import ConfigError


@dataclass(frozen=True)
class Training:
    """Budget and optimiser of a fit; the same for every N, so that only the data differ.

    Args:
        max_steps: Optimiser steps of each stage.
        batch_size: Pairs per step, drawn without replacement pass after pass.
        learning_rate: Peak rate of Adam, reached after `warmup_steps`, then a cosine to zero.
        warmup_steps: Steps of linear warm-up.
        kl_warmup_steps: Steps over which the weight β of the KL rises linearly to 1. Without a
            warm-up the latents are priced before the decoder knows how to use them, and stay
            unused. Validation always has β = 1.
        gradient_clip: Largest norm of the gradient of the loss (nats per element).
        validate_every: Steps between two looks at the validation share of N.
        patience: Looks without a better validation loss before the stage ends. Looks within the
            schedules of a model's own do not count, and no stage ends within a warm-up.
    """

    max_steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    kl_warmup_steps: int = 300
    gradient_clip: float = 5.0
    validate_every: int = 50
    patience: int = 8

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(name, "1 or more", getattr(self, name), "Raise it.")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, "a positive number", getattr(self, name), "Raise it.")
        consequences = {
            "warmup_steps": "the peak learning rate is never reached",
            "kl_warmup_steps": "the model trains with β < 1 to the end",
        }
        for name, consequence in consequences.items():
            if not 0 <= getattr(self, name) <= self.max_steps:
                raise ConfigError(
                    name,
                    f"between 0 and `max_steps` ({self.max_steps})",
                    getattr(self, name),
                    f"Shorten the warm-up, or {consequence}.",
                )
        if self.validate_every > self.max_steps:
            raise ConfigError(
                "validate_every",
                f"at most `max_steps` ({self.max_steps})",
                self.validate_every,
                "Validate more often, or no weights are ever chosen.",
            )
