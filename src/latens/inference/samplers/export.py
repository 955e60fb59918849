"""The optional package behind `to_inference_data`."""

import warnings
from types import ModuleType

from latens.errors import UnsupportedError


def require_arviz() -> ModuleType:
    """The package arviz.

    Raises:
        UnsupportedError: If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # once a day it announces that its next major version will differ
            warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
            import arviz
    except ImportError as error:
        raise UnsupportedError(
            "to_inference_data", "the package arviz", "none installed", "pip install arviz"
        ) from error
    return arviz
