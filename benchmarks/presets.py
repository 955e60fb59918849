"""Every preset of the scarcity study on phantoms and on real images, from the command line.

    python benchmarks/presets.py --data FOLDER [--runs DIR]

runs `latens run scarcity --preset OPERATOR,DATA,quick` for each pair below, one after another,
notes the minutes in `benchmarks/data/presets.json`, and writes `docs/presets.md` with a table and
a figure for each. FOLDER holds `medmnist/`, `mnist/`, `slices/` and `brain_mri/`. A run that is
finished is not repeated. About an hour on two free cores.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from latens.reporting.gallery import choose_examples, examples
from latens.reporting.results import Results, read_results
from latens.reporting.tables import FIRST, Cell, summary
from latens.store import RunFolder

ROOT = Path(__file__).resolve().parents[1]
MINUTES = ROOT / "benchmarks" / "data" / "presets.json"
CURVES = ROOT / "benchmarks" / "data" / "presets"
CALIBRATED = (0.92, 0.98)
"""Bar of the trust card for the coverage of region means."""
DOCS = ROOT / "docs"

FILES = {
    "breastmnist": [("--data.path", "medmnist/BreastMNIST.npz")],
    "mnist": [("--data.images", "mnist")],
    "brain": [("--data.path", "brain_mri")],
    "slices": [("--data.path", "slices")],
    "adrenal": [("--data.path", "medmnist/adrenalmnist3d_64.npz")],
}
SLICES = ["--data.files", "[CT0.npy,CT1.npy,MR2.npy,example_mri_ref_image_2d.npy]"]
CT = ["--data.files", "[CT0.npy,CT1.npy]", "--data.stride", "8", "--data.region", "40"]
DIGITS = ["--data.limit", "1000"]
TV = ["--baselines", "[tikhonov,wiener,tv]"]
PAIRS: list[tuple[str, str, list[str]]] = [
    ("deblurring", "phantoms", TV),
    ("deblurring", "breastmnist", TV),
    ("super-resolution", "phantoms", TV),
    ("super-resolution", "slices", SLICES),
    ("mri", "phantoms", []),
    ("mri", "brain", []),
    ("ct", "phantoms", []),
    ("ct", "slices", CT),
    ("inpainting", "phantoms", []),
    ("inpainting", "mnist", DIGITS),
    ("super-resolution", "phantoms-3d", []),
    ("super-resolution", "adrenal", []),
]
LAST = ("brain", "adrenal")
AND_TV = [("mri", "phantoms"), ("ct", "phantoms")]
INTRODUCTION = """# Presets

    latens run scarcity --preset OPERATOR,DATA,quick

