"""Scans of subjects: how fast they are painted and prepared, and how exact their numbers are.

    python benchmarks/subjects.py [--data data]

Prints seconds of the processor for phantom subjects of two sizes, the scatter of targets measured
on voxels about the true ones, and, for the real subjects, seconds and memory of the preparation
and how far a mask written on the grid of the model lies from the segmentation of the file.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

from latens.data import PhantomSubjects, SubjectFolder
from latens.data.head_painting import HALF_FIELD
from latens.data.lesion_shape import lesion_targets
from latens.data.subjects import TARGETS


def painting(edge: int, count: int) -> None:
    """Seconds for some phantom subjects."""
    subjects = PhantomSubjects((edge,) * 3, count=count).load()
    began = time.process_time()
    subjects[:]
    print(f"paint {count} × 4 × {edge}³: {time.process_time() - began:.2f} s")


def scatter(edge: int, count: int) -> None:
    """Root mean square difference between targets of voxels and the true ones."""
    subjects = PhantomSubjects((edge,) * 3, count=count).load()
    spacing = np.full(3, 2 * HALF_FIELD / edge)
    measured = np.concatenate(
        [[lesion_targets(m[0].numpy(), spacing) for m in b.lesion] for b in subjects.blocks(8)]
    )
    rms = np.sqrt(((measured - subjects.targets.numpy()) ** 2).mean(0))
    told = ", ".join(f"{name} {value:.4f}" for name, value in zip(TARGETS, rms, strict=True))
    print(f"voxels against truth, {count} at {edge}³: {told}")


def real(folder: Path, edge: int) -> None:
    """The real subjects at one size, there and back."""
    source = SubjectFolder(
        str(folder), patterns={"seg": "{subject}/simple.nii.gz"}, size=(edge,) * 3
    )
    began = time.process_time()
    subjects = source.load()
    seconds = (time.process_time() - began) / len(subjects)
    masks = subjects[:].lesion[:, 0]
    print(f"prepare 4 × {edge}³: {seconds:.1f} s per subject")
    for row, name in enumerate(subjects.names):
        with tempfile.TemporaryDirectory() as place:
            image = nibabel.load(subjects.write(row, masks[row].float(), f"{place}/mask.nii.gz"))
            middle = _middle(image)
        original = _middle(nibabel.load(folder / name / "simple.nii.gz"))
        index = ((subjects.targets[row, 1:4].double().numpy() + 1) * edge - 1) / 2
        exact = (subjects.affines[row] @ [*index, 1])[:3]
        spacing = 192 / edge
        share = masks[row].sum().item() * spacing**3 / float(subjects.volumes[row])
        print(
            f"  {name}: target to file {np.linalg.norm(exact - original):.1e} mm, mask to file "
            f"{np.linalg.norm(middle - original):.2f} mm, volume of the mask {share:.3f} of it"
        )


def _middle(image: nibabel.Nifti1Image) -> np.ndarray:
    voxels = np.argwhere(np.asarray(image.dataobj) > 0)
    return voxels.mean(0) @ image.affine[:3, :3].T + image.affine[:3, 3]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    painting(32, 64)
    painting(128, 2)
    scatter(32, 128)
    scatter(64, 48)
    if (options.data / "brain_mri").is_dir():
        for size in (64, 128):
            real(options.data / "brain_mri", size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory {peak:.1f} GiB")
