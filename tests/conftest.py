"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data: `LATENS_DATA`, or `shared/data` beside the repository."""
    named = os.environ.get("LATENS_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data absent: no folder {folder} (set LATENS_DATA)")
    return folder


def _torch_globals() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "validation of distributions": torch.distributions.Distribution._validate_args,
    }


def _restore(before: dict[str, object]) -> None:
    torch.set_default_dtype(before["default dtype"])
    torch.set_num_threads(before["number of threads"])
    torch.set_grad_enabled(before["gradient mode"])
    torch.use_deterministic_algorithms(before["deterministic algorithms"])
    torch.distributions.Distribution.set_default_validate_args(
        before["validation of distributions"]
    )


@pytest.fixture(autouse=True)
def torch_globals_unchanged() -> Iterator[None]:
    """Fail any test that leaves a global setting of torch changed."""
    before = _torch_globals()
    yield
    after = _torch_globals()
    if after != before:
        _restore(before)
        changed = [name for name in before if before[name] != after[name]]
        pytest.fail(f"the test left torch changed: {', '.join(changed)}")
