"""A study that takes seconds, and ways to run and look at it."""

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from latens.cli import main

LINEAR = {"class_path": "latens.nets.Linear"}
TRAINING = {
    "max_steps": 4,
    "batch_size": 16,
    "learning_rate": 0.02,
    "warmup_steps": 1,
    "kl_warmup_steps": 2,
    "validate_every": 2,
    "patience": 2,
}
TINY: dict[str, Any] = {
    "data": {
        "class_path": "latens.data.Phantoms",
        "init_args": {"size": [16, 16], "count": 120},
    },
    "operator": {"class_path": "latens.problems.GaussianBlur", "init_args": {"width": 1.0}},
    "noise": {"class_path": "latens.problems.GaussianNoise", "init_args": {"scale": 0.05}},
    "models": {
        "latent": {
            "class_path": "latens.models.Latent",
            "init_args": {"dim": 4, "architecture": LINEAR},
        }
    },
    "ensembles": ["latent"],
    "baselines": ["tikhonov"],
    "sizes": [16, 32, 48, 64],
    "data_seeds": 2,
    "init_seeds": 2,
    "test_images": 30,
    "training": TRAINING,
}
SMALL = {**TINY, "sizes": [16, 32], "data_seeds": 1}
"""4 fits, 8 evaluations."""

ONE_LATENT: dict[str, Any] = {
    "models": {
        "latent": {
            "class_path": "latens.models.Latent",
            "init_args": {
                "dim": 1,
                "architecture": {"class_path": "latens.nets.ConvMap", "init_args": {"width": 4}},
            },
        }
    }
}
"""A model that a few steps teach something."""

FEW_STEPS = [
    *("--data.size", "[16,16]", "--data_seeds", "1", "--init_seeds", "1", "--ensembles", "[]"),
    *("--training.max_steps", "12", "--training.kl_warmup_steps", "4"),
    *("--training.warmup_steps", "2", "--training.validate_every", "6"),
]
"""One small fit for each N, over the defaults of the study."""

WITHOUT_REPORT = """
import sys
import latens.studies.run as run
run.write_figures = lambda folder: None
run.write_report = lambda folder: folder.report_file
from latens.cli import main
sys.exit(main(sys.argv[1:]))
"""


def write_config(path: Path, tree: Any) -> Path:
    """Write a configuration as YAML."""
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def small(**changes: Any) -> dict[str, Any]:
    """The small configuration with other values."""
    return {**copy.deepcopy(SMALL), **changes}


def arguments(config: Path, out: Path, jobs: int, extra: Sequence[str] = ()) -> list[str]:
    """Arguments of `latens` that run a configuration."""
    flags = ["--config", str(config), "--out", str(out), "--jobs", str(jobs)]
    return ["run", "scarcity", *flags, *extra]


def run(config: Path, out: Path, jobs: int = 1, extra: Sequence[str] = ()) -> int:
    """Run a configuration in this process; returns the exit code."""
    return main(arguments(config, out, jobs, extra))


def command(config: Path, out: Path, jobs: int) -> list[str]:
    """A process of its own that runs a configuration and leaves figures and report out."""
    return [sys.executable, "-c", WITHOUT_REPORT, *arguments(config, out, jobs)]


def tables(run: Path) -> dict[str, bytes]:
    """Content of every table of a run."""
    return {file.name: file.read_bytes() for file in sorted((run / "tables").iterdir())}


def units(run: Path) -> dict[str, int]:
    """Time of change of every file of every finished unit."""
    files = [f for part in ("fits", "evaluations") for f in (run / part).rglob("*")]
    finished = (f for f in files if f.is_file() and ".tmp-" not in str(f.relative_to(run)))
    return {str(f.relative_to(run)): f.stat().st_mtime_ns for f in finished}


def statuses(run: Path, part: str) -> dict[str, str]:
    """Status word of every finished unit, by hash."""
    files = (run / part).glob("*/outcome.json")
    return {file.parent.name: json.loads(file.read_text())["status"] for file in files}


def leftovers(run: Path) -> list[Path]:
    """Temporaries and checkpoints that should be gone."""
    return [*run.rglob(".tmp-*"), *(run / "resume").iterdir()]
