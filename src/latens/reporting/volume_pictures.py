"""Figures of scans: training over steps, slices, traversals of latents and their videos."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latens.reporting.palette import HUES, INK, MUTED
from latens.reporting.rendering import drawing_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST_SLICE = 64
"""Pixels of the longer edge of a slice in a video, at least."""
FRAME_MS = 120
WATCHED = (
    (
        "loss, nats per element",
        {"train_epoch/loss": "training", "val_epoch/loss": "validation"},
    ),
    ("KL, nats", {"diag/kl_raw": "KL", "sched/expected_kl_floor": "floor of free bits"}),
    ("active units", {"diag/au_count": ""}),
    (
        "mean square error",
        {
            "diag/recon_mu_mse": "mean of q",
            "diag/recon_sample_mse": "draw of q",
            "diag/recon_z0_mse": "z = 0",
        },
    ),
    ("cost of covariance", {"train_epoch/cov_penalty": ""}),
)
"""Panels of the dashboard: title, and the name of each quantity in it."""


def dashboard(history: pd.DataFrame) -> "Figure":
    """Training over steps: losses, KL against its floor, active units, errors, penalty.

    Args:
        history: Columns `seed`, `step`, `quantity`, `value`.
    """
    from matplotlib.figure import Figure

    known = set(history["quantity"])
    panels = [
        (title, {q: name for q, name in names.items() if q in known}) for title, names in WATCHED
    ]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        return _nothing("the training ended before its first look at the validation scans")
    hues = [HUES[name][0] for name in HUES]
    with drawing_style():
        figure = Figure(figsize=(2.6 * len(panels), 2.4), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, names) in zip(axes, panels, strict=True):
            for k, (quantity, name) in enumerate(names.items()):
                rows = history[history["quantity"] == quantity]
                for number, (_, seed) in enumerate(rows.groupby("seed")):
                    label = name if number == 0 and len(names) > 1 else None
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


def slices(arrays: dict[str, np.ndarray], channels: list[str], scan: int) -> "Figure":
    """An axial slice of a held-out scan: truth, reconstruction, spread, by modality.

    Args:
        arrays: Those of `latens.studies.volumes.pictures`; `slices` says which slice.
        channels: Names of the modalities.
        scan: Which scan, from 0.
    """
    from matplotlib.figure import Figure

    kinds = ("truth", "mean", "std")
    place = int(arrays["slices"][scan])
    with drawing_style():
        figure = Figure(figsize=(1.6 * len(channels), 1.7 * len(kinds)), layout="constrained")
        axes = figure.subplots(len(kinds), len(channels), squeeze=False)
        for row, kind in enumerate(kinds):
            for c, channel in enumerate(channels):
                picture = arrays[kind][scan, c, place]
                truth = arrays["truth"][scan, c, place]
                shown = picture if kind == "std" else truth
                _show(axes[row][c], picture, shown.min(), shown.max())
                if kind == "std":  # black to white: a grey value alone would tell nothing
                    ends = f"{picture.min():.3g} to {picture.max():.3g}"
                    axes[row][c].set_xlabel(ends, color=MUTED, fontsize=6)
                if row == 0:
                    axes[row][c].set_title(channel, color=INK)
            axes[row][0].set_ylabel(kind, color=INK)
    return figure


def traversals(
    arrays: dict[str, np.ndarray], channel: int, name: str, aligned: Sequence[str] = ()
) -> "Figure":
    """Strips of the middle slice while one latent moves, at whole numbers from −2 to 2.

    Args:
        arrays: Those of `latens.studies.volumes.pictures`.
        channel: Modality that is shown.
        name: Its name.
        aligned: What the first latents mean, where they mean something.
    """
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
            called = aligned[latent] if latent < len(aligned) else f"z{latent}"
            axes[row][0].set_ylabel(f"{called}\n{nats:.1f} nats", color=INK)
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


def _show(ax: Any, picture: np.ndarray, low: float, high: float) -> None:
    ax.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
