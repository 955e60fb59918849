"""One colour, one marker and one line per solver, the same in every figure.

Hues follow Okabe and Ito, darkened where they would vanish on white paper; each has a twin
for dark screens. An ensemble keeps the hue and the marker of its members, drawn open on a
dashed line. Point estimates are dotted. Nothing is told by colour alone.

References:
    Okabe and Ito (2008), Color universal design, https://jfly.uni-koeln.de/color/
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

INK = "#1d1d1b"
MUTED = "#6b6a66"
RULE = "#dcdad4"
PAPER = "#ffffff"

Line = Literal["-"] | tuple[float, tuple[float, ...]]

SOLID: Line = "-"
DASHED: Line = (0, (5, 2))
DOTTED: Line = (0, (1.2, 1.8))
UNKNOWN: Line = (0, (7, 1.5, 1.5, 1.5))

# hue name: on light paper, on a dark screen
HUES = {
    "blue": ("#0067a5", "#5ab4f0"),
    "vermilion": ("#c8500a", "#f5935a"),
    "green": ("#00845f", "#3fcba0"),
    "purple": ("#a04392", "#e08fd2"),
    "grey": ("#6f6e69", "#b3b1aa"),
    "ochre": ("#9a7400", "#dcb84a"),
    "wine": ("#7c1f4c", "#e8799f"),
    "teal": ("#2b9db0", "#7fdbe8"),
}

# base name: hue, marker, line
KNOWN: dict[str, tuple[str, str, Line]] = {
    "cvae": ("blue", "o", SOLID),
    "latent": ("vermilion", "s", SOLID),
    "direct": ("green", "^", SOLID),
    "map": ("vermilion", "P", DOTTED),
    "laplace": ("wine", "X", SOLID),
    "hmc": ("teal", "D", SOLID),
    "nuts": ("teal", "v", SOLID),
    "amortised": ("blue", "P", SOLID),
    "refined": ("green", "s", DOTTED),
    "corrected": ("purple", "^", DOTTED),
    "solver": ("ochre", "*", SOLID),
    "unet": ("purple", "D", DOTTED),
    "tv": ("ochre", "v", DOTTED),
    "tikhonov": ("grey", "X", DOTTED),
    "wiener": ("wine", "o", DOTTED),
}

# for names that are not known: every pair differs from the others in hue, marker or both
SPARE = (
    ("ochre", "o"),
    ("wine", "s"),
    ("teal", "^"),
    ("purple", "v"),
    ("grey", "o"),
    ("blue", "P"),
    ("green", "X"),
    ("ochre", "D"),
)

ENSEMBLE = "_ensemble"

# outline of each marker in the box [-1, 1]², for the legend of the web page
MARKER_PATHS = {
    "*": "M0-1.05L.26-.36L1-.32L.43 .14L.62 .85L0 .45L-.62 .85L-.43 .14L-1-.32L-.26-.36Z",
    "o": "M-.9 0a.9.9 0 1 0 1.8 0a.9.9 0 1 0-1.8 0Z",
    "s": "M-.8-.8H.8V.8H-.8Z",
    "^": "M0-1L1 .8H-1Z",
    "v": "M0 1L1-.8H-1Z",
    "D": "M0-1.05L1.05 0L0 1.05L-1.05 0Z",
    "P": "M-.35-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
    "X": "M-.9-.4L-.4-.9L0-.5L.4-.9L.9-.4L.5 0L.9 .4L.4 .9L0 .5L-.4 .9L-.9 .4L-.5 0Z",
}


@dataclass(frozen=True)
class SolverStyle:
    """How one solver is drawn.

    Args:
        colour: Hexadecimal colour on light paper.
        dark: Hexadecimal colour on a dark screen.
        marker: Marker code of matplotlib, one of `MARKER_PATHS`.
        line: Line style of matplotlib.
        hollow: Whether the marker is drawn open, as ensembles are.
    """

    colour: str
    dark: str
    marker: str
    line: Line
    hollow: bool

    @property
    def dashes(self) -> str:
        """Dash pattern as SVG writes it; empty for a solid line."""
        return "" if isinstance(self.line, str) else " ".join(f"{d:g}" for d in self.line[1])


def base_name(solver: str) -> str:
    """Name of the members of an ensemble; any other name is its own base."""
    return solver.removesuffix(ENSEMBLE) or solver


def solver_style(solver: str) -> SolverStyle:
    """Style of a solver, a function of its name alone.

    Args:
        solver: Name as in the tables, for example `cvae` or `cvae_ensemble`.

    Returns:
        The same style for the same name in every run; unknown names take a spare style
        picked by their characters, so two unknown names may, rarely, share one.
    """
    base = base_name(solver)
    hollow = base != solver
    if base in KNOWN:
        hue, marker, line = KNOWN[base]
    else:
        hue, marker = SPARE[sum(i * b for i, b in enumerate(base.encode(), 1)) % len(SPARE)]
        line = UNKNOWN
    colour, dark = HUES[hue]
    return SolverStyle(colour, dark, marker, DASHED if hollow else line, hollow)


def ordered(solvers: Iterable[str]) -> list[str]:
    """Solvers without repeats: the known in the order of `KNOWN`, then the rest by name.

    An ensemble directly follows its members.
    """
    rank = {name: i for i, name in enumerate(KNOWN)}

    def key(solver: str) -> tuple[int, str, bool]:
        base = base_name(solver)
        return rank.get(base, len(rank)), base, base != solver

    return sorted({str(s) for s in solvers}, key=key)
