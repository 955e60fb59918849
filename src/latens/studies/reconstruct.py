"""`latens reconstruct`: mean, spread, interval and flags for new measurements."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latens.data.folder import as_image
from latens.errors import DataError, ShapeError
from latens.inference import Posterior
from latens.store import PER_IMAGE, new_folder, read_array, read_parquet, write_array, write_json
from latens.studies.load import Loaded, load
from latens.types import Shape

SUSPICIOUS = 0.01
"""A measurement whose residual has this p-value or a smaller one is flagged."""


def reconstruct_command(options: Namespace) -> int:
    """Reconstruct a file; returns the exit code."""
    loaded = load(options.run, options.solver, options.n, trust=options.trust)
    file = Path(options.file)
    y = read_measurements(file, loaded.measurement_shape)
    out = Path(options.out) if options.out else file.with_suffix("")
    if out.exists():
        raise DataError(
            "out", "a folder that does not exist yet", str(out), "Choose another with --out."
        )
    with torch.no_grad():
        estimate = loaded.solver(y)
        arrays = {"mean": estimate.mean}
        if isinstance(estimate, Posterior):
            interval = estimate.interval(options.level)
            arrays |= {"std": estimate.std, "lower": interval.lower, "upper": interval.upper}
        flags = measurement_flags(loaded, y, estimate.mean)
    with new_folder(out) as folder:
        for name, array in arrays.items():
            write_array(folder / f"{name}.npy", array.numpy(force=True))
        write_json(
            folder / "reconstruction.json",
            {
                "run": str(options.run),
                "solver": loaded.name,
                "n": loaded.n,
                "status": str(loaded.outcome.status),
                "note": loaded.note,
                "level": options.level if isinstance(estimate, Posterior) else None,
                "flags": flags,
            },
        )
    print(f"{loaded.name} trained on N = {loaded.n} pairs ({loaded.outcome.status})")
    if not loaded.outcome.usable:
        print(f"warning: {loaded.outcome.status}: {loaded.outcome.message}")
    if loaded.note:
        print(f"warning: {loaded.note}")
    for row in flags:
        print(_flag_line(row))
    print(f"wrote {', '.join(f'{name}.npy' for name in arrays)} to {out}")
    return 0


def read_measurements(file: Path, shape: Shape) -> Tensor:
    """A batch of measurements from an npy file with one or several.

    Accepts `(C, *spatial)`, `(B, C, *spatial)`, and both without the channel axis if C = 1.

    Raises:
        DataError: If the file is no array of finite numbers.
        ShapeError: If its shape is none of these.
    """
    array = read_array(file)
    found, spatial = array.shape, shape[1:]
    if shape[0] == 1 and found[-len(shape) :] != shape and found[-len(spatial) :] == spatial:
        array = np.expand_dims(array, -len(shape))  # the channel axis
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape:
        raise ShapeError(
            str(file),
            f"a measurement {shape} or a batch of them",
            found,
            "Reshape or resample it to what the solver was trained on.",
        )
    return torch.from_numpy(as_image(array, str(file)))


def measurement_flags(loaded: Loaded, y: Tensor, mean: Tensor) -> list[dict]:
    """Residual of each measurement and its place among those of the test set.

    The p-value is that of the one-sided permutation test against the test images, (1 + number
    with a larger residual)/(1 + images): valid whatever the solver, if the new measurement is
    exchangeable with them. A small test set cannot give a p-value below `SUSPICIOUS`; then a
    residual larger than all of its own is flagged.
    """
    if loaded.problem is None:
        return []
    chi2 = loaded.problem.chi2(y, mean).numpy(force=True)
    table = read_parquet(loaded.folder / "per_image.parquet", PER_IMAGE)
    known = table.loc[table["metric"] == "data_chi2", "value"].to_numpy()
    threshold = max(SUSPICIOUS, 1 / (1 + len(known)))
    rows = []
    for index, value in enumerate(chi2):
        p = (1 + int((known >= value).sum())) / (1 + len(known))
        rows.append(
            {
                "measurement": index,
                "data_chi2": float(value),
                "p_value": p,
                "suspicious": p <= threshold,
            }
        )
    return rows


def _flag_line(row: dict) -> str:
    text = f"  measurement {row['measurement']}: data residual χ²/m = {row['data_chi2']:.3g}"
    text += f", p = {row['p_value']:.3g}"
    if row["suspicious"]:
        text += "  ← unlike the test set: do not trust the interval"
    return text