An operator, data and a budget, each left to its default where it is not named. Of what follows
every run has four sizes, two data seeds, one initialisation and 250 steps per stage: enough to
see what a problem looks like, too little to judge a model. Leave out `quick` for the whole budget.
Total variation, which `quick` leaves out for its time, was asked for in some. Minutes are those of
two cores. Intervals are 95 %. What the numbers mean:
[scarcity.md](scarcity.md#what-the-numbers-mean). The measurement in the pictures is the
zero-filled image in MRI and the sinogram in CT. Written by
`python benchmarks/presets.py --data FOLDER`.

| operator | what it does |
|---|---|
| `deblurring` | Gaussian blur, width 1.5 pixels; noise .05 |
| `super-resolution` | blur of .8 pixels, then means over blocks of edge 2; noise .03 |
| `mri` | a quarter of the lines of k-space; noise .03 in each part of a unitary transform |
| `ct` | parallel-beam projections from 12 angles, in pixels times intensity; noise .2 |
| `inpainting` | a third of the pixels; noise .05 |

| data | what they are | needs |
|---|---|---|
| `phantoms`, `phantoms-3d` | schematic anatomy, made on the spot | – |
| `breastmnist` | breast ultrasound, 28 × 28 | `--data.path BreastMNIST.npz` |
| `mnist` | digits, 28 × 28 | `--data.images FOLDER` |
| `brain` | axial slices of brain MRI, NIfTI, 32 × 32 pixels of 6 mm | `--data.path FOLDER` |
| `slices` | tiles of 32 × 32 pixels from large slices, npy | `--data.path FOLDER` |
| `adrenal` | adrenal glands, shapes from CT, 16 × 16 × 16 | `--data.path adrenalmnist3d_64.npz` |

The public sets come by `latens data fetch NAME`, which prints the options that read them:
`breastmnist`, `mnist`, `adrenalmnist3d_64`. The two other folders hold a few files, and their
tables say nothing about a new subject, since parts of one subject train and test:

- `brain`: two patients with a low-grade glioma (TCGA-LGG, CC BY 3.0), T1, T1 with contrast, T2
  and FLAIR, 240 × 240 × 155 voxels of 1 mm, skull-stripped. Of your own it reads NIfTI files
  `FOLDER/SUBJECT/NAME_bet.nii.gz`, one volume each, other names by
  `--data.pattern "./*/*_t1.nii.gz"`; axes in any order, voxels of one size. Of each it takes 72
  axial slices of the middle half, crops or pads them to 192 × 192, scales them to [0, 1] by
  percentiles of the volume and averages blocks of 6 × 6.
- `slices`: two slices of abdominal CT, 512 × 512, one of prostate MR, 320 × 320 (Medical
  Segmentation Decathlon, CC BY-SA 4.0), and one of brain MR, 512 × 512 (pysap-data, CeCILL-B).
  Of your own it reads npy files `FOLDER/NAME.npy`, one slice `(H, W)` of real numbers each, of
  any size; `--data.files` names those to be used. Each is scaled to [0, 1] by its percentiles,
  or all by `--data.window "[-160,240]"`, and cut into tiles; those that are mostly background
  are dropped.

With enough subjects keep them whole: `--data.slab null` for `brain`, and for `slices`
`--data.region null`, where each file is a group. A slice of a NIfTI volume becomes an npy file by

```python
volume = nibabel.load("scan.nii.gz").get_fdata()  # (W, H, D)
np.save("slices/scan-040.npy", volume[:, :, 40].T)  # (H, W)
```
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "presets")
    arguments = parser.parse_args()
    minutes = json.loads(MINUTES.read_text()) if MINUTES.is_file() else {}
    for operator, data, extra in PAIRS:
        name, chosen = names_of(operator, data)
        command = ["latens", "run", "scarcity", "--preset", chosen, *options(data, arguments.data)]
        command += [*extra, "--out", str(arguments.runs / name)]
        run_timed(name, command, minutes)
        if name in minutes and (operator, data) in AND_TV:
            run_timed(f"{name} tv", [*command, *TV], minutes)
    write_page(arguments.runs, minutes)


def run_timed(name: str, command: list[str], minutes: dict[str, float]) -> None:
    """Run a command and note its minutes under a name, unless they are there already."""
    if name in minutes:
        return
    start = time.perf_counter()
    file = ROOT / "runs" / f"{name}.log"
    file.parent.mkdir(exist_ok=True)
    with open(file, "w") as log:
        code = subprocess.call(command, stdout=log, stderr=log)
    if code != 0:
        print(f"{name}: exit code {code}, see runs/{file.name}", file=sys.stderr)
        return
    minutes[name] = round((time.perf_counter() - start) / 60, 2)
    MINUTES.write_text(json.dumps(minutes, indent=1) + "\n")
    print(f"{name}: {minutes[name]} min", flush=True)


def names_of(operator: str, data: str) -> tuple[str, str]:
    """Name of a run, and its presets; some data state sizes of their own and come last."""
    order = [operator, "quick", data] if data in LAST else [operator, data, "quick"]
    return f"{operator}-{data}", ",".join(order)


def options(data: str, folder: Path) -> list[str]:
    """Options that say where the files of a data set are."""
    return [option for flag, file in FILES.get(data, []) for option in (flag, str(folder / file))]


