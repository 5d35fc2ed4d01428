"""The manifest of a dataset folder: how it was built, and which files are its own."""

import json
from pathlib import PurePosixPath


def recorded_files(content: bytes, rule: str) -> dict[str, set[str]]:
    """The files that a manifest lists, by path relative to it, with the SHA-256 that each may have, in hexadecimal.

    While a new build is moved into place, a file may be the old one or the new one: then there are two.

    Args:
        content: of the manifest.
        rule: how an error begins, up to what the manifest is of.

    Raises:
        ValueError: the manifest cannot be read, or lists a path outside of the folder.
    """
    try:
        entries = [(str(entry["path"]), str(entry["sha256"])) for entry in json.loads(content)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{rule}, whose manifest cannot be read ({error!r}).") from error
    recorded: dict[str, set[str]] = {}
    for name, digest in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{rule}, whose manifest lists {name!r}, a path outside of it.")
        recorded.setdefault(name, set()).add(digest)
    return recorded
