"""A tiny run of `semisup` from the command line: units, tables, report, twin, classification."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from latens.cli import main
from latens.data import Digits
from latens.errors import ConfigError
from latens.models.mixture import MixtureVAE
from latens.nets.components import ConvTrunk, DenseTrunk
from latens.nets.scale import FixedScale, PerImageScale
from latens.reporting.facts import number
from latens.store import ACTIVE, METRICS, OVERVIEW, RunFolder, read_csv, read_table
from latens.studies.configure import construct, load_layers, resolve
from latens.studies.semisup.overview import settings_of
from latens.studies.semisup.reading import SUSPICIOUS, in_order, load_classifier
from latens.studies.semisup.study import Semisup, with_twins
from latens.studies.semisup.units import units_of
from stand_ins.tiny_study import leftovers, tables, units

SMALL = [
    "--models.per_image.width=8",
    "--models.per_image.features=32",
    "--models.per_image.dim=4",
    "--models.per_image.decoder.width=32",
    "--labels=[20,40]",
    "--data_seeds=2",
    "--test_images=200",
    "--validation_images=100",
    "--sampled_images=4",
    "--training.max_steps=50",
    "--training.batch_size=32",
    "--training.kl_warmup_steps=10",
    "--training.warmup_steps=5",
    "--training.validate_every=25",
]


def arguments(out: Path, *more: str) -> list[str]:
    return ["run", "semisup", "--out", str(out), "--jobs", "1", *SMALL, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("semisup") / "run"
    assert main(arguments(out)) == 0
    return out


def test_every_cell_is_there_once(finished):
    metrics = read_table(finished / "tables", METRICS)
    accuracy = metrics[metrics["metric"] == "accuracy"]
    cells = accuracy[["solver", "n", "data_seed"]].to_numpy().tolist()
    expected = [["per_image", n, seed] for n in (20, 40) for seed in (0, 1)]
    assert sorted(cells) == expected + [["per_image_twin", *cell[1:]] for cell in expected]
    assert (accuracy["value"] > 0.5).all()  # a tenth by chance
    assert (
        (accuracy["lower"] < accuracy["value"]) & (accuracy["value"] < accuracy["upper"])
    ).all()


def test_twins_share_labels_and_differ_in_sigma(finished):
    metrics = read_table(finished / "tables", METRICS).set_index(["solver", "n", "data_seed"])
    run = RunFolder.open(finished)
    fits = [json.loads((run.fit(h) / "fit.json").read_text()) for h in run.finished_fits()]
    by_name = {(f["name"], f["n"], f["data_seed"]): f for f in fits}
    for n, seed in product((20, 40), (0, 1)):
        own, twin = by_name["per_image", n, seed], by_name["per_image_twin", n, seed]
        assert own["labelled"] == twin["labelled"]
        assert len(own["labelled"]) == n
    ratio = metrics[metrics["metric"] == "rmse_over_twin"]
    assert sorted(ratio.index.tolist()) == [("per_image", n, s) for n in (20, 40) for s in (0, 1)]
    rmse = metrics[metrics["metric"] == "rmse"]["value"]
    for cell in product((20, 40), (0, 1)):
        expected = rmse["per_image", *cell] / rmse["per_image_twin", *cell]
        assert ratio["value"]["per_image", *cell] == pytest.approx(expected)
    sigma = metrics[metrics["metric"] == "sigma_error"]["value"]
    assert sigma["per_image_twin", 20, 0] == 0
    assert sigma["per_image", 20, 0] != 0


def test_a_second_start_computes_nothing(finished, without_report, capsys):
    before = (finished / "tables" / "metrics.csv").read_bytes()
    cost = (finished / "cost.csv").read_bytes()
    assert main(arguments(finished)) == 0
    assert (finished / "tables" / "metrics.csv").read_bytes() == before
    assert (finished / "cost.csv").read_bytes() == cost
    assert "accuracy" in capsys.readouterr().out


def test_the_report_names_what_was_measured(finished):
    page = (finished / "report.html").read_text()
    for words in ("Effective components", "Classes covered", "Information in z"):
        assert words in page
    for words in ("Decoded, and its images", "How certain?", "Does σ know the error?", "labels N"):
        assert words in page
    for words in ("Trust card", "Scaling laws", "How stable?", "raining samples", "operator"):
        assert words not in page
    assert "Models beside each other" in page
    assert "Chosen labels" not in page
    overview = read_csv(finished / "overview.csv", OVERVIEW).set_index(["solver", "labels"])
    assert overview.loc[("per_image", 40), "objective"] == "faithful"
    assert overview.loc[("per_image_twin", 20), "scale"] == "shared"
    assert (overview["minutes"] > 0).all()
    assert f">{overview.loc[('per_image', 40), 'accuracy']:.3g}<" in page
    assert page.count('class="montage"') == 20  # ten components of the model and of its twin
    for name in ("components", "latent_maps", "reliability", "certainty", "sigma_of_class"):
        assert (finished / "figures" / f"{name}.svg").stat().st_size > 1000


def test_labels_never_reach_the_images_that_are_not_drawn(finished):
    """Without a graph that carries them further, a fit sees exactly the drawn labels."""
    layers = [*load_layers("semisup", [], []), {"propagation": None}]
    config = with_twins(resolve(Semisup, layers, SMALL))
    study = construct(Semisup, config)
    rows = study.rows(20, 1)
    _, known = study.training_pair(rows)
    assert (known >= 0).sum() == 20
    assert (study.corpus.validation_pair()[1] == -1).all()
    together = np.concatenate([study.corpus.train, study.corpus.validation])
    assert len(set(together.tolist())) == len(together)
    assert len(together) + len(study.corpus.test) == 1797
    fits, _ = units_of(study, config)
    assert len({fit.hash for fit in fits}) == len(fits) == 8


def test_new_images(finished, tmp_path, capsys):
    images = Digits().load()
    np.savez(tmp_path / "new.npz", images=(255 * images.x[:5, 0]).round().byte().numpy())
    assert main(["reconstruct", str(finished), str(tmp_path / "new.npz")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "new" / "classes.json").read_text())
    for row in result["images"]:
        words = f"image {row['image']}: class {row['class']}, probability {row['probability']:.3f}"
        assert words in printed
    assert [row["image"] for row in result["images"]] == list(range(5))
    assert result["labels"] == 40
    classifier = load_classifier(finished)
    expected = classifier(images.x[:5])
    saved = np.load(tmp_path / "new" / "probability.npy")
    np.testing.assert_allclose(saved, expected["probability"], atol=5e-3)
    right = classifier(images.x)["class"] == np.array(images.labels)
    assert right.mean() > 0.5


def test_strange_images_are_flagged_and_refused(finished, tmp_path, capsys):
    strange = np.indices((6, 8, 8)).sum(0) % 2.0  # checkerboards
    np.save(tmp_path / "strange.npy", strange)
    code = main(["reconstruct", str(finished), str(tmp_path / "strange.npy"), "--gate"])
    assert code == 4
    assert capsys.readouterr().out.count("unlike the training set") == 6
    assert json.loads((tmp_path / "strange" / "classes.json").read_text())["refused"]


def test_sixty_usual_images_are_enough_to_flag_strange_ones(finished):
    """By counts alone no tail is below 1/61; usual images stay unflagged."""
    classifier = load_classifier(finished)
    few = replace(classifier, usual=classifier.usual[:60])
    strange = torch.from_numpy(np.indices((6, 1, 8, 8)).sum(0) % 2.0).float()
    assert (few(strange)["tail"] <= SUSPICIOUS).all()
    tails = few(Digits().load().x)["tail"]
    assert (tails <= SUSPICIOUS).mean() < 0.1
    assert abs(np.median(tails) - 0.5) < 0.2


def test_the_first_model_of_the_configuration_comes_first():
    names = {"nll_twin", "nll bald", "beta_nll", "nll"}
    assert in_order(names, ["nll", "beta_nll", "nll_twin"]) == [
        *("nll", "beta_nll", "nll bald", "nll_twin")
    ]


def test_rounds_of_active_learning(finished, capsys):
    more = ["--acquisitions=[random,bald]", "--rounds=[10,14,18]", "--labels=[20]"]
    config = with_twins(resolve(Semisup, load_layers("semisup", [], []), [*SMALL, *more]))
    _, evaluations = units_of(construct(Semisup, config), config)
    rounds = [(u.solver, u.n, u.data_seed) for u in evaluations if " " in u.solver]
    names = ("per_image random", "per_image bald")
    assert sorted(rounds) == sorted(product(names, (10, 14, 18), (0, 1)))
    assert main(arguments(finished, *more, "--data_seeds=1")) == 0
    run = RunFolder.open(finished)
    metrics = read_table(finished / "tables", METRICS)
    accuracy = metrics[metrics["metric"] == "accuracy"].set_index(["solver", "n", "data_seed"])
    for acquisition in ("random", "bald"):
        seen: set[int] = set()
        for n in (10, 14, 18):
            row = accuracy.loc[(f"per_image {acquisition}", n, 0)]
            evaluation = run.evaluation(row["evaluation"]) / "evaluation.json"
            (hash,) = json.loads(evaluation.read_text())["fits"]
            labelled = json.loads((run.fit(hash) / "fit.json").read_text())["labelled"]
            assert len(set(labelled)) == n
            assert seen < set(labelled)
            seen = set(labelled)
    page = (finished / "report.html").read_text()
    gained = read_table(finished / "tables", ACTIVE)
    assert gained[["acquisition", "n"]].to_numpy().tolist() == [
        [a, n] for a in ("bald", "random") for n in (10, 14, 18)
    ]
    assert "Chosen labels" in page
    for value in gained["value"]:
        assert f'<span class="value">{number(float(value))}</span>' in page
    starts = [accuracy.loc[(f"per_image {a}", 10, 0)]["value"] for a in ("random", "bald")]
    assert starts[0] == starts[1]
    classifier = load_classifier(finished)  # fits of the earlier configuration lie beside it
    assert (classifier.name, classifier.labels) == ("per_image", 20)


KILLED_BETWEEN_ROUNDS = """
import os, signal, sys
import latens.studies.semisup.work as work
whole = work.rows_of_round
def rows_of_round(study, run, unit, model):
    if unit.n == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(study, run, unit, model)
