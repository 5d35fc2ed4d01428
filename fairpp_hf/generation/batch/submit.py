"""Splits the requests that wait into batches, as limits and budget allow, and submits them."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fairpp_hf.generation.batch.api import TokenLimit
from fairpp_hf.generation.batch.files import LINES_AT_ONCE, request_line
from fairpp_hf.generation.batch.ledger import Batch, BatchJob, OpenRequest
from fairpp_hf.respondents.base import Request, RespondentStopped

logger = logging.getLogger(__name__)

_PROBES = 3
_MOST_HALVINGS = 2
"""Of the room for tokens, where the account's has been used up; after them it is waited for."""
_LONGEST_PAUSE_S = 600.0
_FULL_FOR_S = 26 * 3600.0
"""How long an account may have no room: its other batches end within a day."""
_NAMED_LIMIT = re.compile(r"limit: ([\d,]+)", re.IGNORECASE)


class _Draft(NamedTuple):
    """The input file of a batch, as it was written."""

    keys: list[str]
    tokens: int
    cut_by_tokens: bool
    """Whether it ends where the room for tokens does."""


class Submitter:
    """Submits batches for a call of `ask_in_batches`."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        self._limit = job.limits.enqueued_tokens
        self._enqueued = self._limit
        """The room for tokens; less than the limit while others on the account seem to use it."""
        self._refused = 0
        """How often in a row the account had no room while none of this run's batches was in progress."""
        self._full_since: float | None = None
        self._probed = False
        self.probing = False
        """Whether an ordinary request is in flight."""
        self.held = False
        """Whether the next batch has to wait until one in progress is collected."""
        self.broke = False
        """Whether the budget has no room for another request; what is collected may turn out cheaper than thought."""

    async def submit(self) -> None:
        """Submit as many batches as the limits and the budget have room for; ValueError where one request has not."""
        ledger = self._job.ledger
        while not self.held and not self.broke and (free := ledger.free()):
            if not self._probed:
                await self._probe(free[:_PROBES])
                continue
            most = self._job.room_for(min(len(free), self._job.limits.requests))
            if most < 1:
                self.broke = True
                return
            intent = uuid.uuid4().hex
            path = self._job.input_file(intent)
            others = ledger.outstanding()
            room = self._enqueued - sum(batch.tokens for batch in others)
            draft = await self._write(path, free[:most], room, bool(others))
            # A small batch in the gap that larger ones leave would keep its requests from going together.
            if others and draft.cut_by_tokens and draft.tokens < self._enqueued / 2:
                self.held = True
                path.unlink()
                return
            batch = Batch(intent, time.time(), len(draft.keys), draft.tokens)
            ledger.add(batch, draft.keys)
            await self._send(batch)

    async def _send(self, batch: Batch) -> None:
        """Upload and submit a batch that the ledger has."""
        job = self._job
        path = job.input_file(batch.intent)
        try:
            file_id = await job.api.upload(path)
            job.ledger.uploaded(batch.intent, file_id)
            batch_id = await job.api.create(file_id, batch.intent)
        except (TokenLimit, RespondentStopped) as error:
            # If the server has it all the same, the list of batches shows it to the next call.
            job.ledger.remove(batch.intent)
            path.unlink(missing_ok=True)
            if not isinstance(error, TokenLimit):
                raise
            await self.meet_token_limit(batch, str(error))
            return
        job.ledger.submitted(batch.intent, batch_id)
        job.tell(f"Submitted batch {batch_id}: {batch.requests:,} requests, about {batch.tokens:,} tokens.")

    async def meet_token_limit(self, batch: Batch, message: str) -> None:
        """The account has no room for a batch: wait for those in progress, or make smaller ones, or wait for others'."""
        if self._job.ledger.outstanding():
            self.held = True
            return
        now = time.monotonic()
        self._full_since = self._full_since or now
        if now - self._full_since > _FULL_FOR_S:
            raise RespondentStopped(
                f"The account must have room for a batch's tokens; got none for {_FULL_FOR_S / 3600:.0f} hours: {message} "
                "Wait for the account's other batches to end, allow fewer enqueued_tokens, or leave out batch."
            )
        pause_s = self._job.limits.poll_s
        found = _NAMED_LIMIT.search(message)
        named = int(found[1].replace(",", "")) if found else 0
        if 0 < named < batch.tokens and named < self._limit:
            self._limit = self._enqueued = named
            logger.warning("%s Batches have up to %d tokens from now on.", message, named)
        elif self._refused < _MOST_HALVINGS and batch.requests > 1:
            self._refused += 1
            self._enqueued = max(1, batch.tokens // 2)
            logger.warning("%s Batches have up to %d tokens until there is room.", message, self._enqueued)
        else:
            # Smaller ones would wait as long: others on the account use what there is.
            self._refused += 1
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2.0 ** min(self._refused, 20))
            logger.warning(
                "%s Trying again in %.0f s; if nothing else is in progress, allow fewer enqueued_tokens.",
                message,
                pause_s,
            )
        await asyncio.sleep(pause_s)

    def meet_room(self) -> None:
        """The account had room for a batch."""
        self._refused = 0
        self._full_since = None
        if self._enqueued < self._limit:
            self._enqueued = self._limit
            self.held = False

    async def _probe(self, requests: Sequence[OpenRequest]) -> None:
        """Ask a request the ordinary way, so that what the server does not take at all shows at once."""
        job = self._job
        error = None
        for request in requests:
            if job.room_for(1) < 1:
                self.broke = True
                return
            self.probing = True
            try:
                async for _, reply in job.respondent.answer([job.requests[request.number]]):
                    job.save([(request.number, reply)])
                    if reply.status != "failed":
                        job.ledger.came_back("", (), [request.key], ())
                        self._probed = True
                    error = (reply.detail or {}).get("error")
            finally:
                self.probing = False
            if self._probed:
                return
        raise RespondentStopped(
            f"The server must answer an ordinary request before batches are submitted; got: {error}"
        )

    async def _write(self, path: Path, requests: Sequence[OpenRequest], room: int, others: bool) -> _Draft:
        """Write the input file of the next batch, as far as the bytes and the `room` for tokens go.

        What does not fit can wait for `others` in progress.
        """
        job = self._job
        keys: list[str] = []
        tokens = size = 0
        with path.open("wb") as file:
            for number, key, _ in requests:
                if len(keys) % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                request = job.requests[number]
                line = request_line(key, job.respondent.request_body(request))
                of_request = job.tokens_of(request)
                self._check_alone(request, len(line), of_request)
                if size + len(line) > int(job.limits.megabytes * 1e6):
                    return _Draft(keys, tokens, cut_by_tokens=False)
                # Where the server's limit turned out lower than ours, it decides whether one request is too much.
                if tokens + of_request > room and (keys or others):
                    return _Draft(keys, tokens, cut_by_tokens=True)
                file.write(line)
                keys.append(key)
                tokens += of_request
                size += len(line)
        return _Draft(keys, tokens, cut_by_tokens=False)

    def _check_alone(self, request: Request, size: int, tokens: int) -> None:
        limits = self._job.limits
        for what, value, limit in (
            ("megabytes", size / 1e6, limits.megabytes),
            ("enqueued_tokens", tokens, limits.enqueued_tokens),
        ):
            if value > limit:
                raise ValueError(
                    f"{what} must have room for a single request; got {limit:,}, where the one of persona "
                    f"{request.persona!r} and question {request.question_id!r} takes {value:,}. Raise it."
                )
