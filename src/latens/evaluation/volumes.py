"""Assess a VAE of volumes on held-out subjects: latents in use, likelihood, parts and leakage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, nan

import numpy as np
import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose, draw, row_noise
from latens.evaluation.intervals import Interval, bootstrap_interval
from latens.evaluation.volume_factors import Coded, known_factors, unknown_factors
from latens.evaluation.volume_probes import LEAKS, Posteriors, read_parts
from latens.metrics.importance import pareto_smooth
from latens.metrics.probes import Array
from latens.models.partitioned import REST, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.objectives import kl_divergence
from latens.training.diagnostics import (
    FEWEST,
    LatentUse,
    encoded,
    exchangeable,
    latent_use,
    of_others,
    too_few,
)

BLOCK = 16
WEIGHED = 64
"""Held-out volumes, the first ones, whose likelihood is estimated by importance sampling: every
draw is decoded."""
DRAWS = 64
"""Draws of q per volume behind an importance-sampled likelihood."""
LEAST_KNOWN = 10
"""Volumes with a known quantity, among the fitting and among the held-out ones, that R² needs."""


@dataclass(frozen=True)
class Sample:
    """Volumes that a model is assessed on.

    Attributes:
        fitting: Volumes of the pool, on which probes are fitted, `(n, *signal)`.
        fitting_targets: Quantities of those, by part, `(n, T_part)`; NaN where unknown.
        test: Held-out volumes, `(m, *signal)`.
        test_targets: Quantities of those, by part.
        groups: Subject of each held-out volume.
        channels: Names of the channels.
        data_range: L of PSNR and SSIM.
        fitting_factors: True values behind made-up volumes of the pool, `(n, F)`; F is 0 where
            none are known.
        test_factors: Those of the held-out volumes, `(m, F)`.
    """

    fitting: Tensor
    fitting_targets: Mapping[str, Tensor]
    test: Tensor
    test_targets: Mapping[str, Tensor]
    groups: Sequence[str]
    channels: Sequence[str]
    data_range: float
    fitting_factors: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    test_factors: Tensor = field(default_factory=lambda: torch.empty(0, 0))


@dataclass(frozen=True)
class VolumeAssessment:
    """What was found.

    Attributes:
        use: Latents and diagnostics on the held-out volumes.
        values: Interval by metric; without bounds where there are fewer than `FEWEST` subjects.
        missing: Why there is no number, by metric.
    """

    use: LatentUse
    values: dict[str, Interval] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def assess_volumes(model: VolumeVAE, sample: Sample, seed: int = 0) -> VolumeAssessment:
    """All numbers of a model.

    Metrics: `neg_elbo` (nats per element, one draw of q per volume; at least the negative
    log-likelihood), `nll` (the same by importance sampling, of the first `WEIGHED` volumes),
    `nll_bound` (`neg_elbo` of those alone, which `nll` is to be compared with), `nll_gain` (nats
    per volume by which `nll` is below it), `nll_unreliable` (share of them with a Pareto k̂ of 0.7
    or more), `kl` (nats), `ablation_mean`, `ablation_z0` and `ablation_permuted` (error of the
    mean training volume, with no latents, or with those of another subject, over the error with
    its own), with parts `permuted_rest` (the same for `rest` alone), and for each known part `r2`
    (probes of all latents), `aligned` (the part of that name itself), `leak`, `sigma_leak` and
    `draw_leak` (probes of the means of `rest`, of means and log σ, of a draw), `dependence`.
    Probes are ridge and kernel, fitted on training subjects or, `_within`, on the other held-out
    subjects; without a suffix the largest of the four. `volume_factors` says
    whether latents are independent and stand for factors. What a handful of subjects cannot
    tell is missing: R², dependence and active units below `FEWEST` of them, R² with fewer than
    `LEAST_KNOWN` known quantities, and exchanges where a subject has more than half of the
    volumes.

    Args:
        model: Trained model in its final state.
        sample: What it is assessed on.
        seed: Key of the draws.
    """
    noise = NoiseStream(seed, Purpose.LATENT)
    use = latent_use(model, sample.test, noise, sample.channels, sample.data_range, sample.groups)
    rows = _rows(model, sample, use.loc, seed)
    groups = list(sample.groups)
    values = {
        "neg_elbo": bootstrap_interval(rows["neg_elbo"], groups, _first),
        **_likelihood(model, sample, rows["neg_elbo"], seed),
        "kl": bootstrap_interval(rows["kl"], groups, _first),
        "mse": bootstrap_interval(rows["mu"], groups, _first),
    }
    for name in ("ablation_mean", "ablation_z0", "ablation_permuted", "permuted_rest"):
        if name in rows:
            both = np.concatenate([rows[name], rows["mu"]], 1)
            values[name] = bootstrap_interval(both, groups, _ratio)
    unread = _unread(sample, use.subjects)
    read = {name: known for name, known in sample.test_targets.items() if name not in unread}
    probed = sample.fitting  # which may lie on a disk: to be read block by block
    if not read and not sample.test_factors.shape[1]:
        probed = probed[slice(0, 1)]
    posteriors = Posteriors(*encoded(model, probed), use.loc, use.scale)
    values |= read_parts(model, posteriors, sample.fitting_targets, read, groups, seed)
    coded = Coded(
        _array(posteriors.fitting_loc),
        _array(sample.fitting_factors),
        _array(use.loc),
        _array(sample.test_factors),
        groups,
    )
    values |= known_factors(coded)
    if use.subjects < FEWEST:
        values = {name: replace(i, lower=nan, upper=nan) for name, i in values.items()}
    missing = _missing(model, use.subjects, rows, unread) | unknown_factors(coded)
    return VolumeAssessment(use, values, missing)


def _unread(sample: Sample, subjects: int) -> dict[str, str]:
    """Why no R² is given, by part."""
    found = {}
    for name in sample.test_targets:
        both = sample.test_targets[name], sample.fitting_targets[name]
        here, there = (int(torch.isfinite(known).all(1).sum()) for known in both)
        if subjects < FEWEST:
            found[name] = too_few(subjects)
        elif min(here, there) < LEAST_KNOWN:
            found[name] = (
                f"known of {here} held-out and {there} training scans, {LEAST_KNOWN} of each are "
                "needed"
            )
    return found


def _missing(
    model: VolumeVAE, subjects: int, rows: Mapping[str, Array], unread: Mapping[str, str]
) -> dict[str, str]:
    """Why there is no number, by metric that the model would have."""
    partitioned = isinstance(model, PartitionedVAE)
    found = {}
    if subjects < FEWEST:
        names = ("au_count", "au_frac", "mu_var_mean", *(("rest_units",) if partitioned else ()))
        found |= dict.fromkeys(names, too_few(subjects))
    for name in ("ablation_permuted", *(("permuted_rest",) if partitioned else ())):
        if name not in rows:
            found[name] = "a subject has more than half of the held-out scans"
    for part, reason in unread.items():
        found[f"r2_{part}"] = reason
        if partitioned:
            found |= {f"{leak}_{part}": reason for leak in LEAKS}
        if partitioned and part in model.parts:
            found |= {f"aligned_{part}": reason, f"dependence_{part}": reason}
    return found


def _likelihood(
    model: VolumeVAE, sample: Sample, neg_elbo: Array, seed: int
) -> dict[str, Interval]:
    """Importance-sampled likelihood of the first held-out volumes."""
    count = min(WEIGHED, len(sample.test))
    x, groups = sample.test[slice(0, count)], list(sample.groups)[:count]
    evidence, shape = log_evidence(model, x, DRAWS, seed)
    nll, bound = -_array(evidence)[:, None], neg_elbo[:count]
    gain = bound * model.event_size - nll
    return {
        "nll": bootstrap_interval(nll / model.event_size, groups, _first),
        "nll_bound": bootstrap_interval(bound, groups, _first),
        "nll_gain": bootstrap_interval(gain, groups, _first),
        "nll_unreliable": bootstrap_interval(_array(shape >= 0.7)[:, None], groups, _first),
    }


@torch.no_grad()
def log_evidence(model: VolumeVAE, x: Tensor, draws: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Importance-sampled log p(x), and how far to believe it.

        log (1/S) Σ_s p(x | z_s) p(z_s) / q(z_s | x),   z_s ~ q(z | x)

    Its expectation lies below log p(x), is the ELBO at S = 1 and rises with S (Burda, Grosse,
    Salakhutdinov 2016, https://arxiv.org/abs/1509.00519). The weights are not smoothed, so that
    this holds; k̂ of their tail says whether more draws would still change much.

    Args:
        model: Trained model.
        x: Volumes, `(n, *signal_shape)`.
        draws: S, 25 or more.
        seed: Key of the draws.

    Returns:
        Nats per volume, `(n,)` float64, constants kept; Pareto k̂, `(n,)` float64.
    """
    found, shapes = [], []
    for place in range(len(x)):
        volume = x[place : place + 1].to(next(model.parameters()).device)
        q, prior = model.encode(volume), model.prior(volume)
        noise = row_noise((seed, Purpose.START), [place], (draws, model.dim))
        parts = []
        for eps in noise.to(volume).split(BLOCK):  # (S', 1, dim)
            z = draw(q, eps)
            inside = model.log_likelihood(volume, z[:, 0])
            parts.append((inside + (prior.log_prob(z) - q.log_prob(z))[:, 0]).cpu())
        log_weights = torch.cat(parts)[:, None]  # (S, 1)
        found.append(torch.logsumexp(log_weights[:, 0], 0) - log(draws))
        shapes.append(pareto_smooth(log_weights)[1][0])
    return torch.stack(found), torch.stack(shapes)


