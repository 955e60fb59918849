"""Example reconstructions: which ones are shown, on which scales, and the figure for papers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latens.reporting.figures import plain
from latens.reporting.palette import INK, MUTED, ordered
from latens.reporting.rendering import drawing_style
from latens.reporting.results import Results, Unit, read_example_array, read_example_facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = ("mean", "std", "error", "outside")
"""What is shown of a posterior; of a point estimate, `mean` and `error` alone."""


@dataclass(frozen=True)
class Examples:
    """Example images of one evaluation.

    Args:
        unit: The evaluation.
        images: Index of each image in the test set.
        data_range: Lowest and highest value of a signal, for the grey scale.
        level: Level of the intervals, NaN for a point estimate.
    """

    unit: Unit
    images: tuple[int, ...]
    data_range: tuple[float, float]
    level: float

    @property
    def solver(self) -> str:
        """Name of the solver."""
        return str(self.unit.identity["solver"])

    @property
    def n(self) -> int:
        """Number of training samples."""
        return int(self.unit.identity["n"])

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Planes of `truth`, `measurement`, `mean` and, of a posterior, `std`, `lower`,
        `upper`; each `(images, H, W)`, or `(images, L)` for signals on a line."""
        names = ("truth", "measurement", "mean", "std", "lower", "upper")
        read = {name: read_example_array(self.unit, name) for name in names}
        return {name: planes(array) for name, array in read.items() if array is not None}

    def picture(self, name: str, position: int) -> np.ndarray | None:
        """One plane to show.

        Args:
            name: `truth`, `measurement`, or one of `ROWS`.
            position: Position of the image in `images`.

        Returns:
            `(H, W)` or `(L,)`. `error` is |mean − truth|; `outside` is −1 where the truth
            lies below the interval, +1 above, 0 inside. None where it does not exist.
        """
        a = self.arrays
        if name == "error":
            both = "mean" in a and "truth" in a
            return np.abs(a["mean"][position] - a["truth"][position]) if both else None
        if name == "outside":
            if not {"lower", "upper", "truth"} <= a.keys():
                return None
            truth = a["truth"][position]
            above, below = truth > a["upper"][position], truth < a["lower"][position]
            return above.astype(float) - below.astype(float)
        return a[name][position] if name in a else None


def planes(array: np.ndarray) -> np.ndarray:
    """First channel, middle slice: what of a signal fits on paper.

    Args:
        array: `(images, C, *spatial)`, or `(images, L)`.

    Returns:
        `(images, H, W)` for two or more spatial axes, `(images, L)` for one; complex values
        by their magnitude.
    """
    array = np.abs(array) if np.iscomplexobj(array) else array
    if array.ndim >= 3:
        array = array[:, 0]
    while array.ndim > 3:
        array = array[:, array.shape[1] // 2]
    return np.asarray(array, dtype=float)


def choose_examples(results: Results) -> dict[int, list[Examples]]:
    """For each N and solver the usable evaluation with the lowest seeds that kept examples.

    The choice looks at no result, so it favours nobody.

    Returns:
        By N, ascending: one entry per solver, in the order of the legend.
    """
    found: dict[tuple[int, str], Unit] = {}
    for unit in results.evaluations.values():
        identity = unit.identity
        if not unit.usable or "solver" not in identity or identity.get("n") is None:
            continue
        if not (unit.folder / "examples" / "examples.json").is_file():
            continue
        key = int(identity["n"]), str(identity["solver"])
        if key not in found or _seeds(unit) < _seeds(found[key]):
            found[key] = unit
    chosen: dict[int, list[Examples]] = {}
    for n in sorted({n for n, _ in found}):
        for solver in ordered(s for m, s in found if m == n):
            unit = found[n, solver]
            facts = read_example_facts(unit)
            low, high = (float(v) for v in facts["data_range"])
            level = float(facts.get("level") or "nan")
            images = tuple(int(i) for i in facts["images"])
            chosen.setdefault(n, []).append(Examples(unit, images, (low, high), level))
    return chosen


def error_scale(sets: Sequence[Examples]) -> float:
    """Upper end of the one scale that std and |error| share: their 99.5th percentile."""
    values = [
        picture.ravel()
        for s in sets
        for position in range(len(s.images))
        for name in ("std", "error")
        if (picture := s.picture(name, position)) is not None
    ]
    finite = np.concatenate(values) if values else np.ones(1)
    finite = finite[np.isfinite(finite)]
    return float(np.percentile(finite, 99.5)) if len(finite) and finite.max() > 0 else 1.0


def examples(sets: Sequence[Examples], positions: Sequence[int] = (0, 1)) -> "Figure":
    """Reconstructions of several solvers side by side, for a paper.

    Columns are truth with measurement, then solvers; each image takes four rows: mean,
    standard deviation, |error|, and where the truth lies outside the interval.

    Args:
        sets: Examples of several solvers at one N.
        positions: Which images, by position among those that all solvers have.

    Returns:
        Figure with shared scales, stated below it.
    """
    from matplotlib.figure import Figure

    shared = shared_images(sets)
    images = [shared[p] for p in positions if p < len(shared)]
    scale = error_scale(sets)
    columns, rows = 1 + len(sets), len(ROWS) * max(1, len(images))
    width, height = 1.05 * columns + 0.5, 1.05 * rows + 0.95
    with drawing_style():
        figure = Figure(figsize=(width, height))
        edges = (0.35 / width, 0.55 / height, 1.05 * columns / width, 1.05 * rows / height)
        ax = figure.add_axes(edges)
        ax.set_axis_off()
        for block, image in enumerate(images):
            places = [s.images.index(image) for s in sets]
            for row, name in enumerate(("truth", "measurement")):
                _draw(ax, (0, len(ROWS) * block + row), sets[0], name, places[0], scale)
            for column, (s, place) in enumerate(zip(sets, places, strict=True), 1):
                for row, name in enumerate(ROWS):
                    _draw(ax, (column, len(ROWS) * block + row), s, name, place, scale)
            for row, label in enumerate(("truth, mean", "measured, std", "|error|", "outside")):
                middle = (-0.02, len(ROWS) * block + row + 0.48)
                ax.text(*middle, label, rotation=90, ha="right", va="center", **_SMALL)
        for column, s in enumerate(sets, 1):
            note = str(s.unit.identity.get("note") or "")
            ax.text(column + 0.48, -0.16, plain(s.solver), ha="center", fontweight="bold")
            ax.text(column + 0.48, -0.04, plain(note), ha="center", **_SMALL)
        ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="auto")
        _state_scales(figure, sets, scale)
    return figure


