"""Arrays behind the pictures of a run: reconstructions with their spread, and traversals."""

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.models.partitioned import PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.objectives.kl_control import kl_per_latent
from latens.training.diagnostics import LatentUse

DRAWS = 16
TRAVERSED, BESIDE = 6, 3
"""Latents that are moved: those with the largest KL, fewer of them beside aligned ones."""
POSITIONS = tuple(k / 4 for k in range(-8, 9))
"""Values of a latent along its traversal, in standard deviations of the prior."""


@torch.no_grad()
def pictures(model: VolumeVAE, x: Tensor, use: LatentUse, lesion: Tensor) -> dict[str, Tensor]:
    """Arrays of a report.

    Args:
        model: Trained model.
        x: Held-out scans, `(k, C, D, H, W)`, the first of those that `use` describes.
        use: Latents of the held-out scans.
        lesion: Their masks, `(k, D, H, W)`; empty where none is known.

    Returns:
        `truth`, `mean` and `std`, `(k, C, D, H, W)`, the last of draws of z and of the decoder's
        own σ together; `slices`, the axial slice of each scan that is shown, `(k,)`, where the
        lesion is largest or the middle one, and `lesions`, whether it has one, `(k,)`;
        `traversal`, `(latents, positions, C, H, W)`, middle slices around the first scan, of
        aligned latents first where the model has some; `positions`, `(positions,)`; `latents`,
        their numbers; `kl`, nats of every latent.
    """
    loc, scale = use.loc[: len(x)], use.scale[: len(x)]
    noise = NoiseStream(0, Purpose.SIGNAL)
    first, second, own = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(DRAWS):
        decoded = model.decode(loc + scale * noise.normal(loc.shape).to(loc))
        mean = decoded.mean.cpu()
        first += mean / DRAWS
        second += mean.square() / DRAWS
        own += decoded.variance.cpu() / DRAWS
    spread = (second - first.square()).clamp(min=0) * DRAWS / (DRAWS - 1)
    kl = kl_per_latent(_posterior(use)).mean(0)
    aligned = len(model.target_loc) if isinstance(model, PartitionedVAE) else 0
    rest = aligned + kl[aligned:].argsort(descending=True)[: BESIDE if aligned else TRAVERSED]
    chosen = torch.cat([torch.arange(aligned).to(rest), rest])
    strips = []
    for latent in chosen.tolist():
        codes = loc[:1].repeat(len(POSITIONS), 1)
        codes[:, latent] = torch.tensor(POSITIONS).to(codes)
        moved = [model.decode(part).mean[:, :, x.shape[2] // 2].cpu() for part in codes.split(4)]
        strips.append(torch.cat(moved))
    extent = lesion.flatten(2).sum(2)  # (k, D)
    found = {
        "truth": x,
        "mean": first,
        "std": (spread + own).sqrt(),
        "slices": torch.where(extent.any(1), extent.argmax(1), x.shape[2] // 2),
        "lesions": extent.any(1),
        "traversal": torch.stack(strips),
        "positions": torch.tensor(POSITIONS),
        "latents": chosen,
        "kl": kl,
    }
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def _posterior(use: LatentUse):
    from latens.distributions import diagonal_normal

    return diagonal_normal(use.loc, use.scale, 1)
