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
KEPT = ("curves", "metrics", "trust", "tests", "power", "shifts")
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
- **Coverage near .95 is not calibration.** Tests of ranks on 50 images, which would find a spread
  wrong by a fifth every time, reject every posterior at every N that was checked, also where 95 %
  intervals cover .92 to .98 of the region means, as those of `cvae` behind the blur of ultrasound
  with 600 pairs (.95) and of `wiener` behind the mask (.94). With few pairs `cvae` covers .58 to
  .63 of those of ultrasound and .81 to .90 of those of digits, where its spread stays below its
  error with 1024 (ratio .75 to .86). `latent` is about right with few pairs, and too wide with
  many: .98 to .99 of ultrasound, .96 to .98 of digits.
- **`latent` knows the operator, begins well and gains less from pairs**: .4 to 2.3 dB where `cvae`
  gains 2.6 to 6.4; on digits it gains nothing from 256 pairs on. Two initialisations in place of
  one gain up to .4 dB and make intervals a little wider still.
- **Consistency comes with data and training, or is built in**: behind the blur `cvae` agrees with
  the data from 320 pairs of ultrasound and 128 of digits on, and the U-Net from 40 and 128 on. In
  MRI and inpainting `cvae` fails at every N, and the U-Net does on digits, while on ultrasound it
  agrees from 160 and 320 pairs on. `latent` agrees, but for digits with 512 pairs and more in MRI
  and 256 behind the mask (residual 1.1 to 1.3); Tikhonov and Wiener always do.
- **What the gate sees depends on the problem.** By the smallest p-value of all scores, nothing
  notices a blur of ultrasound wider by half, or noise of another family and the same variance,
  with certainty (AUROC .50 to .85); behind the blur of 128 digits or more `cvae`, `latent` and the
  U-Net see both (.90 to 1), but for photon noise. A quarter of the samples lost is seen behind the
  mask of ultrasound (.88 and more) and not of digits (.51 to .87); `cvae` does not see twice the
  noise in MRI (.47 to .84), `wiener` not inverted contrast (.45 to .61; behind the mask of
  ultrasound .84 to .89). *Aware* of all that was tried are only `latent`, its ensemble, Tikhonov
  and the U-Net in MRI, not at every N.
- **Few errors at the worst disturbance are large, yet networks lose much to it**: of learned
  solvers only `cvae` in MRI errs more than half as much again as Tikhonov or Wiener at their own
  worst (ultrasound, 20 pairs). But beyond a random disturbance of the same size the worst one adds
  .57 to the relative error of the U-Net behind the blur of digits, .25 behind the mask and .15 in
  MRI, and .35, .01 and .02 to Tikhonov's.
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
