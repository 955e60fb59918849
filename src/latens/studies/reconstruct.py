"""`latens reconstruct`: mean, spread, interval and flags for new measurements."""

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.data.folder import as_image, require_real
from latens.data.grids import averaged_affine
from latens.data.volumes import Volume, is_volume_name, read_volume, volume_stem, write_volume
from latens.errors import DataError, ShapeError, UnsupportedError
from latens.inference import Calibrated, Calibration, Posterior, Solver, load_calibration
from latens.metrics import LEVEL
from latens.problems import Operator
from latens.store import new_folder, read_array, write_array, write_json
from latens.studies.gate import (
    by_chance,
    card_lines,
    doubts,
    flag_lines,
    measurement_flags,
    refusals,
)
from latens.studies.load import Loaded, load
from latens.types import Shape

REFUSED = 4
"""Exit code of a result that is written, and not to be used, or not all of it."""


def reconstruct_command(options: Namespace) -> int:
    """Reconstruct a file; returns the exit code."""
    loaded = load(options.run, options.solver, options.n, trust=options.trust)
    operator = None if loaded.problem is None else loaded.problem.operator
    file = Path(options.file)
    if is_volume_name(file.name):
        y, write = _open_volume(file, loaded, operator)
    else:
        y, write = read_measurements(file, loaded.measurement_shape, operator), _write_npy
    out = Path(options.out) if options.out else file.with_name(_stem(file))
    if out.exists():
        raise DataError(
            "out", "a folder that does not exist yet", str(out), "Choose another with --out."
        )
    solver, calibration = calibrated_solver(loaded)
    level = chosen_level(options.level, calibration)
    promised = None if calibration is None else calibration.level
    if calibration is not None and level != calibration.level:
        solver, calibration = loaded.solver, None
    with torch.no_grad():
        estimate = solver(y)
        arrays = {"mean": estimate.mean}
        if isinstance(estimate, Posterior):
            interval = estimate.interval(level)
            arrays |= {"std": estimate.std, "lower": interval.lower, "upper": interval.upper}
        flags = measurement_flags(loaded, y, estimate)
    reasons = doubts(loaded, flags, promised=calibration is not None)
    places, told = refusals(flags)
    refused = list(range(len(y))) if reasons else places
    with new_folder(out) as folder:
        written = [
            write(folder, name, array.numpy(force=True)).name for name, array in arrays.items()
        ]
        write_json(
            folder / "reconstruction.json",
            {
                "run": str(options.run),
                "solver": loaded.name,
                "n": loaded.n,
                "status": str(loaded.outcome.status),
                "note": loaded.note,
                "level": level if isinstance(estimate, Posterior) else None,
                "calibration": None if calibration is None else _described(calibration),
                "flags": flags,
                "by_chance": by_chance(loaded, flags) if flags else None,
                "doubts": [*reasons, *told],
                "refused": refused if options.gate else [],
            },
        )
    print(f"{loaded.name} trained on N = {loaded.n} pairs ({loaded.outcome.status})")
    if not loaded.outcome.usable:
        print(f"warning: {loaded.outcome.status}: {loaded.outcome.message}")
    if loaded.note:
        print(f"warning: {loaded.note}")
    if calibration is not None:
        print(f"intervals calibrated ({calibration.method}): {calibration.promise}")
    elif promised is not None:
        print(f"intervals at {level:g} are not calibrated; those at {promised:g} would be")
    for line in card_lines(loaded):
        print(line)
    for line in flag_lines(loaded, flags):
        print(line)
    print(f"wrote {', '.join(written)} to {out}")
    if not (options.gate and refused):
        return 0
    print(f"refused: {'; '.join([*reasons, *told])}", file=sys.stderr)
    return REFUSED


def calibrated_solver(loaded: Loaded) -> tuple[Solver, Calibration | None]:
    """The solver with the calibration that lies beside it, if there is one."""
    calibration = load_calibration(loaded.folder)
    if calibration is None:
        return loaded.solver, None
    if calibration.signal_shape != loaded.signal_shape:
        raise ShapeError(
            str(loaded.folder),
            f"a calibration for signals {loaded.signal_shape}",
            calibration.signal_shape,
            "Remove it, or fit one for this solver.",
        )
    return Calibrated(loaded.solver, calibration), calibration


def chosen_level(asked: float | None, calibration: Calibration | None) -> float:
    """The level that was asked for, else that of the calibration, else `LEVEL`."""
    if asked is not None:
        return asked
    return LEVEL if calibration is None else calibration.level


def _described(calibration: Calibration) -> dict[str, Any]:
    return {**asdict(calibration), "promise": calibration.promise}


