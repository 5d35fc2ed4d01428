"""Small personas, questions and respondents for the tests of runs."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from fairpp_hf.questions.rendering import render_prompt
from fairpp_hf.respondents import Reply, Request
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


FIRST_TABLES = """
CREATE TABLE replies (
    key TEXT PRIMARY KEY, question_id TEXT NOT NULL, persona TEXT NOT NULL, status TEXT NOT NULL, answer INTEGER NOT NULL,
    p_a REAL, p_b REAL, p_c REAL, raw, usage TEXT, detail TEXT, latency_s REAL NOT NULL, created_at REAL NOT NULL,
    attempts INTEGER NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE requests (
    position INTEGER PRIMARY KEY, key TEXT NOT NULL, question_id TEXT NOT NULL, persona TEXT NOT NULL
);
CREATE TABLE set_aside AS SELECT * FROM replies WHERE false;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def as_first_version(run: Path) -> None:
    """Rewrite a run as the version without samples, orders, shards and costs would have written it."""
    path = run / "journal.sqlite"
    path.rename(run / "now.sqlite")
    with sqlite3.connect(path) as connection:
        connection.executescript(FIRST_TABLES)
        connection.execute("ATTACH ? AS now", (str(run / "now.sqlite"),))
        for table in ("replies", "requests", "set_aside", "meta"):
            names = ", ".join(name for _, name, *_ in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM now.{table}")
    connection.close()
    (run / "now.sqlite").unlink()
    manifest = run / "manifest.json"
    if manifest.exists():
        added = ("samples", "swap", "shard", "run_key")
        kept = {name: value for name, value in json.loads(manifest.read_text("utf-8")).items() if name not in added}
        manifest.write_text(json.dumps(kept), "utf-8")
