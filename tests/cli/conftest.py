"""A run on a folder of images that is gone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stand_ins import tiny_study


def _without_report(patch: pytest.MonkeyPatch) -> None:
    from latens.studies import run

    patch.setattr(run, "write_figures", lambda folder: None)
    patch.setattr(run, "write_report", lambda folder: folder.report_file)


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures and report out, which take longer than a tiny study."""
    _without_report(monkeypatch)


@pytest.fixture(scope="session")
def orphan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data are gone; its fits, too short to pass, are declared good. Read only."""
    folder = tmp_path_factory.mktemp("orphan")
    from latens.data import Phantoms

    (folder / "images").mkdir()
    for index, image in enumerate(Phantoms((16, 16), 120).load().x.numpy()):
        np.save(folder / "images" / f"{index}.npy", image[0])
    tree = tiny_study.small(
        data={
            "class_path": "latens.data.NpyFolder",
            "init_args": {"path": str(folder / "images")},
        },
        models={
            **tiny_study.small()["models"],
            "direct": {
                "class_path": "latens.models.Direct",
                "init_args": {"dim": 2, "architecture": tiny_study.LINEAR},
            },
        },
    )
    config = tiny_study.write_config(folder / "tiny.yaml", tree)
    with pytest.MonkeyPatch.context() as patch:
        _without_report(patch)
        assert tiny_study.run(config, folder / "run") == 0
    for file in (folder / "run").glob("*/*/outcome.json"):
        outcome = json.loads(file.read_text())
        file.write_text(json.dumps({**outcome, "status": "converged"}))
    shutil.rmtree(folder / "images")
    return folder / "run"


@pytest.fixture
def orphan_copy(orphan_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(orphan_run, tmp_path / "copy"))
