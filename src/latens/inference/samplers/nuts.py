"""The no-U-turn sampler without recursion: all chains in lockstep, those that ended rest.

A trajectory doubles, forward or backward at random, until its ends approach each other,

    rᵀ_left ρ ≤ 0   or   rᵀ_right ρ ≤ 0,    ρ = Σ r − (r_left + r_right)/2,

or any balanced subtree inside it does. The next state is drawn from all points of the trajectory
with weights exp(−H): progressively inside a subtree, biased to the new half between subtrees.
Leaves of a subtree are numbered 0, 1, …; the number has the same bits in every chain, so the
checkpoints that a U-turn is looked for between are the same too, and only masks differ.

A cautious trajectory, of shorter steps, has no more of them than a quarter period of the widest
direction needs at the tuned size.

References:
    Hoffman, Gelman (2014), The No-U-Turn Sampler, https://arxiv.org/abs/1111.4246;
    Betancourt (2017), A conceptual introduction, appendix A, https://arxiv.org/abs/1701.02434;
    Phan, Pradhan, Jankowiak (2019), Composable effects, iterative NUTS,
    https://arxiv.org/abs/1912.11554.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.inference.samplers.integrator import LEAPFROG, Hamiltonian, Integrator, Phase, where
from latens.inference.samplers.kernels import (
    ENERGY_ERROR,
    IterationNoise,
    Kernel,
    Transition,
    Tuning,
    check_count,
)


class NUTS(Kernel):
    """No-U-turn sampler.

    Args:
        target: Mean acceptance that the step size is adapted to.
        max_depth: Bound on the doublings; a trajectory has at most 2^max_depth − 1 steps.
        integrator: Splitting.
    """

    def __init__(
        self, *, target: float = 0.8, max_depth: int = 10, integrator: Integrator = LEAPFROG
    ) -> None:
        super().__init__(target, integrator)
        self.max_depth = check_count("max_depth", max_depth)

    def transition(
        self,
        hamiltonian: Hamiltonian,
        phase: Phase,
        tuning: Tuning,
        noise: IterationNoise,
    ) -> Transition:
        chains, dim = phase.position.shape[1:]
        start = phase.with_momentum(noise.normal(chains, dim))
        tree = _Tree.root(start)
        depths = self._depths(tuning)[:, None]  # (P, 1)
        for depth in range(self.max_depth):
            tree.growing = tree.growing & (depth < depths)
            if not bool(tree.growing.any()):
                break
            forward = noise.uniform(chains) < 0.5
            size = torch.where(forward, 1.0, -1.0) * tuning.size[:, None]
            edge = where(forward, tree.right, tree.left)
            uniform = noise.uniform(2**depth, chains)
            branch = _grow(hamiltonian, tree, edge, size, tuning, depth, uniform)
            tree = _merge(tree, branch, forward, noise.uniform(chains))
        steps = tree.steps.clamp(min=1)
        return Transition(
            tree.proposal,
            tree.energy,
            tree.acceptance / steps,
            tree.divergent,
            (tree.proposal.position != phase.position).any(-1),
            tree.steps,
            tree.trouble,
        )

    def _depths(self, tuning: Tuning) -> Tensor:
        """Bound on the doublings of each problem in this transition, `(P,)`."""
        most = torch.full_like(tuning.step, tuning.bounded(2**self.max_depth))
        if tuning.caution < 1:
            quarter = math.pi / 2 * tuning.reach / tuning.step
            most = torch.minimum(most, quarter.clamp(min=2))
        return most.log2().floor()


@dataclass
class _Tree:
    """Trajectories of all chains; `(P, K)` unless said otherwise.

    Attributes:
        energy: H at the root.
        left: First point in time.
        right: Last point.
        proposal: Point drawn so far.
        log_weight: log Σ exp(H_root − H) over the points.
        momentum: Σ r, `(P, K, d)`.
        growing: Chains that double again.
        divergent: Chains that lost their energy.
        trouble: Where, `(P, K, d)`.
        acceptance: Σ min(1, exp(H_root − H)) over the points visited.
        steps: Points visited.
    """

    energy: Tensor
    left: Phase
    right: Phase
    proposal: Phase
    log_weight: Tensor
    momentum: Tensor
    growing: Tensor
    divergent: Tensor
    trouble: Tensor
    acceptance: Tensor
    steps: Tensor

    @classmethod
    def root(cls, start: Phase) -> "_Tree":
        energy = start.energy
        zeros = torch.zeros_like(energy)
        never = torch.zeros_like(energy, dtype=torch.bool)
        return cls(
            energy=energy,
            left=start,
            right=start,
            proposal=start,
            log_weight=zeros,
            momentum=start.momentum,
            growing=~never,
            divergent=never,
            trouble=start.position,
            acceptance=zeros,
            steps=torch.zeros_like(energy, dtype=torch.long),
        )


@dataclass
class _Branch:
    """The new half of a doubled trajectory, built from `edge` outward."""

    edge: Phase
    proposal: Phase
    log_weight: Tensor
    momentum: Tensor
    alive: Tensor


def _grow(
    hamiltonian: Hamiltonian,
    tree: _Tree,
    edge: Phase,
    size: Tensor,
    tuning: Tuning,
    depth: int,
    uniform: Tensor,
) -> _Branch:
    """A subtree of 2^depth points; chains that turn or diverge inside it are not `alive`."""
    alive = tree.growing
    branch = _Branch(
        edge,
        edge,
        torch.full_like(tree.log_weight, -torch.inf),
        torch.zeros_like(edge.momentum),
        alive,
    )
    # Momentum at, and summed to, the first leaf of each open subtree.
    first = edge.momentum.new_zeros(depth + 1, *edge.momentum.shape)
    summed = torch.zeros_like(first)
    for leaf in range(2**depth):
        alive = branch.alive
        if not bool(alive.any()):
            break
        point = hamiltonian.step(branch.edge, torch.where(alive, size, 0.0), tuning.metric)
        error = point.energy - tree.energy
        error = torch.where(error.isnan(), torch.inf, error)
        divergent = alive & (error > ENERGY_ERROR)
        tree.divergent = tree.divergent | divergent
        tree.trouble = torch.where(divergent[..., None], point.position, tree.trouble)
        tree.acceptance = tree.acceptance + torch.where(alive, torch.exp(-error.clamp(min=0)), 0.0)
        tree.steps = tree.steps + alive
        alive = alive & ~divergent
        total = torch.where(alive, torch.logaddexp(branch.log_weight, -error), branch.log_weight)
        chosen = alive & (uniform[:, leaf] < torch.exp(-error - total))
        momentum = branch.momentum + torch.where(alive[..., None], point.momentum, 0.0)
        turning = _check_subtrees(leaf, point.momentum, momentum, first, summed)
        branch = _Branch(
            where(alive, point, branch.edge),
            where(chosen, point, branch.proposal),
            total,
            momentum,
            alive & ~turning,
        )
    return branch


def _check_subtrees(
    leaf: int, momentum: Tensor, total: Tensor, first: Tensor, summed: Tensor
) -> Tensor:
    """Whether a balanced subtree that ends at this leaf has turned; keeps the checkpoints."""
    slot = (leaf >> 1).bit_count()
    if leaf % 2 == 0:
        first[slot], summed[slot] = momentum, total
        return torch.zeros(momentum.shape[:-1], dtype=torch.bool, device=momentum.device)
    closing = (~leaf & (leaf + 1)).bit_length() - 1  # trailing ones: subtrees that end here
    turned = torch.zeros(momentum.shape[:-1], dtype=torch.bool, device=momentum.device)
    for j in range(slot - closing + 1, slot + 1):
        inside = total - summed[j] + first[j]
        turned = turned | is_turning(first[j], momentum, inside)
    return turned


def is_turning(left: Tensor, right: Tensor, total: Tensor) -> Tensor:
    """Whether the ends of a trajectory approach each other.

    Args:
        left: Momentum at one end, whitened, `(..., d)`.
        right: Momentum at the other end.
        total: Sum of the momenta of all points, both ends included.

    Returns:
        `(...)`.
    """
    middle = total - (left + right) / 2
    return ((left * middle).sum(-1) <= 0) | ((right * middle).sum(-1) <= 0)


def _merge(tree: _Tree, branch: _Branch, forward: Tensor, uniform: Tensor) -> _Tree:
    """The doubled trajectory, in chains whose new half is whole."""
    whole = branch.alive
    # Biased progressive sampling: prefer the new half.
    chosen = whole & (uniform < torch.exp(branch.log_weight - tree.log_weight))
    tree.proposal = where(chosen, branch.proposal, tree.proposal)
    tree.right = where(whole & forward, branch.edge, tree.right)
    tree.left = where(whole & ~forward, branch.edge, tree.left)
    joined = torch.logaddexp(tree.log_weight, branch.log_weight)
    tree.log_weight = torch.where(whole, joined, tree.log_weight)
    tree.momentum = tree.momentum + torch.where(whole[..., None], branch.momentum, 0.0)
    turned = is_turning(tree.left.momentum, tree.right.momentum, tree.momentum)
    tree.growing = whole & ~turned
    return tree
