"""Example reconstructions as small pictures inside the page."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latens.reporting.gallery import COLOUR_MAPS, ROWS, Examples, error_scale, value_range
from latens.reporting.rendering import png_uri

BUDGET = 5_000_000
"""Characters that all pictures together may take."""

LARGEST = 160
"""Longest side of a picture, pixels; larger ones are averaged over blocks."""

BELOW, ABOVE = (58, 124, 196, 255), (226, 92, 52, 255)
"""Blue and orange that are told apart with any colour vision."""

WORDS = {
    "truth": "truth",
    "measurement": "measurement",
    "mean": "mean",
    "std": "standard deviation",
    "error": "absolute error of the mean",
    "outside": "where the truth lies outside the interval",
}


WORDS_SHORT = {"error": "|error|"}


@dataclass(frozen=True)
class Tile:
    """One picture.

    Args:
        name: `truth`, `measurement`, or one of `ROWS`.
        source: Data URI of a PNG, empty for a signal on a line or a missing picture.
        points: Points of a polyline in the box 100 × 60, empty for an image.
        alt: Description for readers who cannot see it.
        caption: Number below it, possibly empty.
    """

    name: str
    source: str = ""
    points: str = ""
    alt: str = ""
    caption: str = ""


@dataclass(frozen=True)
class SolverTiles:
    """Pictures of one solver for one image, in the order of `ROWS`."""

    solver: str
    seeds: str
    tiles: list[Tile]


@dataclass(frozen=True)
class ImageTiles:
    """Everything about one test image at one N."""

    image: int
    given: list[Tile]
    solvers: list[SolverTiles]


@dataclass(frozen=True)
class Gallery:
    """All examples of a report.

    Args:
        sizes: By N: images with their pictures.
        scale: Upper end of the scale that std and |error| share.
        data_range: Ends of the grey scale of truth and mean.
        level: Level of the intervals, NaN if no solver has any.
        kept: Images that the run holds; fewer may be shown.
        bars: Data URIs of the colour bars `gray` and `magma`.
    """

    sizes: dict[int, list[ImageTiles]]
    scale: float
    data_range: tuple[float, float]
    level: float
    kept: int
    bars: dict[str, str]


def gallery(chosen: Mapping[int, Sequence[Examples]]) -> Gallery | None:
    """Draws the chosen examples, as many images as the budget of the page allows.

    Args:
        chosen: By N: examples of each solver, from `choose_examples`.

    Returns:
        Pictures on scales that all solvers and sizes share; None without examples.
    """
    sets = [s for of_size in chosen.values() for s in of_size]
    images = list(dict.fromkeys(i for s in sets for i in s.images))
    if not images:
        return None
    scale = error_scale(sets)
    sizes: dict[int, list[ImageTiles]] = {n: [] for n in chosen}
    used = 0
    for image in images:
        drawn = {n: _image(image, of_size, scale) for n, of_size in chosen.items()}
        used += sum(_length(block) for block in drawn.values() if block)
        if used > BUDGET:
            break
        for n, block in drawn.items():
            if block:
                sizes[n].append(block)
    sizes = {n: blocks for n, blocks in sizes.items() if blocks}
    levels = [s.level for s in sets if math.isfinite(s.level)]
    ramp = np.linspace(0.0, 1.0, 96)[None, :]
    bars = {colours: coloured(ramp, colours, 0.0, 1.0) for colours in ("gray", "magma")}
    level = levels[0] if levels else math.nan
    return Gallery(sizes, scale, sets[0].data_range, level, len(images), bars)


def _image(image: int, sets: Sequence[Examples], scale: float) -> ImageTiles | None:
    """Pictures of one image for all solvers at one N."""
    sets = [s for s in sets if image in s.images]
    if not sets:
        return None
    given = [_tile(sets[0], name, image, scale) for name in ("truth", "measurement")]
    solvers = []
    for s in sets:
        identity = s.unit.identity
        seeds = [
            f"{k.replace('_', ' ')} {identity[k]}"
            for k in ("data_seed", "init_seed")
            if identity.get(k) is not None
        ]
        tiles = [_tile(s, name, image, scale) for name in ROWS]
        solvers.append(SolverTiles(s.solver, ", ".join(seeds), tiles))
    return ImageTiles(image, given, solvers)


def _tile(s: Examples, name: str, image: int, scale: float) -> Tile:
    """One picture with its description and the number below it."""
    position = s.images.index(image)
    picture = s.picture(name, position)
    who = (
        WORDS[name]
        if name in WORDS and name in {"truth", "measurement"}
        else (f"{s.solver}, N = {s.n}: {WORDS[name]}")
    )
    alt = f"Image {image}, {who}"
    if picture is None:
        return Tile(name, alt=f"{alt}: not available", caption=WORDS_SHORT.get(name, name))
    low, high = value_range(s, name, picture, scale)
    caption = _caption(name, picture)
    alt = f"{alt} ({caption})" if name in ROWS[1:] else alt
    if picture.ndim == 1:
        return Tile(name, points=polyline(picture, low, high), alt=alt, caption=caption)
    return Tile(name, _png(reduced(picture), name, low, high), alt=alt, caption=caption)


def _caption(name: str, picture: np.ndarray) -> str:
    """Name of the picture, with its root mean square or the share of pixels outside."""
    if name == "outside":
        return f"{100 * np.mean(picture != 0):.1f} % outside"
    if name not in {"std", "error"}:
        return name
    square = float(f"{np.sqrt(np.mean(picture**2)):.2g}")
    return f"{WORDS_SHORT.get(name, name)} {square:#.2g}"


def reduced(picture: np.ndarray) -> np.ndarray:
    """Picture averaged over square blocks until its longest side fits."""
    step = -(-max(picture.shape) // LARGEST)
    if step <= 1:
        return picture
    h, w = (max(1, size // step) for size in picture.shape)
    step_h, step_w = min(step, picture.shape[0]), min(step, picture.shape[1])
    cut = picture[: h * step_h, : w * step_w]
    return cut.reshape(h, step_h, w, step_w).mean(axis=(1, 3))  # (h, w)


def _png(picture: np.ndarray, name: str, low: float, high: float) -> str:
    """Data URI of one of the pictures of an example."""
    if name == "outside":
        codes = np.select([picture < -1 / 3, picture > 1 / 3], [1, 2], 0)
        return coded(codes, ((128, 128, 128, 40), BELOW, ABOVE))
    return coloured(picture, COLOUR_MAPS[name], low, high)


def coloured(picture: np.ndarray, colours: str, low: float, high: float) -> str:
    """Data URI of a picture with a colour map; values beyond the scale take its ends.

    Args:
        picture: `(H, W)`.
        colours: Name of a colour map of matplotlib.
        low, high: Ends of the scale.
    """
    from matplotlib import colormaps
    from PIL import Image

    buffer = io.BytesIO()
    span = high - low if high > low else 1.0
    share = np.nan_to_num((picture - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    codes = np.round(np.clip(share, 0.0, 1.0) * 255).astype(np.uint8)
    drawn = Image.fromarray(codes)
    if colours != "gray":
        palette = colormaps[colours](np.arange(256), bytes=True)[:, :3]
        drawn.putpalette(palette.tobytes())
    drawn.save(buffer, "PNG", optimize=True)
    return png_uri(buffer)


def coded(codes: np.ndarray, palette: Sequence[tuple[int, int, int, int]]) -> str:
    """Data URI of a picture of few colours.

    Args:
        codes: `(H, W)`, places in the palette.
        palette: Red, green, blue and opacity, 0 to 255 each.
    """
    from PIL import Image

    buffer = io.BytesIO()
    drawn = Image.fromarray(codes.astype(np.uint8))
    drawn.putpalette([part for colour in palette for part in colour[:3]])
    drawn.save(buffer, "PNG", optimize=True, transparency=bytes(c[3] for c in palette))
    return png_uri(buffer)


def polyline(line: np.ndarray, low: float, high: float) -> str:
    """Points of a signal on a line; at most 400 of them."""
    line = np.nan_to_num(line[:: max(1, len(line) // 400)], nan=low)
    x = np.linspace(2.0, 98.0, len(line))
    span = high - low if high > low else 1.0
    y = 57.0 - 54.0 * np.clip((line - low) / span, 0.0, 1.0)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _length(block: ImageTiles) -> int:
    """Characters that the pictures of an image take."""
    tiles = [*block.given, *(t for s in block.solvers for t in s.tiles)]
    return sum(len(t.source) + len(t.points) + 200 for t in tiles)
