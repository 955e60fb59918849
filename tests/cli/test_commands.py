"""The command line itself: help, version, `data check`, and what is imported for them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import latens
from latens.cli import main
from latens.studies.command import run_title


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for command in ("run", "report", "plan", "reconstruct", "evaluate", "data"):
        assert re.search(rf"^    {command}\s", text, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"latens {latens.__version__}\n"


def test_a_number_of_coils_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "scarcity", "--preset", "mri", "--operator.coils", "4", "--show"]) == 0
    assert "coils: 4" in capsys.readouterr().out


HEAVY = ("torch", "lightning", "monai", "pandas", "numpy", "matplotlib", "yaml", "jsonargparse")


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, latens.cli\n"
        "try:\n    latens.cli.main(['--help'])\n"
        f"except SystemExit:\n    print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_nothing_heavy_is_imported_before_a_worker_watches_its_parent() -> None:
    code = f"import sys, latens.studies.workers\nprint([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("names", "stated", "overrides", "title"),
    [
        (["quick"], {}, [], "deblurring, phantoms, quick"),
        (["mri", "quick"], {"operator": {}}, ["--data.count", "9"], "phantoms, mri, quick"),
        ([], {}, ["--data=latens.data.NpyFolder", "--data.path=x"], "deblurring"),
    ],
)
def test_a_run_is_named_after_what_it_does(
    names: list[str], stated: dict[str, object], overrides: list[str], title: str
) -> None:
    assert run_title(names, [{"operator": {}, "data": {}}, stated], overrides) == title


def test_data_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", rng.random((8, 8)))
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "3 images, shape (1, 8, 8)" in capsys.readouterr().out
    np.save(tmp_path / "3.npy", np.full((8, 8), np.nan))
    assert main(["data", "check", str(tmp_path)]) == 2
    text = capsys.readouterr()
    assert "error    " in text.out
    assert "3.npy" in text.out
    assert text.err == ""


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_data_check_of_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["data", "check", str(tmp_path / name)]) == 2
    assert "error" in capsys.readouterr().out


def test_report_of_a_run(orphan_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not (orphan_copy / "report.html").exists()
    assert main(["report", str(orphan_copy)]) == 0
    assert capsys.readouterr().out.strip() == str(orphan_copy / "report.html")
    assert "latent_ensemble" in (orphan_copy / "report.html").read_text()


def test_report_of_a_run_without_tables(orphan_copy: Path) -> None:
    import shutil

    shutil.rmtree(orphan_copy / "tables")
    (orphan_copy / "tables").mkdir()
    assert main(["report", str(orphan_copy)]) == 0
    assert (orphan_copy / "report.html").is_file()
