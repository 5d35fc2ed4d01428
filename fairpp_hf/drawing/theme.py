"""One look for everything that is drawn: colours of the page, of options and of systems, and the letters.

A colour means one thing. Systems have the palette of Okabe and Ito, which people with any common form of colour blindness
tell apart, and differ in their markers as well; answers have muted colours that no system has.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from fairpp_hf.evaluation.baselines import CONSTANT, LABEL_MODEL, MAJORITY, UNIFORM
from fairpp_hf.markdown import one_line
from fairpp_hf.schema import OPTION_LETTERS

Color: TypeAlias = "str | tuple[float, float, float, float]"

# These stand for the page's own colours, which differ between light, dark and print; each is used for nothing else.
INK, MUTED, LINE, PAPER = "#1b1b1c", "#545556", "#d4d5d6", "#fefefe"
PAGE_COLORS = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}

NOTE = "#444444"
"""Notes of a PNG, whose background is white on every page."""
EMPTY = "#f2f2f2"
"""Fill of a cell without a value."""
SHADES = "YlGnBu"
"""Matplotlib's name of the colours of heat maps: the darker, the larger."""

_COLORS = ("#E69F00", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#0072B2", "#7F5FA9")
SYSTEM_STYLES = tuple(zip(_COLORS, "s^DvPX*", strict=True))
"""Colour and marker of each model, in their order."""


class Look(NamedTuple):
    """How a system is drawn."""

    color: str
    marker: str
    hollow: bool = False
    """Whether the marker is not filled."""


PERSONA = Look(INK, "D")
BASELINES: Mapping[str, Look] = {
    CONSTANT: Look("#7f7f7f", "o"),
    LABEL_MODEL: Look("#8a5a00", "p"),
    MAJORITY: Look("#F0E442", "*"),
    UNIFORM: Look("#bdbdbd", "h"),
}

_OPTIONS = ("#3B4D61", "#C9A66B", "#D5D8DC", "#8FA3B8", "#7A5C3E")


class Fill(NamedTuple):
    """How a part of a stacked bar is drawn, and what the legend calls it."""

    label: str
    color: str
    hatch: str = ""


NO_ANSWER = Fill("no valid answer", EMPTY, "////")


def option_fill(option: int, label: str) -> Fill:
    """The fill of an option by its place, 0 for A."""
    return Fill(label, _OPTIONS[option % len(_OPTIONS)])


def option_fills() -> list[Fill]:
    """The fills of a question's options, A first."""
    said = {"A": "A: first pole", "B": "B: second pole", "C": "C: neither"}
    return [option_fill(place, said.get(letter, letter)) for place, letter in enumerate(OPTION_LETTERS)]


def system_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each system: a fixed one for a baseline, and by the order of the alphabet for models.

    Whatever order systems are listed in, each has the same look in every picture of them. Beyond the colours, each comes
    again with a hollow marker, and then with another marker.
    """
    looks: dict[str, Look] = {}
    count = len(SYSTEM_STYLES)
    for name in sorted(set(names)):
        if name in BASELINES:
            looks[name] = BASELINES[name]
            continue
        turn, place = divmod(sum(known not in BASELINES for known in looks), count)
        marker = SYSTEM_STYLES[(place + turn // 2) % count][1]
        looks[name] = Look(SYSTEM_STYLES[place][0], marker, hollow=turn % 2 == 1)
    return looks


@contextmanager
def drawing_settings(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's own defaults, whatever the user's are, with these settings, for as long as the context lasts."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # A $ in somebody's name is no formula.
        found: dict[Any, Any] = {"text.parse_math": False, **(settings or {})}
        matplotlib.rcParams.update(found)
        yield


def drawable(text: str, otherwise: str = "") -> str:
    """The text in one line, or `otherwise` where the font lacks a character of it, for which it would draw a box."""
    line = one_line(text)
    return line if all(ord(letter) in _characters() for letter in line) else otherwise


@cache
def _characters() -> frozenset[int]:
    """Code points of the font of the figures, which comes with matplotlib."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf").get_charmap())
