"""Facts about a run in words: data, problem, versions, and how its units ended."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from latens.reporting.palette import ordered
from latens.reporting.results import Results, fit_cells, select
from latens.store import Status

Fact = tuple[str, str]
"""A name and what is said about it."""

PROBLEM_KEYS = ("problem", "operator", "noise")


def number(value: Any) -> str:
    """A quantity such as seconds or MiB for reading: three digits, thousands apart."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 100 else f"{value:.3g}"


def data_facts(results: Results) -> list[Fact]:
    """What `run.json` says about the data, one line per entry."""
    return list(flat(results.run.get("data") or {}))


def problem_facts(results: Results) -> list[Fact]:
    """Operator and noise as the configuration names them, wherever they stand in it."""
    found: list[Fact] = []
    _search(results.config_tree, found)
    return found


def packages(results: Results) -> list[Fact]:
    """Versions that the results were computed with."""
    versions = (results.run.get("provenance") or {}).get("packages") or {}
    return list(flat(versions))


def provenance(results: Results) -> list[Fact]:
    """Everything else that `run.json` says about where the results come from."""
    said = {k: v for k, v in (results.run.get("provenance") or {}).items() if k != "packages"}
    keys = ("study", "name", "created", "result_version")
    top = {k: results.run[k] for k in keys if results.run.get(k) not in (None, "")}
    return [*flat(top), *flat(said)]


def status_counts(results: Results) -> dict[str, dict[str, int]]:
    """How many fits ended how: by model, then by status word."""
    cells = fit_cells(results)
    counts: dict[str, dict[str, int]] = {}
    for name, unit in results.fits.items():
        solver = str(cells.get(name, {}).get("solver", "unknown"))
        of_solver = counts.setdefault(solver, {})
        of_solver[unit.status] = of_solver.get(unit.status, 0) + 1
    return {solver: counts[solver] for solver in ordered(counts)}


def status_words(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Status words that occur, the good ones first."""
    return [word.value for word in Status if any(word in c for c in counts.values())]


def stopped_from(results: Results) -> dict[str, int]:
    """Solver → smallest N from which on the budget ended most of its trainings."""
    found: dict[str, int] = {}
    for solver in results.solvers:
        cells = select(results.metrics, "solver", solver)
        for n in sorted({int(n) for n in cells["n"]}, reverse=True):
            share = (select(cells, "n", n)["status"] == Status.STOPPED).to_numpy().mean()
            if share <= 0.5:
                break
            found[solver] = n
    return found


def stopped_words(results: Results) -> str:
    """Whose curves are also those of the training budget; empty if nobody's."""
    sizes = ", ".join(f"{name} from N = {n} on" for name, n in stopped_from(results).items())
    return sizes and (
        f"The budget ended most trainings while validation still improved: {sizes}. There a curve "
        "is that of the budget too, and no smaller N foretells where the budget begins to bind. "
        "Raise training.max_steps."
    )


def describe(value: Any) -> str:
    """A configured object as a call: `Blur(width=2.0)`; anything else as plain text."""
    if isinstance(value, Mapping) and "class_path" in value:
        arguments = value.get("init_args") or {}
        inside = ", ".join(f"{k}={describe(v)}" for k, v in arguments.items())
        return f"{str(value['class_path']).rpartition('.')[2]}({inside})"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {describe(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(describe(v) for v in value)
    return "not given" if value is None else str(value)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[Fact]:
    """Entries of nested mappings, names joined by dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}".replace("_", " "), describe(value)


def _search(tree: Any, found: list[Fact]) -> None:
    """Collects the entries of a configuration that are named in `PROBLEM_KEYS`."""
    if not isinstance(tree, Mapping):
        return
    for key, value in tree.items():
        is_group = isinstance(value, Mapping) and "class_path" not in value
        if key in PROBLEM_KEYS and not is_group:
            found.append((str(key), describe(value)))
        elif key == "problem" and is_group:
            found.extend(flat(value))
        else:
            _search(value, found)
