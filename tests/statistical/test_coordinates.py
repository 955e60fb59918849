"""A posterior under a flow prior, sampled in the flow's own coordinates and in the latents.

    p(β) = N(F(β); 0, I) |det ∂F/∂β|:   in z = F(β) the prior is N(0, I), without determinant

Both must give one posterior. They are told apart by a classifier (C2ST), whose accuracy on pairs
it has not seen is .5 for equal distributions; one that forgets the determinant is found out.
"""

import pytest
import torch
from torch import Tensor, nn

from latens.distributions import diagonal_normal, draw
from latens.inference.samplers import HMC, NUTS, Kernel
from latens.nets.flows import AffineFlow
from stand_ins.sampling import sample

DIM, SENSORS, NOISE = 6, 8, 0.3
CHAINS, KEPT, SPACING = 100, 40, 3


class Problem:
    """tanh of a mixture of latents, measured with noise, under a bent prior."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        flow = AffineFlow(couplings=4, width=24).refinement(DIM).double()
        with torch.no_grad():
            for parameter in flow.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(1.4 * noise / max(1, parameter.shape[-1]) ** 0.5)
        zero, one = torch.zeros(1, DIM).double(), torch.ones(1, DIM).double()
        self.prior = flow(diagonal_normal(zero, one, 1))
        self.mixing = torch.randn(DIM, SENSORS, generator=generator, dtype=torch.float64) / 2
        hidden = self.inverse(torch.randn(1, DIM, generator=generator, dtype=torch.float64))
        spread = torch.randn(1, SENSORS, generator=generator, dtype=torch.float64)
        self.y = (torch.tanh(hidden @ self.mixing) + NOISE * spread).detach()

    def inverse(self, z: Tensor) -> Tensor:
        return draw(self.prior, z[:, None])[:, 0]

    def fit(self, beta: Tensor) -> Tensor:
        residual = self.y - torch.tanh(beta @ self.mixing)
        return -0.5 * (residual / NOISE).square().sum(-1)

    def in_beta(self, beta: Tensor) -> Tensor:
        return self.prior.log_prob(beta[:, None])[:, 0] + self.fit(beta)

    def in_z(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1) + self.fit(self.inverse(z))

    def without_determinant(self, beta: Tensor) -> Tensor:
        z, _ = self.prior.whitening.call_and_ladj(beta[:, None])
        return -0.5 * z[:, 0].square().sum(-1) + self.fit(beta)


def draws(density, kernel: Kernel, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(CHAINS, DIM, generator=generator, dtype=torch.float64)
    run = sample(density, start, kernel, draws=KEPT * SPACING, warmup=200, seed=seed)
    assert run.diagnoses[0].frozen_chains == 0
    return run.draws[SPACING - 1 :: SPACING].flatten(0, 1)


def accuracy(first: Tensor, second: Tensor) -> float:
    """Of a classifier, on chains that it has not seen; 5 folds."""
    torch.manual_seed(0)
    x = torch.cat([first, second]).float()
    label = torch.cat([torch.zeros(len(first)), torch.ones(len(second))])
    x = (x - x.mean(0)) / x.std(0)
    fold = torch.arange(len(x)) % CHAINS % 5  # all draws of a chain are in one fold
    right = 0.0
    for k in range(5):
        net = nn.Sequential(nn.Linear(DIM, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        net.append(nn.Linear(64, 1))
        optimiser = torch.optim.AdamW(net.parameters(), lr=0.003, weight_decay=0.01)
        seen, here = x[fold != k], label[fold != k]
        for _ in range(30):
            for rows in torch.randperm(len(seen)).split(256):
                loss = nn.functional.binary_cross_entropy_with_logits(
                    net(seen[rows])[:, 0], here[rows]
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            guess = net(x[fold == k])[:, 0] > 0
        right += float((guess == (label[fold == k] > 0.5)).sum())
    return right / len(x)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [HMC(), NUTS(max_depth=6)], ids=["hmc", "nuts"])
def test_both_coordinates_give_one_posterior(kernel):
    problem = Problem()
    with torch.no_grad():
        beta = draws(problem.in_beta, kernel, 0)
        mapped = problem.inverse(draws(problem.in_z, kernel, 1))
        wrong = draws(problem.without_determinant, kernel, 2)
    assert abs(accuracy(beta, mapped) - 0.5) < 0.03
    assert accuracy(beta, wrong) > 0.54
