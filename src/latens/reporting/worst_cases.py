"""Pictures of the worst disturbance of a measurement and of what it does."""

from collections.abc import Mapping

import numpy as np

from latens.reporting.check_data import (
    at_largest,
    check_units,
    read_picture,
    size_of,
    solver_of,
)
from latens.reporting.gallery import planes
from latens.reporting.pictures import (
    Picture,
    PictureRow,
    PictureSet,
    Scale,
    data_range,
    each_image,
    largest_magnitude,
    rms,
)
from latens.reporting.results import Results, Unit
from latens.reporting.stability import CHECK


def worst_pictures(results: Results) -> PictureSet | None:
    """Truth, reconstruction, worst disturbance, reconstruction there, and the difference."""
    units = at_largest([u for u in check_units(results, CHECK) if not _is_transferred(u)])
    arrays = {unit.name: _arrays(unit) for unit in units}
    units = [unit for unit in units if arrays[unit.name]]
    if not units:
        return None
    low, high = data_range(results, [arrays[u.name]["truth"] for u in units])
    pushed = largest_magnitude(arrays[u.name]["disturbance"] for u in units)
    moved = largest_magnitude(arrays[u.name]["worst_mean"] - arrays[u.name]["mean"] for u in units)
    rows = []
    for unit, image, own in each_image(units, arrays):
        pictures = _pictures(own, (low, high), pushed, moved)
        rows.append(PictureRow(solver_of(unit), image, pictures))
    scales = [
        Scale("truth, estimates", "gray", low, high),
        Scale("disturbance", "RdBu_r", -pushed, pushed),
        Scale("difference", "RdBu_r", -moved, moved),
    ]
    caption = (
        "What the worst disturbance of the norm of the noise does. All solvers share the scales; "
        "“moved” is the root mean square of the difference of the two estimates."
    )
    return PictureSet("worst_cases", size_of(units[0]), caption, rows, scales)


def _is_transferred(unit: Unit) -> bool:
    """Whether the disturbance is the worst case of another solver."""
    return "worst_case_of" in (unit.identity.get("facts") or {})


def _arrays(unit: Unit) -> dict[str, np.ndarray]:
    names = ("truth", "mean", "disturbance", "worst_mean")
    read = {name: read_picture(unit, name) for name in names}
    found = {name: planes(array) for name, array in read.items() if array is not None}
    return found if len(found) == len(names) else {}


def _pictures(
    own: Mapping[str, np.ndarray], grey: tuple[float, float], pushed: float, moved: float
) -> tuple[Picture, ...]:
    difference = own["worst_mean"] - own["mean"]
    return (
        Picture("truth", own["truth"], "gray", *grey),
        Picture("estimate", own["mean"], "gray", *grey),
        Picture("disturbance", own["disturbance"], "RdBu_r", -pushed, pushed),
        Picture("estimate there", own["worst_mean"], "gray", *grey),
        Picture("difference", difference, "RdBu_r", -moved, moved, f"moved {rms(difference)}"),
    )
