"""All figures made of panels, in the order of the page."""

from latens.reporting.awareness import shift_drawing
from latens.reporting.calibration import SOURCES, coverage_drawing
from latens.reporting.null_space import hallucination_pictures, split_drawing
from latens.reporting.panels import Drawing
from latens.reporting.pictures import PictureSet
from latens.reporting.promises import gap_drawing, promise_drawing
from latens.reporting.ranks import rank_drawing
from latens.reporting.refusal import risk_drawing
from latens.reporting.results import Results
from latens.reporting.semisup import drawings as few_label_drawings
from latens.reporting.semisup import is_semisup
from latens.reporting.stability import stability_drawing
from latens.reporting.worst_cases import worst_pictures


def drawings(results: Results) -> list[Drawing]:
    """Figures made of panels; those for which the run has no data have none."""
    if is_semisup(results):
        return few_label_drawings(results)
    return [
        stability_drawing(results),
        split_drawing(results),
        *(rank_drawing(results, source) for source in SOURCES),
        coverage_drawing(results),
        promise_drawing(results),
        gap_drawing(results),
        shift_drawing(results),
        risk_drawing(results),
    ]


def picture_sets(results: Results) -> list[PictureSet]:
    """Pictures of worst cases and of hallucinations, where the run keeps any."""
    found = (worst_pictures(results), hallucination_pictures(results))
    return [pictures for pictures in found if pictures is not None]
