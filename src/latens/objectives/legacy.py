"""Published losses with weights in place of a likelihood, kept to reproduce their collapses.

    legacy_mean    w · (1/D) Σ_d (x_d − m_d)²  +  v · KL
    legacy         w · ‖x − m‖² / 2σ²  +  u · log σ  +  v · KL,     one σ per image

Beside v · KL the first is a Gaussian decoder with the fixed variance s² = D v / 2w per element:
latents that explain less of the data than s² stay unused. In the second log σ lacks its factor D,
so that σ says little of the error, and the squared error outweighs the KL by w/v: z carries
everything, and the components nothing. Train with `nll`, `beta_nll` or `faithful` instead.

Both functions are divided by v, so that they stand beside one KL as a log-likelihood does.
"""

from dataclasses import dataclass
from math import inf

from torch import Tensor
from torch.distributions import Independent

from latens.errors import ConfigError


@dataclass(frozen=True)
class Weights:
    """Weights of a published loss.

    Args:
        error: w, of the squared error.
        log_scale: u, of log σ; `legacy_mean` has none.
        kl: v, of the KL.
    """

    error: float = 500.0
    log_scale: float = 500.0
    kl: float = 5.0

    def __post_init__(self) -> None:
        for name in ("error", "log_scale", "kl"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(
                    f"terms.legacy.{name}", "above 0", getattr(self, name), "Use 500, 500 and 5."
                )


def legacy_mean(x: Tensor, distribution: Independent, weights: Weights) -> Tensor:
    """−(w/v) (1/D) Σ_d (x_d − m_d)², to be maximised.

    Args:
        x: Signal, `(*batch, *event)`.
        distribution: Decoder with mean m.
        weights: w and v.

    Returns:
        `(*batch,)`.
    """
    error = (x - distribution.mean).square()
    events = len(distribution.event_shape)
    return -(weights.error / weights.kl) * error.flatten(error.ndim - events).mean(-1)


def legacy(x: Tensor, distribution: Independent, weights: Weights) -> Tensor:
    """−(w/v) ‖x − m‖²/2σ² − (u/v) log σ, to be maximised.

    Args:
        x: Signal, `(*batch, *event)`.
        distribution: Diagonal normal with one σ per image.
        weights: w, u and v.

    Returns:
        `(*batch,)`.
    """
    scale = distribution.base_dist.scale  # pyright: ignore[reportAttributeAccessIssue]
    error = ((x - distribution.mean) / scale).square() / 2
    events = len(distribution.event_shape)
    squared = error.flatten(error.ndim - events).sum(-1)
    log_scale = scale.log().flatten(scale.ndim - events).mean(-1)
    return -(weights.error * squared + weights.log_scale * log_scale) / weights.kl
