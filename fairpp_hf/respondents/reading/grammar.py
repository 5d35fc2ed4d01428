"""Finds where a plain text declares a choice: letter by letter, by what stands before and after it.

A letter counts at the reply's start or as a sentence of its own, after a word for "answer" and a colon or copula, after
"I choose", or before "is my choice". A letter that is merely named declares nothing. No rule knows which letter it reads: an
"A" that may be an article is treated as a "B" in its place would be.
"""

import re
from typing import NamedTuple

from fairpp_hf.respondents.reading.cues import CAPITAL, cues
from fairpp_hf.respondents.reading.mentions import MOST_NAMED, goes_on, is_sure, labels, letter_of, mentions
from fairpp_hf.respondents.reading.unwrap import SET_OFF
from fairpp_hf.respondents.reading.words import JOINS, anywhere, phrases

_FARTHEST = 200
"""How many characters before and after a letter are looked at."""

_MOST_CLAUSES = 5
"""An announcement, with what leads to it, has no more clauses than this."""

_SENTENCE_END = re.compile(
    r"[!?\n;]"
    r"|(?<=[^\s.(][^\s.(])\.(?=\s|$)"  # no abbreviation of one letter, and no "..."
    r"|(?<=[\ue200\ue000-\ue0ff])\.(?=\s|$)"
    r"|(?:(?<=[\s(][A-Za-z])|(?<=^[A-Za-z]))\.\s(?=[A-Z])"
)
_ANOTHER = re.compile(rf"(?<![{JOINS}'’]){CAPITAL}")
_BESIDE = re.compile(rf"(?<![{JOINS}'’])(?P<other>{CAPITAL}) $")
_NOT_BEFORE = re.compile(r"\b(?:not|nicht|niet|pas|no|non|nie|не) $", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]|[\ue000-\ue1ff]")
# A list under a heading such as "Rejected:".
_LISTS_OTHERS = re.compile(
    r"\b(?:reject|exclud|discard|eliminat|ruled out|not chosen|others?\b)[^\n]*:[^\n]*\n(?:[^\n]{0,9}\n)*$",
    re.IGNORECASE,
)


class Declaration(NamedTuple):
    """A place at which a text declares a choice."""

    letter: str
    """In upper case; empty where what is declared is no one option, such as "A or B"."""
    start: int
    end: int
    firm: bool = True
    """Whether it holds beside other letters that are named."""
    opens: bool = False
    """Whether the text begins with it."""
    lettered: bool = True
    """Whether it names the letter, and not only the option's text."""


class _Place(NamedTuple):
    """A letter and what stands around it in its sentence."""

    text: str
    mention: re.Match[str]
    before: str
    near: str
    """Its last clauses before the letter."""
    after: str
    is_listed: bool
    """Whether it is the label of one of several options."""

    @property
    def is_lower(self) -> bool:
        return bool(self.mention["letter"]) and self.mention["letter"].islower()

    @property
    def is_first(self) -> bool:
        return len(self.before) == self.mention.start()

    def opens(self, found: re.Match[str]) -> bool:
        """Whether the text begins with an announcement."""
        return self.is_first and self.near == self.before and found.start() == 0 and found.group()[:1] not in ",:(–—."

    def ends(self) -> bool:
        """Whether the letter is surely no article, judged by what follows."""
        cue = cues()
        if is_sure(self.mention) or cue.ends_strictly.match(self.after) or cue.or_another.match(self.after):
            return True
        letter = self.mention["letter"]
        if re.match(rf" {letter}(?![{JOINS}])", self.after):
            return True
        if self.is_lower:
            is_option = re.search(r"\boption $", self.before, re.IGNORECASE) is not None
            return is_option and cue.ends_lowercase.match(self.after) is not None
        return cue.ends.match(self.after) is not None


