"""What a command line of `latens evaluate` names, read from disk and checked."""

from argparse import Namespace
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latens.data import ImageSet
from latens.data.arrays import Stored, read_stored, stored_array
from latens.data.recordings import read_draws, read_labels, read_like, read_signals
from latens.errors import ConfigError, ShapeError
from latens.evaluation import Context, fit_directions
from latens.inference import Calibrated, Recorded, Recording
from latens.problems import InverseProblem
from latens.store import RunFolder, array_fingerprint, content_hash
from latens.studies.held_out import HeldOut, read_held_out
from latens.studies.plausible import check_explains
from latens.studies.reconstruct import as_measurements
from latens.studies.recorded import Stated


@dataclass(frozen=True, eq=False)
class Given:
    """Everything that a command line names, read and checked.

    Attributes:
        images: Truth with measurements, or with numbers in their place.
        recording: The reconstructions.
        problem: Operator and noise, or None.
        reference: Other images of the same kind, or None.
        measured: Whether measurements were given.
        content: Fingerprint of every array, by name.
        held_out: Images and reconstructions that intervals are calibrated on, or None.
    """

    images: ImageSet
    recording: Recording
    problem: InverseProblem | None
    reference: Tensor | None
    measured: bool
    content: dict[str, str]
    held_out: HeldOut | None = None

    @property
    def data(self) -> dict[str, Any]:
        """Description of the test set for `run.json`."""
        images = self.images
        assert images.y is not None
        return {
            "name": images.name,
            "citation": images.citation,
            "fingerprint": self.content["truth"],
            "images": len(images),
            "groups": len(set(images.groups)),
            "grouping": self.content["groups"],
            "reference": self.content.get("reference"),
            "data_range": list(images.data_range),
            "signal_shape": list(images.signal_shape),
            "measurement_shape": list(images.y.shape[1:]) if self.measured else None,
        }

    @cached_property
    def solver(self) -> Recorded | Calibrated:
        """The reconstructions as a solver of their measurements, calibrated where it can be."""
        assert self.images.y is not None
        recorded = Recorded(self.recording, self.images.y)
        return (
            recorded if self.held_out is None else Calibrated(recorded, self.held_out.calibration)
        )

    @cached_property
    def pointwise(self) -> Recorded:
        """The same without a spread that says nothing of how pixels go together."""
        assert self.images.y is not None
        recording = self.recording
        if recording.draws is None:
            recording = Recording(mean=recording.mean)
        return Recorded(recording, self.images.y)

    @cached_property
    def context(self) -> Context:
        """What the metrics need beside estimate and truth."""
        low, high = self.images.data_range
        directions = None if self.reference is None else fit_directions(self.reference)
        return Context(high - low, directions, self.problem)


def read_given(options: Namespace, stated: Stated, before: RunFolder | None) -> Given:
    """Read and check every file that a command line names.

    Args:
        options: Options of `latens evaluate`.
        stated: Operator, noise and checks.
        before: The run, if there is one: all its calls share truth, groups, reference and data
            range, the last of which is taken over where none is given.

    Raises:
        ConfigError, DataError, ShapeError: See `evaluate_command`.
    """
    shared = {} if before is None else before.description["data"]
    truth = read_signals(options.truth)
    x = torch.from_numpy(truth.values)
    content = {"truth": array_fingerprint(truth.values)}
    _require_same(shared, "--truth", "fingerprint", content["truth"])
    groups = read_labels(options.groups, truth)
    content["groups"] = content_hash(list(groups))
    _require_same(shared, "--groups", "grouping", content["groups"])
    reference = _reference(options, x)
    if reference is not None:
        content["reference"] = array_fingerprint(reference.numpy())
    _require_same(shared, "--reference", "reference", content.get("reference"))
    low, high = _range(options, shared, x)
    content["data_range"] = content_hash([low, high])
    _require_same(shared, "--data_range", "data_range", [low, high])
    recording = _recording(options, truth)
    problem = _problem(stated, x)
    y = _measurements(options, problem, x)
    if problem is not None and y is not None:
        check_explains(problem, x, y)
    images = ImageSet(
        x,
        y=torch.arange(len(x), dtype=torch.float32)[:, None] if y is None else y,
        data_range=(low, high),
        groups=groups,
        name=Path(truth.place).name,
    )
    arrays = {
        "mean": recording.mean,
        "std": recording.std,
        "draws": recording.draws,
        "measurements": y,
    }
    given = {name: array for name, array in arrays.items() if array is not None}
    content |= {name: array_fingerprint(array.numpy()) for name, array in given.items()}
    held_out = read_held_out(options, x, recording)
    if held_out is not None:
        content |= held_out.content
    return Given(images, recording, problem, reference, y is not None, content, held_out)


