"""The integrators: reversible, volume-preserving, of second order; compiled or not."""

import shutil
import warnings

import pytest
import torch

from latens.errors import ShapeError
from latens.inference.samplers import LEAPFROG, TWO_STAGE
from latens.inference.samplers.integrator import Hamiltonian, Phase
from latens.inference.samplers.metric import Metric

INTEGRATORS = {"leapfrog": LEAPFROG, "two stage": TWO_STAGE}


def twisted(x):
    """A density with curvature, and no symmetry."""
    return -0.5 * x[:, 0].square() - (x[:, 1] - x[:, 0].square()).square() - 0.1 * x[:, 1].cos()


def dense_metric():
    factor = torch.tensor([[[1.3, 0.0], [0.4, 0.7]]], dtype=torch.float64)
    return Metric(factor)


def start(hamiltonian, chains=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, chains, 2, generator=generator, dtype=torch.float64)
    r = torch.randn(1, chains, 2, generator=generator, dtype=torch.float64)
    return hamiltonian.evaluate(x).with_momentum(r)


def travel(hamiltonian, phase, steps, size, metric):
    for _ in range(steps):
        step = torch.full(phase.log_density.shape, size, dtype=torch.float64)
        phase = hamiltonian.step(phase, step, metric)
    return phase


@pytest.mark.parametrize("integrator", INTEGRATORS.values(), ids=INTEGRATORS)
@pytest.mark.parametrize(
    "metric", [Metric.identity(1, 2, torch.zeros(0).double()), dense_metric()]
)
class TestEveryIntegrator:
    def test_is_reversible(self, integrator, metric):
        hamiltonian = Hamiltonian(twisted, integrator)
        begin = start(hamiltonian)
        end = travel(hamiltonian, begin, 7, 0.1, metric)
        assert (end.position - begin.position).abs().max() > 0.1
        for back in (
            travel(hamiltonian, end.with_momentum(-end.momentum), 7, 0.1, metric),
            travel(hamiltonian, end, 7, -0.1, metric),
        ):
            torch.testing.assert_close(back.position, begin.position, rtol=0, atol=1e-12)

    def test_keeps_volume(self, integrator, metric):
        hamiltonian = Hamiltonian(twisted, integrator)
        begin = start(hamiltonian, chains=1)

        def flow(flat):
            x, r = flat[None, None, :2], flat[None, None, 2:]
            phase = hamiltonian.evaluate(x).with_momentum(r)
            end = travel(hamiltonian, phase, 3, 0.2, metric)
            return torch.cat([end.position, end.momentum], -1)[0, 0]

        point = torch.cat([begin.position, begin.momentum], -1)[0, 0]
        width = 1e-5
        columns = [
            (flow(point + width * e) - flow(point - width * e)) / (2 * width)
            for e in torch.eye(4, dtype=torch.float64)
        ]
        assert abs(torch.linalg.det(torch.stack(columns, 1)) - 1) < 1e-8

    def test_energy_error_is_of_second_order(self, integrator, metric):
        hamiltonian = Hamiltonian(twisted, integrator)
        begin = start(hamiltonian)
        errors = [
            (travel(hamiltonian, begin, n, 0.4 / n, metric).energy - begin.energy).abs().sum()
            for n in (16, 32, 64)
        ]
        assert 3.8 < errors[0] / errors[1] < 4.2
        assert 3.9 < errors[1] / errors[2] < 4.1

    def test_chains_with_step_zero_rest(self, integrator, metric):
        hamiltonian = Hamiltonian(twisted, integrator)
        begin = start(hamiltonian)
        step = torch.tensor([[0.1, 0.0, 0.1]], dtype=torch.float64)
        end = hamiltonian.step(begin, step, metric)
        rested = (end.position == begin.position).all(-1) & (end.momentum == begin.momentum).all(
            -1
        )
        assert rested.tolist() == [[False, True, False]]


