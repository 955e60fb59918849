"""Figures: stable styles, real sizes on the axis, the same bytes twice."""

import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest

from latens import store
from latens.reporting import (
    choose_examples,
    examples,
    learning_curves,
    read_results,
    solver_style,
    training_history,
    write_figures,
)
from latens.reporting.figures import learning_curve
from latens.reporting.gallery import shared_images
from latens.reporting.palette import KNOWN, MARKER_PATHS, ordered
from latens.reporting.rendering import figure_pdf, figure_svg, inline_svg
from reporting.synthetic_run import SIZES, SOLVERS


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("solver", [*KNOWN, "mine", "another one"])
def test_lines_stand_out_from_paper_and_from_dark_screens(solver: str) -> None:
    style = solver_style(solver)
    assert 1.05 / (luminance(style.colour) + 0.05) > 3.0
    assert (luminance(style.dark) + 0.05) / (luminance("#16171a") + 0.05) > 4.5
    assert style.marker in MARKER_PATHS


def test_known_solvers_differ_in_more_than_colour() -> None:
    for a, b in combinations(map(solver_style, KNOWN), 2):
        assert a.marker != b.marker or a.line != b.line


def test_ensemble_has_the_hue_of_its_members_and_another_line() -> None:
    base, ensemble = solver_style("cvae"), solver_style("cvae_ensemble")
    assert base.colour == ensemble.colour
    assert base.line != ensemble.line
    assert (base.hollow, ensemble.hollow) == (False, True)


def test_order_puts_an_ensemble_behind_its_members() -> None:
    names = ["zeta", "tikhonov", "cvae_ensemble", "cvae", "alpha", "cvae"]
    assert ordered(names) == ["cvae", "cvae_ensemble", "tikhonov", "alpha", "zeta"]


def test_axis_shows_the_measured_sizes(run: store.RunFolder) -> None:
    results = read_results(run)
    figure = learning_curves(
        results.curves, results.scaling_band, results.definitions, results.measured
    )
    for ax in figure.axes[: len(results.measured)]:
        assert [int(t.get_text()) for t in ax.get_xticklabels()] == list(SIZES)
        assert ax.get_xscale() == "log"
    nmse = figure.axes[results.measured.index("nmse")]
    assert nmse.get_yscale() == "log"


def test_points_lie_at_their_means(run: store.RunFolder) -> None:
    results = read_results(run)
    definition = results.definitions["psnr"]
    figure = learning_curve(results.curves, results.scaling_band, definition, ["cvae"])
    points = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    expected = [results.cell("cvae", n, "psnr") for n in SIZES]
    np.testing.assert_allclose(points[0].get_xdata(), SIZES)
    np.testing.assert_allclose(points[0].get_ydata(), [row["mean"] for row in expected if row])


def test_one_wide_interval_does_not_flatten_the_panel(run: store.RunFolder) -> None:
    results = read_results(run)
    wild = results.curves.copy()
    wild.loc[wild["n"] == SIZES[0], "upper"] = 1e6
    definition = results.definitions["psnr"]
    low, high = learning_curve(wild, results.scaling_band, definition, SOLVERS).axes[0].get_ylim()
    assert high - low < 30


def test_solver_without_training_data_is_a_horizontal_line(run: store.RunFolder) -> None:
    results = read_results(run)
    curves = results.curves[results.curves["solver"].isin(["cvae", "tikhonov"])].copy()
    curves = curves[(curves["solver"] == "cvae") | (curves["n"] == SIZES[0])]
    curves.loc[curves["solver"] == "tikhonov", "n"] = 0
    definition = results.definitions["psnr"]
    ax = learning_curve(curves, results.scaling_band, definition, ["cvae", "tikhonov"]).axes[0]
    value = curves.query("solver == 'tikhonov' and metric == 'psnr'")["mean"].item()
    flat = [line for line in ax.lines if np.allclose(line.get_ydata(), value)]
    assert len(flat) == 1
    assert [int(t.get_text()) for t in ax.get_xticklabels()] == list(SIZES)


def test_bytes_of_a_figure_repeat(run: store.RunFolder) -> None:
    results = read_results(run)

    def draw() -> tuple[bytes, bytes]:
        arguments = results.curves, results.scaling_band, results.definitions, ["nmse"]
        return figure_svg(learning_curves(*arguments)), figure_pdf(learning_curves(*arguments))

    (svg, pdf), (svg_again, pdf_again) = draw(), draw()
    assert svg == svg_again
    assert pdf == pdf_again
    assert b"CreationDate" not in pdf
    assert b"training samples N</text>" in svg


