"""Figures of posteriors of fields say what their arrays hold."""

import numpy as np
import pytest

from latens.metrics import ecdf_band
from latens.reporting.pde_figures import closer_figure, field_figure, rank_figure
from latens.reporting.ranks import RankCurve
from latens.reporting.rendering import figure_svg

RNG = np.random.default_rng(0)


def arrays(shape: tuple[int, ...], readings: int = 12) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth and the arrays of a posterior around it, two fields."""
    axes = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    truth = np.stack([2 + np.sin(3 * sum(axes) + k) for k in range(2)])[:, None]
    wide = 0.1 * (1 + axes[-1])
    many = truth + wide * RNG.normal(size=(200, 2, 1, *[1] * len(shape)))
    flat = many.reshape(200, 2, -1)
    points = np.array([flat.shape[2] // 2, flat.shape[2] // 4, 3])
    lower, upper = np.quantile(many, [0.025, 0.975], axis=0)
    middle = np.linspace(0, 1, readings) * np.ones((2, 1))
    return truth, {
        "mean": many.mean(0),
        "map": truth,
        "std": many.std(0),
        "lower": lower,
        "upper": upper,
        "draws": many[:8],
        "points": points,
        "marginals": flat[..., points],
        "correlation": np.ones((2, 3, *shape)),
        "predicted": np.stack([middle - 1, middle, middle + 1]),
        "readings": middle + np.array([0.5] * (readings - 3) + [3.0] * 3),
    }


@pytest.mark.parametrize("shape", [(9, 11), (16,)])
@pytest.mark.parametrize("known", [True, False])
def test_fields_and_a_closer_look(shape, known):
    truth, found = arrays(shape)
    figure = field_figure(truth if known else None, found, "laplace")
    text = figure_svg(figure).decode()
    assert ("truth" in text) == known
    assert "MAP" in text
    closer = closer_figure(truth if known else None, found, "laplace", field=1)
    text = figure_svg(closer).decode()
    assert "75 % inside" in text  # nine of twelve readings
    assert "correlation with C" in text
    assert ("truth dashed" in text) == known
    assert ("draw 8" in text) == (len(shape) == 2)
    histograms = [ax for ax in closer.axes if ax.get_title().startswith("a at")]
    assert len(histograms) == 3
    for place, ax in enumerate(histograms):
        counts = sum(patch.get_height() for patch in ax.patches)
        assert counts == 200
        edges = [patch.get_x() for patch in ax.patches]
        assert min(edges) == pytest.approx(found["marginals"][:, 1, place].min())


def test_images_of_the_square_are_the_arrays():
    truth, found = arrays((9, 11))
    figure = field_figure(truth, found, "laplace")
    shown = {ax.get_title(): ax.images[0].get_array() for ax in figure.axes[:7]}
    np.testing.assert_allclose(shown["97.5 %"], found["upper"][0, 0])
    np.testing.assert_allclose(shown["|error|"], np.abs(found["mean"] - truth)[0, 0])


def test_ranks_are_drawn_per_quantity_and_way():
    lower, upper = ecdf_band(60, 39)
    place = np.linspace(0, 1, 41)
    band = np.r_[0, lower, 0], np.r_[0, upper, 0]
    curves = [
        RankCurve(
            way, place, shift * np.sin(np.pi * place), shift * np.sin(np.pi * place), band, 1, 60
        )
        for way, shift in (("laplace", 0.02), ("amortised", -0.05))
    ]
    figure = rank_figure({"mean of the field": curves, "log p(y | z)": curves[:1]}, "Ranks")
    text = figure_svg(figure).decode()
    assert text.count("mean of the field") == 1
    assert "amortised" in text
    assert [len(ax.lines) for ax in figure.axes] == [1 + 2 + 2, 1 + 1]
