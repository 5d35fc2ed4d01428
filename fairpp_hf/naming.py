"""Checks of names that a user types, with the nearest known name in the error."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, whatever its case, or None where nothing comes close."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def check_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known.

    Raises:
        ValueError: It is not; the message lists what is known and names the nearest.
    """
    known = list(known)
    if name in known:
        return name
    close = nearest(name, known)
    hint = f" Did you mean {close!r}?" if close else ""
    raise ValueError(f"{what} must be one of {', '.join(map(repr, known))}; got {name!r}.{hint}")


def readable(persona: str) -> str:
    """A persona's id as a title, such as `Loyal Nationals`."""
    return persona.replace("_", " ").title()
