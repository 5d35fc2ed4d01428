"""Finds where a plain text declares a choice: letter by letter, by what stands before and after it.

A letter counts at the reply's start or as its last line, after a word for "answer" and a colon or copula, after "I choose", or
before "is my choice". A letter that is merely named declares nothing. No rule knows which letter it reads: an "A" that may be
an article is treated as a "B" in its place would be.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

from fairpp_hf.respondents.reading import words
from fairpp_hf.respondents.reading.unwrap import SET_OFF, TICK
from fairpp_hf.schema import OPTION_LETTERS

QUOTE = 0xE000
"""One private character in the place of an option's text: this and the option's number."""

STATED = 0xE100
"""One private character in the place of a JSON object that states an answer: this and the option's number."""

STATED_NONE = chr(0xE1FF)
"""In the place of one that states something else."""

_FARTHEST = 200
"""How many characters before a letter are looked at."""

_MOST_NAMED = 200
"""A text that names letters more often than this declares nothing: each is looked at by itself, and time is limited."""

# Characters that make one word with a Latin letter beside them; scripts that put no blanks between words have none.
_JOINS = r"0-9A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f"
_NO_MORE = rf"(?![{_JOINS}&]|['’][{_JOINS}]|\.[A-Za-z]\b|\([a-z]\)|-(?!(?:t|et|ot|г|ийг)\b)[{_JOINS}])"
_CANDIDATE = re.compile(
    rf"(?<![{_JOINS}'’&@])(?P<letter>[A-Za-z])(?:(?P<apart>{SET_OFF})|{_NO_MORE}|(?=['’](?:[ydts][ıiuüae]|[ıiuüy])[{_JOINS}]*\b))"
    r"(?:[ .:;,)\-–—=]{0,4}(?P<quoted>[\ue000-\ue0ff]))?"
    r"|(?P<quote>[\ue000-\ue0ff])|(?P<stated>[\ue100-\ue1ff])"
)
_SENTENCE_END = re.compile(
    r"[!?\n;]|(?<=[^\s.(][^\s.(])\.(?=\s|$)|(?<=[\ue200\ue000-\ue0ff])\.(?=\s|$)|(?<=[\s(][A-Za-z])\.\s(?=[A-Z])|(?<=^[A-Za-z])\.\s(?=[A-Z])"
)
_CAPITAL = rf"[A-HJ-Z](?![{_JOINS}'’])"
_OR = (
    r"(?:(?:and/or|or|and|nor|und|oder|ou|et|o|y|u|e|of|en|eller|och|og|tai|ja|lub|i|nebo|vagy|sau|veya|ve|ή|και|или|и|або|atau|hoặc|vs\.?"
    rf"|versus)(?![{_JOINS}])(?: (?:perhaps|maybe|possibly|even)\b)?|أو|و|או|या|หรือ|或者|或|和|か|と|または|와|과|또는)"
)
_AND = rf" ?(?:[,/|&+] ?(?:{_OR} ?)?|{_OR} ?)(?:{words.OPTION} ?)?"
_SET_OFF_TOO = re.compile(rf" ?(?P<other>[A-Z]){SET_OFF}")
_OR_ANOTHER = re.compile(
    rf"[.)]?{_AND}[(\[]?(?-i:(?P<other>{_CAPITAL}|[\ue000-\ue0ff]))(?! (?:is|was|would|ist|est|es)\b)", re.IGNORECASE
)
_ONE_OR = re.compile(
    rf"(?<![{_JOINS}])(?-i:(?P<other>{_CAPITAL}|[\ue000-\ue0ff])){SET_OFF}?[.)]?{_AND}$", re.IGNORECASE
)
_LABEL = re.compile(r" ?[.):]|[\ue000-\ue0ff]| ?[–—-] ")


