"""Where charts are drawn: one painting gives an SVG that takes on the page's colours, and a part of a PNG.

A chart is at most 4.6 inches wide, so that its letters can be read on a phone. The bytes depend on the data alone.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from fairpp_hf.drawing.texts import in_lines
from fairpp_hf.drawing.theme import EMPTY, INK, NOTE, PAGE_COLORS, PAPER, Color, Fill, Look, drawing_settings

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6
"""Inches."""
_SETTINGS = {
    "text.color": INK,
    "font.size": 9,
    "svg.fonttype": "none",
    "hatch.linewidth": 0.6,
    "lines.solid_capstyle": "butt",
}
LEGEND_ROW = 0.21
_GAP, _TITLE, _NOTE = 0.3, 0.28, 0.15
"""Inches between charts of a picture, for a title, and for a line of a note."""


@dataclass
class Canvas:
    """A part of a figure that a chart is painted into; lengths are inches from its lower left corner."""

    figure: "Figure"
    left: float = 0.0
    bottom: float = 0.0
    tips: dict[str, str] = field(default_factory=dict)
    """Id of a part of the chart to the text that the page shows over it."""

    def panel(self, box: tuple[float, float, float, float], x: tuple[float, float], y: tuple[float, float]) -> "Axes":
        """Bare axes at (left, bottom, width, height) with these limits; nothing is drawn but what is asked for."""
        width, height = self.figure.get_size_inches()
        left, bottom = (self.left + box[0]) / width, (self.bottom + box[1]) / height
        # Axes at one place would be taken for the same: the label tells them apart.
        axes = self.figure.add_axes((left, bottom, box[2] / width, box[3] / height), label=f"{len(self.figure.axes)}")
        axes.set_axis_off()
        axes.set_xlim(*x)
        axes.set_ylim(*y)
        return axes

    def tip(self, artist: "Artist", text: str) -> None:
        """Let the page show a text over a part of the chart."""
        name = f"tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = text


@dataclass(frozen=True)
class Chart:
    """A chart: how it is painted, words for those who cannot see it, and its numbers as a table."""

    key: str
    """Unique on a page, and the name of a downloaded PNG without the suffix: letters, digits and hyphens."""
    title: str
    alt: str
    """What it shows, in a sentence or two with the main numbers."""
    size: tuple[float, float]
    """Width and height, inches."""
    paint: Callable[[Canvas], None]
    heads: tuple[str, ...] = ()
    """Headings of the table of numbers."""
    rows: Sequence[Sequence[str]] = ()
    notes: tuple[str, ...] = ()
    """Sentences below it."""


def svg(chart: Chart) -> str:
    """A chart for a page, without width and height; its ids begin with the chart's key."""
    with drawing_settings({**_SETTINGS, "svg.hashsalt": chart.key}):
        canvas = Canvas(_figure(chart.size))
        chart.paint(canvas)
        stream = BytesIO()
        canvas.figure.savefig(stream, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    return _for_page(stream.getvalue(), chart.key, canvas.tips)


def png(charts: Sequence[Chart], *, title: str = "", caption: str = "") -> bytes:
    """Charts in one picture, two in a row, with their titles and notes, on white."""
    rows = [charts[start : start + 2] for start in range(0, len(charts), 2)]
    widths = [max(chart.size[0] for chart in charts[place::2]) for place in range(min(2, len(charts)))]
    notes = {chart.key: [line for note in chart.notes for line in _lines(note, chart.size[0])] for chart in charts}
    below = [max(len(notes[chart.key]) for chart in row) * _NOTE for row in rows]
    heights = [max(chart.size[1] for chart in row) + _TITLE + extra for row, extra in zip(rows, below, strict=True)]
    width = max(sum(widths) + _GAP * (len(widths) + 1), 0.12 * len(title) + 2 * _GAP)
    said = _lines(caption, width - 2 * _GAP)
    top = _GAP + 0.3 * bool(title)
    height = top + sum(heights) + _GAP * (len(rows) - 1) + _NOTE * (len(said) + 1) + 0.2
    with drawing_settings(_SETTINGS):
        figure = _figure((width, height))

        def write(left: float, from_top: float, text: str, **style: Any) -> None:
            figure.text(left / width, 1 - from_top / height, text, va="top", **style)

        if title:
            write(_GAP, 0.2, title, fontsize=12, fontweight="bold")
        y = top
        for row, row_height in zip(rows, heights, strict=True):
            x = _GAP
            for chart, column in zip(row, widths, strict=False):
                write(x, y, chart.title, fontsize=10, fontweight="bold")
                bottom = height - y - _TITLE - chart.size[1]
                chart.paint(Canvas(figure, x, bottom))
                write(x, height - bottom + 0.04, "\n".join(notes[chart.key]), fontsize=7.5, color=NOTE)
                x += column + _GAP
            y += row_height + _GAP
        write(_GAP, height - _NOTE * len(said) - 0.15, "\n".join(said), fontsize=8, color=NOTE)
        stream = BytesIO()
        # The version of matplotlib would otherwise be in the file.
        options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
        figure.savefig(stream, format="png", facecolor="white", **options)
    return stream.getvalue()


def _figure(size: tuple[float, float]) -> "Figure":
    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150)
    FigureCanvasAgg(figure)
    return figure


