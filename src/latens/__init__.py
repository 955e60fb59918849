"""latens: how much data does a learned inverse solver need before you can trust it?

Public names are imported on first use, so that `import latens` costs nothing and changes no
global state.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latens.evaluation import evaluate
    from latens.inference import PointEstimate, Posterior
    from latens.problems import InverseProblem
    from latens.studies.load import load

__version__ = "0.1.0"

_HOMES = {
    "InverseProblem": "latens.problems",
    "PointEstimate": "latens.inference",
    "Posterior": "latens.inference",
    "evaluate": "latens.evaluation",
    "load": "latens.studies.load",
}

__all__ = ["InverseProblem", "PointEstimate", "Posterior", "evaluate", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latens' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