_ANOTHER = re.compile(rf"(?<![{_JOINS}'’]){_CAPITAL}")
_I = r"(?:i|we|im|id|ill|ive|this|ich|je|j['’]|ik|jag|jeg|yo|eu|io|minä|én|já|ja|ek|ben|bi|я|εγώ|أنا|אני|من|मैं|আমি|我|本人|tôi|mình|saya|aku|ฉัน|ผม)(?![a-z])|(?=我)"
_LINE_BEGINS = re.compile(rf"(?:^|[:!–—]) ?(?:{words.OPTION} ?)?$", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]|[\ue000-\ue1ff]")
# At a reply's start, "A:" may stand for "answer", and a predicate may say anything of an option.
_OPENS_OTHERWISE = re.compile(
    r" ?: ?(?-i:[^\W_a-z]|this\b)|[ ,.:–—-]{1,3}(?:no(?! doubt| question)|nope|never|not(?! (?-i:[A-Z])\b)|false|wrong)\b"
    r"| (?:is|was|are|were|would|has|have|had|can|could|should|seems|does|means|ist|est|es|é|è|or)\b",
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


class _Grammar(NamedTuple):
    """Compiled patterns; `before` ones end where a letter begins, the others begin where it ends."""

    ends: re.Pattern[str]
    ends_strictly: re.Pattern[str]
    copula_after: re.Pattern[str]
    marker: re.Pattern[str]
    marker_line: re.Pattern[str]
    chooses: re.Pattern[str]
    persona_chooses: re.Pattern[str]
    nearest: re.Pattern[str]
    it_is: re.Pattern[str]
    negated: re.Pattern[str]
    picking: re.Pattern[str]
    subject: re.Pattern[str]
    alone: re.Pattern[str]
    opening: re.Pattern[str]
    chosen_after: re.Pattern[str]
    verb_last: re.Pattern[str]
    is_chosen: re.Pattern[str]
    praised: re.Pattern[str]
    tentative: re.Pattern[str]
    other_case: re.Pattern[str]
    same_case: re.Pattern[str]
    but: re.Pattern[str]


@cache
def _grammar() -> _Grammar:
    """Compiled when the first text needs them."""
    lead = rf"(?:^[ \[(]{{0,3}}|[,:(–—.] ?| - )(?:{words.LEAD}[ ,:.→=>—–]{{0,4}}|{words.WHEREAS} ?[,:] ?){{0,4}}"
    loose = lead.replace("?[,:] ?)", "[ ,:]{1,3})")  # before a word for "answer", nothing need divide
    of_option = (
        rf"(?:(?:{words.ARTICLES} ?)?(?:{words.OPTION} )?(?:{words.OPTION})(?: (?:is|number|letter))?[ :#]{{0,2}}"
        r"|(?:the|die|der|das|la|le|el|l['’]|het|den|το) ?)?"
    )
    noun = (
        rf"(?:(?:{words.ADJECTIVES}) ?){{0,4}}(?:{words.OPTION} )?(?:{words.NOUNS})(?:\([a-z]\))?(?: ?[(\[][^()\[\]\n]{{1,30}}[)\]])?"
        rf"(?: ?{words.AFTER_NOUN}){{0,3}}"
    )
    between = rf"(?P<says> ?[:=→⇒>\-–—.,(]{{1,3}} ?| ?{words.COPULA}(?: {words.COPULA})?(?: ?[:,])? ?)"
    more = rf"(?:(?:{words.ADJECTIVES}) ){{0,3}}"
    strict = r" ?$| ?[\n.,;!?()\[\]/<>=→⇒–—|#]| ?:| -{1,2}[ >]"
    particles = (
        r"['’]?(?:dir|dır|dur|dür|tir|tır)\b| ?(?:şıkkı|seçeneği)(?:dır|dir)?(?= ?[.\n]|$)| ?(?:です|だ|でした|である|となります|(?:번|이|가 정답)? ?입니다|이다|예요"
        r"|이에요|选项|選項|项|項|吧|一票|因为|因為|这(?!不)|ครับ|ค่ะ|है|ہے|ہوگا|হবে|ஆகும்|ነው|ဖြစ်ပါသည်|ဖြစ်သည်|olurdu|lehetőség$|번$)"
    )

    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(unicodedata.normalize("NFKC", pattern), re.IGNORECASE)  # as replies are

    return _Grammar(
        ends=compiled(rf"(?:{strict}| (?:{words.FOLLOWS})(?![{_JOINS}])|{particles})"),
        ends_strictly=compiled(rf"(?:{strict})"),
        copula_after=compiled(particles),
        marker=compiled(rf"{loose}{noun}(?:{between}{more}{of_option}| )$"),
        marker_line=compiled(rf"{lead}{noun}(?: ?{words.COPULA})? ?:?$"),
        # Whoever says "I" speaks for nobody else, so that before it only a "not" counts.
        chooses=compiled(rf"(?:(?:^|[^{_JOINS}])(?={_I})|{lead})(?P<says>{words.CHOOSES} ?:? ?{more}{of_option})$"),
        negated=compiled(words.NOT),
        picking=compiled(rf"{lead}{words.PICKING}[ ,:]{{0,2}}{of_option}$"),
        persona_chooses=compiled(rf"{lead}{words.PERSONA_CHOOSES} ?:? ?{of_option}$"),
        nearest=compiled(rf"{lead}{words.NEAREST}(?: ?[:—–-] ?| ?{words.COPULA} ?|[ ,])(?: ?: ?)?{of_option}$"),
        it_is=compiled(rf"{lead}(?:{words.IT_IS}|{TICK})[ ,:]{{0,2}}{of_option}$"),
        subject=compiled(rf"{lead}{of_option}$"),
        alone=compiled(
            rf" ?(?:(?:q(?:uestion)? ?)?\d{{1,2}}[.:)]? ?)?(?:{words.LEAD}[ ,:.→=>—–]{{1,4}}|{words.WHEREAS} ?[,:] ?){{0,2}}{of_option}"
        ),
        opening=compiled(
            rf"(?:(?:{words.LEAD}|understood|got it|hello|hi|here (?:is|it is|you go|we go)|let me see|print|return|echo|submit|choose"
            rf"|select|pick)[ ,:.!(—–]{{0,4}}|{words.WHEREAS} ?[,:] ?){{0,3}}(?:(?:q(?:uestion)? ?)?\d{{1,2}}[.:)]? ?)?{of_option}",
        ),
        chosen_after=compiled(rf" ?{words.CHOOSES_AFTER}(?= ?[.,;:!?\n)]| ?$| (?:{words.FOLLOWS})\b)"),
        verb_last=compiled(rf" {words.CHOOSES_AROUND}\b"),
        is_chosen=compiled(rf"[ ,]{{0,2}}{words.IS_CHOSEN}"),
        praised=compiled(rf" {words.PRAISE}"),
        tentative=compiled(words.TENTATIVE),
        other_case=compiled(rf"{words.EXAMPLE}|{words.IF}"),
        same_case=compiled(words.NOT_REALLY_IF),
        but=compiled(words.BUT),
    )


def declarations(text: str) -> tuple[list[Declaration], set[str]]:
    """All declarations of a text, in order.

    Args:
        text: plain text, with `QUOTE` and `STATED` characters in it.

    Returns:
        (declarations, letters that are named anywhere).
    """
    found: list[Declaration] = []
    named: set[str] = set()
    candidates = list(islice((match for match in _CANDIDATE.finditer(text) if not _is_word(match)), _MOST_NAMED + 1))
    if len(candidates) > _MOST_NAMED:
        return [], set()
    ends = [0, *(end.end() for end in _SENTENCE_END.finditer(text)), len(text)]
    labels = _listed(text, candidates)
    sentence = 0
    for match in candidates:
        while ends[sentence + 1] <= match.start() and sentence < len(ends) - 2:
            sentence += 1
        letter = _letter_of(match)
        declared = _declared(text, match, ends[sentence], ends[sentence + 1], match.start() in labels)
        if declared is not None:
            found.append(declared)
        if letter and (declared is not None or _is_mention(text, match)):
            named.add(letter)
    return found, named


def _is_word(match: re.Match[str]) -> bool:
    """Whether a letter is surely a word of its own: English "I"."""
    return match["letter"] == "I" and not match["apart"]


def _letter_of(match: re.Match[str]) -> str:
    """The letter that is named; empty where letter and quoted text contradict each other."""
    quote = match["quote"] or match["quoted"]
    quoted = OPTION_LETTERS[ord(quote) - QUOTE] if quote else None
    if match["stated"]:
        return "" if match["stated"] == STATED_NONE else OPTION_LETTERS[ord(match["stated"]) - STATED]
    if match["letter"] is None:
        return quoted or ""
    letter = match["letter"].upper()
    return letter if quoted in (None, letter) else ""


def _is_mention(text: str, match: re.Match[str]) -> bool:
    if match["letter"] is None or match["apart"] or match["quoted"]:
        return True
    after = text[match.end() : match.end() + 40]
    return match["letter"].isupper() and (
        _grammar().ends.match(after) is not None
        or re.match(r" (?:is|was|would|has|seems|are|ist|est|es|best)\b", after) is not None
    )


def _listed(text: str, candidates: Sequence[re.Match[str]]) -> set[int]:
    """Where lines begin with the letters of several options: a list of them is no choice."""
    labels = {
        match.start(): _letter_of(match)
        for match in candidates
        if match["letter"]
        and re.search(
            rf"(?:^|\n|[.;] )(?:{words.OPTION} )?$", text[max(0, match.start() - 20) : match.start()], re.IGNORECASE
        )
        and (
            match["quoted"]
            or (match["apart"] and not _OPENS_OTHERWISE.match(text, match.end()))
            or _LABEL.match(text, match.end())
        )
    }
    if len(set(labels.values())) < 2 or re.search(words.RETRACTS, text[min(labels) : max(labels)], re.IGNORECASE):
        return set()
    return set(labels)


def _declared(text: str, match: re.Match[str], first: int, last: int, is_listed: bool) -> Declaration | None:
    """What a letter in the sentence from `first` to `last` declares, if anything."""
    grammar = _grammar()
    start, end = match.span()
    if match["stated"]:
        sentence = text[max(0, start - 60) : start]
        if re.search(words.EXAMPLE, sentence.rpartition(".")[2], re.IGNORECASE):
            return None
        return Declaration(_letter_of(match), start, end, opens=not text[:start].strip())
    before = text[max(first, start - _FARTHEST) : start]
    after = text[end : end + _FARTHEST]
    form, opens = _form(text, match, before, after, is_listed)
    if form is None:
        return None
    rest = text[end : max(last, end)]
    if rest.rstrip().endswith("?"):
        return None
    # "At first A, but ...": what comes after the turn is no first thought any more.
    clause = grammar.but.split(before)[-1] + " _ " + grammar.but.split(rest)[0]
    if grammar.other_case.search(grammar.same_case.sub(" ", clause)) or grammar.tentative.search(clause):
        return None
    letter = _letter_of(match)
    # What is chosen between is no choice: "A or B", "A, B".
    beside = [_OR_ANOTHER.match(after) if not match["quoted"] else None, _ONE_OR.search(before)]
    beside.append(_SET_OFF_TOO.match(after) if match["apart"] else None)
    if any(other is not None and other["other"] not in (letter, match["quote"]) for other in beside):
        letter = ""
    return Declaration(letter, start, end, form != "praise", opens, match["letter"] is not None)


def _form(text: str, match: re.Match[str], before: str, after: str, is_listed: bool) -> tuple[str | None, bool]:
    """Which form of a declaration a letter has, judged by what stands around it, and whether the text begins with it."""
    grammar = _grammar()
    start = match.start()
    is_sure = match["letter"] is None or match["apart"] or match["quoted"]
    is_lower = match["letter"] is not None and match["letter"].islower()
    ends = bool(is_sure) or (grammar.ends_strictly if is_lower else grammar.ends).match(after) is not None
    ends = ends or (match["letter"] is not None and re.match(rf" {match['letter']}(?![{_JOINS}])", after) is not None)
    is_first = len(before) == start

    def negated(found: re.Match[str]) -> bool:
        return grammar.negated.search(re.split(r"[,;:.!—–]", before[: found.start("says")])[-1]) is not None

    def opens(found: re.Match[str]) -> bool:
        return is_first and found.start() == 0 and found.group()[:1] not in ",:(–—."

    if ends and not is_listed:
        is_set_off = (
            bool(is_sure)
            or grammar.ends_strictly.match(after) is not None
            or not _ANOTHER.search(_SENTENCE_END.split(after)[0])
        )
        if (
            start < _FARTHEST
            and is_set_off
            and grammar.opening.fullmatch(text[:start])
            and not _OPENS_OTHERWISE.match(after)
        ):
            return "opening", True
        if not _WORD.search(text, match.end()) and grammar.alone.fullmatch(before):
            return "last sentence", False
        # A sentence of its own, or an option's whole line after a colon or another sentence.
        if re.match(r" ?[.!](?:\s|$)", after) and grammar.alone.fullmatch(before) and not is_lower:
            return "sentence", False
        if match["quoted"] and _LINE_BEGINS.search(before) and not _OPENS_OTHERWISE.match(after):
            return "line", False
    if ends:
        if start and text[start - 1] == "\n":
            line = text[max(0, start - _FARTHEST) : start - 1]
            found = grammar.marker_line.search(line.rpartition("\n")[2])
            if found and not (is_listed and re.search(r"(?:option|letter)s?\W*$", found.group(), re.IGNORECASE)):
                return "marker", opens(found) and "\n" not in line
        found = grammar.marker.search(before)
        # "Option A": without a colon or copula, only as a whole clause.
        if found and (
            found["says"]
            or (is_sure and not is_listed and not _OPENS_OTHERWISE.match(after))
            or (grammar.ends_strictly.match(after) and not is_listed)
            or grammar.copula_after.match(after)
        ):
            return "marker", opens(found)
        if (found := grammar.chooses.search(before)) and not negated(found):
            return "chooses", opens(found)
        if grammar.persona_chooses.search(before) or grammar.nearest.search(before) or grammar.it_is.search(before):
            return "it is", False
        if (is_sure or grammar.ends_strictly.match(after)) and grammar.picking.search(before):
            return "it is", False
    elif grammar.verb_last.match(after) and (found := grammar.chooses.search(before)) and not negated(found):
        return "chooses", opens(found)
    found = grammar.subject.search(before)
    if is_lower or not found:
        return None, False
    if grammar.chosen_after.match(after):
        return "chooses", opens(found)
    if grammar.is_chosen.match(after):
        return "is chosen", opens(found)
    return ("praise" if grammar.praised.match(after) else None), False
