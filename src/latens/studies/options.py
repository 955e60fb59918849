"""What the command of every study does with its options."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from latens.store import content_hash


def show(config: dict[str, Any]) -> None:
    """Print a resolved configuration as YAML."""
    import yaml

    sys.stdout.write(yaml.safe_dump(config, sort_keys=False, default_flow_style=None))


def folder_of(options: Namespace, names: list[str], config: dict[str, Any]) -> Path:
    """Run folder that was asked for, or one named by study, presets and configuration."""
    if options.out:
        return Path(options.out)
    return Path("runs") / "-".join([options.study, *names, content_hash(config, 8)])
