"""`latens plan`: what it prints and writes, bad input, no torch."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latens import store
from latens.cli import main
from latens.reporting import write_report
from latens.studies.gather import definitions_of
from reporting.synthetic_run import IDENTITY

SIZES = (32, 64, 128, 256, 512)


def _value(solver: str, metric: str, n: float) -> float:
    error = {"unet": 0.02 + 4.0 * n**-0.9, "cvae": 0.06 + 3.0 * n**-0.8}[solver]
    return {
        "nmse": error,
        "psnr": 12 - 10 * np.log10(error),
        "coverage_region": 0.94 - 3.0 * n**-0.7,  # .92 at N = 1285
        "worst_over_baseline": 1.0 + 6.0 * n**-0.5,  # 1.5 at N = 144
        "worst_error": 0.2,
    }[metric]


def _write(
    folder: Path, sizes: tuple[int, ...] = SIZES, seeds: int = 4, checked: int = 0
) -> store.RunFolder:
    """Tables of two solvers whose laws are known, and of one that uses no training data.

    Of `checked` data seeds the first was checked for stability at three sizes, and so on.
    """
    config = {**IDENTITY["config"], "checked_data_seeds": max(checked, 1)}
    run = store.RunFolder.create(folder, {**IDENTITY, "config": config})
    rng = np.random.default_rng(0)
    cells = [
        (solver, n, seed, init, metric)
        for solver in ("unet", "cvae")
        for n in sizes
        for seed in range(seeds)
        for init in range(2)
        for metric in ("nmse", "psnr", "coverage_region")
        if not (solver == "unet" and metric == "coverage_region")
    ]
    cells += [("tv", 0, 0, None, "nmse")]
    three = (sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1])
    names = ("worst_over_baseline", "worst_error")
    cells += [("unet", n, s, 0, name) for n in three for s in range(checked) for name in names]
    metrics, curves = [], {}
    for solver, n, seed, init, metric in cells:
        truth = 0.2 if solver == "tv" else _value(solver, metric, n)
        scale = {"nmse": 0.01 * truth, "psnr": 0.05}.get(metric, 0.001)
        value = float(truth + scale * rng.standard_normal())
        key = {"solver": solver, "n": n, "metric": metric}
        ends = {"lower": value - scale, "upper": value + scale, "level": 0.95}
        counts = {"images": 100, "groups": 100, "status": "converged"}
        metrics.append(
            {**key, "data_seed": seed, "init_seed": init, "value": value, **ends, **counts}
            | {"evaluation": f"{len(metrics):016x}"}
        )
        curves[solver, n, metric] = {
            **key, "mean": truth, "lower": truth - scale, "upper": truth + scale, "level": 0.95,
            "data_seeds": seeds, "fits": 2 * seeds, "excluded": 0, "status": "ok",
        }  # fmt: skip
    store.write_table(run.tables, store.METRICS, store.from_rows(metrics, store.METRICS))
    store.write_table(run.tables, store.CURVES, store.from_rows(curves.values(), store.CURVES))
    store.write_csv(
        run.tables / "metric_definitions.csv",
        store.METRIC_DEFINITIONS,
        definitions_of({metric for _, _, _, _, metric in cells}),
    )
    return run


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report out, which takes longer than the plan."""
    from latens.studies import plan_command

    monkeypatch.setattr(plan_command, "write_report", lambda run: run.report_file)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> store.RunFolder:
    """A run, read only."""
    return _write(tmp_path_factory.mktemp("plan") / "run")


@pytest.fixture
def run(planned: store.RunFolder, tmp_path: Path) -> store.RunFolder:
    """A copy of the run, to be planned for."""
    return store.RunFolder.open(shutil.copytree(planned.path, tmp_path / "copy"))


def _rows(run: store.RunFolder) -> dict[tuple[str, str], dict]:
    table = store.read_table(run.tables, store.PLAN)
    return {(row["solver"], row["bar"]): row for row in table.to_dict("records")}


