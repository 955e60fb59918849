"""`latens evaluate`: arrays on disk get the numbers that the same solver gets in Python."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import latens
from cli.test_bad_input import refused
from latens import store
from latens.cli import main
from latens.data.recordings import read_signals
from latens.distributions import NoiseStream
from latens.evaluation.sight import alterations
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from oracles.stationary_gaussian import StationaryGaussian, gaussian_power, impulse_transfer

SHAPE, NOISE, COUNT = (1, 12, 12), 0.2, 30
PROBLEM = InverseProblem(GaussianBlur(SHAPE, 0.8), GaussianNoise(NOISE))
STATED = [
    *("--operator", "latens.problems.GaussianBlur", "--operator.width", "0.8"),
    *("--noise", "latens.problems.GaussianNoise", "--noise.scale", str(NOISE)),
]


def oracle() -> StationaryGaussian:
    transfer = impulse_transfer(PROBLEM.operator, SHAPE[1:])
    return StationaryGaussian(gaussian_power(SHAPE[1:], 1.5, 1.0), transfer, NOISE, 0.5)


def fields(count: int, seed: int) -> torch.Tensor:
    noise = NoiseStream(seed).normal((count, *SHAPE), torch.float64)
    return oracle().sample_prior(noise).float()


X, REFERENCE = fields(COUNT, 0), fields(40, 5)
Y = PROBLEM.simulate(X, NoiseStream(1).normal(X.shape))
DRAWS = (
    oracle()
    .sample_posterior(Y.double(), NoiseStream(7).normal((39, *Y.shape), torch.float64))
    .float()
)
MEAN = oracle().posterior_mean(Y.double()).float()
STD = torch.full_like(MEAN, oracle().posterior_variance ** 0.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of an exact posterior on disk. Read only."""
    folder = tmp_path_factory.mktemp("arrays")
    arrays = {
        **{"x": X, "y": Y, "mean": MEAN, "std": STD, "draws": DRAWS, "reference": REFERENCE},
        "few": DRAWS[:20],
        "swapped": DRAWS.transpose(0, 1),
        "square": DRAWS[:COUNT].transpose(0, 1),
        "small": MEAN[..., :6],
        "fewer": MEAN[:-1],
        "other": X + 1,
        "negative": -STD,
        "measured_small": Y[..., :6],
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.numpy())
    broken = MEAN.numpy().copy()
    broken[2, 0, 3, 4] = np.nan
    np.save(folder / "broken.npy", broken)
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "text.npy").write_text("no array")
    (folder / "groups.txt").write_text("".join(f"p{i // 3}\n" for i in range(COUNT)))
    (folder / "two.txt").write_text("a\nb\n")
    return folder


