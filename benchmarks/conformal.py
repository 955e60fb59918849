"""Do conformal calibrations keep their promises? 1000 resampled calibrations of each kind.

    python benchmarks/conformal.py

draws calibration sets from a population with correlated pixels whose risks are known exactly, for
posteriors that are right and badly wrong. Prints one row per solver, method and size with the
promise, and writes `benchmarks/data/conformal.json`. Measured: 21 minutes on two cores that others
kept busy.

    split, cqr, simultaneous   mean coverage of images in [level, level + 1/(n + 1) + 1/N]
    crc                        mean risk at most 1 − level
    rcps                       share of calibrations with a risk above 1 − level at most δ

each within three standard errors; N is the size of the population, whose draws with replacement
tie with probability 1/N.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from math import sqrt
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from latens.evaluation.conformal import DELTA
from latens.metrics import units_needed
from oracles.conformal_population import METHODS, SOLVERS, population

Row = dict[str, object]

TARGET = Path(__file__).parent / "data" / "conformal.json"
RUNS = 1000
IMAGES = 3000
GROUPS = 1000


def main() -> None:
    """Resample every calibration, print the table, write the rows."""
    started = time.perf_counter()
    rows: list[Row] = []
    for row in every_case():
        rows.append(row)
        print("  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
    minutes = (time.perf_counter() - started) / 60
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps({"minutes": round(minutes, 1), "rows": rows}, indent=1) + "\n")
    kept = sum(bool(row["kept"]) for row in rows)
    print(f"{kept} of {len(rows)} promises kept; {minutes:.1f} minutes")


def every_case() -> Iterator[Row]:
    """One row per solver, method, level, size and kind of unit."""
    for name in SOLVERS:
        for method in METHODS:
            for groups in (0, GROUPS):
                for level, count in ((0.9, 50), (0.9, 200), (0.95, 100)):
                    yield case(name, method, level, count, groups)


def case(name: str, method: str, level: float, count: int, groups: int) -> Row:
    """Risks of the factors of `RUNS` calibrations on `count` units."""
    size = groups or IMAGES
    assert count >= units_needed(level, DELTA if method == "rcps" else None)
    everyone = population(name, method, level, size, groups)
    places = [list(SOLVERS).index(name), list(METHODS).index(method)]
    rng = np.random.default_rng([*places, count, groups, round(100 * level)])
    factors = everyone.factors(method, level, count, RUNS, rng)
    risk = np.array([everyone.risk(factor) for factor in factors])
    error = risk.std() / sqrt(RUNS)
    broken = float((risk > 1 - level).mean())
    if method == "rcps":
        kept = broken <= DELTA + 3 * sqrt(DELTA * (1 - DELTA) / RUNS)
    elif method == "crc" or groups:  # groups of several images step down by less than 1/n
        kept = risk.mean() <= 1 - level + 3 * error
    else:
        least = 1 - level - 1 / (count + 1) - 1 / size
        kept = least - 3 * error <= risk.mean() <= 1 - level + 3 * error
    return {
        "solver": name,
        "method": method,
        "level": level,
        "n": count,
        "unit": "group" if groups else "image",
        "kept on average": round(1 - float(risk.mean()), 4),
        "error": round(error, 5),
        "broken": round(broken, 4),
        "factor": round(float(np.median(factors)), 4),
        "kept": bool(kept),
        "runs": RUNS,
    }


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
