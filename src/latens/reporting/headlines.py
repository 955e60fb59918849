"""The answers of a report in sentences, made from its numbers and from nothing else.

The wording claims no more than the intervals do: an interval that contains a target does not
prove that the target is met, and overlapping intervals rank nobody.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latens.reporting.facts import stopped_words
from latens.reporting.figures import SAMPLES
from latens.reporting.results import Definition, Results, records, select
from latens.reporting.tables import format_interval, format_value, left_out, meets_target

HEADLINED = (
    *("coverage_pixel", "coverage_region", "coverage_principal", "spread_skill"),
    *("gap_spread", "gap_coverage_region"),
)
"""Targets that the first page speaks about; the summary and the curves show the rest."""


QUESTION = "How much data does a learned inverse solver need before you can trust it?"
QUESTIONS = {
    "semisup": "What can few labels do, and does the model know what it does not know?",
}
"""What a study asks, where it is not `QUESTION`."""

COUNTED = {"semisup": "labels"}
"""What N counts, where it is not training samples."""


@dataclass(frozen=True)
class Headline:
    """A finding.

    Args:
        lead: What it is about, a few words.
        text: One to three sentences.
    """

    lead: str
    text: str


def question(results: Results) -> str:
    """The question of the study, for the head of the page."""
    return QUESTIONS.get(str(results.run.get("study")), QUESTION)


def counted(results: Results) -> str:
    """What N counts."""
    return COUNTED.get(str(results.run.get("study")), SAMPLES)


def asked(results: Results) -> str:
    """One paragraph: what was measured, on what, with how many repetitions."""
    c = results.curves
    if c.empty:
        return "The run holds no learning curves yet, so nothing can be answered."
    data = results.run.get("data") or {}
    name = f" on {data['name']}" if data.get("name") else ""
    sizes = results.sizes
    span = (
        _n(sizes[0])
        if len(sizes) == 1
        else f"{len(sizes)} sizes from {_n(sizes[0])} to {sizes[-1]}"
    )
    seeds = max(int(count) for count in c["data_seeds"])
    fits = max(int(r["fits"]) + int(r["excluded"]) for r in records(c))
    images = max(images_of(results).values(), default=0)
    test = f", each evaluated on {_plural(images, 'test image')}" if images else ""
    if fewer := on_fewer_images(results):
        test += f", but {_list(fewer)} on fewer"
    count = len(results.solvers)
    done = f"{count} solvers were compared" if count > 1 else "One solver was evaluated"
    if sizes == [0]:
        return f"{done}{name}, on {_plural(images, 'test image')}."
    return (
        f"{done}{name} at {span} {counted(results)}, with "
        f"up to {_plural(seeds, 'data seed')} and {_plural(fits, 'cell')} per size{test}."
    )


def answers(results: Results) -> list[Headline]:
    """Findings in the order of the definitions: quality at the largest N, then targets."""
    if not results.sizes:
        return []
    found = []
    definitions = [results.definitions[m] for m in results.measured]
    ranked = [d for d in definitions if d.better in {"lower", "higher"}]
    aimed = [d for d in definitions if math.isfinite(d.aim)]
    spoken = [d for d in aimed if d.metric in HEADLINED] or aimed
    found += [_ranking(results, d) for d in ranked[:2]]
    found += [_target(results, d) for d in spoken]
    return [h for h in found if h is not None]


def caveats(results: Results) -> list[str]:
    """What a reader must know before using the answers."""
    notes = []
    if len(results.sizes) == 1:
        kind = "training size" if counted(results) == SAMPLES else f"number of {counted(results)}"
        notes.append(f"Only one {kind} was measured, so nothing is said about other N.")
    bad = left_out(results)
    if bad:
        words = _list(
            [f"{sum(f.status == s for f in bad)} {s}" for s in sorted({f.status for f in bad})]
        )
        verb = "is" if len(bad) == 1 else "are"
        notes.append(
            f"{len(bad)} of {_plural(len(results.fits), 'fit')} {verb} left out of every mean "
            f"({words}); see “Status and failures”."
        )
    if stopped := stopped_words(results):
        notes.append(stopped)
    notes += [f"{solver}: {note}." for solver, note in results.notes.items()]
    if fewer := on_fewer_images(results):
        counts = images_of(results)
        each = _list([f"{solver} ({counts[solver]})" for solver in fewer])
        notes.append(
            f"Evaluated on fewer test images than the others: {each}. Their means are of those "
            "alone, so they are left out of the comparisons; compare them only with each other."
        )
    ends = results.curves[["lower", "upper"]].to_numpy(float)
    if len(ends) and np.isnan(ends).any():
        notes.append("Means without an interval are compared with no target and with no other.")
    if math.isfinite(results.level):
        notes.append(
            f"Brackets are {100 * results.level:g}\u00a0% intervals. An interval that contains a "
            "target is compatible with it; it does not prove it, least of all when it is wide."
        )
    return notes


def images_of(results: Results) -> dict[str, int]:
    """Most test images that any number of a solver is of."""
    found: dict[str, int] = {}
    for row in records(results.metrics):
        solver, count = str(row["solver"]), int(row["images"])
        found[solver] = max(found.get(solver, 0), count)
    return found


def on_fewer_images(results: Results) -> list[str]:
    """Solvers that were evaluated on fewer test images than others, in the order of the legend."""
    counts = images_of(results)
    most = max(counts.values(), default=0)
    return [solver for solver in results.solvers if counts.get(solver, most) < most]


def _ranking(results: Results, d: Definition) -> Headline | None:
    """Who is best at the largest N, and whose interval overlaps with the best."""
    n = results.sizes[-1]
    fewer = on_fewer_images(results)
    cells = {s: results.cell(s, n, d.metric) for s in results.solvers if s not in fewer}
    values = {
        s: (float(r["mean"]), float(r["lower"]), float(r["upper"]))
        for s, r in cells.items()
        if r is not None and math.isfinite(r["mean"])
    }
    if not values:
        return None
    pick = min if d.better == "lower" else max
    best = pick(values, key=lambda s: values[s][0])
    low, high = values[best][1:]
    known = {
        s: v for s, v in values.items() if s != best and math.isfinite(v[1] + v[2] + low + high)
    }
    overlap = [s for s, v in known.items() if v[1] <= high and v[2] >= low]
    apart = [s for s in known if s not in overlap]
    text = f"At {_n(n)} the {'lowest' if d.better == 'lower' else 'highest'} mean is "
    text += f"{_number(*values[best], d)}, by {best}."
    if overlap:
        many = len(overlap) > 1
        text += f" The {'intervals' if many else 'interval'} of {_list(overlap)} "
        text += f"{'overlap' if many else 'overlaps'} with it."
    if apart and overlap:
        many = len(apart) > 1
        text += f" {'Those' if many else 'That'} of {_list(apart)} {'do' if many else 'does'} not."
    elif apart:
        text += " No other interval overlaps with it."
    return Headline(d.title, text)


def _target(results: Results, d: Definition) -> Headline | None:
    """At which N the interval of each solver first meets the target, or that it never does."""
    lasting: dict[int, list[str]] = {}
    passing: list[str] = []
    never: list[str] = []
    for solver in results.solvers:
        points = _points(results, solver, d)
        if not points:
            continue
        met = [n for n, _, lower, upper in points if meets_target(d, lower, upper)]
        sizes = [point[0] for point in points]
        if not met:
            never.append(f"{solver} ({_number(*points[-1][1:], d)} at {_n(sizes[-1])})")
        elif all(n in met for n in sizes if n >= met[0]):
            lasting.setdefault(met[0], []).append(solver)
        else:
            passing.append(f"for {solver} at N = {_list([str(n) for n in met])} only")
    if not lasting and not passing and not never:
        return None
    goal, last = f"{d.aim:g} {d.unit}".strip(), results.sizes[-1]
    lead = f"{d.title}, target {goal}"
    parts = [
        f"from {_n(n)} on for {_list(who)}"
        if n < last
        else f"at {_n(n)}, the largest size, for {_list(who)}"
        for n, who in sorted(lasting.items())
    ]
    parts += passing
    if not parts:
        return Headline(lead, f"At no measured size for any solver: {_list(never)}.")
    text = f"The interval contains {goal} {_list(parts)}."
    if never:
        text += f" At no measured size for {_list(never, 'or')}."
    return Headline(lead, text)


def _points(results: Results, solver: str, d: Definition) -> list[tuple[int, float, float, float]]:
    """N, mean, lower, upper where all are finite, by N."""
    c = results.curves
    rows = select(select(c, "solver", solver), "metric", d.metric).sort_values("n")
    points = [
        (int(r["n"]), float(r["mean"]), float(r["lower"]), float(r["upper"]))
        for r in records(rows)
    ]
    return [p for p in points if all(math.isfinite(v) for v in p)]


def _number(value: float, lower: float, upper: float, d: Definition) -> str:
    text = f"{format_value(value, lower, upper)} {format_interval(value, lower, upper)}".strip()
    return f"{text} {d.unit}".strip()


def _n(size: int) -> str:
    """A size that no line break tears."""
    return f"N\u00a0=\u00a0{size}"


def _list(words: Sequence[str], last: str = "and") -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
