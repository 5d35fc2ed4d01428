"""Where the answers of a dataset come from: the survey respondent, a run, a dataset folder, or the published tables.

Every source ends in the same compact form, `Answers`: each question's texts once, and a narrow table of records for each
persona that points at them. The wide preference table, seven times as large, is laid out a persona at a time.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.dataset.origin import OUR_LICENCE, PUBLISHED_LICENCE, UNKNOWN_ORIGIN, Origin, read_origin
from fairpp_hf.dataset.published import has_raw_replies, has_scenarios, import_tables
from fairpp_hf.dataset.published_files import (
    PUBLISHED_REPO,
    SCENARIOS_REPO,
    download_tables,
    is_table_source,
    tables_fingerprint,
)
from fairpp_hf.generation.database import connect
from fairpp_hf.generation.journal import FILE_NAME as JOURNAL
from fairpp_hf.generation.manifest import FILE_NAME as RUN_MANIFEST
from fairpp_hf.generation.records import load_run, run_fingerprint
from fairpp_hf.naming import check_name, nearest
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.questions import SPLITS, is_held_out, load_questions, split_of
from fairpp_hf.respondents.survey import SurveyRespondent, all_survey_answers
from fairpp_hf.schema import (
    NO_ANSWER,
    OPTION_LETTERS,
    PREFERENCE_FEATURES,
    QUESTION_FEATURES,
    RAW_REPLY,
    REPLIED_PREFERENCE_FEATURES,
)

logger = logging.getLogger(__name__)

NameOrPath: TypeAlias = str | Path

SURVEY = "survey"
PUBLISHED = "published"
FOLDER_MANIFEST = "fairpp_build.json"
"""A dataset folder's record of how it was built; folders from elsewhere need none."""

_QUESTION_COLUMNS = list(QUESTION_FEATURES)
_RECORD_COLUMNS = [name for name in PREFERENCE_FEATURES if name not in QUESTION_FEATURES and name != "persona"]


