"""What produced a result: package versions, source revision, machine."""

import os
from pathlib import Path
from typing import Any

_PACKAGES = (
    "latens",
    "lightning",
    "matplotlib",
    "monai",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "scipy",
    "torch",
    "torchmetrics",
)
_DETERMINING = ("lightning", "monai", "numpy", "scipy", "torch")


def provenance() -> dict[str, Any]:
    """Record of the software and the machine, for `run.json`; no part of any hash.

    Returns:
        `packages` (version of each installed package), `python`, `git` (`revision` and `dirty` of
        the source checkout, None outside a checkout) and `host` (`system`, `machine`, `cpus`).
    """
    import platform

    return {
        "packages": _versions(_PACKAGES),
        "python": platform.python_version(),
        "git": _git(Path(__file__).resolve().parents[3]),
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
    }


def major_versions() -> dict[str, str]:
    """`major.minor` of the installed packages that determine numerical results, for hashes."""
    return {
        name: ".".join(version.partition("+")[0].split(".")[:2])
        for name, version in _versions(_DETERMINING).items()
    }


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(root: Path) -> dict[str, Any] | None:
    # An installed package may lie inside somebody else's repository: only its own counts.
    if not (root / ".git").exists() or not (root / "src" / "latens").is_dir():
        return None
    revision = _run_git(root, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": changes != ""}


def _run_git(root: Path, *arguments: str) -> str | None:
    import subprocess

    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
