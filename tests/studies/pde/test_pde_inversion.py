"""What the ways are told, what is measured of them, and settings that end before a run begins."""

import json

import numpy as np
import pytest
import torch

from inference.fields.field_cases import operator_model, simulated, target_of
from latens.cli import main
from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError, DataError
from latens.inference import PointEstimate
from latens.inference.fields import FieldLaplace, FieldMAP, NoiseLevel
from latens.inference.fields.descent import FieldDescent, FieldDraw
from latens.inference.fields.errors import HeldOutErrors
from latens.inference.fields.solvers import prior_positions
from latens.store import Status
from latens.studies.pde.calibration import Ranks
from latens.studies.pde.invert import measured, noise_level
from latens.studies.pde.reconstruct import few_readings, noise_doubts, read_readings
from latens.studies.pde.reconstruct import noise_level as told
from latens.studies.pde.study import Inversion
from latens.studies.pde.systems import EITSystem
from studies.pde.tiny import SETTINGS


def test_a_sampled_noise_level_is_not_told_the_true_one():
    scale = torch.full((400,), 0.02, dtype=torch.float64)
    level = noise_level(scale, 0.7, list(range(400)), 0)
    off = (level.scale / scale).log()
    assert abs(float(off.mean())) < 3 * 0.7 / 20
    assert float(off.std()) == pytest.approx(0.7, rel=0.1)
    alone = noise_level(scale[:1], 0.7, [7], 0)
    assert alone.scale[0] == level.scale[7]
    assert torch.equal(noise_level(scale, 0.0, list(range(400)), 0).scale, scale)


def test_class_maps_without_the_class():
    """Three fields: neither has the upper class, only the truth has it, both are the same."""
    truth = torch.full((3, 1, 2, 2), 5.0)
    truth[1:, 0, 0] = 10.0
    guess = torch.full((3, 1, 2, 2), 6.0)
    guess[2, 0, 0] = 9.0
    estimate = PointEstimate(guess, Status.CONVERGED, {})
    found = measured(estimate, truth, (5.0, 10.0))
    assert found["i_corr"].tolist() == pytest.approx([1, 0, 1])
    assert found["dice"].tolist() == pytest.approx([1, 0, 1])


def test_draws_of_two_values_keep_probabilities_and_regions():
    """Pairs that are calibrated: a smooth field above a threshold, its probability decoded."""
    noise = NoiseStream(4).normal((4000, 1, 1), torch.float64)
    p = torch.tensor([0.1, 0.4, 0.5, 0.9, 0.95], dtype=torch.float64).expand(4000, 1, 5)
    chi = (torch.special.ndtr(noise) < p).double()  # one number decides all five nodes
    none = torch.zeros(0)
    errors = HeldOutErrors(5 * (chi - p), none, none, none, none, none)
    share = NoiseStream(5).uniform((4000,), torch.float64)
    rows = torch.arange(4000)
    levels = errors.thresholds(rows, share, torch.tensor(5.0))
    assert levels.min() >= 0
    assert levels.max() <= 1
    other = torch.tensor([0.2, 0.3, 0.5, 0.8, 0.6], dtype=torch.float64)
    drawn = (other > levels[:, 0]).double()
    assert (drawn.mean(0) - other).abs().max() < 4 * 0.5 / 4000**0.5 + 0.03
    together = torch.corrcoef(drawn[:, 1:3].mT)[0, 1]
    assert together > 0.5  # independent nodes would have none


@pytest.mark.parametrize("way", [FieldMAP, FieldLaplace])
def test_an_unknown_noise_level_is_estimated(way):
    """The highest point over latents and log σ is the highest over a grid of σ."""
    model = operator_model()
    y, _ = simulated(model, 1, 0.3)
    target = target_of(model, 0.15, spread=1.0)
    _, found = way(target).maximum(y, [0], 0)
    heights = []
    levels = torch.linspace(-2, 3, 51, dtype=torch.float64)
    for level in levels:
        fixed = target_of(model, float(0.15 * level.exp()))
        _, best = FieldMAP(fixed, start=found.position[:, None, :2], adam_steps=0).maximum(
            y, [0], 0
        )
        heights.append(float(best.log_density) - 0.5 * float(level) ** 2)
    highest = levels[max(range(51), key=heights.__getitem__)]
    assert abs(float(found.position[0, -1] - highest)) < 0.1


def test_the_best_draw_is_the_one_that_fits_best():
    model = operator_model()
    y, _ = simulated(model, 3, 0.1)
    target = target_of(model, 0.1)
    estimate = FieldDraw(target, draws=50)(y, keys=[4, 5, 6], seed=2)
    assert estimate.trusted is None
    w = prior_positions(target_of(model, 0.1, coordinates="beta")(y), 50, [4, 5, 6], 2)
    misfit = (target(y).predict(w.flatten(0, 1)).unflatten(0, (3, 50)) - y[:, None]).norm(dim=2)
    best = w[torch.arange(3), misfit.argmin(1)]
    torch.testing.assert_close(estimate.mean, model.decode(best).mean)


def test_descent_claims_nothing_of_itself():
    model = operator_model()
    y, _ = simulated(model, 2, 0.1)
    estimate = FieldDescent(target_of(model, 0.1))(y)
    assert estimate.trusted is None
    assert estimate.status == Status.CONVERGED


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"solvers": ["laplace"], "draws": 38}, "draws"),
        ({"solvers": ["hmc"], "solved": 38}, "solved"),
    ],
)
def test_fewer_draws_than_an_interval_needs(settings, argument):
    with pytest.raises(ConfigError, match=argument):
        Inversion(**settings)


