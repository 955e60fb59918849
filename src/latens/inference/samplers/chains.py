"""Draws of many chains for many problems, with everything that says whether to believe them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latens.inference.samplers.export import require_arviz
from latens.metrics.chains import bulk_ess, e_bfmi, nested_rhat, rhat, tail_ess

MAX_RHAT = 1.01
MIN_BULK_ESS = 100.0
MIN_TAIL_ESS = 400.0
MIN_E_BFMI = 0.3


@dataclass(frozen=True, eq=False)
class Chains:
    """What a sampler returns: S draws of K chains for each of P problems, C = P K.

    Attributes:
        draws: `(S, C, d)`; the chains of problem p are p K, …, p K + K − 1.
        log_density: log p(x) up to a constant, `(S, C)`.
        energy: H before each trajectory, `(S, C)`.
        acceptance: Mean Metropolis probability of each trajectory, `(S, C)`.
        divergent: Trajectories that lost their energy, `(S, C)`.
        moved: Transitions that changed the position, `(S, C)`.
        steps: Integration steps of each trajectory, `(S, C)`.
        trouble: Where divergent trajectories broke, `(n, d)`, and `trouble_at`, `(n, 2)`, the
            draw and the chain.
        problems: P.
        superchains: Starts that equally many chains of a problem share; None where each chain has
            its own. Many short chains are then judged together.
        step_size: ε after warm-up, `(P,)`.
        restarted: Chains that warm-up moved to another's place because they were stuck, `(P,)`.
        warmup_gradients: Gradients per chain that warm-up cost, counted in lockstep; gradients
            of some of the problems count as their share.
        gradients: The same of the draws.
    """

    draws: Tensor
    log_density: Tensor
    energy: Tensor
    acceptance: Tensor
    divergent: Tensor
    moved: Tensor
    steps: Tensor
    trouble: Tensor
    trouble_at: Tensor
    problems: int
    superchains: int | None
    step_size: Tensor
    restarted: Tensor
    warmup_gradients: float
    gradients: float

    @property
    def of_problems(self) -> Tensor:
        """Draws with the chains of each problem apart, `(S, K, P, d)`."""
        return self._apart(self.draws)

    def _apart(self, values: Tensor) -> Tensor:
        """`(S, C, ...)` → `(S, K, P, ...)`."""
        return values.unflatten(1, (self.problems, -1)).transpose(1, 2)

    @cached_property
    def _quantities(self) -> Tensor:
        """Coordinates and log-density, `(S, K, P, d + 1)`."""
        return torch.cat([self.of_problems, self._apart(self.log_density)[..., None]], -1)

    @cached_property
    def rhat(self) -> Tensor:
        """R̂ of every coordinate and of log p, `(P, d + 1)`: rank-normalised split, or nested."""
        if self.superchains is not None:
            return nested_rhat(self._quantities, self.superchains)
        return rhat(self._quantities)

    @cached_property
    def bulk_ess(self) -> Tensor:
        """Bulk effective sample size of the same, `(P, d + 1)`."""
        return bulk_ess(self._quantities)

    @cached_property
    def tail_ess(self) -> Tensor:
        """Tail effective sample size of the same, `(P, d + 1)`."""
        return tail_ess(self._quantities)

    @cached_property
    def e_bfmi(self) -> Tensor:
        """Energy Bayesian fraction of missing information, `(P, K)`.

        Of every chain by itself, or `(P, 1)` of all short chains together.
        """
        if self.superchains is not None:
            energy = self._apart(self.energy)  # (S, K, P)
            jumps = energy.diff(dim=0).square().mean((0, 1))
            return (jumps / energy.flatten(0, 1).var(0))[:, None]
        return e_bfmi(self.energy).unflatten(0, (self.problems, -1))

    @cached_property
    def diagnoses(self) -> tuple["Diagnosis", ...]:
        """One diagnosis per problem."""
        frozen = ~self._apart(self.moved).any(0)  # (K, P)
        divergent = self._apart(self.divergent).sum((0, 1))  # (P,)
        acceptance = self._apart(self.acceptance).mean((0, 1))
        return tuple(
            Diagnosis(
                rhat=_worst(self.rhat[p], largest=True),
                bulk_ess=_worst(self.bulk_ess[p], largest=False),
                tail_ess=_worst(self.tail_ess[p], largest=False),
                e_bfmi=_worst(self.e_bfmi[p], largest=False),
                divergences=int(divergent[p]),
                frozen_chains=int(frozen[:, p].sum()),
                acceptance=float(acceptance[p]),
                chance=self._chance(p),
            )
            for p in range(self.problems)
        )

    @cached_property
    def trusted(self) -> Tensor:
        """Problems whose chains passed every diagnosis, `(P,)`."""
        return torch.tensor([diagnosis.trusted for diagnosis in self.diagnoses])

    @property
    def numbers(self) -> dict[str, float]:
        """The worst of every diagnosis over all problems, for `diagnostics`."""
        found = self.diagnoses
        return {
            "rhat": max(d.rhat for d in found),
            "bulk_ess": min(d.bulk_ess for d in found),
            "tail_ess": min(d.tail_ess for d in found),
            "e_bfmi": min(d.e_bfmi for d in found),
            "divergences": float(sum(d.divergences for d in found)),
            "untrusted": float((~self.trusted).sum()),
            "gradients": float(self.warmup_gradients + self.gradients),
        }

    def warnings(self, keys: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """What is wrong with each problem that is not trusted, by its key."""
        pairs = zip(keys, self.diagnoses, strict=True)
        return {key: diagnosis.warnings for key, diagnosis in pairs if diagnosis.warnings}

    @cached_property
    def thinned(self) -> list[Tensor]:
        """As many draws of each problem as its smallest bulk effective size, `P` of `(n, d)`."""
        return [
            thinned(self.of_problems[:, :, p], diagnosis.bulk_ess)
            for p, diagnosis in enumerate(self.diagnoses)
        ]

    def _chance(self, problem: int) -> float:
        """What the largest R̂ of a problem reaches by chance, from the quantity that has it."""
        worst, count = self.rhat[problem].argmax(), self.rhat.shape[1]
        bulk = self._quantities[:, :, problem, worst]  # (S, K)
        if self.superchains is not None:
            return chance_nested_rhat(bulk, self.superchains, count)
        folded = (bulk - bulk.median()).abs()
        alone = torch.stack([bulk, folded], -1)[:, None]  # (S, 1, K, 2)
        size = float(bulk_ess(alone).sum(0).min())
        return chance_rhat(size, bulk.shape[0], bulk.shape[1], count)

    def to_inference_data(self, name: str = "z", keys: Sequence[int] | None = None):
        """ArviZ `InferenceData`: dims chain, draw, problem, then the coordinate.

        Args:
            name: Name of the variable.
            keys: Label of each problem; default 0, …, P − 1.

        Raises:
            UnsupportedError: If arviz is not installed.
        """
        statistics = {
            "lp": self.log_density,
            "energy": self.energy,
            "acceptance_rate": self.acceptance,
            "diverging": self.divergent,
            "n_steps": self.steps,
        }
        labels = list(range(self.problems) if keys is None else keys)
        return require_arviz().from_dict(
            posterior={name: self._exported(self.draws)},
            sample_stats={key: self._exported(value) for key, value in statistics.items()},
            dims={name: ["problem", f"{name}_dim"], **{key: ["problem"] for key in statistics}},
            coords={"problem": labels},
        )

    def _exported(self, values: Tensor):
        """`(S, C, ...)` → `(K, S, P, ...)` as an array."""
        return self._apart(values).transpose(0, 1).numpy(force=True)


@dataclass(frozen=True)
class Diagnosis:
    """Whether the chains of one problem can be believed.

    Attributes:
        rhat: Largest R̂ of all coordinates and of log p.
        bulk_ess: Smallest bulk effective sample size of the same.
        tail_ess: Smallest tail effective sample size.
        e_bfmi: Smallest E-BFMI of all chains.
        divergences: Number of divergent trajectories after warm-up.
        frozen_chains: Chains that never moved.
        acceptance: Mean Metropolis probability.
        chance: What the largest R̂ of chains that agree reaches once in twenty runs.
    """

    rhat: float
    bulk_ess: float
    tail_ess: float
    e_bfmi: float
    divergences: int
    frozen_chains: int
    acceptance: float
    chance: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong and what to do about it, a sentence each; empty if nothing is."""
        found: list[str] = []
        if self.frozen_chains:
            found.append(
                f"{self.frozen_chains} chains never moved: start them elsewhere, or raise "
                "`target` so that steps are smaller."
            )
        if not self.rhat < MAX_RHAT:
            remedy = (
                f"chains that agree show {self.chance:.3f} by chance at this effective size. Draw "
                "more."
                if self.rhat < self.chance
                else "the chains disagree. Warm up longer; if that changes nothing there are "
                "several modes, so start from many places and read them apart."
            )
            found.append(f"R̂ is {self.rhat:.3f}, not below {MAX_RHAT}: {remedy}")
        if self.divergences:
            found.append(
                f"{self.divergences} divergent trajectories: a region of strong curvature is not "
                "visited. Raise `target` to .95, or choose other coordinates."
            )
        if not self.e_bfmi >= MIN_E_BFMI:
            found.append(
                f"E-BFMI is {self.e_bfmi:.2f}, below {MIN_E_BFMI}: energies are explored slowly, "
                "as in heavy tails and funnels. Choose other coordinates."
            )
        if not (self.bulk_ess >= MIN_BULK_ESS and self.tail_ess >= MIN_TAIL_ESS):
            found.append(
                f"effective sample size is {self.bulk_ess:.0f} in the bulk and "
                f"{self.tail_ess:.0f} in the tails, less than {MIN_BULK_ESS:.0f} and "
                f"{MIN_TAIL_ESS:.0f}: draw more."
            )
        return tuple(found)

    @property
    def trusted(self) -> bool:
        """Whether nothing is wrong."""
        return not self.warnings


