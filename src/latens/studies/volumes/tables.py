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
    "nll": "−log p(x) by importance sampling, nats per element; between the truth and neg_elbo",
    "nll_gain": "nats per scan by which nll lies below neg_elbo on the same scans",
    "nll_unreliable": "share of scans with a Pareto k̂ of 0.7 or more: their nll is but a bound",
    "mse": "mean square error of decoder(μ), squared standard deviations of the brain",
    "ablation_mean": "error of the mean training scan over that of decoder(μ)",
    "ablation_z0": "error of decoder(0) over that of decoder(μ); 1 if latents are ignored",
    "ablation_permuted": "error of decoder(μ of another subject) over that of decoder(μ)",
    "r2": "R² on held-out subjects of the best of four probes of all latents: ridge and kernel, "
    "fitted on training subjects or (within) on the other held-out ones",
    "aligned": "R² on held-out subjects of the aligned latents themselves",
    "leak": "the same of the latents of no part",
    "dependence": "unbiased squared distance correlation between the part and the rest",
    "permuted_rest": "error with the rest of another subject over the error with its own",
    "rest_units": "active units among the latents of no part",
}


def definition(metric: str) -> str:
    """What a metric means; a part's name follows after an underscore."""
    for name in sorted(DEFINITIONS, key=len, reverse=True):
        if metric == name or metric.startswith(f"{name}_"):
            return DEFINITIONS[name]
    return ""
