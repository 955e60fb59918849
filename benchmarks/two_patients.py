"""Two real patients through the whole pipeline: train on one, hold one out, write NIfTI maps.

    python benchmarks/two_patients.py --data FOLDER [--runs DIR]

FOLDER holds `brain_mri/` with four modalities and the segmentation of each patient. Trains `exp1`,
with and without augmentation, and `exp2` at 4 × 32³, reconstructs both patients with the first,
and compares the maps with the files they come from: axes, codes of the spaces (those of the first
modality: one patient has one place), middle of the brain, and the correlation of the `_input` maps
with the source read at their places, as it is and mirrored left to right. Rows go to
`benchmarks/data/two_patients.json`. A few minutes of one core.
"""

import argparse
import json
import shutil
import tempfile
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import yaml
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from latens.cli import main as latens

ROWS = Path(__file__).resolve().parent / "data" / "two_patients.json"
FILES = {"t1c": "t1c", "t1n": "t1", "t2f": "fla", "t2w": "t2"}
"""Modality → what the name of its file has before `_bet`."""

COMMON = {
    "test_scans": 1,
    "validation_scans": 0,
    "seeds": 1,
    "model.dim": 16,
    "model.width": 8,
    "training.batch_size": 4,
    "training.max_steps": 200,
    "training.validate_every": 50,
    "training.kl_warmup_steps": 100,
}
ARMS = {
    "exp1": {"stage": "exp1", "augmentation": "{}"},
    "exp1 without augmentation": {"stage": "exp1"},
    "exp2": {"stage": "exp2", "augmentation": "{}", "dip.start": 50, "dip.ramp": 100},
}
SHOWN = ("mse", "neg_elbo", "ablation_z0", "kl")
Row = dict[str, object]


def main() -> None:
    """Train, reconstruct, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path)
    options = parser.parse_args()
    patients = options.data / "brain_mri"
    with tempfile.TemporaryDirectory() as place:
        runs = options.runs or Path(place)
        runs.mkdir(parents=True, exist_ok=True)
        rows = [train(name, patients, runs) for name in ARMS]
        rows += maps(patients, runs / "exp1", runs / "maps")
    for row in rows:
        print(row)
    ROWS.write_text(json.dumps(rows, indent=1) + "\n")


def train(name: str, patients: Path, runs: Path) -> Row:
    """One arm: its numbers on the patient held out, and the seconds of its training."""
    source = {
        "class_path": "latens.data.SubjectFolder",
        "init_args": {
            "path": str(patients),
            "patterns": {"seg": "{subject}/simple.nii.gz"},
            "size": [32, 32, 32],
        },
    }
    config, out = runs / "two.yaml", runs / name.replace(" ", "_")
    config.write_text(yaml.safe_dump({"data": source}))
    arguments = ["run", "growth", "--config", str(config), "--out", str(out)]
    for key, value in {**COMMON, **ARMS[name]}.items():
        arguments += [f"--{key}", str(value)]
    code = latens(arguments)
    found = pd.read_csv(out / "tables" / "volume_metrics.csv").set_index("metric")["value"]
    cost = pd.read_csv(out / "cost.csv")
    seconds = float(cost.loc[cost["unit"] == "fit", "seconds"].sum())
    numbers = {metric: round(float(found[metric]), 4) for metric in SHOWN}
    return {"arm": name, **numbers, "seconds": round(seconds, 1), "exit code": code}


def maps(patients: Path, run: Path, out: Path) -> list[Row]:
    """Whether the maps of both patients lie where their files lie, and what they show."""
    shutil.rmtree(out, ignore_errors=True)
    latens(["reconstruct", str(run), str(patients), "--out", str(out)])
    roles = pd.read_csv(out / "scans.csv").set_index("scan")["role"]
    rows: list[Row] = []
    for patient, role in roles.items():
        (file,) = (patients / str(patient)).glob(f"*_{FILES['t1c']}_bet.nii.gz")
        first = nibabel.load(file)
        for modality, word in FILES.items():
            (file,) = (patients / str(patient)).glob(f"*_{word}_bet.nii.gz")
            source = nibabel.load(file)
            given = nibabel.load(out / f"{patient}_{modality}_input.nii.gz")
            made = nibabel.load(out / f"{patient}_{modality}_mean.nii.gz")
            image, shown = np.asarray(given.dataobj), np.asarray(made.dataobj)
            there, brain = read_at(source, given)
            rows.append(
                {
                    "patient": patient,
                    "role": role,
                    "modality": modality,
                    "same axes and codes": same_place(first, given),
                    "middle of the brain, mm": round(
                        float(np.linalg.norm(middle(source) - middle(given))), 2
                    ),
                    "input against source": correlation(image, there, brain),
                    "mirrored": correlation(image[::-1], there, brain),
                    "reconstruction against input": correlation(shown, image, brain),
                }
            )
    return rows


def same_place(source: nibabel.Nifti1Image, image: nibabel.Nifti1Image) -> bool:
    """Equal orientation, and equal codes of the spaces that the affines speak of."""
    codes = [
        (int(one.header["sform_code"]), int(one.header["qform_code"])) for one in (source, image)
    ]
    return aff2axcodes(source.affine) == aff2axcodes(image.affine) and codes[0] == codes[1]


def middle(image: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """Middle of what is not zero, mm."""
    voxels = np.argwhere(np.asarray(image.dataobj) != 0)
    return voxels.mean(0) @ image.affine[:3, :3].T + image.affine[:3, 3]


def read_at(
    source: nibabel.Nifti1Image, image: nibabel.Nifti1Image
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The source in the voxels of an image, mean over 3³ points of each, and whether all of them
    lie in the brain.
    """
    place = np.linalg.inv(source.affine) @ image.affine
    values = np.asarray(source.dataobj, dtype=np.float64)
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    total, inside = np.zeros(image.shape), np.ones(image.shape, dtype=bool)
    for offset in product((-1 / 3, 0, 1 / 3), repeat=3):
        at = (grid + np.array(offset)) @ place[:3, :3].T + place[:3, 3]
        read = map_coordinates(values, np.moveaxis(at, -1, 0), order=1)
        total += read
        inside &= read > 0
    return total / 27, inside


def correlation(a: NDArray[np.float64], b: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    """Correlation over some voxels."""
    return round(float(np.corrcoef(a[where], b[where])[0, 1]), 3)


if __name__ == "__main__":
    main()
