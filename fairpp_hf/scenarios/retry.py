"""Telling again what was set aside: once a retry, however often that is interrupted."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from fairpp_hf.runs.database import FIELDS
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import check_directory
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.scenarios.files import read_stories
from fairpp_hf.scenarios.stories import Names

logger = logging.getLogger(__name__)

_RETRY = "retry_set_aside"
"""In the journal's table `meta`: when the retry began that no call has brought to its end yet."""


def begin_retry(stories: Path, questions: pa.Table, keys: Mapping[str, str], names: Names) -> None:
    """Begin a retry: make room for another reply where the checks of today set a story aside.

    What the earlier ones cost stays counted. Until `end_retry`, a further call goes on with this retry and makes no more
    room, so that an interrupted one does not tell again what it has told.

    Args:
        stories: The storyteller's run, new or of an earlier call.
        questions: Columns of `QUESTION_FEATURES`.
        keys: Question id to the key of each request that tells one of them here.
        names: Names of personas that no story may name, by `persona_names`.

    Raises:
        ValueError: The directory holds other files than a run's.
        RuntimeError: Another process is writing to the run.
        OSError: The journal cannot be written or read.
    """
    check_directory(stories)
    stories.mkdir(parents=True, exist_ok=True)
    with RunLock(stories), Journal(stories, stories=True) as journal:
        if retry_goes_on(journal):
            logger.warning(
                "What was set aside in %s is being told again already: the earlier call is continued.", stories
            )
            return
        chosen = [(keys[each],) for each in read_stories(journal, questions, keys, names).to_retry()]
        with journal.transaction() as connection:
            connection.execute("INSERT INTO meta VALUES (?, ?)", (_RETRY, str(time.time())))
            connection.executemany(
                f"INSERT INTO replaced ({FIELDS}) SELECT {FIELDS} FROM replies WHERE key = ?", chosen
            )
            connection.executemany("DELETE FROM replies WHERE key = ?", chosen)


def retry_goes_on(journal: Journal) -> bool:
    """Whether a retry has begun in a storyteller's journal and not come to its end."""
    return journal.noted(_RETRY) is not None


def end_retry(stories: Path) -> None:
    """Note that all has been told and answered: the next retry is another one.

    Raises:
        RuntimeError: Another process is writing to the run.
        OSError: The journal cannot be written or read.
    """
    with Journal(stories, read_only=True) as journal:
        if not retry_goes_on(journal):
            return
    with RunLock(stories), Journal(stories, stories=True) as journal:
        journal.note(_RETRY, None)
