"""The patterns by which a letter's surroundings say that it is chosen: phrases of `words`, put together to announcements."""

import re
import unicodedata
from functools import cache
from types import SimpleNamespace

from fairpp_hf.respondents.reading.unwrap import SET_OFF, TICK
from fairpp_hf.respondents.reading.words import JOINS, phrases, whole

CAPITAL = rf"[A-HJ-Z](?![{JOINS}'’])"
"""A letter that is named beside another; English "I" is none."""

_OTHER = rf"(?-i:(?P<other>{CAPITAL}|[\ue000-\ue0ff]))"
_MARKS = r" ?$| ?[\n.,;!?()\[\]/<>=→⇒–—|#]| ?:| -{1,2}[ >]"
_DIVIDES = r"[ ,:.→=>—–]"


@cache
def cues() -> SimpleNamespace:
    """All patterns, compiled when the first text needs them.

    The first of them end where a letter begins; those from `ends` on begin where it ends. `says` is the colon, copula or
    verb that announces the letter, and `other` another letter that is chosen from.
    """
    which, copula, because = phrases("which"), phrases("is"), phrases("because")
    number = r"(?:(?:q(?:uestion)? ?)?\d{1,2}[.:)]? ?)?"
    option = rf"(?:{phrases('option')} ?)?{phrases('option')}"
    of_option = rf"(?:(?:{which} ?)?{option}[ :#]{{0,2}}|(?:the|die|der|das|la|le|el|l['’]|het|den|το) ?)?"
    not_but = f"(?:{phrases('not_but')} )?"

    # What leads to an announcement, from where a clause begins.
    begin = r"(?:^[ \[(]{0,3}(?:[a-z]\) )?|[:—–] ?)"
    start = rf"(?:{begin}|[,(.] ?| - )"
    leads = rf"(?:{phrases('lead')}{_DIVIDES}{{0,5}}|{phrases('whereas')} ?[,:] ?){{0,4}}"
    lead = f"{start}{leads}"
    lead_of_answer = rf"{start}(?:{phrases('lead')}{_DIVIDES}{{0,5}}|{phrases('whereas')}[ ,:]{{1,3}}){{0,4}}"

    # "The most fitting answer (in one word) to this question"
    aside = r"(?:\([a-z]\))?(?: ?[(\[][^()\[\]\n]{1,30}[)\]])?"
    answer = (
        rf"(?:{which} ?){{0,4}}(?:{phrases('option')} )?{phrases('answer')}{aside}"
        rf"(?: ?{phrases('of_answer')}){{0,3}}(?: ?/ ?{phrases('answer')})?"
    )
    says = rf"(?P<says> ?[:=→⇒>\-–—.,(]{{1,3}} ?| ?{copula}(?: {copula})?(?: ?[:,])? ?)"
    columns = rf"(?P<columns>(?:[ ,;]{{1,3}}{phrases('column')}){{0,3}})"
    # Whoever says "I" speaks for nobody else, so that nothing need lead to it.
    begins = rf"(?:(?:^|[^{JOINS}])(?={whole('i')})|{lead})"
    either = rf"(?:[,/|&+] ?(?:{whole('or')} ?)?|{whole('or')} ?)"

    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(unicodedata.normalize("NFKC", pattern), re.IGNORECASE)  # as replies are

    return SimpleNamespace(
        # "My answer is"
        marker=compiled(rf"{lead_of_answer}{answer}{says}{not_but}(?:{which} ){{0,3}}{of_option}$"),
        # "Option", as a clause.
        marker_of_verb=compiled(f"{lead}{answer} $"),
        marker_clause=compiled(f"{begin}{leads}{answer} $"),  # "I weigh option A, then option B" announces nothing
        # "Answer:", as the line before.
        marker_line=compiled(rf"{lead}{answer}(?: ?{copula})? ?:?{columns}$"),
        # "I would choose"
        chooses=compiled(rf"{begins}(?P<says>{phrases('choose')} ?:? ?{not_but}(?:{which} ){{0,3}}{of_option})$"),
        persona_chooses=compiled(rf"{lead}{phrases('persona_chooses')} ?:? ?{of_option}$"),
        nearest=compiled(
            rf"{lead}(?P<says>{phrases('nearest')})(?: ?[:—–-] ?| ?{copula} ?|[ ,])?(?: ?: ?)?{of_option}$"
        ),
        it_is=compiled(rf"{lead}(?:{phrases('it_is')}|{TICK})[ ,:]{{0,2}}{of_option}$"),
        picking=compiled(rf"{lead}{phrases('picking')}[ ,:]{{0,2}}{of_option}$"),
        # Nothing but what leads to an announcement: in a clause, a sentence, or at the start of a reply.
        subject=compiled(rf"{lead}{of_option}$"),
        alone=compiled(
            rf" ?{number}(?:{phrases('lead')}{_DIVIDES}{{1,5}}|{phrases('whereas')} ?[,:] ?){{0,3}}{of_option}"
        ),
        opening=compiled(
            rf"(?:(?:{phrases('lead')}|{phrases('opening')})[ ,:.!(—–]{{0,4}}|{phrases('whereas')} ?[,:] ?){{0,3}}"
            rf"{number}{of_option}"
        ),
        # Somebody else is quoted: 'She said: "I choose B."', and '"I choose B," said she'.
        reports=compiled(
            rf"(?<![{JOINS}'’])(?!(?:i|we|that|as|persona|respondent|person|character|participant|assistant|model)\b)"
            rf"(?!(?:heart|gut|mind|conscience)\b)\w+ (?:(?:always|once|often|just|also|then) )?{phrases('said')} ?[:,]"
        ),
        reported=compiled(rf"[^.!?\n]{{0,60}}, ?{phrases('said')} (?!i\b)\w+"),
        # "A or"
        one_of=compiled(rf"(?<![{JOINS}]){_OTHER}{SET_OFF}?[.)]? ?{either}(?:{option} ?)?$"),
        # What never follows an article, so that "A" is a letter; strictly, a mark or the end.
        ends=compiled(rf"(?:{_MARKS}| {because}(?![{JOINS}])| ?{phrases('choose_after')})"),
        ends_strictly=compiled(f"(?:{_MARKS})"),
        ends_lowercase=compiled(rf" {phrases('lowercase_because')}\b"),
        ends_sentence=compiled(rf"(?: ?,? ?{phrases('emphatic')}){{0,2}} ?[.!](?:\s|$)"),
        contrast=compiled(rf" {phrases('contrast')}\b"),
        affirmed=compiled(rf"[ ?:.,–—-]{{1,5}}(?:yes,? )?{phrases('affirm')}\b"),
        # A verb or copula of languages that put it last.
        verb=compiled(rf" ?{phrases('choose_after')}"),
        verb_ends=compiled(rf" ?{phrases('choose_after')}(?= ?[.,;:!?\n)]| ?$| {because}\b)"),
        verb_around=compiled(rf" {phrases('choose_around')}\b"),
        is_chosen=compiled(rf"[ ,]{{0,2}}{phrases('chosen')}(?![{JOINS}])"),
        praised=compiled(rf" ?{phrases('praised')}(?![{JOINS}])"),
        or_another=compiled(rf"[.)]? ?{either}(?:{option} ?)?[(\[]?{_OTHER}(?! (?:is|was|would|ist|est|es)\b)"),
    )
