"""Report and figures of exp1, exp2 and exp3 of growth: what the latents of scans are worth."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latens.errors import DataError
from latens.reporting import facts
from latens.reporting.page import security_policy, style_sheet, templates
from latens.reporting.rendering import figure_pdf, figure_uri, inline_svg
from latens.reporting.tables import format_interval, format_value
from latens.reporting.volume_pictures import (
    dashboard,
    slices,
    traversal_video,
    traversals,
)
from latens.store import RunFolder, read_json, write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = "pictures.safetensors"

GROUPS = {
    "latents in use": (
        "au_count",
        "kl",
        "kl_told",
        "ablation_mean",
        "ablation_z0",
        "ablation_permuted",
        "rest_units",
        "permuted_rest",
    ),
    "quality": (
        "neg_elbo",
        "nll_bound",
        "nll",
        "nll_gain",
        "nll_unreliable",
        "mse",
        "psnr_",
        "ssim_",
    ),
    "disentanglement": (
        "aligned_",
        "leak_",
        "sigma_leak_",
        "draw_leak_",
        "dependence_",
        "r2_",
        "corr_",
        "dcor_",
        "mig",
        "modularity",
        "sap",
        "dci_",
    ),
}
"""What the summary shows under which heading: metrics, and beginnings of their names."""

SINGLE = ("_ridge", "_kernel", "_within")
"""Ends of the names of single probes, which the summary leaves out."""

GATES = (
    ("au_count", 10.0, "more than 10"),
    ("kl", 10.0, "more than 10 nats"),
    ("kl_told", 10.0, "more than 10 nats"),
    ("mu_var_mean", 0.1, "more than 0.1"),
    ("ablation_z0", 2.0, "more than 2"),
    ("rest_units", 10.0, "more than 10 in the rest"),
    ("permuted_rest", 2.0, "more than 2"),
)
"""What a healthy model reaches."""

LEAKS = {
    "leak": "The rest",
    "sigma_leak": "The rest with its σ",
    "draw_leak": "A draw of the rest",
}
"""What the bar of leakage is asked of: metrics, and their subjects in a sentence."""


@dataclass(frozen=True)
class VolumeResults:
    """What a run left in its folder.

    Attributes:
        run: `run.json`.
        metrics: Table `volume_metrics`.
        history: Table `volume_history`.
        folders: Folder of the evaluation of each seed that has one.
    """

    run: dict[str, Any]
    metrics: pd.DataFrame
    history: pd.DataFrame
    folders: dict[int, Path]

    @property
    def seeds(self) -> list[int]:
        """Seeds in order."""
        return sorted({int(seed) for seed in self.metrics["seed"]})

    def cell(self, seed: int, metric: str) -> dict[str, Any] | None:
        """One row of the metrics, if it is there."""
        mine = self.metrics
        mine = mine[(mine["seed"] == seed) & (mine["metric"] == metric)]
        return None if mine.empty else dict(mine.iloc[0])

    def names(self, *prefixes: str) -> list[str]:
        """Metrics whose name begins so, sorted."""
        return sorted({m for m in self.metrics["metric"] if m.startswith(prefixes)})


def read_volumes(run: RunFolder) -> VolumeResults:
    """Tables of a run.

    Raises:
        DataError: If a table is missing.
    """
    tables = {}
    for name in ("volume_metrics", "volume_history"):
        path = run.tables / f"{name}.csv"
        if not path.is_file():
            raise DataError(
                str(path), "a table", "no such file", "Finish the run with its command."
            )
        # `nan` is the word of a status; numbers that are none are empty.
        tables[name] = pd.read_csv(path, keep_default_na=False, na_values=[""])
    reasons = tables["volume_metrics"]["missing"].astype(object)
    tables["volume_metrics"]["missing"] = reasons.fillna("")
    units = read_json(run.units_file)
    seed_of = {fit: int(name.removeprefix("seed ")) for name, fit in units["fits"].items()}
    places = [run.evaluation(hash) for hash in units["evaluations"]]
    folders = {seed_of[read_json(p / "evaluation.json")["fit"]]: p for p in places}
    return VolumeResults(
        run.description, tables["volume_metrics"], tables["volume_history"], folders
    )


def volume_summary_text(metrics: pd.DataFrame) -> str:
    """The table of a run for a terminal: metrics down, seeds across."""
    seeds = sorted({int(seed) for seed in metrics["seed"]})
    lines = [f"{'':<28}" + "".join(f"{f'seed {seed}':>26}" for seed in seeds)]
    for heading, names in shown_metrics(set(metrics["metric"])).items():
        lines.append(heading)
        for metric in names:
            cells = []
            for seed in seeds:
                rows = metrics[(metrics["seed"] == seed) & (metrics["metric"] == metric)]
                cells.append(_text(rows.iloc[0]) if len(rows) else "–")
            lines.append(f"  {metric:<26}" + "".join(f"{cell:>26}" for cell in cells))
    lines += [f"– {', '.join(names)}: {why}" for why, names in missing(metrics).items()]
    return "\n".join(lines)


def missing(metrics: pd.DataFrame) -> dict[str, list[str]]:
    """Metrics of the summary that no seed has, by the reason."""
    found: dict[str, list[str]] = {}
    for metric in itertools.chain(*shown_metrics(set(metrics["metric"])).values()):
        for reason in sorted(set(metrics.loc[metrics["metric"] == metric, "missing"]) - {""}):
            found.setdefault(reason, []).append(metric)
    return found


def shown_metrics(known: set[str]) -> dict[str, list[str]]:
    """Metrics of the summary in its order, by heading; headings without one are left out."""
    found: dict[str, list[str]] = {}
    for heading, names in GROUPS.items():
        for name in names:
            family = {m for m in known if name.endswith("_") and m.startswith(name)}
            own = {m for m in family if not m.endswith(SINGLE)} | ({name} & known)
            if own:
                found.setdefault(heading, []).extend(sorted(own))
    return found


def _text(row: Any) -> str:
    if row["missing"]:
        return "–"
    value = format_value(row["value"], row["lower"], row["upper"])
    return f"{value} {format_interval(row['value'], row['lower'], row['upper'])}".strip()


def answers(results: VolumeResults) -> list[str]:
    """What the numbers say, in sentences; every gate and every seed."""
    found = []
    for metric, least, rule in GATES:
        rows = [results.cell(seed, metric) for seed in results.seeds]
        values = [row["value"] for row in rows if row is not None and not row["missing"]]
        if values:
            inside = sum(value > least for value in values)
            shown = ", ".join(format_value(value) for value in values)
            found.append(
                f"{_words(metric)}: {shown}; {inside} of {len(values)} seeds pass ({rule})."
            )
    found += [
        sentence
        for leak, subject in LEAKS.items()
        for metric in results.names(f"{leak}_")
        if not metric.endswith(SINGLE)
        for sentence in _leaked(results, metric, metric.removeprefix(f"{leak}_"), subject)
    ]
    for reason, names in missing(results.metrics).items():
        found.append(f"Not measured ({reason}): {', '.join(_words(name) for name in names)}.")
    if not results.run["data"]["validation"]:
        found.append(
            "Weights were chosen on the training scans themselves: nothing says when the model "
            "began to learn them by heart but the numbers of the held-out subjects."
        )
    failed = sorted({s for s in results.metrics["status"] if s not in ("converged", "stopped")})
    if failed:
        found.insert(0, f"A seed ended {', '.join(failed)}: its numbers describe a failed model.")
    return found


def _leaked(results: VolumeResults, metric: str, part: str, subject: str) -> list[str]:
    """What the worst seed tells of a part, beside the bar; nothing where none was measured."""
    rows = [results.cell(seed, metric) for seed in results.seeds]
    values = [row["value"] for row in rows if row is not None and not row["missing"]]
    if not values:
        return []
    worst = max(values)
    verdict = "no more than the bar of 0.05" if worst <= 0.05 else "more than the bar of 0.05"
    share = f"{worst:.3f}".replace("-", "−")
    return [f"{subject} tells {share} of the variance of {part} at most: {verdict}."]


def _arrays(results: VolumeResults) -> dict[int, dict[str, np.ndarray]]:
    """Arrays of pictures of every evaluation that left some, by its seed."""
    from safetensors.numpy import load_file

    files = {seed: folder / PICTURES for seed, folder in results.folders.items()}
    return {seed: load_file(file) for seed, file in files.items() if file.is_file()}


def figures(results: VolumeResults) -> dict[str, "Figure"]:
    """Every figure that the run allows, by name."""
    drawn = {"dashboard": dashboard(results.history)}
    data = results.run["data"]
    channels, aligned = data["channels"], [name.replace("_", " ") for name in data["aligned"]]
    for seed, arrays in _arrays(results).items():
        for scan in range(len(arrays["truth"])):
            drawn[f"slices_{seed}_{scan + 1}"] = slices(arrays, channels, scan)
        drawn[f"traversals_{seed}"] = traversals(arrays, 0, channels[0], aligned)
    return drawn


def write_volume_figures(run: RunFolder) -> list[Path]:
    """Write the figures as PDF and the traversals as GIF into `figures/`; returns the paths."""
    results = read_volumes(run)
    return _write_figures(run, results, figures(results))


def _write_figures(run: RunFolder, results: VolumeResults, drawn: dict[str, Any]) -> list[Path]:
    run.figures.mkdir(exist_ok=True)
    written = [
        write_bytes(run.figures / f"{name}.pdf", figure_pdf(figure))
        for name, figure in drawn.items()
    ]
    for seed, arrays in _arrays(results).items():
        path = run.figures / f"traversals_{seed}.gif"
        written.append(write_bytes(path, traversal_video(arrays)))
    return written


def write_volume_report(run: RunFolder) -> Path:
    """Write `report.html` and the figures of a run; returns the report's path.

    Raises:
        DataError: If a file of the run cannot be read or written.
    """
    from markupsafe import Markup

    results = read_volumes(run)
    drawn = figures(results)
    _write_figures(run, results, drawn)
    style, arrays = style_sheet(), _arrays(results)
    known = set(results.metrics["metric"])
    groups = [
        (
            heading,
            [
                (_words(metric), [_cell(results.cell(seed, metric)) for seed in results.seeds])
                for metric in names
            ],
        )
        for heading, names in shown_metrics(known).items()
    ]
    words = "Losses, KL, active units and errors over the steps of training"
    page = (
        templates()
        .get_template("volumes.html.j2")
        .render(
            run=results.run,
            answers=answers(results),
            seeds=results.seeds,
            groups=groups,
            dashboard=Markup(inline_svg(drawn["dashboard"], "dashboard", words)),
            pictures=[
                (_caption(name, arrays), figure_uri(figure, 110))
                for name, figure in drawn.items()
                if name != "dashboard"
            ],
            facts=list(facts.flat(results.run["config"])),
            style=Markup(style),
            policy=security_policy(style, ""),
        )
    )
    return write_text(run.report_file, page.replace("\r\n", "\n"))


def _caption(name: str, arrays: dict[int, dict[str, np.ndarray]]) -> str:
    """Words below a picture: which slice of which scan, or where the video of a traversal is."""
    kind, seed, *scan = name.split("_")
    if kind == "traversals":
        return f"traversals, seed {seed}; moving: figures/{name}.gif"
    mine, row = arrays[int(seed)], int(scan[0]) - 1
    place, count = int(mine["slices"][row]) + 1, mine["truth"].shape[2]
    words = "where the lesion is largest" if mine["lesions"][row] else "the middle"
    return f"held-out scan {row + 1}, seed {seed}: axial slice {place} of {count}, {words}"


def _cell(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None or row["missing"]:
        return {"text": "–", "interval": "" if row is None else row["missing"]}
    return {
        "text": format_value(row["value"], row["lower"], row["upper"]),
        "interval": format_interval(row["value"], row["lower"], row["upper"]),
    }


def _words(metric: str) -> str:
    known = {"au_count": "active units", "kl": "KL, nats", "mse": "mean square error"}
    named = {
        "neg_elbo": "−ELBO, nats per element",
        "nll": "−log-likelihood, nats per element",
        "nll_bound": "−ELBO of the same scans",
        "nll_gain": "nats per scan below −ELBO of the same",
        "nll_unreliable": "share with k̂ ≥ 0.7",
        "r2": "R²",
        "kl_told": "KL above free bits, nats",
        "permuted_rest": "error with another rest over own",
        "rest_units": "active units of the rest",
        "corr_mean": "mean |correlation| of latents",
        "corr_max": "largest |correlation| of latents",
        "dcor_mean": "mean distance correlation²",
        "dcor_max": "largest distance correlation²",
        "mig": "MIG",
        "sap": "SAP",
        "dci_disentanglement": "DCI disentanglement",
        "dci_completeness": "DCI completeness",
        "dci_informativeness": "DCI informativeness (R²)",
    }
    return (known | named).get(metric, metric.replace("r2_", "R² ").replace("_", " "))
