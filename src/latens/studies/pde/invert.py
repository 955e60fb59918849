"""Invert the readings of test fields, and measure what comes out against the truth."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.inference import DEFAULT_DRAWS, Estimate, Posterior, Solver
from latens.inference.fields import (
    ChainPosterior,
    DeclaredReadings,
    DecodedSensors,
    FieldAmortised,
    FieldChains,
    FieldImportance,
    FieldLaplace,
    FieldMAP,
    FieldPosterior,
    FieldTarget,
    HeldOutErrors,
    NoiseLevel,
    Predictor,
    ReadingsPosterior,
    SolvedSensors,
    fit_sensors,
    held_out_errors,
    held_out_weight,
    train_amortised,
)
from latens.inference.fields.descent import FieldDescent, FieldDraw
from latens.inference.fields.solvers import Target
from latens.inference.samplers import HMC, NUTS
from latens.metrics.coverage import coverage, interval_width, rank
from latens.metrics.scores import crps, interval_score
from latens.models.igno import IGNO
from latens.studies.pde.fit import relative_l2
from latens.studies.pde.study import CHAINS, InversionName, Pde
from latens.studies.pde.systems import in_blocks

LEVEL = 0.95
PROPOSALS = 1000
"""Draws of the amortised posterior that are weighted, and of the flow for its best one."""
MISFIT_LEVEL = 0.01
"""Readings whose posterior predictive p-value is smaller are unlike what was trained for."""
MAX_STEPS = 32
"""Bound on the steps of a trajectory: the metric is that of Laplace's Gaussian from the start."""
TWIN_STARTS = 3
"""Ends of climbs with the decoder, the highest ones, from which the solver's climbs go on."""
LEVELS = 1
"""Key of the noise that moves the centres of σ's priors."""
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Instrument:
    """Sensors of a cell, with what predicts their readings and how wrong that is.

    Attributes:
        sensors: Positions, `(m, axes)`.
        decoded: Readings by the decoder, or by a network fitted to the readings where they are
            not those of u; with its errors.
        solved: Readings by the solver for the decoded coefficient, with its errors.
        equation_weight: ρ, with which the equation weighs the latents beside decoded readings; 0
            where it does not. The solver's solutions obey the equation already.
    """

    sensors: Tensor
    decoded: tuple[Predictor, HeldOutErrors]
    solved: tuple[SolvedSensors, HeldOutErrors]
    equation_weight: float = 0.0

    def predictor(self, exact: bool) -> tuple[Predictor, HeldOutErrors]:
        """The solver where it is asked for, else the decoder."""
        return self.solved if exact else self.decoded

    def target(self, model: IGNO, noise: NoiseLevel, exact: bool) -> Target:
        """Density of the latents given readings, with the solver or with the decoder."""
        predict, errors = self.predictor(exact)
        weight = 0.0 if exact else self.equation_weight
        return lambda y: FieldTarget(model, predict, y, noise, errors, equation_weight=weight)


def instrument(study: Pde, model: IGNO, sensors: Tensor) -> Instrument:
    """Predictors of sensors, their errors estimated on the held-out pairs."""
    held, operator = study.held_out_fields, study.system.operator(sensors)
    clean, known = in_blocks(operator, held.fine).flatten(1), held.coarse.double()
    if study.system.anywhere:
        predict: Predictor = DecodedSensors(model, sensors)
    else:
        fields = study.training_fields
        readings = in_blocks(operator, fields.fine).flatten(1)
        predict = fit_sensors(model, fields.coarse.double(), readings, study.seed)
    solved = SolvedSensors(model, operator, study.system.floor)
    parts = [
        (predictor, held_out_errors(model, predictor, known, clean))
        for predictor in (predict, solved)
    ]
    weight = held_out_weight(model, known) if study.inversion.equation else 0.0
    return Instrument(sensors, parts[0], (solved, parts[1][1]), weight)


def amortised_network(
    study: Pde, model: IGNO, made: Instrument, snr: float
) -> ReadingsPosterior | None:
    """Network of `amortised` and `refined` for some sensors; None where nobody asks for it."""
    if not {"amortised", "refined"} & set(study.inversion.solvers):
        return None
    declared = DeclaredReadings(model, *made.predictor(False), 10 ** (-snr / 20))
    return train_amortised(declared, study.seed, steps=study.inversion.amortised_steps)