def declarations(text: str) -> tuple[list[Declaration], set[str]]:
    """All declarations of a text, in order.

    Args:
        text: Plain text, with `QUOTE` and `STATED` characters in it.

    Returns:
        (declarations, letters that are named anywhere).
    """
    found: list[Declaration] = []
    named: set[str] = set()
    places = mentions(text)
    if len(places) > MOST_NAMED:
        return [], set()
    ends = [0, *(end.end() for end in _SENTENCE_END.finditer(text)), len(text)]
    listed = labels(text, places)
    sentence = 0
    for mention in places:
        while ends[sentence + 1] <= mention.start() and sentence < len(ends) - 2:
            sentence += 1
        start, end = mention.span()
        before = text[max(ends[sentence], start - _FARTHEST) : start]
        place = _Place(text, mention, before, _last_clauses(before), text[end : end + _FARTHEST], start in listed)
        declared = _declared(place, text[end : max(ends[sentence + 1], end)])
        letter = letter_of(mention)
        if declared is not None:
            found.append(declared)
        if letter and (declared is not None or _is_named(place)):
            named.add(letter)
    return found, named


def _last_clauses(before: str) -> str:
    starts = [mark.start() for mark in re.finditer(r"[,:(–—.]", before)]
    return before[starts[-_MOST_CLAUSES] :] if len(starts) > _MOST_CLAUSES else before


def _is_named(place: _Place) -> bool:
    """Whether a letter that declares nothing is a letter at all."""
    if is_sure(place.mention):
        return True
    predicate = r" (?:is|was|would|has|seems|are|ist|est|es|best)\b"
    return not place.is_lower and bool(cues().ends.match(place.after) or re.match(predicate, place.after))


def _declared(place: _Place, rest: str) -> Declaration | None:
    """What a letter declares, if anything; `rest` is the sentence's text after it."""
    mention, letter = place.mention, letter_of(place.mention)
    start, end = mention.span()
    if mention["stated"]:
        is_example = anywhere("example").search(place.text[max(0, start - 60) : start].rpartition(".")[2])
        return None if is_example else Declaration(letter, start, end, opens=not place.text[:start].strip())
    form, opens = _form(place)
    if cues().reports.search(place.before) or cues().reported.match(place.after):
        return None
    if form in ("marker", "opening") and anywhere("disclaim").search(anywhere("but").split(place.before)[-1]):
        return None
    if form is None or (form != "affirmed" and rest.rstrip().endswith("?")) or _is_other_case(place.before, rest):
        return None
    if _is_one_of_several(place, letter):
        letter = ""
    return Declaration(letter, start, end, form != "praised", opens, mention["letter"] is not None)


def _is_other_case(before: str, rest: str) -> bool:
    """Whether a sentence says that its choice is for another case, or not the last word."""
    # "At first A, but ...": what comes after the turn is no first thought any more.
    before = anywhere("but").split(before)[-1]
    rest = anywhere("even_if").sub(" ", anywhere("but").split(rest)[0])
    clause = anywhere("if_forced").sub(" ", f"{before} _ {rest}")
    return any(anywhere(role).search(clause) for role in ("if", "tentative", "example"))


def _is_one_of_several(place: _Place, letter: str) -> bool:
    """Whether a letter is one of those that are chosen between: "A or B", "A, B"."""
    others = [cues().one_of.search(place.near)]
    if others[0] and _NOT_BEFORE.search(place.near[: others[0].start()]):
        others.clear()  # "not A, B"
    if not cues().verb.match(place.after):
        others.append(_BESIDE.search(place.before))  # Hungarian "A B-t választom" has an article there
    if not place.mention["quoted"]:
        others.append(cues().or_another.match(place.after))
    if place.mention["apart"]:
        others.append(re.match(rf" ?(?P<other>[A-Z]){SET_OFF}", place.after))
    return any(other is not None and other["other"] not in (letter, place.mention["quote"]) for other in others)


def _form(place: _Place) -> tuple[str | None, bool]:
    """Which form of a declaration a letter has, judged by what stands around it, and whether the text begins with it."""
    form: str | None = None
    opens = False
    if place.ends():
        if not place.is_listed:
            form, opens = _stands_alone(place)
        if form is None:
            form, opens = _is_announced(place)
        if form is None and not place.is_listed and _is_line(place):
            form = "line"
    elif cues().verb_around.match(place.after) and (found := _chooses(place)):
        form, opens = "chooses", place.opens(found)
    return (form, opens) if form else _is_subject(place)


