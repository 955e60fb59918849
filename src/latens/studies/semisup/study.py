"""Configuration of `semisup`, its images, and which of them carry labels.

Every heteroscedastic model is trained beside its *twin*: the same settings with one learned σ
for all images and the exact likelihood, the same labels and seeds. Twins are ordinary models of
the study, named `NAME_twin`; `with_twins` writes them into a resolved configuration.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.data import ImageSet, Source, hold_out, labelled_rows
from latens.data.labels import Draw
from latens.data.propagation import Propagation, gradient_histograms
from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, LatensError
from latens.evaluation.acquisition import Acquisition
from latens.models.mixture import MixtureVAE
from latens.store import content_hash
from latens.training import Training
from latens.types import Shape

TWIN = "_twin"
VARYING = ("per_image", "per_pixel")
SPLIT_SEED = 0

FAR, DARK = 0.5, 0.1
"""How far images may leave [0, 1] after they were rescaled as the training images are, and how
bright the brightest pixel must be: beyond that they are in other units."""


@dataclass(frozen=True)
class Corpus:
    """Images of the study, split once.

    Attributes:
        images: The training pool, with labels; no test image is among them.
        train: Positions in the pool that are trained on, labelled or not.
        validation: Positions that choose the weights; their labels are never used.
        test, strange: Test images with labels, and images of another kind or None.
        classes: Number of classes.
    """

    images: ImageSet
    train: np.ndarray
    validation: np.ndarray
    test: ImageSet
    strange: Tensor | None
    classes: int

    @property
    def labels(self) -> np.ndarray:
        """Classes of the training images, `(n,)`, in the order of `train`."""
        assert self.images.labels is not None
        return np.asarray(self.images.labels)[self.train]

    @cached_property
    def x(self) -> Tensor:
        """Training images, `(n, *signal_shape)`."""
        return self.images.x[torch.as_tensor(self.train)]

    def validation_pair(self) -> tuple[Tensor, Tensor]:
        """Validation images with hidden classes."""
        x = self.images.x[torch.as_tensor(self.validation)]
        return x, torch.full((len(x),), -1)


class Semisup:
    """Classes from few labels, with a mixture VAE.

    Args:
        data: Images with labels, values in [0, 1].
        models: Models to train, by the name that tables show.
        test: Test images with labels; None holds `test_images` of the data out.
        strange: Images of another kind, which no fit sees; None leaves their metrics out.
        labels: Numbers of labels.
        propagation: What carries the labels along a graph of similar images before training;
            null leaves the other images without a believed class.
        draw: How the labelled images are drawn: the same number of every class, or any.
        data_seeds: Number of draws of the labelled images.
        init_seeds: Number of initialisations for each draw.
        twin_draws: Draws, the first of them, for which twins are trained too; null for all.
        acquisitions: Ways of choosing labels one round after another with the first model, each
            from the same start.
        rounds: Numbers of labels of these rounds; the first are drawn.
        labelled_batch: Labelled images in every batch, beside `training.batch_size` others.
        test_images: Size of the test set where it is held out.
        validation_images: Images that choose the weights, by a loss without labels.
        sampled_images: Test images whose likelihood is estimated by importance sampling.
        sampled_draws: Draws of z per component of that estimate.
        training: Budget and optimiser of every fit.
    """

    name = "semisup"

    def __init__(
        self,
        data: Source,
        models: dict[str, Callable[[Shape, int], MixtureVAE]],
        test: Source | None = None,
        strange: Source | None = None,
        labels: list[int] = [50, 100],  # noqa: B006
        propagation: Propagation | None = None,
        draw: Draw = "balanced",
        data_seeds: int = 5,
        init_seeds: int = 1,
        twin_draws: int | None = None,
        acquisitions: list[Acquisition] = [],  # noqa: B006
        rounds: list[int] = [10, 20, 30, 40, 50],  # noqa: B006
        labelled_batch: int = 32,
        test_images: int = 500,
        validation_images: int = 1000,
        sampled_images: int = 50,
        sampled_draws: int = 100,
        training: Training = Training(),  # noqa: B008
    ) -> None:
        self.data, self.models, self.test, self.strange = data, models, test, strange
        self.labels, self.propagation = labels, propagation
        self.draw: Draw = draw
        self.data_seeds, self.init_seeds = data_seeds, init_seeds
        self.twin_draws = data_seeds if twin_draws is None else twin_draws
        self.acquisitions, self.rounds = acquisitions, rounds
        self.labelled_batch = labelled_batch
        self.test_images, self.validation_images = test_images, validation_images
        self.sampled_images, self.sampled_draws = sampled_images, sampled_draws
        self.training = training
        for name in (
            *("data_seeds", "init_seeds", "labelled_batch", "test_images"),
            *("sampled_images", "sampled_draws"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(name, "1 or more", getattr(self, name), "Raise it.")
        for name, least in (("twin_draws", 0), ("validation_images", 2)):
            if getattr(self, name) < least:
                raise ConfigError(name, f"{least} or more", getattr(self, name), "Raise it.")
        for name in ("labels", "rounds"):
            numbers = getattr(self, name)
            if not numbers or sorted(set(numbers)) != numbers or numbers[0] < 1:
                raise ConfigError(
                    name,
                    "positive numbers in ascending order, each once",
                    numbers,
                    f"Write for example --{name} [50,100].",
                )
        if not models:
            raise ConfigError("models", "at least one model", "none", "Add one.")
        if len(set(acquisitions)) < len(acquisitions):
            raise ConfigError("acquisitions", "each once", acquisitions, "Leave the second out.")
        for name in models:
            self._check_name(name)

    def _check_name(self, name: str) -> None:
        """Refuse a name that tables could take for a twin's, or for that of a chain of rounds."""
        alone = name.endswith(TWIN) and name.removesuffix(TWIN) not in self.models
        if " " in name or alone:
            raise ConfigError(
                "models",
                f"names without a space, of which none ends in `{TWIN}`",
                repr(name),
                "Rename the model.",
            )

    @cached_property
    def corpus(self) -> Corpus:
        """Images and split; loaded once.

        Raises:
            DataError: If the data cannot be used.
            ConfigError: If settings and data do not fit together.
        """
        images = _labelled(self.data.load(), "data")
        span = images.data_range
        images = _rescaled(images, span)
        if self.test is None:
            pool, held = hold_out(images.groups, self.test_images, SPLIT_SEED)
            images, test = images.select(pool), images.select(held)
        else:
            test = _in_range(_labelled(self.test.load(), "test"), span, "test")
        if self.validation_images >= len(images):
            raise ConfigError(
                "validation_images",
                f"fewer than the {len(images)} images of the pool",
                self.validation_images,
                "Lower it.",
            )
        order = np.random.default_rng((SPLIT_SEED, len(images))).permutation(len(images))
        validation = np.sort(order[: self.validation_images])
        train = np.sort(order[self.validation_images :])
        strange = None
        if self.strange is not None:
            strange = _in_range(self.strange.load(), span, "strange").x
        for argument, shape in (
            ("test", test.signal_shape),
            ("strange", images.signal_shape if strange is None else tuple(strange.shape[1:])),
        ):
            if shape != images.signal_shape:
                raise ConfigError(
                    argument,
                    f"images of shape {images.signal_shape}, that of the data",
                    shape,
                    "Choose images of the same size and channels.",
                )
        classes = 1 + max(int(np.max(s.labels)) for s in (images, test) if s.labels)
        return Corpus(images, train, validation, test, strange, classes)

    def rows(self, labels: int, data_seed: int) -> np.ndarray:
        """Labelled positions among the training images."""
        return labelled_rows(self.corpus.labels, labels, self.draw, data_seed)

    def training_pair(self, rows: np.ndarray, cache: Path | None = None) -> tuple[Tensor, Tensor]:
        """Training images, and the class that is believed of each from the labels at `rows`.

        That is the label itself, what propagation makes of the labels, or −1.

        Args:
            rows: Positions of the labelled images among the training images.
            cache: Folder that keeps the graph for other processes.
        """
        corpus = self.corpus
        labels = corpus.labels[rows]
        if self.propagation is None:
            believed = np.full(len(corpus.train), -1)
            believed[rows] = labels
        else:
            graph = self._graph(self.propagation, cache)
            found = self.propagation.beliefs(graph, corpus.train[rows], labels, corpus.classes)
            table = found[corpus.train]
            believed = np.where(table.any(1), table.argmax(1), -1)
        return corpus.x, torch.as_tensor(believed)

    def _graph(self, propagation: Propagation, cache: Path | None) -> Any:
        """Graph of all images of the pool; it knows no label, and is made once."""
        if "_made_graph" not in self.__dict__:
            images = self.corpus.images
            name = content_hash({"images": images.fingerprint(), **propagation.graph_identity})
            file = None if cache is None else cache / f"graph-{name}.npz"
            self._made_graph = propagation.kept_graph(images.x, file)
        return self._made_graph

    def build(self, name: str) -> MixtureVAE:
        """An untrained model; its weights come from torch's generator."""
        corpus = self.corpus
        return self.models[name](corpus.images.signal_shape, corpus.classes)

    def check_applicable(self) -> None:
        """Find settings that cannot work before anything is trained.

        Raises:
            ConfigError, DataError, ShapeError: Naming the setting and the remedy.
        """
        self._check_rounds()
        for data_seed in range(self.data_seeds):
            for labels in (*self.labels, *(self.rounds[:1] if self.acquisitions else ())):
                self.rows(labels, data_seed)
        if self.propagation is not None and self.propagation.features == "gradients":
            gradient_histograms(self.corpus.x[:2])
        for name in self.models:
            self._check_model(name)

    def _check_rounds(self) -> None:
        pool = len(self.corpus.train)
        if self.acquisitions and self.rounds[-1] > pool:
            raise ConfigError(
                "rounds",
                f"at most the {pool} training images",
                self.rounds[-1],
                "Ask for fewer labels in the last round.",
            )

    def _check_model(self, name: str) -> None:
        """Build a model and let it see two training images, as a fit would."""
        x, y = self.corpus.x[:2], torch.as_tensor(self.corpus.labels[:2])
        try:
            with torch.random.fork_rng(devices=[]):
                model = self.build(name)
                model.fit_units(x, y)
                model.training_terms("elbo", x, y, NoiseStream(0), None, 0)
        except LatensError:
            raise
        except Exception as error:
            raise ConfigError(
                f"models.{name}",
                f"a model that can be trained on images {self.corpus.images.signal_shape}",
                f"{type(error).__name__}: {' '.join(str(error).split())}",
                "Change its settings or the data.",
            ) from error
        if model.decoder.scale is None:
            self._check_binary(name)

    def _check_binary(self, name: str) -> None:
        grey = (self.corpus.x > 0) & (self.corpus.x < 1)
        if bool(grey.any()):
            raise ConfigError(
                f"models.{name}.decoder.likelihood",
                "a Gaussian for grey images, of which Bernoulli is no density",
                f"'bernoulli', and {100 * float(grey.double().mean()):.0f} % of the pixels grey",
                "Choose per_image, or give images of zeros and ones.",
            )


