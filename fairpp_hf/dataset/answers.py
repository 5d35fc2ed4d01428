"""Where the answers of a dataset come from: the survey respondent, a run, or a dataset folder.

Every source ends in the same compact form, `Answers`: each question's texts once, and a narrow table of records for each
persona that points at them. The wide preference table, seven times as large, is laid out a persona at a time.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.generation.records import load_run, run_fingerprint
from fairpp_hf.naming import check_name, nearest
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.questions import load_questions, split_of
from fairpp_hf.respondents.survey import SurveyRespondent, survey_answers
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, PREFERENCE_FEATURES, QUESTION_FEATURES

logger = logging.getLogger(__name__)

NameOrPath: TypeAlias = str | Path

SPLITS = ("train", "test")
SURVEY = "survey"
FOLDER_MANIFEST = "fairpp_build.json"
"""A dataset folder's record of how it was built; folders from elsewhere need none."""

_QUESTION_COLUMNS = list(QUESTION_FEATURES)
_RECORD_COLUMNS = [name for name in PREFERENCE_FEATURES if name not in QUESTION_FEATURES and name != "persona"]


class AnswerSource(NamedTuple):
    """What the `answers` argument points at."""

    kind: Literal["survey", "run", "folder"]
    path: Path | None
    """Absolute; None for the survey respondent."""

    def fingerprint(self) -> str:
        """Changes whenever the answers change; empty for the survey respondent, whose answers are part of the code."""
        if self.path is None:
            return ""
        if self.kind == "run":
            return run_fingerprint(self.path)
        digest = hashlib.sha256()
        for split, files in _preference_files(self.path).items():
            for file in files:
                digest.update(f"{split}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Answers:
    """Preference records of some personas, each question's texts held once."""

    questions: pa.Table
    """n questions with the columns of `QUESTION_FEATURES`."""
    is_test: NDArray[np.bool_]
    """(n,): which questions are in the test split."""
    records: dict[str, pa.Table]
    """Persona id to a table with `row` (int64, into `questions`) and the columns `respondent`, `answer`,
    `probabilities` and `status` of `PREFERENCE_FEATURES`, in the order of the questions."""

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

    def select(self, personas: Sequence[str]) -> "Answers":
        """The answers of these personas only, in this order.

        Raises:
            ValueError: a persona has no answers here.
        """
        for persona in personas:
            check_name("persona", persona, self.records)
        return Answers(self.questions, self.is_test, {persona: self.records[persona] for persona in personas})

    def matrix(self) -> dict[str, NDArray[np.int8]]:
        """Persona id to its answers to the n questions, int8 (n,): 0..2, or -1 where it has no valid answer."""
        columns = {}
        for persona, table in self.records.items():
            answers = np.full(len(self.questions), NO_ANSWER, dtype=np.int8)
            answers[table["row"].to_numpy()] = table["answer"].to_numpy()
            columns[persona] = answers
        return columns

    def probabilities(self, persona: str) -> NDArray[np.float64]:
        """A persona's option probabilities, (n, 3) over A, B, C; NaN where a question has none.

        Raises:
            ValueError: the persona has no answers here, or a record has another number of probabilities.
        """
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
        """The preference records of a split: one table for each persona, with the columns of `PREFERENCE_FEATURES`.

        Args:
            split: `"train"` or `"test"`.
            personas: ids, all by default. A persona without records in the split gives no table.
        """
        in_split = self._in_split(split)
        schema = PREFERENCE_FEATURES.arrow_schema
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
            columns |= {name: table[name] for name in _RECORD_COLUMNS}
            yield pa.table([columns[name] for name in schema.names], schema=schema)


def resolve_answers(answers: NameOrPath) -> AnswerSource:
    """Find out what the `answers` argument of the dataset means.

    Args:
        answers: `"survey"`, the path of a run, or the path of a dataset folder.

    Raises:
        ValueError: it is none of these.
    """
    if answers == SURVEY:
        return AnswerSource("survey", None)
    rule = "answers must be 'survey', the path of a run or the path of a dataset folder"
    if answers == "published":
        raise ValueError(
            f"{rule}; got 'published'. This version does not import the published tables. Leave answers out for the "
            "survey respondent's."
        )
    path = Path(answers).expanduser().resolve()
    if not path.exists():
        hint = " Did you mean 'survey'?" if nearest(str(answers), [SURVEY]) else ""
        raise ValueError(f"{rule}; got {str(answers)!r}, and there is nothing at {path}.{hint}")
    if (path / "manifest.json").is_file() and (path / "journal.sqlite").is_file():
        return AnswerSource("run", path)
    if _preference_files(path):
        return AnswerSource("folder", path)
    raise ValueError(
        f"{rule}; got {str(answers)!r}, which is neither. A run holds manifest.json and journal.sqlite, a dataset folder "
        "holds preferences/train-*.parquet or preferences/test-*.parquet. Make one with `fairpp generate` or "
        "`fairpp build`."
    )


def load_answers(answers: NameOrPath = SURVEY, personas: NameOrPath | None = None) -> Answers:
    """Load the answers of the survey respondent, of a run or of a dataset folder.

    Args:
        answers: `"survey"`, the path of a run, or the path of a dataset folder.
        personas: name or file of a persona set. The survey respondent answers for `britains_choice_2020` by default;
            a run or a folder gives all its personas by default, otherwise those of the set.

    Returns:
        At least one record.

    Raises:
        ValueError: `answers` is none of these, there are no records, a record is malformed, or a persona of the set is
            not among the answers.
    """
    source = resolve_answers(answers)
    if source.path is None:
        personas = DEFAULT_PERSONA_SET if personas is None else personas
        return _shipped_survey(str(personas)) if personas in PERSONA_SETS else _survey(load_personas(personas))
    if source.kind == "run":
        preferences = load_run(source.path)
        is_test = split_of(preferences)
    else:
        tables = {
            split: [pq.read_table(file, partitioning=None) for file in files]
            for split, files in _preference_files(source.path).items()
        }
        parts = [_checked_columns(table, source.path) for split in tables for table in tables[split]]
        lengths = {split: sum(map(len, tables[split])) for split in tables}
        preferences = pa.concat_tables(parts)
        is_test = np.repeat([split == "test" for split in lengths], list(lengths.values()))
    if not len(preferences):
        raise ValueError(
            f"answers must hold at least one record; got none in {source.path}. Ask with `fairpp generate`, or use other "
            "answers."
        )
    loaded = compact(preferences, is_test, where=str(source.path))
    return loaded if personas is None else loaded.select(load_personas(personas).ids)


def source_personas(source: AnswerSource, personas: NameOrPath | None = None) -> PersonaSet | None:
    """The persona set that the answers of a source belong to.

    A run and a folder carry theirs whole, whatever is installed; a set of the same name is not it.

    Args:
        source: where the answers come from.
        personas: name or file of a persona set. It is the survey respondent's, and that of a run or folder without a
            record of its own; beside a record it only chooses among the personas.

    Returns:
        The set; None where there is no record, or one that cannot be read, and `personas` is not given.
    """
    if source.path is None:
        return load_personas(DEFAULT_PERSONA_SET if personas is None else personas)
    given = None if personas is None else load_personas(personas)
    recorded = _recorded_personas(source.path / ("manifest.json" if source.kind == "run" else FOLDER_MANIFEST))
    if recorded is None:
        return given
    if given is not None and given.digest != recorded.digest:
        logger.warning(
            "The answers of %s were given by the persona set %r as it is recorded there, which differs from %r: the record "
            "counts.",
            source.path,
            recorded.id,
            str(personas),
        )
    return recorded


def _recorded_personas(manifest: Path) -> PersonaSet | None:
    """The persona set in the manifest of a run or folder; None where there is none, or one that cannot be read."""
    if not manifest.is_file():
        return None
    tree = json.loads(manifest.read_bytes())
    record = tree["personas"].get("record") if manifest.name == "manifest.json" else tree.get("persona_set")
    # Before sets were recorded whole, there was a name here, which may mean another set by now.
    if not isinstance(record, dict):
        return None
    try:
        return recorded_personas(record, str(manifest))
    except ValueError as error:
        logger.warning("The persona set of these answers is unknown: %s", error)
        return None


def answers_matrix(preferences: pa.Table) -> tuple[pa.Table, dict[str, NDArray[np.int8]]]:
    """Turn preference records into one column of answers for each persona.

    Args:
        preferences: columns of `PREFERENCE_FEATURES`, in any order of rows.

    Returns:
        The n different questions, with the columns of `QUESTION_FEATURES`, and persona id to int8 array (n,): 0..2, or
        -1 where the persona has no valid answer or no record.

    Raises:
        ValueError: a column is missing, a persona has two records for a question, or an answer is outside -1..2.
    """
    answers = compact(_checked_columns(preferences, "preferences"), np.zeros(len(preferences), dtype=np.bool_))
    return answers.questions, answers.matrix()


def compact(preferences: pa.Table, is_test: NDArray[np.bool_], where: str = "preferences") -> Answers:
    """Bring preference records into the compact form; questions in their own order, unknown ones at the end.

    Args:
        preferences: m rows with the columns and types of `PREFERENCE_FEATURES`, in any order.
        is_test: boolean (m,).
        where: origin of the rows, for error messages.

    Raises:
        ValueError: a persona has two records for a question, a question is in both splits, or an answer is outside
            -1..2.
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
    narrow = preferences.select(_RECORD_COLUMNS).append_column("row", pa.array(row, pa.int64()))
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


@lru_cache(maxsize=1)
def _shipped_survey(name: str) -> Answers:
    """Kept between calls, since pairs of several targets are often wanted one after the other."""
    return _survey(load_personas(name))


def _survey(personas: PersonaSet) -> Answers:
    """The survey respondent's answers to all questions, computed column by column."""
    questions = load_questions()
    count = len(questions)
    respondent = SurveyRespondent(personas).name
    offsets = pa.array(np.arange(0, 3 * count + 1, 3, dtype=np.int32))
    records = {}
    for persona in personas.ids:
        answer, probabilities = survey_answers(questions, personas, persona)
        records[persona] = pa.table(
            {
                "row": pa.array(np.arange(count)),
                "respondent": pa.repeat(pa.scalar(respondent), count),
                "answer": pa.array(answer, pa.int64()),
                "probabilities": pa.ListArray.from_arrays(offsets, pa.array(probabilities.ravel(), pa.float32())),
                "status": pa.repeat(pa.scalar("ok"), count),
            }
        )
    return Answers(questions, split_of(questions), records)


def _preference_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of a dataset folder's config `preferences`, by split; splits without files are left out."""
    files = {split: sorted(folder.glob(f"preferences/{split}-*.parquet")) for split in SPLITS}
    return {split: found for split, found in files.items() if found}


def _checked_columns(preferences: pa.Table, where: str | Path) -> pa.Table:
    """The columns of `PREFERENCE_FEATURES` with their types, complete; further columns are left out."""
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
    return preferences.select(list(PREFERENCE_FEATURES)).cast(PREFERENCE_FEATURES.arrow_schema)
