"""Asks a run's requests through the OpenAI Batch API: half the price, an answer within a day, and nothing bought twice.

What is to be submitted is in the ledger before anything is sent, each batch carries the run's key and its own intent in its
metadata, and a batch counts as collected only when the journal has its replies. A process can therefore be killed at any
point, and its successor finds what was submitted, submits what was not, and collects what has come.
"""

import asyncio
import logging
import random
import re
import sys
from collections.abc import Callable, Sequence

from tqdm.auto import tqdm

from fairpp_hf.generation.batch.api import BatchApi, Missing, ServerBatch
from fairpp_hf.generation.batch.collect import Collector
from fairpp_hf.generation.batch.files import digest_of, pages_of, read_or_none
from fairpp_hf.generation.batch.ledger import Batch, Ledger
from fairpp_hf.generation.batch.submit import Submitter
from fairpp_hf.generation.batch.work import BatchLimits, BatchWork
from fairpp_hf.generation.journal import AskedRequest, Journal
from fairpp_hf.generation.run_folder import BATCHES
from fairpp_hf.respondents.base import Reply, Request
from fairpp_hf.respondents.openai import OpenAIRespondent

logger = logging.getLogger(__name__)

_CHECK_S = 0.25
_DAY_S = 86_400.0
_INTENT = re.compile("[0-9a-f]{32}")
_OUR_FILE = re.compile(r"([0-9a-f]{32})(\.output|\.error)?\.jsonl(\.part)?")


def _tell(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


async def ask_in_batches(
    journal: Journal,
    respondent: OpenAIRespondent,
    requests: Sequence[Request],
    asked: Sequence[AskedRequest],
    save: Callable[[Sequence[tuple[int, Reply]]], None],
    *,
    run_key: str,
    limits: BatchLimits,
    tokens_of: Callable[[Request], int],
    stopped: Callable[[], bool],
    affordable: Callable[[Sequence[Request]], int] = len,
    tell: Callable[[str], None] = _tell,
) -> None:
    """Ask requests through the Batch API; return when all have a reply, the budget has no room, or the user stops.

    The first request goes the ordinary way, at full price: a wrong key, model or parameter shows at once and not in a day,
    and so does how the server is to be asked (`respondents.ladder`), unless an earlier call of the run has settled that.
    All batches of the call are asked so. In them nothing is stepped down, and no reply gets more room.

    The rest is split into batches. What a batch answers is kept, however it ended; what it leaves goes into another one.
    A request that fails for a passing reason, or whose reply is worth another try, is asked in up to 3 batches.

    A reply that came through a batch has the batch's id in its detail, as `batch`, and a latency of 0, since the server
    does not say how long it took. A paid reply that no request of this call waits for, since the run has changed, stays as
    a file in `batches/` until the run asks for it again; its tokens count at once, at an unknown price.

    Args:
        journal: open for writing; its file keeps the ledger.
        respondent: how requests are written and replies are read.
        requests: those without a final reply.
        asked: the same, as the journal names them.
        save: writes (index into `requests`, reply) durably. An index comes again after a reply that was `failed`.
        run_key: marks the run's batches among those of the account.
        limits: of the server.
        tokens_of: about how many input tokens a request has.
        stopped: whether the user wants to stop; asked several times a second. Batches go on at the server.
        affordable: how many of the first of some requests the budget has room for; those in progress come first.
        tell: takes a line on how things stand.

    Raises:
        ValueError: a single request that is over a limit; it has not been asked.
        RespondentStopped: the server takes no more; what came is saved.
        OSError: the disk is full or cannot be written; the batches are found again.
    """
    client = respondent.open_client()
    folder = journal.path.parent / BATCHES
    folder.mkdir(exist_ok=True)
    work = BatchWork(
        journal=journal,
        respondent=respondent,
        requests=requests,
        save=save,
        limits=limits,
        tokens_of=tokens_of,
        affordable=affordable,
        tell=tell,
        ledger=Ledger(journal, asked),
        api=BatchApi(client, respondent, run_key),
        folder=folder,
    )
    submitter = Submitter(work)
    task = asyncio.create_task(_run(work, submitter))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_CHECK_S)
            # Whatever is cut off here is found again as after a kill. The probe alone is waited for: it is paid.
            if stopped() and not submitter.probing:
                return
        await task
    except OSError as error:
        if error.errno is None:
            raise  # the journal's, which says what it is
        raise OSError(
            f"The run's folder must be writable; got {error} in {folder}. Earlier replies are kept, and what was submitted "
            "is found again. Make room or mend the access, then run the same command again to continue."
        ) from error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def _run(work: BatchWork, submitter: Submitter) -> None:
    collector = Collector(work)
    await _find_submitted(work, submitter)
    await collector.read_kept()
    while True:
        all_ended = await collector.collect_ended()
        if collector.accepted:
            submitter.meet_room()
        for ended in all_ended:
            submitter.held = submitter.broke = False
            if ended.token_limit is not None:
                await submitter.meet_token_limit(ended.batch, ended.token_limit)
        if not collector.blocked:
            await submitter.submit()
        if not work.ledger.in_batches() and (submitter.broke or not work.ledger.free(-1, 1)):
            return
        await asyncio.sleep(work.limits.poll_s * random.uniform(0.9, 1.1))


