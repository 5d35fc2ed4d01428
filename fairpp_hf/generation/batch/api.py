"""The calls of the OpenAI Batch API, each made until it succeeds or cannot.

A batch takes up to a day, in which servers are restarted and networks fail: what may be better the next time is tried again
without end, with growing, jittered pauses and a line in the log.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import httpx2

from fairpp_hf.respondents.base import RespondentStopped
from fairpp_hf.respondents.exchange import PATIENCE_S
from fairpp_hf.respondents.faults import final_error, message_of
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.respondents.pace import retry_after

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

RUN, INTENT = "fairpp_run", "fairpp_batch"
"""Names in a batch's metadata."""
TOKEN_LIMIT = "token_limit_exceeded"
_LIST = "list the batches"

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_SETTLING_S = 10.0
"""Between an answer that was lost and the look at the list of batches, where a batch may appear late."""
_TRANSFER_TIMEOUT_S = 600.0
"""A file has up to 200 MB, and the server answers when it has checked it."""
_BATCHES_A_PAGE = 100
_WHOLE_TRIES = 3


class TokenLimit(Exception):
    """The account has no room for a batch's tokens now."""


class Missing(Exception):
    """The server does not have what was asked for."""


class ServerBatch(NamedTuple):
    """What the server says of a batch."""

    batch_id: str
    status: str
    created_at: float
    metadata: Mapping[str, str]
    input_file_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    answered: int
    """How many of its requests the server counts as answered with success."""
    failed: int
    """How many it counts as failed."""
    errors: tuple[tuple[str | None, str], ...]
    """(code, message) of each error of the batch itself."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ("completed", "failed", "expired", "cancelled")

    @property
    def lacks_output(self) -> bool:
        """Whether it has ended, with replies that were paid for, and names no file that has them."""
        is_silent = self.status == "completed" and self.error_file_id is None
        return self.output_file_id is None and (self.answered > 0 or is_silent)


class BatchApi:
    """The batches and files of an account; `run_key` goes into the metadata of every batch."""

    def __init__(self, client: "openai.AsyncOpenAI", respondent: OpenAIRespondent, run_key: str) -> None:
        self._client = client
        self._respondent = respondent
        self._run_key = run_key

    async def of_this_run(self, since: float | None) -> dict[str, ServerBatch]:
        """The run's batches by intent, from the newest to those before `since`, in seconds since 1970; None for all."""
        found: dict[str, ServerBatch] = {}
        after: dict[str, Any] = {}

        async def ask() -> tuple[Any, list[ServerBatch]]:
            page = await self._client.batches.list(limit=_BATCHES_A_PAGE, **after)
            if not isinstance(getattr(page, "data", None), list):
                raise ValueError(f"not a list of batches: {str(page)[:200]!r}")
            # What others have on the account is none of ours to check.
            return page, [_checked(batch) for batch in page.data if self._is_ours(batch)]

        while True:
            page, ours = await self._repeat(_LIST, ask)
            for batch in ours:
                intent = batch.metadata[INTENT]
                if intent in found:
                    logger.warning(
                        "Batches %s and %s have the same requests: the server took one twice. The later is left alone.",
                        batch.batch_id,
                        found[intent].batch_id,
                    )
                found[intent] = batch
            last = page.data[-1] if page.data else None
            last_id, created_at = getattr(last, "id", None), getattr(last, "created_at", None)
            # Some servers do not say whether there is more; one that ignores `after` has shown all.
            if last_id is None or page.has_more is False or last_id == after.get("after"):
                return found
            if since is not None and isinstance(created_at, int | float) and created_at < since:
                return found
            after["after"] = last_id

    async def settle(self) -> None:
        """Wait until a batch that was submitted just now is in the list of batches."""
        await asyncio.sleep(_SETTLING_S)

    async def upload(self, path: Path) -> str:
        """Upload an input file, read from the disk on the way; returns its id."""

        async def send() -> str:
            with path.open("rb") as file:
                answer = await self._client.files.create(
                    file=(path.name, file), purpose="batch", timeout=_TRANSFER_TIMEOUT_S
                )
            if not isinstance(getattr(answer, "id", None), str):
                raise ValueError(f"not a file: {str(answer)[:200]!r}")
            return answer.id

        return await self._repeat("upload the batch's file", send)

    async def create(self, file_id: str, intent: str) -> str:
        """Submit a batch, once: where the answer is lost, the batch is looked for before it is submitted again.

        Raises:
            TokenLimit: The account has no room for it now.
            RespondentStopped: The server does not take it.
        """

        async def submit() -> str:
            answer = await self._client.batches.create(
                completion_window="24h",
                endpoint="/v1/chat/completions",
                input_file_id=file_id,
                metadata={RUN: self._run_key, INTENT: intent},
            )
            return _checked(answer).batch_id

        async def look() -> str | None:
            batch = (await self.of_this_run(None)).get(intent)
            return batch.batch_id if batch else None

        return await self._repeat("submit the batch", submit, look)

    async def retrieve(self, batch_id: str) -> ServerBatch:
        """How a batch stands; `Missing` where the server does not know it."""

        async def ask() -> ServerBatch:
            return _checked(await self._client.batches.retrieve(batch_id))

        return await self._repeat(f"ask for batch {batch_id}", ask, missing=True)

    async def download(self, file_id: str, path: Path) -> None:
        """Write a file of the server to the disk; `path` appears when it is there as a whole.

        A file whose last line is cut off is fetched again a few times, in case the cut was made on the way.

        Raises:
            Missing: The server does not have it.
        """
        part = path.with_name(f"{path.name}.part")

        async def fetch() -> None:
            content = self._client.files.with_streaming_response.content(file_id, timeout=_TRANSFER_TIMEOUT_S)
            async with content as response:
                with part.open("wb") as file:
                    async for chunk in response.iter_bytes(1 << 16):
                        file.write(chunk)

        for _ in range(_WHOLE_TRIES):
            await self._repeat(f"download {file_id}", fetch, missing=True)
            if _ends_with_a_line(part):
                break
            logger.warning("The file %s ends within a line: fetching it again.", file_id)
        part.replace(path)

    def _is_ours(self, batch: Any) -> bool:
        metadata = getattr(batch, "metadata", None)
        return isinstance(metadata, Mapping) and metadata.get(RUN) == self._run_key and bool(metadata.get(INTENT))

    async def _repeat(
        self,
        what: str,
        call: Callable[[], Awaitable[Result]],
        look: Callable[[], Awaitable[Result | None]] | None = None,
        *,
        missing: bool = False,
    ) -> Result:
        """Make a call until it succeeds.

        Args:
            what: For the log.
            call: The call.
            look: Finds out, before another try, whether the call has succeeded without saying so.
            missing: Whether 404 is `Missing`.
        """
        # What the client is built on; it lets some of their errors through.
        import aiohttp
        import openai

        tries = 0
        while True:
            pause_s = 0.0
            try:
                return await call()
            except openai.APIStatusError as error:
                message = message_of(error, self._respondent.secrets)
                if look and (TOKEN_LIMIT in (error.code, error.type) or "enqueued token limit" in message.lower()):
                    raise TokenLimit(message) from error
                if error.status_code == 404 and missing:
                    raise Missing(message) from error
                if error.status_code == 404 and what == _LIST:
                    raise RespondentStopped(
                        f"The server must have the Batch API; got 404 at {self._respondent.address} when trying to "
                        f"{what}: {message}. Leave out batch."
                    ) from error
                stop = None if error.status_code == 404 else final_error(error, message, self._respondent.model)
                if stop is not None:
                    raise stop from error
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    raise RespondentStopped(
                        f"The server must take the batch; got {error.status_code} when trying to {what}: {message}."
                    ) from error
                pause_s = min(PATIENCE_S, retry_after(error.response.headers, time.time()) or 0.0)
            except (openai.APIError, httpx2.HTTPError, aiohttp.ClientError, ValueError) as error:
                # Dropped connections and time-outs; a body that is no JSON, or JSON of something else.
                message = self._respondent.secrets.hide(f"{error} {error.__cause__ or ''}".strip())
            tries += 1
            if tries & (tries - 1) == 0:  # the 1st, 2nd, 4th, 8th time
                logger.warning("Could not %s (%s): trying again, so far %d times.", what, message, tries)
            back_off = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**tries) * random.uniform(0.5, 1.0)
            await asyncio.sleep(max(pause_s, back_off, _SETTLING_S if look else 0.0))
            if look is not None and (result := await look()) is not None:
                return result


def _checked(batch: Any) -> ServerBatch:
    """What we use of a batch, which the client does not check; ValueError where it is none."""
    try:
        if not isinstance(batch.id, str) or not isinstance(batch.status, str):
            raise TypeError
        counts = batch.request_counts
        return ServerBatch(
            batch_id=batch.id,
            status=batch.status,
            created_at=float(batch.created_at),
            metadata=dict(batch.metadata or {}),
            input_file_id=batch.input_file_id,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            answered=(counts and counts.completed) or 0,
            failed=(counts and counts.failed) or 0,
            errors=tuple(
                (error.code, f"{error.message or error.code}{f' (line {error.line})' if error.line else ''}")
                for error in (batch.errors.data if batch.errors else None) or ()
            ),
        )
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"not a batch: {str(batch)[:200]!r}") from None


def _ends_with_a_line(path: Path) -> bool:
    """Whether a file is empty or its last byte ends a line; the API ends its last line, too."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return True
        file.seek(-1, 2)
        return file.read(1) in (b"\n", b"}")
