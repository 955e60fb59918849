"""Figures, tables and the HTML report of a run; reads files alone and needs no torch."""

from latens.reporting.figures import learning_curves, training_history
from latens.reporting.gallery import Examples, choose_examples, examples
from latens.reporting.html import write_figures, write_report
from latens.reporting.palette import SolverStyle, solver_style
from latens.reporting.plan import Plan, metrics_mark, read_plan
from latens.reporting.plan_text import back_test_text, plan_text
from latens.reporting.results import Definition, Results, Unit, read_results
from latens.reporting.tables import Cell, SummaryRow, summary, summary_text

__all__ = [
    "Cell",
    "Definition",
    "Examples",
    "Plan",
    "Results",
    "SolverStyle",
    "SummaryRow",
    "Unit",
    "back_test_text",
    "choose_examples",
    "examples",
    "learning_curves",
    "metrics_mark",
    "plan_text",
    "read_plan",
    "read_results",
    "solver_style",
    "summary",
    "summary_text",
    "training_history",
    "write_figures",
    "write_report",
]
