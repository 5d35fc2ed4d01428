"""Where answers were first given, and on what terms: it travels with them from folder to folder."""

from typing import Literal, NamedTuple

OUR_LICENCE = "cc-by-4.0"
"""Hub id of the licence of answers made with this package."""

PUBLISHED_LICENCE = "cc-by-nc-sa-4.0"
"""Hub id of the licence of the tables that the paper published; what is derived from them inherits it."""


class Origin(NamedTuple):
    """Where answers were first given: building a folder from them does not change it."""

    kind: Literal["survey", "run", "published", "folder"]
    """`folder` where a folder does not say where its answers come from."""
    licence: str | None
    """Hub id of a licence; None where it is not known."""
    repo: str | None = None
    """Hub dataset that was imported, or name of the imported local file."""
    commit: str | None = None
    """Of that Hub dataset, 40 hexadecimal digits."""
    answered_on: str | None = None
    """ISO date, or first and last date with a slash between; None where answers are computed, or nobody wrote it down."""
    notes: tuple[str, ...] = ()
    """Sentences on what was counted or left out at import."""
