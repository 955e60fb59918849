"""Runs of a sampler: deterministic, interruptible, many problems at once, honest about failure."""

import arviz
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError, NumericalError, ShapeError
from latens.inference.samplers import HMC, NUTS, TWO_STAGE, Metric, RowsOfProblems, Sampling
from latens.inference.samplers.chains import chance_nested_rhat, chance_rhat
from latens.inference.samplers.kernels import IterationNoise
from latens.inference.samplers.warmup import choose
from latens.metrics import bulk_ess, nested_rhat, rhat
from stand_ins.sampling import sample

KERNELS = {
    "hmc": HMC(),
    "hmc two stage": HMC(integrator=TWO_STAGE),
    "nuts": NUTS(max_depth=6),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def starts(chains, dim, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(chains, dim, generator=generator, dtype=dtype)


def standard(x):
    return -0.5 * x.square().sum(-1)


def of_problems(chains):
    """Problem p is N(10 p, (p + 1)²) in every coordinate."""

    def density(x):
        p = torch.arange(len(x), device=x.device)[:, None] // chains
        return -0.5 * ((x - 10 * p) / (p + 1)).square().sum(-1)

    return density


@every_kernel
def test_problems_are_sampled_side_by_side(kernel):
    chains = sample(of_problems(16), starts(48, 2), kernel, draws=200, problems=3, warmup=150)
    assert chains.draws.shape == (200, 48, 2)
    for p in range(3):
        mean = chains.of_problems[:, :, p].mean((0, 1))
        std = chains.of_problems[:, :, p].std((0, 1))
        torch.testing.assert_close(
            mean, torch.full((2,), 10.0 * p).double(), atol=0.12 * (p + 1), rtol=0
        )
        torch.testing.assert_close(std, torch.full((2,), p + 1.0).double(), rtol=0.08, atol=0)
    assert chains.step_size[2] / chains.step_size[0] == pytest.approx(1, rel=0.35)  # whitened
    assert [d.frozen_chains for d in chains.diagnoses] == [0, 0, 0]


@every_kernel
def test_is_a_function_of_its_seed(kernel):
    options = {"draws": 20, "warmup": 30}
    first = sample(standard, starts(4, 3), kernel, seed=1, **options)
    second = sample(standard, starts(4, 3), kernel, seed=1, **options)
    other = sample(standard, starts(4, 3), kernel, seed=2, **options)
    assert torch.equal(first.draws, second.draws)
    assert not torch.equal(first.draws, other.draws)


@every_kernel
def test_a_problem_does_not_depend_on_its_neighbours(kernel):
    """Its random numbers are keyed; a diagonal metric keeps rounding per chain."""
    options = {"draws": 20, "warmup": 40, "metric": "diagonal"}
    both = sample(standard, starts(8, 3), kernel, problems=2, keys=[5, 9], **options)
    alone = sample(standard, starts(8, 3)[4:], kernel, keys=[9], **options)
    torch.testing.assert_close(both.draws[:, 4:], alone.draws, rtol=1e-6, atol=1e-6)


def test_chains_share_no_random_numbers_with_anything_else():
    """Iteration 2 had the noise of simulated measurements before chains had a purpose."""
    like = torch.zeros((), dtype=torch.float64)
    made = [row_noise((7, purpose), [3], (5,), like.dtype)[:, 0] for purpose in Purpose]
    made += [IterationNoise(7, i, [3], like).normal(5)[0] for i in range(12)]
    assert len({tuple(numbers.tolist()) for numbers in made}) == len(made)


@every_kernel
@pytest.mark.parametrize("stop", [3, 25, 41, 57])
def test_stopped_and_continued_is_uninterrupted(kernel, stop, tmp_path):
    def make():
        return Sampling(of_problems(4), starts(8, 3), kernel, problems=2, warmup=40)

    whole = make()
    whole.advance(70)
    first = make()
    first.advance(stop)
    save_file(first.state_dict(), tmp_path / "state.safetensors")
    second = make()
    second.load_state_dict(load_file(tmp_path / "state.safetensors"))
    second.advance(70 - stop)
    expected, found = whole.chains(), second.chains()
    for name in ("draws", "log_density", "energy", "acceptance", "divergent", "moved", "steps"):
        assert torch.equal(getattr(expected, name), getattr(found, name)), name
    assert (expected.warmup_gradients, expected.gradients) == (
        found.warmup_gradients,
        found.gradients,
    )


def test_a_state_of_another_run_is_refused():
    run = Sampling(standard, starts(4, 3), HMC(), warmup=10)
    other = Sampling(standard, starts(4, 3), HMC(), warmup=20)
    with pytest.raises(ConfigError, match="state"):
        other.load_state_dict(run.state_dict())


@every_kernel
def test_float32_is_kept(kernel):
    chains = sample(standard, starts(4, 3, dtype=torch.float32), kernel, draws=8, warmup=20)
    assert chains.draws.dtype == torch.float32
    assert chains.log_density.dtype == torch.float32


@every_kernel
def test_a_support_with_an_edge_is_respected(kernel):
    """Gamma(4): the log-density is NaN for x < 0; mean 4, variance 4."""

    def gamma(x):
        return 3 * x[:, 0].log() - x[:, 0]

    chains = sample(gamma, 1 + starts(64, 1).abs(), kernel, draws=300, warmup=100)
    assert (chains.draws > 0).all()
    assert abs(chains.draws.mean() - 4) < 0.12
    assert abs(chains.draws.var() - 4) < 0.5


def test_divergences_are_found_where_the_funnel_is_narrow():
    def funnel(x):
        return -x[:, 0].square() / 18 - 0.5 * (
            x[:, 1:].square().sum(-1) * torch.exp(-x[:, 0]) + 9 * x[:, 0]
        )

    chains = sample(funnel, starts(16, 10), HMC(target=0.7), draws=150, warmup=100)
    diagnosis = chains.diagnoses[0]
    assert not diagnosis.trusted
    assert chains.trouble.shape == (int(chains.divergent.sum()), 10)
    for draw, chain in chains.trouble_at.tolist():
        assert chains.divergent[draw, chain]


def test_a_healthy_run_is_trusted_and_a_bad_one_says_what_to_do():
    good = sample(standard, starts(8, 3), HMC(), draws=600, warmup=100).diagnoses[0]
    assert good.trusted
    assert good.warnings == ()

    def two_modes(x):
        return torch.logaddexp(-0.5 * (x - 20).square().sum(-1), -0.5 * (x + 20).square().sum(-1))

    apart = torch.cat([starts(8, 1) + 20, starts(8, 1) - 20])
    bad = sample(two_modes, apart, HMC(), draws=200, warmup=50).diagnoses[0]
    assert not bad.trusted
    assert "several modes" in bad.warnings[0]
    few = sample(standard, starts(4, 3), HMC(), draws=20, warmup=100).diagnoses[0]
    assert any("draw more" in text for text in few.warnings)


def test_what_r_hat_reaches_by_chance_is_known():
    """50 runs of independent draws of 30 quantities: one of twenty above, and none far below."""
    draws = starts(50 * 200 * 4, 30).reshape(50, 200, 4, 30)
    shares = []
    for run in draws:
        largest = rhat(run)
        worst = int(largest.argmax())
        size = bulk_ess(run[:, None, :, worst]).sum()  # of each chain by itself
        bound = chance_rhat(float(size), 200, 4, 30)
        shares.append((float(largest[worst]) - 1) / (bound - 1))
    above = sum(share > 1 for share in shares)
    assert above <= 8  # P(more) < .004 at .05
    assert sum(shares) / 50 > 0.4
    assert chance_rhat(float("nan"), 200, 4, 30) == 1.0


def test_too_few_draws_of_many_quantities_are_not_called_disagreement():
    diagnosis = sample(standard, starts(4, 200), HMC(), draws=200, warmup=100).diagnoses[0]
    assert 1.01 < diagnosis.rhat < diagnosis.chance
    assert "by chance" in diagnosis.warnings[0]
    assert "modes" not in diagnosis.warnings[0]


def short(start, *, warmup=20, draws=10, density=standard):
    """256 chains from 8 starts."""
    shared = start.repeat_interleave(32, 0)
    return sample(density, shared, HMC(), draws=draws, warmup=warmup, superchains=8)


def test_many_short_chains_forget_their_starts_and_are_trusted():
    chains = short(3 * starts(8, 5), warmup=30)
    diagnosis = chains.diagnoses[0]
    assert diagnosis.warnings == ()
    torch.testing.assert_close(
        chains.rhat[0, :5], nested_rhat(chains.draws, 8), rtol=1e-12, atol=0
    )
    last = chains.draws[-1]  # 256 independent draws: 5 σ of mean and variance
    assert last.mean(0).abs().max() < 5 / 16
    assert (last.var(0) - 1).abs().max() < 5 * (2 / 256) ** 0.5


def test_short_chains_that_remember_their_starts_say_so():
    def two_modes(x):
        return torch.logaddexp(-0.5 * (x - 20).square().sum(-1), -0.5 * (x + 20).square().sum(-1))

    apart = torch.cat([starts(4, 1) + 20, starts(4, 1) - 20])
    diagnosis = short(apart, density=two_modes).diagnoses[0]
    assert diagnosis.rhat > diagnosis.chance > 1
    assert "the chains disagree" in diagnosis.warnings[0]


def test_what_nested_r_hat_reaches_by_chance_is_known():
    """100 runs of independent draws of 20 quantities, 8 superchains of 16."""
    draws = starts(100 * 3 * 128, 20).reshape(100, 3, 128, 20)
    above = 0
    for run in draws:
        largest = nested_rhat(run, 8)
        worst = int(largest.argmax())
        above += float(largest[worst]) > chance_nested_rhat(run[:, :, worst], 8, 20)
    assert above <= 13  # P(more) < .001 at .05
    assert above >= 1  # P(none) = .006 at .05


@pytest.mark.parametrize(
    ("superchains", "start", "match"),
    [
        (8, starts(256, 2), "one point for the 32 chains"),
        (7, starts(1, 2).expand(256, 2), "2 or more"),
        (256, starts(256, 2), "2 or more"),
    ],
)
def test_superchains_share_their_starts(superchains, start, match):
    with pytest.raises(ConfigError, match=match):
        Sampling(standard, start, HMC(), superchains=superchains)


def test_chains_that_never_move_are_named():
    """A density so rough that nothing is accepted: every proposal is worse by far."""
    origin = starts(4, 2)

    def rough(x):
        return torch.where((x == origin).all(-1), 0.0, -1e6) + 0 * x.sum(-1)

    chains = sample(rough, origin, HMC(max_steps=2), draws=10, warmup=10)
    diagnosis = chains.diagnoses[0]
    assert diagnosis.frozen_chains == 4
    assert "never moved" in diagnosis.warnings[0]


def test_a_metric_to_begin_with_saves_warm_up():
    scale = torch.logspace(-2, 2, 6, dtype=torch.float64)

    def stretched(x):
        return -0.5 * (x / scale).square().sum(-1)

    cold = sample(stretched, starts(32, 6) * scale, HMC(), draws=10, warmup=60)
    warm = sample(
        stretched,
        starts(32, 6) * scale,
        HMC(),
        draws=10,
        warmup=60,
        initial_metric=Metric(scale[None]),
    )
    assert warm.warmup_gradients < cold.warmup_gradients / 2


def test_inference_data_has_names_dims_and_statistics():
    chains = sample(of_problems(4), starts(8, 3), HMC(), draws=12, problems=2, warmup=20)
    data = chains.to_inference_data("z", keys=[7, 11])
    assert dict(data.posterior.sizes) == {"chain": 4, "draw": 12, "problem": 2, "z_dim": 3}
    assert data.posterior.problem.values.tolist() == [7, 11]
    np.testing.assert_array_equal(
        data.posterior.z.sel(chain=1, problem=11).values, chains.draws[:, 5].numpy()
    )
    assert {"lp", "energy", "diverging", "acceptance_rate", "n_steps"} <= set(data.sample_stats)
    summary = arviz.summary(data, round_to="none")
    assert summary.shape[0] == 6
    np.testing.assert_allclose(
        summary["r_hat"].values.reshape(2, 3), chains.rhat[:, :3], rtol=1e-8
    )


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Sampling(standard, torch.zeros(3), HMC()), ShapeError),
        (lambda: Sampling(standard, starts(5, 2), HMC(), problems=2), ShapeError),
        (lambda: Sampling(standard, starts(4, 2), HMC(), keys=[1, 2]), ConfigError),
        (lambda: Sampling(standard, starts(4, 2), HMC(), warmup=-1), ConfigError),
        (lambda: Sampling(standard, starts(4, 2) / 0, HMC()), NumericalError),
        (lambda: Sampling(standard, starts(4, 2), HMC(), warmup=3).chains(), ConfigError),
        (lambda: sample(standard, starts(4, 2), HMC(), draws=0), ConfigError),
        (
            lambda: Sampling(
                standard, starts(4, 2), HMC(), initial_metric=Metric(torch.ones(1, 3))
            ),
            ShapeError,
        ),
        (lambda: HMC(target=1.0), ConfigError),
        (lambda: HMC(length=0), ConfigError),
        (lambda: HMC(jitter=1.2), ConfigError),
        (lambda: HMC(max_steps=0), ConfigError),
        (lambda: NUTS(target=0), ConfigError),
        (lambda: NUTS(max_depth=0), ConfigError),
    ],
)
def test_bad_arguments_are_refused(call, error):
    with pytest.raises(error):
        call()