class AnswerSource(NamedTuple):
    """What the `answers` argument points at."""

    kind: Literal["survey", "run", "folder", "published"]
    path: Path | None
    """Absolute; None for the survey respondent. Published tables lie in the cache of the Hub, or where the user has them."""
    repo: str | None = None
    """Hub dataset of published tables; None for those that were on this machine before."""
    commit: str | None = None
    """Of that dataset, 40 hexadecimal digits."""

    def fingerprint(self) -> str:
        """Changes whenever the answers change; empty for the survey respondent, whose answers are part of the code."""
        if self.path is None:
            return ""
        if self.commit is not None:
            return self.commit
        if self.kind == "run":
            return run_fingerprint(self.path)
        if self.kind == "published":
            return tables_fingerprint(self.path)
        digest = hashlib.sha256()
        for split, files in (_parquet_files(self.path) | _parquet_files(self.path, "scenarios")).items():
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
    `probabilities` and `status` of `PREFERENCE_FEATURES`, in the order of the questions; where the source keeps the
    replies that answers were read from, also `raw_reply`."""
    origin: Origin = UNKNOWN_ORIGIN
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

    @property
    def features(self) -> datasets.Features:
        """`PREFERENCE_FEATURES`, or `REPLIED_PREFERENCE_FEATURES` where the source keeps raw replies."""
        replied = any(RAW_REPLY in table.column_names for table in self.records.values())
        return REPLIED_PREFERENCE_FEATURES if replied else PREFERENCE_FEATURES

    def held_out(self, kind: str) -> "Answers":
        """The same answers, divided so that whole labels are kept out of training, see `is_held_out`.

        Raises:
            ValueError: `kind` is not one of `HELDOUT`.
        """
        return replace(self, is_test=is_held_out(self.questions, kind))

    def select(self, personas: Sequence[str]) -> "Answers":
        """The answers of these personas only, in this order.

        Raises:
            ValueError: a persona has no answers here.
        """
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
        """The preference records of a split: one table for each persona, with the columns of `features`.

        Args:
            split: `"train"` or `"test"`.
            personas: ids, all by default. A persona without records in the split gives no table.
        """
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


def resolve_answers(answers: NameOrPath, published_revision: str | None = None) -> AnswerSource:
    """Find out what the `answers` argument of the dataset means.

    Args:
        answers: `"survey"`, `"published"`, the path of a run, of a dataset folder, or of CSV or Parquet files in the shape
            of the published tables. `"published"` is downloaded from the Hub unless it is in its cache.
        published_revision: branch, tag or commit of the published tables, `main` by default.

    Raises:
        ValueError: it is none of these, or `published_revision` is given for other answers or is unknown.
        OSError: the published tables can neither be downloaded nor found in the cache.
    """
    return _resolve(answers, published_revision, PUBLISHED_REPO)


def resolve_scenarios(answers: NameOrPath, published_revision: str | None = None) -> AnswerSource:
    """As `resolve_answers`, for the answers to scenarios: `"published"` is another dataset then, with its own revisions."""
    return _resolve(answers, published_revision, SCENARIOS_REPO)


def _resolve(answers: NameOrPath, published_revision: str | None, repo: str) -> AnswerSource:
    if answers == PUBLISHED:
        folder = download_tables(repo, published_revision)
        return AnswerSource("published", folder, repo, folder.name)
    if published_revision is not None:
        raise ValueError(
            f"published_revision must only be given with answers='published'; got {published_revision!r} with "
            f"answers={str(answers)!r}. Leave it out."
        )
    if answers == SURVEY:
        return AnswerSource("survey", None)
    rule = "answers must be 'survey', 'published', or the path of a run, a dataset folder or published tables"
    path = Path(answers).expanduser().resolve()
    if not path.exists():
        close = nearest(str(answers), [SURVEY, PUBLISHED])
        hint = f" Did you mean {close!r}?" if close else ""
        raise ValueError(f"{rule}; got {str(answers)!r}, and there is nothing at {path}.{hint}")
    if (path / RUN_MANIFEST).is_file() and (path / JOURNAL).is_file():
        return AnswerSource("run", path)
    if _parquet_files(path):
        return AnswerSource("folder", path)
    if is_table_source(path):
        return AnswerSource("published", path)
    raise ValueError(
        f"{rule}; got {str(answers)!r}, which is none of them. A run holds {RUN_MANIFEST} and {JOURNAL}, a dataset folder "
        "holds preferences/train-*.parquet or preferences/test-*.parquet, and published tables are CSV or Parquet files. "
        "Make one with `fairpp generate` or `fairpp build`."
    )


def load_answers(
    answers: NameOrPath = SURVEY, personas: NameOrPath | None = None, published_revision: str | None = None
) -> Answers:
    """Load the answers of the survey respondent, of a run, of a dataset folder, or of the published tables.

    Args:
        answers: see `resolve_answers`.
        personas: name or file of a persona set. The survey respondent answers for `britains_choice_2020` by default;
            other sources give all their personas by default, otherwise those of the set.
        published_revision: see `resolve_answers`.

    Returns:
        At least one record.

    Raises:
        ValueError: as `resolve_answers` does; or there are no records, a record is malformed, or a persona of the set is
            not among the answers.
        OSError: as `resolve_answers` does.
    """
    return load_source(resolve_answers(answers, published_revision), personas)


def load_source(source: AnswerSource, personas: NameOrPath | None = None) -> Answers:
    """As `load_answers`, for answers that were resolved before."""
    if source.path is None:
        personas = DEFAULT_PERSONA_SET if personas is None else personas
        return _shipped_survey(str(personas)) if personas in PERSONA_SETS else _survey(load_personas(personas))
    if source.kind == "run":
        preferences = load_run(source.path)
        origin = source_origin(source)._replace(answered_on=_answered_on(source.path))
        loaded = _checked(preferences, split_of(preferences), source.path, origin)
    elif source.kind == "folder":
        loaded = _folder(source.path, "preferences")
    else:
        loaded = _published(source, source.path)
    return loaded if personas is None else loaded.select(load_personas(personas).ids)


def load_scenarios(
    answers: NameOrPath = SURVEY, personas: NameOrPath | None = None, published_revision: str | None = None
) -> Answers | None:
    """Load the answers to scenarios: questions told as vignettes, one an option.

    The columns are those of preferences. `question` is the scenario's closing question, the options are its vignettes,
    `prompt` is the whole. All are test questions, since only these exist as scenarios.

    Args:
        answers: see `resolve_answers`. `"published"` means the dataset `tools-o/Fair-PP-simulation`.
        personas: see `load_answers`.
        published_revision: branch, tag or commit of that dataset, `main` by default.

    Returns:
        None where the source has no scenarios: the survey respondent and runs have none.

    Raises:
        ValueError: as `load_answers` does.
        OSError: as `resolve_answers` does.
    """
    return load_source_scenarios(resolve_scenarios(answers, published_revision), personas)


def load_source_scenarios(source: AnswerSource, personas: NameOrPath | None = None) -> Answers | None:
    """As `load_scenarios`, for answers that were resolved by `resolve_scenarios` before."""
    if source.path is None or not source_has_scenarios(source):
        return None
    loaded = (
        _folder(source.path, "scenarios")
        if source.kind == "folder"
        else _published(source, source.path, scenarios=True)
    )
    return loaded if personas is None else loaded.select(load_personas(personas).ids)


def source_has_scenarios(source: AnswerSource) -> bool:
    """Whether `load_source_scenarios` gives some; read off the names of files and columns."""
    if source.path is None or source.kind == "run":
        return False
    if source.kind == "folder":
        return bool(_parquet_files(source.path, "scenarios"))
    return has_scenarios(source.path)


def source_features(source: AnswerSource, *, scenarios: bool = False) -> datasets.Features:
    """What `Answers.features` of a source will be; read off the names of columns, without the answers."""
    if source.path is None or source.kind == "run":
        return PREFERENCE_FEATURES
    if source.kind == "folder":
        files = _parquet_files(source.path, "scenarios" if scenarios else "preferences")
        replied = any(RAW_REPLY in pq.read_schema(file).names for split in files for file in files[split])
    else:
        replied = not scenarios and has_raw_replies(source.path)
    return REPLIED_PREFERENCE_FEATURES if replied else PREFERENCE_FEATURES


def source_origin(source: AnswerSource) -> Origin:
    """Where a source's answers were first given; without the dates and notes that only `load_source` knows."""
    if source.path is None:
        return Origin("survey", OUR_LICENCE)
    if source.kind == "run":
        return Origin("run", OUR_LICENCE)
    if source.kind == "folder":
        return read_origin(source.path / FOLDER_MANIFEST)
    # A local file in this shape may come from anybody, our own wide export included: what it says is what is known.
    return Origin("published", PUBLISHED_LICENCE, source.repo or source.path.name, source.commit)


