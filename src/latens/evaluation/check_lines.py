"""What checks found beside their metrics, in lines of text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latens.evaluation.flags import FLAGGED

if TYPE_CHECKING:
    import pandas as pd


def residual_words(facts: Mapping[str, Any]) -> str:
    """Whether the searches for the Lipschitz constants arrived at singular values.

    Args:
        facts: With `lipschitz_residual`, `lipschitz_tolerance` and `lipschitz_unsettled`.
    """
    text = f"Lipschitz constants: relative residual at most {facts['lipschitz_residual']:.2g}, "
    text += f"tolerance {facts['lipschitz_tolerance']:g}"
    if left := int(facts["lipschitz_unsettled"]):
        text += f"; above it for {left} images, where they may be far too small"
    return text


def shift_lines(shifts: "pd.DataFrame") -> list[str]:
    """How well each score tells each shift from the usual images, and what the gate flags.

    Args:
        shifts: Table SHIFTS.
    """
    lines = []
    found: Any = shifts[shifts["number"] == "auroc"]
    for row in found.to_dict("records"):
        name = f"{row['shift']} ({row['strength']:g}), {row['score']}"
        interval = f"[{row['lower']:.3g}, {row['upper']:.3g}]"
        lines.append(f"  AUROC of {name:<50} {row['value']:.3g}   {interval}")
    shares: Any = shifts[shifts["number"] == FLAGGED]
    for row in shares.to_dict("records"):
        usual = row["shift"] == "none"
        name = "usual images" if usual else f"{row['shift']} ({row['strength']:g})"
        interval = f"[{row['lower']:.3g}, {row['upper']:.3g}]"
        lines.append(f"  flagged of {name:<48} {row['value']:.3g}   {interval}")
    return lines
