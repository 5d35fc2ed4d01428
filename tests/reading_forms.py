"""The corpus of forms that replies have, filled with letters. See benchmarks/reading.py for where the forms come from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

OPTIONS = ("A fair process for all.", "Those who need it most come first.", "Neither of these two criteria.")
FOLDER = Path(__file__).parents[1] / "benchmarks" / "reading_forms"


class Reply(NamedTuple):
    """A form with its letters in it."""

    text: str
    letter: str | None
    """The letter that it declares; None if it declares none."""
    finish_reason: str


def forms(name: str) -> list[dict[str, Any]]:
    """The rows of `declared` or `undeclared`."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [{"finish_reason": "stop", **json.loads(line)} for line in lines]


def filled(form: str, letter: str, others: str) -> str:
    """A form with its letter, the two others in this order, and their options' texts."""
    texts = dict(zip("ABC", OPTIONS, strict=True))
    marks = {
        "@MT": texts[others[0]],
        "@T": texts[letter],
        "@M": others[0],
        "@N": others[1],
        "@L": letter,
        "@l": letter.lower(),
    }
    for mark, text in marks.items():
        form = form.replace(mark, text)
    return form


def replies(row: dict[str, Any]) -> Iterator[Reply]:
    """A form with each letter and both orders of the others; once if its letter is a part of it."""
    if "letter" in row:
        yield Reply(row["form"], row["letter"], row["finish_reason"])
        return
    for letter in "ABC":
        others = "ABC".replace(letter, "")
        for order in (others, others[::-1]):
            yield Reply(filled(row["form"], letter, order), letter, row["finish_reason"])
