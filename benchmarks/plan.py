"""Back-tests of `latens plan`: what the smallest quarter of a sweep foretells, against the rest.

    python benchmarks/plan.py [RUN ...] [--sensitivity]

simulates sweeps with known laws, repeats the back-test on finished sweeps (run folders, or folders
with a metrics.csv; by default those of `benchmarks/data`) and on classical estimators with forty
data seeds, prints one row per group and writes `benchmarks/data/plan.json`. Targets are what the
whole curve gives at the sizes beyond the quarter, or shares of the value at its end, which are
fixed before anything beyond it is seen. Four minutes of one core, and half an hour more with
`--sensitivity`, which repeats finished and classical sweeps with other priors, with and without
laws that fall late.

The classical estimators cost nothing to train, so that their sweep can be repeated: forty data
seeds are thirteen sweeps of three, or four of ten. Their law is known, α = 1, and the back-test is
also that of somebody who knows it. `benchmarks/data/classical` is made by

    latens run scarcity --preset deblurring,DATA --models "{}" --ensembles "[]" --checks "[]" \\
        --baselines "[tikhonov,wiener]" --data_seeds 40 --init_seeds 1 --test_images 100 \\
        --sizes "[20,40,80,160,320,600]"    # mnist: 32, 64, …, 1024

Bar: 90 % intervals contain the N later found in ≥ 80 % of the targets, median |log₂ ratio| ≤ 0.5.
An interval without an upper end cannot miss above, so that `bounded` states how many have one and
`contains_bounded` how many of those contain it. Targets of one sweep share its subsets and are not
independent: `contains_lower` and `contains_upper` are a 95 % interval that resamples whole sweeps,
which with four or six of them is itself too short. `truth` is the share of intervals that contain
the N of the true law, for simulated sweeps.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import inf, isfinite
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from latens.scaling import BackTest, back_test, back_tests, forecasts
from latens.scaling import shapes as priors
from latens.scaling.back_tests import quarter_of
from latens.scaling.shapes import SHARPNESS
from latens.store import METRICS, USABLE, RunFolder, read_csv
from latens.studies.curves import learning_curves, read_metrics
from latens.studies.gather import definitions_of

Array = NDArray[np.float64]
Row = dict[str, object]

DATA = Path(__file__).parent / "data"
FINISHED = sorted((DATA / "operators").glob("*"))
"""Folders of finished sweeps."""
CLASSICAL = sorted((DATA / "classical").glob("*"))
"""Folders of Tikhonov and Wiener with forty data seeds."""
ACCURACY = (
    "mse",
    "nmse",
    "psnr",
    "ssim",
    "crps",
    "energy_score",
    "interval_score",
    "variogram_score",
)
"""Metrics that fall with the error; the others are of the uncertainty."""
GROUPS = (3, 5, 10, 20)
"""Data seeds of each sweep that forty are divided into."""
OWN = priors.MEDIAN_EXPONENT, priors.LOG_SPREAD
KNOWN = (1.0, 0.01)
"""Median and log-spread of somebody who knows that α = 1."""
UNSEEN = ("mri", "inpainting")
"""Operators on whose sweeps neither prior nor laws were chosen."""
UNITED = ("all", "accuracy", "uncertainty")
"""Rows that unite several metrics."""
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Targets that the quarter fixes: these shares of what it has reached."""
RESAMPLES = 10_000
"""Resamples of whole sweeps."""
RUNS = 150
"""Simulated sweeps of each design."""

DESIGNS = tuple((sizes, seeds) for sizes in (5, 7) for seeds in (3, 5))
LAWS = ("power", "floor", "broken")
NOISE, DECAY, CORRELATION = 0.03, 0.35, 0.6
"""Relative standard deviation of the mean of a data seed at the smallest size, its power of N, and
the correlation of neighbouring octaves: the median of the finished sweeps is .03 at the smallest
size and .01 four octaves later."""

PRIORS = ((1.0, 0.8), (1.0, 0.6), (0.6, 0.6), (0.35, 0.6))
"""Median and log-spread of the prior of exponents; the first is that of the library."""


