"""Tables of a run of exp1, exp2 or exp3."""

from latens.store import Schema

VOLUME_METRICS = Schema(
    "volume_metrics",
    {
        "stage": "str",
        "seed": "int64",
        "metric": "str",
        "value": "float64",
        "lower": "float64",
        "upper": "float64",
        "level": "float64",
        "scans": "int64",
        "subjects": "int64",
        "status": "str",
        "missing": "str",  # why there is no value, where it is known
    },
    ("stage", "seed", "metric"),
)
VOLUME_HISTORY = Schema(
    "volume_history",
    {"stage": "str", "seed": "int64", "step": "int64", "quantity": "str", "value": "float64"},
    ("stage", "seed", "step", "quantity"),
)

DEFINITIONS = {
    "au_count": "active units: latents with Var_x μ_k ≥ 0.01, on held-out scans",
    "kl": "KL(q(z | x) ‖ N(0, I)) without free bits, nats per scan",
    "neg_elbo": "−ELBO, nats per element, one draw of q per scan; −log p(x) is not larger",
    "kl_told": "nats of kl above the free bits of each latent",
    "nll": "−log p(x) by importance sampling, nats per element; at most nll_bound",
    "nll_bound": "neg_elbo of the scans of nll",
    "nll_gain": "nats per scan by which nll lies below nll_bound",
    "nll_unreliable": "share of scans with a Pareto k̂ of 0.7 or more: their nll is but a bound",
    "mse": "mean square error of decoder(μ), squared standard deviations of the brain",
    "ablation_mean": "error of the mean training scan over that of decoder(μ)",
    "ablation_z0": "error of decoder(0) over that of decoder(μ); 1 if latents are ignored",
    "ablation_permuted": "error of decoder(μ of another subject) over that of decoder(μ)",
    "r2": "R² on held-out subjects of the best of four probes of all latents: ridge and kernel, "
    "fitted on training subjects or (within) on the other held-out ones",
    "aligned": "R² on held-out subjects of the aligned latents themselves",
    "leak": "the same of the latents of no part (the rest), their posterior means",
    "sigma_leak": "the same of means and log σ of the rest: all that q(z | x) says of it",
    "draw_leak": "the same of a draw of the rest, as the decoder is given it",
    "dependence": "unbiased squared distance correlation between the part and the rest",
    "permuted_rest": "error with the rest of another subject over the error with its own",
    "rest_units": "active units among the latents of no part",
    "corr_mean": "mean |correlation| of posterior means over pairs of latents; about .8/√n by "
    "chance in n scans",
    "corr_max": "the largest",
    "dcor_mean": "mean unbiased squared distance correlation of posterior means over pairs",
    "dcor_max": "the largest",
    "mig": "mutual information gap: of the best latent for a factor over the next, adjusted for "
    "chance, as a share of the factor's entropy, mean over known factors (Chen et al. 2018)",
    "modularity": "1 less the squared information of a latent on other factors than its own, over "
    "that on its own and F − 1 (Ridgeway, Mozer 2018), mean over latents that know a factor",
    "sap": "squared correlation of the best latent with a factor less that of the next (Kumar et "
    "al. 2018), mean over factors",
    "dci_disentanglement": "1 less the entropy of what a latent is important for, by lasso "
    "(Eastwood, Williams 2018)",
    "dci_completeness": "1 less the entropy of the latents that are important for a factor",
    "dci_informativeness": "R² of a ridge probe of all latents, mean over known factors",
}


def definition(metric: str) -> str:
    """What a metric means; a part's name follows after an underscore."""
    for name in sorted(DEFINITIONS, key=len, reverse=True):
        if metric == name or metric.startswith(f"{name}_"):
            return DEFINITIONS[name]
    return ""
