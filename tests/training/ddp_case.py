"""One process of a fit that several share; writes its losses and weights.

Usage: python ddp_case.py OUT PROCESSES
"""

import sys
from functools import partial
from pathlib import Path

import torch

from latens.distributions import NoiseStream
from latens.models.partitioned import PartitionedVAE
from latens.nets import Volumetric
from latens.objectives.dip import Dip
from latens.objectives.kl_control import KLControl
from latens.training import Training, fit_model
from latens.training.diagnostics import LatentDiary
from latens.training.hardware import Hardware
from latens.training.volumes import VolumeData

SHAPE = (2, 6, 6, 6)
WATCHED = ("loss", "dip_off", "dip_diagonal", "dependence", "kl", "kl_raw")


def fit(processes: int, resume: Path | None = None) -> dict[str, torch.Tensor]:
    """Losses of the first steps and the weights after them, with a projected rest."""
    x = NoiseStream(0, 0).normal((24, *SHAPE))
    y = x.flatten(2).mean(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PartitionedVAE(
            SHAPE,
            {"volume": 2},
            dim=5,
            # Two channels to a group: one alone would leave biases without any gradient, and
            # Adam moves those by the sign of a rounding error.
            architecture=Volumetric(8, features=6, coarse=4),
            dip=Dip(1.0, 1.0, estimator="squares"),
            control=KLControl(free_bits=1.6),  # between the two processes' means of some
        )
    diary = LatentDiary(x[16:], 0, ("a", "b"), 4.0)
    settings = Training(
        max_steps=3, batch_size=8, warmup_steps=0, kl_warmup_steps=0, validate_every=1
    )
    fit_model(
        model,
        (x[:16], y[:16]),
        (x[16:], y[16:]),
        settings,
        0,
        resume=resume,
        make_data=partial(VolumeData),
        hardware=Hardware(processes=processes),
        watchers=[diary],
    )
    found = dict(model.state_dict())
    for name in WATCHED:
        for split in ("train_epoch", "val_epoch"):
            values = [v for _, key, v in diary.rows if key == f"{split}/{name}"]
            found[f"{split}/{name}"] = torch.tensor(values)
    return found


if __name__ == "__main__":
    torch.save(fit(int(sys.argv[2])), Path(sys.argv[1]))
