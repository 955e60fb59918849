"""A run folder as a study leaves it: plausible numbers, one collapsed and one failed fit."""

import json
import math
from pathlib import Path

import numpy as np

from latens import store

SOLVERS = ("tikhonov", "unet", "cvae", "cvae_ensemble", "latent", "direct")
POINTS = ("tikhonov", "unet")
SIZES = (32, 64, 128, 256, 512)
DATA_SEEDS, INIT_SEEDS = (0, 1, 2), (0, 1)
LEVEL = 0.95

QUALITY, CALIBRATION, SHARPNESS = "Reconstruction quality", "Calibration", "Sharpness and scores"
DEFINITIONS = (
    (
        "psnr",
        "PSNR",
        "dB",
        "higher",
        math.nan,
        "10 log₁₀(L²/MSE), mean over images of decibels.",
        QUALITY,
    ),
    ("nmse", "NMSE", "", "lower", 0.0, "‖x̂ − x‖²/‖x‖², mean over images.", QUALITY),
    (
        "coverage_pixel",
        "coverage at 95%, pixels",
        "",
        "target",
        0.95,
        "Fraction inside.",
        CALIBRATION,
    ),
    (
        "coverage_region",
        "coverage at 95%, region means",
        "",
        "target",
        0.95,
        "Means inside.",
        CALIBRATION,
    ),
    ("spread_skill", "spread-skill ratio", "", "target", 1.0, "Spread over error.", CALIBRATION),
    (
        "interval_width",
        "width of the 95% interval",
        "signal",
        "lower",
        math.nan,
        "Mean width.",
        SHARPNESS,
    ),
    (
        "crps",
        "CRPS",
        "signal",
        "lower",
        math.nan,
        "Fair CRPS, mean over event and images.",
        SHARPNESS,
    ),
)
UNCERTAIN = ("coverage_pixel", "coverage_region", "spread_skill", "interval_width", "crps")

# floor, amplitude, exponent of NMSE
LAWS = {
    "tikhonov": (0.105, 0.0, 1.0),
    "unet": (0.021, 4.2, 0.95),
    "cvae": (0.024, 5.0, 0.92),
    "cvae_ensemble": (0.020, 3.6, 0.90),
    "latent": (0.034, 2.4, 0.85),
    "direct": (0.040, 5.5, 0.90),
}
COLLAPSED = ("latent", 32, 1, 0)
FAILED = ("cvae", 64, 2, 1)


def nmse(solver: str, n: float) -> float:
    floor, amplitude, exponent = LAWS[solver]
    return floor + amplitude * n**-exponent


def truth_of(solver: str, n: int, metric: str) -> float:
    """Value of a metric without noise."""
    error = nmse(solver, n)
    shortfall = {"direct": 0.30}.get(solver, 0.0) + {"cvae_ensemble": 1.4}.get(solver, 3.2) / n
    values = {
        "psnr": 10.5 - 10 * math.log10(error),
        "nmse": error,
        "coverage_pixel": 0.95 - 0.4 * shortfall - 1.0 / n,
        "coverage_region": 0.95 - 1.3 * shortfall - 3.0 / n,
        "spread_skill": 1.0 - 1.2 * shortfall - 4.0 / n,
        "interval_width": 1.1 * math.sqrt(error),
        "crps": 0.21 * math.sqrt(error),
    }
    return values[metric]


def curves() -> list[dict]:
    generator = np.random.default_rng(0)
    rows = []
    for solver in SOLVERS:
        for n in SIZES:
            for metric, *_ in DEFINITIONS:
                if solver in POINTS and metric in UNCERTAIN:
                    continue
                value = truth_of(solver, n, metric)
                width = 0.35 * abs(value) / math.sqrt(n) + 0.004 * abs(value)
                width *= 0.25 if metric == "psnr" else 1.0
                value += 0.4 * width * generator.standard_normal()
                excluded = sum((solver, n) == bad[:2] for bad in (COLLAPSED, FAILED))
                total = {"tikhonov": 3, "cvae_ensemble": 3}.get(solver, 6)
                rows.append(
                    {
                        "solver": solver,
                        "n": n,
                        "metric": metric,
                        "mean": value,
                        "lower": value - width,
                        "upper": value + width * 1.1,
                        "level": LEVEL,
                        "data_seeds": 3,
                        "fits": total - excluded,
                        "excluded": excluded,
                        "status": "converged",
                    }
                )
    return rows