work.rows_of_round = rows_of_round
from latens.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_killed_between_rounds_goes_on_where_it_was(tmp_path, without_report):
    more = [
        *("--acquisitions=[uncertainty]", "--rounds=[10,12,14,16]", "--labels=[20]"),
        *("--data_seeds=1", "--twin_draws=0", "--training.max_steps=8"),
        *("--training.validate_every=4", "--training.kl_warmup_steps=4"),
    ]
    out, whole = tmp_path / "run", tmp_path / "whole"
    argv = [sys.executable, "-c", KILLED_BETWEEN_ROUNDS, *arguments(out, *more)]
    killed = subprocess.run(argv, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = {file: file.stat().st_mtime_ns for file in (out / "fits").glob("*/fit.json")}
    assert sorted(json.loads(file.read_text())["n"] for file in before) == [10, 12, 20]
    assert main(arguments(out, *more, "--jobs", "2")) == 0  # where a round waits for the last one
    assert main(arguments(whole, *more)) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert tables(out) == tables(whole)
    assert units(out).keys() == units(whole).keys()
    assert [file.suffix for file in leftovers(out)] == [".npz"]  # the graph alone


def test_a_table_of_chosen_labels_goes_with_its_configuration(tmp_path, without_report):
    more = [
        *("--labels=[20]", "--data_seeds=1", "--twin_draws=0", "--training.max_steps=8"),
        *("--training.validate_every=4", "--training.kl_warmup_steps=4", "--rounds=[10,12]"),
    ]
    file = tmp_path / "run" / "tables" / "active.csv"
    assert main(arguments(tmp_path / "run", *more, "--acquisitions=[random]")) == 0
    assert file.is_file()
    assert main(arguments(tmp_path / "run", *more)) == 0
    assert not file.exists()


def test_twins_follow_their_model():
    config = with_twins(resolve(Semisup, load_layers("semisup", [], []), SMALL))
    assert with_twins(config) == config
    config["models"]["per_image"]["init_args"]["dim"] = 7
    twin = with_twins(config)["models"]["per_image_twin"]["init_args"]
    assert twin["dim"] == 7
    assert twin["decoder"]["likelihood"] == "shared"
    config["models"]["per_image"]["init_args"]["decoder"]["likelihood"] = "fixed"
    assert list(with_twins(config)["models"]) == ["per_image"]


@pytest.mark.parametrize("sigma", ["per_image", "per_pixel"])
@pytest.mark.parametrize("objective", ["nll", "beta_nll", "faithful"])
def test_every_model_whose_sigma_varies_has_a_twin(sigma, objective):
    more = [
        f"--models.per_image.decoder.likelihood={sigma}",
        f"--models.per_image.terms.likelihood={objective}",
        *("--labels=[20]", "--twin_draws=2"),
    ]
    config = with_twins(resolve(Semisup, load_layers("semisup", [], []), [*SMALL, *more]))
    own, twin = (config["models"][name]["init_args"] for name in ("per_image", "per_image_twin"))
    assert twin["decoder"].pop("likelihood") == "shared"
    assert twin["terms"].pop("likelihood") == "nll"
    assert own["decoder"].pop("likelihood") == sigma
    assert own["terms"].pop("likelihood") == objective
    assert own == twin


def test_names_that_tables_would_misread():
    for name in ("a b", "nll_twin"):
        with pytest.raises(ConfigError, match="Rename"):
            Semisup(Digits(), {name: MixtureVAE})  # pyright: ignore[reportArgumentType]


def lines_of_the_docs() -> list[tuple[str, ...]]:
    """Rows of the table of the eight classic variants: trunk, component, σ and the line."""
    text = (Path(__file__).parents[2] / "docs" / "semisup.md").read_text("utf-8")
    return re.findall(r'^\| (\w+) \| ([\w ]+) \| ([\w ]+) \| `"(\{.*\})"` \|$', text, re.M)


def test_each_of_the_eight_classic_variants_is_one_line():
    words = {"not seen": False, "aware": True, "fixed": FixedScale, "per image": PerImageScale}
    trunks = {"dense": DenseTrunk, "conv": ConvTrunk}
    found = lines_of_the_docs()
    combinations = product(trunks, ("not seen", "aware"), ("fixed", "per image"))
    assert [row[:3] for row in found] == list(combinations)
    for trunk, component, sigma, line in found:
        more = [f"--models.per_image.decoder={line}"]
        config = resolve(Semisup, load_layers("semisup", [], []), more)
        decoder = construct(Semisup, config).build("per_image").decoder
        assert isinstance(decoder.trunk, trunks[trunk])
        assert decoder.aware == words[component]
        assert isinstance(decoder.scale, words[sigma])


@pytest.mark.parametrize(("twin_draws", "seeds"), [(None, [0, 1]), (1, [0]), (0, [])])
def test_twins_of_the_first_draws_or_of_all(twin_draws, seeds):
    more = [] if twin_draws is None else [f"--twin_draws={twin_draws}"]
    layers = load_layers("semisup", [], [])
    config = with_twins(resolve(Semisup, layers, [*SMALL, "--labels=[20]", *more]))
    fits, _ = units_of(construct(Semisup, config), config)
    assert [fit.data_seed for fit in fits if fit.name.endswith("_twin")] == seeds


def named(*more: str) -> tuple[list[str], list[str]]:
    """Hashes of fits and of evaluations of a configuration."""
    layers = load_layers("semisup", [], [])
    config = with_twins(resolve(Semisup, layers, [*SMALL, "--labels=[20]", *more]))
    units = units_of(construct(Semisup, config), config)
    return [u.hash for u in units[0]], [u.hash for u in units[1]]


@pytest.mark.parametrize("setting", ["--sampled_images=7", "--sampled_draws=9"])
def test_what_an_evaluation_samples_names_it_and_no_fit(setting):
    fits, evaluations = named()
    again, others = named(setting)
    assert fits == again
    assert not set(evaluations) & set(others)


def assert_the_table_is_complete(config):
    """Each of eight decoders, heteroscedastic ones with each objective and a twin."""
    settings = [settings_of(m) for k, m in config["models"].items() if not k.endswith("_twin")]
    found = Counter((s["trunk"], s["component"], s["scale"], s["objective"]) for s in settings)
    expected = [
        *product(("dense", "conv"), ("plain", "film"), ("fixed",), ("nll",)),
        *product(
            ("dense", "conv"),
            ("plain", "film"),
            ("per_image",),
            ("nll", "beta_nll", "faithful"),
        ),
    ]
    assert found == Counter(expected)
    assert sum(name.endswith("_twin") for name in config["models"]) == 12


@pytest.mark.parametrize("name", ["ablation", "objectives", "collapse", "terms"])
def test_presets_of_models(name):
    config = with_twins(resolve(Semisup, load_layers("semisup", [name], []), []))
    study = construct(Semisup, config)
    study.check_applicable()
    assert len(study.models) >= 4
    fits, evaluations = units_of(study, config)
    assert {unit.solver for unit in evaluations} <= set(study.models)
    if name == "ablation":
        assert_the_table_is_complete(config)
    if name == "objectives":  # the same twin stands beside all three
        assert len({fit.hash for fit in fits}) == len(fits) == 4
        assert len(evaluations) == 6


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 9, 9)), "shape"),
        (np.full((8, 8), 2.0), "[0, 1]"),
        (np.full((8, 8), np.nan), "[0, 1]"),
        (np.zeros((3, 2, 8, 8)), "shape"),
    ],
)
def test_files_that_are_no_such_images(finished, tmp_path, capsys, array, words):
    np.save(tmp_path / "bad.npy", array)
    assert main(["reconstruct", str(finished), str(tmp_path / "bad.npy")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def pixels(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of an npz file."""
    return arrays


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (pixels(pictures=np.zeros((2, 8, 8))), "images.npy"),
        (pixels(images=np.zeros((2, 7, 8))), "images of shape (1, 8, 8)"),
        (pixels(images=np.zeros((0, 8, 8))), "an empty array"),
        (pixels(images=np.full((2, 8, 8), np.nan)), "finite values in [0, 1]"),
        (pixels(images=np.full((2, 8, 8), np.inf)), "finite values in [0, 1]"),
        (pixels(images=np.full((2, 8, 8), -0.1)), "values from -0.1 to -0.1"),
        (pixels(images=np.full((2, 8, 8), 200)), "values from 200 to 200"),
        (pixels(images=np.zeros((2, 8, 8), complex)), "real numbers"),
        (pixels(images=np.full((2, 8, 8), "0")), "real numbers"),
        (pixels(images=np.full((2, 8, 8), None)), "intact"),
    ],
)
def test_archives_that_hold_no_such_images(finished, tmp_path, capsys, arrays, words):
    np.savez(tmp_path / "bad.npz", **arrays)
    assert main(["reconstruct", str(finished), str(tmp_path / "bad.npz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"latens: `{tmp_path / 'bad.npz'}`: expected ")
    assert words in line
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_damaged_archives(finished, tmp_path, capsys, content):
    (tmp_path / "bad.npz").write_bytes(content)
    assert main(["reconstruct", str(finished), str(tmp_path / "bad.npz")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--labels=[50,20]", "ascending"),
        ("--labels=[1790]", "labels"),
        ("--sampled_draws=0", "sampled_draws"),
        ("--models.per_image.decoder.likelihood=bernoulli", "likelihood"),
        ("--validation_images=1700", "validation_images"),
        ("--data=latens.data.Phantoms", "labels"),
        ("--models.per_image.terms.likelihood=wrong", "likelihood"),
        ("--models.per_image.decoder.trunk=wrong", "trunk"),
        ("--training.max_steps=5", "warmup_steps"),
        ("--models.per_image.componants=3", "components"),
        ("--models.per_image.terms.threshold=1.5", "terms.threshold"),
        ("--models.per_image.terms.usage=uniform", "usage"),
        ("--models.per_image.prior.unlocked=11", "prior.unlocked"),
        ("--models.per_image.prior.inference=sampled", "inference"),
        ("--models.per_image.features=0", "features"),
        ("--draw=sideways", "draw"),
        ("--acquisitions=[bald,margin]", "acquisitions"),
        ("--acquisitions=[bald,bald]", "each once"),
        ("--rounds=[20,10]", "ascending"),
    ],
)
def test_settings_at_fault(tmp_path, capsys, override, words):
    assert main(arguments(tmp_path / "run", override)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
