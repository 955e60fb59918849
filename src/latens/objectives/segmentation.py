"""What a mask costs that is not the known one."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean −log Bernoulli of all voxels plus 1 − soft Dice, `(B,)`.

    Args:
        logits: `(B, D, H, W)`.
        mask: The same shape, 0 or 1; rows with NaN, of which no mask is known, count 0.
    """
    known = mask.flatten(1).isfinite().all(1)
    mask = torch.where(known[:, None, None, None], mask, 0.0)
    nats = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").flatten(1).mean(1)
    share = logits.sigmoid()
    both, either = (share * mask).flatten(1).sum(1), (share + mask).flatten(1).sum(1)
    return torch.where(known, nats + 1 - (2 * both + 1) / (either + 1), 0.0)
