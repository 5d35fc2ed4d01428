"""Numbers and names as charts and tables write them."""

import textwrap
from collections.abc import Sequence

import numpy as np


def in_lines(text: str, width: int, lines: int = 2) -> str:
    """The text in at most so many lines of so many characters; where it is longer, its middle is left out."""
    if len(textwrap.wrap(text, width)) > lines:
        # Names of one origin begin alike, and versions stand at the end: both ends stay.
        room = width * lines - lines - 1
        text = f"{text[: room // 2].rstrip()}…{text[-(room - room // 2) :].lstrip()}"
    wrapped = textwrap.wrap(text, width)
    return "\n".join(wrapped if len(wrapped) <= lines else textwrap.wrap(text, width, break_on_hyphens=False)[:lines])


def number(value: float | None, digits: int = 3) -> str:
    """A number of a table; `none` where there is no value."""
    # Added to 0, a small negative number is not -0.000.
    return "none" if value is None or np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def percent(value: float | None, sign: str = "%") -> str:
    """A share such as `31%`; `none` where there is no value."""
    return "none" if value is None or np.isnan(value) else f"{100 * value:.0f}{sign}"


def short_count(count: float) -> str:
    """A count in at most four characters, such as 860, 7.1k or 12k."""
    return f"{count:.0f}" if count < 1000 else f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A number with its 95% interval in brackets, where there is one."""
    return number(value) + ("" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]")
