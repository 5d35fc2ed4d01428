"""The text of a reply in one form, each character of which still knows its place in the text that came."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

# Marks of direction and joining, enclosing circles, control characters, lone surrogates, and the private characters that
# later stages put into the text themselves.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff\u20dd-\u20e0\u20e2-\u20e4\ue000-\uf8ff]"
)
_BLANK = re.compile(r"[^\S\n]*\n\s*|[^\S\n]{2,}|[^\S \n]")
# Punctuation of other scripts, in the form that the rules know.
_PUNCTUATION = str.maketrans("։።۔।॥။。、،፣؛؟՞∶׃꞉៖፦՝՜‐‑‒", ".......,,,;??::::::!---")
# Letters in circles and squares of which Unicode does not say what letters they are (🅑, 🅱), and those of flags (🇧).
_EMOJI_LETTERS = {first + number: chr(65 + number) for first in (0x1F150, 0x1F170, 0x1F1E6) for number in range(26)}
# Vowels and final consonants that follow a Korean consonant, where syllables come in parts.
_KOREAN_PARTS = range(0x1160, 0x1200)


class Visible(NamedTuple):
    """Text, and where each of its characters stood in the reply."""

    text: str
    origin: Sequence[int]
    """Index into the reply's raw text, one for each character."""

    def cut(self, start: int, end: int) -> "Visible":
        """The part from `start` to `end`."""
        return Visible(self.text[start:end], self.origin[start:end])

    def stripped(self) -> "Visible":
        """Without white space at both ends."""
        start = len(self.text) - len(self.text.lstrip())
        return self.cut(start, max(start, len(self.text.rstrip())))

    def collapsed(self) -> "Visible":
        """With a line break for white space that has one, and one blank for any other."""
        kept: list[tuple[str, int, int]] = []
        end = 0
        for run in _BLANK.finditer(self.text):
            kept.append((self.text[end : run.start()], end, run.start()))
            kept.append(("\n" if "\n" in run.group() else " ", run.start(), run.start() + 1))
            end = run.end()
        if not kept:
            return self
        kept.append((self.text[end:], end, len(self.text)))
        origin = [place for _, first, last in kept for place in self.origin[first:last]]
        return Visible("".join(text for text, _, _ in kept), origin)


def joined(parts: Sequence[Visible]) -> Visible:
    """Several parts in one."""
    if len(parts) == 1:
        return parts[0]
    return Visible("".join(part.text for part in parts), [place for part in parts for place in part.origin])


def visible(raw: str) -> Visible:
    """A reply in one form of Unicode for look-alikes (full-width letters), without marks that cannot be seen."""
    if raw.isascii() and not _INVISIBLE.search(raw):
        return Visible(raw, range(len(raw))).collapsed()
    characters: list[str] = []
    origin: list[int] = []
    start = 0
    for place in range(1, len(raw) + 1):
        if place < len(raw) and _continues(raw[place]):
            continue
        # A letter with its accents: only together do they have the form that the rules know.
        cluster = _INVISIBLE.sub("", raw[start:place]).translate(_EMOJI_LETTERS)
        unified = cluster if cluster.isascii() else unicodedata.normalize("NFKC", cluster).translate(_PUNCTUATION)
        characters.append(unified)
        origin += [start] * len(unified)
        start = place
    return Visible("".join(characters), origin).collapsed()


def _continues(character: str) -> bool:
    return character > "\u02ff" and (unicodedata.combining(character) != 0 or ord(character) in _KOREAN_PARTS)