def shared_images(sets: Sequence[Examples]) -> list[int]:
    """Images that every solver was evaluated on, in the order of the first."""
    return [i for i in sets[0].images if all(i in s.images for s in sets)] if sets else []


_SMALL = {"fontsize": 6.5, "color": MUTED}


def _draw(
    ax: "Axes", cell: tuple[int, int], s: Examples, name: str, position: int, scale: float
) -> None:
    """One picture on its shared scale, or n/a, in a cell (column, row) of one axis."""
    column, row = cell
    picture = s.picture(name, position)
    if picture is None:
        ax.annotate("n/a", (column + 0.48, row + 0.48), ha="center", va="center", **_SMALL)
        return
    low, high = value_range(s, name, picture, scale)
    if picture.ndim == 1:
        x = column + 0.96 * np.linspace(0.0, 1.0, len(picture))
        share = np.clip((picture - low) / (high - low or 1.0), 0.0, 1.0)
        ax.plot(x, row + 0.94 - 0.92 * share, color=INK, linewidth=0.6)
        return
    box = (column, column + 0.96, row + 0.96, row)
    colours = {"cmap": COLOUR_MAPS[name], "vmin": low, "vmax": high}
    ax.imshow(picture, extent=box, interpolation="nearest", **colours)


COLOUR_MAPS = {
    "truth": "gray",
    "mean": "gray",
    "measurement": "gray",
    "std": "magma",
    "error": "magma",
    "outside": "RdBu_r",
}


def value_range(s: Examples, name: str, picture: np.ndarray, scale: float) -> tuple[float, float]:
    """Ends of the scale of a picture; a measurement has its own, all others share theirs."""
    if name in {"std", "error"}:
        return 0.0, scale
    if name == "outside":
        return -1.6, 1.6
    if name == "measurement":
        finite = picture[np.isfinite(picture)]
        return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return s.data_range


def _state_scales(figure: "Figure", sets: Sequence[Examples], scale: float) -> None:
    """Colour bars below the pictures, and what the marks mean."""
    width, height = figure.get_size_inches()
    low, high = sets[0].data_range if sets else (0.0, 1.0)
    bars = (("mean", "truth, mean", low, high), ("error", "std, |error|", 0.0, scale))
    for i, (name, label, start, end) in enumerate(bars):
        ax = figure.add_axes(((0.4 + 1.75 * i) / width, 0.33 / height, 1.4 / width, 0.07 / height))
        ax.imshow(np.linspace(0, 1, 128)[None], cmap=COLOUR_MAPS[name], aspect="auto")
        ax.set_yticks([])
        ax.set_xticks([0, 127], [f"{start:.3g}", f"{end:.3g}"])
        ax.tick_params(length=0, pad=1, labelsize=6.5, labelcolor=MUTED)
        ax.set_xlabel(label, labelpad=-6, **_SMALL)
        ax.spines[:].set_visible(False)
    text = "outside: truth below (blue)\nor above (red) the interval"
    figure.text(3.95 / width, 0.4 / height, text, va="top", **_SMALL)


def _seeds(unit: Unit) -> tuple[int, int]:
    """Order of evaluations of one cell: data seed, then initialisation seed."""
    identity = unit.identity
    return int(identity.get("data_seed") or 0), int(identity.get("init_seed") or 0)
