"""A study on two processes, one of which lacks memory in every training.

Usage: torchrun faulty_process.py RANK ARGUMENTS OF latens run growth
"""

import os
import sys

import torch

from latens.cli import main
from latens.training.module import StageModule


def lacking(step):
    """A validation step for which there is no memory in the faulty process."""

    def validation_step(self, batch, batch_idx):
        if os.environ["RANK"] == sys.argv[1]:
            raise torch.OutOfMemoryError("no memory")
        return step(self, batch, batch_idx)

    return validation_step


if __name__ == "__main__":
    StageModule.validation_step = lacking(StageModule.validation_step)
    sys.exit(main(["run", "growth", *sys.argv[2:]]))