async def _find_submitted(work: BatchWork, submitter: Submitter) -> None:
    """Bring the ledger in line with the server, then submit what was meant to be and was not."""
    began = work.ledger.began()
    known = work.ledger.intents()
    unsure = {batch.intent: batch for batch in work.ledger.outstanding() if batch.batch_id is None}
    # A day for clocks that differ. Without a ledger it may have been lost, so that all batches are looked at.
    since = None if began is None else began - _DAY_S
    on_server = await work.api.of_this_run(since)
    if any(batch.file_id and intent not in on_server for intent, batch in unsure.items()):
        # Where an earlier call was killed just now, its batch may not be in the list yet.
        await work.api.settle()
        on_server = await work.api.of_this_run(since)
    for intent, found in on_server.items():
        if intent in unsure:
            del unsure[intent]
            work.ledger.submitted(intent, found.batch_id)
            work.tell(f"Found batch {found.batch_id}, which an earlier call had submitted.")
        elif intent not in known and found.status != "failed" and _INTENT.fullmatch(intent):
            await _adopt(work, intent, found)
    work.ledger.looked()
    for batch in unsure.values():
        await _submit_again(work, submitter, batch)
    outstanding = {batch.intent for batch in work.ledger.outstanding()}
    for path in list(work.folder.iterdir()):
        ours = _OUR_FILE.fullmatch(path.name)
        if ours and ours[1] not in outstanding:
            path.unlink()


async def _adopt(work: BatchWork, intent: str, found: ServerBatch) -> None:
    """Take in a batch of this run that the ledger does not know, because the ledger was lost."""
    path = work.input_file(intent)
    if not path.exists() and found.input_file_id:
        try:
            await work.api.download(found.input_file_id, path)
        except Missing:
            logger.warning("The input file of batch %s is gone: waiting for its replies.", found.batch_id)
    keys: list[str] = []
    tokens = 0
    if path.exists():
        async for lines in pages_of(path):
            # A request's line has its custom_id where an answer's has it.
            page = [line.custom_id for line in map(read_or_none, lines) if line]
            keys += page
            tokens += sum(work.tokens_of(work.requests[it.number]) for it in work.ledger.find(page).values())
    else:
        # Which requests it has is unknown: as long as it leaves no room for others, none is asked twice.
        tokens = work.limits.enqueued_tokens
    work.ledger.add(Batch(intent, found.created_at, len(keys), tokens, "", found.input_file_id, found.batch_id), keys)
    work.tell(f"Found batch {found.batch_id} of this run, which the run's ledger had lost.")


async def _submit_again(work: BatchWork, submitter: Submitter, batch: Batch) -> None:
    """Submit what the server does not have, unless the run has changed: then its requests are free."""
    path = work.input_file(batch.intent)
    as_it_was = (
        len(work.ledger.waiting_in(batch.intent)) == batch.requests
        and path.exists()
        and digest_of(path) == batch.digest
        and work.room_for([]) >= 0
    )
    if as_it_was:
        await submitter.send(batch)
    else:
        work.ledger.forget(batch.intent)
