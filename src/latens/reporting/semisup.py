"""Views of a `semisup` run: components, latent maps, certainty, and σ against the error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latens.errors import DataError
from latens.reporting.check_data import at_largest, check_units, size_of, solver_of
from latens.reporting.figures import plain
from latens.reporting.palette import HUES, INK, MUTED, solver_style
from latens.reporting.panels import (
    Drawing,
    Panel,
    Point,
    apart,
    draw_line,
    draw_points,
    say,
)
from latens.reporting.rendering import SERIES_ID, drawing_style
from latens.reporting.results import Results, records
from latens.reporting.tiles import coloured, reduced
from latens.store import ACTIVE, OVERVIEW, read_csv, read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "views.safetensors"
ARRAYS = {
    *("images", "decoded", "usage", "tau", "latents", "explained", "component", "kind"),
    *("reliability", "sure_right", "sure_wrong", "sure_strange"),
    *("sigma", "error", "sigma_reliability", "sigma_of_class", "error_of_class"),
}
"""What a file of views holds, see `latens.evaluation.views.Views`."""

SPEAKS = 0.15
"""τ from which a component speaks for a class."""

MAPPED = 3
"""Models with pictures of their own; more would only make the page heavy."""

_COLOURS = [pair[0] for pair in HUES.values()] + ["#4b5d16", "#d4a5c9", "#1b2a6b", "#c9c46b"]
_SMALL = {"fontsize": 6.5, "color": MUTED}

Arrays = Mapping[str, NDArray]


@dataclass(frozen=True)
class Viewed:
    """A model at the largest number of labels, and the arrays behind its pictures."""

    solver: str
    n: int
    arrays: Arrays

    @property
    def varies(self) -> bool:
        """True if σ tells images apart."""
        sigma = self.arrays["sigma"]
        return bool(np.isfinite(sigma).all()) and float(np.ptp(sigma)) > 1e-9


@dataclass(frozen=True)
class ComponentRow:
    """A component of a gallery.

    Args:
        component: Its number.
        usage: Share of the test images, in per cent.
        classes: Classes that it speaks for, with τ.
        source: Data URI: what it decodes to, then the images with the largest q(c | x).
        alt: Description.
    """

    component: int
    usage: str
    classes: str
    source: str
    alt: str


def is_semisup(results: Results) -> bool:
    """Whether the run is one of `semisup`."""
    return results.run.get("study") == "semisup"


def read_overview(results: Results) -> list[dict[str, Any]]:
    """Models beside each other: rows of OVERVIEW, none where the run has no such table.

    Raises:
        DataError: If the table cannot be read.
    """
    file = results.path / "overview.csv"
    return records(read_csv(file, OVERVIEW)) if file.is_file() else []


def read_active(results: Results) -> list[dict[str, Any]]:
    """Chosen labels beside drawn ones: rows of ACTIVE, none where no label was chosen.

    Raises:
        DataError: If the table cannot be read.
    """
    if not (results.path / "tables" / f"{ACTIVE.name}.csv").is_file():
        return []
    return records(read_table(results.path / "tables", ACTIVE))


def read_views(results: Results) -> list[Viewed]:
    """Models that have views, in the order of the legend.

    Raises:
        DataError: If a file of views cannot be read.
    """
    found = []
    for unit in at_largest(check_units(results, "")):
        file = unit.folder / FILE
        if file.is_file():
            found.append(Viewed(solver_of(unit), size_of(unit), _load(file)))
    return found


def _load(file: Path) -> Arrays:
    from safetensors.numpy import load_file

    remedy = "Delete the evaluation and run again."
    try:
        found = load_file(file)
    except Exception as error:  # damaged bytes raise whatever they like
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise DataError(str(file), "arrays of views", got, remedy) from error
    if missing := sorted(ARRAYS - found.keys()):
        raise DataError(str(file), "arrays of views", f"none named {', '.join(missing)}", remedy)
    return found


def galleries(views: Sequence[Viewed]) -> dict[str, list[ComponentRow]]:
    """Component galleries by model, of the first `MAPPED` models."""
    return {view.solver: _rows(view) for view in views[:MAPPED]}


def _rows(view: Viewed) -> list[ComponentRow]:
    rows = []
    for c, share in enumerate(view.arrays["usage"]):
        tau = view.arrays["tau"][c]
        loud = [int(k) for k in np.argsort(-tau, kind="stable") if tau[k] > SPEAKS]
        classes = ", ".join(f"{k} ({tau[k]:.2f})" for k in loud) or "none"
        usage = f"{100 * share:.1f} %"
        alt = f"{view.solver}, component {c}: what it decodes to, then the images most its own"
        source = coloured(montage(view.arrays, c), "gray", 0.0, 255.0)
        rows.append(ComponentRow(c, usage, classes, source, alt))
    return rows


def montage(arrays: Arrays, component: int) -> np.ndarray:
    """What a component decodes to and its images in one row, `(H, W)`, a gap after the first."""
    tiles = [arrays["decoded"][component], *arrays["images"][component]]
    planes = [reduced(_plane(tile).astype(float)) for tile in tiles]
    height = planes[0].shape[0]
    wide, narrow = (np.full((height, width), 255.0) for width in (6, 1))
    row = [planes[0], wide]
    for plane in planes[1:]:
        row += [plane, narrow]
    return np.concatenate(row[:-1], axis=1)


def _plane(image: np.ndarray) -> np.ndarray:
    """First channel; the middle slice of a volume, and a line as a strip."""
    plane = image[0]
    while plane.ndim > 2:
        plane = plane[len(plane) // 2]
    return plane if plane.ndim == 2 else np.repeat(plane[None], 8, axis=0)


def gallery_figure(views: Sequence[Viewed]) -> "Figure | None":
    """Component gallery of the first model, for a paper."""
    from matplotlib.figure import Figure

    if not views:
        return None
    view = views[0]
    rows = _rows(view)
    strips = [montage(view.arrays, row.component) for row in rows]
    high, wide = strips[0].shape
    width = 6.4
    step = (width - 1.5) * high / wide + 0.05
    with drawing_style():
        figure = Figure(figsize=(width, step * len(rows) + 0.3))
        for place, (row, strip) in enumerate(zip(rows, strips, strict=True)):
            bottom = 1 - (step * (place + 1) + 0.25) / figure.get_figheight()
            size = ((width - 1.5) / width, (step - 0.05) / figure.get_figheight())
            ax = figure.add_axes((1.45 / width, bottom, *size))
            ax.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="auto")
            ax.set_axis_off()
            words = f"c = {row.component}, {row.usage}\nclass {row.classes}"
            ax.text(-0.02, 0.5, plain(words), ha="right", va="center", transform=ax.transAxes)
        title = f"{view.solver}, {view.n} labels: decoded component, then its images"
        figure.text(1.45 / width, 1 - 0.16 / figure.get_figheight(), plain(title), color=INK)
    return figure


def drawings(results: Results) -> list[Drawing]:
    """Figures made of panels; those for which the run has no data have none."""
    views = read_views(results)
    varying = [view for view in views if view.varies]
    return [
        _reliability(views),
        _certainty(views),
        _maps(views),
        _sigma(varying),
        _sigma_of_class(varying),
    ]


def _reliability(views: Sequence[Viewed]) -> Drawing:
    panels = []
    if views:
        words = "Share of right answers against the largest probability, for each model"
        panels.append(Panel("Reliability", words, partial(_draw_reliability, views=views)))
    caption = (
        "Share of right answers of the test images in 15 equal bins of the largest p(y | x), "
        "against its mean in the bin; bins with fewer than 5 images are left out. Above the "
        "dashed line a model is right more often than it says."
    )
    return Drawing("reliability", caption, [view.solver for view in views], panels)


def _draw_reliability(ax: "Axes", views: Sequence[Viewed]) -> None:
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, dashes=(4, 3))
    for view in views:
        share, confidence, accuracy = view.arrays["reliability"].T
        total = len(view.arrays["sure_right"]) + len(view.arrays["sure_wrong"])
        kept = share * total > 4.5
        draw_line(ax, view.solver, confidence[kept], accuracy[kept])
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_xlabel("largest probability", **_SMALL)
    say(ax, "share of right answers")


def _certainty(views: Sequence[Viewed]) -> Drawing:
    panels = [
        Panel(
            view.solver,
            f"Shares of right, wrong and strange images below a certainty, {view.solver}",
            partial(_draw_certainty, view=view),
        )
        for view in views[:MAPPED]
    ]
    caption = (
        "Share of images whose certainty max r_c · max τ_c over components lies below the value "
        "on the axis, r_c = q(c | x): rightly classified test images (solid), wrongly classified "
        "ones (dashed) and, where there are any, images of another kind (dotted). Where lines "
        "lie far apart certainty tells these images from each other."
    )
    return Drawing("certainty", caption, [view.solver for view in views[:MAPPED]], panels)


def _draw_certainty(ax: "Axes", view: Viewed) -> None:
    style, name = solver_style(view.solver), SERIES_ID + view.solver
    for key, line, word in (
        ("sure_right", "-", "right"),
        ("sure_wrong", (0, (5, 2)), "wrong"),
        ("sure_strange", (0, (1.2, 1.8)), "another kind"),
    ):
        values = np.sort(view.arrays[key])
        if not len(values):
            continue
        places = np.linspace(0, 1, min(len(values), 60))
        x = np.quantile(values, places)
        ax.plot(x, places, color=style.colour, linestyle=line, lw=1.2, gid=name, label=word)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_xlabel("certainty", **_SMALL)
    ax.legend(frameon=False, fontsize=6.5, loc="upper left", labelcolor=MUTED)
    say(ax, "share of images below")


def _maps(views: Sequence[Viewed]) -> Drawing:
    panels = []
    for view in views[:MAPPED]:
        for key, word in (("kind", "class"), ("component", "component")):
            title = f"{view.solver}, by {word}"
            words = f"Latents of test images on two principal directions, coloured by {word}"
            panels.append(Panel(title, words, partial(_draw_map, view=view, key=key)))
    caption = (
        "E[z | x] of test images on the two leading principal directions, by class and by "
        "component. Numbers stand at the medians. Latents need not separate classes: that is "
        "what components are for, and where p(z | c) is the same for all, z holds what the "
        "component leaves open."
    )
    return Drawing("latent_maps", caption, [], panels)


def _draw_map(ax: "Axes", view: Viewed, key: str) -> None:
    points, kinds = view.arrays["latents"], view.arrays[key]
    for kind in np.unique(kinds):
        x, y = points[kinds == kind].T
        colour = _COLOURS[int(kind) % len(_COLOURS)]
        ax.plot(x, y, ".", color=colour, markersize=3.2, markeredgewidth=0)
    for kind in np.unique(kinds):
        x, y = np.median(points[kinds == kind], axis=0)
        ax.text(x, y, str(kind), color=INK, fontsize=7.5, weight="bold")
    first, second = view.arrays["explained"]
    ax.set_xlabel(f"{100 * first:.0f} % of the variance", **_SMALL)
    say(ax, f"{100 * second:.0f} % of the variance")


def _sigma(views: Sequence[Viewed]) -> Drawing:
    panels = [
        Panel(
            view.solver,
            f"Error of test images against σ, {view.solver}",
            partial(_draw_sigma, view=view),
        )
        for view in views[:MAPPED]
    ]
    caption = (
        "Root mean square error of the reconstruction of each test image against the σ that the "
        "decoder states for it. On the dashed line σ is the error. The line with marks is the "
        "reliability diagram: root mean squares of both in bins of σ of equally many images; "
        "above the dashed line the error is larger than stated."
    )
    return Drawing("sigma", caption, [view.solver for view in views[:MAPPED]], panels)


def _draw_sigma(ax: "Axes", view: Viewed) -> None:
    sigma, error = view.arrays["sigma"], view.arrays["error"]
    style = solver_style(view.solver)
    ends = [min(sigma.min(), error.min()), max(sigma.max(), error.max())]
    ax.plot(ends, ends, color=MUTED, linewidth=0.8, dashes=(4, 3))
    settings = {"color": style.colour, "markersize": 3.2, "markeredgewidth": 0, "alpha": 0.3}
    ax.plot(sigma, error, ".", gid=SERIES_ID + view.solver, **settings)
    _, stated, found = view.arrays["sigma_reliability"].T
    draw_line(ax, view.solver, stated, found)
    ax.set_xlabel("σ", **_SMALL)
    say(ax, "root mean square error")


def _sigma_of_class(views: Sequence[Viewed]) -> Drawing:
    panels = []
    if views:
        words = "Mean σ of the test images of each class, for each model"
        panels.append(Panel("σ by class", words, partial(_draw_classes, views=views)))
    caption = "Mean σ of the test images of each class; small crosses are the mean error."
    return Drawing("sigma_of_class", caption, [view.solver for view in views], panels)


def _draw_classes(ax: "Axes", views: Sequence[Viewed]) -> None:
    solvers = [view.solver for view in views]
    for view in views:
        shift = apart(solvers, view.solver, 0.12)
        sigma, error = view.arrays["sigma_of_class"], view.arrays["error_of_class"]
        draw_points(ax, view.solver, [Point(k + shift, float(v)) for k, v in enumerate(sigma)])
        colour = solver_style(view.solver).colour
        places = np.arange(len(error)) + shift
        ax.plot(places, error, "x", color=colour, markersize=3.5, gid=SERIES_ID + view.solver)
    ax.set_xticks(range(len(views[0].arrays["sigma_of_class"])))
    ax.set_xlabel("class", **_SMALL)
    say(ax, "mean σ, crosses: mean error")
