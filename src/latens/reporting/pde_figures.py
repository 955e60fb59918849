"""Figures of posteriors of fields: what they say, a closer look, and ranks of truths."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from latens.reporting.palette import INK, MUTED, RULE, solver_style
from latens.reporting.ranks import RankCurve, draw_ranks
from latens.reporting.rendering import drawing_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arrays = Mapping[str, np.ndarray]
"""Arrays of one posterior; see `latens.studies.pde.outputs`."""


def field_figure(truth: np.ndarray | None, found: Arrays, title: str) -> "Figure":
    """Fields of a posterior: images on the square, lines on the ring.

    Args:
        truth: `(k, 1, *grid)`, or None where nobody knows it.
        found: Arrays of the posterior; `map` may be among them.
        title: Heading.
    """
    return (_images if found["mean"].ndim == 4 else _lines)(truth, found, title)


def _images(truth: np.ndarray | None, found: Arrays, title: str) -> "Figure":
    from matplotlib.figure import Figure

    names = ["mean", "lower", "upper", "std"]
    if "map" in found:
        names.insert(0, "map")
    if truth is not None:
        names = ["truth", *names, "|error|"]
    count = len(found["mean"])
    with drawing_style():
        figure = Figure(figsize=(1.45 * len(names), 1.5 * count + 0.35), layout="constrained")
        grid = figure.subplots(count, len(names), squeeze=False)
        for k, row in enumerate(grid):
            shown = {name: found[name][k, 0] for name in names if name in found}
            if truth is not None:
                shown["truth"] = truth[k, 0]
                shown["|error|"] = np.abs(shown["mean"] - shown["truth"])
            spread = max(shown["std"].max(), 1e-12)
            if truth is not None:
                spread = max(spread, shown["|error|"].max())
            levels = shown["mean"] if truth is None else shown["truth"]
            for ax, name in zip(row, names, strict=True):
                wide = name in ("std", "|error|")
                _image(ax, shown[name], *((0, spread) if wide else _range(levels)), wide)
                if k == 0:
                    ax.set_title(_WORDS.get(name, name), fontsize=8, color=INK)
            row[0].set_ylabel("{:.3g} … {:.3g}".format(*_range(levels)), fontsize=7, color=MUTED)
            row[names.index("std")].set_xlabel(f"0 … {spread:.2g}", fontsize=7, color=MUTED)
        figure.suptitle(title, fontsize=9, fontweight="bold", color=INK)
    return figure


_WORDS = {"lower": "2.5 %", "upper": "97.5 %", "map": "MAP"}


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1e-12


def _image(ax: "Axes", picture: np.ndarray, low: float, high: float, spread: bool) -> None:
    ax.imshow(picture, origin="lower", cmap="magma" if spread else "viridis", vmin=low, vmax=high)
    ax.set_xticks([])
    ax.set_yticks([])


def _lines(truth: np.ndarray | None, found: Arrays, title: str) -> "Figure":
    from matplotlib.figure import Figure

    colour = solver_style(title).colour
    count = len(found["mean"])
    x = np.arange(found["mean"].shape[-1]) / found["mean"].shape[-1]
    with drawing_style():
        figure = Figure(figsize=(9, 2.2 * ((count + 1) // 2)), layout="constrained")
        axes = figure.subplots((count + 1) // 2, min(2, count), squeeze=False).ravel()
        for ax in axes[count:]:
            ax.set_axis_off()
        for k, ax in enumerate(axes[:count]):
            band = found["lower"][k, 0], found["upper"][k, 0]
            ax.fill_between(x, *band, color=colour, alpha=0.25, lw=0)
            for draw in found["draws"][:2, k, 0]:
                ax.plot(x, draw, color=colour, lw=0.5, alpha=0.6)
            ax.plot(x, found["mean"][k, 0], color=colour, lw=1.2)
            if "map" in found:
                ax.plot(x, found["map"][k, 0], color=MUTED, lw=0.8, ls=":")
            if truth is not None:
                ax.plot(x, truth[k, 0], color=INK, lw=0.9, ls="--")
        words = "mean, 95 % band, two draws" + ("; MAP dotted" if "map" in found else "")
        known = "; truth dashed" if truth is not None else ""
        figure.suptitle(f"{title}: {words}{known}", fontsize=9)
    return figure


def closer_figure(truth: np.ndarray | None, found: Arrays, title: str, field: int = 0) -> "Figure":
    """One field closer: draws, marginals and correlations at three points, readings foretold.

    Args:
        truth: `(k, 1, *grid)`, or None.
        found: Arrays of the posterior.
        title: Heading.
        field: Which of the fields.
    """
    from matplotlib.figure import Figure

    square = found["mean"].ndim == 4
    draws, points = found["draws"][:, field, 0], found["points"]

    with drawing_style():
        figure = Figure(figsize=(9.5, 5.4) if square else (11, 4.8), layout="constrained")
        grid = figure.add_gridspec(3 if square else 2, 24)
        if square:
            low, high = _range(found["mean"][field] if truth is None else truth[field])
            each = 24 // len(draws)
            for place, draw in enumerate(draws):
                ax = figure.add_subplot(grid[0, place * each : (place + 1) * each])
                _image(ax, draw, low, high, False)
                ax.set_title(f"draw {place + 1}", fontsize=7, color=INK)
        upper = int(square)
        for place, point in enumerate(points):
            cells = slice(4 * place, 4 * place + 4)
            ax = figure.add_subplot(grid[upper, cells])
            _marginal(ax, found["marginals"][:, field, place], truth, field, int(point), place)
            cells = slice(12 + 4 * place, 16 + 4 * place)
            ax = figure.add_subplot(grid[upper, cells])
            _correlation(ax, found["correlation"][field, place], int(point), place)
        ax = figure.add_subplot(grid[upper + 1, :])
        _foretold(ax, found["predicted"][:, field], found["readings"][field])
        figure.suptitle(f"{title}, one field closer", fontsize=9, fontweight="bold", color=INK)

    return figure


_LETTERS = "ABC"


def _marginal(
    ax: "Axes",
    values: np.ndarray,
    truth: np.ndarray | None,
    field: int,
    point: int,
    place: int,
) -> None:
    bins = min(30, max(8, len(values) // 10))
    ax.hist(values, bins=bins, color=RULE, edgecolor=MUTED, linewidth=0.4)
    if truth is not None:
        ax.axvline(truth[field].ravel()[point], color=INK, lw=1, ls="--")
    ax.set_yticks([])
    ax.tick_params(labelsize=6)
    ax.locator_params(axis="x", nbins=2)
    dashed = ", truth dashed" if truth is not None and place == 0 else ""
    ax.set_title(f"a at {_LETTERS[place]}{dashed}", fontsize=7, color=INK)


def _correlation(ax: "Axes", values: np.ndarray, point: int, place: int) -> None:
    if values.ndim == 1:
        x = np.arange(len(values)) / len(values)
        ax.plot(x, values, color=INK, lw=1)
        ax.axvline(x[point], color=MUTED, lw=0.8, ls=":")
        ax.set_ylim(-1.05, 1.05)
        ax.set_xticks([0, 1])
        ax.set_yticks([-1, 0, 1] if place == 0 else [])
        ax.tick_params(labelsize=6)
    else:
        ax.imshow(values, origin="lower", cmap="RdBu_r", vmin=-1, vmax=1)
        row, column = divmod(point, values.shape[1])
        ax.plot(column, row, marker="+", color=INK, ms=6, mew=1)
        ax.set_xticks([])
        ax.set_yticks([])
    ax.set_title(f"correlation with {_LETTERS[place]}", fontsize=7, color=INK)


def _foretold(ax: "Axes", predicted: np.ndarray, readings: np.ndarray) -> None:
    """Readings less the median that the posterior foretells, with its 95 % interval."""
    lower, median, upper = predicted
    at = np.arange(len(readings))
    if len(at) > _MOST:
        at = at[:: -(-len(at) // _MOST)]
    ax.fill_between(at, (lower - median)[at], (upper - median)[at], color=RULE, lw=0)
    ax.plot(at, (readings - median)[at], ".", color=INK, ms=3)
    ax.axhline(0, color=MUTED, lw=0.6)
    inside = np.mean((readings >= lower) & (readings <= upper))
    ax.tick_params(labelsize=6)
    ax.set_xlabel("reading", fontsize=7, color=MUTED)
    ax.set_title(
        f"readings less their predicted median, 95 % interval grey; {100 * inside:.0f} % inside",
        fontsize=7,
        color=INK,
    )


_MOST = 400
"""Readings that are drawn; of more, every second, third, … one."""


def rank_figure(curves: Mapping[str, Sequence[RankCurve]], title: str) -> "Figure":
    """Difference of the ECDF of ranks from uniform, one panel per quantity, with its band.

    Args:
        curves: By quantity: one curve for each way.
        title: Heading.
    """
    from matplotlib.figure import Figure

    with drawing_style():
        figure = Figure(figsize=(2.6 * len(curves), 2.6), layout="constrained")
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, (quantity, of_quantity) in zip(axes, curves.items(), strict=True):
            draw_ranks(ax, of_quantity)
            ax.set_title(quantity, fontsize=8, color=INK, pad=16)
            ax.tick_params(labelsize=6)
        ways = list(dict.fromkeys(c.solver for found in curves.values() for c in found))
        handles = []
        for way in ways:
            style = solver_style(way)
            handles += axes[0].plot([], [], color=style.colour, ls=style.line, label=way)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(ways), fontsize=7)
        figure.suptitle(title, fontsize=9, fontweight="bold", color=INK)
    return figure
