"""Runs that the tests of the report read."""

from pathlib import Path

import pytest

from latens import store
from latens.reporting import Results, read_results
from reporting.synthetic_checks import write_checks
from reporting.synthetic_run import IDENTITY, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> store.RunFolder:
    """A finished run, shared by all tests; they only read it and write the report."""
    return write_run(tmp_path_factory.mktemp("run") / "blur", side=16, images=2)


@pytest.fixture(scope="session")
def checked_run(tmp_path_factory: pytest.TempPathFactory) -> store.RunFolder:
    """The same with deep checks, a sampler and calibrated intervals."""
    run = write_run(tmp_path_factory.mktemp("checked") / "blur", side=16, images=2)
    write_checks(run, side=16, images=3)
    return run


@pytest.fixture(scope="session")
def checked(checked_run: store.RunFolder) -> Results:
    """What the report reads of it."""
    return read_results(checked_run)


@pytest.fixture
def empty_run(tmp_path: Path) -> store.RunFolder:
    """A run that was started and has finished nothing yet."""
    return store.RunFolder.create(tmp_path / "started", IDENTITY)
