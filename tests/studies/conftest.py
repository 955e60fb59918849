"""Runs that several tests look at; none of them may change one."""

import shutil
from pathlib import Path

import pytest

from stand_ins import tiny_study


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures and report out, which take longer than a tiny study."""
    from latens.studies import run

    monkeypatch.setattr(run, "write_figures", lambda folder: None)
    monkeypatch.setattr(run, "write_report", lambda folder: folder.report_file)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study, run in one process, without report. Read only."""
    folder = tmp_path_factory.mktemp("small")
    config = tiny_study.write_config(folder / "small.yaml", tiny_study.SMALL)
    with pytest.MonkeyPatch.context() as patch:
        from latens.studies import run

        patch.setattr(run, "write_figures", lambda folder: None)
        patch.setattr(run, "write_report", lambda folder: folder.report_file)
        assert tiny_study.run(config, folder / "run") == 0
    return folder / "run"


@pytest.fixture
def small_copy(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run, to be changed."""
    return Path(shutil.copytree(small_run, tmp_path / "copy"))