def scaling() -> tuple[list[dict], list[dict]]:
    laws, band = [], []
    for solver, law in LAWS.items():
        ok = solver != "tikhonov"
        for parameter, value in zip(("floor", "amplitude", "exponent"), law, strict=True):
            ends = (0.9 * value, 1.12 * value) if ok else (math.nan, math.nan)
            laws.append(
                {
                    "solver": solver,
                    "metric": "nmse",
                    "parameter": parameter,
                    "value": value if ok else math.nan,
                    "lower": ends[0],
                    "upper": ends[1],
                    "level": LEVEL,
                    "sizes": len(SIZES),
                    "status": "ok" if ok else "not identified",
                }
            )
        for n in np.geomspace(SIZES[0], SIZES[-1], 40) if ok else []:
            value = nmse(solver, n)
            room = 0.05 + 1.2 / math.sqrt(n)
            band.append(
                {
                    "solver": solver,
                    "metric": "nmse",
                    "n": float(n),
                    "value": value,
                    "lower": value * (1 - 0.5 * room),
                    "upper": value * (1 + 0.5 * room),
                    "level": LEVEL,
                }
            )
    return laws, band


def phantom(seed: int, side: int) -> np.ndarray:
    """Ellipses with values in [0, 1], `(side, side)`."""
    generator = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, side)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    image = 0.35 * ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1)
    for _ in range(5):
        cx, cy = generator.uniform(-0.45, 0.45, 2)
        a, b = generator.uniform(0.08, 0.35, 2)
        inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
        image = np.where(inside, generator.uniform(0.1, 1.0), image)
    return image


def smooth(image: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        for axis in (-1, -2):
            image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image


def write_examples(folder: Path, solver: str, n: int, side: int, images: int) -> None:
    generator = np.random.default_rng([n, SOLVERS.index(solver)])
    truth = np.stack([phantom(seed, side) for seed in range(images)])[:, None]
    blurred = smooth(truth, 10)
    noise = np.random.default_rng(9).standard_normal(truth.shape)
    error = math.sqrt(nmse(solver, n))
    mean = smooth(truth, round(14 * error) + 1)
    mean = mean + 0.25 * error * smooth(generator.standard_normal(truth.shape), 2)
    arrays = {"truth": truth, "measurement": blurred + 0.05 * noise, "mean": mean}
    if solver not in POINTS:
        spread = truth_of(solver, n, "spread_skill")
        std = np.abs(smooth(truth, 12) - truth) * error * 2.2 + 0.35 * error
        std = np.maximum(spread * smooth(std, 1), 1e-3)
        arrays |= {"std": std, "lower": mean - 1.96 * std, "upper": mean + 1.96 * std}
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(np.float32))
    facts = {"images": list(range(images)), "data_range": [0.0, 1.0]}
    if solver not in POINTS:
        facts["level"] = LEVEL
    (folder / "examples.json").write_text(json.dumps(facts))


def write_units(run: store.RunFolder, side: int, images: int) -> None:
    for solver in SOLVERS:
        for n in SIZES:
            for data_seed in DATA_SEEDS:
                fits = []
                if solver not in ("tikhonov", "cvae_ensemble"):
                    fits = [
                        write_fit(run, solver, n, data_seed, init_seed) for init_seed in INIT_SEEDS
                    ]
                write_evaluation(run, solver, n, data_seed, fits, side, images)


def write_fit(
    run: store.RunFolder,
    solver: str,
    n: int,
    data_seed: int,
    init_seed: int,
) -> str:
    identity = {"model": solver, "n": n, "data_seed": data_seed, "init_seed": init_seed}
    name = store.content_hash(identity)
    outcome = store.Outcome(store.Status.CONVERGED, step=1800)
    cell = (solver, n, data_seed, init_seed)
    if cell == COLLAPSED:
        message = "The latent code carries 0.03 nats; 0 of 32 units are active."
        outcome = store.Outcome(store.Status.COLLAPSED, message, 2000, {"kl": 0.03})
    if cell == FAILED:
        outcome = store.Outcome(store.Status.NAN, "The loss became NaN at step 412.", 412)
    folder = run.fit(name)
    write_unit(folder, "fit.json", identity, outcome)
    if n == SIZES[-1] and data_seed == init_seed == 0:
        steps = range(100, 2001, 100)
        history = [
            {
                "stage": "fit",
                "step": step,
                "quantity": quantity,
                "value": top + nmse(solver, n) + 2.0 * math.exp(-step / 300),
            }
            for quantity, top in (("train/loss", 0.0), ("val/loss", 0.08))
            for step in steps
        ]
        store.write_csv(
            folder / "history.csv", store.HISTORY, store.from_rows(history, store.HISTORY)
        )
    return name


