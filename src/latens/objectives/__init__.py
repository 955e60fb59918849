"""Objectives: per-sample loss terms in nats, and the one place that reduces them."""

from latens.objectives.consistency import data_misfit
from latens.objectives.elbo import elbo_terms, kl_divergence, likelihood_terms
from latens.objectives.terms import LossTerms, reduce_terms

__all__ = [
    "LossTerms",
    "data_misfit",
    "elbo_terms",
    "kl_divergence",
    "likelihood_terms",
    "reduce_terms",
]
