"""What the pictures of this room have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from fairpp_hf.markdown import one_line
from fairpp_hf.naming import readable

# Okabe and Ito's palette, told apart by people with any common form of colour blindness; markers differ as well.
STYLES = (
    ("#7f7f7f", "o"),
    ("#E69F00", "s"),
    ("#56B4E9", "^"),
    ("#D55E00", "D"),
    ("#009E73", "v"),
    ("#CC79A7", "P"),
    ("#0072B2", "X"),
    ("#7F5FA9", "*"),  # an eighth, by its marker above all: black, the palette's own, is invisible on a dark page
)
"""Colour and marker of each persona or system, in their order."""


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


def drawable(text: str) -> str:
    """The text in one line; empty where the figures' font lacks a character of it, for which it would draw a box."""
    line = one_line(text)
    return line if all(ord(letter) in _characters() for letter in line) else ""


@cache
def _characters() -> frozenset[int]:
    """Code points of the font of the figures, which comes with matplotlib."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf").get_charmap())


__all__ = ["STYLES", "drawable", "drawing_settings", "readable"]