def main() -> None:
    """Simulated and finished sweeps, the table, the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--sensitivity", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    rows = [_shown(row) for row in simulated()]
    folders = options.runs or FINISHED
    rows += [_shown(row) for row in finished(folders)]
    rows += [_shown(row) for row in fixed(folders)]
    unseen = [folder for folder in folders if folder.name.startswith(UNSEEN)]
    rows += [_shown(row) for row in finished(unseen, "unseen") if _kind(row) in UNITED]
    rows += [_shown(row) for row in classical()]
    if options.sensitivity:
        rows += [_shown(row) for row in sensitivity(folders)]
    minutes = round((time.perf_counter() - started) / 60, 1)
    target = DATA / "plan.json"
    target.write_text(json.dumps({"minutes": minutes, "rows": rows}, indent=1) + "\n")
    print(f"{minutes} minutes")


def simulated() -> Iterator[Row]:
    """Sweeps whose law is known, by design and by law."""
    by_law: dict[str, list[tuple[BackTest, bool]]] = {law: [] for law in LAWS}
    for count, seeds in DESIGNS:
        results = []
        for run in range(RUNS):
            law = LAWS[run % len(LAWS)]
            rng = np.random.default_rng([7, count, seeds, run])
            n = 32.0 * 2 ** np.arange(count)
            truth = true_law(rng, law, n)
            table = noisy(rng, n, truth(n), seeds)
            for test in back_test(n, table):
                hit = test.lower <= true_size(truth, test.target, n[0]) <= test.upper
                results.append((test, hit))
                by_law[law].append((test, hit))
        yield _row(f"simulated, {count} sizes, {seeds} data seeds", *zip(*results, strict=True))
    for law, results in by_law.items():
        yield _row(f"simulated, {law}, all designs", *zip(*results, strict=True))


def true_law(rng: np.random.Generator, law: str, n: Array):
    """A law as a function of N, value 1 at the smallest size.

    Exponents are log-uniform in [.2, 1.5], the floor is uniform in [0, .8], the break log-uniform
    between the sizes: not the prior of the library, which is log-normal.
    """
    before, after = np.exp(rng.uniform(np.log(0.2), np.log(1.5), 2))
    floor = 0.0 if law == "power" else rng.uniform(0, 0.8)
    place = np.exp(rng.uniform(np.log(n[0]), np.log(n[-1]))) if law == "broken" else inf

    def value(size: Array) -> Array:
        size = np.asarray(size, dtype=float)
        bend = (1 + (size / place) ** (1 / SHARPNESS)) ** (-(after - before) * SHARPNESS)
        return size**-before * bend

    return lambda size: floor + (1 - floor) * value(size) / value(n[0])


def true_size(truth, target: float, first: float) -> float:
    """N at which the true law reaches a target; the smallest size if before, ∞ if never."""
    grid = np.geomspace(first, 1e9, 20000)
    below = truth(grid) <= target
    return float(grid[int(np.argmax(below))]) if below.any() else inf


def noisy(rng: np.random.Generator, n: Array, law: Array, seeds: int) -> Array:
    """Means over initialisations of each data seed, `(seeds, sizes)`."""
    octave = np.log2(n)
    correlation = CORRELATION ** np.abs(octave[:, None] - octave)
    errors = rng.standard_normal((seeds, len(n))) @ np.linalg.cholesky(correlation).T
    return law * (1 + NOISE * (n / n[0]) ** -DECAY * errors)


def targets_of(
    folders: list[Path], shares: tuple[float, ...] | None = None
) -> list[tuple[str, str, str, BackTest]]:
    """Folder, solver, metric and back-test of every target."""
    found: list[tuple[str, str, str, BackTest]] = []
    for folder in folders:
        metrics, definitions = _tables(folder)
        names = [n for n in definitions["metric"] if n != "interval_width"]
        for curve in learning_curves(metrics, definitions, names):
            if curve.followed and quarter_of(curve.sizes).sum() >= 3:
                minimum = curve.scale.floor_minimum
                tests = back_test(curve.sizes, curve.table, minimum, shares=shares)
                found += [(folder.name, curve.solver, curve.metric, test) for test in tests]
    return found


def fixed(folders: list[Path]) -> Iterator[Row]:
    """Finished sweeps, targets that the quarter fixes: together, and by folder."""
    found = targets_of(folders, SHARES)
    sweeps = [entry[0] for entry in found]
    yield _row("finished, shares of the quarter", [test for *_, test in found], sweeps=sweeps)
    for name in sorted({entry[0] for entry in found}):
        tests = [entry[3] for entry in found if entry[0] == name]
        yield _row(f"finished, shares of the quarter, {name}", tests)


def finished(folders: list[Path], word: str = "finished") -> Iterator[Row]:
    """Finished sweeps, together, by folder, solver, metric and what is measured."""
    found = targets_of(folders)
    sweeps = [entry[0] for entry in found]
    yield _row(f"{word}, all", [test for *_, test in found], sweeps=sweeps)
    for column, kind in ((0, "sweep"), (1, "solver"), (2, "metric")):
        for name in sorted({entry[column] for entry in found}):
            mine = [entry for entry in found if entry[column] == name]
            tests, sweeps = [entry[3] for entry in mine], [entry[0] for entry in mine]
            yield _row(f"{word}, {kind} {name}", tests, sweeps=sweeps if column else None)
    for name in sorted({entry[1] for entry in found}):
        for what, wanted in (("accuracy", True), ("uncertainty", False)):
            mine = [entry for entry in found if entry[1] == name]
            mine = [entry for entry in mine if (entry[2] in ACCURACY) == wanted]
            tests, sweeps = [entry[3] for entry in mine], [entry[0] for entry in mine]
            yield _row(f"{word}, {what} of {name}", tests, sweeps=sweeps)


def classical() -> Iterator[Row]:
    """Classical estimators, in disjoint groups of data seeds; with the prior, and α known."""
    for folder in CLASSICAL:
        for count in GROUPS:
            name = f"classical, {folder.name}, {count} data seeds"
            yield _row(name, grouped(folder, count))
            with under(KNOWN):
                yield _row(f"{name}, α = 1 known", grouped(folder, count))


def grouped(folder: Path, count: int) -> list[BackTest]:
    """Back-tests of a sweep whose data seeds are divided into smaller ones."""
    metrics, definitions = _tables(folder)
    return [
        test
        for curve in learning_curves(metrics, definitions, list(definitions["metric"]))
        for start in range(0, len(curve.table) - count + 1, count)
        for test in back_test(
            curve.sizes, curve.table[start : start + count], curve.scale.floor_minimum
        )
    ]


@contextmanager
def under(prior: tuple[float, float], late: float = forecasts.LATE_SHARE) -> Iterator[None]:
    """A prior of the exponent, its median and log-spread, and the share of laws that fall late."""
    own = back_tests.forecast
    try:
        priors.MEDIAN_EXPONENT, priors.LOG_SPREAD = prior
        back_tests.forecast = partial(forecasts.forecast, late_share=late)
        yield
    finally:
        priors.MEDIAN_EXPONENT, priors.LOG_SPREAD = OWN
        back_tests.forecast = own


def sensitivity(folders: list[Path]) -> Iterator[Row]:
    """Finished and classical sweeps under other priors."""
    for prior in PRIORS:
        for late in (0.0, forecasts.LATE_SHARE):
            words = f", prior median {prior[0]}, spread {prior[1]}, late {late}"
            with under(prior, late):
                for row in finished(folders):
                    if _kind(row) in UNITED:
                        yield {**row, "experiment": f"{row['experiment']}{words}"}
                for folder in CLASSICAL:
                    yield _row(f"classical, {folder.name}{words}", grouped(folder, GROUPS[0]))


def _tables(folder: Path):
    """Metrics and definitions of a run, or of a folder with a metrics.csv."""
    if (folder / "run.json").is_file():
        return read_metrics(RunFolder.open(folder))
    metrics = read_csv(folder / "metrics.csv", METRICS)
    return metrics.loc[metrics["status"].isin(USABLE)], definitions_of(metrics["metric"])


def _kind(row: Row) -> str:
    return str(row["experiment"]).split()[1]


def over_sweeps(sweeps: list[str], contained: list[bool]) -> tuple[float, float] | None:
    """95 % interval of a share of targets, resampling whole sweeps; None for a single one.

    Args:
        sweeps: Sweep of each target.
        contained: Whether its N lies in the interval.
    """
    names = sorted(set(sweeps))
    if len(names) < 2:
        return None
    own = np.array(sweeps)
    hits = np.array([np.sum(np.array(contained)[own == name]) for name in names], float)
    counts = np.array([np.sum(own == name) for name in names], float)
    chosen = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    shares = hits[chosen].sum(1) / counts[chosen].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def _row(name: str, tests, hits=None, sweeps: list[str] | None = None) -> Row:
    """Outcome of the targets that count."""
    kept = [i for i, test in enumerate(tests) if test.counts]
    row: Row = {"experiment": name, "targets": len(kept), "tried": len(tests)}
    if not kept:
        return row
    counted = [tests[i] for i in kept]
    middle = {"q": 0.5, "method": "inverted_cdf"}
    ratios = np.array([test.log2_ratio for test in counted])
    ratio = float(np.quantile(np.abs(ratios), **middle))
    width = float(np.quantile([test.octaves for test in counted], **middle))
    contained = float(np.mean([test.contains for test in counted]))
    bounded = [test for test in counted if isfinite(test.upper)]
    inside = float(np.mean([test.contains for test in bounded])) if bounded else None
    row |= {
        "contains": round(contained, 3),
        "ratio": round(ratio, 3) if isfinite(ratio) else None,
        "bias": round(float(np.quantile(ratios, **middle)), 3),
        "octaves": round(width, 2) if isfinite(width) else None,
        "bounded": round(len(bounded) / len(counted), 3),
        "contains_bounded": None if inside is None else round(inside, 3),
        "named": round(float(np.mean([isfinite(test.foretold) for test in counted])), 3),
    }
    interval = None
    if sweeps is not None:
        interval = over_sweeps([sweeps[i] for i in kept], [test.contains for test in counted])
    if interval is not None:
        row |= {"contains_lower": round(interval[0], 3), "contains_upper": round(interval[1], 3)}
    if hits is not None:
        row["truth"] = round(float(np.mean([hits[i] for i in kept])), 3)
    row["met"] = contained >= 0.8 and ratio <= 0.5
    return row


def _shown(row: Row) -> Row:
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
