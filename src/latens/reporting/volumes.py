"""Report and figures of exp1, exp2 and exp3 of growth: what the latents of scans are worth."""

import base64
import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latens.errors import DataError
from latens.reporting import facts
from latens.reporting.page import security_policy, style_sheet, templates
from latens.reporting.palette import HUES, INK, MUTED
from latens.reporting.rendering import drawing_style, figure_pdf, inline_svg
from latens.reporting.tables import format_interval, format_value
from latens.store import RunFolder, read_json, write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = "pictures.safetensors"
SMALLEST_SLICE = 64
"""Pixels of the longer edge of a slice in a video, at least."""
FRAME_MS = 120

GROUPS = {
    "latents in use": ("au_count", "kl", "ablation_z0", "ablation_permuted"),
    "quality": ("neg_elbo", "nll", "nll_gain", "nll_unreliable", "mse", "psnr_", "ssim_"),
    "disentanglement": (
        "aligned_",
        "leak_",
        "dependence_",
        "rest_units",
        "permuted_rest",
        "r2_",
    ),
}
"""What the summary shows under which heading: metrics, and beginnings of their names."""
WATCHED = (
    ("loss, nats per element", ("train_epoch/loss", "val_epoch/loss")),
    ("KL, nats", ("diag/kl_raw", "sched/expected_kl_floor")),
    ("active units", ("diag/au_count",)),
    ("mean square error", ("diag/recon_mu_mse", "diag/recon_sample_mse", "diag/recon_z0_mse")),
    ("cost of covariance", ("train_epoch/cov_penalty",)),
)
"""Panels of the dashboard: title and quantities."""

SINGLE = ("_ridge", "_kernel", "_within")
"""Ends of the names of single probes, which the summary leaves out."""

GATES = (
    ("au_count", 10.0, "more than 10"),
    ("kl", 10.0, "more than 10 nats"),
    ("ablation_z0", 2.0, "at least 2"),
)
"""What a healthy model reaches."""


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
            inside = sum(value >= least for value in values)
            shown = ", ".join(format_value(value) for value in values)
            found.append(
                f"{_words(metric)}: {shown}; {inside} of {len(values)} seeds pass ({rule})."
            )
    for metric in results.names("leak_"):
        if metric.endswith(SINGLE):
            continue
        rows = [results.cell(seed, metric) for seed in results.seeds]
        values = [row["value"] for row in rows if row is not None and not row["missing"]]
        if not values:
            continue
        worst = max(values)
        verdict = "no more than the bar of 0.05" if worst <= 0.05 else "more than the bar of 0.05"
        part = metric.removeprefix("leak_")
        found.append(f"The rest tells {worst:.3f} of the variance of {part} at most: {verdict}.")
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


def dashboard(results: VolumeResults) -> "Figure":
    """Training over steps: losses, KL against its floor, active units, errors, penalty."""
    from matplotlib.figure import Figure

    known = set(results.history["quantity"])
    panels = [(title, [q for q in names if q in known]) for title, names in WATCHED]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        return _nothing("the training ended before its first look at the validation scans")
    hues = [HUES[name][0] for name in HUES]
    with drawing_style():
        figure = Figure(figsize=(2.6 * len(panels), 2.4), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, names) in zip(axes, panels, strict=True):
            for k, quantity in enumerate(names):
                rows = results.history[results.history["quantity"] == quantity]
                for number, (_, seed) in enumerate(rows.groupby("seed")):
                    label = quantity.split("/")[1] if number == 0 and len(names) > 1 else None
                    ax.plot(seed["step"], seed["value"], color=hues[k], linewidth=1, label=label)
            ax.set_title(title, color=INK)
            ax.set_xlabel("step", color=MUTED)
            if len(names) > 1:
                ax.legend(frameon=False, fontsize=6)
    return figure


def _nothing(words: str) -> "Figure":
    """An empty figure that says why."""
    from matplotlib.figure import Figure

    with drawing_style():
        figure = Figure(figsize=(5.0, 0.6))
        figure.text(0.5, 0.5, words, ha="center", va="center", color=INK)
    return figure


