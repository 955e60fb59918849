"""What a VAE of volumes does with its latents, at every look at the validation share.

| key | meaning |
|---|---|
| `diag/au_count`, `diag/au_frac` | active units: Var_x μ_k ≥ 0.01; healthy above 10 |
| `diag/kl_raw` | KL without free bits, nats; healthy above 10, collapsed below 2 |
| `diag/kl_told` | with free bits λ: Σ_k max(KL_k − λ, 0), and the limits are of it |
| `diag/mu_var_mean` | mean of Var_x μ_k; healthy above 0.1, collapsed below 0.01 |
| `diag/recon_mu_mse`, `diag/recon_sample_mse` | error of decoder(μ), of decoder(draw of q) |
| `diag/recon_z0_mse` | error of decoder(0) |
| `diag/recon_permuted_mse` | error of decoder(μ of another subject) |
| `diag/rest_units` | active units among the latents of no part |
| `diag/recon_permuted_rest_mse` | error of decoder(μ with the rest of another subject) |
| `diag/recon_delta_mu_vs_sampled` | the second less the first: what a draw costs |
| `sched/…` | weights and levels of the step; `sched/beta` with the warm-up of the KL |
| `train_epoch/…`, `val_epoch/…` | means since the last look; PSNR and SSIM for each modality |

Errors are mean squares over all elements, in the squared unit of the data. Variances over volumes
are left out where fewer than `FEWEST` subjects are looked at, and the permuted error where a
subject has more than half of the volumes, so that none of another one could stand for each of its.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from latens.distributions import NoiseStream, Purpose, diagonal_normal
from latens.metrics.collapse import (
    CollapseDiagnosis,
    active_units,
    diagnose_collapse,
    free_nats,
    unit_variance,
    with_part,
)
from latens.metrics.quality import WINDOW, psnr, ssim
from latens.models.partitioned import REST, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.objectives.kl_control import kl_per_latent
from latens.training.module import StageModule

BLOCK = 8
"""Volumes that are encoded or decoded at once."""

FEWEST = 8
"""Subjects that a variance over subjects, or an interval, needs."""


Look = tuple[int, str, float]
"""Step, quantity and value."""


@dataclass(frozen=True)
class LatentUse:
    """Numbers of a model on some volumes.

    Attributes:
        loc: Posterior means, `(n, dim)`.
        scale: Posterior standard deviations, `(n, dim)`.
        numbers: Values by key, without `sched/`, `train_epoch/` and the losses.
        subjects: Number of subjects that the volumes are of.
        rest: Latents of no part, where the model has parts; null for others.
        free_bits: Nats per latent that cost nothing in training.
    """

    loc: Tensor
    scale: Tensor
    numbers: dict[str, float]
    subjects: int
    rest: slice | None = None
    free_bits: float = 0.0

    @property
    def diagnosis(self) -> CollapseDiagnosis:
        """The verdict of the collapse gate, with the limits of volumes; of few subjects without
        the variance of the means. With parts, the rest is judged by itself too: aligned latents
        alone can keep every limit of the whole.
        """
        whole = self._judged(slice(None), "z0", "z = 0")
        if self.rest is None:
            return whole
        rest = self._judged(self.rest, "permuted_rest", "that of another subject")
        return with_part(whole, rest, "rest")

    def _judged(self, latents: slice, version: str, words: str) -> CollapseDiagnosis:
        """Verdict on some latents, from the error of a version without them."""
        error = self.numbers.get(f"diag/recon_{version}_mse")
        ratio = None if error is None else error / self.numbers["diag/recon_mu_mse"]
        kl = self.kl_per_latent[latents]
        loc = self.loc[:, latents] if self.subjects >= FEWEST else None
        free = free_nats(kl, self.free_bits)
        return diagnose_collapse(loc, float(kl.sum()), ratio, kl_free=free, ablation=words)

    @property
    def kl_per_latent(self) -> Tensor:
        """KL of every latent, mean over volumes, `(dim,)` nats."""
        return kl_per_latent(diagonal_normal(self.loc, self.scale, 1)).mean(0)


def encoded(model: VolumeVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of q(z | x), block by block, `(n, dim)` each."""
    parts = [model.encode(x[rows].to(_device(model))) for rows in _blocks(len(x))]
    return torch.cat([q.mean for q in parts]), torch.cat([q.stddev for q in parts])


def too_few(subjects: int) -> str:
    """Words for a number that so many subjects cannot give."""
    return f"{subjects} subject{'s' * (subjects != 1)}, {FEWEST} are needed"


def exchangeable(groups: Sequence[object]) -> bool:
    """Whether every row can have one of another group: none holds more than half of the rows."""
    return 2 * max(Counter(groups).values()) <= len(groups)


def of_others(groups: Sequence[object]) -> list[int]:
    """A row of another group for each row: the next one where every row is its own group.

    The rows, group after group, are shifted by the size of the largest group, which leads out of
    every group that holds no more than half of them.
    """
    first = {group: row for row, group in reversed(list(enumerate(groups)))}
    order = sorted(range(len(groups)), key=lambda row: first[groups[row]])
    shift = max(Counter(groups).values())
    others = dict(zip(order, [*order[shift:], *order[:shift]], strict=True))
    return [others[row] for row in range(len(groups))]


