"""`latens run`: configuration, progress, and what is printed at the end."""

from argparse import Namespace
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from latens.reporting import summary_text
from latens.store import Status
from latens.studies.configure import Tree, load_layers, pairs, preset_names, resolve
from latens.studies.expected import available_cores
from latens.studies.kinds import kind_of
from latens.studies.options import folder_of, show
from latens.studies.run import Estimate, Finished, Listener, place, run_scarcity
from latens.studies.units import Unit
from latens.types import PathLike

DEFAULTS = {
    "scarcity": {"operator": "deblurring", "data": "phantoms"},
    "semisup": {"data": "digits"},
}
"""What a study is made of where nothing else was stated, for titles."""

SHOWN = 8
"""Failures that are named in the terminal."""


class Bar:
    """Progress in the terminal; in a file, one line per tenth of the work."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task("fits and evaluations", total=None)
        self.total = self.done = 0

    def start(self, estimate: Estimate, units: int) -> None:
        """Say what is to be done and how long it may take."""
        self.total = units
        self.progress.update(self.task, total=units)
        finished = f", {estimate.finished} finished before" if estimate.finished else ""
        self.console.print(
            f"{estimate.fits} fits and {estimate.evaluations} evaluations{finished}; "
            f"at most about {_minutes(estimate.seconds)}",
            highlight=False,
        )
        self.progress.start()

    def advance(self, unit: Unit, status: str) -> None:
        """Count a finished unit; name it if its status is not a good one."""
        self.done += 1
        self.progress.advance(self.task)
        if unit.kind == "fit" and status not in ("converged", "stopped"):
            self.console.print(f"  {status}: {place(unit.cell)}", highlight=False)
        tenth = max(self.total // 10, 1)
        if not self.console.is_terminal and self.done % tenth == 0:
            self.console.print(f"  {self.done}/{self.total}", highlight=False)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.progress.stop()


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def run_title(
    names: list[str], layers: list[Tree], overrides: list[str], study: str = "scarcity"
) -> str:
    """Presets of a run, with those that it has by default where nothing else was stated."""
    stated = {key for layer in layers[1:] for key in layer}
    stated |= {key for key, _ in pairs(overrides)}
    defaults = DEFAULTS[study]
    return ", ".join([word for key, word in defaults.items() if key not in stated] + names)


def _runner(study: str) -> Callable[[Tree, PathLike, str, int, Listener], Finished]:
    if study == "scarcity":
        return run_scarcity
    from latens.studies.semisup.run import run_semisup

    return run_semisup


def run_command(options: Namespace, overrides: list[str]) -> int:
    """Run a study from command-line options.

    Returns:
        Exit code 0, also if single fits failed: they are named, and marked in every table.
    """
    names = preset_names(f"{options.preset},{options.part}")
    layers = load_layers(options.study, names, options.config)
    config = resolve(kind_of(options.study).study, layers, overrides, options.trust)
    if options.show:
        show(config)
        return 0
    out = folder_of(options, names, config)
    jobs = options.jobs if options.jobs is not None else available_cores()
    bar = Bar()
    try:
        title = run_title(names, layers, overrides, options.study)
        finished = _runner(options.study)(config, out, title, jobs, bar)
    finally:
        bar.stop()
    print(summary_text(finished.run))
    for unit, outcome in finished.failures[:SHOWN]:
        print(f"{outcome.status}: {unit}: {outcome.message}")
    if len(finished.failures) > SHOWN:
        print(f"… and {len(finished.failures) - SHOWN} more; the report lists them all")
    if any(outcome.status is Status.FAILED for _, outcome in finished.failures):
        print("To repeat what failed, delete its folder, named in brackets, and run again.")
    print(f"report: {finished.report}")
    return 0
