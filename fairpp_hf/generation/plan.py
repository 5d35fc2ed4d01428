"""What a run asks: the requests of a persona set and a question table, checked, and the key of each."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from fairpp_hf.naming import check_name
from fairpp_hf.respondents.base import SIMULATED, Request, Respondent

if TYPE_CHECKING:
    from fairpp_hf.personas import PersonaSet

logger = logging.getLogger(__name__)

ASKED_COLUMNS = ("question_id", "prompt", "option_a", "option_b", "option_c")
"""The columns of a question table that decide a request."""


def request_key(settings: Mapping[str, Any], request: Request, sample: int = 0) -> str:
    """The key of a reply: SHA-256 over the digests of everything that decides it.

    These are the respondent's settings with the number of the sample, the ids, each message, and the options; a digest is
    SHA-256 over canonical JSON. What many requests share is thus hashed once. The ids are part of the key since the survey
    respondent is seeded by them.

    Args:
        settings: the respondent's.
        request: the request.
        sample: number of the sample, for respondents that answer differently each time.

    Returns:
        64 hexadecimal digits.
    """
    parts = [[settings, sample], request.persona, request.question_id, *request.messages, request.options]
    return _key_of(*map(_digest, parts))


def _digest(part: Any) -> bytes:
    return hashlib.sha256(json.dumps(part, sort_keys=True, separators=(",", ":")).encode()).digest()


def _key_of(*digests: bytes) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def questions_digest(questions: pa.Table) -> str:
    """SHA-256 over ids, prompts and options, in the order of the rows."""
    digest = hashlib.sha256()
    for name in ASKED_COLUMNS:
        digest.update(json.dumps(questions[name].to_pylist(), separators=(",", ":")).encode())
    return digest.hexdigest()


class RequestPlan(Sequence[Request]):
    """Every persona times every question, persona by persona; a request is built when it is looked at.

    Args:
        personas: each with `id` and `portrait`.
        questions: a table with the columns `ASKED_COLUMNS`. Rows that repeat another are left out.

    Raises:
        ValueError: no persona or no question, a missing column or value, an id used for two different things, or a text
            that is not valid Unicode.
    """

    def __init__(self, personas: "PersonaSet", questions: pa.Table) -> None:
        self.questions = _checked_questions(questions)
        self.portraits = _checked_portraits(personas)
        columns = [self.questions[name].to_pylist() for name in ASKED_COLUMNS]
        self._ids, self._prompts = columns[0], columns[1]
        self._options: list[tuple[str, str, str]] = list(zip(*columns[2:], strict=True))
        self._personas = list(self.portraits)

    def __len__(self) -> int:
        return len(self._personas) * len(self._ids)

    @overload
    def __getitem__(self, position: int) -> Request: ...

    @overload
    def __getitem__(self, position: slice) -> list[Request]: ...

    def __getitem__(self, position: int | slice) -> Request | list[Request]:
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        persona_number, row = divmod(position, len(self._ids))
        persona = self._personas[persona_number]
        messages = [_system_message(self.portraits[persona]), _user_message(self._prompts[row])]
        return Request(self._ids[row], persona, messages, self._options[row])

    def ids_at(self, position: int) -> tuple[str, str]:
        """(question_id, persona) of a request."""
        persona_number, row = divmod(position, len(self._ids))
        return self._ids[row], self._personas[persona_number]

    def keys(self, settings: Mapping[str, Any], sample: int = 0) -> list[str]:
        """`request_key` of every request."""
        of_settings = _digest([settings, sample])
        of_questions = [
            (_digest(question_id), _digest(_user_message(prompt)), _digest(options))
            for question_id, prompt, options in zip(self._ids, self._prompts, self._options, strict=True)
        ]
        return [
            _key_of(of_settings, of_persona, of_id, of_portrait, of_prompt, of_options)
            for of_persona, of_portrait in [
                (_digest(persona), _digest(_system_message(portrait))) for persona, portrait in self.portraits.items()
            ]
            for of_id, of_prompt, of_options in of_questions
        ]


def _system_message(portrait: str) -> dict[str, str]:
    return {"role": "system", "content": portrait}


def _user_message(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


class Waiting(Sequence[Request]):
    """Some requests of a plan; iterating over them ends early once `stopped` is set."""

    def __init__(self, plan: RequestPlan, positions: Sequence[int]) -> None:
        self._plan = plan
        self._positions = positions
        self.stopped = False

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...

    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self._plan[position] for position in self._positions[index]]
        return self._plan[self._positions[index]]

    def __iter__(self) -> Iterator[Request]:
        for position in self._positions:
            if self.stopped:
                return
            yield self._plan[position]


def check_respondent(respondent: Respondent) -> None:
    """Check a respondent's name and settings.

    Raises:
        ValueError: the name does not end in `SIMULATED`, or the settings are not JSON.
    """
    if not respondent.name.endswith(SIMULATED):
        raise ValueError(
            f"A respondent's name must end in {SIMULATED!r}; got {respondent.name!r}. A model in a role is not a person."
        )
    try:
        json.dumps(respondent.settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A respondent's settings must be JSON, to tell its replies from another's; got {respondent.settings!r}: "
            f"{error}."
        ) from error


def _checked_questions(questions: pa.Table) -> pa.Table:
    for name in ASKED_COLUMNS:
        if name not in questions.column_names:
            # The table is what is wrong here, so that its nearest column is named.
            check_name(f"Column {name!r} of the questions", name, questions.column_names)
        nulls = np.flatnonzero(questions[name].is_null().to_numpy())
        if len(nulls):
            raise ValueError(
                f"Column {name!r} of the questions must have no missing values; got one at row {nulls[0]}."
            )
    if not len(questions):
        raise ValueError("A run must ask at least one question; got none. Check the split and the limit.")
    rows = list(zip(*(questions[name].to_pylist() for name in ASKED_COLUMNS), strict=True))
    first: dict[str, int] = {}
    keep, clashes = [], []
    for number, row in enumerate(rows):
        earlier = first.setdefault(row[0], number)
        if earlier == number:
            keep.append(number)
        elif rows[earlier] != row:
            clashes.append(row[0])
    if clashes:
        shown = ", ".join(map(repr, clashes[:5]))
        raise ValueError(
            f"question_id must be unique; got {len(clashes)} rows that repeat an id with other content: {shown}"
            f"{', ...' if len(clashes) > 5 else ''}. Give them ids of their own."
        )
    if len(keep) < len(rows):
        logger.warning("%d questions occur more than once and are asked once.", len(rows) - len(keep))
        return questions.take(pa.array(keep))
    return questions


def _checked_portraits(personas: "PersonaSet") -> dict[str, str]:
    """Persona id to portrait."""
    portraits: dict[str, str] = {}
    for persona in personas:
        if persona.id in portraits:
            raise ValueError(f"Persona ids must be unique; got {persona.id!r} twice.")
        try:
            f"{persona.id}{persona.portrait}".encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The portrait of persona {persona.id!r} must be valid Unicode; got a lone surrogate at character "
                f"{error.start - len(persona.id)}. Remove it."
            ) from error
        portraits[persona.id] = persona.portrait
    if not portraits:
        raise ValueError("A run must ask at least one persona; got none.")
    return portraits