def test_ways_reach_as_many_fields_as_they_may():
    settings = Inversion(
        solvers=["map", "laplace", "hmc", "corrected"], solver_fields=5, chain_fields=25, block=20
    )
    found = [(b.start, b.stop, ways) for b, ways in settings.blocks(settings.solvers, 60)]
    plain = ["map", "laplace"]
    assert found == [
        (0, 5, [*plain, "hmc", "corrected"]),
        (5, 25, [*plain, "hmc"]),
        (25, 45, plain),
        (45, 60, plain),
    ]
    assert [b.stop for b, _ in settings.blocks(["corrected"], 3)] == [3]


class Diagnosed:
    def __init__(self, trusted):
        self.trusted = torch.tensor(trusted)


@pytest.mark.parametrize(("wrong", "counted"), [(5, 25), (15, 30)])
def test_ranks_leave_out_what_is_not_trusted(wrong, counted):
    numbers = NoiseStream(2).normal((40, 30, 1), torch.float64)
    ranks = Ranks()
    for part in (slice(0, 10), slice(10, 30)):
        trusted = [k >= wrong for k in range(part.start, part.stop)]
        ranks.add("way", {"mean": numbers[:, part]}, Diagnosed(trusted))  # pyright: ignore
    ((way, tests),) = ranks.tests("model", 0)
    assert way == "way"
    assert len(tests.images) == counted
    assert tests.untrusted == wrong


def test_a_ratio_is_that_of_the_clean_readings():
    clean = torch.linspace(0.5, 1.5, 100_000, dtype=torch.float64)[None]
    size = float(clean.square().mean().sqrt())
    noise = NoiseStream(1, Purpose.SIMULATION).normal((1, 100_000), torch.float64)
    level = told(clean + size * 10**-0.25 * noise, None, 5.0)
    assert float(level.scale) == pytest.approx(size * 10**-0.25, rel=0.02)


def test_a_noise_level_that_swallows_the_readings_is_doubted():
    y = torch.ones(1, 50, dtype=torch.float64)
    prior = NoiseLevel(torch.tensor([0.01], dtype=torch.float64), 1.5)
    draws = torch.full((39, 1), 0.01, dtype=torch.float64)
    assert noise_doubts(2 * draws, prior, y) == []
    (loud,) = noise_doubts(20.05 * draws, prior, y)  # e³ = 20.09
    assert "σ is 20%" in loud
    words = noise_doubts(50 * draws, prior, y)
    assert len(words) == 2
    assert "2.6 standard deviations" in words[0]
    assert "50% of the readings" in words[1]
    assert "5 readings for 8 latents" in few_readings(5, 8)


def test_fluxes_are_of_every_pattern_at_every_node_once(tmp_path):
    class Study:
        system = EITSystem(8, 1, [1, 7])

    nodes = Study.system.sensors(0, 0).numpy()
    lines = [f"{p},{x},{y},{p + x}" for p in (1, 7) for x, y in nodes]
    file = tmp_path / "fluxes.csv"
    file.write_text("\n".join(["pattern,x,y,value", *lines]) + "\n")
    sensors, y = read_readings(file, Study)  # pyright: ignore
    assert y.shape == (1, 2 * len(sensors))
    np.testing.assert_allclose(y[0, len(nodes) :], 7 + nodes[:, 0])
    for broken, error, words in (
        ([*lines, lines[3]], DataError, f"line {len(lines) + 2}"),
        ([*lines[:-1], "8,0,0,1"], ConfigError, "one of 1, 7, got 8"),
        ([*lines[:-1], "7.5,0,0,1"], ConfigError, "one of 1, 7, got 7.5"),
        ([*lines[:-1], "7,0.5,0.5,1"], ConfigError, r"a node of the boundary.*got \(0.5, 0.5\)"),
        ([*lines[:-1], "7,0,1.5,1"], ConfigError, r"a node of the boundary.*got \(0, 1.5\)"),
        (lines[:-1], DataError, f"{len(lines)} fluxes, got {len(lines) - 1}"),
    ):
        file.write_text("\n".join(["pattern,x,y,value", *broken]) + "\n")
        with pytest.raises(error, match=words):
            read_readings(file, Study)  # pyright: ignore


def test_fluxes_of_a_finer_mesh_belong_to_the_same_nodes():
    plain, finer, finest = (EITSystem(9, refine, [1, 7]) for refine in (1, 2, 4))
    assert len(finer.sensors(0, 0)) == 32
    a = 1 + 0.5 * torch.linspace(0, 1, 9, dtype=torch.float64).expand(1, 1, 9, 9)
    y = [system.operator(system.sensors(0, 0))(a) for system in (plain, finer, finest)]
    assert y[1].shape == (1, 2, 32)
    assert (y[1] - y[2]).norm() < 0.5 * (y[0] - y[2]).norm() < 0.1 * y[2].norm()
    assert finer.solutions(a).shape == (1, 2, 9, 9)


SIGNED = {
    "class_path": "latens.data.field_families.GaussianFields",
    "init_args": {"boundary": "neumann", "axes": 2},
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--preset=eit", "--system.init_args.patterns=[21]"], "patterns"),
        (["--network.dim=1"], "dim"),
        (["--inversion.equation=true"], "`simulated`: expected 0"),
        (["--strange_fields=2", f"--strange={json.dumps(SIGNED)}"], "strange"),
        ([f"--family={json.dumps(SIGNED)}"], "`family`: expected positive fields"),
    ],
)
def test_bad_settings_leave_no_folder(settings, words, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["run", "pde", "--out", str(out), *SETTINGS, *settings]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()
