"""Asks a run's requests through the OpenAI Batch API: half the price, an answer within a day, and nothing bought twice.

What is to be submitted is in the ledger before anything is sent, each batch carries the run's key and its own intent in its
metadata, and a batch counts as collected only when the journal has its replies. A process can therefore be killed at any
point, and its successor finds what was submitted, submits what was not, and collects what has come.
"""

import asyncio
import logging
import random
import re
from collections.abc import Callable, Sequence

from fairpp_hf.generation.batch.api import BatchApi, Missing, ServerBatch
from fairpp_hf.generation.batch.collect import Collector
from fairpp_hf.generation.batch.files import pages_of, read_answer
from fairpp_hf.generation.batch.ledger import Batch, BatchJob, Ledger
from fairpp_hf.generation.batch.submit import Submitter
from fairpp_hf.generation.options import BatchLimits
from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.respondents.base import Reply, Request
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import BATCHES

logger = logging.getLogger(__name__)

_CHECK_S = 0.25
_DAY_S = 86_400.0
_INTENT = re.compile("[0-9a-f]{32}")
_OUR_FILE = re.compile(r"([0-9a-f]{32})(\.output|\.error)?\.jsonl(\.part)?")


async def ask_in_batches(
    journal: Journal,
    respondent: OpenAIRespondent,
    requests: RequestQueue,
    save: Callable[[Sequence[tuple[int, Reply]]], None],
    limits: BatchLimits,
    tokens_of: Callable[[Request], int],
    tell: Callable[[str], None],
) -> None:
    """Ask requests through the Batch API; return when all have a reply, the budget has no room, or the user stops.

    The first request goes the ordinary way, at full price: a wrong key, model or parameter shows at once and not in a day,
    and so does how the server is to be asked (`respondents.ladder`), unless an earlier call of the run has settled that.
    All batches of the call are asked so. In them nothing is stepped down, and no reply gets more room.

    The rest is split into batches. What a batch answers is kept, however it ended; what it leaves goes into another one.
    A request that fails for a passing reason, or whose reply is worth another try, is asked in up to 3 batches.

    A reply that came through a batch has the batch's id in its detail, as `batch`, and a latency of 0, since the server
    does not say how long it took. A paid reply that no request of this call waits for, because the run has changed, stays
    in the journal until the run asks for it again; its tokens count at once, at an unknown price.

    Args:
        journal: Journal of the run, open for writing; its file keeps the ledger.
        respondent: Writes the requests and reads the replies.
        requests: Requests without a final reply.
        save: Function that writes (index into `requests`, reply) durably. An index comes again after a `failed` reply.
        limits: Limits of the server.
        tokens_of: Function that estimates how many input tokens a request has.
        tell: Function that takes a line on how things stand.

    Raises:
        ValueError: A single request is over a limit; it has not been asked.
        RespondentStopped: The server takes no more; what came is saved.
        OSError: The disk is full or cannot be written; the batches are found again.
    """
    client = respondent.open_client(limited=False)
    folder = journal.path.parent / BATCHES
    folder.mkdir(exist_ok=True)
    ledger = Ledger(journal, (requests.asked(number).key for number in range(len(requests))))
    api = BatchApi(client, respondent, journal.run_key())
    job = BatchJob(respondent, requests, save, limits, tokens_of, tell, ledger, api, folder)
    submitter = Submitter(job)
    task = asyncio.create_task(_run(job, submitter))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_CHECK_S)
            # Whatever is cut off here is found again as after a kill. The probe alone is waited for: it is paid.
            if requests.stopped and not submitter.probing:
                return
        await task
    except OSError as error:
        if error.errno is None:
            raise  # the journal's, which says what it is
        raise OSError(
            f"The run's folder must be writable; got {error} in {folder}. Earlier replies are kept, and what was submitted "
            "is found again. Make room or mend the access, then continue the run."
        ) from error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def _run(job: BatchJob, submitter: Submitter) -> None:
    collector = Collector(job)
    await _find_submitted(job)
    collector.claim()
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
        if not job.ledger.in_batches() and (submitter.broke or not job.ledger.free()):
            return
        await asyncio.sleep(job.limits.poll_s * random.uniform(0.9, 1.1))


async def _find_submitted(job: BatchJob) -> None:
    """Bring the ledger in line with the server: what was submitted is known, and what was not is taken out."""
    began = job.ledger.began()
    known = job.ledger.intents()
    unsure = {batch.intent: batch for batch in job.ledger.outstanding() if batch.batch_id is None}
    # A day for clocks that differ. Without a ledger it may have been lost, so that all batches are looked at.
    since = None if began is None else began - _DAY_S
    on_server = await job.api.of_this_run(since)
    if any(batch.file_id and intent not in on_server for intent, batch in unsure.items()):
        # Where an earlier call was killed just now, its batch may not be in the list yet.
        await job.api.settle()
        on_server = await job.api.of_this_run(since)
    for intent, found in on_server.items():
        if intent in unsure:
            del unsure[intent]
            job.ledger.submitted(intent, found.batch_id)
            job.tell(f"Found batch {found.batch_id}, which an earlier call had submitted.")
        elif intent not in known and found.status != "failed" and _INTENT.fullmatch(intent):
            await _adopt(job, intent, found)
    job.ledger.looked()
    for intent in unsure:
        # Its requests are free. If the server takes it later than this, the next call finds it in the list and keeps its
        # replies.
        job.ledger.remove(intent)
    outstanding = {batch.intent for batch in job.ledger.outstanding()}
    for path in list(job.folder.iterdir()):
        ours = _OUR_FILE.fullmatch(path.name)
        if ours and ours[1] not in outstanding:
            path.unlink()


async def _adopt(job: BatchJob, intent: str, found: ServerBatch) -> None:
    """Take in a batch of this run that the ledger does not know, because the ledger was lost."""
    path = job.input_file(intent)
    if not path.exists() and found.input_file_id:
        try:
            await job.api.download(found.input_file_id, path)
        except Missing:
            logger.warning("The input file of batch %s is gone: waiting for its replies.", found.batch_id)
    keys: list[str] = []
    # Which requests it has may be unknown: as long as it leaves no room for others, none is asked twice.
    tokens = 0 if path.exists() else job.limits.enqueued_tokens
    if path.exists():
        async for lines in pages_of(path):
            # A request's line has its custom_id where an answer's has it.
            page = [line.custom_id for line in map(read_answer, lines) if line]
            keys += page
            tokens += sum(job.tokens_of(job.requests[it.number]) for it in job.ledger.find(page))
    job.ledger.add(Batch(intent, found.created_at, len(keys), tokens, found.input_file_id, found.batch_id), keys)
    job.tell(f"Found batch {found.batch_id} of this run, which the run's ledger had lost.")
