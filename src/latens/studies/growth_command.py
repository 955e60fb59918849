"""`latens run growth`: configuration, progress, and what is printed at the end."""

import sys
from argparse import Namespace

from latens.errors import ConfigError
from latens.studies.configure import load_layers, preset_names, resolve
from latens.studies.growth import Growth
from latens.studies.growth_run import run_growth, table_text
from latens.studies.options import folder_of, show


def growth_command(options: Namespace, overrides: list[str]) -> int:
    """Run the study from command-line options; returns the exit code."""
    if options.jobs not in (None, 1):
        raise ConfigError(
            "jobs", "1, since forecasters are fitted one after another", options.jobs, "Drop it."
        )
    names = preset_names(f"{options.preset},{options.part}")
    layers = load_layers("growth", names, options.config)
    config = resolve(Growth, layers, overrides, options.trust)
    if options.show:
        show(config)
        return 0
    out = folder_of(options, names, config)
    run = run_growth(config, out, ", ".join(["growth", *names]), _say)
    print(table_text(run))
    print(f"report: {run.report_file}")
    print(f"forecast new patients: latens forecast {run.path} series.csv --horizon 90")
    return 0


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr)
