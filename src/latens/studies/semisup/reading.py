"""`latens reconstruct` for a `semisup` run: class, probability and a flag for new images."""

import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError
from latens.evaluation.assess import strangeness, table_of
from latens.evaluation.mixture import read
from latens.metrics.components import combined_strangeness, surprise
from latens.models.mixture import MixtureVAE
from latens.store import (
    Outcome,
    RunFolder,
    new_folder,
    read_array,
    read_json,
    read_npz,
    write_array,
    write_json,
)
from latens.studies.configure import construct_object
from latens.studies.load import listed_evaluations, load_weights
from latens.studies.semisup.study import TWIN
from latens.studies.semisup.work import USUAL
from latens.types import PathLike, Shape

SUSPICIOUS = 0.01
"""An image is flagged where a usual one is as strange with this probability or a smaller."""

REFUSED = 4
"""Exit code of a result that is written, and not to be used."""

SHOWN = 20
"""Images that are printed; the file holds all."""


@dataclass(frozen=True)
class Classifier:
    """A trained model with what a new image is compared with.

    Attributes:
        model: The model.
        usual: Scores of strangeness of usual images, `(m, J)`.
        name, labels, data_seed, init_seed: Its place in the run.
        outcome: How its fit ended.
    """

    model: MixtureVAE
    usual: NDArray[np.float64]
    name: str
    labels: int
    data_seed: int
    init_seed: int
    outcome: Outcome

    def __call__(self, x: Tensor) -> dict[str, NDArray]:
        """Class, probabilities and strangeness of images in [0, 1], `(n, *signal_shape)`.

        Returns:
            `class` `(n,)`, `probability` of each class `(n, Y)`, `sigma` `(n,)`, and `tail`
            `(n,)`: the probability that a usual image is as strange or stranger, by the tail of
            `metrics.components.combined_strangeness`, which goes on beyond the images seen.
        """
        found = read(self.model, x)
        tau = self.model.class_given_component.double().numpy(force=True)
        score = combined_strangeness(table_of(strangeness(found, tau)), self.usual)
        known = combined_strangeness(self.usual, self.usual)
        return {
            "class": found.probability.argmax(1),
            "probability": found.probability,
            "sigma": found.scale,
            "tail": np.exp(-surprise(score, known)),
        }


def load_classifier(
    run: PathLike,
    solver: str | None = None,
    labels: int | None = None,
    trust: Collection[str] = (),
) -> Classifier:
    """A classifier from a run folder; nothing in it is executed.

    Args:
        run: Folder of a `semisup` run.
        solver: Name of the model; by default the first of the configuration.
        labels: Number of labels; by default the largest.
        trust: Packages whose classes may be named besides those of latens.

    Raises:
        DataError: If the folder holds no such classifier.
        ConfigError: If there is no model of that name or number of labels.
    """
    folder = RunFolder.open(run)
    found = []
    for hash, tree in listed_evaluations(folder):
        if tree.get("kind") == "mixture":
            found.append((folder.evaluation(hash), tree))
    if not found:
        raise DataError(
            str(run), "a run with finished evaluations", "none", "Finish the run first."
        )
    names = in_order({tree["solver"] for _, tree in found}, folder.description["config"]["models"])
    name = solver or names[0]
    if name not in names:
        raise ConfigError("solver", f"one of {', '.join(names)}", name, "Choose one of them.")
    own = [(place, tree) for place, tree in found if tree["solver"] == name]
    sizes = sorted({tree["n"] for _, tree in own})
    chosen = sizes[-1] if labels is None else labels
    if chosen not in sizes:
        raise ConfigError("n", f"one of {sizes}", chosen, "Choose a number of labels of the run.")
    candidates = [(place, tree) for place, tree in own if tree["n"] == chosen]

    def order(item: tuple[Path, dict[str, Any]]) -> tuple[bool, int, int]:
        usable = Outcome.read(item[0]).usable
        return not usable, item[1]["data_seed"], item[1]["init_seed"]

    place, tree = min(candidates, key=order)
    fit = folder.fit(tree["fits"][0])
    facts = read_json(fit / "fit.json")
    make = construct_object(Callable[[Shape, int], MixtureVAE], facts["model"], trust)
    with torch.random.fork_rng(devices=[]):
        model = make(tuple(facts["signal_shape"]), facts["classes"])
    return Classifier(
        load_weights(model, fit),
        read_array(place / USUAL),
        name,
        tree["n"],
        tree["data_seed"],
        tree["init_seed"],
        Outcome.read(place),
    )


