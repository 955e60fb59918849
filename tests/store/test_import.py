"""The package must start fast: reports and `--help` load it."""

import subprocess
import sys


def test_import_loads_no_heavy_package():
    heavy = {"torch", "numpy", "pandas", "pyarrow", "yaml", "scipy", "lightning", "matplotlib"}
    code = "import sys, latens.store; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(answer.stdout.split())
    assert "latens.store.run" in loaded
    assert not heavy & loaded
