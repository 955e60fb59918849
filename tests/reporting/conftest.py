"""Runs that the tests of the report read."""

from pathlib import Path

import pytest

from latens import store
from reporting.synthetic_run import IDENTITY, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> store.RunFolder:
    """A finished run, shared by all tests; they only read it and write the report."""
    return write_run(tmp_path_factory.mktemp("run") / "blur", side=16, images=2)


@pytest.fixture
def empty_run(tmp_path: Path) -> store.RunFolder:
    """A run that was started and has finished nothing yet."""
    return store.RunFolder.create(tmp_path / "started", IDENTITY)
