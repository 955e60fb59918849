"""The ways to find p(z | y) without the amortised posterior, by the names of a study."""

from collections.abc import Callable
from typing import Literal

from latens.inference.latent_chains import LatentChains
from latens.inference.latent_maximum import LatentLaplace, LatentMAP
from latens.inference.samplers import NUTS
from latens.inference.solver import Solver
from latens.models import LatentModel
from latens.problems import InverseProblem
from latens.store import Status

Sampler = Literal["map", "laplace", "refined", "hmc", "nuts"]


def _refined(model: LatentModel, problem: InverseProblem | None, status: Status) -> Solver:
    """The amortised posterior refined by a few steps of many chains.

    As many draws as it takes for the largest nested R̂ of hundreds of latents to stay below 1.01
    where the chains agree.
    """
    return LatentChains(model, problem, status, chains=256, superchains=8, warmup=30, draws=24)


def _hmc(model: LatentModel, problem: InverseProblem | None, status: Status) -> Solver:
    return LatentChains(model, problem, status)


def _nuts(model: LatentModel, problem: InverseProblem | None, status: Status) -> Solver:
    return LatentChains(model, problem, status, kernel=NUTS(max_depth=8))


SAMPLERS: dict[str, Callable[[LatentModel, InverseProblem | None, Status], Solver]] = {
    "map": LatentMAP,
    "laplace": LatentLaplace,
    "refined": _refined,
    "hmc": _hmc,
    "nuts": _nuts,
}
"""Solvers of a trained `latent`. Their settings are part of a study's results: whoever changes one
raises `RESULT_VERSION`."""
