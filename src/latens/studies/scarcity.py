"""`scarcity`: at which N are reconstructions accurate, stable and calibrated?

A study is its configuration. It knows its data, its inverse problem and the units to compute;
`latens.studies.work` computes one unit, `latens.studies.sweep` all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latens.data import ImageSet, Source, Subset, hold_out, nested_subsets
from latens.errors import ConfigError, LatensError
from latens.evaluation import Check, fit_directions, simulate
from latens.evaluation.calibration import LEAST_IMAGES
from latens.evaluation.measure import spread_evenly
from latens.inference import Method, Sampler
from latens.models import Latent, LatentModel, Model, UNet
from latens.problems import InverseProblem, LinearOperator, NoiseModel, Operator
from latens.studies.other_images import check_other_images
from latens.studies.plausible import check_explains, estimated, require_level
from latens.training import Training, one_thread
from latens.types import Shape

SPLIT_SEED, NOISE_SEED = 0, 0


@dataclass(frozen=True)
class Corpus:
    """Images of a study with their measurements, split once.

    Attributes:
        images: All images, with measurements.
        pool: Positions from which subsets are drawn.
        test: Positions of the fixed test set.
        problem: Operator and noise, or None where they are unknown.
        directions: Principal directions of the pool, `(K, *signal_shape)`.
    """

    images: ImageSet
    pool: np.ndarray
    test: np.ndarray
    problem: InverseProblem | None
    directions: Tensor

    def pairs(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Signals and measurements at some positions."""
        assert self.images.y is not None
        index = torch.as_tensor(rows)
        return self.images.x[index], self.images.y[index]


