"""Settings of the study, its fields and their split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from latens.data.field_families import FieldFamily
from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError, DataError
from latens.inference import DEFAULT_DRAWS
from latens.models.igno import IGNO, Evidence, Schedule
from latens.nets import AffineFlow, Architecture, Conv, Dense, Flow
from latens.studies.pde.systems import System, in_blocks
from latens.training import Training

InversionName = Literal[
    "draw",
    "descent",
    "map",
    "laplace",
    "amortised",
    "refined",
    "hmc",
    "nuts",
    "corrected",
    "solver",
]
"""Ways to a field: best of many draws of the flow, published descent, maximum, Laplace, a network
trained for the sensors and the same weighted with the decoder's density, chains, draws of Laplace
or chains weighted with the solver, and Laplace with the solver in place of the decoder, weighted
too."""

SOLVING = ("corrected", "solver")
"""Ways that call the solver for every draw."""

CHAINS = ("hmc", "nuts")
"""Ways that run Markov chains."""

POINTS = ("draw", "descent", "map")
"""Ways that give a field alone."""

DATA_SEED, HELD_OUT, TEST = 0, 10**6, 2 * 10**6
"""Seed of the fields, and the numbers at which held-out and test fields begin."""

Population = Literal["family", "strange"]
"""Where test fields come from: the family of the training, or another."""


@dataclass(frozen=True)
class Network:
    """Sizes of the model.

    Args:
        dim: Number of latents.
        width: Functions per level of both decoders.
        depth: Layers of branch and trunk.
        levels: Deepest layers that meet.
        waves: Wave numbers that the trunks see of a position.
        modes: Largest wave number of the fixed cosines of both decoders.
        reads: How the encoder reads a field: `conv`, by convolutions, or `dense`, by an affine
            map and a perceptron.
        encoder: Channels of convolutions on the finest grid.
        features: Width of the encoder's last layers.
        evidence: `pairs`, `residual` or `both`; see `latens.models.igno`.
        schedule: `staged` or `joint`.
    """

    dim: int = 8
    width: int = 64
    depth: int = 4
    levels: int = 3
    waves: int = 2
    modes: int = 8
    reads: Literal["conv", "dense"] = "conv"
    encoder: int = 16
    features: int = 128
    evidence: Evidence = "pairs"
    schedule: Schedule = "staged"

    @property
    def architecture(self) -> Architecture:
        """Family of the encoder."""
        if self.reads == "dense":
            return Dense(self.features)
        return Conv(self.encoder, features=self.features)


@dataclass(frozen=True)
class Inversion:
    """How fields are inverted.

    Args:
        solvers: Ways to a field, in the order of the tables.
        climbs: Starts of a maximum.
        chains: Chains per field.
        draws: Draws per chain, and of Laplace's Gaussian.
        warmup: Transitions of warm-up.
        solved: Draws that are weighted with the solver.
        solver_fields: Fields, the first ones, for which the solver is called: those of
            `corrected` and `solver`.
        chain_fields: Fields, the first ones, and simulated fields, for which chains are run.
        amortised_steps: Steps of the training of `amortised`, for each set of sensors.
        simulated: Fields that are simulated from the model itself, on which every way without a
            solver is tested for calibration; 0 for no such test.
        noise_spread: Standard deviation of log σ; 0 where σ is known.
        equation: Whether the equation is further evidence beside the readings, weighted by its
            residuals of held-out fields.
        block: Fields that move in lockstep.
    """

    solvers: list[InversionName] = field(
        default_factory=lambda: [
            "descent",
            "map",
            "laplace",
            "amortised",
            "refined",
            "hmc",
            "corrected",
            "solver",
        ]
    )
    climbs: int = 8
    chains: int = 4
    draws: int = 500
    warmup: int = 200
    solved: int = 100
    solver_fields: int = 40
    chain_fields: int = 200
    amortised_steps: int = 3000
    simulated: int = 200
    noise_spread: float = 0.0
    equation: bool = False
    block: int = 100

    def __post_init__(self) -> None:
        for name in (
            *("climbs", "chains", "draws", "warmup", "solved", "solver_fields"),
            *("chain_fields", "amortised_steps", "block"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(name, "1 or more", getattr(self, name), "Raise it.")
        names = list(self.solvers)
        if "corrected" in names and not {"laplace", *CHAINS} & set(
            names[: names.index("corrected")]
        ):
            raise ConfigError(
                "solvers",
                "`laplace`, `hmc` or `nuts` before `corrected`, which weights their draws",
                names,
                "Add one.",
            )
        if 0 != self.simulated < 20:
            raise ConfigError(
                "simulated", "20 or more, or 0", self.simulated, "Aim at 200, or leave it out."
            )
        if self.noise_spread > 0 and {"amortised", "refined"} & set(names):
            raise ConfigError(
                "solvers",
                "no `amortised` and no `refined` where σ is sampled",
                names,
                "Leave them out, or set `noise_spread: 0`.",
            )
        if self.noise_spread > 0 and self.simulated:
            raise ConfigError(
                "simulated", "0 where σ is sampled", self.simulated, "Set `simulated: 0`."
            )
        if self.equation and self.simulated:
            raise ConfigError(
                "simulated",
                "0 where `equation` changes the prior",
                self.simulated,
                "Set `simulated: 0`.",
            )
        self._check_draws()

    def _check_draws(self) -> None:
        names = list(self.solvers)
        for name, used in (("solved", True), ("draws", "laplace" in names)):
            if used and getattr(self, name) < DEFAULT_DRAWS:
                raise ConfigError(
                    name, "39 or more", getattr(self, name), "Intervals need 39 draws."
                )

    def blocks(
        self, names: Sequence[InversionName], count: int
    ) -> Iterator[tuple[slice, list[InversionName]]]:
        """Blocks of fields with the ways that reach them.

        Args:
            names: Ways.
            count: Number of fields.
        """
        reach = {name: min(count, self._reach(name, count)) for name in names}
        low = 0
        for high in sorted({*reach.values()}):
            mine: list[InversionName] = [name for name in names if reach[name] >= high]
            for start in range(low, high, self.block):
                yield slice(start, min(start + self.block, high)), mine
            low = high

    def _reach(self, name: InversionName, count: int) -> int:
        if name in SOLVING:
            return self.solver_fields
        return self.chain_fields if name in CHAINS else count


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields of one part of the study.

    Attributes:
        fine: On the solver's grid, `(n, 1, *fine)`, float64.
        coarse: On the model's grid, `(n, 1, *grid)`, float32.
        keys: Number of each in its collection.
    """

    fine: Tensor
    coarse: Tensor
    keys: list[int]


