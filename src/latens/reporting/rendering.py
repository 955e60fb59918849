"""Turns a figure into bytes: SVG and PDF for papers, SVG elements for the web page.

The bytes are a function of the figure: no dates, no random identifiers, one font that
matplotlib brings along. Text stays text.
"""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES_ID = "series:"
"""Prefix of the group id by which a drawing names the solver it belongs to."""

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "none",
    "svg.hashsalt": "latens",
    "pdf.fonttype": 42,
    "axes.unicode_minus": True,
}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_FONT = re.compile(r"^(?P<words>(?:[\w-]+ )*?)(?P<size>[\d.]+)px (?P<family>.*)$")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@contextmanager
def drawing_style() -> Iterator[None]:
    """Fonts and identifiers of every figure, inside this context alone."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def figure_svg(figure: "Figure") -> bytes:
    """The figure as a stand-alone SVG file, in UTF-8; text is kept as text."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    with drawing_style():
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return buffer.getvalue()


def figure_pdf(figure: "Figure") -> bytes:
    """The figure as a one-page PDF file with embedded TrueType fonts and no dates."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    buffer = io.BytesIO()
    with drawing_style():
        nothing = {"CreationDate": None, "Creator": None, "Producer": None}
        FigureCanvasPdf(figure).print_pdf(buffer, metadata=nothing)
    return buffer.getvalue()


def png_uri(buffer: io.BytesIO) -> str:
    """Data URI of a PNG file."""
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def figure_uri(figure: "Figure", dpi: float | None = None) -> str:
    """Data URI of a figure as PNG, free of dates and versions.

    Args:
        figure: The figure.
        dpi: Pixels per inch; those of the figure where None.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with drawing_style():
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=dpi or figure.dpi, metadata={"Software": None})
    return png_uri(buffer)


def inline_svg(figure: "Figure", name: str, description: str) -> str:
    """The figure as one `<svg>` element that a strict content security policy accepts.

    Style attributes and style elements become presentation attributes, which a page's own
    style sheet overrides; identifiers take a prefix, so several figures fit on one page;
    groups of a solver carry `data-solver`.

    Args:
        figure: What to draw.
        name: Prefix of all identifiers, unique on the page, letters and digits.
        description: What a reader who cannot see the figure is told.

    Returns:
        Markup, escaped, without namespaces, comments or links to anywhere.
    """
    root = ElementTree.fromstring(figure_svg(figure))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{_SVG}metadata", f"{_SVG}style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _flatten(element, name)
    box = root.get("viewBox", "0 0 1 1")
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "class": "plot", "role": "img"})
    root.attrib.update({"stroke-linejoin": "round", "stroke-linecap": "butt"})
    root.set("aria-label", description)
    _drop_empty_definitions(root)
    return ElementTree.tostring(root, encoding="unicode")


def _flatten(element: ElementTree.Element, name: str) -> None:
    """Rewrites the attributes of one element for use inside a page."""
    attributes = dict(element.attrib)
    element.attrib.clear()
    element.tail = None if not (element.tail or "").strip() else element.tail
    if element.tag not in {"text", "tspan"} and not (element.text or "").strip():
        element.text = None
    for key, value in attributes.items():
        key = key.removeprefix(_LINK)
        if key == "id" and value.startswith(SERIES_ID):
            element.set("data-solver", value.removeprefix(SERIES_ID))
        elif key == "id" and element.tag == "g":
            continue
        elif key == "id":
            element.set("id", f"{name}-{value}")
        elif key == "href":
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        elif key == "style":
            for prop, setting in _declarations(value):
                element.set(prop, setting)
        else:
            element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    """Pairs of property and value; the `font` shorthand is no attribute, so it is split."""
    for declaration in style.split(";"):
        prop, _, value = (part.strip() for part in declaration.partition(":"))
        font = _FONT.match(value) if prop == "font" else None
        if font:
            yield "font-size", font["size"]
            for word in font["words"].split():
                yield ("font-style" if word in {"italic", "oblique"} else "font-weight"), word
        elif prop and prop not in {"font", "font-family"}:
            yield prop, value


def _drop_empty_definitions(root: ElementTree.Element) -> None:
    """Removes `<defs>` that hold nothing any more."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "defs" and len(child) == 0:
                parent.remove(child)
