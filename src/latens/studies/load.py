"""Solvers from a run folder; nothing in it is executed."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from latens.errors import ConfigError, DataError, LatensError, SolverError, UnsupportedError
from latens.inference import (
    CLASSICAL,
    SAMPLERS,
    Amortised,
    Classical,
    Ensemble,
    MonteCarloDropout,
    Predictive,
    Regression,
    Solver,
)
from latens.models import LatentModel, Model, UNet
from latens.problems import InverseProblem, NoiseModel, Operator
from latens.store import METRICS, Outcome, RunFolder, Status, read_csv, read_json
from latens.studies.configure import construct_object
from latens.studies.recorded import STUDY
from latens.studies.units import RESULT_VERSION
from latens.types import PathLike, Shape

WEIGHTS = "weights.safetensors"
CLASSICAL_ARRAYS = "classical.safetensors"

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class Loaded:
    """A solver from a run, with what its user must know.

    Attributes:
        solver: The solver; call it with measurements `(B, *measurement_shape)`.
        problem: Operator and noise it was made for, or None.
        name, n, data_seed, init_seed: Its place in the sweep.
        outcome: Status of its fits.
        note: A warning that belongs to the solver, or "".
        folder: Folder of its evaluation.
        signal_shape, measurement_shape: Shapes of one signal and one measurement.
    """

    solver: Solver
    problem: InverseProblem | None
    name: str
    n: int
    data_seed: int
    init_seed: int | None
    outcome: Outcome
    note: str
    folder: Path
    signal_shape: Shape
    measurement_shape: Shape

    def __call__(self, y: torch.Tensor):
        """Solve for measurements, `(B, *measurement_shape)`."""
        return self.solver(y)


def load(
    run: PathLike,
    solver: str | None = None,
    n: int | None = None,
    data_seed: int | None = None,
    trust: Collection[str] = (),
) -> Loaded:
    """A trained solver of a run, of those that its tables show.

    Args:
        run: Run folder.
        solver: Name of the solver; default: an ensemble if there is one, else a posterior, and
            neither one that is not usable nor one that is marked as not a posterior if there
            is another; among equals the one with the smallest NMSE.
        n: Number of training pairs; default: the largest.
        data_seed: Seed of its subset; default: the smallest.
        trust: Packages whose classes the run may name, besides those of latens.

    Raises:
        ConfigError: If the run has no such solver.
        DataError: If the folder is not a run or is damaged.
        UnsupportedError: If it is a run of `pde`, whose solvers belong to sensors.
    """
    folder = RunFolder.open(run)
    with _intact(folder):
        if folder.description["study"] == "pde":
            raise UnsupportedError(
                str(folder.path),
                "a run with solvers of one measurement each",
                "a run of pde, whose solvers belong to sensors",
                "Use `latens reconstruct RUN sensors.csv`.",
            )
        entry = _choose(folder, _entries(folder), solver, n, data_seed)
        return _build(folder, entry, trust)


@contextmanager
def _intact(run: RunFolder) -> Iterator[None]:
    """Turn what a damaged description raises into one line."""
    try:
        yield
    except LatensError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            str(run.path),
            "descriptions of fits and evaluations as latens wrote them",
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            "Restore the folder from a copy, or finish it with the command that started it.",
        ) from error


def listed_evaluations(run: RunFolder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Hash and description of the evaluations of the tables, by the solver's name of today.

    Where there are no tables yet, of all that are finished: others in the folder belong to other
    configurations.
    """
    names = read_json(run.units_file)["evaluations"] if run.units_file.is_file() else {}
    for hash in names or run.finished_evaluations():
        entry = read_json(run.evaluation(hash) / "evaluation.json")
        yield hash, {**entry, "solver": names.get(hash, entry["solver"])}


def _entries(run: RunFolder) -> list[dict[str, Any]]:
    """Evaluations with numbers."""
    entries = []
    for hash, entry in listed_evaluations(run):
        if entry["kind"] in ("posterior", "point"):  # and not a deep check
            outcome = Outcome.read(run.evaluation(hash))
            entries.append({**entry, "hash": hash, "outcome": outcome})
    if not entries:
        raise DataError(
            str(run.path),
            "a run with at least one finished evaluation",
            "none",
            "Finish it with the command that started it.",
        )
    return entries


def _choose(
    run: RunFolder,
    entries: list[dict[str, Any]],
    solver: str | None,
    n: int | None,
    data_seed: int | None,
) -> dict[str, Any]:
    wanted = {"solver": solver, "n": n, "data_seed": data_seed}
    for key, value in wanted.items():
        if value is None:
            continue
        known = sorted({entry[key] for entry in entries})
        entries = [entry for entry in entries if entry[key] == value]
        if not entries:
            choices = ", ".join(map(str, known))
            raise ConfigError(key, f"one of {choices}", value, "Choose one of these.")

    def preference(entry: dict[str, Any]) -> tuple:
        return (
            entry["outcome"].usable,
            entry["kind"] == "posterior",
            entry["note"] == "",
            entry["algorithm"] == "ensemble",
            entry["n"],
            -entry["data_seed"],
            -(entry["init_seed"] or 0),
        )

    best = max(map(preference, entries))
    equals = [entry for entry in entries if preference(entry) == best]
    return min(equals, key=lambda entry: (_nmse(run, entry), entry["solver"]))


