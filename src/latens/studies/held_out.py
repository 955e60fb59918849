"""Images on which the intervals of recorded reconstructions are calibrated."""

from argparse import Namespace
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latens.data.recordings import read_draws, read_labels, read_like, read_signals
from latens.errors import ConfigError, ShapeError
from latens.evaluation import fit_calibration
from latens.inference import Calibration, Recorded, Recording
from latens.inference.calibrated import Method
from latens.store import array_fingerprint, content_hash

NAMES = ("mean", "std", "draws", "groups")
METHOD = "crc"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Truth and reconstructions of images that are neither trained on nor evaluated.

    Attributes:
        x: Truth, `(n, *signal_shape)`.
        recording: What the solver makes of them.
        groups: Patient of each image.
        method: How intervals are calibrated.
        content: Fingerprint of every array, by name.
    """

    x: Tensor
    recording: Recording
    groups: tuple[str, ...]
    method: Method
    content: dict[str, str]

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration that they give.

        Raises:
            ConfigError: If they are too few, or there is no such method.
            SolverError: If no finite factor keeps the promise.
        """
        y = torch.arange(len(self.x), dtype=torch.float32)[:, None]  # a name for each image
        solver = Recorded(self.recording, y)
        return fit_calibration(solver, self.x, y, method=self.method, groups=self.groups)


def read_held_out(options: Namespace, x: Tensor, recording: Recording) -> HeldOut | None:
    """Read and check the options `--calibration_…`; None where there is none of them.

    Args:
        options: Options of `latens evaluate`.
        x: Truth that is evaluated.
        recording: Reconstructions that are evaluated: those held out must be of the same kind,
            or new images were not exchangeable with them.
    """
    path = options.calibration_truth
    paths = {name: getattr(options, f"calibration_{name}") for name in NAMES}
    if path is None:
        given = [f"--calibration_{name}" for name, value in paths.items() if value is not None]
        given += ["--conformal"] if options.conformal is not None else []
        if given:
            raise ConfigError(
                ", ".join(given), "held-out images in --calibration_truth", None, "Add them."
            )
        return None
    truth = read_signals(path)
    held = torch.from_numpy(truth.values)
    if held.shape[1:] != x.shape[1:]:
        raise ShapeError(
            "--calibration_truth",
            f"images {tuple(x.shape[1:])}, as the truth",
            tuple(held.shape),
            "Give images of the same kind.",
        )
    evaluated = {(image + 0.0).numpy().tobytes() for image in x}  # one zero, not two
    shared = sum((image + 0.0).numpy().tobytes() in evaluated for image in held)
    if shared:
        raise ConfigError(
            "--calibration_truth",
            "images that are not evaluated, for the promise is one on new images",
            f"{shared} of {len(held)} that are",
            "Hold other images out.",
        )
    _require_alike(paths, recording)
    mean, std = (
        None if paths[name] is None else torch.from_numpy(read_like(paths[name], truth))
        for name in ("mean", "std")
    )
    draws = None if paths["draws"] is None else torch.from_numpy(read_draws(paths["draws"], truth))
    if draws is not None and recording.draws is not None and len(draws) != len(recording.draws):
        raise ShapeError(
            "--calibration_draws",
            f"{len(recording.draws)} draws of an image, as in --draws",
            len(draws),
            "Give as many, or new images are not exchangeable with these.",
        )
    groups = read_labels(paths["groups"], truth)
    method: Method = options.conformal or METHOD
    arrays = {"truth": held, "mean": mean, "std": std, "draws": draws}
    content = {
        f"calibration_{name}": array_fingerprint(array.numpy())
        for name, array in arrays.items()
        if array is not None
    }
    content |= {"calibration_groups": content_hash(list(groups)), "conformal": method}
    return HeldOut(held, Recording(mean, std, draws), groups, method, content)


def _require_alike(paths: dict[str, str | None], recording: Recording) -> None:
    """The same arrays as of the images that are evaluated, and among them a spread."""
    if recording.draws is None and recording.std is None:
        raise ConfigError(
            "--calibration_truth",
            "draws or a standard deviation, which say where errors are larger",
            "point estimates",
            "Add --draws or --std, or leave the calibration out.",
        )
    for name in ("mean", "std", "draws"):
        evaluated, held = getattr(recording, name) is not None, paths[name] is not None
        if evaluated != held:
            raise ConfigError(
                f"--calibration_{name}",
                f"a file, as --{name} is given" if evaluated else f"none, as --{name} is not",
                paths[name],
                "Give the same of both, or new images are not exchangeable with those held out.",
            )
