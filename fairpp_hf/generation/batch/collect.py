"""Collects what batches bring: each reply is in the journal before its batch counts as collected."""

import asyncio
import itertools
import json
import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from fairpp_hf.generation.batch.api import TOKEN_LIMIT, Missing, ServerBatch
from fairpp_hf.generation.batch.files import (
    LINES_AT_ONCE,
    MOST_ROUNDS,
    Answer,
    final_error,
    pages_of,
    read_answer,
    reply_to,
)
from fairpp_hf.generation.batch.ledger import Batch, BatchJob
from fairpp_hf.respondents.base import Reply, RespondentStopped
from fairpp_hf.respondents.completion import usage_of
from fairpp_hf.schema import NO_ANSWER

logger = logging.getLogger(__name__)

_MOST_FRUITLESS = 3
_MOST_LOOKS = 20
"""At a batch that has ended and lacks a file of its replies; 10 minutes at the usual pace."""


class Ended(NamedTuple):
    """A batch that has been collected."""

    batch: Batch
    token_limit: str | None
    """The server's message where it had no room for the batch's tokens."""
    stop: RespondentStopped | None
    """Why nothing more is to be submitted."""


class Collector:
    """Collects batches for a call of `ask_in_batches`."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        self._fruitless = 0
        self._shown: dict[str, tuple[str, int]] = {}
        self._looks: Counter[str] = Counter()
        self._lost: dict[str, RespondentStopped] = {}
        self.accepted = False
        """Whether the account had room for one of the batches that were looked at last."""

    @property
    def blocked(self) -> bool:
        """Whether a batch cannot be collected: the run stops when all others are, and submits nothing more."""
        return bool(self._lost)

    async def collect_ended(self) -> list[Ended]:
        """Look at every batch in progress, and collect those that have ended.

        Raises:
            RespondentStopped: One of them is a reason to stop: when all that have ended are collected. The server does not
                know a batch or lacks its replies: when none is in progress any more.
        """
        ended = []
        goes_on = False
        was_blocked = self.blocked
        self._lost.clear()
        self.accepted = False
        for batch in self._job.ledger.outstanding():
            assert batch.batch_id is not None
            try:
                found = await self._job.api.retrieve(batch.batch_id)
            except Missing as error:
                self._lost[batch.intent] = RespondentStopped(
                    f"The server must know a batch that was submitted to it; got 404 for {batch.batch_id} with "
                    f"{batch.requests:,} requests at {self._job.respondent.address}: {error} Use the key and the base_url "
                    f"that it was submitted with, or give up the run's batches to buy its requests again."
                )
                continue
            self.accepted = self.accepted or found.status not in ("validating", "failed")
            if found.ended:
                collected = await self._collect(batch, found)
                ended += [collected] if collected else []
                goes_on = goes_on or (collected is None and batch.intent not in self._lost)
                continue
            goes_on = True
            done = found.answered + found.failed
            if self._shown.get(batch.intent) != (found.status, done):
                self._shown[batch.intent] = found.status, done
                self._job.tell(f"Batch {found.batch_id}: {found.status}, {done:,} of {batch.requests:,} done.")
        for one in ended:
            if one.stop is not None:
                raise one.stop
        if self._lost:
            stop = next(iter(self._lost.values()))
            if not goes_on:
                raise stop
            if not was_blocked:
                logger.warning(
                    "Nothing more is submitted, and the run stops when its other batches have ended: %s", stop
                )
        return ended

    def claim(self) -> None:
        """Take the paid replies that came when the run did not ask for them, where it does now."""
        self._job.ledger.drop_claimed()
        for batch_id, rows in itertools.groupby(self._job.ledger.unclaimed(), key=lambda row: row[1]):
            answers = {key: (answer, line) for key, _, line in rows if (answer := read_answer(line))}
            self._save(answers, "", batch_id)
        self._job.ledger.drop_claimed()

    async def _collect(self, batch: Batch, found: ServerBatch) -> Ended | None:
        """Save what a batch brought, and free what it left; None where the server does not have its files yet."""
        job = self._job
        files, missing = await self._fetch(batch, found)
        if missing:
            self._looks[batch.intent] += 1
            if self._looks[batch.intent] == 1:
                logger.warning("Batch %s is %s, but the server has %s: waiting.", found.batch_id, found.status, missing)
            if self._looks[batch.intent] < _MOST_LOOKS:
                return None
        brought, final = 0, None
        for path in files.values():
            answered, stop = await self._read(path, batch.intent, found.batch_id)
            brought += answered
            final = final or stop
        if missing and "output" not in files and (found.answered or found.lacks_output):
            self._lost[batch.intent] = RespondentStopped(
                f"The server must have the replies of a batch that has ended; got {missing} of {found.batch_id}, with "
                f"{found.answered:,} of {batch.requests:,} requests answered. They are bought already: go on later, or give "
                f"up the run's batches to buy them again."
            )
            return None
        if found.status == "completed":
            await self._miss(batch, found.batch_id)
        job.ledger.collected(batch.intent)
        for path in (job.input_file(batch.intent), *files.values()):
            path.unlink(missing_ok=True)
        job.tell(f"Batch {found.batch_id}: {found.status}, {brought:,} of {batch.requests:,} answered and saved.")
        token_limit = next((message for code, message in found.errors if code == TOKEN_LIMIT), None)
        self._fruitless = 0 if brought or token_limit else self._fruitless + 1
        return Ended(batch, token_limit, final or self._reason_to_stop(batch, found, brought, token_limit))

    async def _fetch(self, batch: Batch, found: ServerBatch) -> tuple[dict[str, Path], str]:
        """Download a batch's files by kind, `output` or `error`; also, in words, the file that the server lacks."""
        files: dict[str, Path] = {}
        missing = "no output file" if found.lacks_output else ""
        for kind, file_id in (("output", found.output_file_id), ("error", found.error_file_id)):
            path = self._job.folder / f"{batch.intent}.{kind}.jsonl"
            if file_id is None:
                continue
            if not path.exists():
                try:
                    await self._job.api.download(file_id, path)
                except Missing as error:
                    missing = missing or f"no {kind} file ({error})"
                    continue
                if kind == "output" and found.answered and not path.stat().st_size:
                    path.unlink()
                    missing = "an empty output file"
                    continue
            files[kind] = path
        return files, missing

    def _reason_to_stop(
        self, batch: Batch, found: ServerBatch, brought: int, token_limit: str | None
    ) -> RespondentStopped | None:
        """Why nothing more is to be submitted after a batch, or None."""
        if found.status == "failed" and token_limit is None:
            return RespondentStopped(
                f"The server must accept the batch; got for {found.batch_id}: "
                f"{'; '.join(message for _, message in found.errors[:3]) or 'no reason'}."
            )
        if found.status == "cancelled":
            return RespondentStopped(
                f"A batch must be left to end; got {found.batch_id}, which was cancelled with {brought:,} of "
                f"{batch.requests:,} requests answered. Nothing was submitted in its place."
            )
        if self._fruitless >= _MOST_FRUITLESS:
            return RespondentStopped(
                f"A batch must bring replies; got {_MOST_FRUITLESS} in a row that brought none, the last "
                f"{found.batch_id}, which is {found.status}. See the server's list of batches for the reason."
            )
        return None

    async def _read(self, path: Path, intent: str, batch_id: str) -> tuple[int, RespondentStopped | None]:
        """Save the replies of an output or error file; how many there are, and the error that no other would escape."""
        answered = unread = twice = unclaimed = 0
        final: RespondentStopped | None = None
        async for lines in pages_of(path):
            answers: dict[str, tuple[Answer, bytes]] = {}
            for line in map(self._job.respondent.secrets.hide_in_bytes, lines):
                answer = read_answer(line)
                if answer is None:
                    unread += 1
                elif answer.custom_id in answers:
                    twice += 1
                elif not answer.not_asked:
                    answers[answer.custom_id] = answer, line
                    final = final or final_error(answer, self._job.respondent)
            answered += len(answers)
            unclaimed += self._save(answers, intent, batch_id)
        for number, what in (
            (unread, "lines that cannot be read"),
            (twice, "lines that repeat another"),
            (unclaimed, "replies that the run does not ask for now, which its journal keeps"),
        ):
            if number:
                logger.warning("Batch %s brought %d %s.", batch_id, number, what)
        return answered, final

    def _save(self, answers: dict[str, tuple[Answer, bytes]], intent: str, batch_id: str) -> int:
        """Save some replies; returns how many were paid for and are kept though no request waits for them."""
        job = self._job
        waiting = {request.key: request for request in job.ledger.find(answers)}
        in_journal = job.ledger.in_journal(answers)
        replies: list[tuple[int, Reply]] = []
        done: list[str] = []
        again: list[str] = []
        unclaimed: list[tuple[str, bytes, str | None]] = []
        for key, (answer, line) in answers.items():
            request = waiting.get(key)
            status, of_batch = in_journal.get(key, ("failed", None))
            if request is None:
                if status == "failed" and of_batch != batch_id and answer.status == 200:
                    usage = usage_of(answer.body)
                    unclaimed.append((key, line, None if usage is None else json.dumps(usage)))
                continue
            if of_batch == batch_id:
                continue  # saved already, before a kill, and is to be asked again
            asked = job.requests[request.number]
            reply, another = reply_to(answer, asked, job.respondent, batch_id, request.rounds)
            (again if another else done).append(key)
            replies.append((request.number, reply))
        if replies:
            job.save(replies)
        if unclaimed:
            job.ledger.keep_unclaimed(batch_id, unclaimed)
        job.ledger.came_back(intent, answers, done, again)
        return len(unclaimed)

    async def _miss(self, batch: Batch, batch_id: str) -> None:
        """A completed batch should have answered every request: where it has not, the request has failed."""
        missed = self._job.ledger.open_in(batch.intent)
        if missed:
            logger.warning("Batch %s is completed without an answer to %d requests.", batch_id, len(missed))
        for start in range(0, len(missed), LINES_AT_ONCE):
            page = missed[start : start + LINES_AT_ONCE]
            detail = {"error": f"no answer that can be read in batch {batch_id}", "batch": batch_id}
            reply = Reply(NO_ANSWER, None, "failed", None, None, 0.0, detail)
            self._job.save([(request.number, reply) for request in page])
            done = {request.key for request in page if request.rounds + 1 >= MOST_ROUNDS}
            again = [request.key for request in page if request.key not in done]
            self._job.ledger.came_back(batch.intent, [request.key for request in page], done, again)
            await asyncio.sleep(0)
