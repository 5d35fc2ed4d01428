"""The figures of a dataset card, drawn with matplotlib into PNG bytes that depend on the data alone.

They are readable in print, on a dark page (their background is opaque) and without colour vision: colours are Okabe and
Ito's or differ in lightness, and every number that matters is written out.
"""

import textwrap
from collections.abc import Callable, Sequence, Sized
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fairpp_hf.dataset.folder_facts import NONE, FolderFacts, share_of
from fairpp_hf.markdown import one_line
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import OPTION_LETTERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

FOLDER = "figures"

# Okabe and Ito's blue and orange, and two greys: the pair is told apart by people with any common form of colour blindness.
_COLORS = {"A": "#0072B2", "B": "#E69F00", "C": "#BDBDBD", NONE: "#F2F2F2"}
_INK = {"A": "white", "B": "black", "C": "black", NONE: "black"}
_LEGEND = {"A": "A: first pole", "B": "B: second pole", "C": "C: neither", NONE: "no valid answer"}
_MUTED = "#444444"
_BOLD = {"fontsize": 11, "fontweight": "bold"}
_SMALL = {"fontsize": 8, "color": _MUTED}
_DPI = 120
_WIDEST = 10.5


class CardFigure(NamedTuple):
    """A picture and what stands in for it where it cannot be seen."""

    path: str
    """Relative to the folder."""
    alt: str
    png: bytes


def draw_figures(facts: FolderFacts) -> tuple[CardFigure, ...]:
    """Draw what there is to show: answer shares; with two personas or more, their agreement; with targets, the tiers.

    Args:
        facts: counted from the data by `write_dataset_folder`.
    """
    figures = [_answer_shares(facts)]
    if len(facts.personas) > 1:
        figures.append(_agreement(facts))
    if facts.targets:
        figures.append(_tiers(facts))
    return tuple(figures)


def _answer_shares(facts: FolderFacts) -> CardFigure:
    """A panel for each dimension; in it, a stacked bar of 100% for each persona."""
    dimensions, personas = facts.dimensions, facts.personas
    kinds = [*OPTION_LETTERS]
    if any(counts[NONE] for of_persona in facts.answer_counts.values() for counts in of_persona.values()):
        kinds.append(NONE)

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(dimensions), sharey=True, squeeze=False)[0]
        for axes, (number, poles) in zip(panels, dimensions.items(), strict=True):
            for row, persona in enumerate(personas):
                counts = facts.answer_counts[persona][number]
                if sum(counts.values()):
                    _stack(axes, row, [(kind, share_of(counts, kind)) for kind in kinds])
                else:
                    axes.text(0.5, row, "not asked", ha="center", va="center", fontsize=8, color=_MUTED)
            pole_a, pole_b = _drawable(poles.pole_a) or "first pole", _drawable(poles.pole_b) or "second pole"
            axes.set_title(f"Dimension {number}\nA: {_wrapped(pole_a)}\nB: {_wrapped(pole_b)}", fontsize=9)
            axes.set_xlim(0, 1)
            axes.set_xticks([])
            axes.spines[:].set_visible(False)
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(personas)), _labels(facts).values())
        panels[0].set_ylim(len(personas) - 0.5, -0.5)
        figure.suptitle("Answers by persona and dimension, in percent", **_BOLD)
        # A label of the whole figure would lie under the legend; as its title, it stands above.
        legend = figure.legend(
            handles=[_patch(kind) for kind in kinds],
            loc="outside lower center",
            ncols=len(kinds),
            frameon=False,
            fontsize=9,
            title=_source(facts),
            title_fontsize=8,
        )
        legend.get_title().set_color(_MUTED)

    size = (max(6.2, 2.4 + 1.9 * len(dimensions)), 2.1 + 0.36 * len(personas))
    alt = (
        f"Stacked bars: shares of the answers {', '.join(OPTION_LETTERS)} of {_count(personas, 'persona')} on each of "
        f"{_count(dimensions, 'dimension')}. The table below has the numbers."
    )
    return CardFigure(f"{FOLDER}/answer_shares.png", _alt(alt, facts), _png(size, draw))


