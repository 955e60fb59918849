"""`latens run growth --stage exp1|exp2|exp3`: configuration, progress, and what is printed."""

import sys
from argparse import Namespace

from latens.errors import ConfigError
from latens.reporting.volumes import volume_summary_text
from latens.studies.configure import load_layers, preset_names, resolve
from latens.studies.options import folder_of, show
from latens.studies.volumes.run import run_volumes
from latens.studies.volumes.study import VolumeStudy

LAYERS = "growth_volumes"
"""Folder of the presets of these stages."""
FAILED_GATE = 4


def volumes_command(options: Namespace, overrides: list[str], stage: str) -> int:
    """Run the stage from command-line options; returns the exit code."""
    if options.jobs not in (None, 1):
        raise ConfigError(
            "jobs", "1, since seeds are trained one after another", options.jobs, "Drop it."
        )
    names = preset_names(f"{options.preset},{options.part}")
    names = [stage, *(name for name in names if name != stage)]
    layers = load_layers(LAYERS, names, options.config)
    config = resolve(VolumeStudy, layers, overrides, options.trust)
    if options.show:
        show(config)
        return 0
    out = folder_of(options, names, config)
    finished = run_volumes(config, out, ", ".join(["growth", *names]), _say)
    if finished is None:
        return 0
    print(volume_summary_text(finished.metrics))
    for gate in finished.gates:
        print(f"gate: {gate}")
    print(f"report: {finished.run.report_file}")
    return FAILED_GATE if finished.collapsed else 0


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
