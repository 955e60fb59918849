"""The report: one safe, small, deterministic file, honest about what is missing."""

import base64
import hashlib
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from latens import store
from latens.reporting import write_figures, write_report
from reporting.synthetic_run import IDENTITY, SIZES, SOLVERS, curves, write_examples

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>'
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Elements of a page, their attributes and the text of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {"style": [], "script": [], "text": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        self.texts[inside if inside in {"style", "script"} else "text"].append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts["text"]).split())


@pytest.fixture(scope="session")
def report(run: store.RunFolder) -> str:
    return write_report(run).read_text("utf-8")


@pytest.fixture(scope="session")
def page(report: str) -> Page:
    return Page(report)


def test_elements_close_in_order_and_identifiers_are_unique(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    targets = {a["href"] for a in page.named("a") + page.named("use")}
    assert {t for t in targets if t} <= {f"#{i}" for i in ids}


def test_policy_allows_exactly_the_style_and_the_script_of_the_page(page: Page) -> None:
    policies = [
        attributes["content"]
        for attributes in page.named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    directives = dict(d.strip().split(" ", 1) for d in str(policies[0]).split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag in ("style", "script"):
        assert len(page.named(tag)) == 1
        digest = hashlib.sha256("".join(page.texts[tag]).encode()).digest()
        allowed = f"'sha256-{base64.b64encode(digest).decode()}'"
        assert directives[f"{tag}-src"] == allowed
    assert "unsafe" not in str(policies[0])


def test_page_needs_nothing_that_its_policy_forbids(page: Page) -> None:
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)


def test_page_loads_nothing_from_anywhere(page: Page, report: str) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        if "src" in attributes:
            assert str(attributes["src"]).startswith("data:image/png;base64,")
        for name in ("href", "xlink:href"):
            assert str(attributes.get(name, "#")).startswith("#")
    assert "@import" not in report
    assert re.findall(r"url\((?!#)", report) == []


def test_report_is_small_and_its_script_short(run: store.RunFolder, report: str) -> None:
    assert 100_000 < len(report.encode()) < 10_000_000
    script = re.search(r"<script>(.*?)</script>", report, re.DOTALL)
    assert script is not None
    assert 10 < script[1].count("\n") <= 200


def test_two_renderings_give_the_same_bytes(run: store.RunFolder, report: str) -> None:
    write_report(run)
    assert run.report_file.read_text("utf-8") == report


def test_pictures_have_descriptions_and_tables_captions(page: Page) -> None:
    assert len(page.named("img")) > 50
    assert all(attributes.get("alt") for attributes in page.named("img"))
    assert len(page.named("caption")) == len(page.named("table")) >= 6
    roles = [a for a in page.named("svg") if a.get("role") == "img"]
    assert len(roles) >= 7
    assert all(a.get("aria-label") for a in roles)


def test_report_says_what_the_run_says(page: Page) -> None:
    for words in (
        "Blurred ellipses",
        "sha256:5f1d3a9c",
        "Doe and Roe (2020)",
        "GaussianBlur(width=2.0)",
        "GaussianNoise(std=0.05)",
        "The loss became NaN at step 412.",
        "0 of 32 units are active",
        "not a posterior",
        "max_steps: 2000",
        "numpy",
    ):
        assert words in page.text
    for solver in SOLVERS:
        assert solver in page.text


def test_excluded_fits_are_counted_where_they_are_missing(page: Page) -> None:
    assert page.text.count("1 of 6 cells excluded") >= 4
    assert "2 of 120 fits are left out of every mean (1 collapsed and 1 nan)" in page.text


def test_strings_of_the_run_are_escaped(tmp_path: Path) -> None:
    identity = {
        **IDENTITY,
        "name": HOSTILE,
        "data": {"name": HOSTILE, HOSTILE: HOSTILE},
        "config": {"problem": {"operator": HOSTILE, "noise": {"class_path": HOSTILE}}},
    }
    run = store.RunFolder.create(tmp_path / "run", identity)
    schema = store.CURVES
    rows = [
        {**row, "metric": HOSTILE, "solver": HOSTILE, "status": HOSTILE}
        for row in curves()
        if row["solver"] == "cvae" and row["metric"] == "nmse"
    ]
    store.write_table(run.tables, schema, store.from_rows(rows, schema))
    definition = dict.fromkeys(
        ("metric", "label", "unit", "better", "definition", "section"), HOSTILE
    )
    schema = store.METRIC_DEFINITIONS
    table = store.from_rows([{**definition, "target": math.nan}], schema)
    store.write_csv(run.tables / "metric_definitions.csv", schema, table)
    solver = {"solver": HOSTILE, "n": 32, "data_seed": 0, "init_seed": 0, "fits": []}
    with store.new_folder(run.evaluation("0" * 16)) as folder:
        store.write_json(
            folder / "evaluation.json", {**solver, "kind": "posterior", "note": HOSTILE}
        )
        store.Outcome(store.Status.FAILED, HOSTILE).write(folder)
    with store.new_folder(run.fit("1" * 16)) as folder:
        store.write_json(folder / "fit.json", {"model": HOSTILE, "n": 32})
        store.Outcome(store.Status.FAILED, HOSTILE).write(folder)
    text = write_report(run).read_text("utf-8")
    page = Page(text)
    assert text.count("&lt;script&gt;") > 10
    assert HOSTILE in page.text.replace("\xa0", " ")
    assert len(page.named("script")) == 1
    assert [a for a in page.named("img") if "onerror" in a] == []
    assert write_figures(run) != []


def test_run_that_has_finished_nothing_says_so(empty_run: store.RunFolder) -> None:
    page = Page(write_report(empty_run).read_text("utf-8"))
    for words in (
        "nothing can be answered",
        "holds no learning curves yet",
        "No law was fitted",
        "keeps no example reconstructions",
        "No fit has finished yet",
        "No cost was recorded",
        "No metric was measured",
        "GaussianBlur(width=2.0)",
    ):
        assert words in page.text
    assert page.named("img") == []
    assert write_figures(empty_run) == []


def test_folder_without_description_still_gives_a_report(tmp_path: Path) -> None:
    page = Page(write_report(store.RunFolder(tmp_path)).read_text("utf-8"))
    assert "does not say what its data are" in page.text
    assert "keeps no configuration" in page.text


def test_one_size_without_laws_and_examples(empty_run: store.RunFolder) -> None:
    rows = [row for row in curves() if row["n"] == SIZES[-1]]
    table = store.from_rows(rows, store.CURVES)
    store.write_table(empty_run.tables, store.CURVES, table)
    page = Page(write_report(empty_run).read_text("utf-8"))
    assert "Only N = 512 was measured" in page.text
    assert "Only one training size was measured" in page.text
    assert "No law was fitted" in page.text
    assert "The same at every N" not in page.text


def test_signals_on_a_line_are_drawn_as_lines(empty_run: store.RunFolder) -> None:
    identity = {"solver": "cvae", "n": 32, "data_seed": 0, "init_seed": 0, "fits": []}
    with store.new_folder(empty_run.evaluation("0" * 16)) as folder:
        store.write_json(folder / "evaluation.json", {**identity, "kind": "posterior"})
        store.Outcome(store.Status.CONVERGED).write(folder)
        write_examples(folder / "examples", "cvae", 32, side=16, images=2)
        for file in (folder / "examples").glob("*.npy"):
            store.write_array(file, store.read_array(file)[..., 8])
    page = Page(write_report(empty_run).read_text("utf-8"))
    assert len(page.named("polyline")) == 12
    assert all(len(str(a["points"]).split()) == 16 for a in page.named("polyline"))


def test_reporting_imports_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys; from latens import reporting, store; "
        "reporting.write_report(store.RunFolder(sys.argv[1])); "
        "reporting.write_figures(store.RunFolder(sys.argv[1])); "
        "print([m for m in ('torch', 'lightning', 'matplotlib.pyplot') if m in sys.modules], "
        "'pandas' in sys.modules)"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "[] True"
