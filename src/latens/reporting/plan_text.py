"""The plan and its back-test in the terminal, without colour."""

import io
import math
from typing import TYPE_CHECKING

from latens.reporting.facts import stopped_words
from latens.reporting.plan import PlanRow, Verdict, format_size, read_plan
from latens.reporting.results import read_results, records
from latens.store import RunFolder

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 110


def plan_text(run: RunFolder, width: int = WIDTH) -> str:
    """At which N each bar is met, one table per bar.

    Args:
        run: The run folder.
        width: Columns of the terminal, characters.

    Returns:
        The tables, what the interval means, and how far it reaches.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    results, buffer = read_results(run), io.StringIO()
    plan = read_plan(run, results)
    if not plan.bars:
        return "There is no plan yet.\n"
    console = Console(file=buffer, width=width, color_system=None, highlight=False)
    for bar in plan.bars:
        title = f"{bar.metric.title} {bar.text}"
        table = Table(
            box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", padding=(0, 1, 0, 0)
        )
        table.add_column("solver", no_wrap=True)
        table.add_column("met from N", justify="right", no_wrap=True)
        table.add_column(f"{100 * plan.level:g} % interval", justify="right", no_wrap=True)
        table.add_column("met now", justify="right", no_wrap=True)
        table.add_column("law", no_wrap=True)
        table.add_column("")
        for row in bar.rows:
            table.add_row(*(Text(part) for part in _parts(row)))
        console.print(table)
    for line in ratio_lines(plan.ratios):
        console.print(line, markup=False)
    if plan.horizon:
        console.print(
            f"“Met now” is the probability at the largest size. No N beyond {plan.horizon} is "
            "named: what lies further is not said.",
            markup=False,
        )
    if stopped := stopped_words(results):
        console.print(stopped, markup=False)
    return buffer.getvalue()


def ratio_lines(ratios: "pd.DataFrame") -> list[str]:
    """Whether calibration and stability come at the N of accuracy, a line for each pair."""
    lines = []
    for row in records(ratios):
        number = format_size(float(row["ratio"])) if math.isfinite(row["ratio"]) else "not known"
        ends = " … ".join(format_size(float(row[end])) for end in ("lower", "upper"))
        lines.append(
            f"{row['solver']}: N of {row['bar']} over N of {row['against']} {number} "
            f"({100 * float(row['level']):g} % interval {ends}); later with probability "
            f"{float(row['later']):.2f}, sooner {float(row['sooner']):.2f}"
        )
    return lines


def back_test_text(run: RunFolder) -> str:
    """What the back-test of a run says, in two or three lines."""
    plan = read_plan(run, read_results(run))
    if plan.verdict is None:
        tried = f" of {len(plan.tests)} targets" if len(plan.tests) else ""
        return f"Back-test: the whole sweep finds the N of none{tried}, so nothing is compared.\n"
    return f"Back-test: {back_test_words(plan.verdict)}\n"


def back_test_words(verdict: Verdict) -> str:
    """The outcome of a back-test in sentences."""
    width = (
        f"the median spans {verdict.octaves:.1f} octaves"
        if math.isfinite(verdict.octaves)
        else "most are open above"
    )
    ratio = (
        f"off by a factor of {2**verdict.ratio:.2g} in the median (|log₂| = {verdict.ratio:.2f})"
        if math.isfinite(verdict.ratio)
        else "beyond the horizon in the median"
    )
    return (
        f"from the smallest quarter of the sizes alone, {verdict.contained:.0%} of the "
        f"{100 * verdict.level:g} % intervals contain the N that all sizes find "
        f"({verdict.targets} targets, of {verdict.all} tried). Of the intervals {width}; "
        f"{verdict.bounded:.0%} have an upper end. The N foretold is {ratio}."
    )


def _parts(row: PlanRow) -> tuple[str, str, str, str, str, str]:
    interval = row.size.interval.strip("[]").replace(", ", " … ")
    return row.solver, row.size.text, interval, row.met.text, row.law, row.note
