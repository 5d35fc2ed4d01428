"""Collects what batches bring: each reply is in the journal before its batch counts as collected."""

import asyncio
import logging
import re
import time
from pathlib import Path
from typing import NamedTuple

from fairpp_hf.generation.batch.api import TOKEN_LIMIT, Missing, ServerBatch
from fairpp_hf.generation.batch.files import LINES_AT_ONCE, MOST_ROUNDS, Answer, pages_of, read_or_none, reply_to
from fairpp_hf.generation.batch.ledger import Batch
from fairpp_hf.generation.batch.work import BatchWork
from fairpp_hf.respondents.base import Reply, RespondentStopped
from fairpp_hf.respondents.exchange import KEEP_GOING
from fairpp_hf.schema import NO_ANSWER

logger = logging.getLogger(__name__)

_MOST_FRUITLESS = 3
_GONE_AFTER_DAYS = 30
_DAY_S = 86_400.0
_KEPT = ".kept.jsonl"


class Ended(NamedTuple):
    """A batch that has been collected."""

    batch: Batch
    token_limit: str | None
    """The server's message where it had no room for the batch's tokens."""


class Collector:
    """Collects batches for a call of `ask_in_batches`."""

    def __init__(self, work: BatchWork) -> None:
        self._work = work
        self._fruitless = 0
        self._shown: dict[str, tuple[str, int]] = {}

    async def collect_ended(self) -> list[Ended]:
        """Look at every batch in progress, and collect those that have ended.

        Raises:
            RespondentStopped: the server does not know a batch, did not accept one, or several brought nothing.
        """
        ended = []
        for batch in self._work.ledger.outstanding():
            assert batch.batch_id is not None
            try:
                found = await self._work.api.retrieve(batch.batch_id)
            except Missing as error:
                self._give_up(batch, error)
                continue
            if found.ended:
                ended.append(await self._collect(batch, found))
            elif self._shown.get(batch.intent) != (found.status, found.done):
                self._shown[batch.intent] = found.status, found.done
                self._work.tell(f"Batch {found.batch_id}: {found.status}, {found.done:,} of {batch.requests:,} done.")
        return ended

    async def read_kept(self) -> None:
        """Take the replies that came when the run did not ask for them, if it does now."""
        for path in sorted(self._work.folder.glob(f"*{_KEPT}")):
            _, kept = await self._read(path, "", path.name.removesuffix(_KEPT))
            if not kept:
                path.unlink()

    def _give_up(self, batch: Batch, error: Missing) -> None:
        """A batch that the server does not know is free to be asked again when it is so old that servers forget it.

        Until then it is likelier that this is not the account that has it.
        """
        days = (time.time() - batch.created_at) / _DAY_S
        if days < _GONE_AFTER_DAYS:
            raise RespondentStopped(
                f"The server must know a batch that was submitted to it; got 404 for {batch.batch_id} with "
                f"{batch.requests:,} requests at {self._work.respondent.address}: {error} Use the key and the --base-url "
                f"that it was submitted with, or leave out --batch to buy its requests again. {KEEP_GOING}"
            ) from error
        logger.warning("Batch %s is gone after %.0f days: its requests are asked again.", batch.batch_id, days)
        self._work.ledger.forget(batch.intent)

    async def _collect(self, batch: Batch, found: ServerBatch) -> Ended:
        """Save what a batch brought, and free what it left."""
        work = self._work
        brought = 0
        paths = [work.input_file(batch.intent)]
        for kind, file_id in (("output", found.output_file_id), ("error", found.error_file_id)):
            path = work.folder / f"{batch.intent}.{kind}.jsonl"
            if file_id is None:
                continue
            if not path.exists():
                try:
                    await work.api.download(file_id, path)
                except Missing as error:
                    logger.warning("The %s file of batch %s is gone: %s", kind, found.batch_id, error)
                    continue
            paths.append(path)
            brought += (await self._read(path, batch.intent, found.batch_id))[0]
        if found.status == "completed":
            await self._miss(batch, found.batch_id)
        work.ledger.collected(batch.intent)
        for path in paths:
            path.unlink(missing_ok=True)
        work.tell(f"Batch {found.batch_id}: {found.status}, {brought:,} of {batch.requests:,} answered and saved.")
        token_limit = next((message for code, message in found.errors if code == TOKEN_LIMIT), None)
        if found.status == "failed" and token_limit is None:
            raise RespondentStopped(
                f"The server must accept the batch; got for {found.batch_id}: "
                f"{'; '.join(message for _, message in found.errors[:3]) or 'no reason'}. {KEEP_GOING}"
            )
        self._fruitless = 0 if brought or token_limit else self._fruitless + 1
        if self._fruitless == _MOST_FRUITLESS:
            raise RespondentStopped(
                f"A batch must bring replies; got {_MOST_FRUITLESS} in a row that brought none, the last "
                f"{found.batch_id}, which is {found.status}. See the server's list of batches for the reason. {KEEP_GOING}"
            )
        return Ended(batch, token_limit)

    async def _read(self, path: Path, intent: str, batch_id: str) -> tuple[int, int]:
        """Save the replies of an output or error file.

        Paid replies that no request waits for are kept in a file of their own.

        Returns:
            How many requests it answers, well or badly, and how many of them were kept apart.
        """
        answered = unread = twice = kept = 0
        part = self._work.folder / "kept.part"
        with part.open("wb") as keep:
            async for lines in pages_of(path):
                answers: dict[str, tuple[Answer, bytes]] = {}
                for line in lines:
                    answer = read_or_none(line)
                    if answer is None:
                        unread += 1
                    elif answer.custom_id in answers:
                        twice += 1
                    elif not answer.not_asked:
                        answers[answer.custom_id] = answer, line
                answered += len(answers)
                unclaimed = self._save({key: answer for key, (answer, _) in answers.items()}, intent, batch_id)
                keep.writelines(answers[key][1] for key in unclaimed)
                kept += len(unclaimed)
        if kept:
            part.replace(self._work.folder / (re.sub(r"[^\w-]", "_", batch_id) + _KEPT))
        else:
            part.unlink()
        for number, what in (
            (unread, "lines that cannot be read"),
            (twice, "lines that repeat another"),
            (kept, "replies that the run does not ask for now, which are kept beside its journal"),
        ):
            if number:
                logger.warning("Batch %s brought %d %s.", batch_id, number, what)
        return answered, kept

    def _save(self, answers: dict[str, Answer], intent: str, batch_id: str) -> list[str]:
        """Save some replies; returns the keys of those that were paid for and that no request waits for."""
        work = self._work
        waiting = work.ledger.find(answers)
        in_journal = work.ledger.in_journal(answers)
        replies: list[tuple[int, Reply]] = []
        done: list[int] = []
        again: list[int] = []
        unclaimed: list[str] = []
        for key, answer in answers.items():
            request = waiting.get(key)
            status, of_batch = in_journal.get(key, ("failed", None))
            if request is None:
                if status == "failed" and of_batch != batch_id and answer.status == 200:
                    unclaimed.append(key)
                continue
            if of_batch == batch_id:
                continue  # saved already, before a kill, and is to be asked again
            asked = work.requests[request.number]
            reply, another = reply_to(answer, asked, work.respondent, batch_id, request.rounds)
            (again if another else done).append(request.number)
            replies.append((request.number, reply))
        if replies:
            work.save(replies)
        work.ledger.came_back(intent, answers, done, again)
        return unclaimed

    async def _miss(self, batch: Batch, batch_id: str) -> None:
        """A completed batch should have answered every request: where it has not, the request has failed."""
        missed = self._work.ledger.waiting_in(batch.intent)
        if missed:
            logger.warning("Batch %s is completed without an answer to %d requests.", batch_id, len(missed))
        for start in range(0, len(missed), LINES_AT_ONCE):
            page = missed[start : start + LINES_AT_ONCE]
            detail = {"error": f"no answer that can be read in batch {batch_id}", "batch": batch_id}
            reply = Reply(NO_ANSWER, None, "failed", None, None, 0.0, detail)
            self._work.save([(request.number, reply) for request in page])
            done = {request.number for request in page if request.rounds + 1 >= MOST_ROUNDS}
            again = [request.number for request in page if request.number not in done]
            self._work.ledger.came_back(batch.intent, [request.key for request in page], done, again)
            await asyncio.sleep(0)
