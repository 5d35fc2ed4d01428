"""What paid replies cost that the run does not ask for now: the journal counts it while they lie beside it."""

import json
from collections.abc import Iterable

from fairpp_hf.generation.batch.files import Answer
from fairpp_hf.generation.database import FIELDS, checksum
from fairpp_hf.generation.journal import Journal
from fairpp_hf.respondents.completion import usage_of
from fairpp_hf.schema import NO_ANSWER

_SAME = "key = ? AND detail = ?"
_INSERT = f"""
INSERT INTO replaced ({FIELDS}) SELECT {", ".join("?" * len(FIELDS.split(", ")))}
WHERE NOT EXISTS (SELECT 1 FROM replaced WHERE {_SAME})
"""


def count_kept(journal: Journal, kept: Iterable[Answer], taken: Iterable[str], batch_id: str) -> None:
    """Count what is kept, once, and no more what the run has taken: it is among its replies.

    Its price is unknown, since nobody says which model's it is.

    Args:
        journal: open for writing.
        kept: answers that lie beside the journal.
        taken: keys of answers that do not.
        batch_id: of the batch that brought them.
    """
    detail = json.dumps({"batch": batch_id, "kept": True, "tries": 1})
    with journal.transaction() as connection:
        for answer in kept:
            usage = usage_of(answer.body)
            # Which question and persona it was for is not known any more.
            reply = ("failed", NO_ANSWER, None, None, None, None, None if usage is None else json.dumps(usage), detail)
            record = (answer.custom_id, "", "", *reply)
            row = (*record, 0.0, 0.0, 1, checksum(*record), None)
            connection.execute(_INSERT, (*row, answer.custom_id, detail))
        connection.executemany(f"DELETE FROM replaced WHERE {_SAME}", ((key, detail) for key in taken))
