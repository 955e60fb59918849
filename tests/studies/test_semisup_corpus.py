"""What `semisup` asks of its images before anything is trained."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from latens.data import Digits, ImageSet, Source, labelled_rows
from latens.errors import ConfigError, DataError, ShapeError
from latens.models.mixture import MixtureVAE
from latens.models.mixture_settings import Terms
from latens.nets.components import Decoder
from latens.studies.semisup.study import Semisup

SMALL = partial(MixtureVAE, width=4, features=8, dim=2, decoder=Decoder(width=8))


class Given(Source):
    """Images that are at hand."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def load(self) -> ImageSet:
        return self.images


def digits(scale: float = 1.0, shift: float = 0.0, top: float | None = None) -> Given:
    """Digits whose values range from `shift` to `shift + scale`, or to `top` by their own word."""
    images = Digits().load()
    span = (shift, shift + scale if top is None else top)
    return Given(replace(images, x=images.x * scale + shift, data_range=span))


def study(data: Source, model=SMALL, **settings) -> Semisup:
    settings = {"labels": [20], "data_seeds": 1, "validation_images": 50, **settings}
    return Semisup(data, {"a": model}, **settings)


def test_all_images_are_scaled_by_the_range_of_the_training_images():
    given = study(digits(255), test=digits(200), strange=digits(260, -5, top=300))
    plain, corpus = Digits().load().x, given.corpus
    torch.testing.assert_close(corpus.images.x, plain)
    torch.testing.assert_close(corpus.test.x, plain * 200 / 255)
    torch.testing.assert_close(corpus.strange, (plain * 260 - 5) / 255)


def test_images_in_the_unit_interval_stay_bit_by_bit():
    corpus = study(digits(), strange=digits(0.8, 0.1, top=1)).corpus
    assert corpus.strange is not None
    assert torch.equal(corpus.strange, Digits().load().x * 0.8 + 0.1)


@pytest.mark.parametrize("argument", ["test", "strange"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (2550.0, 0.0), (255.0, -200.0)])
def test_images_in_other_units(argument, scale, shift):
    with pytest.raises(DataError, match=argument):
        _ = study(digits(255), **{argument: digits(scale, shift)}).corpus


def volumes() -> Given:
    x = torch.rand(120, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return Given(ImageSet(x, data_range=(0.0, 1.0), labels=tuple(np.arange(120) % 3)))


def test_terms_that_do_not_suit_volumes_are_refused_before_any_fit():
    with pytest.raises(ShapeError, match="two spatial axes"):
        study(volumes(), test_images=20).check_applicable()
    plain = partial(SMALL, terms=Terms(supervised=0, invariance=0, pseudo_label=0))
    study(volumes(), plain, test_images=20).check_applicable()


def test_a_graph_of_gradients_is_refused_for_volumes():
    from latens.data.propagation import Propagation

    plain = partial(SMALL, terms=Terms(supervised=0, invariance=0, pseudo_label=0))
    settings = {"test_images": 20, "propagation": Propagation()}
    with pytest.raises(ShapeError, match="features: pixels"):
        study(volumes(), plain, **settings).check_applicable()


@pytest.mark.parametrize("draw", ["balanced", "random"])
def test_labels_are_drawn_as_was_asked(draw):
    given = study(digits(), draw=draw)
    classes = given.corpus.labels
    for seed in range(3):
        rows = given.rows(30, seed)
        assert np.array_equal(rows, labelled_rows(classes, 30, draw, seed))
        counts = np.bincount(classes[rows], minlength=10)
        assert (counts == 3).all() == (draw == "balanced")


def test_rounds_that_ask_for_more_than_the_pool():
    given = study(volumes(), test_images=20, acquisitions=["bald"], rounds=[10, 51])
    with pytest.raises(ConfigError, match="rounds"):
        given.check_applicable()


def test_bernoulli_is_for_images_of_zeros_and_ones():
    model = partial(SMALL, decoder=Decoder(likelihood="bernoulli", width=8))
    with pytest.raises(ConfigError, match="grey"):
        study(digits(), model).check_applicable()
    images = Digits().load()
    study(Given(replace(images, x=(images.x > 0.5).float())), model).check_applicable()
