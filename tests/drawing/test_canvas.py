import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np

from fairpp_hf.drawing.canvas import Canvas, Chart, bar, ink_on, png, say, svg
from fairpp_hf.drawing.texts import in_lines, number
from fairpp_hf.drawing.theme import INK, MUTED, SYSTEM_STYLES, drawable, option_fill, system_looks
from fairpp_hf.evaluation.baselines import CONSTANT


def paint(canvas: Canvas) -> None:
    axes = canvas.panel((0.2, 0.2, 1.6, 0.6), (0, 1), (0, 1))
    canvas.tip(bar(axes, 0, 0.5, 1, 0.5, option_fill(0, "")._replace(hatch="//")), 'a "tip" & <more>')
    say(axes, 0.5, 0.5, "$a$ <b>", color=MUTED)
    axes.plot([0, 1], [0, 1], color=INK, marker="o")


ONE = Chart("one", "One", "A chart.", (2, 1), paint)


def test_a_drawing_takes_the_colours_of_the_page_and_has_ids_of_its_own() -> None:
    drawn = svg(ONE)
    root = ElementTree.fromstring(drawn)
    assert root.attrib == {"viewBox": "0 0 144 72", "class": "chart", "aria-hidden": "true", "focusable": "false"}
    assert [color in drawn for color in ("var(--ink)", "var(--muted)", INK, MUTED)] == [True, True, False, False]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert 0 < len(set(ids)) == len(ids)
    assert all(str(name).startswith("one-") for name in ids)
    used = re.findall(r"#(one-\w+)", drawn)
    assert set() < set(used) <= set(ids)
    assert [part.text for part in root.iter("title")] == ['a "tip" & <more>']
    assert [part.text for part in root.iter("text")] == ["$a$ <b>"]
    assert [word for word in ("style>", "font-family", "DejaVu", "xlink") if word in drawn] == []


def test_the_same_numbers_are_the_same_bytes_whatever_the_users_settings() -> None:
    first = svg(ONE), png([ONE])
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red", "savefig.dpi": 50}):
        assert (svg(ONE), png([ONE])) == first
    assert first[1].startswith(b"\x89PNG")
    assert b"matplotlib" not in first[1].lower()
    assert svg(replace(ONE, key="two")) != first[0]


def test_charts_stand_beside_and_below_each_other() -> None:
    """Two columns of 2 inches and gaps of 0.3: 4.9 inches at 150 pixels; a second row makes the picture higher."""

    def size(data: bytes) -> tuple[int, int]:
        width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        return width, height

    charts = [replace(ONE, key=str(place), notes=("A note.",) * place) for place in range(3)]
    assert size(png(charts[:2]))[0] == size(png(charts))[0] == round(4.9 * 150)
    assert size(png(charts))[1] > 1.5 * size(png(charts[:2]))[1]


def test_text_on_a_fill_is_readable() -> None:
    """White on the dark fill of A, black on those of B and C; black is one that stays black on a dark page."""
    assert [ink_on(option_fill(option, "").color) for option in range(3)] == ["#ffffff", "#010101", "#010101"]


def test_long_names_keep_both_ends() -> None:
    assert in_lines("plain model", 22) == "plain model"
    assert in_lines("meta-llama/Llama-3.2-3B-Instruct", 22) == "meta-llama/Llama-3.2-\n3B-Instruct"
    shortened = in_lines("an-organisation/a-rather-long-name-of-a-model-v0.3", 22, 1)
    assert (shortened[:10], shortened[-4:], len(shortened) <= 22) == ("an-organis", "v0.3", True)
    assert all(len(line) <= 10 for line in in_lines("x" * 90, 10).split("\n"))


def test_names_that_the_font_lacks_are_known() -> None:
    assert drawable(" Loyal \n Nationals ") == "Loyal Nationals"
    assert drawable("نموذج") == "نموذج"
    assert drawable("model 🦄", "model 1") == "model 1"


def test_a_system_looks_the_same_in_every_picture_and_like_no_other() -> None:
    names = [CONSTANT, *(f"model {place:02}" for place in range(20))]
    looks = system_looks(names)
    assert looks == system_looks(names[::-1])
    assert len(set(looks.values())) == len(names)
    assert {look.color for name, look in looks.items() if name != CONSTANT} == {color for color, _ in SYSTEM_STYLES}
    options = {option_fill(option, "").color for option in range(5)}
    assert not options & {look.color for look in looks.values()}


def test_numbers_are_none_or_never_minus_zero() -> None:
    assert [number(value) for value in (None, np.nan, -0.0001, 0.25)] == ["none", "none", "0.000", "0.250"]


def test_odd_titles_are_drawn_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png([replace(ONE, title="$x^2_{$", notes=("$ " * 100,))], title="$", caption="$x_")
