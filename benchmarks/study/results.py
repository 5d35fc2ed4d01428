"""The file of results: a line of JSON a cell."""

import json
from pathlib import Path
from typing import Any


def read_lines(kept: Path) -> list[dict[str, Any]]:
    """The results in a file, none where there is no file; a last line that a kill cut short is left out.

    Raises:
        ValueError: another line is no JSON.
    """
    lines = kept.read_text("utf-8").splitlines() if kept.is_file() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(
                    f"Each line of {kept} must be JSON; got {line[:60]!r} at line {number}. Remove that line, and its cell "
                    "is run again."
                ) from error
    return found


def append_line(kept: Path, line: dict[str, Any]) -> None:
    """Add a result, on a line of its own even where a kill cut the last one short."""
    whole = not kept.is_file() or not kept.stat().st_size or kept.read_bytes()[-1:] == b"\n"
    if not whole:
        text = kept.read_bytes()
        kept.write_bytes(text[: text.rfind(b"\n") + 1])
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
