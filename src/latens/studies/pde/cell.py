"""One cell of the study: all test fields inverted by every way, measured, ranked, and kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from latens.evaluation.calibration_outcome import CalibrationTests
from latens.inference import Estimate, Posterior
from latens.inference.fields import FieldPosterior
from latens.models.igno import IGNO
from latens.studies.pde.calibration import Ranks, of_fields, simulated_ranks
from latens.studies.pde.invert import (
    LEVEL,
    Instrument,
    Row,
    amortised_network,
    instrument,
    inverted,
    measured,
)
from latens.studies.pde.outputs import described, first_rows
from latens.studies.pde.study import Pde
from latens.studies.pde.tables import expected_calibration_error

TRAINING = "amortised (training)"
"""Name under which the seconds of the training of `amortised` stand."""
SIMULATION = "simulated fields"
"""Name under which the seconds of simulation-based calibration stand."""
SHOWN = 4
"""Fields that are kept for pictures."""
ALL_FIELDS = -1
"""Number of the field in rows that speak of all fields together."""
UNSURE = 0.45
"""Distance from one half below which a class probability is unsure."""


@dataclass
class CellResult:
    """What a cell found.

    Attributes:
        rows: Solver, field, metric, value.
        seconds: Solver, fields, seconds of each block.
        pictures: Arrays of the first fields, `SOLVER/NAME`; see `latens.studies.pde.outputs`.
        fields: Arrays of all fields, `SOLVER/NAME`, float32.
        tests: Solver and its tests of calibration, on the test fields and on simulated ones.
    """

    rows: list[Row] = field(default_factory=list)
    seconds: list[Row] = field(default_factory=list)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    tests: list[tuple[str, CalibrationTests]] = field(default_factory=list)


def evaluate(
    study: Pde,
    model: IGNO,
    sensors: Tensor,
    snr: float,
    truth: Tensor,
    clean: Tensor,
    keys: list[int],
    say: Callable[[str], None] = lambda line: None,
    made: Instrument | None = None,
) -> CellResult:
    """Invert noisy readings of some fields.

    Args:
        study: Settings.
        model: Trained model.
        sensors: Positions, `(m, axes)`.
        snr: Signal-to-noise ratio, decibel.
        truth: a on the model's grid, `(n, 1, *grid)`, float64.
        clean: Readings without noise, `(n, m)`, float64.
        keys: Number of each field, which names its noise.
        say: Told a line when a way of a block ends.
        made: `instrument(study, model, sensors)` where it is known.
    """
    made = made or instrument(study, model, sensors)
    y, scale = study.noise(clean, snr, keys)
    result = CellResult(pictures={"truth": truth[:SHOWN].float().numpy()})
    classes = None
    if study.family.classes == 2:
        classes = (float(model.classes[0]), float(model.classes[1]))
    begun = time.perf_counter()
    network = amortised_network(study, model, made, snr)
    if network is not None:
        result.seconds.append(_seconds(TRAINING, len(y), begun))
    ranks, kept = Ranks(), _Kept()
    for part, names in study.inversion.blocks(study.inversion.solvers, len(y)):
        block = keys[part]
        estimates = inverted(study, model, made, network, y[part], scale[part], block, names)
        for name, estimate, took in estimates:
            say(f"  {name}: {part.stop} of {len(y)} fields, {took:.0f} s")
            result.seconds.append({"solver": name, "fields": len(block), "seconds": took})
            for metric, values in measured(estimate, truth[part], classes).items():
                result.rows += [
                    {"solver": name, "field": key, "metric": metric, "value": float(value)}
                    for key, value in zip(block, values, strict=True)
                ]
            kept.add(name, estimate)
            if isinstance(estimate, Posterior):
                members = torch.cat([truth[part][None], estimate.sample()])
                ranks.add(name, of_fields(members), estimate)
            if part.start == 0:
                result.pictures |= _pictures(name, estimate)
    result.tests += ranks.tests("data", study.seed)
    begun = time.perf_counter()
    ranked = simulated_ranks(study, model, made, network, snr, say)
    simulated = list(ranked.tests("model", study.seed))
    result.tests += simulated
    if simulated:
        result.seconds.append(_seconds(SIMULATION, study.inversion.simulated, begun))
    result.fields = kept.arrays
    if classes is not None:
        result.rows += _calibration_errors(kept.arrays, truth, classes)
    return result


def _seconds(name: str, fields: int, begun: float) -> Row:
    return {"solver": name, "fields": fields, "seconds": time.perf_counter() - begun}


class _Kept:
    """Mean, spread and interval of every field and way."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, name: str, estimate: Estimate) -> None:
        """Append a block."""
        found = {"mean": estimate.mean}
        if isinstance(estimate, Posterior):
            interval = estimate.interval(LEVEL)
            found |= {"std": estimate.std, "lower": interval.lower, "upper": interval.upper}
        for word, values in found.items():
            array = values.numpy(force=True).astype(np.float32)
            whole = self.arrays.get(f"{name}/{word}")
            self.arrays[f"{name}/{word}"] = (
                array if whole is None else np.concatenate([whole, array])
            )


def _calibration_errors(
    arrays: dict[str, np.ndarray], truth: Tensor, classes: tuple[float, float]
) -> list[Row]:
    """Expected calibration error of the class probabilities of every way, all fields together."""
    low, high = classes
    chi = (truth.numpy() > (low + high) / 2).astype(float)
    rows: list[Row] = []
    for key, mean in arrays.items():
        name, _, word = key.partition("/")
        if word == "mean":
            probability = np.clip((mean - low) / (high - low), 0, 1)
            mine = chi[: len(mean)]
            unsure = np.abs(probability - 0.5) < UNSURE
            for metric, nodes in (("ece", ...), ("ece_unsure", unsure)):
                error = expected_calibration_error(probability[nodes], mine[nodes])
                if np.isfinite(error):
                    rows.append(
                        {"solver": name, "field": ALL_FIELDS, "metric": metric, "value": error}
                    )
    return rows


def _pictures(name: str, estimate: Estimate) -> dict[str, np.ndarray]:
    if isinstance(estimate, FieldPosterior):
        arrays = described(first_rows(estimate, SHOWN), LEVEL)
    else:
        arrays = {"mean": estimate.mean[:SHOWN].numpy(force=True).astype(np.float32)}
    return {f"{name}/{key}": np.ascontiguousarray(array) for key, array in arrays.items()}
