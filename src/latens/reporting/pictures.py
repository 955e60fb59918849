"""Pictures of the deep checks: strips of a solver for an image, on scales that all share."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latens.reporting.check_data import check_units
from latens.reporting.figures import plain
from latens.reporting.palette import INK, MUTED
from latens.reporting.rendering import drawing_style
from latens.reporting.results import Results, Unit, read_example_facts
from latens.reporting.tiles import ABOVE, BELOW, Tile, coded, coloured, polyline, reduced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BUDGET = 1_500_000
"""Characters that the pictures of one set may take on the page."""

FLAGS = "flags"
"""Colours of codes: 0 nothing, 1 blue, 2 orange."""

_PALETTE = ((128, 128, 128, 40), BELOW, ABOVE)
_SMALL = {"fontsize": 6.5, "color": MUTED}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        heading: What it shows, a few words.
        values: `(H, W)`, or `(L,)` for a signal on a line; None where there is none.
        colours: Colour map of matplotlib, or `FLAGS`.
        low, high: Ends of its scale.
        caption: Number below it, may be empty.
    """

    heading: str
    values: np.ndarray | None
    colours: str
    low: float
    high: float
    caption: str = ""


@dataclass(frozen=True)
class PictureRow:
    """The pictures of one solver for one test image."""

    solver: str
    image: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Scale:
    """A colour bar with its ends."""

    label: str
    colours: str
    low: float
    high: float

    @property
    def ends(self) -> tuple[str, str]:
        """Both ends with two digits and a true minus sign."""
        low, high = (f"{end:.2g}".replace("-", "−") for end in (self.low, self.high))
        return low, high

    @property
    def bar(self) -> str:
        """Data URI of the bar."""
        return coloured(np.linspace(0.0, 1.0, 96)[None, :], self.colours, 0.0, 1.0)


@dataclass(frozen=True)
class PictureSet:
    """Pictures of several solvers.

    Args:
        name: Stem of the files of its figure.
        n: Training size.
        caption: What is shown, and how to read it.
        rows: One for each solver and image, all with the same headings.
        scales: What the colours mean.
    """

    name: str
    n: int
    caption: str
    rows: Sequence[PictureRow]
    scales: Sequence[Scale]

    @property
    def images(self) -> list[int]:
        """Test images, in the order of the rows."""
        return list(dict.fromkeys(row.image for row in self.rows))

    def of_image(self, image: int) -> list[PictureRow]:
        """Rows of one test image."""
        return [row for row in self.rows if row.image == image]


@dataclass(frozen=True)
class Strip:
    """Tiles of one solver for one image, for the page."""

    solver: str
    tiles: list[Tile]


def strips(pictures: PictureSet) -> dict[int, list[Strip]]:
    """Tiles by image, as many images as the budget of the page allows, at least one."""
    found: dict[int, list[Strip]] = {}
    used = 0
    for image in pictures.images:
        of_image = [_strip(row, pictures.n) for row in pictures.of_image(image)]
        used += sum(len(t.source) + len(t.points) + 200 for s in of_image for t in s.tiles)
        if found and used > BUDGET:
            break
        found[image] = of_image
    return found


def _strip(row: PictureRow, n: int) -> Strip:
    return Strip(row.solver, [_tile(row, picture, n) for picture in row.pictures])


def _tile(row: PictureRow, picture: Picture, n: int) -> Tile:
    alt = f"Image {row.image}, {row.solver}, N = {n}: {picture.heading}"
    caption = picture.caption or picture.heading
    values = picture.values
    if values is None:
        return Tile("check", alt=f"{alt}: not available", caption=caption)
    if picture.caption:
        alt = f"{alt} ({picture.caption})"
    if values.ndim == 1:
        points = polyline(values, picture.low, picture.high)
        return Tile("check", points=points, alt=alt, caption=caption)
    if picture.colours == FLAGS:
        step = math.ceil(max(values.shape) / 512)  # codes cannot be averaged
        return Tile("check", coded(values[::step, ::step], _PALETTE), alt=alt, caption=caption)
    source = coloured(reduced(values), picture.colours, picture.low, picture.high)
    return Tile("check", source, alt=alt, caption=caption)


