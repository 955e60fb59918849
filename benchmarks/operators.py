"""Learning curves, deep checks and trust cards: three operators, two sets of real images.

    python benchmarks/operators.py --data FOLDER [--runs DIR] [--jobs 2] [--only NAME …] [--page]

runs `latens run scarcity --preset OPERATOR,DATA --config benchmarks/operators.yaml` for each pair,
one after another, and finishes what was interrupted. Of finished runs the tables go to
`benchmarks/data/operators/`, and `docs/operators.md` gets a figure and the trust card of each;
those of blurred breast ultrasound, figure and whole report, are the README's.
`benchmarks/plan.py` tests what their first quarters foretell. FOLDER holds `medmnist/` and
`mnist/`. About an hour of one core for each pair.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib import rc_context

from latens.reporting.figures import learning_curves
from latens.reporting.results import read_results
from latens.store import RunFolder
from presets import CURVES, DOCS, ROOT, options, table

TABLES = CURVES.parent / "operators"
KEPT = ("curves", "metrics", "trust", "tests", "shifts")
OPERATORS = ("mri", "inpainting", "deblurring")
SIZES = {"breastmnist": "[20,40,80,160,320,600]", "mnist": "[32,64,128,256,512,1024]"}
SHOWN = ("psnr", "coverage_region", "spread_skill", "worst_error")
EXAMPLE, SHOWN_FIRST = "deblurring-breastmnist", ("psnr", "coverage_pixel", "coverage_region")
QUESTIONS = ("accurate", "stable", "calibrated", "consistent", "aware")
INTRODUCTION = """# Three operators, two sets of real images

How reconstructions of breast ultrasound and of digits become accurate, stable and calibrated with
the number N of training pairs. Six sizes, three data seeds, two initialisations; training until
validation ends it, or for 1500 steps. Intervals are 95 %. Deep checks: first seeds, three N.
Written by `python benchmarks/operators.py --data FOLDER`.

## What they say

- **Which solver is best depends on N and on what the measurement lacks.** On ultrasound a filter
  that learns a spectrum is hard to beat: Wiener leads up to 80 pairs behind the blur and up to 320
  behind the mask, where the U-Net with 600 is .4 dB ahead and level; in MRI Wiener and the
  ensemble of `latent` lead up to 160, the U-Net from 320 on. On digits no linear filter lasts:
  `latent` leads with 32 and 64 pairs of MRI, `cvae` with 128 and 256, the U-Net from 512 on;
  behind blur and mask `cvae` leads from 64 and 256 on.
- **No learned posterior is shown to be calibrated.** The intervals of `cvae` cover .58 to .63 of
  the region means of ultrasound with 20 pairs and .86 to .95 with 600, .81 to .90 of those of
  digits with 32 and .91 to .98 with 1024, where its spread stays below its error (ratio .75 to
  .86). Those of `latent` are about right with few pairs, and too wide with many: .98 to .99 of
  ultrasound, .96 to .98 of digits. Tests of ranks on 24 images reject both at most N. `wiener` is
  calibrated in one pair, inpainting of digits, as far as 24 images can tell.
- **`latent` knows the operator, begins well and gains less from pairs**: .4 to 2.3 dB where `cvae`
  gains 2.6 to 6.4; on digits it gains nothing from 256 pairs on.
- **Consistency comes with data and training, or is built in**: behind the blur `cvae` agrees with
  the data from 320 pairs of ultrasound and 128 of digits on, and the U-Net from 40 and 128 on. In
  MRI and inpainting `cvae` fails at every N, and the U-Net does on digits, while on ultrasound it
  agrees from 160 and 320 pairs on. `latent` agrees, but for MRI and inpainting of digits with 256
  pairs and more (residual 1.1 to 1.3); Tikhonov and Wiener always do.
- **Residuals see wrong contrast and wrong noise levels, not wrong physics.** Twice the noise and
  inverted contrast are noticed by `latent` behind blur and in MRI at every N (AUROC ≥ .99). A blur
  wider by half, and noise of another family with the same variance, are hardly seen on ultrasound
  (.4 to .76); on digits `cvae` and the U-Net see both, but for photon noise.
