"""What follows from the declarations of a text: if they agree, contradict or correct each other, or are taken back."""

from collections.abc import Sequence

from fairpp_hf.respondents.reading.grammar import Declaration
from fairpp_hf.respondents.reading.words import anywhere


def decided(text: str, found: Sequence[Declaration], named: set[str], was_cut: bool) -> Declaration | None:
    """The declaration that counts, if the text comes to one.

    Args:
        text: Plain text.
        found: Its declarations, in order.
        named: All letters that it names.
        was_cut: Whether its end is missing.
    """
    firm = [declaration for declaration in found if declaration.firm]
    if was_cut:
        return _opening(text, firm)
    if not firm:
        letters = {declaration.letter for declaration in found}
        return found[0] if len(letters) == 1 and named <= letters else None
    while not firm[0].letter and len(firm) > 1:
        del firm[0]  # "A, B or C?", and then one of them
    last = firm[-1]
    first = _first_of_the_last(text, firm)
    return None if first is None or _found("take_back", text[last.end :]) else first


def _opening(text: str, firm: Sequence[Declaration]) -> Declaration | None:
    """What opens a text that was cut off: the rest may be a thought, or on its way to another choice."""
    if not firm or not firm[0].opens or len({declaration.letter for declaration in firm}) > 1:
        return None
    is_heading = text[firm[0].end :].strip() == ":"
    return None if is_heading or anywhere("thinks").match(text) else firm[0]


def _first_of_the_last(text: str, firm: Sequence[Declaration]) -> Declaration | None:
    """The first declaration of the last letter; none if that letter contradicts another without a correction."""
    others = [declaration for declaration in firm if declaration.letter != firm[-1].letter]
    if not others:
        return firm[0]
    first = next(declaration for declaration in firm if declaration.start > others[-1].start)
    return first if _found("correct", text[others[-1].end : first.start]) else None


def _found(role: str, text: str) -> bool:
    return any(anywhere(each).search(text) for each in (role, "retract"))


def refuses(text: str) -> bool:
    """Whether a text without a choice says that none will come."""
    return any(anywhere(role).search(text) for role in ("decline", "disclaim"))
