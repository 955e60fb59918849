"""Small subjects as NIfTI files, for the tests that read folders of them."""

import nibabel
import numpy as np
from nibabel import orientations

from latens.data.subjects import MODALITIES

SHAPE = (18, 22, 20)
SPACING = (2.0, 1.5, 1.8)
ORIGIN = (12.5, -7.25, 31.0)


def head(seed=0, shape=SHAPE):
    """Values of the modalities `(4, D, H, W)`, zero outside an ellipsoid; a lesion in it."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    brain = (grid**2).sum(0) < 0.7
    lesion = ((grid - np.asarray([0.1, -0.2, 0.15]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 0.08
    noise = np.random.default_rng(seed).normal(size=(4, *shape))
    values = 100 + 20 * grid.sum(0) + 5 * noise + 40 * lesion
    return values * brain, brain, lesion


def affine_of(axes, shape=SHAPE, spacing=SPACING, tilt=0.0):
    """Affine of a file with these axes whose (S, P, L) grid has these sizes, `(4, 4)`."""
    spl = np.eye(4)
    cosine, sine = np.cos(tilt), np.sin(tilt)
    turn = np.asarray([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    spl[:3, :3] = turn @ np.asarray([[0, 0, -spacing[2]], [0, -spacing[1], 0], [spacing[0], 0, 0]])
    spl[:3, 3] = ORIGIN
    back = orientations.ornt_transform(
        orientations.axcodes2ornt("SPL"), orientations.axcodes2ornt(axes)
    )
    return spl, spl @ orientations.inv_ornt_aff(back, shape), back


def write(
    path, values, axes="LPS", spacing=SPACING, tilt=0.0, dtype: type = np.float32, shift=0.0
):
    """Write values given on (S, P, L) as a file with other axes."""
    _, affine, back = affine_of(axes, values.shape, spacing, tilt)
    affine = affine.copy()
    affine[0, 3] += shift
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = orientations.apply_orientation(np.asarray(values), back).astype(dtype)
    image = nibabel.Nifti1Image(turned, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nibabel.save(image, path)


def subject(folder, name, seed=0, axes="LPS", tilt=0.0, lesion=None):
    """Write the five files of a subject, BraTS style."""
    values, _, own = head(seed)
    for modality, channel in zip(MODALITIES, values, strict=True):
        write(folder / name / f"{name}-{modality}.nii.gz", channel, axes, tilt=tilt)
    mask = own if lesion is None else lesion
    write(folder / name / f"{name}-seg.nii.gz", mask, axes, tilt=tilt, dtype=np.uint8)
