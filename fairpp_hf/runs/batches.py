"""What a run has in batches at the provider is bought already: it must not be asked, unless it is given up."""

from pathlib import Path

from fairpp_hf.runs.database import BATCHES_UNKNOWN
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import JOURNAL
from fairpp_hf.runs.lock import RunLock


def check_not_in_batches(journal: Journal, *, by_batches: bool) -> None:
    """Check that no request would be bought that is, or may be, in a batch.

    Args:
        journal: Journal of the run; its requests are set.
        by_batches: Whether the run asks by batches now, which collects its own first.
    """
    run = journal.path.parent
    for part, requests in journal.elsewhere():
        raise ValueError(
            f"A merged run must not ask what its parts have in batches; got {requests:,} requests of {run} in batches of "
            f"{part}. Their answers are bought already. Collect them there by batches, then merge that run again."
        )
    if by_batches:
        return
    unfinished = journal.unfinished()
    if journal.noted(BATCHES_UNKNOWN) is not None:
        what = "an unknown number of requests in batches, whose list was damaged"
    elif unfinished.batches:
        what = f"{unfinished.requests:,} requests in {unfinished.batches:,} unfinished batches"
    else:
        return
    raise ValueError(
        f"A run with batches at the provider must go on by batches; got {what}, of {run}. Their answers are bought already. "
        "Continue by batches to collect them first. Where the provider has lost them, give them up to buy them again."
    )


def give_up_batches(run: Path) -> int:
    """Give up the batches that hold up a run, so that their requests can be asked anew, and bought twice.

    It is for a run whose account or server is lost, or whose server has lost the replies. What has come stays. The server
    goes on with the batches: cancel them there, if it still can. The batches of runs merged into this one are given up
    here as well, not in those runs.

    Returns:
        How many of the run's requests were in them without a final reply.
    """
    if not (run / JOURNAL).is_file():
        return 0
    of_them = "intent IN (SELECT intent FROM batches WHERE NOT collected)"
    with RunLock(run), Journal(run) as journal, journal.transaction() as connection:
        (requests,) = connection.execute(
            "SELECT count(*) FROM unanswered WHERE key IN "
            f"(SELECT key FROM elsewhere UNION SELECT key FROM batch_requests WHERE {of_them})"
        ).fetchone()
        connection.execute(f"DELETE FROM batch_requests WHERE {of_them}")
        # They stay in the ledger, or the list of batches would bring them back.
        connection.execute("UPDATE batches SET collected = 1")
        connection.execute("DELETE FROM elsewhere")
        connection.execute("DELETE FROM meta WHERE name = ?", (BATCHES_UNKNOWN,))
    return int(requests)
