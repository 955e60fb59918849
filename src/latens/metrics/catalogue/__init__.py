"""Every metric by name, in the order of the tables; one file per section of the report."""

from latens.errors import ConfigError
from latens.metrics.catalogue.calibration import CALIBRATION
from latens.metrics.catalogue.conformal import CONFORMAL
from latens.metrics.catalogue.gap import GAP
from latens.metrics.catalogue.null_space import NULL_SPACE
from latens.metrics.catalogue.quality import QUALITY
from latens.metrics.catalogue.stability import STABILITY
from latens.metrics.catalogue.uncertainty import UNCERTAINTY
from latens.metrics.metric import Metric

SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Reconstruction quality": QUALITY,
    "Calibration": CALIBRATION,
    "Sharpness and scores": UNCERTAINTY,
    "Conformal intervals": CONFORMAL,
    "Amortised against sampled posterior": GAP,
    "Stability": STABILITY,
    "Range and null space": NULL_SPACE,
}
"""Metrics under each heading of the report, in the order in which they are shown."""

CATALOGUE: tuple[Metric, ...] = tuple(m for section in SECTIONS.values() for m in section)


def metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        ConfigError: If there is none.
    """
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    raise ConfigError(
        "metric", "the name of a metric", name, f"Use {', '.join(m.name for m in CATALOGUE)}."
    )
