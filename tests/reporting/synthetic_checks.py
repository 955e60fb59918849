"""Deep checks of the synthetic run: numbers per image from formulas, tables made of the same."""

import json
import math

import numpy as np

from latens import store
from latens.metrics import metric
from reporting.synthetic_run import (
    LEVEL,
    POINTS,
    SIZES,
    nmse,
    phantom,
    smooth,
    truth_of,
    write_unit,
)

CHECKED = ("tikhonov", "unet", "cvae", "latent", "direct")
AT = (SIZES[0], SIZES[2], SIZES[-1])
IMAGES = tuple(range(0, 48, 4))
"""Places of the checked images in a test set of 48."""

LEVELS = {
    0.25: "worst_error_25",
    0.5: "worst_error_50",
    1.0: "worst_error",
    2.0: "worst_error_200",
}
SHARES = {1: "relative_worst_error_1", 5: "relative_worst_error_5"}
VISIBILITIES = {2: "contrast_recovery_2", 5: "contrast_recovery_5", 10: "contrast_recovery_10"}
TOLERANCE, UNSETTLED = 0.01, "direct"
"""Of the residuals of Lipschitz constants; the solver whose search was cut short."""

COVERAGES = tuple(round(0.1 * i, 1) for i in range(1, 10))
FUNCTIONALS = ("pixel", "region", "principal")
SHIFTS = (("none", 0.0), ("kernel width", 1.5), ("noise level", 2.0), ("images: inverted", 1.0))
SCORES = ("residual", "replicates", "spread")
DRAWS = 39
SAMPLER = "latent_hmc"
PROMISED = 0.95