def _nmse(run: RunFolder, entry: dict[str, Any]) -> float:
    """Error of an evaluation, infinite where it has none."""
    file = run.evaluation(entry["hash"]) / "metrics.csv"
    if not file.is_file():  # of a fit that failed
        return inf
    metrics = read_csv(file, METRICS)
    found = metrics.loc[metrics["metric"] == "nmse", "value"].dropna()
    return float(found.iloc[0]) if len(found) else inf


def _build(run: RunFolder, entry: dict[str, Any], trust: Collection[str]) -> Loaded:
    if run.description["study"] == STUDY:
        raise UnsupportedError(
            str(run.path),
            "a run of `latens run`, which keeps its solvers",
            "reconstructions that `latens evaluate` recorded",
            "Apply the solver that made them.",
        )
    version = run.description["result_version"]
    if version != RESULT_VERSION:
        raise DataError(
            str(run.path),
            f"results of version {RESULT_VERSION}, whose weights this latens reads",
            version,
            "Run the study again, or load it with the latens that made it.",
        )
    folder = run.evaluation(entry["hash"])
    description = run.description["data"]
    signal = tuple(description["signal_shape"])
    measurement = tuple(description["measurement_shape"])
    problem = _problem(entry["problem"], signal, trust)
    algorithm = entry["algorithm"]
    if algorithm in CLASSICAL and problem is not None:
        solver: Solver = _load_classical(folder, algorithm, problem)
    else:
        members = [_member(run.fit(fit), problem, algorithm, trust) for fit in entry["fits"]]
        solver = members[0] if algorithm != "ensemble" else Ensemble(members)
    return Loaded(
        solver,
        problem,
        entry["solver"],
        entry["n"],
        entry["data_seed"],
        entry["init_seed"],
        entry["outcome"],
        entry["note"],
        folder,
        signal,
        measurement,
    )


def _problem(
    spec: dict[str, Any], signal_shape: Shape, trust: Collection[str]
) -> InverseProblem | None:
    if spec["operator"] is None:
        return None
    operator = construct_object(Callable[[Shape], Operator], spec["operator"], trust)
    noise = construct_object(NoiseModel, spec["noise"], trust)
    return InverseProblem(operator(signal_shape), noise)


def _member(
    folder: Path, problem: InverseProblem | None, algorithm: str, trust: Collection[str]
) -> Solver:
    fit = read_json(folder / "fit.json")
    make = construct_object(Callable[[Shape, Shape], Model], fit["model"], trust)
    signal, measurement = tuple(fit["signal_shape"]), tuple(fit["measurement_shape"])
    with torch.random.fork_rng(devices=[]):
        if problem is None:
            model = make(signal, measurement)
        else:
            operator = problem.operator
            model = make(signal, operator.view_shape).look_through(operator)
    return trained_solver(folder, model, problem, algorithm)


def trained_solver(
    folder: Path, model: Model, problem: InverseProblem | None, algorithm: str
) -> Solver:
    """The solver of a fit.

    Args:
        folder: Folder of the fit.
        model: Its untrained model; gets the weights.
        problem: Operator and noise, or None.
        algorithm: What the solver is made for; members of an ensemble of regressors have the
            spread that their likelihood learned.

    Raises:
        SolverError: If the fit failed and left no weights.
        DataError: If the weights are missing, damaged or of another model.
    """
    model = load_weights(model, folder)
    return solver_of(model, problem, Outcome.read(folder).status, algorithm)


def load_weights(model: AnyModule, folder: Path) -> AnyModule:
    """A model with the weights of its fit, ready for use.

    Args:
        model: Untrained; gets the weights.
        folder: Folder of the fit.

    Raises:
        SolverError: If the fit failed and left no weights.
        DataError: If the weights are missing, damaged or of another model.
    """
    outcome = Outcome.read(folder)
    if not (folder / WEIGHTS).exists() and not outcome.usable:
        raise SolverError(
            folder.name,
            "a fit that left weights",
            f"{outcome.status}: {outcome.message}",
            "Mend the cause, delete this folder and run again.",
            status=str(outcome.status),
        )
    with _weights_of(folder / WEIGHTS):
        model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def solver_of(
    model: Model, problem: InverseProblem | None, status: Status, algorithm: str
) -> Solver:
    """The solver that an algorithm makes of a model; arguments as for `trained_solver`."""
    if isinstance(model, LatentModel):
        return SAMPLERS.get(algorithm, Amortised)(model, problem, status)
    assert isinstance(model, UNet)
    if model.dropout > 0:
        return MonteCarloDropout(model, status)
    return (Predictive if algorithm == "ensemble" else Regression)(model, status)


def save_classical(solver: Classical, folder: Path) -> None:
    """Write what a classical solver learned, so that it can be loaded without its data."""
    save_file({k: v.contiguous() for k, v in solver.arrays().items()}, folder / CLASSICAL_ARRAYS)


def _load_classical(folder: Path, algorithm: str, problem: InverseProblem) -> Classical:
    with _weights_of(folder / CLASSICAL_ARRAYS):
        return CLASSICAL[algorithm].from_arrays(problem, load_file(folder / CLASSICAL_ARRAYS))


@contextmanager
def _weights_of(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged safetensors file raises into one line."""
    try:
        yield
    except Exception as error:  # damaged bytes raise whatever they like
        raise DataError(
            str(path),
            "the weights of this unit",
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            "Delete the folder around it and run again.",
        ) from error
