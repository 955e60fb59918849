"""Sampled posteriors of the latents: the truth that an amortised posterior approximates.

Chains of all measurements of a batch move in lockstep, from draws of the amortised posterior and
with its covariance as their first metric.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError
from latens.inference.latent_target import (
    LatentTarget,
    TargetName,
    TargetPosterior,
    latent_target,
)
from latens.inference.samplers import HMC, Chains, Kernel, Sampling, estimate_metric
from latens.inference.samplers.metric import Shape as MetricShape
from latens.inference.solver import Solver
from latens.inference.starts import Start, starts
from latens.models import LatentModel
from latens.problems import InverseProblem
from latens.store import Status, worst_status

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
        diagnoses = chains.diagnoses
        trusted = torch.tensor([diagnosis.trusted for diagnosis in diagnoses])
        mixed = Status.CONVERGED if bool(trusted.all()) else Status.UNMIXED
        status = worst_status([status, mixed])
        numbers = {
            "rhat": max(d.rhat for d in diagnoses),
            "bulk_ess": min(d.bulk_ess for d in diagnoses),
            "tail_ess": min(d.tail_ess for d in diagnoses),
            "e_bfmi": min(d.e_bfmi for d in diagnoses),
            "divergences": float(sum(d.divergences for d in diagnoses)),
            "untrusted": float((~trusted).sum()),
            "gradients": float(chains.warmup_gradients + chains.gradients),
        }
        super().__init__(target, keys, seed, status, numbers)
        self.trusted = trusted
        self.pool = [
            thinned(chains.of_problems[:, :, p], diagnoses[p].bulk_ess)
            for p in range(chains.problems)
        ]

    @property
    def warnings(self) -> dict[int, tuple[str, ...]]:
        """What is wrong with each measurement that is not trusted, by its key."""
        pairs = zip(self.keys, self.chains.diagnoses, strict=True)
        return {key: diagnosis.warnings for key, diagnosis in pairs if diagnosis.warnings}

    def positions(self, count: int) -> Tensor:
        """Draws without replacement from the thinned chains, `(count, B, dim)`.

        Raises:
            ConfigError: If the chains are worth fewer draws.
        """
        smallest = min(len(draws) for draws in self.pool)
        if count > smallest:
            raise ConfigError(
                "draws",
                f"at most {smallest}, the smallest effective sample size of the chains",
                count,
                "Raise `draws` or `chains` of the solver.",
            )
        rows = []
        for key, draws in zip(self.keys, self.pool, strict=True):
            order = NoiseStream(self.seed, Purpose.POOL, key).permutation(len(draws))
            rows.append(draws[order[:count].to(draws.device)])
        return torch.stack(rows, 1)

    def to_inference_data(self):
        """Latents and sampler statistics as ArviZ `InferenceData`."""
        return self.chains.to_inference_data("z", self.keys)


def thinned(draws: Tensor, size: float) -> Tensor:
    """As many draws of `(S, K, d)` as they are worth, evenly spread over time and chains."""
    steps, chains = draws.shape[:2]
    worth = steps * chains if not size > 0 else min(int(size), steps * chains)
    spacing = max(1, -(-steps * chains // max(worth, 1)))
    kept = draws[spacing - 1 :: spacing] if spacing <= steps else draws[-1:]
    return kept.flatten(0, 1)