def leave_report_out(patch: pytest.MonkeyPatch) -> None:
    from latens.studies import evaluate_command

    patch.setattr(evaluate_command, "write_report", lambda run: run.report_file)


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report out, which takes longer than the rest."""
    leave_report_out(monkeypatch)


def call(files: Path, run: Path, *options: str) -> list[str]:
    """Arguments in which `NAME.npy` and `NAME.txt` stand for files of the fixture."""
    named = [str(files / o) if re.fullmatch(r"\w+\.(npy|txt)", o) else o for o in options]
    return ["evaluate", str(run), "--truth", str(files / "x.npy"), *named]


FULL = ("--measurements", "y.npy", *STATED, "--reference", "reference.npy")


def metrics(run: Path) -> pd.DataFrame:
    return store.read_table(run / "tables", store.METRICS)


@pytest.mark.usefixtures("without_report")
def test_the_numbers_are_those_of_the_api(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ("--draws", "draws.npy", *FULL, "--groups", "groups.txt", "--name", "exact")
    assert main(call(files, run, *options)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    groups = [f"p{i // 3}" for i in range(COUNT)]
    expected = latens.evaluate(
        lambda y, n: DRAWS[:n],
        PROBLEM,
        X,
        y=Y,
        groups=groups,
        reference=REFERENCE,
        name="exact",
    )
    found = metrics(run).set_index("metric")
    wanted = expected.metrics.set_index("metric")
    assert set(found.index) == set(wanted.index)
    assert {"data_chi2", "coverage_principal", "coverage_region", "psnr"} <= set(found.index)
    for column in ("value", "lower", "upper", "images", "groups"):
        np.testing.assert_allclose(found[column], wanted.loc[found.index, column], rtol=1e-4)
    assert set(found["groups"]) == {10}
    assert str(expected).splitlines()[0] == "exact: 30 images, posterior"
    assert printed.out.splitlines()[0] == "exact: 30 images, posterior"
    assert f"{run}: 1 evaluation of exact at N = 0" in printed.out
    assert printed.out.splitlines()[-1] == f"report: {run / 'report.html'}"
    assert "not measured" not in printed.out
    assert found.loc["coverage_pixel", "value"] == pytest.approx(0.95, abs=0.02)
    # without training data there are no seeds: the curve has the interval over images
    curves = store.read_table(run / "tables", store.CURVES).set_index("metric")
    for mine, theirs in (("mean", "value"), ("lower", "lower"), ("upper", "upper")):
        np.testing.assert_array_equal(curves[mine], found.loc[curves.index, theirs])


def test_one_evaluation_makes_a_report(files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(call(files, run, "--mean", "mean.npy", "--name", "mine")) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "One solver was evaluated on x.npy, on 30 test images." in page
    assert "Range and null space" not in page
    assert "measurement: not available" in page
    assert "a point estimate has no uncertainty" in page
    value = metrics(run).query("metric == 'psnr'")["value"].item()
    assert f"{value:.1f}" in page


LEFT_OUT = {
    "point": (("--mean", "mean.npy"), ["data residual", "a point estimate has no uncertainty"]),
    "spread": (
        ("--mean", "mean.npy", "--std", "std.npy", *FULL),
        ["it needs draws, for a spread per pixel"],
    ),
    "draws": (("--draws", "draws.npy"), ["data residual", "principal directions"]),
}


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.usefixtures("without_report")
def test_what_is_left_out_is_said(
    name: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, reasons = LEFT_OUT[name]
    assert main(call(files, tmp_path / "run", *options)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "not measured" in line]
    assert len(lines) == len(reasons)
    for line, reason in zip(lines, reasons, strict=True):
        assert reason in line


@pytest.mark.usefixtures("without_report")
def test_a_spread_per_pixel(files: Path, tmp_path: Path) -> None:
    """The exact standard deviation: pixels are calibrated, and nothing is said of regions."""
    run = tmp_path / "run"
    assert main(call(files, run, "--mean", "mean.npy", "--std", "std.npy")) == 0
    found = metrics(run).set_index("metric")["value"]
    assert found["coverage_pixel"] == pytest.approx(0.95, abs=0.02)
    assert found["spread_skill"] == pytest.approx(1, abs=0.05)
    assert not {"coverage_region", "energy_score", "variogram_score"} & set(found.index)
    mse = float(((MEAN - X) ** 2).mean())
    assert found["mse"] == pytest.approx(mse, rel=0.1)  # of 39 draws about the mean, not of it


def _curve(files: Path, run: Path, folder: Path, sizes: tuple[int, ...]) -> None:
    """A solver whose error is that of the exact mean and a part that falls as 8/N."""
    for n in sizes:
        for seed in (0, 1):
            noise = NoiseStream(n, seed).normal(X.shape)
            np.save(folder / "m.npy", (MEAN + (8 / n) ** 0.5 * noise).numpy())
            place = ("--name", "theirs", "--n", str(n), "--data_seed", str(seed))
            assert main(call(files, run, "--mean", str(folder / "m.npy"), *FULL, *place)) == 0


def test_several_calls_make_a_learning_curve(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        leave_report_out(patch)
        _curve(files, run, tmp_path, (16, 32, 64))
    assert "6 evaluations of theirs at N = 16, 32, 64" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "theirs" in page
    assert "GaussianBlur(width=0.8" in page
    assert (run / "figures" / "learning_curves.svg").is_file()
    curves = store.read_table(run / "tables", store.CURVES).query("metric == 'mse'")
    floor = float(((MEAN - X) ** 2).mean())
    expected = [floor + 8 / n for n in curves["n"]]
    np.testing.assert_allclose(curves["mean"], expected, rtol=0.05)
    assert (curves["data_seeds"] == 2).all()
    capsys.readouterr()
    goal = floor + 8 / 50
    assert main(["plan", str(run), "--bar", f"mse<={goal}"]) == 0
    plan = store.read_table(run / "tables", store.PLAN).iloc[0]
    assert plan["verdict"] == "reached"
    assert plan["lower"] < 50 < plan["upper"]


@pytest.mark.usefixtures("without_report")
def test_a_place_is_taken_once(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    first = call(files, run, "--mean", "mean.npy", "--n", "8")
    assert main(first) == 0
    before = metrics(run)
    assert main(first) == 0  # the same arrays: nothing changes
    pd.testing.assert_frame_equal(metrics(run), before)
    assert len(list((run / "evaluations").iterdir())) == 1
    second = call(files, run, "--mean", "other.npy", "--n", "8")
    line = refused(capsys, second, (2,))
    assert "solver, N = 8, data seed 0, init seed 0" in line
    assert "--replace" in line
    pd.testing.assert_frame_equal(metrics(run), before)
    assert main([*second, "--replace"]) == 0
    after = metrics(run)
    assert len(after) == len(before)
    assert after.query("metric == 'mse'")["value"].item() == pytest.approx(1, rel=1e-4)
    assert len(list((run / "evaluations").iterdir())) == 1
    assert main(call(files, run, "--mean", "mean.npy", "--n", "8", "--init-seed", "1")) == 0
    assert set(metrics(run)["init_seed"]) == {0, 1}


@pytest.mark.usefixtures("without_report")
def test_all_calls_of_a_run_share_test_set_and_problem(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    full = ("--mean", "mean.npy", *FULL, "--data_range", "-9", "9")
    assert main(call(files, run, *full)) == 0
    assert metrics(run).query("metric == 'psnr'")["value"].item() > 20
    rest = ("--mean", "mean.npy", "--n", "4", "--measurements", "y.npy")
    reference = ("--reference", "reference.npy")
    assert main(call(files, run, *rest, *reference)) == 0  # operator and range of the run
    assert metrics(run).query("metric == 'psnr'")["value"].nunique() == 1
    other = ("--operator", "latens.problems.Identity")
    for change, option in (
        (("--truth", str(files / "other.npy")), "--truth"),
        (("--groups", "groups.txt"), "--groups"),
        (("--data-range", "-8", "9"), "--data_range"),
        ((), "--reference"),
        (other, "operator"),
        (("--noise.scale", "0.3"), "noise"),
    ):
        extra = () if option == "--reference" else reference
        line = refused(capsys, call(files, run, *rest, *extra, *change), (2,))
        assert line.startswith(f"latens: `{option}`"), line
    assert len(metrics(run)["n"].unique()) == 2


@pytest.mark.usefixtures("without_report")
def test_deep_checks(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    checks = ("--checks", "[calibration,null_space,stability]", "--checked_images", "24")
    assert main(call(files, run, "--draws", "draws.npy", *FULL, *checks)) == 0
    printed = capsys.readouterr().out
    tests = store.read_table(run / "tables", store.TESTS)
    assert (tests["p_adjusted"] > 0.05).all()  # an exact posterior
    assert set(tests["images"]) == {24}
    power = store.read_table(run / "tables", store.POWER)
    assert set(power["posterior"]) == set(alterations())
    assert set(power["images"]) == {24}
    assert power["power"].between(0, 1).all()
    assert (power.set_index("posterior")["power"][["std × 0.8", "std × 1.25"]] > 0.8).all()
    trust = store.read_table(run / "tables", store.TRUST).set_index("question")
    assert trust.loc["accurate", "reason"].startswith("no other solver was compared")
    assert trust.loc["calibrated", "reason"] == "the interval crosses the bar"
    assert "no miscalibration found on 24 held-out pairs" in printed
    assert "share of the error in the null space" in printed
    assert "stability:\n  not applicable" in printed
    assert {"null_error", "unflagged"} <= set(metrics(run)["metric"])
    pointwise = ("--mean", "mean.npy", "--std", "std.npy", "--n", "1")
    assert main(call(files, run, *pointwise, *FULL, *checks)) == 0
    found = metrics(run).query("n == 1")
    assert "null_error" in set(found["metric"])
    assert "null_variance" not in set(found["metric"])
    assert "calibration:\n  not applicable" in capsys.readouterr().out


@pytest.mark.usefixtures("without_report")
def test_nothing_recorded_is_a_solver(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(call(files, run, "--mean", "mean.npy")) == 0
    assert "Apply the solver" in refused(
        capsys, ["reconstruct", str(run), str(files / "y.npy")], (2,)
    )
    assert not (files / "y").exists()


@pytest.mark.usefixtures("without_report")
def test_folders_of_nifti(tmp_path: Path) -> None:
    from data.test_nifti import anatomy, save

    shape = (12, 13, 14)
    for name in ("truth", "mean"):
        (tmp_path / name).mkdir()
    for i in range(3):
        values = anatomy(i, shape)
        save(tmp_path / "truth" / f"s{i}.nii.gz", values, "LPS")
        save(tmp_path / "mean" / f"s{i}.nii.gz", values + 10, "RAS")
    files = ["--truth", str(tmp_path / "truth"), "--mean", str(tmp_path / "mean")]
    assert main(["evaluate", str(tmp_path / "run"), *files]) == 0
    found = metrics(tmp_path / "run").set_index("metric")["value"]
    assert found["mse"] == pytest.approx(100, rel=1e-3)
    assert "ssim" in found.index
    per_image = next((tmp_path / "run" / "evaluations").glob("*/per_image.parquet"))
    assert set(store.read_parquet(per_image, store.PER_IMAGE)["group"]) == {"s0", "s1", "s2"}


BAD = {
    "no reconstructions": ((), "--mean"),
    "std alone": (("--draws", "draws.npy", "--std", "std.npy"), "Give `mean` too"),
    "negative std": (("--mean", "mean.npy", "--std", "negative.npy"), "Take the root"),
    "too few draws": (("--draws", "few.npy"), "39"),
    "draws and images swapped": (("--draws", "swapped.npy"), "swapaxes"),
    "swapped, as many": (("--draws", "square.npy"), "swapaxes"),
    "a mean as draws": (("--draws", "mean.npy"), "draws, 30, 1, 12, 12"),
    "draws as a mean": (("--mean", "draws.npy"), "x.npy"),
    "other size": (("--mean", "small.npy"), "(30, 1, 12, 12)"),
    "fewer images": (("--mean", "fewer.npy"), "(30, 1, 12, 12)"),
    "NaN": (("--mean", "broken.npy"), "(2, 0, 3, 4)"),
    "pickled": (("--mean", "pickled.npy"), "pickled"),
    "no array": (("--mean", "text.npy"), "text.npy"),
    "missing": (("--mean", "nowhere.npy"), "nowhere.npy"),
    "groups of other images": (("--mean", "mean.npy", "--groups", "two.txt"), "30 images"),
    "range turned round": (("--mean", "mean.npy", "--data_range", "9", "-9"), "smaller first"),
    "range too small": (("--mean", "mean.npy", "--data_range", "0", "0.1"), "data_range"),
    "negative N": (("--mean", "mean.npy", "--n", "-3"), "--n"),
    "N that is none": (("--mean", "mean.npy", "--n", "many"), "arguments"),
    "empty name": (("--mean", "mean.npy", "--name", " "), "--name"),
    "reference of another size": (("--mean", "mean.npy", "--reference", "small.npy"), "small.npy"),
    "operator without measurements": (("--mean", "mean.npy", *STATED), "--measurements"),
    "operator alone": (("--mean", "mean.npy", *STATED[:4]), "both or neither"),
    "measurements of another size": (
        ("--mean", "mean.npy", "--measurements", "measured_small.npy", *STATED),
        "measured_small.npy",
    ),
    "operator that does not explain them": (
        ("--mean", "mean.npy", "--measurements", "other.npy", *STATED),
        "explains the measurements",
    ),
    "noise without level": (
        ("--mean", "mean.npy", "--measurements", "y.npy", *STATED[:6]),
        "--noise.scale",
    ),
    "unknown operator": (
        ("--mean", "mean.npy", "--measurements", "y.npy", "--operator", "latens.problems.Blurr"),
        "Blur",
    ),
    "foreign operator": (
        ("--mean", "mean.npy", "--measurements", "y.npy", "--operator", "os.system"),
        "--trust os",
    ),
    "unknown setting": (("--mean", "mean.npy", "--widht", "3"), "widht"),
    "unknown check": (("--mean", "mean.npy", "--checks", "[lipschitz]"), "checks"),
    "too few images for a check": (
        ("--draws", "draws.npy", "--checks", "[calibration]", "--checked_images", "5"),
        "20 independent images",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, fragment = BAD[name]
    line = refused(capsys, call(files, tmp_path / "run", *options), (2,))
    assert fragment in line
    assert not (tmp_path / "run").exists()


def test_bad_truth(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for truth in ("broken.npy", "pickled.npy", "nowhere.npy"):
        argv = ["evaluate", str(tmp_path / "run"), "--truth", str(files / truth)]
        assert truth in refused(capsys, [*argv, "--mean", str(files / "mean.npy")], (2,))
    constant = tmp_path / "constant.npy"
    np.save(constant, np.ones((4, 12, 12)))
    argv = ["evaluate", str(tmp_path / "run"), "--truth", str(constant), "--mean", str(constant)]
    assert "more than one value" in refused(capsys, argv, (2,))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_its_own(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = {"study": "scarcity", "name": "", "config": {}, "data": {}, "result_version": 5}
    run = store.RunFolder.create(tmp_path / "study", identity)
    argv = call(files, run.path, "--mean", "mean.npy")
    assert "latens run scarcity" in refused(capsys, argv, (2,))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    argv = call(files, tmp_path / "photos", "--mean", "mean.npy")
    assert "a.jpg" in refused(capsys, argv, (2,))
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_the_shapes_of_the_help_are_those_of_the_readers(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(n, C, *spatial)" in text
    assert "S ≥ 39" in text
    assert read_signals(str(files / "x.npy")).values.shape == (COUNT, *SHAPE)


@pytest.fixture(scope="module")
def held_out(files: Path) -> Path:
    """Forty other fields with draws of half the right spread, and such draws of the test set."""
    x = fields(40, 8)
    y = PROBLEM.simulate(x, NoiseStream(2).normal(x.shape)).double()
    noise = NoiseStream(3).normal((39, *y.shape), torch.float64)
    draws, mean = oracle().sample_posterior(y, noise).float(), oracle().posterior_mean(y).float()
    arrays = {"hx": x, "hmean": mean, "hdraws": (mean + draws) / 2, "narrow": (MEAN + DRAWS) / 2}
    for name, array in arrays.items():
        np.save(files / f"{name}.npy", array.numpy())
    return files


@pytest.mark.usefixtures("without_report")
def test_intervals_with_a_promise(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    held = ("--calibration_truth", "hx.npy", "--calibration_draws", "hdraws.npy")
    argv = call(held_out, run, "--draws", "narrow.npy", *held, "--name", "narrow")
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "intervals calibrated on 40 held-out images (crc, factor" in printed
    assert "calibrated   no     coverage_region" in printed
    found = metrics(run).set_index("metric")["value"]
    assert found["coverage_pixel"] < 0.75
    # 40 images leave a miss rate of (41 · .05 − 1)/40 at the threshold; a field of Gaussians
    assert found["conformal_coverage"] == pytest.approx(0.974, abs=0.015)
    assert found["conformal_gain"] == pytest.approx(2 * 2.22 / 1.96, abs=0.2)
    (unit,) = (run / "evaluations").iterdir()
    assert store.read_json(unit / "calibration.json")["units"] == 40
    assert "Conformal intervals" in set(
        store.read_table(run / "tables", store.METRIC_DEFINITIONS)["section"]
    )
    assert main(argv) == 0  # the same again changes nothing
    assert len(list((run / "evaluations").iterdir())) == 1
    other = [*argv, "--conformal", "cqr"]
    assert "--replace" in refused(capsys, other, (2,))


HELD = {
    "the set that is evaluated": (
        (
            "--draws",
            "draws.npy",
            "--calibration_truth",
            "x.npy",
            "--calibration_draws",
            "draws.npy",
        ),
        "images that are not evaluated",
    ),
    "another kind": (
        (
            "--draws",
            "draws.npy",
            "--calibration_truth",
            "hx.npy",
            "--calibration_mean",
            "hmean.npy",
        ),
        "--calibration_mean",
    ),
    "no spread": (
        ("--mean", "mean.npy", "--calibration_truth", "hx.npy", "--calibration_mean", "hmean.npy"),
        "--draws or --std",
    ),
    "no truth": (("--draws", "draws.npy", "--conformal", "rcps"), "--calibration_truth"),
    "too few": (
        (
            *("--draws", "draws.npy", "--calibration_truth", "hx.npy"),
            *("--calibration_draws", "hdraws.npy", "--conformal", "rcps"),
        ),
        "45",
    ),
    "no such method": (
        (
            *("--draws", "draws.npy", "--calibration_truth", "hx.npy"),
            *("--calibration_draws", "hdraws.npy", "--conformal", "magic"),
        ),
        "simultaneous",
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_held_out_images_that_do_not_fit(
    name: str, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, said = HELD[name]
    assert said in refused(capsys, call(held_out, tmp_path / "run", *options), (2,))
    assert not (tmp_path / "run").exists()
