"""The rows of `semisup`: few labels, σ against its twin, strange images, active learning, NLL.

    python benchmarks/semisup.py --data FOLDER [--runs runs/semisup] [--only NAME …] [--list]

FOLDER holds `mnist/`, `fashion_mnist/` and `medmnist/`. Parts are independent; each is made of
fits that are kept under RUNS, so that a part that was stopped goes on where it was, and one that
is finished costs seconds. `--list` says what each part measures and what it takes of one core.
Rows go to `benchmarks/data/semisup.json`, beside them wall minutes: of all fits and evaluations,
or of the call for parts that are no study.
`--steps` and `--draws` shorten a part; the row says so. `--set KEY=VALUE` changes a setting of the
study of a part: `--only active --set "acquisitions=[typical]"` makes one chain.

A collapsed fit has true numbers: they are among the means, and `status` counts it.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from latens.data import IdxImages
from latens.data.propagation import poisson_potential
from latens.distributions import NoiseStream
from latens.evaluation.mixture import log_evidence, read
from latens.models.mixture import MixtureVAE
from latens.models.mixture_settings import Prior, Terms
from latens.nets.components import Decoder
from latens.store import ACTIVE, CURVES, RunFolder, read_table
from latens.studies.configure import construct, load_layers, resolve
from latens.studies.run import Estimate
from latens.studies.semisup.run import run_semisup
from latens.studies.semisup.study import Semisup
from latens.studies.units import Unit
from latens.training import Training, fit_model, one_thread
from latens.training.batches import Blocks, Pair, StepBatches

ROWS = Path(__file__).resolve().parent / "data" / "semisup.json"
PLAIN = Terms(supervised=0, invariance=0, pseudo_label=0)
BATCH = 128
Row = dict[str, Any]

METRICS = (
    "accuracy",
    "class_ece",
    "k_eff",
    "label_coverage",
    "information_component",
    "information_latent",
    "information_saturated",
    "kl_latent",
    "neg_elbo",
    "nll_sampled",
    "rmse",
    "rmse_over_twin",
    "nll_gain",
    "nll_gain_sampled",
    "sigma",
    "sigma_at_bounds",
    "sigma_coverage",
    "sigma_ece",
    "sigma_error",
    "ood_class",
    "ood_sigma",
    "ood_likelihood",
    "ood_combined",
)


@dataclass(frozen=True)
class Part:
    """Rows that belong together.

    Args:
        words: What is measured.
        minutes: Of one core, about, when nothing else runs on it.
        presets: Of `latens run semisup`; none for parts that are no study.
        settings: Overrides of the presets.
        steps: Optimiser steps.
        measure: What makes the rows of a part that is no study.
    """

    words: str
    minutes: float
    presets: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    steps: int = 0
    measure: "Callable[[Options, Part], list[Row]] | None" = None


@dataclass(frozen=True)
class Options:
    """Where data and runs lie, and what shortens a part."""

    data: Path
    runs: Path
    steps: int | None
    draws: int | None
    images: int
    settings: dict[str, str] = field(default_factory=dict)

    def budget(self, part: Part) -> int:
        """Optimiser steps of a part."""
        return part.steps if self.steps is None else self.steps


class Printer:
    """Prints what a study announces, and each finished unit."""

    def start(self, estimate: Estimate, units: int) -> None:
        """What is to be done."""
        print(f"  {units} units left, about {estimate.seconds / 60:.1f} min", flush=True)

    def advance(self, unit: Unit, status: str) -> None:
        """A unit is finished."""
        print(f"  {unit.kind} {unit.cell} {status}", flush=True)


def configured(options: Options, part: Part) -> dict[str, Any]:
    """Resolved configuration of the study of a part."""
    steps, presets = options.budget(part), list(part.presets)
    settings = dict(part.settings)
    if "breastmnist" in presets:
        settings["data.path"] = str(options.data / "medmnist" / "BreastMNIST.npz")
    elif "mnist" in presets:
        mnist = options.data / "mnist"
        settings["data.images"] = str(mnist / "train-images-idx3-ubyte.gz")
        settings["test.images"] = str(mnist / "t10k-images-idx3-ubyte.gz")
    if "fashion" in presets:
        sprite = options.data / "fashion_mnist" / "fashion-mnist-sprite.png"
        settings["strange.path"] = str(sprite)
    settings["training.max_steps"] = str(steps)
    if "collapse" not in presets:  # whose losses are compared as they are, β = 1 from the start
        settings["training.kl_warmup_steps"] = str(min(steps // 2, 300))
    settings["training.validate_every"] = str(max(steps // 6, 1))
    settings.setdefault("sampled_images", "10")
    if options.draws is not None:
        settings["data_seeds"] = str(options.draws)
    settings |= options.settings
    overrides = [f"--{key}={value}" for key, value in settings.items()]
    return resolve(Semisup, load_layers("semisup", presets, []), overrides)


def study_rows(options: Options, part: Part, name: str) -> tuple[list[Row], float]:
    """Run the study of a part; its numbers, and the minutes of all its units."""
    config = configured(options, part)
    finished = run_semisup(config, options.runs / name, name, 1, Printer())
    for place, outcome in finished.failures:
        print(f"  {outcome.status}: {place}: {outcome.message}")
    minutes = float(finished.run.read_costs()["seconds"].sum()) / 60
    compared = paired(finished.run) if config["acquisitions"] else []
    return _rows_of(finished.run, options.budget(part)) + compared, minutes


def paired(run: RunFolder) -> list[Row]:
    """Accuracy at the end of each chain of rounds minus that with drawn labels, draw by draw."""
    table = read_table(run.tables, ACTIVE)
    last = table["n"].max()
    return [
        {
            "paired": f"{row['acquisition']} at {last} labels minus {row['drawn']} drawn",
            "difference": [_plain(row[key]) for key in ("value", "lower", "upper")],
            "draws": row["data_seeds"],
        }
        for row in table.loc[table["n"] == last].to_dict("records")
    ]


def _rows_of(run: RunFolder, steps: int) -> list[Row]:
    table = read_table(run.tables, CURVES)
    rows = []
    for (solver, n), own in table.groupby(["solver", "n"], sort=True):
        row: Row = {"solver": solver, "labels": int(n), "steps": steps}
        row["status"] = str(own["status"].iloc[0])
        for metric in METRICS:
            found = own.loc[own["metric"] == metric]
            if len(found):
                cell = found.iloc[0]
                values = (cell["mean"], cell["lower"], cell["upper"])
                row[metric] = [_plain(value) for value in values]
                row["fits"] = int(cell["fits"])
        rows.append(row)
    return rows


def _plain(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def beliefs(options: Options, part: Part) -> list[Row]:
    """What the graph alone says of the training images of the study, before any is trained on."""
    study = construct(Semisup, configured(options, part))
    corpus, propagation = study.corpus, study.propagation
    classes = corpus.classes
    assert propagation is not None
    labels = np.asarray(corpus.images.labels)
    graph = propagation.kept_graph(corpus.images.x, options.runs / f"{part.presets[0]}-graph.npz")
    rows = []
    for count in study.labels:
        for draw in range(study.data_seeds):
            places = corpus.train[study.rows(count, draw)]
            potential = poisson_potential(
                graph, places, labels[places], classes, propagation.steps
            )
            believed = propagation.beliefs(graph, places, labels[places], classes)
            potential, believed = potential[corpus.train], believed[corpus.train]
            known = believed.any(1)
            right = believed.argmax(1) == corpus.labels
            rows.append(
                {
                    "labels": count,
                    "draw": draw,
                    "right": _plain((potential.argmax(1) == corpus.labels).mean()),
                    "believed": _plain(known.mean()),
                    "right of believed": _plain(right[known].mean()),
                }
            )
    return rows


def support_vectors(options: Options, part: Part) -> list[Row]:
    """Test accuracy of a support vector machine on the labelled images of each draw alone."""
    study = construct(Semisup, configured(options, part))
    corpus, rows = study.corpus, []
    x = np.asarray(corpus.images.x[corpus.train]).reshape(len(corpus.train), -1)
    test = np.asarray(corpus.test.x).reshape(len(corpus.test.x), -1)
    truth = np.asarray(corpus.test.labels)
    for count in (*study.labels, len(x)):
        found = []
        for draw in range(study.data_seeds):
            places = study.rows(count, draw) if count < len(x) else np.arange(count)
            machine = make_pipeline(StandardScaler(), SVC(C=3.0))
            machine.fit(x[places], corpus.labels[places])
            found.append(float((machine.predict(test) == truth).mean()))
        mean, spread = np.mean(found), np.std(found, ddof=1) / len(found) ** 0.5
        half = stats.t.ppf(0.975, len(found) - 1) * spread
        rows.append(
            {"labels": count, "accuracy": [_plain(v) for v in (mean, mean - half, mean + half)]}
        )
    return rows


class Binarised(LightningDataModule):
    """Grey images as chances of a black pixel, drawn anew in every step.

    Args:
        train: Grey images and unused labels.
        validation: The same; drawn once.
        settings: Budget.
        seed: Key of order and draws.
    """

    def __init__(self, train: Pair, validation: Pair, settings: Training, seed: int) -> None:
        super().__init__()
        self.train, self.settings, self.seed = train, settings, seed
        self.validation = (drawn(validation[0], seed, -1), validation[1])

    def train_dataloader(self) -> "Drawn":
        """The steps up to the next look at the validation images."""
        start = 0 if self.trainer is None else self.trainer.global_step
        stop = min(start + self.settings.validate_every, self.settings.max_steps)
        grey = StepBatches(*self.train, self.settings.batch_size, self.seed, start, stop)
        return Drawn(grey, self.seed)

    def val_dataloader(self) -> Blocks:
        """The validation images."""
        return Blocks(*self.validation, 500)


class Drawn:
    """Batches whose images are drawn from grey ones.

    Args:
        batches: The grey batches.
        seed: Key of the draws, beside the step.
    """

    def __init__(self, batches: StepBatches, seed: int) -> None:
        self.batches, self.seed = batches, seed

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        for step, (x, y) in enumerate(self.batches, self.batches.start):
            yield drawn(x, self.seed, step), y


def drawn(x: torch.Tensor, seed: int, step: int) -> torch.Tensor:
    """Binary images from chances."""
    return (NoiseStream(seed, 77, step + 1).uniform(x.shape) < x).to(x)


def vae(likelihood: str, latents: str = "standard", **bounds: float) -> MixtureVAE:
    """An ordinary VAE of dense layers: one component, 40 latents, layers of about 500 units."""
    torch.manual_seed(0)
    return MixtureVAE(
        (1, 28, 28),
        10,
        components=1,
        dim=40,
        decoder=Decoder("dense", "plain", likelihood, 500, **bounds),  # pyright: ignore
        prior=Prior(latents=latents, posterior="shared"),  # pyright: ignore
        terms=PLAIN,
        encoder="dense",
        latent_encoder="shared",
        width=28,
        features=500,
    )


def grey(options: Options) -> tuple[Pair, Pair, torch.Tensor]:
    """Training, validation and test images of MNIST."""
    folder = options.data / "mnist"
    x = IdxImages(str(folder / "train-images-idx3-ubyte.gz")).load().x
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    held, rest = x[order[:2000]], x[order[2000:]]
    test = IdxImages(str(folder / "t10k-images-idx3-ubyte.gz")).load().x
    pairs = ((u, torch.full((len(u),), -1)) for u in (rest, held))
    return *pairs, test  # pyright: ignore


def recipe(steps: int) -> Training:
    """The one recipe of all densities."""
    return Training(
        max_steps=steps,
        batch_size=BATCH,
        learning_rate=1e-3,
        warmup_steps=min(100, steps),
        kl_warmup_steps=min(2000, steps // 4),
        validate_every=max(steps // 20, 1),
        patience=20,
    )


def binary(latents: str) -> Callable[[Options, Part], list[Row]]:
    """NLL of binary MNIST, binarised anew in every step, by 1000 importance samples."""

    def measure(options: Options, part: Part) -> list[Row]:
        train, validation, test = grey(options)
        steps = options.budget(part)
        model = vae("bernoulli", latents)
        resume = options.runs / f"binary-{latents}-{steps}"
        result = fit_model(
            model, train, validation, recipe(steps), 0, resume=resume, make_data=Binarised
        )
        x = drawn(test[: options.images], 1, -1)
        with one_thread():
            found = read(model, x)
            evidence = log_evidence(model, x, 1000, block=1000).numpy()
        return [
            {
                "prior": latents,
                "binarisation": "dynamic, test images drawn once",
                "steps": steps,
                "status": str(result.outcome.status),
                "images": len(x),
                "neg_elbo": _plain(-found.elbo.mean()),
                "nll_sampled": _plain(-evidence.mean()),
                "standard error": _plain(evidence.std() / len(x) ** 0.5),
                "kl_latent": _plain(found.latent_kl.mean()),
            }
        ]

    return measure


SIGMA = {
    "unit": ("fixed", {"lower": 0.01, "upper": 2.0, "start": 1.0}),
    "shared": ("shared", {"lower": 0.001, "upper": 2.0, "start": 0.5}),
    "per pixel": ("per_pixel", {"lower": 0.001, "upper": 2.0, "start": 0.5}),
    "per pixel, bounded": ("per_pixel", {"lower": 0.05, "upper": 2.0, "start": 0.5}),
}


def sigma(options: Options, part: Part) -> list[Row]:
    """−ELBO of grey MNIST with unit σ, one learned σ, and one per pixel: the same recipe."""
    train, validation, test = grey(options)
    steps, rows = options.budget(part), []
    for name, (likelihood, bounds) in SIGMA.items():
        model = vae(likelihood, **bounds)
        resume = options.runs / f"sigma-{name.replace(' ', '_').replace(',', '')}-{steps}"
        fit_model(model, train, validation, recipe(steps), 0, resume=resume)
        x = test[:2000]
        with one_thread(), torch.no_grad():
            found = read(model, x)
            scale = model.decoder(model.latent_posterior(x[:200]).mean, torch.ones(1, 1, 1)).stddev
        rows.append(
            {
                "sigma": name,
                "bounds": [bounds["lower"], bounds["upper"]],
                "steps": steps,
                "neg_elbo": _plain(-found.elbo.mean()),
                "rmse": _plain(found.squared_error.mean() ** 0.5),
                "kl_latent": _plain(found.latent_kl.mean()),
                "pixels at the lower bound": _plain(
                    float((scale < 1.05 * bounds["lower"]).double().mean())
                ),
            }
        )
    return rows


FASHION = ("mnist", "fashion")
PARTS: dict[str, Part] = {
    "beliefs": Part(
        "what the graph alone says of the images",
        2,
        ("mnist",),
        {"labels": "[50,100]"},
        1800,
        measure=beliefs,
    ),
    "digits_objectives": Part(
        "nll, β-NLL and faithful against their twin on 8 × 8 digits, two draws",
        8,
        ("objectives",),
        {"data_seeds": "2", "twin_draws": "2"},
        1500,
    ),
    "digits_collapse": Part(
        "the published losses, their rescalings and the exact likelihood on 8 × 8 digits",
        6,
        ("collapse",),
        {"data_seeds": "2"},
        800,
    ),
    "objectives": Part(
        "nll, β-NLL and faithful against their twin, dense encoders, one draw",
        8,
        (*FASHION, "objectives"),
        steps=1500,
    ),
    "collapse": Part(
        "the published losses, their rescalings, and the exact likelihood",
        10,
        ("mnist", "collapse"),
        steps=400,
    ),
    "twins": Part(
        "the recipe against its twin, 50 labels, strange images, one draw (--draws 5 for more)",
        20,
        FASHION,
        {
            "labels": "[50]",
            "data_seeds": "1",
            "twin_draws": "5",
            "sampled_images": "500",
            "sampled_draws": "1000",
        },
        6000,
    ),
    "fifty": Part(
        "50 labels, five draws, strange images",
        17,
        FASHION,
        {"labels": "[50]", "twin_draws": "0"},
        2500,
    ),
    "hundred": Part(
        "100 labels, five draws",
        12,
        ("mnist",),
        {"labels": "[100]", "twin_draws": "0"},
        1800,
    ),
    "active": Part(
        "five draws: 25 labels and 25 more chosen in four ways, beside 100 random ones",
        30,
        ("mnist",),
        {
            "labels": "[100]",
            "draw": "random",
            "rounds": "[25, 50]",
            "acquisitions": "[typical,bald,uncertainty,random]",
            "twin_draws": "0",
        },
        700,
    ),
    "active_mixed": Part(
        "ten draws: 25 labels, then 12 and 13 more, half typical, half uncertain, beside 100",
        30,
        ("mnist",),
        {
            "labels": "[100]",
            "draw": "random",
            "data_seeds": "10",
            "rounds": "[25, 37, 50]",
            "acquisitions": "[mixed]",
            "twin_draws": "0",
        },
        700,
    ),
    "breast": Part(
        "BreastMNIST, the same recipe, five draws",
        3,
        ("breastmnist",),
        {"twin_draws": "1"},
        250,
    ),
    "breast_beliefs": Part(
        "what the graph alone says of BreastMNIST",
        1,
        ("breastmnist",),
        steps=250,
        measure=beliefs,
    ),
    "breast_svm": Part(
        "BreastMNIST, a support vector machine on the same labels, and on all",
        1,
        ("breastmnist",),
        steps=250,
        measure=support_vectors,
    ),
    "ablation": Part(
        "eight decoders × objectives, with twins, one draw (--set labels=[50,100] for both)",
        15,
        ("mnist", "ablation"),
        {"labels": "[50]"},
        100,
    ),
    "terms": Part(
        "the recipe without each of its parts, one draw",
        6,
        ("mnist", "terms"),
        {"labels": "[50]", "data_seeds": "1"},
        150,
    ),
    "terms_alone": Part(
        "the same without the graph: what each term does by itself, one draw",
        5,
        ("mnist", "terms"),
        {"labels": "[50]", "data_seeds": "1", "propagation": "null"},
        150,
    ),
    "binary": Part(
        "NLL of binary MNIST, standard prior", 20, steps=45_000, measure=binary("standard")
    ),
    "binary_flow": Part(
        "NLL of binary MNIST, flow prior", 23, steps=38_000, measure=binary("flow")
    ),
    "sigma": Part("σ-VAE: unit, shared and per-pixel σ", 7, steps=6000, measure=sigma),
}


def main() -> None:
    """Make the rows that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/semisup"))
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--steps", type=int, help="optimiser steps instead of those of the part")
    parser.add_argument("--draws", type=int, help="draws of the labels instead of the part's")
    parser.add_argument("--images", type=int, default=10_000, help="test images of the NLL")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE settings of the studies")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    arguments = parser.parse_args()
    if arguments.list:
        for name, part in PARTS.items():
            print(f"{name:<12} {part.minutes:4.0f} min  {part.words}")
        return
    options = Options(
        arguments.data,
        arguments.runs,
        arguments.steps,
        arguments.draws,
        arguments.images,
        dict(setting.split("=", 1) for setting in arguments.set),
    )
    options.runs.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        part = PARTS[name]
        print(f"{name}: {part.words}", flush=True)
        begin = time.perf_counter()
        if part.measure is None:
            made, minutes = study_rows(options, part, name)
        else:
            made = part.measure(options, part)
            minutes = (time.perf_counter() - begin) / 60
        kept = json.loads(ROWS.read_text()) if ROWS.is_file() else {}
        kept[name] = {"part": part.words, "minutes": round(minutes, 1), "rows": made}
        ROWS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
        for row in made:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        print(f"  {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    main()
