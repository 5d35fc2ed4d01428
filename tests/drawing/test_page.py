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
    return write_report(folder, progress=False)[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def open_page(browser: Any, page_file: Path) -> Iterator[Any]:
    """Opens the page with context options; at the end, nothing may have been logged, asked for or run."""
    noise = []

    def opened(**options: Any) -> Any:
        page = browser.new_context(**options).new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("request", lambda request: noise.append(request.url) if request.url != page_file.as_uri() else None)
        page.goto(page_file.as_uri())
        return page

    yield opened
    assert noise == []


@pytest.fixture(scope="module")
def opened_once(open_page: Any) -> Any:
    return open_page()


@pytest.fixture
def page(opened_once: Any) -> Iterator[Any]:
    """The page as it is opened, whatever the test before has done to its window."""
    yield opened_once
    opened_once.emulate_media(media="screen", color_scheme="light")
    opened_once.set_viewport_size({"width": 1280, "height": 720})
    opened_once.evaluate("document.querySelectorAll('details').forEach(part => { part.open = false; })")


def shown(page: Any, selector: str) -> list[str]:
    """data-value of the parts that can be seen."""
    script = "parts => parts.filter(part => part.getClientRects().length).map(part => part.dataset.value)"
    found: list[str] = page.eval_on_selector_all(selector, script)
    return found


def test_hostile_names_are_shown_as_they_are(page: Any) -> None:
    assert set(page.locator("#systems tbody th bdi").all_text_contents()) == {SCRIPT, QUOTES, "constant"}
    assert (page.locator("script").count(), page.locator("main b").count()) == (1, 0)
    ids = page.eval_on_selector_all("[id]", "parts => parts.map(part => part.id)")
    assert len(ids) == len(set(ids))
    # Every reference inside the page leads somewhere.
    lost = "links => links.filter(link => !document.querySelector(link.hash)).length"
    assert page.eval_on_selector_all("a[href^='#']", lost) == 0


def test_the_systems_are_sorted_by_click_and_by_key(open_page: Any) -> None:
    page = open_page()
    column = page.locator("#systems thead th").all_text_contents().index("distance")
    keys = f"[...document.querySelectorAll('#systems tbody tr')].map(row => Number(row.cells[{column}].dataset.key))"
    head = page.locator("#systems thead th").nth(column)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    distances = page.evaluate(keys)
    assert distances == sorted(distances)
    head.locator("button").press("Enter")
    assert page.evaluate(keys) == distances[::-1]
    assert page.locator("#results [aria-live]").text_content() == "Sorted by distance, largest first."
    assert page.locator("#systems [aria-sort]").count() == 1
    page.locator("#systems thead th").nth(0).locator("button").click()
    names = page.locator("#systems tbody th bdi").all_text_contents()
    assert names == sorted(names, key=[QUOTES, SCRIPT, "constant"].index)


def test_selects_show_one_of_several(open_page: Any) -> None:
    page = open_page()
    assert shown(page, "figure[data-of=distances]") == ["questions"]
    page.locator("[data-shows=distances]").select_option("shares")
    assert shown(page, "figure[data-of=distances]") == ["shares"]
    assert shown(page, "figure[data-of=map]") == ["pca"]
    page.get_by_label("method").select_option("ideal_point")
    assert shown(page, "figure[data-of=map]") == ["ideal_point"]


def test_questions_are_filtered_and_ordered(open_page: Any) -> None:
    page = open_page()
    count, items = page.locator("#filter-count"), page.locator(".questions > li:visible")
    assert count.text_content() == "50 of 50 shown"
    page.locator("#filter-dimension").select_option("2")
    page.locator("#filter-group").select_option("women")
    page.locator("#filter-words").fill("women PROCEDURAL")
    found = items.count()
    assert 0 < found < 30
    assert count.text_content() == f"{found} of 50 shown"
    groups = page.eval_on_selector_all(".questions > li:not(.off)", "items => items.map(i => i.dataset.group)")
    assert set(groups) == {"women"}
    page.locator("#filter-words").fill("nowhere to be found")
    assert (items.count(), count.text_content()) == (0, "0 of 50 shown")
    page.locator("#filter-order").select_option("missed")
    missed = page.eval_on_selector_all(".questions > li", "items => items.map(i => Number(i.dataset.missed))")
    assert missed == sorted(missed, reverse=True)


def test_a_text_is_shown_over_a_part_of_a_chart(open_page: Any) -> None:
    page = open_page()
    page.evaluate("document.getElementById('figure-skill').scrollIntoView()")
    # Scrolling hides the text; it is over once two frames are drawn.
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.locator("#figure-skill [data-tip]").first.hover()
    assert page.locator("#tip").is_visible()
    assert page.locator("#tip").text_content().startswith("constant: 0.000")
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_the_keyboard_reaches_the_results_first_and_every_table(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.locator(".scroll:not([tabindex='0'])").count() == 0


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(width: int, page: Any) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_table_wider_than_its_box_says_so(page: Any) -> None:
    """On a wide screen the whole table of systems is seen; on a phone it scrolls, under a line that says so."""
    table = "document.getElementById('systems').parentElement"
    hint = f"[{table}.classList.contains('wider'), getComputedStyle({table}, '::before').content]"
    assert page.evaluate(f"{table}.scrollWidth <= {table}.clientWidth")
    assert page.evaluate(hint) == [False, "none"]
    page.set_viewport_size({"width": 390, "height": 740})
    page.wait_for_function(f"{table}.classList.contains('wider')")
    assert page.evaluate(hint) == [True, '"Wider than the screen: scroll sideways ↔"']


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


def test_on_paper_everything_is_open_and_no_control_is_left(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".controls:visible, nav:visible, summary:visible").count() == 0
    assert page.locator("details table").first.bounding_box()["height"] > 20
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [text for text in page.evaluate(CONTRASTS) if text[0] < 4.5] == []
    picture = np.asarray(Image.open(io.BytesIO(page.locator("#figure-skill").screenshot())).convert("L"))
    assert picture.min() < 60
    assert picture.mean() > 200
    printed = page.pdf(format="A4")
    assert len(printed) > 100_000
    assert 5 < printed.count(b"/Type /Page\n") < 60


def test_without_scripts_everything_is_there(open_page: Any) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator(".controls:visible").count() == 0
    figures = page.locator("figure")
    assert figures.count() == page.locator("figure:visible").count() == 2 + 2 + 3 + 2 + 1 + 3
    assert page.locator(".questions > li:visible").count() == 50
    # Each has words and numbers.
    empty = "figures => figures.filter(f => !f.querySelector('[role=img]').ariaLabel || !f.querySelector('td')).length"
    assert page.eval_on_selector_all("figure", empty) == 0
