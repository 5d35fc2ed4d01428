"""Option probabilities, from the alternatives of the token at which the answer's letter begins."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairpp_hf.schema import OPTION_LETTERS

Probabilities = tuple[float, float, float]

_MOST_KEPT = 4
"""So many tokens that are a letter are kept from the beginning of a reply, and as many from its end."""

_LEAST_LOGPROB = -9999
"""What the API writes for "very unlikely" if it gives no figure."""


def letter_tokens(raw: str | None, logprobs: Any) -> dict[str, Any]:
    """What the journal keeps of a reply's log-probabilities.

    Args:
        raw: The reply's text.
        logprobs: The choice's `logprobs`, as the server sent it. Nothing about it is taken for granted.

    Returns:
        `{"letters": [...]}`, an entry for each token of the text that is a letter: `place` (its index in `raw`), `token`
        and `alternatives`, a list of (token, log-probability), with its bytes as a third where the server sends them.
        Empty where there are no log-probabilities, or where their tokens cannot be found in the text.
    """
    try:
        tokens = [(entry["token"], entry) for entry in logprobs["content"]]
    except (KeyError, TypeError):
        return {}
    if not all(isinstance(token, str) for token, _ in tokens):
        return {}
    pieces = _pieces(tokens)
    shift = _shift(pieces, raw or "")
    if shift is None:
        return {}
    letters = []
    place = -shift
    for piece, (token, entry) in zip(pieces, tokens, strict=True):
        letter = _letter_in(token)
        at = place + piece.find(letter) if letter is not None and letter in piece else -1
        if 0 <= at < len(raw or "") and (alternatives := _alternatives(entry)):
            letters.append({"place": at, "token": token, "alternatives": alternatives})
        place += len(piece)
    if len(letters) > 2 * _MOST_KEPT:
        letters = [*letters[:_MOST_KEPT], *letters[-_MOST_KEPT:]]
    return {"letters": letters} if letters else {}


def letter_probabilities(letters: Any, place: int | None) -> Probabilities | None:
    """Probabilities of A, B, C at the token at which the answer's letter begins.

    Alternatives that are the same letter, with and without white space and punctuation around it, are added up, and the sums
    are divided by their total. None if that token was not kept, or a letter is missing among its alternatives: what is not
    known is not made up.

    Args:
        letters: The entries of `letter_tokens`.
        place: Index of the answer's letter in the raw text; None if it is not named.

    Example:
        >>> import math
        >>> shares = [("A", math.log(0.2)), (" A", math.log(0.1)), ("B", math.log(0.2)), ("C", math.log(0.1))]
        >>> letter_probabilities([{"place": 0, "token": "A", "alternatives": shares}], 0)
        (0.5, 0.3333333333333333, 0.16666666666666669)
    """
    if place is None or not isinstance(letters, Sequence):
        return None
    for entry in letters:
        if entry["place"] == place:
            return _shares(entry)
    return None


def _shares(entry: Mapping[str, Any]) -> Probabilities | None:
    is_upper = (_letter_in(entry["token"]) or "A").isupper()
    by_letter: dict[str, list[float]] = {letter: [] for letter in OPTION_LETTERS}
    for token, logprob, *_ in entry["alternatives"]:
        letter = _letter_in(token)
        # In the place of "B", an "a" is more likely an article.
        if letter is not None and letter.isupper() == is_upper and letter.upper() in by_letter:
            by_letter[letter.upper()].append(math.exp(logprob))
    sums = [math.fsum(probabilities) for probabilities in by_letter.values()]
    total = math.fsum(sums)
    if not all(sums) or not math.isfinite(total):
        return None
    return sums[0] / total, sums[1] / total, sums[2] / total


def _letter_in(token: str) -> str | None:
    """The letter that a token is, but for white space and punctuation."""
    rest = "".join(character for character in _readable(token) if character.isalnum())
    return rest if len(rest) == 1 and rest.isascii() and rest.isalpha() else None


def _readable(token: str) -> str:
    """A token as text: some servers show the vocabulary's own marks for white space."""
    return token.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")


def _pieces(tokens: Sequence[tuple[str, Any]]) -> list[str]:
    """The text of each token. A character that is spread over several tokens belongs to the last of them."""
    pieces = []
    pending = b""
    for token, entry in tokens:
        sent = entry.get("bytes")
        if not _is_bytes(sent):
            pieces.append(_readable(token))
            continue
        pending += bytes(sent)
        try:
            pieces.append(pending.decode())
            pending = b""
        except UnicodeDecodeError as error:
            # A character that is not complete yet; what can never become one is shown as servers show it.
            complete, pending = (pending[: error.start], pending[error.start :]) if len(pending) < 8 else (pending, b"")
            pieces.append(complete.decode("utf-8", "replace"))
    return pieces


def _shift(pieces: Sequence[str], raw: str) -> int | None:
    """How many characters of the tokens' text come before the reply's; None where it cannot be found in theirs."""
    whole, text = "".join(pieces), raw.strip()
    if not text or not whole.strip():
        return None
    lead, indent = len(whole) - len(whole.lstrip()), len(raw) - len(raw.lstrip())
    # The usual case, with white space that the server has stripped off; or only the first tokens are told.
    if whole.lstrip().startswith(text) or text.startswith(whole.strip()):
        return lead - indent
    # A thought that the server has taken out comes before, or a stop token after: the reply begins and ends where tokens do.
    starts, ends, place = set(), set(), 0
    for piece in pieces:
        starts |= {place, place + len(piece) - len(piece.lstrip())}
        ends |= {place + len(piece), place + len(piece.rstrip())}
        place += len(piece)
    found = whole.rfind(text)
    while found >= 0:
        if found in starts and found + len(text) in ends:
            return found - indent
        found = whole.rfind(text, 0, found + len(text) - 1)
    return None


def _alternatives(entry: Mapping[str, Any]) -> list[list[Any]]:
    """(token, log-probability), with bytes where they were sent; without what is no log-probability."""
    found = []
    tops = entry.get("top_logprobs")
    for top in tops if isinstance(tops, list) else ():
        token, logprob = (top.get("token"), top.get("logprob")) if isinstance(top, dict) else (None, None)
        if isinstance(token, str) and isinstance(logprob, int | float) and _LEAST_LOGPROB < logprob < 1:
            found.append([token, float(logprob), *([list(top["bytes"])] if _is_bytes(top.get("bytes")) else [])])
    return found


def _is_bytes(sent: Any) -> bool:
    return isinstance(sent, list) and bool(sent) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in sent)
