"""`latens run growth`: configuration, progress, and what is printed at the end."""

import sys
from argparse import Namespace
from itertools import pairwise

from latens.errors import ConfigError
from latens.studies.configure import load_layers, preset_names, presets, resolve
from latens.studies.growth import Growth
from latens.studies.growth_run import run_growth
from latens.studies.growth_tables import table_text
from latens.studies.options import folder_of, show

STAGES = ("exp1", "exp2", "exp3")
"""Stages on scans; `ode` is that of series of volumes."""
SERIES, SCANS = "growth", "growth_volumes"
"""Folders of their presets."""


def growth_command(options: Namespace, overrides: list[str]) -> int:
    """Run the study from command-line options; returns the exit code."""
    options = Namespace(**{**vars(options), "preset": ",".join(_names(options)), "part": ""})
    stage = chosen_stage(options, overrides)
    if stage is not None:
        from latens.studies.volumes.command import volumes_command

        return volumes_command(options, overrides, stage)
    if options.jobs not in (None, 1):
        raise ConfigError(
            "jobs", "1, since forecasters are fitted one after another", options.jobs, "Drop it."
        )
    names = [name for name in _names(options) if name != "ode"]
    _refuse_presets_of_scans(names)
    layers = load_layers(SERIES, names, options.config)
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


def chosen_stage(options: Namespace, overrides: list[str]) -> str | None:
    """exp1, exp2 or exp3, where `--stage` or a preset of that name says so.

    Raises:
        ConfigError: If there is no such stage, or more than one is named.
    """
    said = [second for first, second in pairwise(overrides) if first == "--stage"]
    said += [word.split("=", 1)[1] for word in overrides if word.startswith("--stage=")]
    for name in said:
        if name not in ("ode", *STAGES):
            raise ConfigError("stage", f"one of ode, {', '.join(STAGES)}", name, "Choose one.")
    said += _names(options)
    found = sorted({name for name in said if name in ("ode", *STAGES)})
    if len(found) > 1:
        raise ConfigError("stage", "one stage", " and ".join(found), "Choose one.")
    return found[0] if found and found[0] in STAGES else None


def _names(options: Namespace) -> list[str]:
    """Presets that were asked for; `growth/exp1` is `exp1`."""
    names = preset_names(f"{options.preset},{options.part}")
    return [name.removeprefix("growth/") for name in names]


def _refuse_presets_of_scans(names: list[str]) -> None:
    own, others = presets(SERIES), presets(SCANS)
    for name in names:
        if name in others and name not in own:
            raise ConfigError(
                "preset",
                f"one of the stage ode ({', '.join(own)})",
                f"{name}, one of scans",
                f"Write --preset exp1,{name}, or exp2 or exp3 with it.",
            )
        if name not in own:
            known, scans = ", ".join(["ode", *own]), ", ".join(others)
            rule = f"one of {known}; of scans, with exp1, exp2 or exp3: {scans}"
            raise ConfigError("preset", rule, name, "Choose one.")


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr)
