"""A study with samplers beside the amortised posterior, end to end."""

import itertools

import pandas as pd
import pytest
import torch

from latens import load
from latens.cli import main
from latens.inference import SAMPLERS, LatentChains, LatentLaplace
from latens.store import read_json
from latens.studies import expected
from latens.studies.configure import construct
from latens.studies.enumeration import units_of
from latens.studies.expected import expected_seconds, seconds_per_sampling
from latens.studies.scarcity import Scarcity
from stand_ins import tiny_study

SMALL = [
    *tiny_study.FEW_STEPS,
    *("--data.count", "80", "--sizes", "[20]", "--test_images", "12", "--baselines", "[]"),
    *("--samplers", "[map,laplace,hmc]", "--sampled_images", "3"),
]


def short_chains(*arguments):
    """HMC of fewer transitions than in a study."""
    return LatentChains(*arguments, draws=600, warmup=100)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samplers")
    config = tiny_study.write_config(folder / "models.yaml", tiny_study.ONE_LATENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SAMPLERS, "hmc", short_chains)
        assert tiny_study.run(config, folder / "r", 1, SMALL) == 0
    return folder / "r"


def test_every_sampler_is_in_the_tables(run):
    curves = pd.read_csv(run / "tables" / "curves.csv")
    assert set(curves["solver"]) == {"latent", "latent_map", "latent_laplace", "latent_hmc"}
    metrics = pd.read_csv(run / "tables" / "metrics.csv")
    images = metrics.groupby("solver")["images"].max()
    assert images["latent"] == 12
    assert images["latent_hmc"] <= 3


def test_the_gap_is_measured(run):
    metrics = pd.read_csv(run / "tables" / "metrics.csv")
    found = set(metrics.loc[metrics["solver"] == "latent_hmc", "metric"])
    assert {"gap_shift", "gap_w2", "gap_spread", "gap_kl", "gap_crps"} <= found
    assert "gap_w2" not in set(metrics.loc[metrics["solver"] == "latent", "metric"])
    assert (run / "report.html").is_file()


def test_the_sampled_images_are_spread_over_the_test_set(run):
    for folder in (run / "evaluations").iterdir():
        entry = read_json(folder / "evaluation.json")
        if entry["solver"] == "latent_hmc":
            table = pd.read_parquet(folder / "per_image.parquet")
            assert set(table["image"]) <= {0, 5, 11}


def test_a_sampler_can_be_loaded_and_used(run):
    loaded = load(run, "latent_laplace")
    assert isinstance(loaded.solver, LatentLaplace)
    posterior = loaded(torch.zeros(1, *loaded.measurement_shape))
    assert posterior.sample(3).shape == (3, 1, *loaded.signal_shape)


def test_samplers_need_a_latent_model(tmp_path, capsys):
    config = tmp_path / "models.yaml"
    config.write_text("models:\n  cvae:\n    class_path: latens.models.CVAE\n")
    out = tmp_path / "r"
    assert main(["run", "scarcity", "--config", str(config), *SMALL, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "samplers" in error
    assert "Latent" in error


def test_their_cost_is_foreseen(run, monkeypatch):
    """By a clock that moves on by .01 s whenever it is read: a busy machine changes nothing."""
    clock = itertools.count()
    monkeypatch.setattr(expected.time, "perf_counter", lambda: 0.01 * next(clock))
    config = read_json(run / "run.json")["config"]
    study = construct(Scarcity, config)
    fits, evaluations = units_of(study, config)
    without = [unit for unit in evaluations if unit.algorithm not in SAMPLERS]
    extra = expected_seconds(study, [*fits, *evaluations], 1)
    extra -= expected_seconds(study, [*fits, *without], 1)
    assert extra >= seconds_per_sampling(study, "latent", "hmc") > 0
    assert seconds_per_sampling(study, "latent", "hmc") > 4 * seconds_per_sampling(
        study, "latent", "map"
    )