class Pde:
    """Inversion of one equation for one family of coefficients.

    Args:
        family: Distribution of the coefficients.
        system: Equation, grids and sensors.
        network: Sizes of the model.
        flow: Family of the flow between z and β.
        pairs: Pairs for training and early stopping, 85 to 15.
        held_out: Pairs on which the errors of the trained model are estimated.
        test_fields: Fields that are inverted.
        strange: Family that the model has never seen.
        strange_fields: Fields of it that are inverted too.
        sensors: Numbers of sensors.
        snr: Signal-to-noise ratios, decibel: σ is 10^(−snr/20) of the root mean square reading.
        inversion: How fields are inverted.
        training: Budget and optimiser of the fit.
        seed: Seed of the model, of the sensors and of the noise.
    """

    name = "pde"

    def __init__(
        self,
        family: FieldFamily,
        system: System,
        network: Network = Network(),
        flow: Flow = AffineFlow(),  # noqa: B008
        pairs: int = 2000,
        held_out: int = 400,
        test_fields: int = 50,
        strange: FieldFamily | None = None,
        strange_fields: int = 0,
        sensors: list[int] = [100],  # noqa: B006
        snr: list[float] = [50.0],  # noqa: B006
        inversion: Inversion = Inversion(),
        training: Training = Training(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            ("pairs", pairs, 40),
            ("held_out", held_out, 20),
            ("test_fields", test_fields, 1),
            ("strange_fields", strange_fields, 0),
        ):
            if value < least:
                raise ConfigError(name, f"{least} or more", value, "Raise it.")
        if not sensors or min(sensors) < 1 or not snr:
            raise ConfigError("sensors, snr", "one number or more each", (sensors, snr), "Add.")
        for name, kind in (("family", family), ("strange", strange)):
            if kind is not None and kind.axes != system.axes:
                raise ConfigError(
                    name,
                    f"fields of {system.axes} coordinates",
                    f"{type(kind).__name__} with {kind.axes}",
                    "Choose a family for this equation.",
                )
        if strange is None and strange_fields:
            raise ConfigError(
                "strange_fields",
                "0 where `strange` names no family",
                strange_fields,
                "Name a family, or leave it out.",
            )
        if strange is not None and strange.classes != family.classes:
            raise ConfigError(
                "strange",
                f"fields of {family.classes or 'any'} values, as `family`",
                f"{type(strange).__name__} with {strange.classes or 'any'}",
                "Choose one of the same kind.",
            )
        self.family, self.system, self.network, self.flow = family, system, network, flow
        self.strange, self.strange_fields = strange, strange_fields
        self.pairs, self.held_out, self.test_fields = pairs, held_out, test_fields
        self.sensors, self.snr = sensors, snr
        self.inversion, self.training, self.seed = inversion, training, seed

    def fields(self, first: int, count: int, family: FieldFamily | None = None) -> Fields:
        """Fields number `first`, … of a family, the study's own unless another is named."""
        keys = list(range(first, first + count))
        fine = (family or self.family).fields(DATA_SEED, keys, self.system.fine)
        return Fields(fine, self.system.coarse(fine).float(), keys)

    @cached_property
    def training_fields(self) -> Fields:
        """Fields of the training pairs."""
        return self.fields(0, self.pairs)

    @cached_property
    def held_out_fields(self) -> Fields:
        """Fields of the held-out pairs."""
        return self.fields(HELD_OUT, self.held_out)

    @cached_property
    def populations(self) -> dict[Population, Fields]:
        """Fields that are inverted."""
        found: dict[Population, Fields] = {"family": self.fields(TEST, self.test_fields)}
        if self.strange_fields:
            found["strange"] = self.fields(TEST, self.strange_fields, self.strange)
        return found

    def check(self) -> None:
        """Build the model, make the fields of every population, and solve one of each.

        Raises:
            LatensError: One line that names the setting at fault.
        """
        self.build()
        operator = self.system.operator(self.system.sensors(self.sensors[0], self.seed))
        for name, fields in {"family": self.fields(0, 1), **self.populations}.items():
            lowest = float(fields.fine.min())
            if self.system.floor is not None and not lowest > 0:
                raise DataError(
                    "strange" if name == "strange" else "family",
                    "positive fields, else the equation has no unique solution",
                    f"a smallest value of {lowest:.3g}",
                    "Choose another family, or other settings of it.",
                )
            in_blocks(operator, fields.fine[:1])

    def build(self) -> IGNO:
        """The model with its initial weights, a function of the seed alone."""
        sizes = self.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return IGNO(
                (1, *self.system.grid),
                (self.system.patterns, *self.system.grid),
                self.system.equation(),
                dim=sizes.dim,
                values="two-valued" if self.family.classes == 2 else "continuous",
                evidence=sizes.evidence,
                schedule=sizes.schedule,
                architecture=sizes.architecture,
                flow=self.flow,
                width=sizes.width,
                depth=sizes.depth,
                levels=sizes.levels,
                waves=sizes.waves,
                modes=sizes.modes,
            )

    def noise(self, clean: Tensor, snr: float, keys: list[int]) -> tuple[Tensor, Tensor]:
        """Noisy readings and their σ, `(n, m)` and `(n,)`, of clean ones."""
        scale = clean.square().mean(1).sqrt() * 10 ** (-snr / 20)
        key = (self.seed, Purpose.SIMULATION)
        noise = row_noise(key, keys, (1, clean.shape[1]), clean.dtype)[0]
        return clean + scale[:, None] * noise, scale
