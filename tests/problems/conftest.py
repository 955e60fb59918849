"""Fixtures for the tests of inverse problems."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.distributions import Distribution


@pytest.fixture
def compile_whole() -> Iterator[Callable]:
    """Compiler that fails on a graph break; it switches off validation, which is restored."""
    validate = Distribution._validate_args
    yield lambda function: torch.compile(function, backend="eager", fullgraph=True)
    Distribution.set_default_validate_args(validate)