def _labelled(images: ImageSet, argument: str) -> ImageSet:
    """Images with a class each.

    Raises:
        DataError: If they have no classes, or such as are no numbers from 0 on.
    """
    if images.labels is None:
        raise DataError(
            argument, "images with labels", "none", "Use a source that knows the classes."
        )
    labels = np.asarray(images.labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(
            argument,
            "one class from 0 on for every image",
            f"labels of type {labels.dtype} in {labels.ndim} axes",
            "Use a set with one class per image.",
        )
    return images


def _rescaled(images: ImageSet, span: tuple[float, float]) -> ImageSet:
    """Images on the scale where the range `span` of the training images is [0, 1]."""
    if span == (0.0, 1.0):
        return images
    low, high = span
    scaled = copy.copy(images)
    object.__setattr__(scaled, "x", (images.x - low) / (high - low))
    object.__setattr__(scaled, "data_range", (0.0, 1.0))
    return scaled


def _in_range(images: ImageSet, span: tuple[float, float], argument: str) -> ImageSet:
    """Other images on that scale.

    Args:
        images: The images.
        span: Range of the training images.
        argument: Setting that an error names.

    Raises:
        DataError: If the images are in other units than the training images.
    """
    low, high = span
    least, most = ((float(end) - low) / (high - low) for end in torch.aminmax(images.x))
    if least < -FAR or not DARK <= most <= 1 + FAR:
        raise DataError(
            argument,
            f"images in the units of the training images, which range from {low:g} to {high:g}",
            f"values from {float(images.x.min()):g} to {float(images.x.max()):g}",
            "Rescale the files, or state the `data_range` of the data.",
        )
    return _rescaled(images, span)


def with_twins(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration with the twin of every heteroscedastic model among its models.

    Args:
        config: Resolved configuration; twins that it holds are made anew, and one whose model
            has become homoscedastic is left out.
    """
    made = copy.deepcopy(config)
    for name, model in config["models"].items():
        decoder = model.get("init_args", {}).get("decoder", {})
        if name.endswith(TWIN):
            continue
        if decoder.get("likelihood") not in VARYING:
            made["models"].pop(name + TWIN, None)
            continue
        twin = copy.deepcopy(model)
        twin["init_args"]["decoder"]["likelihood"] = "shared"
        twin["init_args"]["terms"]["likelihood"] = "nll"
        made["models"][name + TWIN] = twin
    return made