def thinned(draws: Tensor, size: float) -> Tensor:
    """As many draws of `(S, K, d)` as they are worth, evenly spread over time and chains."""
    steps, chains = draws.shape[:2]
    worth = steps * chains if not size > 0 else min(int(size), steps * chains)
    spacing = max(1, -(-steps * chains // max(worth, 1)))
    kept = draws[spacing - 1 :: spacing] if spacing <= steps else draws[-1:]
    return kept.flatten(0, 1)


def chance_rhat(size: float, draws: int, chains: int, quantities: int) -> float:
    """Largest split R̂ that chains of one distribution show in one of twenty runs, roughly.

        R̂² = 1 − 2/S + (2K/ESS) χ²_{2K−1}/(2K − 1)

    for one quantity, bulk or folded; the largest is taken as that of independent quantities.

    Args:
        size: Effective sample size of the quantity with the largest R̂, bulk or folded, whichever
            is smaller: of each chain by itself, about its own mean, and added up.
        draws: S, draws per chain.
        chains: K.
        quantities: Their number.
    """
    from scipy.stats import chi2

    if not size > 0:
        return 1.0
    degrees = 2 * chains - 1
    largest = float(chi2.isf(-math.expm1(math.log(0.95) / (2 * quantities)), degrees))
    return math.sqrt(1 - 2 / draws + 2 * chains * largest / (degrees * size))


def chance_nested_rhat(draws: Tensor, superchains: int, quantities: int) -> float:
    """Largest nested R̂ that superchains of one distribution show in one of twenty runs.

        R̂² = 1 + F · B̃/(M Ŵ),   F ~ F(G − 1, G (M − 1))

    with B̃ the variance between the M chains of a superchain and Ŵ that of all their draws; the
    largest is taken as that of independent quantities.

    Args:
        draws: Those of the quantity with the largest R̂, `(S, K)`.
        superchains: G.
        quantities: Their number.
    """
    from scipy.stats import f

    nested = draws.double().unflatten(1, (superchains, -1))  # (S, G, M)
    between = float(nested.mean(0).var(1).mean())
    within = between + (float(nested.var(0).mean()) if len(nested) > 1 else 0.0)
    if not within > 0:
        return 1.0
    members = nested.shape[2]
    degrees = superchains - 1, superchains * (members - 1)
    largest = float(f.isf(-math.expm1(math.log(0.95) / quantities), *degrees))
    return math.sqrt(1 + largest * between / (members * within))


def _worst(values: Tensor, *, largest: bool) -> float:
    """Largest or smallest value; NaN if one is NaN."""
    return float(values.max() if largest else values.min())