def test_drawing_changes_no_global_setting(run: store.RunFolder) -> None:
    before = dict(matplotlib.rcParams)
    results = read_results(run)
    inline_svg(
        learning_curves(results.curves, results.scaling_band, results.definitions, ["nmse"]),
        "a",
        "text",
    )
    assert dict(matplotlib.rcParams) == before


def test_inline_figure_names_its_solvers_and_carries_no_style(run: store.RunFolder) -> None:
    results = read_results(run)
    figure = learning_curve(
        results.curves, results.scaling_band, results.definitions["nmse"], SOLVERS
    )
    root = ElementTree.fromstring(inline_svg(figure, "fig", 'a "description" <b>'))
    assert {e.get("data-solver") for e in root.iter()} - {None} == set(SOLVERS)
    assert all(e.get("style") is None and e.tag != "style" for e in root.iter())
    assert root.get("aria-label") == 'a "description" <b>'
    ids = {e.get("id") for e in root.iter()} - {None}
    assert all(str(i).startswith("fig-") for i in ids)
    used = {str(e.get("href")) for e in root.iter("use")}
    assert used <= {f"#{i}" for i in ids}
    clips = set(re.findall(r"url\(#([^)]+)\)", ElementTree.tostring(root, encoding="unicode")))
    assert clips <= ids


@pytest.mark.parametrize("name", ["a$b", "$x^2$", "a_b^c", "<b>&amp;", "%s"])
def test_names_are_drawn_as_they_stand(run: store.RunFolder, name: str) -> None:
    results = read_results(run)
    curves = results.curves.assign(solver=name)
    curves = curves.drop_duplicates(["n", "metric"])
    svg = figure_svg(learning_curves(curves, results.scaling_band, results.definitions, ["psnr"]))
    texts = {e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")}
    assert name in texts


def test_history_has_a_panel_per_quantity() -> None:
    history = pd.DataFrame(
        {
            "stage": ["fit"] * 4,
            "step": [1, 2, 1, 2],
            "quantity": ["train/loss", "train/loss", "val/kl", "val/kl"],
            "value": [3.0, 2.0, 0.5, 0.7],
        }
    )
    figure = training_history({"cvae": history, "direct": history})
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["train/loss", "val/kl"]
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [0.5, 0.7])


def test_written_figures_are_pdf_and_svg(run: store.RunFolder) -> None:
    paths = write_figures(run)
    stems = {p.stem for p in paths}
    assert stems == {
        "learning_curves",
        "training_history",
        *(f"examples_n{n}" for n in (SIZES[0], SIZES[-1])),
    }
    curves = next(p for p in paths if p.name == "learning_curves.svg")
    assert "direct (not a posterior)</text>" in curves.read_text("utf-8")
    for path in paths:
        start = path.read_bytes()[:5]
        assert start == (b"%PDF-" if path.suffix == ".pdf" else b"<?xml")


def test_a_figure_shows_the_images_that_all_solvers_have(run: store.RunFolder) -> None:
    first, second = choose_examples(read_results(run))[SIZES[-1]][:2]
    other = replace(second, images=(first.images[1], 77, *first.images[2:]))
    assert shared_images([first, other]) == list(first.images[1:])
    pictures = [
        [image.get_array() for image in examples([s, t], positions=(0,)).axes[0].images]
        for s, t in ((first, other), (other, first))
    ]
    truths = [np.asarray(drawn[0]) for drawn in pictures]
    np.testing.assert_array_equal(truths[0], first.picture("truth", 1))
    np.testing.assert_array_equal(truths[1], other.picture("truth", 0))
    assert shared_images([]) == []


def test_examples_are_chosen_by_seed_and_compared_with_the_truth(run: store.RunFolder) -> None:
    chosen = choose_examples(read_results(run))
    assert list(chosen) == list(SIZES)
    sets = {s.solver: s for s in chosen[SIZES[-1]]}
    assert set(sets) == set(SOLVERS)
    cvae, unet = sets["cvae"], sets["unet"]
    folder = cvae.unit.folder / "examples"
    truth, mean, lower, upper = (
        np.load(folder / f"{name}.npy")[1, 0] for name in ("truth", "mean", "lower", "upper")
    )
    error, outside = cvae.picture("error", 1), cvae.picture("outside", 1)
    assert error is not None
    assert outside is not None
    np.testing.assert_allclose(error, np.abs(mean - truth), atol=1e-6)
    np.testing.assert_array_equal(outside != 0, (truth < lower) | (truth > upper))
    assert unet.picture("std", 0) is None
    assert unet.picture("outside", 0) is None
