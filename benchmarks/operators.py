"""Learning curves, deep checks and trust cards: three operators, two sets of real images.

    python benchmarks/operators.py --data FOLDER [--runs DIR] [--jobs 2] [--only NAME …] [--page]

runs `latens run scarcity --preset OPERATOR,DATA --config benchmarks/operators.yaml` for each pair,
one after another, and finishes what was interrupted. Of finished runs the tables go to
`benchmarks/data/operators/`, and `docs/operators.md` gets a figure and the trust card of each;
those of blurred breast ultrasound, figure and whole report, are the README's.
`benchmarks/plan.py` tests what their first quarters foretell. FOLDER holds `medmnist/` and
`mnist/`. About twenty minutes of one core for each pair.
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
the number N of training pairs. Six sizes, three data seeds, two initialisations, as many steps per
stage as each section says. Intervals are 95 %. Deep checks: first seeds, three N. Written by
`python benchmarks/operators.py --data FOLDER`.

## What they say

- **Train for long enough, or the curves are those of the budget.** Deblurring trains until
  validation ends it, or for 1500 steps. MRI and inpainting are so far of 250, which ended nearly
  all trainings: from N = 160 on their learned solvers say more about steps than about pairs.
  [Results](../benchmarks/results.md#scarcity-on-phantoms-and-real-images) show deblurring by both.
- **Which solver is best depends on N.** On blurred ultrasound the Wiener filter leads up to 80
  pairs; the U-Net passes it at 160, `cvae` and `latent` at 320, and with 600 these three are
  within .2 dB. On blurred digits the U-Net trails with 32 pairs, from 64 on `cvae` leads, and with
  1024 it is .7 dB ahead of the U-Net and 6 dB of the Wiener filter.
- **No learned posterior is shown to be calibrated.** On blurred ultrasound the intervals of `cvae`
  cover .61 of the region means with 20 pairs and .95 with 600, and tests of ranks on 24 test
  images reject it there; those of `latent` cover .95 and .99: too wide. On digits `cvae` is
  rejected with 1024 pairs and `latent` with 128. In MRI and inpainting coverage or ranks reject
  both at some N of every pair. `wiener` is calibrated in one, inpainting of digits. Ensembles are
  not tested: where their coverage is within the bar the verdict is open.
- **`latent` knows the operator, begins well and gains less from pairs**: 1.0 dB on ultrasound,
  2.0 dB on digits, where `cvae` gains 2.6 and 4.8 dB.
- **Consistency comes with data and training, or is built in**: blurred, `cvae` agrees with the
  data from 320 pairs of ultrasound and 128 of digits on, the U-Net from 40 and 128 on; in MRI and
  inpainting `cvae` fails at every N and the U-Net at most. `latent`, `tikhonov` and `wiener` agree
  at every N.
- **Shifts are noticed in MRI alone**, by the residuals of `latent`, `tikhonov` and the U-Net
  (AUROC ≥ .9 for every shift tried). Under blur and inpainting the residual of no solver sees
  the least noticed one: refuse by other means there.
- **Little is unstable**: where attacked, the worst disturbance of the size of the noise harms no
  learned solver more than half as much again as Tikhonov; `cvae` of MRI with 20 pairs is open.
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
