"""Sampled posteriors of the latents: the truth that an amortised posterior approximates.

Chains of all measurements of a batch move in lockstep, from draws of the amortised posterior and
with its covariance as their first metric.
"""

from collections.abc import Sequence

from torch import Tensor

from latens.inference.estimates import trusted_status
from latens.inference.latent_target import (
    LatentTarget,
    TargetName,
    TargetPosterior,
    latent_target,
)
from latens.inference.resampling import draw_from_pool
from latens.inference.samplers import HMC, Chains, Kernel, Sampling, estimate_metric
from latens.inference.samplers.metric import Shape as MetricShape
from latens.inference.solver import Solver
from latens.inference.starts import Start, starts
from latens.models import LatentModel
from latens.problems import InverseProblem
from latens.store import Status

_FIRST_METRIC = 64  # draws of q from which the first metric is estimated


class LatentChains(Solver):
    """HMC or NUTS in latent space.

    Args:
        model: Trained `latent`.
        problem: Operator and noise.
        status: Status of the fit.
        kernel: Transition; default `HMC()`.
        target: Density that is sampled.
        chains: Chains per measurement.
        draws: Draws per chain. The largest R̂ of hundreds of latents stays below 1.01 by chance
            only where each has some 1,400 effective draws; with 400 draws per chain it did not.
        warmup: Transitions of warm-up.
        metric: What is learned about the posterior's shape.
        start: Where the chains begin.
        superchains: Number of starts, each shared by equally many chains, so that many short
            chains can be judged; None gives each chain its own.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        status: Status = Status.CONVERGED,
        *,
        kernel: Kernel | None = None,
        target: TargetName = "exact",
        chains: int = 4,
        draws: int = 1000,
        warmup: int = 200,
        metric: MetricShape = "diagonal",
        start: Start = "amortised",
        superchains: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.problem = problem
        self.status = status
        self.kernel = kernel or HMC()
        self.target: TargetName = target
        self.chains = chains
        self.draws = draws
        self.warmup = warmup
        self.metric: MetricShape = metric
        self.start: Start = start
        self.superchains = superchains

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> "SampledPosterior":
        """Chains of every measurement, thinned to what they are worth."""
        target = latent_target(self.model, self.problem, y, self.target)
        distinct = self.superchains or self.chains
        begin = starts(target, distinct, self.start, keys, seed)  # (B, distinct, dim)
        begin = begin.repeat_interleave(self.chains // distinct, 1)  # (B, K, dim)
        cloud = starts(target, _FIRST_METRIC, self.start, keys, seed)
        run = Sampling(
            target.rows(self.chains),
            begin.flatten(0, 1),
            self.kernel,
            problems=len(y),
            warmup=self.warmup,
            metric=self.metric,
            initial_metric=estimate_metric(cloud[None], "diagonal"),
            keys=keys,
            seed=seed,
            superchains=self.superchains,
        )
        return SampledPosterior(target, run.run(self.draws), keys, seed, self.status)


class SampledPosterior(TargetPosterior):
    """Draws of Markov chains.

    Chains are thinned to their smallest bulk effective sample size before anything is drawn, so
    that draws are exchangeable and ranks and intervals mean what they say.

    Attributes:
        chains: Everything that the sampler returned.
        pool: Thinned positions of each measurement, `B` tensors `(n, dim)`.
        trusted: Measurements whose chains passed every diagnosis, `(B,)`.
    """

    def __init__(
        self,
        target: LatentTarget,
        chains: Chains,
        keys: Sequence[int],
        seed: int,
        status: Status,
    ) -> None:
        self.chains = chains
        status = trusted_status(status, chains.trusted)
        super().__init__(target, keys, seed, status, chains.numbers)
        self.trusted = chains.trusted
        self.pool = chains.thinned

    @property
    def warnings(self) -> dict[int, tuple[str, ...]]:
        """What is wrong with each measurement that is not trusted, by its key."""
        return self.chains.warnings(self.keys)

    def positions(self, count: int) -> Tensor:
        """Draws without replacement from the thinned chains, `(count, B, dim)`.

        Raises:
            ConfigError: If the chains are worth fewer draws.
        """
        return draw_from_pool(self.pool, self.keys, self.seed, count)

    def to_inference_data(self):
        """Latents and sampler statistics as ArviZ `InferenceData`."""
        return self.chains.to_inference_data("z", self.keys)