def picture_figure(pictures: PictureSet, images: int = 2) -> "Figure":
    """Strips of the first images for a paper, with their scales below.

    Args:
        pictures: The set.
        images: How many images to draw.
    """
    from matplotlib.figure import Figure

    shown = [row for image in pictures.images[:images] for row in pictures.of_image(image)]
    columns, rows = max(len(row.pictures) for row in shown), len(shown)
    width, height = 1.05 * columns + 1.1, 1.12 * rows + 0.95
    with drawing_style():
        figure = Figure(figsize=(width, height))
        edges = (0.95 / width, 0.55 / height, 1.05 * columns / width, 1.12 * rows / height)
        ax = figure.add_axes(edges)
        ax.set_axis_off()
        for place, row in enumerate(shown):
            label = f"{plain(row.solver)}\nimage {row.image}"
            ax.text(-0.06, place + 0.42, label, ha="right", va="center", fontsize=7, color=INK)
            for column, picture in enumerate(row.pictures):
                _draw(ax, (column, place), picture)
        for column, picture in enumerate(shown[0].pictures):
            ax.text(column + 0.48, -0.06, plain(picture.heading), ha="center", **_SMALL)
        ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="auto")
        _state_scales(figure, pictures.scales)
    return figure


def _draw(ax: "Axes", cell: tuple[int, int], picture: Picture) -> None:
    """One picture with its number, or n/a, in a cell (column, row)."""
    from matplotlib.colors import ListedColormap

    column, row = cell
    values, low, high = picture.values, picture.low, picture.high
    if picture.caption:
        ax.text(column + 0.48, row + 0.97, plain(picture.caption), ha="center", **_SMALL)
    if values is None:
        ax.annotate("n/a", (column + 0.48, row + 0.43), ha="center", va="center", **_SMALL)
        return
    if values.ndim == 1:
        x = column + 0.96 * np.linspace(0.0, 1.0, len(values))
        share = np.clip((values - low) / (high - low or 1.0), 0.0, 1.0)
        ax.plot(x, row + 0.86 - 0.84 * share, color=INK, linewidth=0.6)
        return
    colours = picture.colours
    if colours == FLAGS:
        colours = ListedColormap([[part / 255 for part in colour] for colour in _PALETTE])
        low, high = 0.0, 2.0
    box = (column, column + 0.96, row + 0.88, row)
    ax.imshow(values, extent=box, interpolation="nearest", cmap=colours, vmin=low, vmax=high)


def _state_scales(figure: "Figure", scales: Sequence[Scale]) -> None:
    width, height = figure.get_size_inches()
    for i, scale in enumerate(scales):
        place = ((0.95 + 1.75 * i) / width, 0.33 / height, 1.4 / width, 0.07 / height)
        ax = figure.add_axes(place)
        ax.imshow(np.linspace(0, 1, 128)[None], cmap=scale.colours, aspect="auto")
        ax.set_yticks([])
        ax.set_xticks([0, 127], list(scale.ends))
        ax.tick_params(length=0, pad=1, labelsize=6.5, labelcolor=MUTED)
        ax.set_xlabel(plain(scale.label), labelpad=-6, **_SMALL)
        ax.spines[:].set_visible(False)


def image_numbers(unit: Unit, count: int) -> list[int]:
    """Places in the test set of the images that a check pictures, or 0, 1, … where not kept."""
    known = (unit.identity.get("facts") or {}).get("images") or []
    return [int(i) for i in known] if len(known) == count else list(range(count))


def each_image(
    units: Sequence[Unit], arrays: Mapping[str, Mapping[str, np.ndarray]]
) -> Iterator[tuple[Unit, int, dict[str, np.ndarray]]]:
    """Every pictured image of some checks, with its place in the test set and its own arrays.

    Args:
        units: Checks.
        arrays: By name of the check: by name, `(n, ...)`, `truth` among them.
    """
    for unit in units:
        for place, image in enumerate(image_numbers(unit, len(arrays[unit.name]["truth"]))):
            yield unit, image, {name: array[place] for name, array in arrays[unit.name].items()}


def data_range(results: Results, truths: Sequence[np.ndarray]) -> tuple[float, float]:
    """Range of the signals: that of the examples of the run, or of the truths themselves."""
    for unit in check_units(results, ""):
        if ends := read_example_facts(unit).get("data_range"):
            return float(ends[0]), float(ends[1])
    values = np.concatenate([truth.ravel() for truth in truths])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def largest_magnitude(arrays: Iterable[np.ndarray], share: float = 99.5) -> float:
    """End of a scale that is symmetric about 0: a percentile of the magnitudes."""
    values = np.abs(np.concatenate([array.ravel() for array in arrays]))
    values = values[np.isfinite(values)]
    end = float(np.percentile(values, share)) if len(values) else 0.0
    return end if end > 0 else 1.0


def rms(values: np.ndarray) -> str:
    """Root mean square with two digits."""
    square = float(f"{np.sqrt(np.mean(values**2)):.2g}")
    return f"{square:#.2g}" if math.isfinite(square) else "–"