def deviation(image: int) -> float:
    """Factor of one image, 1 on average over `IMAGES` and over all."""
    return 1.0 + 0.2 * math.cos(math.pi * (image // 4))


def undisturbed(solver: str, n: int, image: int) -> float:
    """Relative error of an image."""
    return math.sqrt(nmse(solver, n)) * deviation(image)


def worst(solver: str, n: int, level: float, image: int) -> float:
    """Worst-case error of an image."""
    slope = {"tikhonov": 0.15, "direct": 0.9}.get(solver, 0.4)
    return undisturbed(solver, n, image) * (1 + slope * level)


def residual(solver: str) -> float:
    """Largest relative residual of its Lipschitz constants."""
    return 0.37 if solver == UNSETTLED else 0.0061


def slope(solver: str, image: int) -> float:
    """Lipschitz constant of an image, whitened."""
    return 0.1 * (1 + CHECKED.index(solver)) * deviation(image)


def kept(solver: str, visibility: float, image: int) -> tuple[float, ...]:
    """Share of details of two widths that is kept of an image, and whether it sees them."""
    share = (1 - 0.1 * CHECKED.index(solver)) * visibility / (1 + visibility)
    return (share * deviation(image), 0.5 * share * deviation(image), 1.0, 1.0)


def random(solver: str, n: int, image: int) -> float:
    """Error of an image at random disturbances of the norm of the noise."""
    return undisturbed(solver, n, image) * 1.05


def believed(solver: str, n: int, image: int) -> float:
    """Coverage of region means of an image at its worst case."""
    return 0.7 * covered(solver, n, 0.95) + 0.05 * (deviation(image) - 1)


def split(solver: str, n: int, image: int) -> tuple[float, float]:
    """Squared error in the null space and in the range."""
    total = 0.1 * nmse(solver, n) * deviation(image)
    return 0.7 * total, 0.3 * total


def variance(solver: str, n: int, image: int) -> tuple[float, float]:
    """Variance of the draws in both."""
    null, seen = split(solver, n, image)
    return 0.5 * null, 0.9 * seen


def covered(solver: str, n: int, level: float) -> float:
    """Coverage of an interval."""
    return level * (1.0 - 0.5 * (0.95 - truth_of(solver, n, "coverage_region")))


def auroc(solver: str, shift: str, score: str) -> float:
    """Detection of a shift; the spread is blind to noise, and looks the wrong way at kernels."""
    if score == "any":
        return 0.95 - 0.01 * CHECKED.index(solver)
    if score == "spread":
        return {"kernel width": 0.31, "noise level": 0.5}.get(shift, 0.93)
    return {"residual": 0.86, "replicates": 0.91}[score] - 0.01 * CHECKED.index(solver)


def flagged(solver: str, shift: int) -> float:
    """Share that the gate flags: a tenth of usual images, and more under each shift."""
    return 0.1 + 0.2 * shift + 0.01 * CHECKED.index(solver)


def relative(solver: str, score: str) -> float:
    """AUGRC over that of a score without information."""
    return 0.6 + 0.1 * SCORES.index(score) + 0.01 * CHECKED.index(solver)


def write_checks(run: store.RunFolder, side: int, images: int) -> None:
    """Adds checks, a sampler and calibrated intervals to a synthetic run.

    Args:
        run: The run, as `write_run` leaves it.
        side: Pixels along an axis of the pictures.
        images: Pictured images of each check.
    """
    metrics: list[dict] = []
    for n in AT:
        for solver in CHECKED:
            _stability(run, solver, n, side, images, metrics)
            _null_space(run, solver, n, side, images)
            _reliability(run, solver, n)
            if solver not in POINTS:
                _calibration(run, solver, n)
    _whole(run)
    _tables(run, metrics)


def identity(solver: str, n: int, check: str, facts: dict) -> dict:
    place = {"solver": solver, "n": n, "data_seed": 0, "init_seed": 0}
    return {**place, "fits": [], "kind": "check", "check": check, "facts": facts}


def _unit(run: store.RunFolder, solver: str, n: int, check: str, facts: dict):
    said = identity(solver, n, check, facts)
    folder = run.evaluation(store.content_hash(said))
    write_unit(folder, "evaluation.json", said, store.Outcome(store.Status.CONVERGED))
    return folder


def _cell(solver: str, n: int) -> dict:
    return {"solver": solver, "n": n, "data_seed": 0, "init_seed": 0}


def _rows(folder, solver: str, n: int, columns: dict, images=IMAGES) -> None:
    """Per-image rows from functions of the image that give one number or several."""
    found = []
    for name, function in columns.items():
        for image in images:
            values = function(image)
            values = values if isinstance(values, tuple) else (values,)
            found += [
                {
                    **_cell(solver, n),
                    "image": image,
                    "group": str(image),
                    "metric": name,
                    "component": component,
                    "value": value,
                }
                for component, value in enumerate(values)
            ]
    table = store.from_rows(found, store.PER_IMAGE)
    store.write_parquet(folder / "per_image.parquet", store.PER_IMAGE, table)


def _arrays(folder, arrays: dict) -> None:
    (folder / "arrays").mkdir()
    for name, array in arrays.items():
        np.save(folder / "arrays" / f"{name}.npy", array)


def _pictured(solver: str, n: int, side: int, images: int):
    truth = np.stack([phantom(seed, side) for seed in range(images)])[:, None]
    error = math.sqrt(nmse(solver, n))
    generator = np.random.default_rng([n, CHECKED.index(solver)])
    mean = smooth(truth, round(14 * error) + 1)
    mean = mean + 0.25 * error * smooth(generator.standard_normal(truth.shape), 2)
    return truth, mean, generator


def _stability(run, solver: str, n: int, side: int, images: int, metrics: list[dict]) -> None:
    facts = {
        "images": list(IMAGES[:images]),
        "lipschitz_residual": residual(solver),
        "lipschitz_tolerance": TOLERANCE,
        "lipschitz_unsettled": 3.0 if solver == UNSETTLED else 0.0,
    }
    folder = _unit(run, solver, n, "stability", facts)
    columns = {
        name: lambda image, level=level: worst(solver, n, level, image)
        for level, name in LEVELS.items()
    }
    columns |= {
        name: lambda image, share=share: worst(solver, n, share / 10, image)
        for share, name in SHARES.items()
    }
    columns |= {
        name: lambda image, visibility=visibility: kept(solver, visibility, image)
        for visibility, name in VISIBILITIES.items()
    }
    columns["lipschitz_whitened"] = lambda image: slope(solver, image)
    columns["lipschitz_ball"] = lambda image: 1.5 * slope(solver, image)
    columns["worst_excess"] = lambda image: (
        worst(solver, n, 1.0, image),
        random(solver, n, image),
    )
    if solver not in POINTS:
        columns["worst_coverage_region"] = lambda image: believed(solver, n, image)
        _metric(metrics, folder.name, solver, n, "worst_coverage_region", columns)
    _rows(folder, solver, n, columns)
    truth, mean, generator = _pictured(solver, n, side, images)
    disturbance = 0.1 * smooth(generator.standard_normal(truth.shape), 3)
    arrays = {
        "truth": truth,
        "measurement": smooth(truth, 10),
        "disturbance": disturbance,
        "mean": mean,
        "worst_mean": mean + 0.8 * disturbance,
    }
    _arrays(folder, arrays)
    told = (*LEVELS.values(), *SHARES.values(), *VISIBILITIES.values())
    for name in (*told, "lipschitz_whitened", "lipschitz_ball"):
        _metric(metrics, folder.name, solver, n, name, columns)


def _metric(
    metrics: list[dict], evaluation: str, solver: str, n: int, name: str, columns: dict
) -> None:
    """Row of METRICS, with an interval of known width."""
    value = metric(name).value(np.stack([np.atleast_1d(columns[name](i)) for i in IMAGES]))
    metrics.append(
        {
            **_cell(solver, n),
            "metric": name,
            "value": value,
            "lower": 0.9 * value,
            "upper": 1.12 * value,
            "level": LEVEL,
            "images": len(IMAGES),
            "groups": len(IMAGES),
            "status": "converged",
            "evaluation": evaluation,
        }
    )


def _null_space(run, solver: str, n: int, side: int, images: int) -> None:
    facts = {"rank": 9, "cutoff": 0.2, "threshold": 0.1, "images": list(IMAGES[:images])}
    folder = _unit(run, solver, n, "null_space", facts)
    columns = {
        "null_error": lambda image: split(solver, n, image),
        "hallucinated": lambda image: split(solver, n, image)[0],
    }
    truth, mean, _ = _pictured(solver, n, side, images)
    unseen = (mean - truth) - smooth(mean - truth, 6)
    arrays = {"truth": truth, "mean": mean, "null_map": unseen, "range_map": mean - truth - unseen}
    if solver not in POINTS:
        columns["null_variance"] = lambda image: variance(solver, n, image)
        columns["unflagged"] = lambda image: (
            0.2 * split(solver, n, image)[0],
            0.8 * split(solver, n, image)[0],
        )
        std = 0.02 + smooth(np.abs(unseen), 2)
        codes = (np.abs(unseen) > 0.1) * (1 + (np.abs(unseen) > 1.6 * std).astype(np.int8))
        arrays |= {"null_std": std, "flags": codes.astype(np.int8)}
    _rows(folder, solver, n, columns)
    _arrays(folder, arrays)


def _calibration(run, solver: str, n: int) -> None:
    folder = _unit(run, solver, n, "calibration", {})
    below = np.arange(1, DRAWS + 1)
    place = below / (DRAWS + 1)
    bend = (0.25 if solver == "direct" else 0.03) * np.sin(2 * np.pi * place)
    rows = []
    sources = ("data", "model") if solver == "latent" else ("data",)
    for source in sources:
        for quantity, members in (("norm", 1), ("pixels", 8), ("TARP near A⁺y", 1)):
            for k, curve, p in zip(below, bend, place, strict=True):
                half = 0.3 * math.sqrt(p * (1 - p))
                rows.append(
                    {
                        **_cell(solver, n),
                        "source": source,
                        "quantity": quantity,
                        "members": members,
                        "below": int(k),
                        "lowest": float(curve - (0.02 if members > 1 else 0.0)),
                        "highest": float(curve),
                        "band_lower": -half,
                        "band_upper": half,
                        "level": LEVEL,
                        "images": len(IMAGES),
                        "draws": DRAWS,
                        "evaluation": folder.name,
                    }
                )
    table = store.from_rows(rows, store.RANK_CURVES)
    store.write_parquet(folder / "rank_curves.parquet", store.RANK_CURVES, table)


def tests_rows() -> list[dict]:
    """Table TESTS: `direct` fails on pixels, all others pass."""
    rows = []
    for n in AT:
        for solver in CHECKED:
            if solver in POINTS:
                continue
            for source in ("data", "model") if solver == "latent" else ("data",):
                for quantity in ("norm", "pixels (8)"):
                    for kind in ("ecdf", "chi-square"):
                        bad = solver == "direct" and quantity == "pixels (8)"
                        p = 1e-4 if bad else 0.3
                        rows.append(
                            {
                                **_cell(solver, n),
                                "test": f"{source}: {kind}",
                                "quantity": quantity,
                                "statistic": 3.0,
                                "p_value": p if kind == "ecdf" else 2 * p,
                                "p_adjusted": min(1.0, 4 * p if kind == "ecdf" else 6 * p),
                                "images": len(IMAGES),
                                "draws": DRAWS,
                                "evaluation": "0" * 16,
                            }
                        )
    return rows


def power_rows() -> list[dict]:
    """Table POWER: narrow posteriors are seen, independent pixels hardly."""
    return [
        {
            **_cell(solver, n),
            "source": source,
            "posterior": posterior,
            "power": power,
            "images": len(IMAGES),
            "draws": DRAWS,
            "evaluation": "0" * 16,
        }
        for n in AT
        for solver in CHECKED
        if solver not in POINTS
        for source in ("data", "model")
        for posterior, power in (("std × 0.8", 0.9), ("independent pixels", 0.1 + 0.001 * n))
    ]


def _reliability(run, solver: str, n: int) -> None:
    folder = _unit(run, solver, n, "reliability", {})
    risk = np.array([split(solver, n, image)[0] for image in range(10)])
    risk = risk * np.linspace(0.5, 1.5, 10)
    scores = {"residual": np.arange(10)[::-1], "oracle": risk}
    if solver not in POINTS:
        scores["spread"] = risk + 0.4 * risk.mean() * np.cos(np.arange(10))
    rows = []
    for score, values in scores.items():
        left = risk[np.argsort(values)].cumsum() / np.arange(1, 11)
        rows += [
            {
                **_cell(solver, n),
                "score": score,
                "kept": (k + 1) / 10,
                "risk": float(r),
                "images": 10,
                "evaluation": folder.name,
            }
            for k, r in enumerate(left)
        ]
    table = store.from_rows(rows, store.RISK_COVERAGE)
    store.write_parquet(folder / "risk_coverage.parquet", store.RISK_COVERAGE, table)


def shift_rows() -> list[dict]:
    """Table SHIFTS."""
    rows = []

    def add(solver, n, shift, score, number, value, width=0.04):
        rows.append(
            {
                **_cell(solver, n),
                "shift": shift[0],
                "strength": shift[1],
                "score": score,
                "number": number,
                "value": value,
                "lower": value - width,
                "upper": min(1.0, value + width),
                "level": LEVEL,
                "images": len(IMAGES),
                "groups": len(IMAGES),
                "status": "converged",
                "evaluation": "0" * 16,
            }
        )

    for n in AT:
        for solver in CHECKED:
            for i, shift in enumerate(SHIFTS):
                add(solver, n, shift, "", "psnr", 20.0 - i)
                if solver not in POINTS:
                    for kind in ("pixel", "region"):
                        add(solver, n, shift, "", f"coverage_{kind}", 0.94 - 0.12 * i)
                scores = SCORES[:1] if solver in POINTS else SCORES
                add(solver, n, shift, "any", "flagged", flagged(solver, i), 0.01)
                if solver not in POINTS:
                    add(solver, n, shift, "p_draw", "rejected", 0.05 + 0.2 * i, 0.01)
                for score in scores if shift[0] == "none" else ():
                    add(solver, n, shift, score, "augrc_over_random", relative(solver, score))
                for score in ("any", *scores) if shift[0] != "none" else ():
                    area = auroc(solver, shift[0], score)
                    add(solver, n, shift, score, "auroc", area)
                    add(solver, n, shift, score, "average_precision", area**2)
                    add(solver, n, shift, score, "fpr95", 1 - area)
    return rows


def _whole(run: store.RunFolder) -> None:
    """Numbers per image of the evaluations on the whole test set, and calibrations."""
    for name in run.finished_evaluations():
        folder = run.evaluation(name)
        said = json.loads((folder / "evaluation.json").read_text())
        solver, n = said["solver"], said["n"]
        if said.get("check") or said["data_seed"] != 0 or said["init_seed"] not in (0, None):
            continue
        columns = {"nmse": lambda image, s=solver, n=n: undisturbed(s, n, image) ** 2}
        if said["kind"] == "posterior":
            errors = tuple(covered(solver, n, level) - level for level in COVERAGES)
            columns |= {
                f"ce_{kind}": lambda image, e=errors: tuple(
                    v + 0.05 * (deviation(image) - 1) for v in e
                )
                for kind in FUNCTIONALS
            }
            columns["coverage_region"] = lambda image, s=solver, n=n: (
                covered(s, n, 0.95) + 0.05 * (deviation(image) - 1)
            )
        _rows(folder, solver, n, columns, images=range(48))
        if solver in ("cvae", "latent"):
            said = {"method": "crc", "level": PROMISED, "units": 40}
            (folder / "calibration.json").write_text(json.dumps(said))


def extra_curves() -> list[dict]:
    """Rows of CURVES of calibrated intervals and of a sampler."""
    rows = []

    def add(solver, n, metric, mean, half):
        rows.append(
            {
                "solver": solver,
                "n": n,
                "metric": metric,
                "mean": mean,
                "lower": mean - half,
                "upper": mean + half,
                "level": LEVEL,
                "data_seeds": 3,
                "fits": 3,
                "excluded": 0,
                "status": "ok",
            }
        )

    for n in SIZES:
        for solver in ("cvae", "latent"):
            add(solver, n, "conformal_margin", 0.01 - 1.0 / n, 0.02)
        add(SAMPLER, n, "coverage_region", 0.95 - 2.0 / n, 0.02)
        add(SAMPLER, n, "gap_coverage_region", -0.1 + 1.0 / n, 0.03)
        add(SAMPLER, n, "gap_w2", 0.4 + 6.0 / n, 0.05)
        add(SAMPLER, n, "gap_spread", 0.8 - 2.0 / n, 0.05)
    return rows


def trust_rows() -> list[dict]:
    """Table TRUST: every word occurs."""
    words = {
        "accurate": ("yes", ""),
        "stable": ("no", "above the bar"),
        "calibrated": ("open", "the interval crosses the bar"),
        "consistent": ("not measured", ""),
    }
    return [
        {
            "solver": solver,
            "n": n,
            "question": question,
            "verdict": word,
            "metric": "nmse",
            "value": math.nan if word == "not measured" else 0.1,
            "lower": 0.09,
            "upper": 0.12,
            "bar_lower": -math.inf,
            "bar_upper": 0.11,
            "reason": reason,
        }
        for n in AT
        for solver in CHECKED
        for question, (word, reason) in words.items()
    ]


def _tables(run: store.RunFolder, metrics: list[dict]) -> None:
    for schema, rows in (
        (store.METRICS, metrics),
        (store.CURVES, extra_curves()),
        (store.TESTS, tests_rows()),
        (store.POWER, power_rows()),
        (store.SHIFTS, shift_rows()),
        (store.TRUST, trust_rows()),
    ):
        known = []
        if (run.tables / f"{schema.name}.csv").is_file():
            known = store.read_table(run.tables, schema).to_dict("records")
        store.write_table(run.tables, schema, store.from_rows([*known, *rows], schema))
