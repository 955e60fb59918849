"""Names for shapes and paths that signatures repeat."""

import os

Shape = tuple[int, ...]
"""Physical shape of one signal or measurement: `(C, *spatial)`."""

PathLike = str | os.PathLike[str]