def source_personas(source: AnswerSource, personas: NameOrPath | None = None) -> PersonaSet | None:
    """The persona set that the answers of a source belong to.

    A run and a folder carry theirs whole, whatever is installed; a set of the same name is not it. The published tables
    are of the seven personas of `britains_choice_2020`.

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
    if source.kind == "published":
        recorded: PersonaSet | None = load_personas(DEFAULT_PERSONA_SET)
    else:
        recorded = _recorded_personas(source.path / (RUN_MANIFEST if source.kind == "run" else FOLDER_MANIFEST))
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
    record = tree["personas"].get("record") if manifest.name == RUN_MANIFEST else tree.get("persona_set")
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
        preferences: m rows with the columns and types of `PREFERENCE_FEATURES` or `REPLIED_PREFERENCE_FEATURES`, in any
            order.
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
    kept = [name for name in preferences.column_names if name in (*_RECORD_COLUMNS, RAW_REPLY)]
    narrow = preferences.select(kept).append_column("row", pa.array(row, pa.int64()))
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
    for persona, (answer, probabilities) in all_survey_answers(questions, personas).items():
        records[persona] = pa.table(
            {
                "row": pa.array(np.arange(count)),
                "respondent": pa.repeat(pa.scalar(respondent), count),
                "answer": pa.array(answer, pa.int64()),
                "probabilities": pa.ListArray.from_arrays(offsets, pa.array(probabilities.ravel(), pa.float32())),
                "status": pa.repeat(pa.scalar("ok"), count),
            }
        )
    return Answers(questions, split_of(questions), records, Origin("survey", OUR_LICENCE))


def _checked(preferences: pa.Table, is_test: NDArray[np.bool_], path: Path, origin: Origin) -> Answers:
    """Records of a run or folder in the compact form."""
    if not len(preferences):
        raise ValueError(
            f"answers must hold at least one record; got none in {path}. Ask with `fairpp generate`, or use other answers."
        )
    return replace(compact(preferences, is_test, where=str(path)), origin=origin)


def _answered_on(run: Path) -> str | None:
    """UTC dates of a run's first and last reply, joined by a slash where they differ."""
    with contextlib.closing(connect(run / JOURNAL, "ro")) as journal:
        dates = journal.execute(
            "SELECT date(min(created_at), 'unixepoch'), date(max(created_at), 'unixepoch') "
            "FROM requests JOIN replies USING (key)"
        ).fetchone()
    return "/".join(dict.fromkeys(dates))


def _folder(folder: Path, config: str) -> Answers:
    """The records of a dataset folder's config; scenarios are all of them test questions."""
    tables = {
        split: [_checked_columns(pq.read_table(file, partitioning=None), folder) for file in files]
        for split, files in _parquet_files(folder, config).items()
    }
    lengths = {split: sum(map(len, tables[split])) for split in tables}
    # Files without raw replies get nulls beside files that have some.
    preferences = pa.concat_tables([table for split in tables for table in tables[split]], promote_options="default")
    is_test = np.repeat([split == "test" for split in lengths], list(lengths.values()))
    return _checked(preferences, is_test, folder, read_origin(folder / FOLDER_MANIFEST))


def _published(source: AnswerSource, path: Path, *, scenarios: bool = False) -> Answers:
    """The published tables as answers; what was counted at import is told in the log."""
    show_licence()
    imported = import_tables(path, scenarios=scenarios)
    origin = source_origin(source)._replace(notes=imported.notes)
    return Answers(imported.questions, imported.is_test, imported.records, origin)


@cache
def show_licence() -> None:
    """The licence of the published tables, once in the log of a process."""
    logger.warning(
        "fairpp: the published tables of Fair-PP are licensed under CC BY-NC-SA 4.0, and so is what is derived from them: "
        "name the authors, no commercial use, share alike."
    )


def _parquet_files(folder: Path, config: str = "preferences") -> dict[str, list[Path]]:
    """Parquet files of a config of a dataset folder, by split; splits without files are left out."""
    splits = ("test",) if config == "scenarios" else SPLITS
    files = {split: sorted(folder.glob(f"{config}/{split}-*.parquet")) for split in splits}
    return {split: found for split, found in files.items() if found}


def _checked_columns(preferences: pa.Table, where: str | Path) -> pa.Table:
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