def _stands_alone(place: _Place) -> tuple[str | None, bool]:
    """The letter opens the reply, or is a sentence of its own."""
    cue, (start, end) = cues(), place.mention.span()
    is_marked = is_sure(place.mention) or cue.ends_strictly.match(place.after)
    is_only_one = (
        is_marked or cue.contrast.match(place.after) or not _ANOTHER.search(_SENTENCE_END.split(place.after)[0])
    )
    if start < _FARTHEST and is_only_one and cue.opening.fullmatch(place.text[:start]) and not goes_on(place.after):
        # "I think that B", and no more: what is cut off there may go on with "is unfair".
        before = place.text[:start].strip()
        is_whole = is_sure(place.mention) or place.after or not before or before[-1] in ":=→>-–—"
        return "opening", bool(is_whole) or re.fullmatch(phrases("option"), before, re.IGNORECASE) is not None
    if cue.alone.fullmatch(place.before) and not _LISTS_OTHERS.search(place.text[max(0, start - _FARTHEST) : start]):
        if not _WORD.search(place.text, end):
            return "last sentence", False
        if cue.ends_sentence.match(place.after) and not place.is_lower and not goes_on(place.after):
            return "sentence", False
    return None, False


def _is_announced(place: _Place) -> tuple[str | None, bool]:
    """Something before the letter says that it is the choice."""
    cue, start = cues(), place.mention.start()
    if start and place.text[start - 1] == "\n":
        line = place.text[max(0, start - _FARTHEST) : start - 1]
        found = cue.marker_line.search(line.rpartition("\n")[2])
        if found and not (place.is_listed and re.search(r"(?:option|letter)s?\W*$", found.group(), re.IGNORECASE)):
            return "marker", place.opens(found) and "\n" not in line
    if found := cue.marker.search(place.near):
        return "marker", place.opens(found)
    ends_strictly = is_sure(place.mention) or cue.ends_strictly.match(place.after)
    is_clause = ends_strictly and not goes_on(place.after)
    # "Option A": without a colon or copula, only as a whole clause.
    found = cue.marker_clause.search(place.near) if is_clause and not place.is_listed else None
    if cue.verb.match(place.after):
        found = cue.marker_of_verb.search(place.near)
    if found:
        return "marker", place.opens(found)
    if found := _chooses(place):
        return "chooses", place.opens(found)
    if cue.persona_chooses.search(place.near):
        return "chooses", False
    found = cue.nearest.search(place.near)
    if found and not anywhere("not").search(found["says"]):
        return "nearest", False
    if is_clause and (cue.it_is.search(place.near) or cue.picking.search(place.near)):
        return "it is", False
    if cue.it_is.search(place.near) and not is_sure(place.mention):
        return "it is", False
    return None, False


def _is_line(place: _Place) -> bool:
    """The letter stands with its option's text as it was shown, and begins a line or is a clause."""
    begins = re.search(rf"(?:^|[!:–—]) ?(?:{phrases('option')} ?)?$", place.before, re.IGNORECASE)
    is_clause = re.match(r" ?(?:[.!\n]|$)", place.after) and cues().subject.search(place.near)
    return bool(place.mention["quoted"]) and bool(begins or is_clause) and not goes_on(place.after)


def _chooses(place: _Place) -> re.Match[str] | None:
    """A first person's choice before the letter, without a "not" before it in its clause."""
    found = cues().chooses.search(place.near)
    if found is None:
        return None
    clause = re.split(r"[,;:.!—–]", place.near[: found.start("says")])[-1]
    return None if anywhere("not").search(clause) else found


def _is_subject(place: _Place) -> tuple[str | None, bool]:
    """Something after the letter says that it is chosen."""
    cue = cues()
    found = cue.subject.search(place.near)
    if place.is_lower or found is None:
        return None, False
    if cue.affirmed.match(place.after):
        return "affirmed", place.opens(found)
    if cue.verb_ends.match(place.after):
        return "chooses", place.opens(found)
    if cue.is_chosen.match(place.after):
        return "is chosen", place.opens(found)
    return ("praised" if cue.praised.match(place.after) else None), False
