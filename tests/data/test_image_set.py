import numpy as np
import pytest
import torch

from latens.data import ImageSet
from latens.errors import ConfigError, DataError, LatensError, ShapeError


def make(n: int = 6, **changes) -> ImageSet:
    x = torch.rand(n, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    return ImageSet(**{"x": x, "data_range": (0.0, 1.0), **changes})


BAD = {
    "nan": ({"x": torch.full((2, 1, 4), torch.nan)}, DataError, "x"),
    "infinite": ({"x": torch.tensor([[[0.0, torch.inf]]])}, DataError, "x"),
    "no spatial axis": ({"x": torch.rand(4, 5)}, ShapeError, "x"),
    "empty": ({"x": torch.empty(0, 1, 4)}, ShapeError, "x"),
    "float64": ({"x": torch.rand(2, 1, 4).double()}, DataError, "x"),
    "array": ({"x": np.ones((2, 1, 4), dtype=np.float32)}, DataError, "x"),
    "constant": ({"x": torch.full((2, 1, 4), 0.5)}, DataError, "x"),
    "y too short": ({"y": torch.rand(5, 1, 4)}, ShapeError, "y"),
    "y infinite": ({"y": torch.full((6, 1, 4), torch.inf)}, DataError, "y"),
    "groups too short": ({"groups": ("a", "b")}, ShapeError, "groups"),
    "labels too long": ({"labels": tuple(range(7))}, ShapeError, "labels"),
    "factors too short": ({"factors": {"a": np.ones(5)}}, ShapeError, "factors[a]"),
    "range reversed": ({"data_range": (1.0, 0.0)}, ConfigError, "data_range"),
    "range infinite": ({"data_range": (0.0, float("inf"))}, ConfigError, "data_range"),
    "range of three": ({"data_range": (0.0, 1.0, 2.0)}, ConfigError, "data_range"),
    "range too narrow": ({"data_range": (0.0, 0.5)}, DataError, "data_range"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_argument_named(case):
    changes, error, argument = BAD[case]
    with pytest.raises(error) as caught:
        make(**changes)
    assert isinstance(caught.value, LatensError)
    assert caught.value.argument == argument
    assert caught.value.remedy


def test_every_image_is_its_own_group_by_default():
    images = make(4)
    assert images.groups == ("0", "1", "2", "3")
    assert len(images) == 4
    assert images.signal_shape == (1, 4, 5)


def test_range_tolerates_rounding_to_float32():
    x = torch.tensor([[[0.0, 0.1]]])  # 0.1 is rounded up
    assert ImageSet(x, data_range=(0.0, 0.1)).data_range == (0.0, 0.1)


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_select_keeps_rows_together(kind):
    images = make(
        y=torch.arange(6.0).reshape(6, 1, 1) + 1,
        groups=tuple("abcdef"),
        labels=tuple(range(6)),
        factors={"area": np.arange(6) ** 2},
        name="set",
        citation="me",
    )
    chosen = images.select(kind([4, 1]))
    torch.testing.assert_close(chosen.x, images.x[[4, 1]])
    assert chosen.y is not None
    assert chosen.y.ravel().tolist() == [5, 2]
    assert (chosen.groups, chosen.labels) == (("e", "b"), (4, 1))
    assert chosen.factors["area"].tolist() == [16, 1]
    assert (chosen.name, chosen.citation) == ("set", "me")
    assert chosen.data_range == images.data_range
    assert len(images) == 6, "the set itself is unchanged"


@pytest.mark.parametrize("indices", [[], [6], [-1], [0.5], [[0, 1]], [True] * 6])
def test_select_refuses_what_is_no_list_of_positions(indices):
    with pytest.raises(ConfigError, match="indices"):
        make().select(np.asarray(indices))


def test_select_may_return_a_blank_image():
    x = torch.rand(3, 1, 4, 4)
    x[1] = 0
    assert ImageSet(x, data_range=(0, 1)).select([1]).x.abs().max() == 0


def test_fingerprint_follows_content_and_nothing_else():
    images = make()
    assert images.fingerprint() == make(name="other", citation="x", labels=(0,) * 6).fingerprint()
    nudged = images.x.clone()
    nudged[5, 0, 3, 4] = torch.nextafter(nudged[5, 0, 3, 4], torch.tensor(0.0))
    others = [
        make(x=nudged),
        make(groups=tuple("aabbcc")),
        make(data_range=(0.0, 2.0)),
        make(y=images.x),
        images.select([1, 0, 2, 3, 4, 5]),
        images.select([0, 1, 2, 3, 4]),
    ]
    prints = {other.fingerprint() for other in others}
    assert len(prints) == len(others)
    assert images.fingerprint() not in prints
