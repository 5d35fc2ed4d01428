"""The page in a browser. Every name in it is hostile: what comes from outside is text and nothing else."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated_folder import TARGET, small_evaluation, write_evaluated_folder
from PIL import Image

from fairpp_hf.drawing import write_report

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
SCRIPT, QUOTES = "<script>alert(1)</script>", """"quoted" & 'so' 🦄 <b>نموذج عربي</b>"""
NO_BROWSER = "needs Chromium: install it with `apt-get install chromium`, or put `chromium` on the PATH"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    evaluation = small_evaluation(50, (SCRIPT, QUOTES), personas=(TARGET, "civic_pragmatists"))
    systems = tuple(system for system in evaluation.systems if system.name in (SCRIPT, QUOTES, "constant"))
    evaluation = replace(evaluation, systems=systems)
    folder = write_evaluated_folder(tmp_path_factory.mktemp("hostile"), evaluation)
    return write_report(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def opened_once(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page; at the end, nothing may have been logged, asked for or run."""
    noise = []
    page = browser.new_page()
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(dialog.message))
    page.on("request", lambda request: noise.append(request.url) if request.url != page_file.as_uri() else None)
    page.goto(page_file.as_uri())
    yield page
    assert noise == []


@pytest.fixture
def page(opened_once: Any) -> Iterator[Any]:
    """The page as it is opened, whatever the test before has done to its window."""
    yield opened_once
    opened_once.emulate_media(media="screen", color_scheme="light")
    opened_once.set_viewport_size({"width": 1280, "height": 720})
    opened_once.evaluate("document.querySelectorAll('details').forEach(part => { part.open = false; })")


def test_hostile_names_are_shown_as_they_are(page: Any) -> None:
    assert set(page.locator("#systems tbody th bdi").all_text_contents()) == {SCRIPT, QUOTES, "constant"}
    assert (page.locator("script").count(), page.locator("main b").count()) == (0, 0)
    ids = page.eval_on_selector_all("[id]", "parts => parts.map(part => part.id)")
    assert len(ids) == len(set(ids))


def test_the_sentence_and_the_picture_come_first_and_the_page_is_short(page: Any) -> None:
    """On a phone. It was 85,000 pixels long with a hundred questions and thirteen charts."""
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator("#figure-distance svg").bounding_box()["y"] < 844
    assert page.evaluate("document.documentElement.scrollHeight") < 10_000
    assert page.locator("#questions > .questions > li").count() == 10
    assert page.locator(".more .questions > li").count() == 30
    # Each figure has words and numbers, and each table is reached by keyboard.
    empty = "figures => figures.filter(f => !f.querySelector('[role=img]').ariaLabel || !f.querySelector('td')).length"
    assert (page.locator("figure").count(), page.eval_on_selector_all("figure", empty)) == (5, 0)
    assert page.locator(".scroll:not([tabindex='0'])").count() == 0


def test_charts_and_metrics_are_downloaded(page: Any) -> None:
    for name, start in (("distance.png", b"\x89PNG"), ("results.csv", b"system,")):
        with page.expect_download() as download:
            page.locator(f"a[download='{name}']").click()
        assert (download.value.suggested_filename, download.value.path().read_bytes()[: len(start)]) == (name, start)


def test_the_table_of_systems_fits_a_wide_screen(page: Any) -> None:
    table = "document.getElementById('systems')"
    assert page.evaluate(f"{table}.rows[0].cells.length") == 6
    assert page.evaluate(f"{table}.parentElement.scrollWidth <= {table}.parentElement.clientWidth")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(width: int, page: Any) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sides = "texts => texts.map(t => t.getBoundingClientRect()).map(box => [box.left, box.right])"
    clipped = [box for box in page.eval_on_selector_all("svg text", sides) if box[0] < 0 or box[1] > width]
    assert clipped == []


CONTRASTS = Path(__file__).with_name("contrasts.js").read_text("utf-8")


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_texts_stand_out_in_light_and_in_dark(scheme: str, is_dark: bool, page: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 26)" if is_dark else "rgb(255, 255, 255)")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 500
    # WCAG 2, level AA.
    assert [text for text in found if text[0] < 4.5] == []


def test_on_paper_everything_is_open_and_in_the_colours_of_paper(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("summary:visible, .downloads a:visible").count() == 0
    assert page.locator("details table").first.bounding_box()["height"] > 20
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [text for text in page.evaluate(CONTRASTS) if text[0] < 4.5] == []
    picture = np.asarray(Image.open(io.BytesIO(page.locator("#figure-distance").screenshot())).convert("L"))
    assert picture.min() < 60
    assert picture.mean() > 200
    printed = page.pdf(format="A4")
    assert len(printed) > 100_000
    assert 5 < printed.count(b"/Type /Page\n") < 25
