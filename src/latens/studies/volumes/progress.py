"""What a training that runs has found so far, for who looks into the run's folder meanwhile."""

import time
from collections.abc import Sequence
from pathlib import Path

from latens.reporting.volume_pictures import dashboard
from latens.store import HISTORY, from_rows, write_csv
from latens.training.diagnostics import Look

DRAWN_EVERY = 60.0
"""Seconds between two drawings of the dashboard, at least."""


class Progress:
    """Writes `history.csv` at every look, and `dashboard.png` once a minute, whole or not at all.

    Args:
        folder: Folder of the training's checkpoints.
        stage: Name of the stage.
        seed: Seed of the training.
    """

    def __init__(self, folder: Path, stage: str, seed: int) -> None:
        self.folder, self.stage, self.seed = folder, stage, seed
        self._drawn = -DRAWN_EVERY

    def __call__(self, looks: Sequence[Look]) -> None:
        """Write what the looks have found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [dict(zip(HISTORY.columns, (self.stage, *look), strict=True)) for look in looks]
        history = from_rows(rows, HISTORY)
        write_csv(self.folder / "history.csv", HISTORY, history)
        if time.monotonic() - self._drawn < DRAWN_EVERY:
            return
        self._drawn = time.monotonic()
        picture = self.folder / "dashboard.part"
        figure = dashboard(history.assign(seed=self.seed))
        figure.savefig(picture, format="png", dpi=110)
        picture.replace(self.folder / "dashboard.png")
