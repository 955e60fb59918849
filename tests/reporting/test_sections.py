"""The page with deep checks: every figure is there, said in words, and in the folder."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from latens import store
from latens.reporting import Results, read_results, write_figures, write_report
from latens.reporting.html import render
from latens.reporting.pictures import (
    FLAGS,
    Picture,
    PictureRow,
    PictureSet,
    Scale,
    picture_figure,
    strips,
)
from latens.reporting.rendering import figure_svg
from latens.reporting.sections import drawings, picture_sets
from latens.reporting.trust import read_trust
from latens.reporting.trust_figure import trust_figure
from reporting.synthetic_checks import CHECKED
from reporting.synthetic_run import POINTS
from reporting.test_html import Page


@pytest.fixture(scope="module")
def text(checked_run: store.RunFolder) -> str:
    return write_report(checked_run).read_text("utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_panel_is_on_the_page_with_its_description(checked: Results, page: Page) -> None:
    labels = [str(a["aria-label"]) for a in page.named("svg") if a.get("role") == "img"]
    for drawing in drawings(checked):
        assert drawing.panels, drawing.name
        assert drawing.caption in page.text
        for panel in drawing.panels:
            assert panel.description in labels
            assert panel.title in page.text


def test_every_figure_is_in_the_folder(
    checked_run: store.RunFolder, checked: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latens.reporting.html.figure_pdf", lambda figure: b"%PDF")  # slow
    written = {path.name for path in write_figures(checked_run)}
    named = [drawing.name for drawing in drawings(checked)]
    for name in (*named, "worst_cases", "hallucinations", "auroc", "trust_card"):
        assert {f"{name}.svg", f"{name}.pdf"} <= written
        ElementTree.parse(checked_run.figures / f"{name}.svg")


def test_page_stays_valid_small_and_the_same(
    checked_run: store.RunFolder, page: Page, text: str
) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(text.encode()) < 10_000_000
    assert all("style" not in attributes for _, attributes in page.elements)
    assert len(page.named("caption")) == len(page.named("table"))
    assert render(read_results(checked_run)) == text


def test_pictures_say_what_they_show(page: Page) -> None:
    alts = [str(a["alt"]) for a in page.named("img")]
    assert all(alts)
    for solver in CHECKED:
        assert f"Image 0, {solver}, N = 512: disturbance" in alts
        found = [alt for alt in alts if alt.startswith(f"Image 4, {solver}, N = 512: halluc")]
        assert len(found) == (0 if solver in POINTS else 1)
    missing = [str(a.get("aria-label")) for a in page.named("span") if a.get("role") == "img"]
    assert "Image 0, unet, N = 512: hallucinated: not available" in missing


def test_verdicts_have_words_marks_classes_and_reasons(page: Page) -> None:
    cells = [a for a in page.named("td") if str(a.get("class", "")).startswith("verdict")]
    classes = {str(a["class"]).split()[1] for a in cells}
    assert classes == {"yes", "no", "open", "not-measured"}
    for cell in cells:
        reasons = {"verdict no": "above the bar", "verdict open": "the interval crosses the bar"}
        assert cell.get("title") == reasons.get(str(cell["class"]))
    for word in ("✓ yes", "✗ no", "? open", "– not measured", "above the bar"):
        assert word in page.text


def test_trust_figure_has_every_word_and_number(checked: Results) -> None:
    card = read_trust(checked)
    assert card is not None
    said = [text.get_text() for text in trust_figure(card).axes[0].texts]
    for row in card.largest:
        assert row.solver in said
        for verdict in row.verdicts.values():
            assert f"{verdict.mark} {verdict.word}" in said
            assert verdict.text.replace(", bar", "\nbar") in said


def test_heat_is_told_by_number_too(page: Page) -> None:
    shaded = [a for a in page.named("td") if str(a.get("class", "")).startswith(("up", "down"))]
    assert len(shaded) > 10
    assert all(str(a["title"]).startswith("95 % interval [") for a in shaded)


def test_every_number_under_a_shift_is_shown_with_what_it_is(text: str) -> None:
    for summary, *words in (
        ("Numbers of detection", "average precision", "False alarms at 95", "any score: the rule"),
        ("Numbers of the risk-coverage curves", "AUGRC / random", "AURC: mean over"),
        ("Numbers under every shift", "flagged by the gate", "p_draw ≤ .05", "p_draw under those"),
    ):
        section = text.partition(f"<summary>{summary}</summary>")[2].partition("</details>")[0]
        assert [word for word in words if word not in section] == []


def test_sections_that_were_not_checked_say_how_to_ask(run: store.RunFolder) -> None:
    page = Page(write_report(run).read_text("utf-8"))
    for check in ("stability", "null_space", "calibration", "reliability"):
        assert f'--checks "[{check}]"' in page.text
    assert all(not d.panels for d in drawings(read_results(run)))
    assert picture_sets(read_results(run)) == []


@pytest.mark.parametrize("solver", ["tikhonov", "latent"])
def test_one_solver_is_enough(checked: Results, solver: str) -> None:
    tables = ("curves", "metrics", "tests", "shifts", "trust", "scaling", "scaling_band")
    alone = {name: getattr(checked, name) for name in tables}
    alone = {name: table[table["solver"] == solver] for name, table in alone.items()}
    evaluations = {
        name: unit
        for name, unit in checked.evaluations.items()
        if unit.identity["solver"] == solver
    }
    page = Page(render(replace(checked, **alone, evaluations=evaluations)))
    assert page.open == []
    assert "How stable?" in page.text


def test_numbers_that_are_no_numbers_still_make_a_page(checked: Results) -> None:
    def spoilt(table, columns):
        return table.assign(**dict.fromkeys(columns, math.nan))

    results = replace(
        checked,
        metrics=spoilt(checked.metrics, ("value", "lower", "upper")),
        shifts=spoilt(checked.shifts, ("value", "lower", "upper")),
        tests=spoilt(checked.tests, ("p_value", "p_adjusted", "statistic")),
        curves=spoilt(checked.curves, ("mean", "lower", "upper")),
        trust=spoilt(checked.trust, ("value", "lower", "upper")),
    )
    assert Page(render(results)).open == []


def pictured(values: np.ndarray | None, colours: str = "gray") -> PictureSet:
    row = PictureRow("cvae", 3, (Picture("truth", values, colours, 0.0, 1.0, "all of it"),))
    return PictureSet("any", 64, "A caption.", [row], [Scale("truth", "gray", 0.0, 1.0)])


def test_lines_missing_pictures_and_codes_become_tiles() -> None:
    (strip,) = strips(pictured(np.linspace(0, 1, 7)))[3]
    assert len(strip.tiles[0].points.split()) == 7
    (strip,) = strips(pictured(None))[3]
    assert (strip.tiles[0].source, strip.tiles[0].points) == ("", "")
    assert strip.tiles[0].alt.endswith("not available")
    (strip,) = strips(pictured(np.array([[0, 1], [2, 0]]), FLAGS))[3]
    assert strip.tiles[0].source.startswith("data:image/png;base64,")
    for values in (np.linspace(0, 1, 7), None, np.zeros((3, 3)), np.full((2, 2), math.nan)):
        assert figure_svg(picture_figure(pictured(values)))


def test_codes_keep_their_colours() -> None:
    import base64
    import io

    from PIL import Image

    (strip,) = strips(pictured(np.array([[0, 1], [2, 0]]), FLAGS))[3]
    data = base64.b64decode(strip.tiles[0].source.partition(",")[2])
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert image[0, 0, 3] < 100
    blue, orange = image[0, 1].astype(int), image[1, 0].astype(int)
    assert blue[2] > 150 > blue[0]
    assert orange[0] > 200 > orange[2]


def test_budget_keeps_whole_images(monkeypatch: pytest.MonkeyPatch, checked: Results) -> None:
    worst, _ = picture_sets(checked)
    assert list(strips(worst)) == worst.images
    monkeypatch.setattr("latens.reporting.pictures.BUDGET", 1)
    kept = strips(worst)
    assert list(kept) == worst.images[:1]
    assert len(kept[worst.images[0]]) == len(CHECKED)
