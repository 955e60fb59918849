"""Images of another kind that a study may show to its solvers, and those that it refuses."""

import numpy as np
import pytest
import torch

from latens.data import ImageSet
from latens.errors import ConfigError, DataError
from latens.studies.configure import construct, resolve
from latens.studies.other_images import check_other_images
from latens.studies.scarcity import Scarcity
from stand_ins.tiny_study import small


def grey(scale: float, size: int = 8, shift: float = 0.0, range_: float = 1.0) -> ImageSet:
    """Images with values from `shift` to `shift` + `scale`."""
    x = torch.linspace(0, 1, 3 * size * size).reshape(3, 1, size, size)
    return ImageSet(scale * x + shift, data_range=(min(shift, 0.0), max(range_, scale + shift)))


@pytest.mark.parametrize("others", [grey(1.0), grey(0.3), grey(1.4), grey(1.5, shift=-0.4)])
def test_images_in_the_units_of_the_data_are_taken(others: ImageSet):
    check_other_images(others, grey(1.0))


@pytest.mark.parametrize("others", [grey(255.0), grey(0.05), grey(2.0, shift=-1.0)])
def test_images_in_other_units_are_refused(others: ImageSet):
    with pytest.raises(DataError, match="in the units of the data, which range from 0 to 1"):
        check_other_images(others, grey(1.0))


def test_the_range_of_the_data_counts_and_not_its_values():
    check_other_images(grey(200.0), grey(20.0, range_=255.0))


def test_images_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match=r"images of shape \(1, 8, 8\), that of the data"):
        check_other_images(grey(1.0, size=9), grey(1.0))


def test_they_are_measured_by_a_known_problem(tmp_path):
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
        for i in range(60):
            np.save(tmp_path / part / f"{i}.npy", np.random.default_rng(i).random((16, 16)))
    tree = small(
        data={"class_path": "latens.data.PairedFolder", "init_args": {"path": str(tmp_path)}},
        operator=None,
        noise=None,
        baselines=[],
        checks=["reliability"],
        other_images={"class_path": "latens.data.Phantoms", "init_args": {"size": [16, 16]}},
        sizes=[16, 32],
        test_images=10,
    )
    study = construct(Scarcity, resolve(Scarcity, [tree], []))
    with pytest.raises(ConfigError, match="by which they are measured"):
        study.check_applicable()
