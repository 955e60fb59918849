"""Does the decoder use its latents? Active units, information, and the z = 0 ablation."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from latens.errors import ShapeError

Verdict = Literal["healthy", "weak", "collapsed"]


@dataclass(frozen=True)
class CollapseThresholds:
    """Limits of the collapse diagnosis, with the values of the 3-D VAE study as defaults.

    Args:
        active_variance: A unit is active if Var_x E[z_k|x] is at least this (Burda 2015).
        kl_collapsed: Below this many nats per sample, the model is collapsed.
        kl_healthy: From this many nats on, the information is healthy.
        variance_collapsed: Mean of Var_x μ_k over units below which the model is collapsed.
        variance_healthy: Mean of Var_x μ_k over units from which it is healthy.
        active_healthy: Least number of active units of a healthy model, or half of its units.
        ratio_collapsed: MSE of decoder(0) over MSE of decoder(μ) below which the decoder
            ignores its latents.
        ratio_healthy: The same ratio from which it uses them.
    """

    active_variance: float = 0.01
    kl_collapsed: float = 2.0
    kl_healthy: float = 10.0
    variance_collapsed: float = 0.01
    variance_healthy: float = 0.1
    active_healthy: int = 11
    ratio_collapsed: float = 1.05
    ratio_healthy: float = 2.0


@dataclass(frozen=True)
class CollapseDiagnosis:
    """Numbers behind the verdict of the collapse gate.

    Attributes:
        active_units: #{k : Var_x E[z_k|x] ≥ threshold}; null where it was not judged.
        units: Number of latents k; null likewise.
        kl_raw: KL without free bits, nats per sample, mean over images.
        kl_free: Nats of it that free bits give away.
        mean_variance: Var_x μ_k, mean over units; null where it was not judged.
        ablation_ratio: MSE of decoder(0) over MSE of decoder(μ); null where it was not judged.
        verdict: `collapsed` if one number says so, `healthy` if all do, else `weak`.
        reasons: One phrase per number that is not healthy.
    """

    active_units: int | None
    units: int | None
    kl_raw: float
    kl_free: float
    mean_variance: float | None
    ablation_ratio: float | None
    verdict: Verdict
    reasons: tuple[str, ...]


def unit_variance(mu: Tensor) -> Tensor:
    """Variance over images of each posterior mean, Var_x E[z_k|x].

    Args:
        mu: Posterior means, `(n, k)`, n ≥ 2.

    Returns:
        `(k,)`, squared unit of the latent (1 = prior variance), divisor n − 1.

    Raises:
        ShapeError: If `mu` is not a matrix with two rows or more.
    """
    if mu.ndim != 2 or mu.shape[0] < 2:
        raise ShapeError(
            "mu", "shape (n, k) with n ≥ 2 images", tuple(mu.shape), "Give one row per image."
        )
    return mu.var(dim=0)


def active_units(mu: Tensor, threshold: float = 0.01) -> int:
    """Number of active units, #{k : Var_x E[z_k|x] ≥ threshold}.

    Args:
        mu: Posterior means, `(n, k)`, for a prior of unit variance.
        threshold: Smallest variance of an active unit.

    Returns:
        Count in {0, …, k}.

    Raises:
        ShapeError: If `mu` is not a matrix with two rows or more.

    References:
        Burda, Grosse, Salakhutdinov (2015), Importance weighted autoencoders,
        https://arxiv.org/abs/1509.00519
    """
    return int((unit_variance(mu) >= threshold).sum())


def kl_per_unit(loc: Tensor, scale: Tensor) -> Tensor:
    """KL of each factor of q = N(μ, diag σ²) from N(0, 1), raw: without free bits.

        KL_k = ½ (μ_k² + σ_k² − 1) − log σ_k

    Args:
        loc: μ, `(B, k)`.
        scale: σ > 0, `(B, k)`.

    Returns:
        Nats per sample and unit, `(B, k)`, not reduced: its mean over images is the KL per
        unit, its sum over units the KL per sample.

    Raises:
        ShapeError: If the shapes differ.
    """
    if loc.shape != scale.shape or loc.ndim != 2:
        raise ShapeError(
            "scale",
            f"the shape (B, k) of loc, {tuple(loc.shape)}",
            tuple(scale.shape),
            "KL per unit is defined only for a factorised posterior.",
        )
    return 0.5 * (loc**2 + scale**2 - 1) - torch.log(scale)


def free_nats(per_unit: Tensor, free_bits: float) -> float:
    """Nats of the KL that free bits give away, Σ_k min(KL_k, λ).

    At most the floor λ k: where the KL of every unit is at its floor or below, all of it.

    Args:
        per_unit: KL of each unit, mean over images, `(k,)` nats.
        free_bits: λ, nats per unit that cost nothing.
    """
    return float(per_unit.clamp(max=free_bits).sum()) if free_bits else 0.0


def diagnose_collapse(
    loc: Tensor | None,
    kl_raw: float,
    ablation_ratio: float | None,
    thresholds: CollapseThresholds | None = None,
    kl_free: float = 0.0,
    ablation: str = "z = 0",
) -> CollapseDiagnosis:
    """Verdict on posterior collapse from active units, information and what an ablation costs.

    A number that is not finite counts as collapsed.

    Args:
        loc: Posterior means of the validation images, `(n, k)`; null where there are too few for
            a variance, and the verdict rests on the other two symptoms.
        kl_raw: KL(q‖p) against the model's own prior, nats per sample, mean over images; for a
            standard normal prior `kl_per_unit(loc, scale).sum(1).mean()`.
        ablation_ratio: MSE of decoder(0) over MSE of decoder(μ); 1 = latents are ignored. Null
            where there is none, and the verdict rests on the others.
        thresholds: Limits; the defaults of `CollapseThresholds` if None.
        kl_free: Nats of `kl_raw` that were given away, see `free_nats`: an encoder that tells
            nothing may have them. Limits are of what lies above.
        ablation: What the decoder was given instead of μ, in words.

    Returns:
        The numbers, the verdict, and a phrase for each number that is not healthy.

    Raises:
        ShapeError: If `loc` is no matrix with two rows or more.
    """
    limits = thresholds or CollapseThresholds()
    units = active = mean_variance = None
    symptoms: list[tuple[str, float, float, float]] = []
    if loc is not None:
        variance, units = unit_variance(loc), int(loc.shape[1])
        active = int((variance >= limits.active_variance).sum())
        mean_variance = float(variance.mean())
        enough = min(limits.active_healthy, (units + 1) // 2)
        symptoms += [
            (f"{active} of {units} units active", active, 1, enough),
            (
                f"mean variance of the posterior means {mean_variance:.3g}",
                mean_variance,
                limits.variance_collapsed,
                limits.variance_healthy,
            ),
        ]
    given = f", {kl_free:.3g} of them free bits" if kl_free else ""
    told = kl_raw - kl_free
    symptoms.append((f"KL {kl_raw:.3g} nats{given}", told, limits.kl_collapsed, limits.kl_healthy))
    if ablation_ratio is not None:
        phrase = f"MSE with {ablation} only {ablation_ratio:.3g} × the reconstruction's"
        symptoms.append((phrase, ablation_ratio, limits.ratio_collapsed, limits.ratio_healthy))
    verdict: Verdict = "healthy"
    if any(not value >= collapsed for _, value, collapsed, _ in symptoms):
        verdict = "collapsed"
    elif any(value < healthy for _, value, _, healthy in symptoms):
        verdict = "weak"
    reasons = tuple(phrase for phrase, value, _, healthy in symptoms if not value >= healthy)
    return CollapseDiagnosis(
        active_units=active,
        units=units,
        kl_raw=float(kl_raw),
        kl_free=float(kl_free),
        mean_variance=mean_variance,
        ablation_ratio=None if ablation_ratio is None else float(ablation_ratio),
        verdict=verdict,
        reasons=reasons,
    )


def with_part(whole: CollapseDiagnosis, part: CollapseDiagnosis, name: str) -> CollapseDiagnosis:
    """The diagnosis of a model one part of whose latents is judged by itself too.

    The numbers are those of the whole, the verdict the worse of the two, and the reasons those of
    both: a part may be dead while the others keep every limit of the whole.
    """
    order: tuple[Verdict, ...] = ("healthy", "weak", "collapsed")
    verdict = max(whole.verdict, part.verdict, key=order.index)
    reasons = (*whole.reasons, *(f"{name}: {reason}" for reason in part.reasons))
    return replace(whole, verdict=verdict, reasons=reasons)
