"""Amortised posterior q(z | readings, σ) of fixed sensors, trained by simulation.

    max E_{p(z) p(σ) p(y | z, σ)} log q(z | y, σ)
    q(z | y, σ) = N(μ, diag s²) refined by a flow,    (μ, log s) = network of (P y, log σ)

Its optimum over all q is the posterior itself, whatever network simulated the readings. P y are
principal scores of simulated readings in units of their spread, down to directions that hold
nothing but noise. Every batch is new: simulations are cheap, thousands at a time.

Draws are as good as the network, and how good that is says the importance weight against the
density it was trained for (`latens.inference.fields.FieldImportance` with this solver as its
proposal): where k̂ is below .7, weighted draws are those of the posterior.

References:
    Papamakarios, Murray (2016), https://arxiv.org/abs/1605.06376;
    Dax et al. (2023), importance-weighted neural posterior estimation,
    https://arxiv.org/abs/2210.05686.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latens.distributions import (
    NoiseStream,
    Purpose,
    RefinedNormal,
    diagonal_normal,
    draw,
    row_noise,
)
from latens.errors import UnsupportedError
from latens.inference.fields.declared import DeclaredReadings
from latens.inference.fields.fitting import descend, layers
from latens.inference.fields.posterior import FieldPosterior
from latens.inference.fields.solvers import Target
from latens.inference.fields.target import FieldTarget
from latens.inference.solver import Solver
from latens.nets import AffineFlow, Flow
from latens.store import Status

SCORES = 64
"""Largest number of principal scores of readings that the network sees."""
FIRST = 4096
"""Readings that are simulated at a time; from the first, units are taken."""
_SOME = 1000
"""Of these, those from which directions are taken; there may be thousands of sensors."""
_BATCH = 256
"""Readings per step, a divisor of `FIRST`."""
_LOG_SPREAD = 8.0
"""Bound of |log s|; it starts at 0, the width of the prior."""


class ReadingsPosterior(nn.Module):
    """q(z | y, σ); a call returns a distribution, batch `(B,)`, event `(dim,)`.

    Args:
        dim: Number of latents.
        y: Simulated readings, `(n, m)`, float64.
        scale: Their σ, `(n,)`.
        flow: Family of the refinement.
        width: Width of the three hidden layers.
    """

    centre: Tensor
    axes: Tensor
    level: Tensor

    def __init__(self, dim: int, y: Tensor, scale: Tensor, flow: Flow, width: int) -> None:
        super().__init__()
        centre = y.mean(0)
        some = (y - centre)[:_SOME]
        _, singular, axes = torch.linalg.svd(some, full_matrices=False)
        spread = singular / len(some) ** 0.5
        kept = min(SCORES, int((spread > 1.1 * scale.mean()).sum()) + 2, len(spread))
        self.register_buffer("centre", centre)
        self.register_buffer("axes", (axes[:kept] / spread[:kept, None]).mT.contiguous())
        log = scale.log()
        self.register_buffer("level", torch.stack([log.mean(), log.std().clamp(min=1e-3)]))
        self.hidden = layers([kept + 1, width, width, width])
        self.last = nn.Linear(width + kept, 2 * dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.flow = flow.refinement(dim)

    def forward(self, y: Tensor, scale: Tensor) -> RefinedNormal:
        """Posterior of readings `(B, m)` with noise `(B,)`."""
        scores = (y - self.centre) @ self.axes  # (B, r)
        level = (scale.log() - self.level[0]) / self.level[1]
        hidden = self.hidden(torch.cat([scores, level[:, None]], 1))
        loc, log_spread = self.last(torch.cat([hidden, scores], 1)).chunk(2, -1)
        log_spread = _LOG_SPREAD * torch.tanh(log_spread / _LOG_SPREAD)
        return self.flow(diagonal_normal(loc, log_spread.exp(), 1))


def train_amortised(
    declared: DeclaredReadings,
    seed: int = 0,
    *,
    flow: Flow | None = None,
    width: int = 256,
    steps: int = 3000,
    rate: float = 1e-3,
) -> ReadingsPosterior:
    """Train q(z | y, σ) for the sensors of a prediction.

    Args:
        declared: Simulator of readings.
        seed: Key of all noise.
        flow: Family of the refinement; default `AffineFlow()`, which starts at and holds every
            Gaussian with full covariance.
        width: Width of the hidden layers.
        steps: Steps of Adam.
        rate: Peak rate.

    Raises:
        NumericalError: If a loss is not finite.
    """
    stream = NoiseStream(seed, Purpose.SIMULATION, -1)
    _, y, scale = declared.simulate(FIRST, stream)
    dim = declared.model.dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ReadingsPosterior(dim, y.double(), scale.double(), flow or AffineFlow(), width)
    net = net.float()
    ready: list[tuple[Tensor, ...]] = []

    def loss() -> Tensor:
        if not ready:
            parts = (part.float().split(_BATCH) for part in declared.simulate(FIRST, stream))
            ready.extend(zip(*parts, strict=True))
        z, y, scale = ready.pop()
        return -net(y, scale).log_prob(z).mean() / dim

    descend(list(net.parameters()), loss, steps, rate)
    return net.to(y).eval().requires_grad_(False)


class FieldAmortised(Solver):
    """Draws of q(z | y, σ).

    Args:
        network: Trained for the sensors of the target.
        target: Density of readings.
        draws: Draws that are made.
        status: Status of the fit.
    """

    def __init__(
        self,
        network: ReadingsPosterior,
        target: Target,
        status: Status = Status.CONVERGED,
        *,
        draws: int = 400,
    ) -> None:
        self.network, self.target, self.status, self.draws = network, target, status, draws

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> "AmortisedPositions":
        """Posterior of each measurement.

        Raises:
            UnsupportedError: If σ is sampled, or positions are not z.
        """
        target = self.target(y)
        if target.noise.spread > 0 or target.coordinates != "z":
            raise UnsupportedError(
                "target",
                "a known σ and coordinates `z`, for which the network was trained",
                f"spread {target.noise.spread}, coordinates {target.coordinates}",
                "Use chains.",
            )
        q = self.network(y, target.scale)
        return AmortisedPositions(target, q, self.draws, keys, seed, self.status)


class AmortisedPositions(FieldPosterior):
    """Draws of q(z | y, σ).

    Args:
        q: Batch `(B,)`.
        count: Number of draws.
    """

    def __init__(
        self,
        target: FieldTarget,
        q: RefinedNormal,
        count: int,
        keys: Sequence[int],
        seed: int,
        status: Status,
    ) -> None:
        self.q = q
        shape = (count, target.dim)
        noise = row_noise((seed, Purpose.LATENT), keys, shape, target.y.dtype, target.y.device)
        super().__init__(target, draw(q, noise).unbind(1), keys, seed, status, {})

    @torch.no_grad()
    def log_density(self, v: Tensor) -> Tensor:
        """log q(v | y, σ), `(B, S)`."""
        return self.q.log_prob(v.transpose(0, 1)).mT
