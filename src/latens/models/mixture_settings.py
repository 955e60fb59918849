"""Settings of a mixture VAE, and what does not fit together."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from latens.errors import ConfigError
from latens.models.mixture_prior import (
    DiagonalPrior,
    FlowPrior,
    FullPrior,
    LatentPrior,
    StandardPrior,
)
from latens.nets.components import Decoder
from latens.objectives.legacy import Weights

FLOW_WIDTH = 96
"""Width of the hidden layers of a flow prior."""


@dataclass(frozen=True)
class Prior:
    """Settings of p(c) p(z | c) and of what infers them.

    Args:
        weights: π, uniform or learned.
        latents: p(z | c): N(0, I), a learned mean and covariance per component, or one
            normalising flow for all components.
        covariance: Of a learned p(z | c): diagonal or full.
        couplings: Couplings of the flow.
        posterior: q(z | x, c): one for all components, or one for each.
        inference: The sum over c exactly, or one straight-through Gumbel draw of c.
        temperature: Of the Gumbel draw.
        unlocked: Components in use from the first step; 0 for all.
        unlock_every: Steps until one more comes into use.
    """

    weights: Literal["uniform", "learned"] = "uniform"
    latents: Literal["standard", "learned", "flow"] = "standard"
    covariance: Literal["diagonal", "full"] = "diagonal"
    couplings: int = 6
    posterior: Literal["shared", "per_component"] = "per_component"
    inference: Literal["exact", "gumbel"] = "exact"
    temperature: float = 0.5
    unlocked: int = 0
    unlock_every: int = 50

    def __post_init__(self) -> None:
        if self.covariance == "full" and self.latents != "learned":
            raise ConfigError(
                "prior.covariance",
                "'diagonal' unless `prior.latents` is 'learned'",
                repr(self.covariance),
                "Add `latents: learned`.",
            )

    def build(self, dim: int, components: int) -> LatentPrior:
        """The module of p(z | c).

        Args:
            dim: Number of latents.
            components: K.
        """
        if self.latents == "standard":
            return StandardPrior(dim)
        if self.latents == "flow":
            return FlowPrior(dim, self.couplings, FLOW_WIDTH)
        full = self.covariance == "full"
        return FullPrior(dim, components) if full else DiagonalPrior(dim, components)


@dataclass(frozen=True)
class Terms:
    """Likelihood objective and weights of the task terms; a weight of 0 leaves a term out.

    Args:
        likelihood: How mean and variance are trained together. The last two are published losses
            with weights in place of a likelihood, kept to reproduce their collapses.
        beta: β of `beta_nll`; the weights ⌊σ^{2β}⌋ are divided by their batch mean, so that the
            balance with the KL stays.
        supervised: Weight of −log p(y | T x).
        invariance: Weight of −I(c; c').
        pseudo_label: Weight of the pseudo-label term.
        threshold: Probability from 0 to 1 from which a pseudo-label is believed.
        usage: Regulariser of the mean usage.
        usage_weight: Its weight.
        concentration: α > 1 of the Dirichlet regulariser.
        legacy: Weights of `legacy` and `legacy_mean`.
    """

    likelihood: Literal["nll", "beta_nll", "faithful", "legacy", "legacy_mean"] = "nll"
    beta: float = 0.5
    supervised: float = 1.0
    invariance: float = 1.0
    pseudo_label: float = 1.0
    threshold: float = 0.9
    usage: Literal["entropy", "dirichlet"] = "entropy"
    usage_weight: float = 0.0
    concentration: float = 2.0
    legacy: Weights = Weights()  # noqa: RUF009

    def __post_init__(self) -> None:
        for name in ("supervised", "invariance", "pseudo_label", "usage_weight"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"terms.{name}", "0 or more", getattr(self, name), "Raise it.")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(
                "terms.threshold", "a probability from 0 to 1", self.threshold, "0.9 is usual."
            )
        if not 1 < self.concentration < inf:
            raise ConfigError(
                "terms.concentration",
                "above 1, where a Dirichlet prior favours even usage",
                self.concentration,
                "Use 2, or leave the term out with `usage_weight: 0`.",
            )
        if not 0 <= self.beta <= 1:
            raise ConfigError("terms.beta", "a number from 0 to 1", self.beta, "0.5 is usual.")


def check_settings(
    classes: int,
    components: int,
    dim: int,
    width: int,
    features: int,
    prior: Prior,
    decay: float,
    prior_count: float,
    decoder: Decoder,
    terms: Terms,
) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: Naming the setting and the remedy.
    """
    for name, value, least in (
        ("classes", classes, 2),
        ("components", components, 1),
        ("dim", dim, 1),
        ("width", width, 1),
        ("features", features, 1),
        ("prior.unlock_every", prior.unlock_every, 1),
    ):
        if value < least:
            raise ConfigError(name, f"{least} or more", value, "Raise it.")
    if not 0 <= prior.unlocked <= components:
        raise ConfigError(
            "prior.unlocked", f"from 0 to {components} components", prior.unlocked, "Lower it."
        )
    if not 0 < prior.temperature < inf:
        raise ConfigError("prior.temperature", "a number above 0", prior.temperature, "Use 0.5.")
    if not 0 <= decay < 1:
        raise ConfigError("decay", "from 0 to below 1", decay, "Use 0.98.")
    if not 0 < prior_count < inf:
        raise ConfigError("prior_count", "a number above 0", prior_count, "Use 0.002.")
    wanted = {"legacy": ("per_image", "shared"), "legacy_mean": ("fixed",)}.get(terms.likelihood)
    if wanted and decoder.likelihood not in wanted:
        raise ConfigError(
            "decoder.likelihood",
            f"{' or '.join(map(repr, wanted))} with `terms.likelihood: {terms.likelihood}`",
            repr(decoder.likelihood),
            "Choose it, or train with another objective.",
        )
    if terms.likelihood != "nll" and decoder.likelihood == "bernoulli":
        raise ConfigError(
            "terms.likelihood",
            "'nll' with a Bernoulli decoder, which has no σ",
            repr(terms.likelihood),
            "Choose a Gaussian decoder, for example `decoder.likelihood: per_image`.",
        )
