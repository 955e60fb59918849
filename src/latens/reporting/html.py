"""The report: one HTML file that needs no network, and whose policy allows none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latens.reporting import awareness, calibration, checks, facts, headlines, tables
from latens.reporting.figures import learning_curve, learning_curves, training_history
from latens.reporting.gallery import choose_examples, examples
from latens.reporting.growth import write_growth_figures, write_growth_report
from latens.reporting.page import TEMPLATES, security_policy, style_sheet, templates
from latens.reporting.palette import MARKER_PATHS, SolverStyle, solver_style
from latens.reporting.panels import panel_figure, paper_figure
from latens.reporting.pictures import PictureSet, picture_figure, strips
from latens.reporting.plan import Plan, read_plan
from latens.reporting.plan_figure import plan_panel
from latens.reporting.plan_text import back_test_words, ratio_lines
from latens.reporting.rendering import figure_pdf, figure_svg, inline_svg
from latens.reporting.results import Definition, Results, read_histories, read_results
from latens.reporting.sections import drawings, picture_sets
from latens.reporting.semisup import (
    galleries,
    gallery_figure,
    is_semisup,
    read_active,
    read_overview,
    read_views,
)
from latens.reporting.tiles import gallery
from latens.reporting.trust import read_trust
from latens.reporting.trust_figure import trust_figure
from latens.reporting.volumes import write_volume_figures, write_volume_report
from latens.store import OVERVIEW_METRICS, RunFolder, write_bytes, write_text


@dataclass(frozen=True)
class Series:
    """A solver as the page names it.

    Args:
        name: Name in the tables.
        index: Number of its colour on this page.
        style: How it is drawn.
        kind: `posterior`, `point` or `unknown`.
        note: Remark, for example "not a posterior".
    """

    name: str
    index: int
    style: SolverStyle
    kind: str
    note: str

    @property
    def marker(self) -> str:
        """Outline of its marker, an SVG path."""
        return MARKER_PATHS[self.style.marker]


@dataclass(frozen=True)
class Panel:
    """Learning curves of one metric."""

    definition: Definition
    svg: Any


@dataclass(frozen=True)
class Figure:
    """Panels of a deep check: titles and inline pictures, with one caption."""

    panels: list[tuple[str, Any]]
    caption: str


@dataclass(frozen=True)
class Shown:
    """Pictures of a deep check that fit the page.

    Args:
        pictures: All of them.
        images: By test image, strips of tiles.
    """

    pictures: PictureSet
    images: Mapping[int, Any]


def write_report(run: RunFolder) -> Path:
    """Writes `report.html` into the run folder.

    Whatever the run lacks is said in the report instead of being left out silently.

    Args:
        run: The run folder, finished or not.

    Returns:
        Path of the report; at most 10 MB, the same bytes for the same folder.

    Raises:
        DataError: If a file of the run cannot be read, or the report cannot be written.
    """
    if _is_growth(run):
        return write_volume_report(run) if _of_scans(run) else write_growth_report(run)
    results = read_results(run)
    return write_text(run.report_file, render(results))


def _is_growth(run: RunFolder) -> bool:
    return (run.path / "run.json").is_file() and run.description["study"] == "growth"


def _of_scans(run: RunFolder) -> bool:
    return run.description["config"].get("stage", "ode") != "ode"


def write_figures(run: RunFolder) -> list[Path]:
    """Writes every figure that the run allows as PDF and SVG into `figures/`.

    Of the reconstructions, those at the smallest and the largest N.

    Args:
        run: The run folder.

    Returns:
        Paths of the files, none for figures that lack data.

    Raises:
        DataError: If a file of the run cannot be read, or a figure cannot be written.
    """
    if _is_growth(run):
        return write_volume_figures(run) if _of_scans(run) else write_growth_figures(run)
    results = read_results(run)
    drawn: dict[str, Any] = {}
    if results.measured:
        drawn["learning_curves"] = learning_curves(
            results.curves,
            results.scaling_band,
            results.definitions,
            results.measured,
            results.notes,
            headlines.counted(results),
        )
    chosen = choose_examples(results)
    ends = {n for n in chosen if n in (min(chosen), max(chosen))}
    drawn |= {f"examples_n{n}": examples(chosen[n]) for n in sorted(ends)}
    histories = read_histories(results)
    if histories:
        drawn["training_history"] = training_history(histories, results.notes)
    drawn |= {d.name: paper_figure(d, results.notes) for d in drawings(results) if d.panels}
    drawn |= {pictures.name: picture_figure(pictures) for pictures in picture_sets(results)}
    if is_semisup(results) and (components := gallery_figure(read_views(results))):
        drawn["components"] = components
    if heat := awareness.heat_tables(results):
        drawn["auroc"] = awareness.heat_figure(heat)
    if card := read_trust(results):
        drawn["trust_card"] = trust_figure(card)
    folder, written = run.figures, []
    folder.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        written.append(write_bytes(folder / f"{name}.pdf", figure_pdf(figure)))
        written.append(write_bytes(folder / f"{name}.svg", figure_svg(figure)))
    return written


def render(results: Results) -> str:
    """The report as text, in one HTML page."""
    from markupsafe import Markup

    series = [
        Series(name, i, solver_style(name), results.kind(name), results.note(name))
        for i, name in enumerate(results.solvers)
    ]
    style, statuses = _style(series), facts.status_counts(results)
    script = (TEMPLATES / "report.js").read_text("utf-8")
    environment = templates()
    environment.filters["number"] = facts.number
    environment.filters["finite"] = math.isfinite
    environment.filters["pick"] = lambda names, mapping: [mapping[name] for name in names]
    plan = read_plan(RunFolder(results.path), results)
    page = environment.get_template("report.html.j2").render(
        results=results,
        plan=plan,
        plan_panels=_plan_panels(results, plan),
        back_test=back_test_words(plan.verdict) if plan.verdict else "",
        plan_ratios=ratio_lines(plan.ratios),
        series={s.name: s for s in series},
        style=Markup(style),
        script=Markup(script),
        policy=security_policy(style, script),
        few_labels=is_semisup(results),
        galleries=galleries(read_views(results)) if is_semisup(results) else {},
        overview=read_overview(results) if is_semisup(results) else [],
        active=read_active(results) if is_semisup(results) else [],
        compared=[m for m in OVERVIEW_METRICS if m in results.definitions],
        counted=headlines.counted(results),
        question=headlines.question(results),
        asked=headlines.asked(results),
        answers=headlines.answers(results),
        caveats=headlines.caveats(results),
        summaries={n: tables.summary(results, n) for n in results.sizes},
        scaling=tables.scaling_rows(results),
        calibration=checks.calibration_rows(results),
        p_values=calibration.p_value_tables(results),
        power=checks.power_table(results),
        heat=awareness.heat_tables(results),
        scores=awareness.SCORES,
        slopes=checks.slope_rows(results),
        transfers=checks.transfer_rows(results),
        shifts=checks.shift_table(results),
        detection=checks.detection_table(results),
        selection=checks.selection_table(results),
        trust=read_trust(results),
        failures=tables.failures(results),
        statuses=statuses,
        words=facts.status_words(statuses),
        cost=tables.cost_rows(results),
        gallery=gallery(choose_examples(results)),
        data=facts.data_facts(results),
        problem=facts.problem_facts(results),
        packages=facts.packages(results),
        provenance=facts.provenance(results),
        **_pictures(results),
    )
    return page.replace("\r\n", "\n")


def _pictures(results: Results) -> Mapping[str, Any]:
    """Inline figures; their markup was escaped when it was made."""
    from markupsafe import Markup

    panels, counted = {}, headlines.counted(results)
    for i, metric in enumerate(results.measured):
        definition = results.definitions[metric]
        figure = learning_curve(
            results.curves, results.scaling_band, definition, results.solvers, counted
        )
        words = f"{definition.label} against the number of {counted}, for each solver"
        panels[metric] = Panel(definition, Markup(inline_svg(figure, f"m{i}", words)))
    histories = read_histories(results)
    words = "Training history of one fit per solver at the largest N"
    drawn = training_history(histories, results.notes) if histories else None
    history = Markup(inline_svg(drawn, "hist", words)) if drawn else None
    shown = {p.name: Shown(p, strips(p)) for p in picture_sets(results)}
    return {"panels": panels, "history": history, "figures": _figures(results), "shown": shown}


def _figures(results: Results) -> Mapping[str, Figure]:
    """Inline figures of the deep checks, by name."""
    from markupsafe import Markup

    found = {}
    for i, drawing in enumerate(drawings(results)):
        panels = [
            (panel.title, Markup(inline_svg(panel_figure(panel), f"f{i}x{j}", panel.description)))
            for j, panel in enumerate(drawing.panels)
        ]
        found[drawing.name] = Figure(panels, drawing.caption)
    return found


def _plan_panels(results: Results, plan: Plan) -> Mapping[str, Any]:
    """Inline figures of the bars, by bar."""
    from markupsafe import Markup

    panels = {}
    for i, bar in enumerate(plan.bars):
        figure = plan_panel(results.curves, plan.band, bar, results.solvers)
        words = f"{bar.metric.label} of each solver up to the horizon, and the bar, {bar.text}"
        panels[bar.bar] = Markup(inline_svg(figure, f"p{i}", words))
    return panels


def _style(series: list[Series]) -> str:
    """Style sheet of the page with the colours of its solvers."""
    light = "".join(f"--c{s.index}:{s.style.colour};" for s in series)
    dark = "".join(f"--c{s.index}:{s.style.dark};" for s in series)
    rules = [
        f":root{{{light}}}",
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}",
    ]
    for s in series:
        variable = f"var(--c{s.index})"
        rules.append(f'.plot [stroke="{s.style.colour}"]{{stroke:{variable}}}')
        rules.append(f'.plot [fill="{s.style.colour}"]{{fill:{variable}}}')
        rules.append(f".c{s.index}{{--series:{variable}}}")
    return style_sheet() + "\n".join(dict.fromkeys(rules)) + "\n"
