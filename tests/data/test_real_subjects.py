"""The two real subjects through the whole pipeline, and back to files."""

import nibabel
import numpy as np
import pytest
import torch

from latens.data import SubjectFolder
from latens.data.subjects import MODALITIES


@pytest.fixture(scope="module")
def brains(shared_data, tmp_path_factory):
    """Both real subjects, 4 × 64³, through a cache."""
    path = shared_data / "brain_mri"
    if not path.is_dir():
        pytest.skip(f"real data absent: no folder {path}")
    return SubjectFolder(
        str(path),
        patterns={"seg": "{subject}/simple.nii.gz"},
        size=(64, 64, 64),
        cache=str(tmp_path_factory.mktemp("cache")),
    ).load()


def test_real_subjects_become_scans(brains):
    assert brains.names == ("TCGA-DU-7294", "TCGA-FG-6692")
    assert brains.channels == MODALITIES
    scans = brains[:]
    assert scans.images.shape == (2, 4, 64, 64, 64)
    for image, brain in zip(scans.images, scans.brain[:, 0], strict=True):
        inside = image[:, brain].double()
        assert inside.mean(1).abs().max() < 1e-5
        assert (inside.std(1, correction=0) - 1).abs().max() < 1e-5
        assert 0.8e6 < brain.sum() * 27 < 1.8e6, "mm³, the volume of a brain"
    # The lesion is bright on FLAIR, and darker than its surroundings on native T1.
    for image, lesion in zip(scans.images, scans.lesion[:, 0], strict=True):
        assert image[2, lesion].mean() > 1
        assert image[1, lesion].mean() < 0
    counted = torch.tensor([9281 + 14907, 2477 + 20862 + 6840]).double()  # voxels of 1 mm³
    torch.testing.assert_close(brains.volumes, counted, rtol=2e-6, atol=0)


def test_real_maps_return_to_their_place(brains, shared_data, tmp_path):
    """A map written on the grid of the model overlays the segmentation of the file."""
    mask = brains[[1]].lesion[0, 0].float()
    image = nibabel.load(brains.write(1, mask, tmp_path / "mask.nii.gz"))
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    original = nibabel.load(shared_data / "brain_mri" / "TCGA-FG-6692" / "simple.nii.gz")
    middles = []
    for one in (image, original):
        voxels = np.argwhere(np.asarray(one.dataobj) > 0)
        middles.append(voxels.mean(0) @ one.affine[:3, :3].T + one.affine[:3, 3])
    np.testing.assert_allclose(*middles, atol=0.5)
    index = ((brains.targets[1, 1:4].double().numpy() + 1) * 64 - 1) / 2
    exact = brains.affines[1] @ [*index, 1]
    np.testing.assert_allclose(exact[:3], middles[1], atol=1e-4)