@torch.no_grad()
def latent_use(
    model: VolumeVAE,
    x: Tensor,
    noise: NoiseStream,
    channels: Sequence[str],
    data_range: float,
    groups: Sequence[object] | None = None,
) -> LatentUse:
    """Diagnose a model on volumes it was not trained on.

    Args:
        model: The model.
        x: Volumes, `(n, *signal_shape)`.
        noise: Source of one draw per volume.
        channels: Names of the channels.
        data_range: L of PSNR and SSIM.
        groups: Subject of each volume; every volume is its own by default.
    """
    loc, scale = encoded(model, x)
    z = loc + scale * noise.normal(loc.shape).to(loc)
    versions = {
        "mu": loc,
        "sample": z,
        "z0": torch.zeros_like(loc),
    }
    own = range(len(loc)) if groups is None else groups
    rest = model.parts[REST] if isinstance(model, PartitionedVAE) else None
    if exchangeable(own):
        versions["permuted"] = others = loc[of_others(own)]
        if rest is not None:
            versions["permuted_rest"] = torch.cat([loc[:, : rest.start], others[:, rest]], 1)
    sums = dict.fromkeys(versions, 0.0)
    quality: dict[str, float] = {}
    for rows in _blocks(len(x)):
        truth = x[rows].to(loc.device)
        for name, code in versions.items():  # one after another: each takes as much as the volumes
            mean = model.decode(code[rows]).mean
            sums[name] += float((mean - truth).square().flatten(1).mean(1).sum())
            if name != "mu":
                continue
            for c, channel in enumerate(channels):
                pair = mean[:, c : c + 1].float(), truth[:, c : c + 1]
                _count(quality, f"val_epoch/psnr_{channel}", psnr(*pair, data_range))
                if min(x.shape[2:]) >= WINDOW:
                    _count(quality, f"val_epoch/ssim_{channel}", ssim(*pair, data_range))
    mse = {f"diag/recon_{name}_mse": total / len(x) for name, total in sums.items()}
    subjects = len(set(own))
    use = LatentUse(loc, scale, {}, subjects, rest, model.control.free_bits)
    kl = use.kl_per_latent
    numbers = {
        **(_variances(loc, rest) if subjects >= FEWEST else {}),
        "diag/kl_raw": float(kl.sum()),
        **(
            {"diag/kl_told": float(kl.sum()) - free_nats(kl, use.free_bits)}
            if use.free_bits
            else {}
        ),
        **mse,
        "diag/recon_delta_mu_vs_sampled": mse["diag/recon_sample_mse"] - mse["diag/recon_mu_mse"],
        **{name: total / len(x) for name, total in quality.items()},
    }
    return replace(use, numbers=numbers)


def _variances(loc: Tensor, rest: slice | None) -> dict[str, float]:
    active = active_units(loc)
    return {
        **({} if rest is None else {"diag/rest_units": float(active_units(loc[:, rest]))}),
        "diag/au_count": float(active),
        "diag/au_frac": active / loc.shape[1],
        "diag/mu_var_mean": float(unit_variance(loc).mean()),
    }


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, BLOCK):
        yield slice(start, start + BLOCK)


def _count(sums: dict[str, float], name: str, values: Tensor) -> None:
    sums[name] = sums.get(name, 0.0) + float(values.sum())


def _device(model: VolumeVAE) -> torch.device:
    return next(model.parameters()).device


def _trained_with(module: StageModule, step: int) -> dict[str, float]:
    """Weights and levels of a step; that of the KL with its warm-up, as it was trained with."""
    found = module.model.schedule(step)
    found["sched/beta"] *= module.kl_warmup(step)
    return found


class LatentDiary(Callback):
    """Writes down, at every look, what the model does with its latents.

    Args:
        x: Validation volumes that are looked at, `(n, *signal_shape)`.
        seed: Key of the draws; the same at every look.
        channels: Names of the channels.
        data_range: L of PSNR and SSIM.
        groups: Subject of each volume; every volume is its own by default.
        tell: Told of every look in one line; null for none.
        keep: Given all rows after every look; null for none.

    Attributes:
        rows: `(step, quantity, value)` in the order of the looks.
    """

    def __init__(
        self,
        x: Tensor,
        seed: int,
        channels: Sequence[str],
        data_range: float,
        groups: Sequence[object] | None = None,
        tell: Callable[[str], None] | None = None,
        keep: Callable[[Sequence[Look]], None] | None = None,
    ) -> None:
        self.x, self.seed, self.groups, self.tell, self.keep = x, seed, groups, tell, keep
        self.channels, self.data_range = list(channels), data_range
        self.rows: list[Look] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Diagnose, and add weights and means since the last look."""
        assert isinstance(pl_module, StageModule)
        model, step = pl_module.model, trainer.global_step
        assert isinstance(model, VolumeVAE)
        noise = NoiseStream(self.seed, Purpose.LATENT)
        use = latent_use(model, self.x, noise, self.channels, self.data_range, self.groups)
        means = {
            name.replace("train/", "train_epoch/").replace("val/", "val_epoch/"): value
            for name, value in pl_module.means().items()
        }
        found = {**use.numbers, **_trained_with(pl_module, max(step - 1, 0)), **means}
        self.rows += [(step, name, value) for name, value in found.items()]
        if self.tell is not None:
            error, without = found["diag/recon_mu_mse"], found["diag/recon_z0_mse"]
            self.tell(
                f"step {step} of {pl_module.settings.max_steps}: mean square error {error:.4f}, "
                f"{without:.4f} with z = 0, KL {found['diag/kl_raw']:.0f} nats"
            )
        if self.keep is not None:
            self.keep(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows, for a run that is resumed."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore."""
        self.rows = list(state_dict["rows"])