def in_order(names: Iterable[str], models: Iterable[str]) -> list[str]:
    """Names of a run's tables as the models of its configuration, then other names, then twins."""
    known = list(models)

    def place(name: str) -> tuple[bool, int, str]:
        return name.endswith(TWIN), known.index(name) if name in known else len(known), name

    return sorted(names, key=place)


def read_images(file: Path, shape: Shape) -> Tensor:
    """Images from an npy file, or from the array `images` of an npz file.

    Accepts `(n, C, *spatial)`, one image `(C, *spatial)`, and both without the channel axis if
    C = 1; unsigned bytes are divided by 255.

    Args:
        file: The file.
        shape: `(C, *spatial)` that the model was trained on.

    Raises:
        DataError: If the file cannot be read, has no such array, or values are no real numbers,
            not finite or outside [0, 1].
        ShapeError: If the images have another shape.
    """
    array = read_npz(file, ["images"])["images"] if file.suffix == ".npz" else read_array(file)
    if array.dtype.kind not in "buif":
        raise DataError(
            str(file),
            "real numbers",
            f"values of type {array.dtype}",
            "Save the images as floats.",
        )
    x = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if array.dtype == np.uint8:
        x = x / 255
    lacks_channel = x.ndim == len(shape) - 1 or (x.ndim == len(shape) and x.shape != shape)
    if shape[0] == 1 and lacks_channel and tuple(x.shape[1 - len(shape) :]) == shape[1:]:
        x = x.unsqueeze(-len(shape))
    if tuple(x.shape) == shape:
        x = x[None]
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape or not len(x):
        raise ShapeError(
            str(file),
            f"images of shape {shape}, one or several",
            array.shape,
            "Resize them to the images that the model was trained on.",
        )
    if not bool(torch.isfinite(x).all()) or float(x.min()) < 0 or float(x.max()) > 1:
        low, high = float(x.min()), float(x.max())
        raise DataError(
            str(file),
            "unsigned bytes, or finite values in [0, 1]",
            f"values from {low:g} to {high:g}",
            "Rescale the images as those of the training set.",
        )
    return x


def classify_command(options: Namespace) -> int:
    """Classify a file; returns the exit code."""
    if options.level is not None:
        raise ConfigError(
            "level", "no level for a run of semisup", options.level, "Leave --level out."
        )
    classifier = load_classifier(options.run, options.solver, options.n, options.trust)
    file = Path(options.file)
    x = read_images(file, classifier.model.signal_shape)
    out = Path(options.out) if options.out else file.with_name(file.stem)
    if out.exists():
        raise DataError(
            "out", "a folder that does not exist yet", str(out), "Choose another with --out."
        )
    found = classifier(x)
    strange = found["tail"] <= SUSPICIOUS
    usable = classifier.outcome.usable
    reasons = [] if usable else [f"the model is {classifier.outcome.status}"]
    if strange.any():
        reasons.append(f"{int(strange.sum())} of {len(strange)} images unlike the training set")
    with new_folder(out) as folder:
        for name, array in found.items():
            write_array(folder / f"{name}.npy", array)
        write_json(
            folder / "classes.json",
            {
                "run": str(options.run),
                "solver": classifier.name,
                "labels": classifier.labels,
                "status": str(classifier.outcome.status),
                "images": [
                    {
                        "image": i,
                        "class": int(found["class"][i]),
                        "probability": float(found["probability"][i].max()),
                        "tail": float(found["tail"][i]),
                        "suspicious": bool(strange[i]),
                    }
                    for i in range(len(x))
                ],
                "doubts": reasons,
                "refused": bool(options.gate and reasons),
            },
        )
    print(f"{classifier.name} trained with {classifier.labels} labels")
    for i in range(min(len(x), SHOWN)):
        flag = "  unlike the training set" if strange[i] else ""
        probability = found["probability"][i].max()
        print(
            f"  image {i}: class {found['class'][i]}, probability {probability:.3f}, "
            f"tail {found['tail'][i]:.2g}{flag}"
        )
    if len(x) > SHOWN:
        print(f"  … and {len(x) - SHOWN} more")
    print(f"wrote {', '.join(found)} and classes.json to {out}")
    if not (options.gate and reasons):
        return 0
    print(f"refused: {'; '.join(reasons)}", file=sys.stderr)
    return REFUSED