def _first(means: Array) -> Array:
    return means[:, 0]


def _ratio(means: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # an exact reconstruction: no limit
        return means[:, 0] / means[:, 1]


def _rows(model: VolumeVAE, sample: Sample, loc: Tensor, seed: int) -> dict[str, Array]:
    """Per volume: −ELBO per element, KL, mean square errors; `(m, 1)` each."""
    codes = {"mu": loc, "ablation_z0": torch.zeros_like(loc)}
    if exchangeable(sample.groups):
        codes["ablation_permuted"] = others = loc[of_others(sample.groups)]
        if isinstance(model, PartitionedVAE):
            own = model.parts[REST]
            codes["permuted_rest"] = torch.cat([loc[:, : own.start], others[:, own]], 1)
    found: dict[str, list[Tensor]] = {
        name: [] for name in ("neg_elbo", "kl", "ablation_mean", *codes)
    }
    mean = _mean(sample.fitting).to(loc.device)
    for number, start in enumerate(range(0, len(loc), BLOCK)):
        block = slice(start, start + BLOCK)
        x = sample.test[block].to(loc.device)
        noise = NoiseStream(seed, Purpose.LATENT, 1 + number, device=loc.device)
        q = model.encode(x)
        kl = kl_divergence(q, model.prior(q.mean)).double()
        inside = model.log_likelihood(x, draw(q, noise.normal(q.mean.shape)))
        found["neg_elbo"].append((kl - inside) / model.event_size)
        found["kl"].append(kl)
        found["ablation_mean"].append((mean - x).square().flatten(1).mean(1))
        for name, code in codes.items():
            error = (model.decode(code[block]).mean - x).square().flatten(1).mean(1)
            found[name].append(error)
    return {
        name: torch.cat(parts)[:, None].double().numpy(force=True) for name, parts in found.items()
    }


def _array(values: Tensor) -> Array:
    return values.double().numpy(force=True)


def _mean(volumes: Tensor) -> Tensor:
    """Mean volume `(*signal)`, float32, of volumes that may lie on a disk."""
    total = torch.zeros(volumes.shape[1:], dtype=torch.float64)
    for start in range(0, len(volumes), BLOCK):
        total += volumes[slice(start, start + BLOCK)].double().sum(0)
    return (total / len(volumes)).float()
