"""A partitioned VAE of tiny phantom subjects that trains in seconds."""

from pathlib import Path
from typing import Any

import yaml

from latens.cli import main

TINY_SCANS: dict[str, Any] = {
    "data": {
        "class_path": "latens.data.PhantomSubjects",
        "init_args": {"size": [16, 16, 16], "count": 40},
    },
    "model": {"dim": 16, "width": 4, "coarse": 4, "features": 8},
    "test_scans": 10,
    "validation_scans": 8,
    "seeds": 1,
    "shown": 1,
    "training": {
        "max_steps": 4,
        "batch_size": 8,
        "warmup_steps": 1,
        "kl_warmup_steps": 2,
        "validate_every": 2,
    },
}


def trained_scans(folder: Path, **settings: Any) -> Path:
    """Run the third stage with these settings, others in their place; its run folder."""
    config, out = folder / "tiny.yaml", folder / "exp3"
    config.write_text(yaml.safe_dump(TINY_SCANS | settings))
    arguments = ["run", "growth", "--stage", "exp3", "--config", str(config), "--out", str(out)]
    assert main(arguments) in (0, 4)  # four steps may well fail the gate
    return out