def test_two_stage_loses_less_energy_for_as_many_gradients():
    """A Gaussian with steps close to the stability limit, where samplers work."""

    def normal(x):
        return -0.5 * x.square().sum(-1)

    lost = {}
    for name, integrator in INTEGRATORS.items():
        hamiltonian = Hamiltonian(normal, integrator)
        generator = torch.Generator().manual_seed(1)
        x, r = torch.randn(2, 1, 4000, 2, generator=generator, dtype=torch.float64)
        begin = hamiltonian.evaluate(x).with_momentum(r)
        gradients = integrator.gradients
        end = travel(hamiltonian, begin, 4 // gradients, 0.5 * gradients, Metric.identity(1, 2, x))
        lost[name] = float((end.energy - begin.energy).square().mean())
    assert lost["two stage"] < 0.6 * lost["leapfrog"]


def test_counts_gradients():
    for integrator in INTEGRATORS.values():
        hamiltonian = Hamiltonian(twisted, integrator)
        phase = start(hamiltonian)
        travel(hamiltonian, phase, 5, 0.1, dense_metric())
        assert hamiltonian.gradients == 1 + 5 * integrator.gradients


def test_values_that_are_not_finite_become_minus_infinity():
    values = iter([float("nan"), float("inf"), float("-inf"), 2.0])

    def density(x):
        return x.sum(-1) * 0 + torch.tensor([next(values) for _ in range(4)]).double()

    phase = Hamiltonian(density).evaluate(torch.zeros(1, 4, 2, dtype=torch.float64))
    assert phase.log_density.tolist() == [[-torch.inf, -torch.inf, -torch.inf, 2.0]]


@pytest.mark.parametrize("wrong", [lambda x: x.sum(), lambda x: x, lambda x: x[:2].sum(-1)])
def test_refuses_densities_of_another_shape(wrong):
    with pytest.raises(ShapeError, match="log_density"):
        Hamiltonian(wrong).evaluate(torch.zeros(1, 4, 2))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_step_is_one_graph_and_gives_the_same():
    compiled, eager = Hamiltonian(twisted, compiled=True), Hamiltonian(twisted)
    begin = start(eager)
    step = torch.full((1, 3), 0.1, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the compiler itself
        end = compiled.step(begin, step, dense_metric())
    assert compiled.is_compiled  # `fullgraph`: a break would have raised
    expected = eager.step(begin, step, dense_metric())
    for name in ("position", "momentum", "log_density", "gradient"):
        torch.testing.assert_close(getattr(end, name), getattr(expected, name))


def test_without_a_compiler_it_warns_once_and_goes_on(monkeypatch):
    failure = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})

    def broken(function, **options):
        def step(*arguments):
            raise failure("no C++ compiler")

        return step

    monkeypatch.setattr(torch, "compile", broken)
    hamiltonian = Hamiltonian(twisted, compiled=True)
    begin = start(hamiltonian)
    step = torch.full((1, 3), 0.1, dtype=torch.float64)
    with pytest.warns(UserWarning, match="goes on without it"):
        end = hamiltonian.step(begin, step, dense_metric())
    assert not hamiltonian.is_compiled
    again = hamiltonian.step(begin, step, dense_metric())  # a second warning would be an error
    torch.testing.assert_close(end.position, again.position)


def test_errors_of_the_density_are_not_taken_for_a_missing_compiler(monkeypatch):
    def raising(function, **options):
        def step(*arguments):
            raise ValueError("of the density")

        return step

    monkeypatch.setattr(torch, "compile", raising)
    hamiltonian = Hamiltonian(twisted, compiled=True)
    begin = start(hamiltonian)
    with pytest.raises(ValueError, match="of the density"):
        hamiltonian.step(begin, torch.zeros(1, 3).double(), dense_metric())


def test_a_recorded_step_may_overwrite_its_memory(monkeypatch):
    """A stand-in of a CUDA graph: it returns the same tensors every time."""
    asked = {}

    def recorded(function, **options):
        asked.update(options)
        memory: list[torch.Tensor] = []

        def step(*arguments):
            made = function(*arguments)
            if not memory:
                memory.extend(torch.empty_like(value) for value in made)
            return tuple(own.copy_(value) for own, value in zip(memory, made, strict=True))

        return step

    monkeypatch.setattr(torch, "compile", recorded)
    eager, graph = Hamiltonian(twisted), Hamiltonian(twisted, compiled=True, device="cuda")
    assert asked["mode"] == "reduce-overhead"
    step = torch.full((1, 3), 0.1, dtype=torch.float64)
    first = graph.step(start(eager), step, dense_metric())
    kept = eager.step(start(eager), step, dense_metric())
    graph.step(first, step, dense_metric())
    for name in ("position", "momentum", "log_density", "gradient"):
        torch.testing.assert_close(getattr(first, name), getattr(kept, name))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_gives_the_same_as_single_operations():
    eager = Hamiltonian(twisted)
    graph = Hamiltonian(twisted, compiled=True, device="cuda")
    generator = torch.Generator().manual_seed(0)
    x, r = torch.randn(2, 1, 3, 2, generator=generator, dtype=torch.float64).cuda()
    begin = eager.evaluate(x).with_momentum(r)
    step = torch.full((1, 3), 0.1, dtype=torch.float64, device="cuda")
    metric = Metric(dense_metric().factor.cuda())
    found, expected = [begin], [begin]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the compiler itself
        for _ in range(5):  # the first steps warm up and record, the later ones replay
            found.append(graph.step(found[-1], step, metric))
            expected.append(eager.step(expected[-1], step, metric))
    assert graph.is_compiled
    for own, other in zip(found, expected, strict=True):
        for name in ("position", "momentum", "log_density", "gradient"):
            torch.testing.assert_close(getattr(own, name), getattr(other, name))


def test_energy_of_a_phase():
    phase = Phase(
        torch.zeros(1, 1, 2),
        torch.tensor([[[3.0, 4.0]]]),
        torch.tensor([[2.0]]),
        torch.zeros(1, 1, 2),
    )
    assert phase.energy.tolist() == [[10.5]]
