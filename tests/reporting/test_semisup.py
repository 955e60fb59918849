"""Views of a `semisup` run from arrays that are known."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from latens.errors import DataError
from latens.evaluation.views import Views
from latens.reporting.figures import canvas
from latens.reporting.semisup import ARRAYS, Viewed, galleries, gallery_figure, montage, read_views

K, Y, M = 3, 2, 30


def arrays(**changes):
    rng = np.random.default_rng(0)
    found = {
        "images": rng.integers(0, 255, (K, 4, 1, 5, 6), dtype=np.uint8),
        "decoded": rng.integers(0, 255, (K, 1, 5, 6), dtype=np.uint8),
        "usage": np.array([0.5, 0.3, 0.2]),
        "tau": np.array([[0.9, 0.1], [0.4, 0.6], [0.16, 0.84]]),
        "latents": rng.normal(size=(M, 2)),
        "explained": np.array([0.6, 0.3]),
        "component": rng.integers(0, K, M),
        "kind": rng.integers(0, Y, M),
        "reliability": np.array([[0.0, np.nan, np.nan], [0.4, 0.6, 0.5], [0.6, 0.9, 0.95]]),
        "sure_right": rng.uniform(0.5, 1, 25),
        "sure_wrong": rng.uniform(0, 0.6, 5),
        "sure_strange": np.empty(0),
        "sigma": rng.uniform(0.1, 0.3, M),
        "error": rng.uniform(0.1, 0.3, M),
        "sigma_reliability": np.array([[0.5, 0.15, 0.14], [0.5, 0.25, 0.29]]),
        "sigma_of_class": np.array([0.2, np.nan]),
        "error_of_class": np.array([0.21, np.nan]),
    }
    return found | changes


def test_a_montage_is_what_it_is_made_of():
    made = arrays()
    row = montage(made, 1)
    assert row.shape == (5, 6 + 6 + 4 * 6 + 3)
    np.testing.assert_array_equal(row[:, :6], made["decoded"][1, 0])
    assert (row[:, 6:12] == 255).all()
    for place in range(4):
        left = 12 + 7 * place
        np.testing.assert_array_equal(row[:, left : left + 6], made["images"][1, place, 0])


def test_a_component_names_the_classes_that_it_speaks_for():
    rows = galleries([Viewed("a", 50, arrays())])["a"]
    assert [row.classes for row in rows] == [
        "0 (0.90)",
        "1 (0.60), 0 (0.40)",
        "1 (0.84), 0 (0.16)",
    ]
    assert [row.usage for row in rows] == ["50.0 %", "30.0 %", "20.0 %"]
    assert all(row.source.startswith("data:image/png;base64,") for row in rows)
    figure = gallery_figure([Viewed("a", 50, arrays())])
    assert figure is not None
    assert len(figure.axes) == K
    assert gallery_figure([]) is None


def test_sigma_that_is_the_same_for_all_tells_nothing():
    assert Viewed("a", 50, arrays()).varies
    assert not Viewed("a", 50, arrays(sigma=np.full(M, 0.2))).varies
    assert not Viewed("a", 50, arrays(sigma=np.full(M, np.nan))).varies


def test_arrays_are_those_that_an_evaluation_writes():
    assert arrays().keys() == ARRAYS == {field.name for field in fields(Views)}


def run_of(folder, monkeypatch):
    unit = SimpleNamespace(folder=folder, identity={"solver": "a", "n": 50})
    monkeypatch.setattr("latens.reporting.semisup.check_units", lambda results, check: [unit])
    return SimpleNamespace(run={"study": "semisup"})


def test_every_figure_is_drawn_from_the_arrays(tmp_path, monkeypatch):
    from latens.reporting.semisup import drawings

    save_file(arrays(), tmp_path / "views.safetensors")
    results = run_of(tmp_path, monkeypatch)
    found = {drawing.name: drawing for drawing in drawings(results)}
    counts = {name: len(drawing.panels) for name, drawing in found.items()}
    expected = {"reliability": 1, "certainty": 1, "latent_maps": 2, "sigma": 1}
    assert counts == expected | {"sigma_of_class": 1}
    for drawing in found.values():
        for panel in drawing.panels:
            _, axes = canvas(1, 1)
            panel.draw(axes[0])
            assert axes[0].lines
    _, axes = canvas(1, 1)
    found["certainty"].panels[0].draw(axes[0])
    assert len(axes[0].lines) == 2  # no images of another kind
    np.testing.assert_allclose(
        axes[0].lines[0].get_xdata()[[0, -1]],
        [arrays()["sure_right"].min(), arrays()["sure_right"].max()],
    )
    _, axes = canvas(1, 1)
    found["reliability"].panels[0].draw(axes[0])
    np.testing.assert_allclose(axes[0].lines[1].get_ydata(), [0.5, 0.95])
    _, axes = canvas(1, 1)
    found["sigma"].panels[0].draw(axes[0])
    np.testing.assert_allclose(axes[0].lines[2].get_xydata(), [[0.15, 0.14], [0.25, 0.29]])


def test_damaged_views(tmp_path, monkeypatch):
    (tmp_path / "views.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="views"):
        read_views(run_of(tmp_path, monkeypatch))
    partial = {name: array for name, array in arrays().items() if name != "sigma_reliability"}
    save_file(partial, tmp_path / "views.safetensors")
    with pytest.raises(DataError, match="sigma_reliability"):
        read_views(run_of(tmp_path, monkeypatch))
    (tmp_path / "views.safetensors").unlink()
    assert read_views(run_of(tmp_path, monkeypatch)) == []
