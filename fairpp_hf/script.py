"""What every script of the package does around its work: which lines it shows, and how it says what is wrong."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SHOWN = ("fairpp_hf.scoring.sharing",)
"""Loggers whose good news is shown as well: one line on whether prompts are shared, which decides how long it takes."""

_PARSER = "trl.scripts."
"""Where arguments are parsed: whatever is raised from there is about them."""


@contextmanager
def shown_lines() -> Iterator[None]:
    """Within this context, the line on how prompts are computed goes to stderr, where nobody has configured logging."""
    loggers = [logging.getLogger(name) for name in _SHOWN]
    # As Python shows warnings. All other loggers stay at the root's level.
    handler: Any = logging.lastResort
    if handler is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    shown: list[logging.Handler | logging.Logger] = [handler, *loggers]
    before = [one.level for one in shown]
    for one in shown:
        one.setLevel(logging.INFO)
    try:
        yield
    finally:
        for one, level in zip(shown, before, strict=True):
            one.setLevel(level)


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Within this context, what is wrong with the arguments, or the package itself raises, is said without a traceback.

    The exit status is 1. Errors from elsewhere keep their traceback: where they come from is all that there is to go by.

    Args:
        name: the script's, for the message.

    Raises:
        SystemExit: in the place of such an error.
    """
    try:
        yield
    except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
        passed = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
        if not passed[-1].startswith("fairpp_hf.") and not any(module.startswith(_PARSER) for module in passed):
            raise
        sys.exit(f"\n{name}: {error}")  # on a line of its own, also after a progress bar