def write_unit(folder: Path, file: str, identity: dict, outcome: store.Outcome) -> None:
    """Identity and outcome of a unit, without the slow care of the atomic writers."""
    folder.mkdir()
    (folder / file).write_text(json.dumps(identity))
    if outcome.status != store.Status.CONVERGED:
        outcome.write(folder)
        return
    content = {"status": "converged", "message": "", "step": outcome.step, "statistics": {}}
    (folder / "outcome.json").write_text(json.dumps(content))


def write_evaluation(
    run: store.RunFolder,
    solver: str,
    n: int,
    data_seed: int,
    fits: list[str],
    side: int,
    images: int,
) -> None:
    combined = solver in ("tikhonov", "cvae_ensemble")
    for init_seed in (None,) if combined else INIT_SEEDS:
        if (solver, n, data_seed, init_seed) in (COLLAPSED, FAILED):
            continue
        identity = {
            "solver": solver,
            "n": n,
            "data_seed": data_seed,
            "init_seed": init_seed,
            "fits": [] if init_seed is None else [fits[init_seed]],
            "kind": "point" if solver in POINTS else "posterior",
            "note": "not a posterior" if solver == "direct" else "",
        }
        name = store.content_hash(identity)
        folder = run.evaluation(name)
        write_unit(folder, "evaluation.json", identity, store.Outcome(store.Status.CONVERGED))
        if data_seed == 0 and init_seed in (None, 0):
            write_examples(folder / "examples", solver, n, side, images)


def write_costs(run: store.RunFolder) -> None:
    rows = []
    for unit, file in (("fit", "fit.json"), ("evaluation", "evaluation.json")):
        for path in sorted(run.path.glob(f"{unit}s/*/{file}")):
            said = json.loads(path.read_text())
            n = said["n"]
            rows.append(
                {
                    "unit": unit,
                    "hash": path.parent.name,
                    "solver": said.get("solver") or said["model"],
                    "n": n,
                    "data_seed": said["data_seed"],
                    "init_seed": said["init_seed"],
                    "seconds": 9.0 + 0.05 * n + said["data_seed"] if unit == "fit" else 2.5,
                    "peak_memory_mib": 410.0 + 0.1 * n if unit == "fit" else 350.0,
                }
            )
    store.write_csv(run.cost_file, store.COST, store.from_rows(rows, store.COST))


def write_tables(run: store.RunFolder) -> None:
    laws, band = scaling()
    metrics = [
        {
            "solver": row["solver"],
            "n": row["n"],
            "data_seed": seed,
            "init_seed": 0,
            "metric": row["metric"],
            "value": row["mean"],
            "lower": row["lower"],
            "upper": row["upper"],
            "level": LEVEL,
            "images": 200,
            "groups": 200,
            "status": "converged",
            "evaluation": "0" * 16,
        }
        for row in curves()
        for seed in DATA_SEEDS
    ]
    definitions = [
        dict(zip(store.METRIC_DEFINITIONS.columns, row, strict=True)) for row in DEFINITIONS
    ]
    for schema, rows in (
        (store.CURVES, curves()),
        (store.METRICS, metrics),
        (store.SCALING, laws),
        (store.SCALING_BAND, band),
    ):
        store.write_table(run.tables, schema, store.from_rows(rows, schema))
    schema = store.METRIC_DEFINITIONS
    file = run.tables / "metric_definitions.csv"
    store.write_csv(file, schema, store.from_rows(definitions, schema))


IDENTITY = {
    "study": "scarcity",
    "name": "Blurred ellipses",
    "config": {
        "study": "scarcity",
        "sizes": list(SIZES),
        "problem": {
            "operator": {
                "class_path": "latens.problems.GaussianBlur",
                "init_args": {"width": 2.0},
            },
            "noise": {"class_path": "latens.problems.GaussianNoise", "init_args": {"std": 0.05}},
        },
        "training": {"max_steps": 2000, "batch_size": 32},
    },
    "data": {
        "name": "ellipse phantoms 32 × 32",
        "source": "made on the spot",
        "citation": "Doe and Roe (2020), Ellipses for everyone",
        "fingerprint": "sha256:5f1d3a9c",
    },
    "result_version": 1,
}


def write_run(path: Path, side: int = 32, images: int = 4) -> store.RunFolder:
    """The whole synthetic run."""
    run = store.RunFolder.create(path, IDENTITY)
    write_units(run, side, images)
    write_costs(run)
    write_tables(run)
    return run
