"""A small run for tests: a respondent whose replies are known in advance, written by the real `generate`."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.base import Reply, Request


def answer_of(question_id: str, persona: str, version: int = 0) -> int:
    """The answer that the respondent gives: 0..2, or -1 for an invalid reply, spread evenly enough."""
    return (sum(question_id.encode()) + 7 * len(persona) + version) % 4 - 1


class KnownRespondent:
    """Gives `answer_of`; with probabilities for A only, so that both kinds of rows occur."""

    name = "known (simulated)"

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self.settings: dict[str, Any] = {"kind": "known", "version": version}

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        for number, request in enumerate(requests):
            answer = answer_of(request.question_id, request.persona, self.version)
            probabilities = (0.5, 0.25, 0.25) if answer == 0 else None
            status = "invalid" if answer < 0 else "ok"
            yield number, Reply(answer, probabilities, status, "text", None, 0.0)


def some_questions(train: int = 30, test: int = 10) -> pa.Table:
    """Questions spread over both splits."""
    splits = {"train": train, "test": test}
    tables = [load_questions(split) for split in splits]
    return pa.concat_tables(
        table.take(list(range(0, len(table), len(table) // count))[:count])
        for table, count in zip(tables, splits.values(), strict=True)
        if count
    )


def make_run(path: Path, *, version: int = 0, train: int = 30, test: int = 10) -> Path:
    """A run of all seven personas over some questions; called again with another version, its answers change."""
    generate(path, KnownRespondent(version), load_personas(), some_questions(train, test), RunOptions(progress=False))
    return path