def test_a_stuck_chain_goes_on_from_another_and_is_counted():
    """One start lies where the step size of all the others is hopeless."""

    def walled(x):
        return -0.5 * x.square().sum(-1) - torch.where(x[:, 0] > 30, 1e8 * x[:, 0], 0.0)

    start = starts(16, 2)
    start[3, 0] = 40.0
    chains = sample(walled, start, HMC(), draws=20, warmup=60)
    assert chains.restarted.tolist() == [1]
    assert chains.diagnoses[0].frozen_chains == 0
    assert chains.draws.abs().max() < 6


def test_which_chain_is_taken():
    allowed = torch.tensor([[False, True, True, False], [True, False, False, False]])
    uniform = torch.tensor([[0.0, 0.49, 0.51, 0.99], [0.0, 0.3, 0.6, 0.99]])
    assert choose(allowed, uniform).tolist() == [[1, 1, 2, 2], [0, 0, 0, 0]]


def test_problems_that_have_arrived_leave_the_batch():
    """The same chains as in full lockstep, for fewer gradients."""
    scales = torch.tensor([[0.05], [0.3], [0.4], [1.0], [2.0]], dtype=torch.float64)

    def normal(x, scale):
        return -0.5 * (x / scale).square().sum(-1)

    grouped = RowsOfProblems(normal, [scales], 3)
    plain = scales.repeat_interleave(3, 0)
    start = (
        scales.repeat_interleave(3, 0) * torch.linspace(-1, 1, 15, dtype=torch.float64)[:, None]
    )
    runs = [
        Sampling(density, start, HMC(), problems=5, warmup=0).run(30)
        for density in (grouped, lambda x: normal(x, plain))
    ]
    torch.testing.assert_close(runs[0].draws, runs[1].draws, rtol=1e-9, atol=1e-9)
    assert torch.equal(runs[0].steps, runs[1].steps)
    needed = runs[0].steps.unflatten(1, (5, 3))[:, :, 0].float()  # (S, P)
    assert needed.mean(1).sum() <= runs[0].gradients < runs[1].gradients
    assert runs[0].gradients <= needed.mean(1).sum() / 0.75  # a quarter of a batch may wait