def inverted(
    study: Pde,
    model: IGNO,
    made: Instrument,
    network: ReadingsPosterior | None,
    y: Tensor,
    scale: Tensor,
    keys: list[int],
    names: Sequence[InversionName],
) -> Iterator[tuple[InversionName, Estimate, float]]:
    """Estimates of a block of readings by every way that is named, with their seconds."""
    settings = study.inversion
    level = noise_level(scale, settings.noise_spread, keys, study.seed)

    decoded, exact = (made.target(model, level, exact) for exact in (False, True))
    begun = time.perf_counter()
    _, ends = FieldMAP(decoded, climbs=settings.climbs).climb(y, keys, study.seed)
    starts = ends.highest(settings.climbs, min(TWIN_STARTS, settings.climbs))
    climbed, start = time.perf_counter() - begun, starts[:, :1]
    laplace = FieldLaplace(
        decoded, start=start, adam_steps=0, draws=max(settings.draws, settings.solved)
    )
    sampled: FieldPosterior | None = None
    for name in names:
        begun = time.perf_counter()
        if name == "draw":
            solver: Solver = FieldDraw(decoded, draws=PROPOSALS)
        elif name == "descent":
            solver = FieldDescent(decoded, climbs=settings.climbs)
        elif name == "map":
            solver = FieldMAP(decoded, start=start, adam_steps=0)
        elif name == "laplace":
            solver = laplace
        elif name in ("amortised", "refined"):
            assert network is not None
            solver = FieldAmortised(network, decoded, draws=PROPOSALS)
            if name == "refined":
                solver = FieldImportance(solver, decoded, draws=PROPOSALS)
        elif name in CHAINS:
            solver = FieldChains(
                decoded,
                kernel=HMC(max_steps=MAX_STEPS) if name == "hmc" else NUTS(max_depth=6),
                chains=settings.chains,
                draws=settings.draws,
                warmup=settings.warmup,
                start=laplace,
            )
        elif name == "corrected":
            solver = FieldImportance(laplace, exact, draws=settings.solved)
        else:
            twin = FieldLaplace(exact, start=starts, adam_steps=0, draws=settings.solved)
            solver = FieldImportance(twin, exact, draws=settings.solved)
        if isinstance(solver, FieldImportance) and sampled is not None and name == "corrected":
            estimate: Estimate = solver.correct(sampled)
        else:
            estimate = solver(y, keys=keys, seed=study.seed)
        if isinstance(estimate, ChainPosterior):
            fill_pools(estimate, max(DEFAULT_DRAWS, settings.solved))
        if name in ("laplace", *CHAINS) and isinstance(estimate, FieldPosterior):
            sampled = estimate
        shared = 0.0 if name in ("draw", "descent") else climbed
        yield name, estimate, time.perf_counter() - begun + shared


def noise_level(scale: Tensor, spread: float, keys: list[int], seed: int) -> NoiseLevel:
    """What the ways are told of σ: its value, or a prior whose centre is off by its own spread.

    Args:
        scale: σ of each field, `(B,)`.
        spread: Standard deviation of log σ; 0 where σ is known.
        keys: Number of each field, which names how far its centre is off.
        seed: Key of the same.
    """
    if spread == 0:
        return NoiseLevel(scale)
    off = row_noise((seed, Purpose.SIMULATION, LEVELS), keys, (1,), scale.dtype)[0]
    return NoiseLevel(scale * (spread * off).exp(), spread)


def fill_pools(posterior: ChainPosterior, count: int) -> None:
    """Give measurements whose chains are worth fewer than `count` draws that many.

    They are taken evenly from the chains and depend on each other. Where chains are worth fewer
    than 100 draws the measurement is not trusted already.
    """
    for place, pool in enumerate(posterior.pool):
        if len(pool) < count:
            every = posterior.chains.of_problems[:, :, place].flatten(0, 1)  # (S K, dim)
            chosen = torch.linspace(0, len(every) - 1, count).long()
            posterior.pool[place] = every[chosen]


def measured(
    estimate: Estimate, truth: Tensor, two_valued: tuple[float, float] | None
) -> dict[str, Tensor]:
    """Numbers of every field, `(B,)` each; see `latens.reporting.pde.DEFINITIONS`."""
    mean = estimate.mean
    found = {"relative_l2": relative_l2(mean, truth)}
    found["relative_rmse"] = ((mean - truth) / truth).flatten(1).square().mean(1).sqrt()
    if two_valued is not None:
        found |= _classes(estimate, truth, *two_valued)
    if estimate.trusted is not None:
        found["trusted"] = estimate.trusted.to(truth)
    if not isinstance(estimate, Posterior):
        return found
    if isinstance(estimate, FieldPosterior):
        found["consistent"] = (estimate.misfit_p_value() >= MISFIT_LEVEL).to(truth)
    draws = estimate.sample()
    found["crps"] = crps(draws, truth)
    found["std"] = estimate.std.flatten(1).square().mean(1).sqrt()
    found["rmse"] = (mean - truth).flatten(1).square().mean(1).sqrt()
    if two_valued is None:
        found["coverage_95"] = coverage(draws, truth, [LEVEL])[:, 0]
        found["width_95"] = interval_width(draws, LEVEL)
        interval = estimate.interval(LEVEL)
        found["interval_score"] = interval_score(
            interval.lower, interval.upper, truth, interval.level
        )
        averages = draws.flatten(2).mean(-1, keepdim=True), truth.flatten(1).mean(-1, keepdim=True)
        found["coverage_mean_95"] = coverage(*averages, [LEVEL])[:, 0]
        halves = torch.full_like(averages[1], 0.5)
        found["rank_mean"] = rank(*averages, halves)[:, 0].to(truth)
    for name in ("k", "size"):
        value = getattr(estimate, name, None)
        if isinstance(value, Tensor):
            found[f"weights_{name}"] = value.to(truth)
    return found


def _classes(estimate: Estimate, truth: Tensor, low: float, high: float) -> dict[str, Tensor]:
    """Agreement of class maps and of class probabilities."""
    probability = ((estimate.mean - low) / (high - low)).flatten(1)
    chi, guess = (truth.flatten(1) > (low + high) / 2).to(probability), (probability > 0.5)
    guess = guess.to(probability)
    both, sizes = (chi * guess).sum(1), (chi.sum(1), guess.sum(1))
    neither = (sizes[0] + sizes[1] == 0).to(probability)  # both without the class agree
    return {
        "i_corr": neither + both / (sizes[0] * sizes[1]).sqrt().clamp(min=1),
        "dice": neither + 2 * both / (sizes[0] + sizes[1]).clamp(min=1),
        "brier": (probability - chi).square().mean(1),
    }
