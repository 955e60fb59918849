"""The global switch of torch's distributions."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributions import Distribution


@contextmanager
def validation_kept() -> Iterator[None]:
    """Restore torch's global validation of distributions, which tracing switches off."""
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
