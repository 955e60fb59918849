"""What produced a result is recorded."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import latens
from latens.store import major_versions, provenance
from latens.store.provenance import _git


def test_versions_are_those_of_the_installed_packages():
    record = provenance()
    assert set(record) == {"packages", "python", "git", "host"}
    assert record["packages"]["numpy"] == metadata.version("numpy")
    assert record["packages"]["torch"] == metadata.version("torch")
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["host"]["cpus"] >= 1
    assert set(record["host"]) == {"system", "machine", "cpus"}


def test_major_versions_have_two_numbers():
    versions = major_versions()
    assert {"torch", "numpy", "lightning"} <= set(versions)
    full = metadata.version("torch").split("+")[0].split(".")
    assert versions["torch"] == f"{full[0]}.{full[1]}"
    assert all(version.count(".") == 1 and "+" not in version for version in versions.values())


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    answer = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()


def test_revision_and_changes_of_a_checkout(tmp_path):
    source = tmp_path / "src" / "latens"
    source.mkdir(parents=True)
    (source / "a.py").write_text("a = 1\n")
    assert _git(tmp_path) is None
    git(tmp_path, "init")
    assert _git(tmp_path) is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert _git(tmp_path) == {"revision": revision, "dirty": False}
    (tmp_path / "notes.txt").write_text("not tracked")
    assert _git(tmp_path) == {"revision": revision, "dirty": False}
    (source / "a.py").write_text("a = 2\n")
    assert _git(tmp_path) == {"revision": revision, "dirty": True}


def test_repository_around_an_installation_does_not_count(tmp_path):
    git(tmp_path, "init")
    installed = tmp_path / "lib" / "site-packages" / "latens"
    installed.mkdir(parents=True)
    assert _git(tmp_path) is None


def test_source_folder_is_found():
    root = Path(latens.__file__).resolve().parents[2]
    assert provenance()["git"] == _git(root)
