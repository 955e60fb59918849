"""Histories of trainings as offline runs of Weights & Biases, for `wandb sync`."""

import importlib.util
from pathlib import Path
from typing import Any

from latens.errors import ConfigError
from latens.store import HISTORY, RunFolder, read_csv

PROJECT = "latens"


def check_tracking() -> None:
    """Refuse before anything is trained.

    Raises:
        ConfigError: If the package is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "wandb",
            "the package `wandb` installed",
            True,
            "Install it (`pip install 'latens[wandb]'`), or leave the option out.",
        )


def write_offline_run(run: RunFolder, hash: str, name: str, config: dict[str, Any]) -> Path:
    """Write the history of a finished training, once, without a network.

    Args:
        run: Run folder; the offline run lies in its folder `wandb`.
        hash: Hash of the fit; the offline run has its name.
        name: What the run is called on the dashboard.
        config: Settings shown beside it.

    Returns:
        Folder of the offline run, for `wandb sync`.
    """
    for known in (run.path / "wandb").glob(f"offline-run-*-{hash}"):
        return known
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    history = read_csv(run.fit(hash) / "history.csv", HISTORY)
    offline = wandb.init(
        mode="offline",
        project=PROJECT,
        id=hash,
        name=name,
        dir=run.path,
        config=config,
        settings=settings,
    )
    folder = Path(offline.dir).parent
    for step, rows in history.groupby("step"):
        offline.log(dict(zip(rows["quantity"], rows["value"], strict=True)), step=int(str(step)))
    offline.finish()
    return folder