- **Few errors at the worst disturbance are large, yet networks lose much to it**: where attacked,
  no learned solver errs more than half as much again as Tikhonov at its own worst (`cvae` of MRI
  with 20 pairs is open). But beyond a random disturbance of the same size the worst one adds .26
  to the error of the U-Net in inpainting of digits and .16 in MRI, and .01 and .02 to Tikhonov's.

The trust cards are by earlier definitions than those of [the docs](scarcity.md#trust-card):
residuals on their upper side alone, errors not paired by image, tests adjusted by Holm's rule, no
check of ensembles, no lost samples.
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "operators")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--only", nargs="*", choices=names(), default=names())
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    arguments = parser.parse_args()
    if not arguments.page:
        for name in arguments.only:
            run(name, arguments)
    write_page(arguments.runs)


def names() -> list[str]:
    """OPERATOR-DATA of each pair."""
    return [f"{operator}-{data}" for data in SIZES for operator in OPERATORS]


def run(name: str, arguments: argparse.Namespace) -> None:
    """Run one pair, or finish it."""
    operator, data = name.split("-")
    command = ["latens", "run", "scarcity", "--preset", f"{operator},{data}"]
    command += ["--config", str(ROOT / "benchmarks" / "operators.yaml"), "--sizes", SIZES[data]]
    command += [*options(data, arguments.data), "--jobs", arguments.jobs]
    arguments.runs.mkdir(parents=True, exist_ok=True)
    with open(arguments.runs / f"{name}.log", "a") as log:
        code = subprocess.call(
            [*command, "--out", str(arguments.runs / name)], stdout=log, stderr=log
        )
    print(f"{name}: exit code {code}", file=sys.stderr, flush=True)


def write_page(runs: Path) -> None:
    """`docs/operators.md`, its figures, and the tables that it is made from."""
    (DOCS / "operators").mkdir(exist_ok=True)
    parts: list[str] = []
    for name in names():
        if not (runs / name / "report.html").is_file():
            continue
        folder = RunFolder.open(runs / name)
        keep(folder, TABLES / name)
        results = read_results(folder)
        picture = DOCS / "operators" / f"{name}.png"
        shown = [metric for metric in SHOWN if metric in results.measured]
        drawn = results.curves, results.scaling_band, results.definitions
        learning_curves(*drawn, shown, results.notes).savefig(picture, dpi=130)
        if name == EXAMPLE:
            figure = learning_curves(*drawn, SHOWN_FIRST, results.notes)
            with rc_context({"svg.hashsalt": "latens"}):  # the same file at every drawing
                figure.savefig(DOCS / "learning-curves.svg", metadata={"Date": None})
            page = folder.report_file.read_text()
            file = Path(folder.description["config"]["data"]["init_args"]["path"])
            report = page.replace(str(file), file.name)
            (DOCS / "report-breastmnist.html").write_text(report)
        config = folder.description["config"]
        images, steps = config["checked_images"], config["training"]["max_steps"]
        minutes = pd.read_csv(folder.path / "cost.csv")["seconds"].sum() / 60
        parts += [
            f"## {name.replace('-', ': ')}",
            table(results),
            f"![Learning curves](operators/{picture.name})",
            trust(folder),
            f"*Up to {steps} steps per stage; {minutes:.0f} minutes of the clock, summed over "
            f"jobs; deep checks on {images} images.*",
        ]
    (DOCS / "operators.md").write_text("\n\n".join([INTRODUCTION.rstrip(), *parts]) + "\n")


def keep(folder: RunFolder, target: Path) -> None:
    """Copy the small tables of a run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        for file in folder.tables.glob(f"{name}.csv"):
            shutil.copyfile(file, target / file.name)


def trust(folder: RunFolder) -> str:
    """Verdicts of the trust card at the smallest and largest N, as Markdown."""
    card = pd.read_csv(folder.tables / "trust.csv")
    lines = ["| solver | N | " + " | ".join(QUESTIONS) + " |", "|---" * (len(QUESTIONS) + 2) + "|"]
    for (solver, n), rows in card.groupby(["solver", "n"], sort=False):
        if n in (card["n"].min(), card["n"].max()):
            verdicts = dict(zip(rows["question"], rows["verdict"], strict=True))
            cells = [str(verdicts.get(question, "–")) for question in QUESTIONS]
            lines.append(f"| `{solver}` | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
