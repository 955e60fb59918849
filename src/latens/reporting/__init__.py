"""Figures, tables and the HTML report of a run; reads files alone and needs no torch."""

from latens.reporting.figures import learning_curves, training_history
from latens.reporting.gallery import Examples, choose_examples, examples
from latens.reporting.html import write_figures, write_report
from latens.reporting.palette import SolverStyle, solver_style
from latens.reporting.results import Definition, Results, Unit, read_results
from latens.reporting.tables import Cell, SummaryRow, summary, summary_text

__all__ = [
    "Cell",
    "Definition",
    "Examples",
    "Results",
    "SolverStyle",
    "SummaryRow",
    "Unit",
    "choose_examples",
    "examples",
    "learning_curves",
    "read_results",
    "solver_style",
    "summary",
    "summary_text",
    "training_history",
    "write_figures",
    "write_report",
]
