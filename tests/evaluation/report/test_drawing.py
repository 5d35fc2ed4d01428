import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from fairpp_hf.evaluation.report.drawing import (
    INK,
    MUTED,
    OPTION_COLORS,
    bar,
    drawable,
    drawn,
    in_lines,
    ink_on,
    panel,
    say,
    style_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def paint(figure: "Figure") -> Any:
    axes = panel(figure, (0.2, 0.2, 1.6, 0.6), (0, 1), (0, 1))
    bar(axes, 0, 0.5, 1, 0.5, OPTION_COLORS[0], hatch="//", gid="part")
    say(axes, 0.5, 0.5, "$a$ <b>", color=MUTED)
    hidden = axes.plot([0, 1], [0, 1], color=INK, marker="o", gid="line")[0]
    return {"part": {"data-tip": 'a "tip" & <more>'}}, [hidden]


def test_a_drawing_takes_the_colours_of_the_page_and_has_ids_of_its_own() -> None:
    svg = drawn("one", (2, 1), paint).svg
    root = ElementTree.fromstring(svg)
    assert root.attrib == {"viewBox": "0 0 144 72", "class": "chart", "aria-hidden": "true", "focusable": "false"}
    assert [color in svg for color in ("var(--ink)", "var(--muted)", INK, MUTED)] == [True, True, False, False]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert 0 < len(set(ids)) == len(ids)
    assert all(str(name).startswith("one-") for name in ids)
    used = re.findall(r"#(one-\w+)", svg)
    assert set() < set(used) <= set(ids)
    assert [part.get("data-tip") for part in root.iter() if part.get("data-tip")] == ['a "tip" & <more>']
    assert [part.text for part in root.iter("text")] == ["$a$ <b>"]
    assert [word for word in ("style>", "font-family", "DejaVu") if word in svg] == []


def test_the_same_numbers_are_the_same_bytes_whatever_the_users_settings() -> None:
    import matplotlib

    first = drawn("one", (2, 1), paint)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert drawn("one", (2, 1), paint) == first
    assert first.png.startswith(b"\x89PNG")
    assert b"matplotlib" not in first.png.lower()
    assert drawn("two", (2, 1), paint).svg != first.svg


def test_what_a_control_shows_is_left_out_of_the_picture() -> None:
    def all_of_it(figure: "Figure") -> Any:
        return paint(figure)[0], []

    assert drawn("one", (2, 1), paint).svg == drawn("one", (2, 1), all_of_it).svg
    assert drawn("one", (2, 1), paint).png != drawn("one", (2, 1), all_of_it).png


def test_text_on_a_fill_is_readable() -> None:
    """White on Okabe and Ito's blue, black on the orange and the grey; black is one that stays black on a dark page."""
    assert [ink_on(color) for color in OPTION_COLORS] == ["#ffffff", "#010101", "#010101"]


def test_long_names_keep_both_ends() -> None:
    assert in_lines("plain model", 22) == "plain model"
    assert in_lines("meta-llama/Llama-3.2-3B-Instruct", 22) == "meta-llama/Llama-3.2-\n3B-Instruct"
    shortened = in_lines("an-organisation/a-rather-long-name-of-a-model-v0.3", 22, 1)
    assert (shortened[:10], shortened[-4:], len(shortened) <= 22) == ("an-organis", "v0.3", True)
    assert all(len(line) <= 10 for line in in_lines("x" * 90, 10).split("\n"))


def test_names_that_the_font_lacks_are_known() -> None:
    assert drawable(" Loyal \n Nationals ") == "Loyal Nationals"
    assert drawable("نموذج") == "نموذج"
    assert drawable("model 🦄") == ""


def test_systems_look_different() -> None:
    assert len({style_of(number) for number in range(14)}) == 14
