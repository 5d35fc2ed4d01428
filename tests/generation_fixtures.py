"""Small personas, questions and respondents for the tests of runs."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from fairpp_hf.generation import RunOptions, RunSummary, generate
from fairpp_hf.questions.rendering import render_prompt
from fairpp_hf.respondents import Reply, Request
from fairpp_hf.runs.journal import Journal, Unfinished, text_of
from fairpp_hf.runs.layout import JOURNAL
from fairpp_hf.schema import QUESTION_FEATURES


class FakePersona(NamedTuple):
    id: str
    portrait: str


class FakePersonas(tuple):
    """Stands in for a `PersonaSet` where only ids and portraits matter."""

    id = "fakes"


def personas(*ids: str, **changed: str) -> FakePersonas:
    return FakePersonas(FakePersona(name, changed.get(name, f"You are {name}.")) for name in ids or ("ann", "bob"))


def questions(count: int = 5) -> pa.Table:
    rows = []
    for number in range(count):
        row: dict[str, Any] = {name: f"{name} {number}" for name in QUESTION_FEATURES}
        rows.append({**row, "question_id": f"q{number}", "dimension": number % 5 + 1, "prompt": f"Prompt {number}?"})
    return pa.Table.from_pylist(rows, schema=QUESTION_FEATURES.arrow_schema)


def shown_questions(count: int = 5) -> pa.Table:
    """Questions whose prompts show the options, so that their order can be swapped."""
    table = questions(count)
    prompts = [
        render_prompt(f"Prompt {number}?", *(f"option_{letter} {number}" for letter in "abc"))
        for number in range(count)
    ]
    return table.set_column(table.column_names.index("prompt"), "prompt", pa.array(prompts))


def ok(answer: int, latency_s: float = 0.01) -> Reply:
    probabilities = [0.25] * 3
    probabilities[answer] = 0.5
    return Reply(answer, (*probabilities,), "ok", "ABC"[answer], {"total_tokens": 8}, latency_s)


def not_ok(status: str) -> Reply:
    return Reply(-1, None, status, f"raw {status}", None, 0.01)


def by_number(request: Request) -> Reply:
    """Question n gets option n % 3, and one more for every persona but Ann."""
    return ok((int(request.question_id[1:]) + (request.persona != "ann")) % 3)


class FakeRespondent:
    """Answers one request after the other by a function, and keeps what it was asked."""

    def __init__(self, reply: Callable[[Request], Reply] = by_number, model: str = "fake") -> None:
        self.reply = reply
        self.asked: list[Request] = []
        self.name = f"fake:{model} (simulated)"
        self.settings = {"kind": "fake", "model": model}

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            yield index, self.reply(request)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(request.persona, request.question_id) for request in self.asked]


def ask(run: Path, respondent: Any, who: Any = None, what: pa.Table | None = None, **options: Any) -> RunSummary:
    """`generate` without a progress bar; two personas are asked five questions by default."""
    asked = (personas() if who is None else who, questions() if what is None else what)
    return generate(run, respondent, *asked, RunOptions(progress=False, **options))


def damage(run: Path, change: str = "answer = (answer + 1) % 3", where: str = "question_id = 'q0'") -> None:
    """Change records behind the journal's back, so that they match their checksums no more."""
    with contextlib.closing(sqlite3.connect(run / JOURNAL)) as connection, connection:
        connection.execute(f"UPDATE replies SET {change} WHERE {where}")


@contextlib.contextmanager
def transactions_at_most(limit: int) -> Iterator[list[Journal]]:
    """Within the block, one more transaction of a journal is interrupted as by Ctrl-C; gives those that were begun."""
    begun: list[Journal] = []
    transaction = Journal.transaction

    def limited(journal: Journal) -> Any:
        begun.append(journal)
        if len(begun) > limit:
            raise KeyboardInterrupt
        return transaction(journal)

    with contextlib.suppress(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "transaction", limited)
        yield begun


def replies_in(journal: Journal) -> list[tuple[str, Reply]]:
    """(key, reply) of every record, those to earlier requests included."""
    replies = []
    for key, _, _, status, answer, *texts, latency_s, _, _, _, _, _ in itertools.chain(*journal.records()):
        probabilities, raw, usage, detail = texts
        read = [None if text is None else json.loads(text) for text in (probabilities, usage, detail)]
        shown = read[0] and tuple(read[0])
        replies.append((key, Reply(answer, shown, status, text_of(raw), read[1], latency_s, read[2])))
    return replies


def unfinished_batches(run: Path) -> Unfinished:
    if not (run / JOURNAL).is_file():
        return Unfinished(0, 0)
    with Journal(run, read_only=True) as journal:
        return journal.unfinished()