def write_page(runs: Path, minutes: dict[str, float]) -> None:
    """`docs/presets.md` and its figures."""
    (DOCS / "presets").mkdir(exist_ok=True)
    parts: list[str] = []
    for operator, data, extra in PAIRS:
        name, chosen = names_of(operator, data)
        if name not in minutes:
            continue
        run = RunFolder.open(runs / name)
        CURVES.mkdir(exist_ok=True)
        shutil.copyfile(run.tables / "curves.csv", CURVES / f"{name}.csv")
        results = read_results(run)
        largest = results.sizes[-1]
        picture = DOCS / "presets" / f"{name}.png"
        figure = examples(choose_examples(results)[largest], positions=(0,))
        figure.savefig(picture, dpi=130)
        where = " ".join(map(quoted, [*options(data, Path("…")), *extra]))
        parts += [
            f"## {operator}: {data}",
            f"    latens run scarcity --preset {chosen} {where}".rstrip(),
            table(results),
            f"![Reconstructions](presets/{picture.name})",
            f"*N = {largest}. {time_of(name, minutes)}.*",
        ]
    text = "\n\n".join([INTRODUCTION.rstrip(), in_short(), *parts])
    (DOCS / "presets.md").write_text(text + "\n")


def quoted(word: str) -> str:
    """A word of a command as every shell takes it."""
    return f'"{word}"' if word.startswith("[") else word


def in_short() -> str:
    """What the curves of all pairs say together."""
    files = [CURVES / f"{names_of(*pair[:2])[0]}.csv" for pair in PAIRS]
    finished = [file for file in files if file.is_file()]
    best_small, best_large, calibrated = Counter(), Counter(), Counter()
    for file in finished:
        with open(file, newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["mean"] not in ("", "nan")]
        sizes = [int(row["n"]) for row in rows]
        for best, n in ((best_small, min(sizes)), (best_large, max(sizes))):
            psnr = {r["solver"]: float(r["mean"]) for r in rows if is_of(r, "psnr", n)}
            best[max(psnr, key=lambda solver: psnr[solver])] += 1
        for row in rows:
            if is_of(row, "coverage_region", max(sizes)):
                low, high = CALIBRATED
                calibrated[row["solver"]] += low <= float(row["mean"]) <= high
    (first, often), (last, then) = best_small.most_common(1)[0], best_large.most_common(1)[0]
    counts = ", ".join(f"{count} for `{solver}`" for solver, count in calibrated.most_common())
    return (
        f"**In short.** Of these {len(finished)} pairs of operator and data, the highest mean "
        f"PSNR is that of\n`{first}` in {often} at the smallest N, and of `{last}` in {then} at "
        "the largest. At the largest N the mean\ncoverage of region means lies between .92 and "
        f".98, the bar of the trust card,\nin {counts}."
    )


def is_of(row: dict[str, str], metric: str, n: int) -> bool:
    """Whether a row of a curve is of this metric and size."""
    return row["metric"] == metric and int(row["n"]) == n


def time_of(name: str, minutes: dict[str, float]) -> str:
    """Minutes of a run, and of total variation added to it afterwards."""
    more = minutes.get(f"{name} tv")
    return f"{minutes[name]:.1f} minutes" + (f", and {more:.1f} for `tv`" if more else "")


def table(results: Results) -> str:
    """First metrics at the largest N, and PSNR at the smallest, as Markdown."""
    small, large = results.sizes[0], results.sizes[-1]
    at_small = {row.solver: row.cells for row in summary(results, small)}
    shown = [metric for metric in FIRST if metric in results.measured]
    labels = [results.definitions[metric].label for metric in shown]
    lines = [
        f"| solver | PSNR, N = {small} | "
        + " | ".join(
            f"{label}, N = {large}" if i == 0 else label for i, label in enumerate(labels)
        )
        + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for row in summary(results, large):
        cells = [at_small[row.solver]["psnr"], *(row.cells[metric] for metric in shown)]
        lines.append(f"| `{row.solver}` | " + " | ".join(map(text_of, cells)) + " |")
    return "\n".join(lines)


def text_of(cell: Cell) -> str:
    """Value and interval of a cell."""
    return " ".join(part for part in (cell.text, cell.interval) if part)


if __name__ == "__main__":
    main()