def slices(arrays: dict[str, np.ndarray], channels: list[str]) -> "Figure":
    """Central slices of the first held-out scan: truth, reconstruction, spread, by modality."""
    from matplotlib.figure import Figure

    kinds = ("truth", "mean", "std")
    middle = arrays["truth"].shape[2] // 2
    with drawing_style():
        figure = Figure(figsize=(1.6 * len(channels), 1.7 * len(kinds)), layout="constrained")
        axes = figure.subplots(len(kinds), len(channels), squeeze=False)
        for row, kind in enumerate(kinds):
            for c, channel in enumerate(channels):
                picture = arrays[kind][0, c, middle]
                truth = arrays["truth"][0, c, middle]
                low, high = (0.0, None) if kind == "std" else (truth.min(), truth.max())
                _show(axes[row][c], picture, low, high)
                if row == 0:
                    axes[row][c].set_title(channel, color=INK)
            axes[row][0].set_ylabel(kind, color=INK)
    return figure


def traversals(arrays: dict[str, np.ndarray], channel: int, name: str) -> "Figure":
    """Strips of the middle slice while one latent moves, at whole numbers from −2 to 2."""
    from matplotlib.figure import Figure

    shown = np.flatnonzero(arrays["positions"] == np.round(arrays["positions"]))
    strips = arrays["traversal"][:, shown, channel]  # (latents, positions, H, W)
    with drawing_style():
        size = (1.1 * strips.shape[1] + 0.6, 1.15 * len(strips))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(strips), strips.shape[1], squeeze=False)
        low, high = float(strips.min()), float(strips.max())
        for row, strip in enumerate(strips):
            for column, picture in enumerate(strip):
                _show(axes[row][column], picture, low, high)
            latent = int(arrays["latents"][row])
            nats = arrays["kl"][latent]
            axes[row][0].set_ylabel(f"z{latent}\n{nats:.1f} nats", color=INK)
        for column, place in enumerate(shown):
            axes[0][column].set_title(f"{arrays['positions'][place]:g}", color=INK)
        figure.suptitle(f"{name}, one latent from −2 to 2", color=INK)
    return figure


def traversal_video(arrays: dict[str, np.ndarray]) -> bytes:
    """A GIF in which every shown latent moves from −2 to 2 and back: latents down, modalities
    across, each modality on its own scale of grey, magnified to slices of 64 pixels or more.
    """
    from PIL import Image

    strips = arrays["traversal"]  # (latents, positions, C, H, W)
    low = strips.min(axis=(0, 1, 3, 4), keepdims=True)
    high = strips.max(axis=(0, 1, 3, 4), keepdims=True)
    grey = np.round(255 * (strips - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    grown = max(1, -(-SMALLEST_SLICE // max(strips.shape[3:])))
    grey = grey.repeat(grown, axis=3).repeat(grown, axis=4)
    frames = [Image.fromarray(np.block([list(row) for row in grey[:, k]])) for k in _swing(strips)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0
    )
    return buffer.getvalue()


def _swing(strips: np.ndarray) -> list[int]:
    """Positions there and back, ends once."""
    last = strips.shape[1] - 1
    return [*range(last), *range(last, 0, -1)]


def _show(ax: Any, picture: np.ndarray, low: float | None, high: float | None) -> None:
    ax.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def _arrays(results: VolumeResults) -> dict[int, dict[str, np.ndarray]]:
    """Arrays of pictures of every evaluation that left some, by its seed."""
    from safetensors.numpy import load_file

    files = {seed: folder / PICTURES for seed, folder in results.folders.items()}
    return {seed: load_file(file) for seed, file in files.items() if file.is_file()}


def figures(results: VolumeResults) -> dict[str, "Figure"]:
    """Every figure that the run allows, by name."""
    drawn = {"dashboard": dashboard(results)}
    channels = list(results.run["data"]["channels"])
    for seed, arrays in _arrays(results).items():
        drawn[f"slices_{seed}"] = slices(arrays, channels)
        drawn[f"traversals_{seed}"] = traversals(arrays, 0, channels[0])
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
    style = style_sheet()
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
                (_caption(name), _uri(figure))
                for name, figure in drawn.items()
                if name != "dashboard"
            ],
            facts=list(facts.flat(results.run["config"])),
            style=Markup(style),
            policy=security_policy(style, ""),
        )
    )
    return write_text(run.report_file, page.replace("\r\n", "\n"))


def _caption(name: str) -> str:
    """Words below a picture; those of a traversal say where its video is."""
    words = name.replace("_", ", seed ")
    return f"{words}; moving: figures/{name}.gif" if name.startswith("traversals") else words


def _uri(figure: "Figure") -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with drawing_style():
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


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
        "nll_gain": "nats per scan below −ELBO",
        "nll_unreliable": "share with k̂ ≥ 0.7",
        "r2": "R²",
    }
    return (known | named).get(metric, metric.replace("r2_", "R² ").replace("_", " "))
