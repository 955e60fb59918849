"""Does a calibrated posterior keep its promise, at what cost, and where does it miss?"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.inference.calibrated import CalibratedPosterior
from latens.metrics import region_means
from latens.metrics.catalogue.conformal import BLOCKS
from latens.metrics.conformal import miss_by_width

_BLOCKS_PER_AXIS = {1: 16, 2: 4, 3: 2}


def conformal_rows(posterior: CalibratedPosterior, x: Tensor) -> dict[str, NDArray[np.float64]]:
    """Components of the metrics of the section `conformal`, `(B, p)` each.

    Args:
        posterior: Calibrated posterior of B measurements.
        x: Truth, `(B, *signal_shape)`.
    """
    calibration = posterior.calibration
    interval = posterior.interval()
    own = posterior.base.interval(calibration.base_level)
    inside = ((interval.lower <= x) & (x <= interval.upper)).to(x.dtype)
    covered = inside.flatten(1).mean(1)
    share = calibration.share
    kept = covered if share is None else (covered >= share - 1e-6).to(x.dtype)
    width = interval.upper - interval.lower
    size, own_size = width.flatten(1).mean(1), (own.upper - own.lower).flatten(1).mean(1)
    narrow, wide = miss_by_width(1 - inside, width).unbind(1)  # (B, 2) each
    rows = {
        "conformal_margin": (kept - calibration.level)[:, None],
        "conformal_coverage": covered[:, None],
        "conformal_width": size[:, None],
        "conformal_gain": torch.stack([size, own_size], dim=1),
        "conformal_miss_narrow": narrow,
        "conformal_miss_wide": wide,
        "conformal_miss_block": _by_block(1 - inside),
        "conformal_bad_images": _bad(1 - inside, calibration.level)[:, None],
    }
    return {name: value.double().numpy(force=True) for name, value in rows.items()}


def _bad(missed: Tensor, level: float) -> Tensor:
    """1 for an image that misses more than twice the share that the level leaves, `(B,)`."""
    flat = missed.flatten(1)
    allowed = 2 * (1 - level) * flat.shape[1]
    rounding = 1e-9 * flat.shape[1]  # 2 (1 − 0.9) is below 0.2 in floating point
    return (flat.double().sum(1) > allowed + rounding).to(missed.dtype)


def _by_block(missed: Tensor) -> Tensor:
    """Miss rate of each block, over channels, `(B, BLOCKS)`; they repeat where there are fewer."""
    most = _BLOCKS_PER_AXIS.get(missed.ndim - 2, 2)
    grid = tuple(min(most, size) for size in missed.shape[2:])
    means = region_means(missed.mean(1), grid)  # (B, K)
    return means[:, torch.arange(BLOCKS) % means.shape[1]]
