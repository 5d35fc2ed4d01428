"""Preference records in compact form: each question's texts once, and a narrow table of records for each persona.

The wide preference table, seven times as large, is laid out a persona at a time.
"""

import html
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.provenance import UNKNOWN, Provenance
from fairpp_hf.questions import SPLITS, heldout_labels, is_held_out, load_questions
from fairpp_hf.schema import (
    NO_ANSWER,
    OPTION_LETTERS,
    PREFERENCE_FEATURES,
    QUESTION_FEATURES,
    RAW_REPLY,
    REPLIED_PREFERENCE_FEATURES,
)

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@cache
def warn_once(sentence: str) -> None:
    """Once in the log of a process, however often the same answers are loaded or divided."""
    logger.warning("%s", sentence)


_QUESTION_COLUMNS = list(QUESTION_FEATURES)
_RECORD_COLUMNS = [name for name in PREFERENCE_FEATURES if name not in QUESTION_FEATURES and name != "persona"]


@dataclass(frozen=True, repr=False)
class Answers:
    """Preference records of some personas, each question's texts held once."""

    questions: pa.Table
    """n questions with the columns of `QUESTION_FEATURES`."""
    is_test: NDArray[np.bool_]
    """(n,): which questions are in the test split."""
    records: dict[str, pa.Table]
    """Persona id to a table with `row` (int64, into `questions`) and the columns `respondent`, `answer`,
    `probabilities` and `status` of `PREFERENCE_FEATURES`, in the order of the questions; where the source keeps the
    replies that answers were read from, also `raw_reply`."""
    provenance: Provenance = UNKNOWN
    """Where the answers were first given, and on what terms."""

    @property
    def personas(self) -> tuple[str, ...]:
        """Ids of the personas, in the order of their set or of their first record."""
        return tuple(self.records)

    @cached_property
    def respondents(self) -> tuple[str, ...]:
        """The different values of the column `respondent`, sorted."""
        return tuple(
            sorted({name for table in self.records.values() for name in pc.unique(table["respondent"]).to_pylist()})
        )

    def counts(self) -> "pd.DataFrame":
        """A row a persona: how many questions it answered with `A`, `B` and `C`, and how many it gave `no answer` to."""
        import pandas as pd

        names = [*OPTION_LETTERS, "no answer"]
        rows = {
            persona: np.bincount(np.where(column < 0, len(OPTION_LETTERS), column), minlength=len(names))
            for persona, column in self.matrix().items()
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=names)

    def __repr__(self) -> str:
        """How many questions whose personas were asked, and by whom they were answered."""
        asked = f"{self.questions.num_rows:,} questions, {len(self.records)} personas"
        return f"Answers({asked}; {', '.join(self.respondents)})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.counts().to_html(border=0)}"

    @property
    def features(self) -> datasets.Features:
        """`PREFERENCE_FEATURES`, or `REPLIED_PREFERENCE_FEATURES` where the source keeps raw replies."""
        replied = any(RAW_REPLY in table.column_names for table in self.records.values())
        return REPLIED_PREFERENCE_FEATURES if replied else PREFERENCE_FEATURES

    def held_out(self, kind: str) -> "Answers":
        """The same answers, divided so that whole labels are kept out of training, see `is_held_out`.

        Where all questions fall on one side, the log says so.
        """
        is_test = is_held_out(self.questions, kind)
        if is_test.all() or not is_test.any():
            what, which = ("train", "each") if is_test.any() else ("test", "none")
            warn_once(
                f"heldout={kind!r} leaves nothing to {what} on: {which} of the {len(is_test):,} questions with answers has "
                f"a held-out label ({', '.join(map(str, heldout_labels(kind)))})."
            )
        return replace(self, is_test=is_test)

    def select(self, personas: Sequence[str]) -> "Answers":
        """The answers of these personas only, in this order; it is an error if one has none here."""
        for persona in personas:
            check_name("persona", persona, self.records)
        return replace(self, records={persona: self.records[persona] for persona in personas})

    def matrix(self) -> dict[str, NDArray[np.int8]]:
        """Persona id to its answers to the n questions, int8 (n,): 0..2, or -1 where it has no valid answer."""
        columns = {}
        for persona, table in self.records.items():
            answers = np.full(len(self.questions), NO_ANSWER, dtype=np.int8)
            answers[table["row"].to_numpy()] = table["answer"].to_numpy()
            columns[persona] = answers
        return columns

    def by_question(self, persona: str, column: str) -> pa.ChunkedArray:
        """A column of a persona's records, one value for each of the n questions, null where it has no record; (n,)."""
        records = self.records[persona]
        place = np.full(len(self.questions), -1)
        place[records["row"].to_numpy()] = np.arange(len(records))
        return records[column].take(pa.array(place, mask=place < 0))

    def probabilities(self, persona: str) -> NDArray[np.float64]:
        """A persona's option probabilities, (n, 3) over A, B, C; NaN where a question has none."""
        table = self.records[check_name("persona", persona, self.records)]
        lists = table["probabilities"].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        given = lists.is_valid().to_numpy(zero_copy_only=False)
        rows = table["row"].to_numpy()
        wrong = np.flatnonzero(given & (lengths != len(OPTION_LETTERS)))
        if len(wrong):
            raise ValueError(
                f"probabilities must have one value for each of {', '.join(OPTION_LETTERS)}; got {lengths[wrong[0]]} for "
                f"question {self.questions['question_id'][rows[wrong[0]]].as_py()!r} and persona {persona!r}."
            )
        probabilities = np.full((len(self.questions), len(OPTION_LETTERS)), np.nan)
        # Flattening skips the records without a list.
        values = lists.flatten().to_numpy(zero_copy_only=False)
        probabilities[rows[given]] = values.reshape(-1, len(OPTION_LETTERS))
        return probabilities

    def personas_in(self, split: str) -> list[str]:
        """Ids of the personas with at least one record in a split."""
        in_split = self._in_split(split)
        return [persona for persona, table in self.records.items() if in_split[table["row"].to_numpy()].any()]

    def splits(self) -> tuple[str, ...]:
        """The splits that have at least one record."""
        return tuple(split for split in SPLITS if self.personas_in(split))

    def _in_split(self, split: str) -> NDArray[np.bool_]:
        check_name("split", split, SPLITS)
        return self.is_test if split == "test" else ~self.is_test

    def preferences(self, split: str, personas: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The preference records of a split: one table for each persona that has some, with the columns of `features`."""
        in_split = self._in_split(split)
        schema = self.features.arrow_schema
        record_columns = [name for name in schema.names if name in (*_RECORD_COLUMNS, RAW_REPLY)]
        texts_of: tuple[NDArray[np.int64], pa.Table] | None = None
        for persona in self.personas if personas is None else personas:
            table = self.records[persona]
            table = table.filter(pa.array(in_split[table["row"].to_numpy()]))
            if not len(table):
                continue
            rows = table["row"].to_numpy()
            # Personas mostly answer the same questions: their texts are then shared, not copied.
            if texts_of is None or not np.array_equal(texts_of[0], rows):
                texts_of = rows, self.questions.take(pa.array(rows))
            columns = {name: texts_of[1][name] for name in _QUESTION_COLUMNS}
            columns["persona"] = pa.repeat(pa.scalar(persona), len(table))
            columns |= {name: table[name] for name in record_columns}
            yield pa.table([columns[name] for name in schema.names], schema=schema)


def compact(preferences: pa.Table, is_test: NDArray[np.bool_], where: str = "preferences") -> Answers:
    """Bring m preference records, in any order, into the compact form; questions in their own order, unknown ones last.

    Raises:
        ValueError: A persona has two records for a question, a question is in both splits, or an answer is outside -1..2.
    """
    ids = pc.dictionary_encode(preferences["question_id"].combine_chunks())
    known = pc.index_in(ids.dictionary, value_set=load_questions()["question_id"].combine_chunks())
    order = np.argsort(pc.fill_null(known, len(load_questions())).to_numpy(), kind="stable")
    rank = np.argsort(order, kind="stable")
    row = rank[ids.indices.to_numpy()]
    _, first_record = np.unique(row, return_index=True)

    question_is_test = is_test[first_record]
    divided = np.flatnonzero(is_test != question_is_test[row])
    if len(divided):
        raise ValueError(
            f"A question must be in one split; got {preferences['question_id'][divided[0]].as_py()!r} in both in {where}."
        )
    answer = preferences["answer"].to_numpy()
    wrong = np.flatnonzero((answer < NO_ANSWER) | (answer >= len(OPTION_LETTERS)))
    if len(wrong):
        raise ValueError(
            f"answer must be in -1..2 (-1 for no valid answer); got {answer[wrong[0]]} at row {wrong[0]} of {where}."
        )

    personas = pc.dictionary_encode(preferences["persona"].combine_chunks())
    persona_of = personas.indices.to_numpy()
    columns = [name for name in preferences.column_names if name in (*_RECORD_COLUMNS, RAW_REPLY)]
    narrow = preferences.select(columns).append_column("row", pa.array(row, pa.int64()))
    records = {}
    for number, persona in enumerate(personas.dictionary.to_pylist()):
        mine = np.flatnonzero(persona_of == number)
        mine = mine[np.argsort(row[mine], kind="stable")]
        twice = np.flatnonzero(row[mine][1:] == row[mine][:-1])
        if len(twice):
            question = preferences["question_id"][mine[twice[0]]].as_py()
            raise ValueError(
                f"A persona must answer a question once; got two records of {persona!r} for {question!r} in {where}."
            )
        records[persona] = narrow.take(pa.array(mine)).combine_chunks()
    return Answers(preferences.select(_QUESTION_COLUMNS).take(pa.array(first_record)), question_is_test, records)


def checked_columns(preferences: pa.Table, where: str | Path) -> pa.Table:
    """The columns of `PREFERENCE_FEATURES` with their types, complete, and `raw_reply`; others are left out."""
    missing = [name for name in PREFERENCE_FEATURES if name not in preferences.column_names]
    if missing:
        raise ValueError(
            f"Preference records must have the column {missing[0]!r}; got {preferences.column_names} in {where}."
        )
    for name in PREFERENCE_FEATURES:
        if name != "probabilities" and preferences[name].null_count:
            row = np.flatnonzero(preferences[name].is_null().to_numpy())[0]
            raise ValueError(
                f"Column {name!r} of preference records must have no missing values; got one at row {row} of a table in "
                f"{where}."
            )
    features = REPLIED_PREFERENCE_FEATURES if RAW_REPLY in preferences.column_names else PREFERENCE_FEATURES
    return preferences.select(list(features)).cast(features.arrow_schema)
