"""Numbers and names as charts and tables write them."""

import re
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


def key_of(*parts: str | int) -> str:
    """A file name and id from parts, such as `tiers-2-loyal-nationals`."""
    return "-".join(re.sub("[^a-z0-9]+", "-", str(part).lower()).strip("-") or "x" for part in parts)


def number(value: float | None, digits: int = 3) -> str:
    """A number of a table; `none` where there is no value."""
    # Added to 0, a small negative number is not -0.000.
    return "none" if value is None or np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def percent(value: float | None, sign: str = "%") -> str:
    """A share such as `31%`; `none` where there is no value."""
    return "none" if value is None or np.isnan(value) else f"{100 * value:.0f}{sign}"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A number with its 95% interval in brackets, where there is one."""
    return number(value) + ("" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]")