def _stack(axes: "Axes", row: int, shares: Sequence[tuple[str, float]]) -> None:
    left = 0.0
    for kind, share in shares:
        hatch = "////" if kind == NONE else None
        axes.barh(row, share, left=left, height=0.82, color=_COLORS[kind], edgecolor="white", linewidth=0.6)
        if hatch and share:
            axes.barh(row, share, left=left, height=0.82, fill=False, hatch=hatch, edgecolor="#9A9A9A", linewidth=0)
        # A number that does not fit in its piece would be read as its neighbour's.
        text = _percent(share)
        if share >= (0.05 if len(text) == 1 else 0.09):
            axes.text(left + share / 2, row, text, color=_INK[kind], ha="center", va="center", fontsize=8)
        left += share


def _agreement(facts: FolderFacts) -> CardFigure:
    """A heat map, lower triangle, with the percentage in each cell."""
    names = list(_labels(facts).values())
    agreement = facts.agreement
    count = len(names)

    def draw(figure: "Figure") -> None:
        from matplotlib import colormaps

        axes = figure.subplots()
        # The first persona's row and the last one's column would be empty.
        below = np.tril(np.ones((count, count), dtype=bool), -1)
        shown = np.where(below, agreement, np.nan)[1:, :-1]
        found = shown[~np.isnan(shown)]
        low, high = (found.min(), found.max()) if len(found) else (0.0, 1.0)
        colors = colormaps["cividis"]
        span = high - low or 1.0
        for row in range(count - 1):
            for column in range(row + 1):
                value = shown[row, column]
                depth = 0.5 if high == low else (value - low) / span
                face = "#F2F2F2" if np.isnan(value) else colors(depth)
                axes.add_patch(_cell(column, row, face))
                ink = "black" if np.isnan(value) or depth > 0.5 else "white"
                text = "none" if np.isnan(value) else _percent(value)
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
        axes.set_xlim(-0.5, count - 1.5)
        axes.set_ylim(count - 1.5, -0.5)
        axes.set_aspect("equal")
        axes.set_yticks(range(count - 1), names[1:], fontsize=9)
        axes.set_xticks(range(count - 1), names[:-1], fontsize=9, rotation=35, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.suptitle("Questions answered alike, in percent", **_BOLD)
        figure.supxlabel(_source(facts), **_SMALL)

    side = 2.6 + 0.55 * (count - 1)
    alt = f"Heat map: how often {_count(names, 'persona')} give the same answer, pair by pair."
    return CardFigure(
        f"{FOLDER}/agreement.png", _alt(f"{alt}{_extremes(facts)}", facts), _png((side + 1.2, side), draw)
    )


def _extremes(facts: FolderFacts) -> str:
    """A sentence on the pairs that agree most and least, empty where no two personas share a question."""
    pairs = [
        (facts.agreement[row, column], facts.personas[column], facts.personas[row])
        for row in range(len(facts.personas))
        for column in range(row)
        if not np.isnan(facts.agreement[row, column])
    ]
    if len(pairs) < 2:
        return "".join(f" {share:.0%}." for share, *_ in pairs)
    most, least = max(pairs), min(pairs)
    return (
        f" Most: {most[1]} and {most[2]}, {most[0]:.0%}. Least: {least[1]} and {least[2]}, {least[0]:.0%} of the questions "
        "that both answered."
    )


def _tiers(facts: FolderFacts) -> CardFigure:
    """A panel for each target: bars, number of questions by how many comparison personas disagree."""
    targets, labels = facts.targets, _labels(facts)
    bars = max(len(target.disagreements) for target in targets.values())
    panel = max(2.55, 0.27 * bars)
    columns = min(len(targets), int(_WIDEST / panel) or 1)
    rows = -(-len(targets) // columns)
    most = max(max(target.disagreements) for target in targets.values())

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for axes, (target, found) in zip(panels, targets.items(), strict=False):
            numbers = range(len(found.disagreements))
            axes.bar(numbers, found.disagreements, color=_COLORS["A"], width=0.8)
            for number, questions in zip(numbers, found.disagreements, strict=True):
                axes.annotate(
                    _short(questions), (number, questions), (0, 2), textcoords="offset points", ha="center", fontsize=7
                )
            axes.set_title(labels[target], fontsize=9)
            axes.set_xticks(numbers, [str(number) for number in numbers], fontsize=8)
            axes.set_xlim(-0.7, len(found.disagreements) - 0.3)
            axes.set_ylim(0, most * 1.12)
            axes.set_yticks([])
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(axis="x", length=0)
        for axes in panels[len(targets) :]:
            axes.set_axis_off()
        figure.suptitle("How many questions set a target apart", **_BOLD)
        what = "Bars: number of questions. Below them: how many of the comparison personas disagree with the target."
        figure.supxlabel(f"{what}\n{_source(facts)}", **_SMALL)

    size = (max(6.2, panel * columns), 1.2 + 1.75 * rows)
    alt = (
        f"Bars for {_count(targets, 'target persona')}: number of questions by how many comparison personas answered "
        "differently. The table below has the numbers."
    )
    return CardFigure(f"{FOLDER}/tiers.png", _alt(alt, facts), _png(size, draw))


def _png(size: tuple[float, float], draw: Callable[["Figure"], None]) -> bytes:
    """Draw a figure of this size in inches, the same bytes whatever the user's settings and whenever it is."""
    import matplotlib

    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # A persona may be called anything; a $ in its name is no formula.
        matplotlib.rcParams["text.parse_math"] = False
        matplotlib.rcParams["hatch.linewidth"] = 0.6
        # Inches: nothing touches the edge, where a dark page would begin, and rows of panels stand apart.
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.1)
        figure = Figure(figsize=size, layout=layout, dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        draw(figure)
        file = BytesIO()
        # The version of matplotlib would otherwise be in the file.
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _source(facts: FolderFacts) -> str:
    """Who answered, and whether they only stand in for people."""
    names = [_drawable(name.removesuffix(SIMULATED) if facts.simulated else name) for name in facts.respondents]
    listed = textwrap.shorten(", ".join(name or "somebody" for name in names), 80, placeholder=" ...")
    said = f"Simulated answers by {listed}; no person was asked" if facts.simulated else f"Answers by {listed}"
    # As wide as the narrowest figure.
    said = textwrap.fill(said, 70)
    if all(map(_drawable, facts.personas)):
        return said
    return f"{said}\nPersona n: row n of the first table of answers"


def _alt(text: str, facts: FolderFacts) -> str:
    return f"{text} The answers are simulated." if facts.simulated else text


def _patch(kind: str) -> "Patch":
    from matplotlib.patches import Patch

    hatch = "////" if kind == NONE else None
    return Patch(facecolor=_COLORS[kind], edgecolor="#9A9A9A" if hatch else "white", hatch=hatch, label=_LEGEND[kind])


def _cell(column: int, row: int, face: object) -> "Patch":
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=face)


def _short(count: int) -> str:
    """A count in at most four characters, such as 860, 7.1k or 12k."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


def _count(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _labels(facts: FolderFacts) -> dict[str, str]:
    """What each persona is called in the figures; by its number where the font lacks a letter of its name."""
    return {
        persona: _readable(_drawable(persona) or f"persona {number}")
        for number, persona in enumerate(facts.personas, 1)
    }


def _readable(persona: str) -> str:
    name = persona.replace("_", " ").title()
    # Names of one origin tend to begin alike, so that the end is kept as well.
    return name if len(name) <= 30 else f"{name[:18]}...{name[-9:]}"


def _drawable(text: str) -> str:
    """The text in one line; empty where the font lacks a character of it, for which it would draw a box."""
    line = one_line(text)
    return line if all(ord(letter) in _characters() for letter in f"{line}{line.upper()}{line.title()}") else ""


@cache
def _characters() -> frozenset[int]:
    """Code points of the font of the figures, which comes with matplotlib."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf").get_charmap())


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 20)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
