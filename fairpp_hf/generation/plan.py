"""What a run asks: the requests of a persona set and a question table, checked, and the key of each."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from fairpp_hf.naming import check_name
from fairpp_hf.questions.option_order import check_swappable, shown_options, swapped_prompt
from fairpp_hf.respondents.base import SIMULATED, Request, Respondent
from fairpp_hf.runs.journal import AskedRequest
from fairpp_hf.runs.manifest import ASKED_COLUMNS

if TYPE_CHECKING:
    from fairpp_hf.personas import PersonaSet

logger = logging.getLogger(__name__)


def _digest(part: Any) -> bytes:
    return hashlib.sha256(json.dumps(part, sort_keys=True, separators=(",", ":")).encode()).digest()


def keys_digest(keys: Iterable[str]) -> str:
    """SHA-256 over the hexadecimal digits of all keys."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()


class RequestPlan(Sequence[Request]):
    """Every persona times every question times every order of its options times every sample, in this order.

    The requests of a (persona, question) thus stand together. A request is built when it is looked at.

    Args:
        personas: Each with `id` and `portrait`; an empty portrait means no system message.
        questions: A table with the columns `ASKED_COLUMNS`. Rows that repeat another are left out.
        samples: How often the same is asked, at least 1.
        swap: Whether each question is also asked with the options of its two poles in each other's place. Its prompt must
            show the options as the lines "A. ...", "B. ...", "C. ..." one after the other, once.

    Raises:
        ValueError: No persona or no question, a missing column or value, an id used for two different things, a text
            that is not valid Unicode, `samples` below 1, or a prompt whose options cannot be swapped.
    """

    def __init__(self, personas: "PersonaSet", questions: pa.Table, *, samples: int = 1, swap: bool = False) -> None:
        if samples < 1:
            raise ValueError(f"samples must be at least 1; got {samples}.")
        self.questions = _checked_questions(questions)
        self.portraits = _checked_portraits(personas)
        self.samples = samples
        self.swap = swap
        columns = [self.questions[name].to_pylist() for name in ASKED_COLUMNS]
        self._ids, self._prompts = columns[0], columns[1]
        self._options: list[tuple[str, str, str]] = list(zip(*columns[2:], strict=True))
        self._personas = list(self.portraits)
        self._orders = (False, True) if swap else (False,)
        if swap:
            check_swappable(self._ids, self._prompts, self._options)

    def __len__(self) -> int:
        return len(self._personas) * len(self._ids) * len(self._orders) * self.samples

    @overload
    def __getitem__(self, position: int) -> Request: ...

    @overload
    def __getitem__(self, position: slice) -> list[Request]: ...

    def __getitem__(self, position: int | slice) -> Request | list[Request]:
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        persona, row, swapped, sample = self._at(position)
        prompt, options = self._shown(row, swapped)
        messages = [*_system_messages(self.portraits[persona]), _user_message(prompt)]
        return Request(self._ids[row], persona, messages, options, sample, swapped)

    def _at(self, position: int) -> tuple[str, int, bool, int]:
        """(persona, row of the question, swapped, sample) of a request."""
        record, within = divmod(position, len(self._orders) * self.samples)
        persona_number, row = divmod(record, len(self._ids))
        order, sample = divmod(within, self.samples)
        return self._personas[persona_number], row, self._orders[order], sample

    def _shown(self, row: int, swapped: bool) -> tuple[str, tuple[str, str, str]]:
        """Prompt and options of a question in one of its orders."""
        prompt, options = self._prompts[row], self._options[row]
        if not swapped:
            return prompt, options
        return swapped_prompt(prompt, options), shown_options(options, swapped)

    def asked_at(self, position: int, key: str) -> AskedRequest:
        """What the journal keeps of the request at a position, with its key."""
        persona, row, swapped, sample = self._at(position)
        return AskedRequest(key, self._ids[row], persona, sample, swapped)

    def keys(self, settings: Mapping[str, Any]) -> list[str]:
        """The key of every request: SHA-256 over the digests of everything that decides its reply.

        These are the respondent's settings with the number of the sample, the ids, each message, and the options; a digest
        is SHA-256 over canonical JSON. What many requests share is thus hashed once. The ids are part of the key since the
        survey respondent is seeded by them. A swapped request has other messages and options, and so another key.

        Returns:
            64 hexadecimal digits each, in the order of the requests.
        """
        of_settings = [_digest([settings, sample]) for sample in range(self.samples)]
        of_questions = []
        for row, question_id in enumerate(self._ids):
            of_id = _digest(question_id)
            for swapped in self._orders:
                prompt, options = self._shown(row, swapped)
                of_questions.append((of_id, _digest(_user_message(prompt)), _digest(options)))
        keys = []
        for persona, portrait in self.portraits.items():
            of_persona, of_portrait = _digest(persona), b"".join(map(_digest, _system_messages(portrait)))
            for of_id, of_prompt, of_options in of_questions:
                for of_sample in of_settings:
                    digests = (of_sample, of_persona, of_id, of_portrait, of_prompt, of_options)
                    keys.append(hashlib.sha256(b"".join(digests)).hexdigest())
        return keys


def _system_messages(portrait: str) -> list[dict[str, str]]:
    """The portrait as a system message; none for an empty one, so that a model can be asked as it is."""
    return [{"role": "system", "content": portrait}] if portrait else []


def _user_message(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


def check_respondent(respondent: Respondent) -> None:
    """Check a respondent's name and settings.

    Raises:
        ValueError: The name does not end in `SIMULATED`, or the settings are not JSON.
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
    repeated = questions.select(ASKED_COLUMNS).to_pandas().duplicated().to_numpy()
    once = questions.filter(pa.array(~repeated))
    ids = once["question_id"].to_pandas()
    clashes = ids[ids.duplicated()].tolist()
    if clashes:
        shown = ", ".join(map(repr, clashes[:5]))
        raise ValueError(
            f"question_id must be unique; got {len(clashes)} rows that repeat an id with other content: {shown}"
            f"{', ...' if len(clashes) > 5 else ''}. Give them ids of their own."
        )
    if repeated.any():
        logger.warning("%d questions occur more than once and are asked once.", repeated.sum())
        return once
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