class Scarcity:
    """Reconstruction quality and calibration against the number of training pairs.

    Args:
        data: Images, or pairs of images and measurements.
        operator: Measurement operator; the shape of the signal is filled in. None if it is
            unknown, which needs data that bring their measurements.
        noise: Noise model; None if it is unknown. A model whose level is left out is estimated
            from the training and validation pairs of each subset.
        models: Models to train, by the name that tables show.
        ensembles: Names of models of which an ensemble over initialisations is evaluated too.
        baselines: Classical algorithms evaluated beside the models.
        samplers: Ways to find p(z | y) of `latent` models without their amortised posterior,
            evaluated beside it for the first initialisation: its maximum, Laplace's
            approximation, or Markov chains. Their cost is that of thousands of decodings.
        sampled_images: Test images, evenly spread, that samplers are evaluated on.
        checks: Deep checks of the models, ensembles and baselines, for the first seeds at the
            smallest, the middle and the largest N; see `latens.evaluation.checks`. Of samplers
            only the stability, at the worst cases of the amortised posterior.
        checked_images: Test images, evenly spread, that they use.
        checked_data_seeds: Data seeds, the first of them, for which the checks are made whose
            numbers have learning curves: stability, null space and ambiguity. `latens plan`
            needs two or more. The others are tests of the first one.
        other_images: Images of another kind (anatomy, class), of the same shape and in the same
            units, that the check `reliability` shows to the solvers; None leaves it at its
            other shifts.
        conformal: Method by which intervals of trained posteriors are calibrated on the
            calibration pairs of each subset, where these are enough; null leaves it out.
        sizes: Numbers N of pairs; N counts training, validation and calibration together.
        data_seeds: Number of independent draws of the nested subsets.
        init_seeds: Number of initialisations of each model on each subset.
        test_images: Size of the fixed test set, outside every N.
        training: Budget and optimiser of every fit.
    """

    name = "scarcity"

    def __init__(
        self,
        data: Source,
        models: dict[str, Callable[[Shape, Shape], Model]],
        operator: Callable[[Shape], Operator] | None = None,
        noise: NoiseModel | None = None,
        ensembles: list[str] = [],  # noqa: B006
        baselines: list[Literal["tikhonov", "wiener", "tv"]] = [],  # noqa: B006
        samplers: list[Sampler] = [],  # noqa: B006
        sampled_images: int = 16,
        checks: list[Check] = [],  # noqa: B006
        checked_images: int = 50,
        checked_data_seeds: int = 1,
        other_images: Source | None = None,
        conformal: Method | None = "crc",
        sizes: list[int] = [32, 64, 128, 256, 512],  # noqa: B006
        data_seeds: int = 3,
        init_seeds: int = 2,
        test_images: int = 200,
        training: Training = Training(),  # noqa: B008
    ) -> None:
        self.models = models
        self.data = data
        self.operator = operator
        self.noise = noise
        self.ensembles = ensembles
        self.baselines = baselines
        self.samplers = samplers
        self.sampled_images = sampled_images
        self.checks = checks
        self.checked_images = checked_images
        self.checked_data_seeds = checked_data_seeds
        self.other_images = other_images
        self.conformal: Method | None = conformal
        self.sizes = sizes
        self.data_seeds = data_seeds
        self.init_seeds = init_seeds
        self.test_images = test_images
        self.training = training
        self._check()

    def _check(self) -> None:
        for name in (
            "data_seeds",
            "init_seeds",
            "test_images",
            "sampled_images",
            "checked_images",
            "checked_data_seeds",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(name, "1 or more", getattr(self, name), "Raise it.")
        if not self.sizes or sorted(set(self.sizes)) != self.sizes or self.sizes[0] < 1:
            raise ConfigError(
                "sizes",
                "positive sizes in ascending order, each once",
                self.sizes,
                "Write for example --sizes [32,64,128].",
            )
        self._check_checks()
        for name in self.ensembles:
            if name not in self.models:
                raise ConfigError(
                    "ensembles",
                    f"names of models ({', '.join(self.models)})",
                    name,
                    "Ensembles are made of the models of this study.",
                )
        if self.ensembles and self.init_seeds < 2:
            raise ConfigError(
                "ensembles",
                "`init_seeds` of 2 or more",
                self.init_seeds,
                "Raise --init_seeds, or set --ensembles [].",
            )
        if (self.operator is None) != (self.noise is None):
            raise ConfigError(
                "operator, noise",
                "both or neither",
                "one of them",
                "An inverse problem needs its operator and its noise; set both to null if the "
                "data bring measurements of an unknown operator.",
            )
        ensembles = [f"{name}_ensemble" for name in self.ensembles]
        sampled = [f"{name}_{sampler}" for name in self.models for sampler in self.samplers]
        solvers = [*self.models, *ensembles, *sampled, *self.baselines]
        twice = [name for name in solvers if solvers.count(name) > 1]
        if twice:
            raise ConfigError(
                "models, ensembles, samplers, baselines",
                "a different name for every solver",
                f"`{twice[0]}` twice",
                "Rename the model, or list the ensemble or baseline once.",
            )
        if not (self.models or self.baselines):
            raise ConfigError("models", "at least one model or baseline", "none", "Add one.")

    def _check_checks(self) -> None:
        images = min(self.checked_images, self.test_images)
        if "calibration" in self.checks and images < LEAST_IMAGES:
            raise ConfigError(
                "checked_images, test_images",
                f"{LEAST_IMAGES} or more for the check `calibration`",
                images,
                "Fewer cannot tell a calibrated posterior from another; aim at 500.",
            )
        if self.checked_data_seeds > self.data_seeds:
            raise ConfigError(
                "checked_data_seeds",
                f"at most `data_seeds` ({self.data_seeds})",
                self.checked_data_seeds,
                "Raise --data_seeds with it.",
            )
        if self.other_images is not None and "reliability" not in self.checks:
            raise ConfigError(
                "other_images",
                "the check `reliability`, which shows them to the solvers",
                f"checks {self.checks}",
                'Add it to --checks, such as "[reliability]", or leave the other images out.',
            )

    def _check_groups(self, groups: list[str]) -> None:
        if "calibration" in self.checks and len(set(groups)) < LEAST_IMAGES:
            raise ConfigError(
                "checks",
                f"images of {LEAST_IMAGES} groups or more for the check `calibration`",
                f"{len(groups)} checked images of {len(set(groups))} groups",
                "Ranks of one group are not independent, so that one image of each is used. Raise "
                "--test_images and --checked_images, or leave the check out.",
            )

    @cached_property
    def corpus(self) -> Corpus:
        """Images, measurements and split; loaded once.

        Raises:
            DataError: If the data cannot be used.
            ConfigError: If settings and data do not fit together.
        """
        images = self.data.load()
        problem = self._problem(images)
        pool, test = hold_out(images.groups, self.test_images, SPLIT_SEED)
        nested_subsets(images.groups, pool, self.sizes, seed=0)  # sizes at fault are named first
        checked = spread_evenly(len(test), self.checked_images)
        self._check_groups([images.groups[test[k]] for k in checked])
        with one_thread():  # the same bits in every process
            if images.y is None:
                require_level(problem)
                images = replace(images, y=simulate(problem, images.x, NOISE_SEED))
            corpus = Corpus(images, pool, test, problem, fit_directions(images.x[pool]))
        if problem is not None:
            check_explains(problem, *corpus.pairs(pool[:64]))
        return corpus

    @cached_property
    def others(self) -> ImageSet | None:
        """Images of another kind, as many as are checked, spread evenly; loaded once.

        Raises:
            DataError: If they cannot be used, or are in other units.
            ConfigError: If they have another shape.
        """
        if self.other_images is None:
            return None
        found = self.other_images.load()
        check_other_images(found, self.corpus.images)
        return found.select(spread_evenly(len(found), self.checked_images))

    def _problem(self, images: ImageSet) -> InverseProblem | None:
        if self.operator is None or self.noise is None:
            if images.y is None:
                raise ConfigError(
                    "operator",
                    "an operator and a noise model, since the data hold no measurements",
                    None,
                    "Add --operator and --noise, or use a paired folder.",
                )
            return None
        return InverseProblem(self.operator(images.signal_shape), self.noise)

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """Shapes of one signal and one measurement."""
        images = self.corpus.images
        assert images.y is not None
        return images.signal_shape, tuple(images.y.shape[1:])

    def build(self, name: str) -> Model:
        """An untrained model of this study; its weights come from torch's generator."""
        signal, measurement = self.shapes
        problem = self.corpus.problem
        if problem is None:
            return self.models[name](signal, measurement)
        model = self.models[name](signal, problem.operator.view_shape)
        return model.look_through(problem.operator)

    def problem(self, n: int, data_seed: int) -> InverseProblem | None:
        """Operator and noise as they are known from one subset."""
        corpus = self.corpus
        if corpus.problem is None or corpus.problem.noise.is_known:
            return corpus.problem
        subset = self.subset(n, data_seed)
        # The promise of calibrated intervals holds where no part of a solver saw their pairs.
        used = np.concatenate([subset.train, subset.validation])
        return estimated(corpus.problem, *corpus.pairs(used))

    def subset(self, n: int, data_seed: int) -> Subset:
        """The subset of a size and data seed, with its roles."""
        return self._subsets(data_seed)[n]

    def _subsets(self, data_seed: int) -> dict[int, Subset]:
        cache = self.__dict__.setdefault("_subset_cache", {})
        if data_seed not in cache:
            corpus = self.corpus
            groups = corpus.images.groups
            cache[data_seed] = nested_subsets(groups, corpus.pool, self.sizes, data_seed)
        return cache[data_seed]

    def check_applicable(self) -> None:
        """Find settings that cannot work before anything is trained.

        Raises:
            ConfigError, DataError, ShapeError: Naming the setting and the remedy.
        """
        problem = self.corpus.problem
        for data_seed in range(self.data_seeds):
            self._subsets(data_seed)
        if self.others is not None and problem is None:
            raise ConfigError(
                "other_images",
                "a known operator and noise, by which they are measured",
                "none",
                "State both, or leave the other images out.",
            )
        if self.baselines and (
            problem is None or not isinstance(problem.operator, LinearOperator)
        ):
            raise ConfigError(
                "baselines",
                f"a known linear operator for {', '.join(self.baselines)}",
                "none" if problem is None else type(problem.operator).__name__,
                "Set --baselines [], or state the operator.",
            )
        if self.samplers and not any(isinstance(m, Latent) for m in self.examples.values()):
            raise ConfigError(
                "samplers",
                "a model of class Latent, whose p(z) p(x | z) they sample",
                ", ".join(self.models),
                "Add one to `models`, or set --samplers [].",
            )
        for name, model in self.examples.items():
            if model.needs_problem and problem is None:
                raise ConfigError(
                    f"models.{name}",
                    "a known operator and noise, from which this model simulates",
                    "none",
                    "State both, or leave this model out.",
                )
            if not isinstance(model, LatentModel | UNet):
                raise ConfigError(
                    f"models.{name}",
                    "a LatentModel, or a UNet",
                    type(model).__name__,
                    "Derive the class from one of them, so that it can be evaluated.",
                )

    @cached_property
    def examples(self) -> dict[str, Model]:
        """One untrained model of each kind, to ask what it needs and is.

        Raises:
            ConfigError: If a model cannot be built for these data.
        """
        models = {}
        for name in self.models:
            try:
                with torch.random.fork_rng(devices=[]):
                    models[name] = self.build(name)
            except LatensError:
                raise
            except Exception as error:
                raise ConfigError(
                    f"models.{name}",
                    f"a model that can be built for signals {self.shapes[0]}",
                    f"{type(error).__name__}: {' '.join(str(error).split())}",
                    "Change its settings or the data.",
                ) from error
        return models