def _require_same(shared: dict[str, Any], option: str, key: str, value: Any) -> None:
    """Solvers of a run are compared on the same images, in the same way."""
    if shared and shared.get(key) != value:
        raise ConfigError(
            option,
            "the same as in the call that began this run",
            "another" if value else "none",
            "Give the same, or begin in a new folder.",
        )


def _reference(options: Namespace, x: Tensor) -> Tensor | None:
    path = options.reference
    if path is None:
        return None
    reference = torch.from_numpy(read_signals(path).values)
    if reference.shape[1:] != x.shape[1:] or len(reference) < 2:
        raise ShapeError(
            path,
            f"two or more images {tuple(x.shape[1:])}, as the truth",
            tuple(reference.shape),
            "Give images of the same kind that are not evaluated.",
        )
    return reference


def _recording(options: Namespace, truth: Stored) -> Recording:
    if options.mean is None and options.draws is None:
        raise ConfigError(
            "--mean, --draws",
            "reconstructions: point estimates, or posterior draws",
            "neither",
            "Add --mean FILE, --draws FILE, or both.",
        )
    mean, std = (
        None if path is None else torch.from_numpy(read_like(path, truth))
        for path in (options.mean, options.std)
    )
    draws = None if options.draws is None else torch.from_numpy(read_draws(options.draws, truth))
    return Recording(mean, std, draws)


def _problem(stated: Stated, x: Tensor) -> InverseProblem | None:
    if stated.operator is None or stated.noise is None:
        return None
    if not stated.noise.is_known:
        raise ConfigError("noise", "a noise level", "none", "Give it, such as --noise.scale 0.05.")
    return InverseProblem(stated.operator(tuple(x.shape[1:])), stated.noise)


def _measurements(options: Namespace, problem: InverseProblem | None, x: Tensor) -> Tensor | None:
    path = options.measurements
    if path is None:
        if problem is not None:
            raise ConfigError(
                "--measurements",
                "the measurements that the reconstructions were made from, since an operator is "
                "stated",
                "none",
                "Add --measurements FILE, or leave operator and noise out.",
            )
        return None
    if problem is None:
        y = torch.from_numpy(read_stored(path).values)
        y = y[:, None] if y.ndim == 3 else y
    else:
        folder = Path(path).is_dir()
        array = read_stored(path).values if folder else stored_array(path)
        y = as_measurements(array, Path(path), problem.measurement_shape, problem.operator)
    if len(y) != len(x):
        raise ShapeError(
            path,
            f"{len(x)} measurements, one for each image",
            tuple(y.shape),
            "Bring both into the same order and number.",
        )
    return y


def _range(options: Namespace, shared: dict[str, Any], x: Tensor) -> tuple[float, float]:
    """The stated range, that of the run, or smallest and largest value of the truth."""
    stated = options.data_range or shared.get("data_range")
    if stated is not None:
        return stated[0], stated[1]
    smallest, largest = (float(value) for value in torch.aminmax(x))
    # A constant is left to ImageSet, which explains what is wrong with it.
    return smallest, largest if largest > smallest else smallest + 1.0