def _lines(text: str, inches: float) -> list[str]:
    return textwrap.wrap(text, int(inches * 16.5))


def say(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    *,
    size: float = 8.5,
    color: str = INK,
    ha: Literal["left", "center", "right"] = "center",
    va: Literal["top", "center", "bottom", "baseline"] = "center",
    rotation: float = 0,
) -> None:
    """Write a text at data coordinates."""
    axes.text(x, y, text, fontsize=size, color=color, ha=ha, va=va, linespacing=1.05, rotation=rotation)


def say_left(axes: "Axes", y: float, text: str, look: Look | None = None) -> None:
    """Write a row's name to the left of the axes, with the marker of whoever it is."""
    low, high = axes.get_xlim()
    inch = (high - low) / (axes.figure.get_size_inches()[0] * axes.get_position().width)  # type: ignore[union-attr]
    if look is not None:
        dot(axes, low - 0.13 * inch, y, look, 6)
    say(axes, low - (0.1 if look is None else 0.25) * inch, y, text, ha="right")


def bar(axes: "Axes", left: float, middle: float, width: float, height: float, fill: "Color | Fill") -> "Artist":
    """A filled rectangle from `left`, around `middle` in height; of a bare patch, a tenth of the work of `Axes.barh`."""
    from matplotlib.patches import Rectangle

    color, hatch = (fill.color, fill.hatch) if isinstance(fill, Fill) else (fill, "")
    style: dict[str, Any] = {"hatch": hatch, "edgecolor": "#ffffff", "linewidth": 0} if hatch else {}
    if hatch and color == EMPTY:
        style["edgecolor"] = "#9a9a9a"
    patch = Rectangle(
        (left, middle - height / 2), width, height, facecolor=color, **{"edgecolor": PAPER, "linewidth": 0.6, **style}
    )
    # It belongs to the axes, but does not change their limits.
    axes.add_artist(patch)
    patch.set_clip_on(False)
    return patch


def dot(axes: "Axes", x: float, y: float, look: Look, size: float = 8) -> "Artist":
    """The marker of a system or persona."""
    scale = 1.4 if look.marker == "*" else 1.0  # which has little area
    edge: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 0.7}
    if look.hollow:
        edge = {"markerfacecolor": PAPER, "markeredgecolor": look.color, "markeredgewidth": 1.6}
    style = {"marker": look.marker, "markersize": size * scale, "color": look.color, **edge}
    return axes.plot([x], [y], clip_on=False, zorder=4, **style)[0]


def legend(
    canvas: Canvas, left: float, width: float, entries: Sequence[tuple[str, "Look | Fill"]], columns: int = 1
) -> None:
    """Rows of `LEGEND_ROW` inches at the bottom of a chart: a marker or a filled square each, and who or what it is."""
    rows = -(-len(entries) // columns)
    axes = canvas.panel((left, 0.05, width, LEGEND_ROW * rows), (0, width), (rows, 0))
    for spot, (text, style) in enumerate(entries):
        x, y = (spot % columns) * width / columns + 0.08, spot // columns + 0.5
        if isinstance(style, Fill):
            bar(axes, x - 0.07, y, 0.14, 0.6, style)
        else:
            dot(axes, x, y, style, 6)
        say(axes, x + 0.13, y, in_lines(text, int((width / columns - 0.2) * 15), 1), size=8, ha="left")


def ink_on(color: "Color") -> str:
    """Black or white, whichever stands out more on a fill; the contrast is 4.5 or more (WCAG 2, relative luminance).

    The black is not quite black: matplotlib leaves that out of an SVG, which then has the page's ink.
    """
    from matplotlib.colors import to_rgb

    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#010101" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def _for_page(drawn: bytes, key: str, tips: dict[str, str]) -> str:
    """Matplotlib's SVG without what the page has itself, with ids of its own, colours of the page, and the tips."""
    drawn = drawn.replace(b' xmlns="http://www.w3.org/2000/svg"', b"", 1).replace(b" xlink:href=", b" href=")
    root = ElementTree.fromstring(drawn)
    used = set(re.findall(r'(?:url\(|href=")#(\w+)', drawn.decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            # A style in a drawing would hold for the whole page, whose style sheet says the same of drawings alone.
            if child.tag.rpartition("}")[2] in {"metadata", "style"}:
                parent.remove(child)
    for element in list(root.iter()):
        own = element.attrib.pop("id", "")
        if own in tips:
            tip = ElementTree.Element("title")
            tip.text = tips[own]
            element.insert(0, tip)
        if own in used:
            element.set("id", f"{key}-{own}")
        for name, value in element.attrib.items():
            if name in {"style", "clip-path", "href", "fill"}:
                style = re.sub(r"(url\(#|^#)(?![0-9a-f]{6}$)", rf"\g<1>{key}-", value)
                # The page's font, and the same shape of corners everywhere.
                style = re.sub(r"font-family: [^;]*;? ?|; stroke-linejoin: miter|stroke-linejoin: miter;? ?", "", style)
                element.set(name, re.sub(r"#[0-9a-f]{6}\b", lambda color: PAGE_COLORS.get(color[0], color[0]), style))
        element.text = element.text if (element.text or "").strip() else None
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "aria-hidden": "true", "focusable": "false"}
    return ElementTree.tostring(root, encoding="unicode")
