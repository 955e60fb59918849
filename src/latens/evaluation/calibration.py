"""Is a posterior calibrated? Ranks of the truth among its draws, tested.

Two questions, two sets of pairs:

- *data calibration*: held-out real pairs (x, y). It asks whether the posterior is right about
  the world: model, prior and inference together.
- *simulation-based calibration*: pairs simulated from the model that the solver itself declares.
  It asks whether the inference is right about the model, whatever the model is worth.

Families of dependent numbers (pixels, regions, …) are tested by their maximum, numbers that stand
alone by exact tests, and the local test (L-C2ST) asks whether a classifier can tell the truth from
draws given y. All are adjusted for each other by calling another of truth and draws the truth, in
all of them at once: the chance of one false alarm or more is held at the level, and tests that say
the same count as one.

Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration,
https://arxiv.org/abs/1804.06788; data-dependent quantities: Modrák et al. (2023),
Simulation-based calibration checking for Bayesian computation: the choice of test quantities
shapes sensitivity, https://arxiv.org/abs/2211.02383.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.errors import ConfigError, NumericalError, UnsupportedError
from latens.evaluation.calibration_numbers import SUMMARIES, Gathered, Numbers, Values
from latens.evaluation.calibration_outcome import CalibrationTests
from latens.evaluation.declared import (
    Pairs,
    Simulator,
    declares_model,
    simulate_declared,
    simulate_given,
)
from latens.evaluation.measure import BLOCK_BYTES
from latens.evaluation.quantities import Quantities, fit_quantities
from latens.evaluation.sight import SCORES, Alteration, alterations, power_of_ranks
from latens.inference import (
    DEFAULT_DRAWS,
    AmortisedPosterior,
    HasLogProb,
    LatentPosterior,
    Posterior,
    Solver,
)
from latens.metrics import (
    LabelStatistic,
    PopulationTest,
    chi_square_test,
    ecdf_test,
    local_statistic,
    member_ranks,
    random_orders,
    rank_statistics,
    relabelling_test,
)
from latens.problems import InverseProblem

LEAST_IMAGES = 20
SIMULATED = 500
"""Images simulated from a declared model."""

LATENTS = 8
"""Latents whose ranks are tested."""


def calibration_tests(
    solver: Solver,
    problem: InverseProblem | None,
    x: Tensor,
    y: Tensor,
    *,
    directions: Tensor | None = None,
    groups: Sequence[str] | None = None,
    simulated: int = SIMULATED,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    simulate: Simulator | None = None,
) -> tuple[CalibrationTests, ...]:
    """Data calibration, and simulation-based calibration where the solver declares a model.

    Args:
        solver: A solver that returns posteriors.
        problem: Operator and noise, or None.
        x: Truth of held-out pairs, `(n, *signal_shape)`.
        y: Their measurements, `(n, *measurement_shape)`.
        directions: Principal directions, from images that are not tested; None leaves them out.
        groups: Subject of each image; one image of each is used, for ranks must be independent.
        simulated: Images simulated from the declared model.
        draws: M.
        seed: Key of all noise.
        simulate: `(n, seed) → (x, y)`, draws from the model that the solver assumes; default:
            that of the solver, where it declares one.

    Returns:
        One or two sets of tests; with one, its `note` says why.

    Raises:
        UnsupportedError: If the solver gives point estimates.
        ConfigError: If there are fewer than 20 images.
        NumericalError: If draws are not finite.
    """
    known = simulate is not None or declares_model(solver)
    note = "" if known else "The solver declares no model of its own to simulate."
    data = data_calibration(
        solver,
        problem,
        x,
        y,
        directions=directions,
        groups=groups,
        draws=draws,
        seed=seed,
        note=note,
    )
    if note:
        return (data,)
    model = model_calibration(
        solver,
        simulated,
        directions=directions,
        draws=draws,
        seed=seed,
        simulate=simulate,
        problem=problem,
    )
    return data, model


def data_calibration(
    solver: Solver,
    problem: InverseProblem | None,
    x: Tensor,
    y: Tensor,
    *,
    directions: Tensor | None = None,
    groups: Sequence[str] | None = None,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    note: str = "",
) -> CalibrationTests:
    """Test ranks on held-out pairs; see `calibration_tests` for arguments and errors."""
    kept = list(range(len(x)))
    if groups is not None:
        first: dict[str, int] = {}
        for i, group in enumerate(groups):
            first.setdefault(group, i)
        kept = list(first.values())
    pairs = Pairs(None, x[kept], y[kept], y[kept], problem)
    found = _numbers(solver, pairs, directions, kept, draws, seed, alterations())
    rng = np.random.default_rng([seed, 0])
    tests, ranks = uniformity_tests(found.values, rng, local=found.told)
    power = power_of_ranks(found.values, found.altered, rng)
    images = tuple(kept[i] for i in found.images)
    return CalibrationTests("data", tests, ranks, images, draws, found.untrusted, note, power)


def model_calibration(
    solver: Solver,
    images: int = SIMULATED,
    *,
    directions: Tensor | None = None,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    simulate: Simulator | None = None,
    problem: InverseProblem | None = None,
) -> CalibrationTests:
    """Simulation-based calibration of a solver on the model that it declares.

    Args:
        solver: A solver with a model of its own, such as `latent` or `wiener`, or any solver
            with `simulate`.
        images: Pairs that are simulated.
        directions: Principal directions, `(K, *signal_shape)`; None leaves them out.
        draws: M.
        seed: Key of all noise.
        simulate: `(n, seed) → (x, y)`, draws from the model that the solver assumes; default:
            that of the solver.
        problem: Of `simulate`: operator and noise, or None.

    Raises:
        UnsupportedError: If the solver declares no model, or gives point estimates.
        ConfigError: If there are fewer than 20 images.
        NumericalError: If draws are not finite.
    """
    if simulate is None:
        pairs = simulate_declared(solver, images, seed)
    else:
        pairs = simulate_given(simulate, images, seed, problem)
    keys = list(range(images))
    found = _numbers(solver, pairs, directions, keys, draws, seed)
    rng = np.random.default_rng([seed, 1])
    tests, ranks = uniformity_tests(found.values, rng, local=found.told)
    return CalibrationTests("model", tests, ranks, found.images, draws, found.untrusted)


def uniformity_tests(
    values: Values,
    rng: np.random.Generator,
    relabellings: int = 999,
    local: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[tuple[PopulationTest, ...], dict[str, NDArray[np.int64]]]:
    """Tests of every family of numbers, and the local test.

    Args:
        values: Family → numbers of truth and draws, `(M + 1, n, k)`, the truth first.
        rng: Source of the order of ties and of relabellings.
        relabellings: Relabellings, of all tests together.
        local: Summaries of truth and draws, `(M + 1, n, k)`, and of the measurement, `(n, l)`.

    Returns:
        Two tests for each family and one for `local`, and the ranks of the truth, `(n, k)`.
    """
    members, images, _ = next(iter(values.values())).shape
    draws = members - 1
    statistics: list[LabelStatistic] = []
    names: list[tuple[str, str]] = []
    ranks: dict[str, NDArray[np.int64]] = {}
    for name, numbers in values.items():
        every = member_ranks(numbers, random_orders(draws, images, rng))
        ranks[name] = every[0].astype(np.int64)
        statistics.append(rank_statistics(every, SCORES))
        size = numbers.shape[2]
        quantity, most = (name, "") if size == 1 else (f"{name} ({size})", "max ")
        names += [(f"{most}{test}", quantity) for test in ("ecdf", "chi-square")]
    if local is not None:
        statistics.append(local_statistic(*local))
        names.append(("classifier", f"local ({local[0].shape[2]})"))
    found = relabelling_test(statistics, draws, images, rng, relabellings)
    tests = []
    exact = {"ecdf": ecdf_test, "chi-square": chi_square_test}
    columns = zip(names, found.statistic, found.p_value, found.p_adjusted, strict=True)
    for (test, quantity), statistic, p, adjusted in columns:
        if test in exact:
            p = exact[test](ranks[quantity][:, 0], draws)[1]
        tests.append(
            PopulationTest(
                test, quantity, float(statistic), float(p), images, draws, float(adjusted)
            )
        )
    return tuple(tests), ranks


def posterior_blocks(
    solver: Solver, x: Tensor, y: Tensor, keys: list[int], draws: int, seed: int
) -> Iterator[tuple[slice, Posterior, Tensor]]:
    """Solve all images in blocks of bounded memory.

    Args:
        solver: A solver that returns posteriors.
        x: Truth, `(n, *signal_shape)`.
        y: Measurements, `(n, *measurement_shape)`.
        keys: Key of the noise of each image.
        draws: M.
        seed: Key of the noise.

    Yields:
        Place of the block, its posterior, and truth and draws, `(M + 1, B, *signal_shape)`.

    Raises:
        UnsupportedError: If the solver gives point estimates.
        ConfigError: If there are fewer than 20 images.
        NumericalError: If draws are not finite.
    """
    if len(x) < LEAST_IMAGES:
        raise ConfigError(
            "images",
            f"{LEAST_IMAGES} independent images or more",
            len(x),
            "Fewer cannot tell a calibrated posterior from another; aim at 500.",
        )
    size = max(1, BLOCK_BYTES // (4 * (draws + 1) * prod(x.shape[1:])))
    for start in range(0, len(x), size):
        block = slice(start, min(start + size, len(x)))
        posterior = solver(y[block], keys=keys[block], seed=seed)
        if not isinstance(posterior, Posterior):
            raise UnsupportedError(
                "solver",
                "a solver that returns a Posterior",
                type(posterior).__name__,
                "A point estimate has no calibration; choose `cvae`, `latent` or an ensemble.",
            )
        sample = posterior.sample(draws)
        if not bool(torch.isfinite(sample).all()):
            raise NumericalError(
                "draws",
                "finite posterior draws",
                "values that are not",
                "The solver failed: see its status.",
            )
        yield block, posterior, torch.cat([x[block].to(sample)[None], sample])


def _numbers(
    solver: Solver,
    pairs: Pairs,
    directions: Tensor | None,
    keys: list[int],
    draws: int,
    seed: int,
    altered: Mapping[str, Alteration] | None = None,
) -> Numbers:
    """Numbers of all families, of the right posterior and of altered ones."""
    gathered, summaries = Gathered(), Gathered()
    wrong = {name: Gathered() for name in altered or {}}
    trusted: list[NDArray[np.bool_]] = []
    quantities: Quantities | None = None
    solved = posterior_blocks(solver, pairs.x, pairs.y, keys, draws, seed)
    for block, posterior, members in solved:
        y = pairs.seen[block]
        if quantities is None:
            quantities = fit_quantities(members, y, pairs.problem, directions, seed)
        found = quantities(members, y, keys[block]) | _densities(posterior, members)
        if pairs.z is not None:
            found |= _latents(posterior, pairs.z[block], draws)
        if quantities.weight is not None:
            told = quantities.summaries(quantities.regularised(y), SUMMARIES)
            summaries.add(
                {"theta": quantities.summaries(members, SUMMARIES), "condition": told[None]}
            )
        gathered.add(found)
        for name, alter in (altered or {}).items():
            changed = alter(members, keys[block], seed)
            wrong[name].add(quantities(changed, y, keys[block]))
        rows = posterior.trusted
        size = block.stop - block.start
        trusted.append(np.ones(size, bool) if rows is None else rows.numpy(force=True))
    kept, untrusted = usable_rows(np.concatenate(trusted))
    others = {name: parts.joined(kept) for name, parts in wrong.items()}
    own = summaries.joined(kept)
    local = (own["theta"], own["condition"][0]) if own else None
    return Numbers(gathered.joined(kept), local, others, tuple(kept.tolist()), untrusted)


def usable_rows(trusted: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Positions of the rows that are tested, and how many are not trusted.

    As in the tables: where half or more are not to be trusted, none is left out.

    Args:
        trusted: Whether each row is, `(n,)`.
    """
    untrusted = int((~trusted).sum())
    kept = np.flatnonzero(trusted if 2 * untrusted < len(trusted) else np.ones_like(trusted))
    return kept, untrusted


@torch.no_grad()
def _densities(posterior: Posterior, members: Tensor) -> dict[str, Tensor]:
    """log q(x | y), negated so that small ranks are small regions, `(M + 1, B, 1)`."""
    if not isinstance(posterior, HasLogProb):
        return {}
    try:
        return {"log q(x | y)": -posterior.log_prob(members)[..., None]}
    except NotImplementedError:  # a foreign distribution without a density
        return {}


@torch.no_grad()
def _latents(posterior: Posterior, z: Tensor, draws: int) -> dict[str, Tensor]:
    """Some latents and log q(z | y), `(M + 1, B, k)`."""
    if not isinstance(posterior, LatentPosterior):
        return {}
    members = torch.cat([z[None], posterior.latent_draws(draws)])  # (M + 1, B, dim)
    places = np.unique(np.linspace(0, z.shape[1] - 1, min(LATENTS, z.shape[1])).astype(int))
    found = {"latents": members[..., places]}
    if isinstance(posterior, AmortisedPosterior):
        found["log q(z | y)"] = -posterior.latent.log_prob(members)[..., None]
    return found
