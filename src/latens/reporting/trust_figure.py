"""The trust card as a figure for a paper: a word, a mark and the number in every cell."""

from typing import TYPE_CHECKING

from latens.reporting.figures import TITLE, plain
from latens.reporting.palette import INK, MUTED, RULE
from latens.reporting.rendering import drawing_style
from latens.reporting.trust import TrustCard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TONES = {"yes": "#1b6e47", "no": "#a3341a", "open": "#7d5600", "not measured": MUTED}
"""Colour of each word; the word and its mark say the same."""

CELL = (1.75, 0.52)
"""Width and height of a cell, inches."""


def trust_figure(card: TrustCard) -> "Figure":
    """Verdicts at the largest N, one row per solver.

    Args:
        card: The card of a run.

    Returns:
        A table; the reasons stand in the report and in `tables/trust.csv`.
    """
    from matplotlib.figure import Figure

    rows, questions = card.largest, card.questions
    width = 1.5 + CELL[0] * len(questions)
    height = 0.75 + CELL[1] * len(rows)
    with drawing_style():
        figure = Figure(figsize=(width, height))
        figure.patch.set_alpha(0.0)
        ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.set_axis_off()
        ax.text(0.08, 0.22, f"Trust card, N = {rows[0].n}", va="center", **TITLE)
        for column, question in enumerate(questions):
            ax.text(1.5 + CELL[0] * column, 0.58, question, va="center", fontsize=8, color=MUTED)
        for place, row in enumerate(rows):
            top = 0.75 + CELL[1] * place
            ax.plot([0.08, width - 0.08], [top, top], color=RULE, linewidth=0.6)
            middle = top + CELL[1] / 2
            ax.text(0.08, middle, plain(row.solver), va="center", fontsize=8, color=INK)
            for column, question in enumerate(questions):
                verdict = row.verdicts[question]
                left, tone = 1.5 + CELL[0] * column, TONES[verdict.word]
                word = {"va": "center", "fontsize": 8, "fontweight": "bold", "color": tone}
                ax.text(left, top + 0.18, f"{verdict.mark} {verdict.word}", **word)
                number, _, bar = verdict.text.partition(", bar")
                lines = plain(number) + (f"\nbar{bar}" if bar else "")
                small = {"va": "top", "fontsize": 5.5, "color": MUTED, "linespacing": 1.1}
                ax.text(left, top + 0.27, lines, **small)
    return figure