def read_measurements(file: Path, shape: Shape, operator: Operator | None = None) -> Tensor:
    """A batch of measurements from an npy file with one or several.

    Accepts `(C, *spatial)`, `(B, C, *spatial)`, and both without the channel axis if C = 1.
    Where a measurement is a part of a grid, that is the shape of the grid, and what the file
    holds at places that are not measured, even NaN, is not read; measured numbers alone are
    accepted too, in batches with their channel axis.

    Raises:
        DataError: If the file is no array, or a measured number is not finite.
        ShapeError: If its shape is none of these.
    """
    return as_measurements(read_array(file), file, shape, operator)


def as_measurements(
    array: np.ndarray, file: Path, shape: Shape, operator: Operator | None = None
) -> Tensor:
    """The same from an array; the file is named in errors."""
    require_real(array, str(file))
    grid = None if operator is None else operator.grid_shape
    batch = None
    if operator is not None and grid is not None:
        full = _batch(array, grid)
        if full is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                batch = operator.from_grid(torch.from_numpy(full.astype(np.float32))).numpy()
    # Rows of measured numbers would be taken for the lines of a grid that has another shape.
    rows = grid is not None and array.ndim == len(shape) and array.shape != shape
    if batch is None and not rows:
        batch = _batch(array, shape)
    if batch is None:
        laid_out = "" if grid is None else f", one on its full grid {grid},"
        raise ShapeError(
            str(file),
            f"a measurement {shape}{laid_out} or a batch of them",
            array.shape,
            "Reshape or resample it to what the solver was trained on.",
        )
    return torch.from_numpy(as_image(batch, str(file)).reshape(batch.shape))


def _batch(array: np.ndarray, shape: Shape) -> np.ndarray | None:
    """An array as a batch `(B, *shape)`, or None if it cannot be one."""
    found, spatial = array.shape, shape[1:]
    if shape[0] == 1 and found[-len(shape) :] != shape and found[-len(spatial) :] == spatial:
        array = np.expand_dims(array, -len(shape))  # the channel axis
    if array.shape == shape:
        array = array[None]
    return array if array.shape[1:] == shape else None


def _open_volume(
    file: Path, loaded: Loaded, operator: Operator | None
) -> tuple[Tensor, Callable[[Path, str, np.ndarray], Path]]:
    """Measurements in a NIfTI file, and the function that writes images beside its space.

    A solver of volumes gets the volume, one of slices each axial slice as a measurement.
    """
    grid = None if operator is None else operator.grid_shape
    laid_out, signal = grid or loaded.measurement_shape, loaded.signal_shape
    if len(laid_out) not in (3, 4) or laid_out[0] != 1 or len(signal) != len(laid_out):
        raise UnsupportedError(
            str(file),
            "measurements that are grey images or volumes, to be read from NIfTI",
            f"shape {laid_out} for a signal {signal}",
            "Save the measurement with `numpy.save` instead.",
        )
    if signal[0] != 1:
        raise UnsupportedError(
            str(file), "a signal of one channel", signal, "Save the measurement as npy instead."
        )
    volume = read_volume(file)
    axes = len(laid_out) - 1
    if volume.values.shape[3 - axes :] != laid_out[1:]:
        raise ShapeError(
            str(file),
            f"{' × '.join(map(str, laid_out[1:]))} voxels towards "
            f"{'the head, the back and the left' if axes == 3 else 'the back and the left'}",
            " × ".join(map(str, volume.values.shape)),
            "Crop or resample it to what the solver was trained on.",
        )
    batch = volume.values[None, None] if axes == 3 else volume.values[:, None]
    y = as_measurements(batch, file, loaded.measurement_shape, operator)

    def write(folder: Path, name: str, images: np.ndarray) -> Path:
        values = images[0, 0] if axes == 3 else images[:, 0]
        suffix = file.name[len(volume_stem(file.name)) :]
        return write_volume(
            folder / f"{name}{suffix}", values, _affine_of(volume, values.shape), like=volume
        )

    return y, write


def _affine_of(volume: Volume, shape: Shape) -> np.ndarray:
    """Affine of an image that shows the same field of view, perhaps with other voxels."""
    factors = [old / new for old, new in zip(volume.values.shape, shape, strict=True)]
    return averaged_affine(volume.affine, factors)


def _write_npy(folder: Path, name: str, images: np.ndarray) -> Path:
    return write_array(folder / f"{name}.npy", images)


def _stem(file: Path) -> str:
    return volume_stem(file.name) if is_volume_name(file.name) else file.stem
