"""A study on two processes whose first one takes its time over what it does alone.

Usage: torchrun slow_leader.py FOLDER ARGUMENTS OF latens run growth
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from latens.cli import main
from latens.data import PhantomSubjects
from latens.studies.volumes import fit, run, together

LIMIT = 20
FIRST = os.environ["RANK"] == "0"
folder = Path(sys.argv[1])
busy = folder / "busy"


def slowly(load):
    """Scans that take longer to prepare than a training may be silent."""

    def slow(source):
        time.sleep(LIMIT + 5)
        return load(source)

    return slow


def busily(train):
    """A training after which the first process is busy."""

    def train_busily(*arguments, **more):
        found = train(*arguments, **more)
        busy.touch()
        return found

    return train_busily


def no_longer(evaluate):
    """An assessment after which it is not."""

    def assess(*arguments):
        time.sleep(4)
        evaluate(*arguments)
        busy.unlink()

    return assess


def watched(train):
    """A training of the second process, which must not begin while the first is busy."""

    def train_watched(model, pair, held, settings, seed, **more):
        time.sleep(1)
        assert not busy.exists()
        (folder / f"began {seed}").touch()
        return train(model, pair, held, settings, seed, **more)

    return train_watched


if __name__ == "__main__":
    together.LIMIT = timedelta(seconds=LIMIT)
    if FIRST:
        PhantomSubjects.load = slowly(PhantomSubjects.load)
        run.assess = no_longer(run.assess)
    fit.fit_model = busily(fit.fit_model) if FIRST else watched(fit.fit_model)
    sys.exit(main(["run", "growth", *sys.argv[2:]]))