@pytest.mark.usefixtures("unreported")
def test_default_bars(run: store.RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(run.path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "NMSE at most" in printed.out
    assert "The run does not measure ace_region, spread_skill" in printed.out
    assert printed.out.splitlines()[-1] == f"report: {run.report_file}"
    rows = _rows(run)
    best = store.read_table(run.tables, store.METRICS).query("solver == 'unet' and n == 512")
    goal = 1.1 * best.query("metric == 'nmse'")["value"].mean()
    unet = rows["unet", "nmse<=1.1*best"]
    assert unet["bar_upper"] == pytest.approx(goal)
    needed = (4.0 / (goal - 0.02)) ** (1 / 0.9)
    assert unet["verdict"] == "reached"
    assert unet["lower"] < needed < unet["upper"]
    assert rows["cvae", "nmse<=1.1*best"]["verdict"] == "floor misses the bar"
    assert rows["tv", "nmse<=1.1*best"]["verdict"] == "uses no training data"
    coverage = rows["cvae", "coverage_region=0.92..0.98"]
    assert coverage["purpose"] == "calibration"
    assert coverage["lower"] < 1285 < coverage["upper"]
    band = store.read_table(run.tables, store.PLAN_BAND)
    assert band["n"].max() == pytest.approx(8 * 512)
    assert (band["lower"] <= band["value"]).all()
    assert (band["value"] <= band["upper"]).all()
    laws = store.read_table(run.tables, store.PLAN_LAWS)
    assert set(laws["law"]) == {"constant", "power", "floor", "broken"}
    ratios = store.read_table(run.tables, store.PLAN_RATIOS).set_index(["solver", "bar"])
    of_cvae = ratios.loc[("cvae", "coverage_region=0.92..0.98")]
    assert of_cvae["against"] == "nmse<=1.1*best"
    assert of_cvae["sooner"] > 0.5  # its floor misses the bar of accuracy
    assert "cvae: N of coverage_region=0.92..0.98 over N of nmse<=1.1*best" in " ".join(
        printed.out.split()
    )


@pytest.mark.usefixtures("unreported")
def test_own_bars(run: store.RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", str(run.path), "--bar", "psnr>=22", "--bar", "nmse<=0.1"]
    assert main([*arguments, "--level", "0.5"]) == 0
    assert "PSNR at least 22 dB" in capsys.readouterr().out
    half = _rows(run)
    assert main(arguments) == 0
    whole = _rows(run)
    assert {bar for _, bar in whole} == {"psnr>=22", "nmse<=0.1"}
    for (solver, bar), row in whole.items():
        if row["verdict"] != "reached":
            continue
        error = 0.1 if bar == "nmse<=0.1" else 10 ** ((12 - 22) / 10)
        floor, amplitude, exponent = {"unet": (0.02, 4.0, 0.9), "cvae": (0.06, 3.0, 0.8)}[solver]
        needed = (amplitude / (error - floor)) ** (1 / exponent)
        assert row["lower"] < needed < row["upper"]
        assert row["n"] == pytest.approx(needed, rel=0.1)
        narrow = half[solver, bar]
        assert narrow["upper"] - narrow["lower"] < row["upper"] - row["lower"]
    assert sum(row["verdict"] == "reached" for row in whole.values()) == 4


def test_the_back_test(run: store.RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(run.path), "--back-test"]) == 0
    printed = capsys.readouterr().out
    found = re.search(r"(\d+)% of the 90 % intervals contain .*\((\d+) targets, of (\d+)", printed)
    assert found
    table = store.read_table(run.tables, store.BACK_TEST)
    counted = table[table["counts"] == 1]
    assert (int(found[2]), int(found[3])) == (len(counted), len(table))
    assert len(table) == 2 * 5  # two sizes beyond the quarter, five curves
    assert int(found[1]) == round(100 * counted["contains"].mean())
    inside = (counted["lower"] <= counted["found"]) & (counted["found"] <= counted["upper"])
    assert (inside == (counted["contains"] == 1)).all()
    assert "Back-test." in run.report_file.read_text("utf-8")
    assert main(["plan", str(run.path)]) == 0
    assert not (run.tables / "back_test.csv").exists()
    assert "Back-test." not in run.report_file.read_text("utf-8")


def test_the_report_shows_the_plan_and_says_when_it_is_old(run: store.RunFolder) -> None:
    assert "No plan was made" in write_report(run).read_text("utf-8")
    assert main(["plan", str(run.path)]) == 0
    text = run.report_file.read_text("utf-8")
    assert "No plan was made" not in text
    assert "nmse&lt;=1.1*best" in text
    assert text.count('aria-label="Plan for') == 2
    assert "have changed since this plan" not in text
    metrics = store.read_table(run.tables, store.METRICS)
    store.write_table(run.tables, store.METRICS, metrics.iloc[5:])
    assert "have changed since this plan" in write_report(run).read_text("utf-8")


@pytest.mark.usefixtures("unreported")
def test_repeating_it_gives_the_same_bytes(run: store.RunFolder) -> None:
    assert main(["plan", str(run.path)]) == 0
    first = [(run.tables / f"{name}.csv").read_bytes() for name in ("plan", "plan_band")]
    assert main(["plan", str(run.path)]) == 0
    assert first == [(run.tables / f"{name}.csv").read_bytes() for name in ("plan", "plan_band")]


BAD = {
    "unknown metric": (["--bar", "nsme<=0.1"], "Did you mean `nmse`?"),
    "no sign": (["--bar", "nmse"], "METRIC<=VALUE"),
    "no number": (["--bar", "nmse<=low"], "a finite number"),
    "bar without value": (["--bar"], "expected one argument"),
    "level in per cent": (["--level", "90"], "Use 0.9, not 90"),
    "unknown option": (["--bars", "nmse<=0.1"], "latens plan --help"),
}


def _refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("latens: `")
    return line


@pytest.mark.parametrize("name", BAD)
def test_bad_options(
    name: str, planned: store.RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    options, fragment = BAD[name]
    assert fragment in _refused(capsys, ["plan", str(planned.path), *options])
    assert not (planned.tables / "plan.csv").exists()


@pytest.mark.usefixtures("unreported")
def test_bad_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in _refused(capsys, ["plan", str(tmp_path / "nowhere")])
    store.RunFolder.create(tmp_path / "started", IDENTITY)
    assert "no tables/metrics.csv" in _refused(capsys, ["plan", str(tmp_path / "started")])
    _write(tmp_path / "two", sizes=(32, 64))
    assert "2: 32, 64" in _refused(capsys, ["plan", str(tmp_path / "two")])
    four = _write(tmp_path / "four", sizes=SIZES[:4])
    line = _refused(capsys, ["plan", str(four.path), "--back-test"])
    assert "up to a quarter of the largest" in line
    assert not (four.tables / "plan.csv").exists()
    assert main(["plan", str(four.path)]) == 0


def test_no_default_bar_applies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _write(tmp_path / "run")
    metrics = store.read_table(run.tables, store.METRICS)
    kept = metrics[metrics["metric"] == "psnr"]
    store.write_table(run.tables, store.METRICS, kept)
    assert '--bar "psnr' in _refused(capsys, ["plan", str(run.path)])


@pytest.mark.usefixtures("unreported")
def test_one_data_seed_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _write(tmp_path / "run", seeds=1)
    assert main(["plan", str(run.path)]) == 0
    assert "One data seed. Run three data seeds or more." in capsys.readouterr().out


STABLE = "unet", "worst_over_baseline<=1.5"


@pytest.mark.usefixtures("unreported")
def test_one_checked_data_seed_says_what_to_raise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _write(tmp_path / "run", checked=1)
    assert main(["plan", str(run.path)]) == 0
    row = _rows(run)[STABLE]
    assert (row["verdict"], row["purpose"]) == ("cannot say", "stability")
    assert row["reason"] == "deep checks were made on one data seed"
    assert row["advice"] == "Raise `checked_data_seeds` to 3 or more."
    printed = capsys.readouterr().out
    assert "Run three data seeds" not in printed  # it has four
    assert "For stability" not in printed


@pytest.mark.usefixtures("unreported")
def test_checked_data_seeds_answer_for_stability(tmp_path: Path) -> None:
    run = _write(tmp_path / "run", checked=3)
    assert main(["plan", str(run.path)]) == 0
    row = _rows(run)[STABLE]
    assert row["verdict"] == "reached"
    assert row["lower"] < 144 < row["upper"]
    assert row["data_seeds"] == 3


@pytest.mark.usefixtures("unreported")
def test_without_the_check_the_command_for_it_is_named(
    run: store.RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(run.path)]) == 0
    printed = capsys.readouterr().out
    assert "The run does not measure ace_region, spread_skill, worst_over_baseline" in printed
    assert '--checks "[stability]" --checked_data_seeds 3' in printed


def test_nothing_of_torch_is_imported(run: store.RunFolder) -> None:
    code = (
        "import sys; from latens.cli import main\n"
        "main(['plan', sys.argv[1]])\n"
        "print([m for m in ('torch', 'lightning', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
