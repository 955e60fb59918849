"""What speaks against a reconstruction: strange measurements, and a solver that is known to fail.

A new measurement is compared with the test images in every score that was stored for them, by the
rule of `latens.evaluation.flags`. With n test images and k scores no adjusted p-value is smaller
than k/(n + 1), or twice that on two sides: where that is above `SUSPICIOUS`, a score is flagged
beyond those of all test images, and `by_chance` says how often that happens to a usual one.

The p-values hold whatever the solver, if the new measurement is exchangeable with the test images.
Where several of these are of one subject, they know less of a new subject than their number says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latens.evaluation.flags import by_chance as flags_by_chance
from latens.evaluation.flags import compared, judge, p_values, smallest_p_values
from latens.evaluation.strangeness import image_scores
from latens.evaluation.trust import verdicts
from latens.inference import Estimate
from latens.store import TRUST, read_parquet, read_table
from latens.store.schemas import IMAGE_SCORES
from latens.studies.load import Loaded

REFUSING = ("calibrated", "consistent")
"""Questions of the trust card whose *no* refuses what the solver makes."""

Flag = dict[str, Any]
"""What is known of a measurement: its place, smallest adjusted p-value and the score that has it,
whether it is suspicious, whether the solver trusts its estimate, and all scores."""

UNSCORED = (
    "no measurement can be told from a strange one: no operator and noise are stated, and the "
    "solver is no posterior"
)


def measurement_flags(loaded: Loaded, y: Tensor, estimate: Estimate) -> list[Flag]:
    """Scores of each measurement and their places among those of the test images.

    Args:
        loaded: The solver.
        y: Measurements, `(B, *measurement_shape)`.
        estimate: What it made of them.

    Returns:
        One for each measurement; empty where nothing can be scored.
    """
    usual, found = known_scores(loaded.folder), image_scores(estimate, y, loaded.problem)
    names = compared(found, usual)
    if not names:
        return []
    p, smallest = p_values(found, usual), smallest_p_values(names, usual)  # (B, k), (k,)
    trusted = np.ones(len(y), bool)
    if estimate.trusted is not None:
        trusted = estimate.trusted.numpy(force=True)
    rows = []
    for index, own in enumerate(p):
        adjusted, marked = judge(own, smallest)
        first = min(range(len(names)), key=lambda k: (not marked[k], adjusted[k], own[k]))
        scores = [
            {
                "score": name,
                "value": _finite(found[name][index]),
                "p_value": float(own[k]),
                "p_adjusted": float(adjusted[k]),
                "suspicious": bool(marked[k]),
            }
            for k, name in enumerate(names)
        ]
        rows.append(
            {
                "measurement": index,
                "p_value": float(adjusted[first]),
                "score": names[first],
                "suspicious": bool(marked.any()),
                "trusted": bool(trusted[index]),
                "scores": scores,
            }
        )
    return rows


def known_scores(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Scores of the test images of an evaluation, `(n,)` by name."""
    table = read_parquet(folder / "scores.parquet", IMAGE_SCORES)
    return {str(name): rows["value"].to_numpy() for name, rows in table.groupby("score")}


def by_chance(loaded: Loaded, flags: Sequence[Flag]) -> float:
    """Bound of the share of usual measurements that are flagged, in [0, 1]."""
    names = [row["score"] for row in flags[0]["scores"]]
    return flags_by_chance(names, known_scores(loaded.folder))


def doubts(loaded: Loaded, flags: Sequence[Flag], promised: bool) -> list[str]:
    """Why nothing that the solver makes should be used; empty if nothing speaks against it.

    Args:
        loaded: The solver.
        flags: Those of the measurements.
        promised: Whether the intervals are conformal ones: what the card says of the posterior's
            own does not speak against them.
    """
    reasons = []
    if not loaded.outcome.usable:
        reasons.append(f"the solver is {loaded.outcome.status}: {loaded.outcome.message}")
    if loaded.note:
        reasons.append(f"the solver is {loaded.note}")
    if not flags:
        reasons.append(UNSCORED)
    for row in _card(loaded):
        if row["verdict"] != "no" or row["question"] not in REFUSING:
            continue
        if not (promised and row["question"] == "calibrated"):
            reasons.append(f"the solver is not {row['question']}{_number(row)} ({row['reason']})")
    return reasons


def refusals(flags: Sequence[Flag]) -> tuple[list[int], list[str]]:
    """Places of the measurements that should not be used whatever the solver, and why."""
    kinds = {
        "unlike the test set": [row["measurement"] for row in flags if row["suspicious"]],
        "without a trusted estimate": [row["measurement"] for row in flags if not row["trusted"]],
    }
    reasons = [
        f"measurement{'s' if len(places) > 1 else ''} {', '.join(map(str, places))} {why}"
        for why, places in kinds.items()
        if places
    ]
    return sorted(set().union(*kinds.values())), reasons


def _card(loaded: Loaded) -> list[dict[str, Any]]:
    """Rows of the trust card on this solver at its N; none without a card."""
    folder = loaded.folder.parent.parent / "tables"
    if not (folder / f"{TRUST.name}.parquet").is_file():
        return []
    return list(verdicts(read_table(folder, TRUST), loaded.name, loaded.n))


def card_lines(loaded: Loaded) -> list[str]:
    """Verdicts of the trust card on this solver at its N, a line each; none without a card."""
    lines = []
    for row in _card(loaded):
        if row["verdict"] in ("yes", "no", "open"):
            reason = f" ({row['reason']})" if row["reason"] else ""
            lines.append(f"  {row['question']}? {row['verdict']}{_number(row)}{reason}")
    return lines


def _number(row: dict[str, Any]) -> str:
    return "" if np.isnan(row["value"]) else f": {row['metric']} {row['value']:.3g}"


def flag_lines(loaded: Loaded, flags: Sequence[Flag]) -> list[str]:
    """What the terminal says of each measurement, and of all of them."""
    if not flags:
        return [f"  not compared with the test set: {UNSCORED}"]
    lines = [] if loaded.problem else ["  data residual not checked: no operator is stated"]
    lines += [_line(row) for row in flags]
    count, share = sum(row["suspicious"] for row in flags), by_chance(loaded, flags)
    usual = f"of {len(flags)} usual ones at most {share * len(flags):.2g} would be, on average"
    return [*lines, f"  unlike the test set: {count} of {len(flags)}; {usual}"]


def _line(row: Flag) -> str:
    by_name = {entry["score"]: entry for entry in row["scores"]}
    shown = [name for name in dict.fromkeys(("residual", row["score"])) if name in by_name]
    numbers = [f"{_WORDS.get(name, name)} = {_text(by_name[name]['value'])}" for name in shown]
    text = f"  measurement {row['measurement']}: {', '.join(numbers)}, p = {row['p_value']:.3g}"
    if len(row["scores"]) > 1:
        text += f" in {row['score']}, of {len(row['scores'])} scores"
    if row["suspicious"]:
        strange = [entry["score"] for entry in row["scores"] if entry["suspicious"]]
        text += f"  ← {', '.join(strange)} unlike the test set: do not trust the interval"
    if not row["trusted"]:
        text += "  ← the solver does not trust its estimate"
    return text


_WORDS = {"residual": "data residual χ²/m"}


def _finite(value: float) -> float | None:
    """For JSON, which has no infinity."""
    return float(value) if np.isfinite(value) else None


def _text(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.3g}"
