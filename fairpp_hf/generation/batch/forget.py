"""The way out where batches cannot be collected any more: their requests are bought again."""

from pathlib import Path

from fairpp_hf.generation.database import BATCHES_UNKNOWN, columns_of
from fairpp_hf.generation.journal import FILE_NAME, Journal
from fairpp_hf.generation.run_lock import RunLock

_OF_THEM = "intent IN (SELECT intent FROM batches WHERE NOT collected)"


def forget_batches(run: Path) -> int:
    """Give up the batches that hold up a run, so that their requests can be asked anew, and bought twice.

    It is for a run whose account or server is lost, or whose server has lost the replies. What has come is kept. The server
    goes on with the batches: cancel them there, if it still can. The batches of runs merged into this one are given up
    here as well, not in those runs.

    Args:
        run: the run's directory.

    Returns:
        How many of the run's requests they had without a final reply.

    Raises:
        RuntimeError: another process is writing to the run.
        OSError: the journal cannot be written or read.
    """
    if not (run / FILE_NAME).is_file():
        return 0
    with RunLock(run), Journal(run) as journal, journal.transaction() as connection:
        has_ledger = bool(columns_of(connection, "batches"))
        keys = "SELECT key FROM elsewhere"
        if has_ledger:
            keys += f" UNION SELECT key FROM batch_requests WHERE {_OF_THEM}"
        (requests,) = connection.execute(
            "SELECT count(*) FROM requests LEFT JOIN replies USING (key) "
            f"WHERE key IN ({keys}) AND (replies.key IS NULL OR replies.status = 'failed')"
        ).fetchone()
        if has_ledger:
            connection.execute(f"DELETE FROM batch_requests WHERE {_OF_THEM}")
            # They stay in the ledger, or the list of batches would bring them back.
            connection.execute("UPDATE batches SET collected = 1")
        connection.execute("DELETE FROM elsewhere")
        connection.execute("DELETE FROM meta WHERE name = ?", (BATCHES_UNKNOWN,))
    return int(requests)
