"""One drawing code for page and paper: a matplotlib figure as PNG bytes, and as an SVG that takes on the page's colours.

A figure is at most 4.6 inches wide, so that its letters can be read on a phone. The bytes depend on the data alone.
"""

import re
import textwrap
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from xml.etree import ElementTree

from fairpp_hf.evaluation.styles import STYLES, drawable, drawing_settings  # noqa: F401 - one place for all that draws

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6
"""Inches."""

# These stand for the page's own colours, which differ between light, dark and print; each is used for nothing else.
INK, MUTED, LINE, PAPER = "#1b1b1c", "#545556", "#d4d5d6", "#fefefe"
_PAGE_COLORS = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}

OPTION_COLORS = ("#0072B2", "#E69F00", "#BDBDBD")
"""Of A, B and C: told apart without colour vision, since they differ in lightness too."""
MARKERS = tuple(marker for _, marker in STYLES)

Marks: TypeAlias = dict[str, dict[str, str]]
"""Id of a part of a figure to what the page writes on it: `data-tip`, the text shown over it, or what a control shows."""


Color: TypeAlias = "str | tuple[float, float, float, float]"


class Drawing(NamedTuple):
    """A figure, drawn."""

    svg: str
    """For a page, without width and height; the ids begin with the figure's key."""
    png: bytes


def drawn(key: str, size: tuple[float, float], paint: Callable[["Figure"], tuple[Marks, list["Artist"]]]) -> Drawing:
    """Draw a figure.

    Args:
        key: unique on the page; letters, digits and hyphens.
        size: width and height, inches.
        paint: draws into the figure; gives the marks, and what is left out of the PNG, where no control could show it.
    """
    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = {
        "text.color": INK,
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": key,
        "hatch.linewidth": 0.6,
        "lines.solid_capstyle": "butt",
    }
    with drawing_settings(settings):
        figure = Figure(figsize=size, dpi=150)
        FigureCanvasAgg(figure)
        marks, only_on_the_page = paint(figure)
        vector, pixels = BytesIO(), BytesIO()
        figure.savefig(vector, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
        for artist in only_on_the_page:
            artist.set_visible(False)
        # The version of matplotlib would otherwise be in the file.
        png_options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
        figure.savefig(pixels, format="png", facecolor="white", **png_options)
    return Drawing(_for_page(vector.getvalue(), key, marks), pixels.getvalue())


def panel(
    figure: "Figure",
    box: tuple[float, float, float, float],
    x: tuple[float, float],
    y: tuple[float, float],
) -> "Axes":
    """Bare axes at (left, bottom, width, height) in inches, with these limits; nothing is drawn but what is asked for."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.set_axis_off()
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    return axes


def say(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    *,
    size: float = 9,
    color: str = INK,
    ha: Literal["left", "center", "right"] = "center",
    va: Literal["top", "center", "bottom", "baseline"] = "center",
    bold: bool = False,
) -> None:
    """Write a text at data coordinates."""
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, fontsize=size, color=color, ha=ha, va=va, fontweight=weight, linespacing=1.05, clip_on=False)


def bar(
    axes: "Axes",
    left: float,
    middle: float,
    width: float,
    height: float,
    color: "Color",
    *,
    hatch: str = "",
    gid: str | None = None,
) -> None:
    """A filled rectangle from `left`, around `middle` in height; of a bare patch, a tenth of the work of `Axes.barh`."""
    from matplotlib.patches import Rectangle

    style = (
        {"hatch": hatch, "edgecolor": "#ffffff", "linewidth": 0} if hatch else {"edgecolor": PAPER, "linewidth": 0.6}
    )
    patch = Rectangle((left, middle - height / 2), width, height, facecolor=color, gid=gid, **style)  # type: ignore[arg-type]
    # It belongs to the axes, but does not change their limits.
    axes.add_artist(patch)
    patch.set_clip_on(False)


def ink_on(color: "Color") -> str:
    """Black or white, whichever stands out more on a fill; the contrast is 4.5 or more (WCAG 2, relative luminance).

    The black is not quite black: matplotlib leaves that out of an SVG, which then has the page's ink.
    """
    from matplotlib.colors import to_rgb

    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#010101" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def style_of(number: int) -> tuple[str, str]:
    """Colour and marker of the system with this number; beyond the colours, each comes again with another marker."""
    color, _ = STYLES[(number + 1) % len(STYLES)]
    return color, MARKERS[(number + 1 + number // len(STYLES)) % len(MARKERS)]


def in_lines(text: str, width: int, lines: int = 2) -> str:
    """The text in at most so many lines of so many characters; where it is longer, its middle is left out."""
    if len(textwrap.wrap(text, width)) > lines:
        # Names of one origin begin alike, and versions stand at the end: both ends are kept.
        kept = width * lines - lines - 1
        text = f"{text[: kept // 2].rstrip()}…{text[-(kept - kept // 2) :].lstrip()}"
    wrapped = textwrap.wrap(text, width)
    return "\n".join(wrapped if len(wrapped) <= lines else textwrap.wrap(text, width, break_on_hyphens=False)[:lines])


def _for_page(svg: bytes, key: str, marks: Marks) -> str:
    """Matplotlib's SVG without what the page has itself, with ids of its own, colours of the page, and the marks."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = _local(element.tag)
        for name in [name for name in element.attrib if name.startswith("{")]:
            element.attrib[_local(name)] = element.attrib.pop(name)
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iter()):
        # A style in a drawing would hold for the whole page, whose style sheet says the same of drawings alone.
        if element.tag in {"metadata", "style"}:
            parents[element].remove(element)
    used = set(re.findall(rb'(?:url\(|href=")#(\w+)', svg))
    for element in root.iter():
        own = element.get("id")
        if own in marks:
            element.attrib.update(marks[own])
        if own is not None:
            del element.attrib["id"]
            if own.encode() in used:
                element.set("id", f"{key}-{own}")
        for name, value in element.attrib.items():
            if name in {"d", "transform", "x", "y"}:
                element.set(name, " ".join(re.sub(r"-?\d+\.\d+", _short, value).split()))
            elif name in {"style", "clip-path", "href", "fill"}:
                element.set(name, _page_style(value, key))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        element.tail = element.text = None if not (element.text or "").strip() else element.text
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "aria-hidden": "true", "focusable": "false"}
    return ElementTree.tostring(root, encoding="unicode")


def _short(number: re.Match[str]) -> str:
    """A coordinate in points, to a hundredth."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _page_style(value: str, key: str) -> str:
    value = re.sub(r"(url\(#|^#)(?![0-9a-f]{6}$)", rf"\g<1>{key}-", value)
    # The page's font, and the same shape of corners everywhere.
    value = re.sub(r"font-family: [^;]*;? ?|; stroke-linejoin: miter|stroke-linejoin: miter;? ?", "", value)
    return re.sub(r"#[0-9a-f]{6}\b", lambda color: _PAGE_COLORS.get(color[0], color[0]), value)
