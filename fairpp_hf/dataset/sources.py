"""Where the answers of a dataset come from: the survey respondent, a run, a dataset folder, or the published tables.

Every source is found first (`resolve_answers`), so that what is wrong with it is said before anything is read, and then
ends in the same compact form, `Answers`.
"""

import hashlib
import json
import logging
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers, checked_columns, compact
from fairpp_hf.dataset.exported_tables import read_export
from fairpp_hf.dataset.folder_manifest import FOLDER_MANIFEST
from fairpp_hf.dataset.origin import OUR_LICENCE, PUBLISHED_LICENCE, Origin, read_origin
from fairpp_hf.dataset.published import has_raw_replies, has_scenarios, import_tables
from fairpp_hf.dataset.published_files import (
    PUBLISHED_REPO,
    SCENARIOS_REPO,
    download_tables,
    is_table_source,
    snapshot_fingerprint,
    tables_fingerprint,
)
from fairpp_hf.dataset.run_record import answered_on, folder_run_record, run_record, without_folders
from fairpp_hf.naming import nearest
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.questions import SPLITS, load_questions, split_of
from fairpp_hf.respondents.survey import SurveyRespondent, all_survey_answers
from fairpp_hf.runs.layout import JOURNAL, scenarios_folder
from fairpp_hf.runs.layout import MANIFEST as RUN_MANIFEST
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.records import load_run, run_fingerprint
from fairpp_hf.scenarios.files import has_answered_scenarios, load_scenario_questions
from fairpp_hf.schema import PREFERENCE_FEATURES, RAW_REPLY, REPLIED_PREFERENCE_FEATURES

logger = logging.getLogger(__name__)

NameOrPath: TypeAlias = str | Path

SURVEY = "survey"
PUBLISHED = "published"


class AnswerSource(NamedTuple):
    """What the `answers` argument points at."""

    kind: Literal["survey", "run", "folder", "published"]
    path: Path | None
    """Absolute; None for the survey respondent. Published tables lie in the cache of the Hub, or where the user has them."""
    repo: str | None = None
    """Hub dataset of published tables; None for those that were on this machine before."""
    commit: str | None = None
    """Of that dataset, 40 hexadecimal digits."""

    def fingerprint(self, *, scenarios: bool = False) -> str:
        """Changes whenever the answers change; empty for the survey respondent, whose answers are part of the code.

        Args:
            scenarios: whether the answers to scenarios are meant, which in a run are a run of their own.
        """
        if self.path is None:
            return ""
        if self.commit is not None:
            return f"{self.commit}-{snapshot_fingerprint(self.path)}"
        if self.kind == "run":
            answered = scenarios and has_answered_scenarios(self.path)
            return run_fingerprint(scenarios_folder(self.path) if answered else self.path)
        if self.kind == "published":
            tables, export = tables_fingerprint(self.path), read_export(self.path)
            # The same columns may be other personas'.
            record = "" if export is None else f"-{hashlib.sha256(json.dumps(export.record).encode()).hexdigest()}"
            return tables + record
        digest = hashlib.sha256()
        for config in ("preferences", "scenarios"):
            for split, files in _parquet_files(self.path, config).items():
                for file in files:
                    content = hashlib.sha256(file.read_bytes()).hexdigest()
                    digest.update(f"{config}\0{split}\0{content}\0".encode())
        return digest.hexdigest()


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
    """As `resolve_answers`, for the answers to scenarios: `"published"` is another dataset then, with its own revisions.

    A folder in which `fairpp scenarios` alone has run is a run, too.
    """
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
    if _is_run(path):
        return AnswerSource("run", path)
    if has_answered_scenarios(path):
        if repo == SCENARIOS_REPO:
            return AnswerSource("run", path)
        raise ValueError(
            f"{rule}; got {str(answers)!r}, in which only scenarios were answered. Use config 'scenarios', or ask the "
            f"questions themselves with `fairpp generate --run {path}`."
        )
    if _parquet_files(path):
        return AnswerSource("folder", path)
    if is_table_source(path):
        return AnswerSource("published", path)
    raise ValueError(
        f"{rule}; got {str(answers)!r}, which is none of them. A run holds {RUN_MANIFEST} and {JOURNAL}, a dataset folder "
        "holds preferences/train-*.parquet or preferences/test-*.parquet, and published tables are CSV or Parquet files. "
        "Make one with `fairpp generate` or `fairpp build`."
    )


def _is_run(path: Path) -> bool:
    return (path / RUN_MANIFEST).is_file() and (path / JOURNAL).is_file()


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
        preferences = _without_folders(load_run(source.path), source.path)
        origin = source_origin(source)._replace(answered_on=answered_on(source.path))
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
        None where the source has no scenarios: the survey respondent has none, and a run has some once `fairpp scenarios`
        was run on it and a scenario has all its answers.

    Raises:
        ValueError: as `load_answers` does.
        OSError: as `resolve_answers` does.
    """
    return load_source_scenarios(resolve_scenarios(answers, published_revision), personas)


def load_source_scenarios(source: AnswerSource, personas: NameOrPath | None = None) -> Answers | None:
    """As `load_scenarios`, for answers that were resolved by `resolve_scenarios` before."""
    if source.path is None or not source_has_scenarios(source):
        return None
    if source.kind == "run":
        answered = _run_scenarios(source, source.path)
        if answered is None:
            return None
        loaded = answered
    elif source.kind == "folder":
        loaded = _folder(source.path, "scenarios")
    else:
        loaded = _published(source, source.path, scenarios=True)
    return loaded if personas is None else loaded.select(load_personas(personas).ids)


def source_has_scenarios(source: AnswerSource) -> bool:
    """Whether `load_source_scenarios` gives some; read off the names of files and columns."""
    if source.path is None:
        return False
    if source.kind == "run":
        return has_answered_scenarios(source.path)
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
    if (export := read_export(source.path)) is not None:
        return export.origin()
    # Another local file in this shape may come from anybody: it is taken for what it looks like.
    return Origin("published", PUBLISHED_LICENCE, source.repo or source.path.name, source.commit)


def source_run_record(source: AnswerSource) -> dict[str, Any] | None:
    """The record of the run that a source's answers come from, see `run_record`; None where it is no run's, or unknown."""
    if source.path is None or source.kind == "published":
        return None
    return run_record(source.path) if source.kind == "run" else folder_run_record(source.path)


def source_personas(source: AnswerSource, personas: NameOrPath | None = None) -> PersonaSet | None:
    """The persona set that the answers of a source belong to.

    A run, a folder and an export carry theirs whole, whatever is installed; a set of the same name is not it. The
    published tables are of the seven personas of `britains_choice_2020`.

    Args:
        source: where the answers come from.
        personas: name or file of a persona set. It is the survey respondent's, and that of a run, folder or export without
            a record of its own; beside a record it only chooses among the personas.

    Returns:
        The set; None where there is no record, or one that cannot be read, and `personas` is not given.
    """
    if source.path is None:
        return load_personas(DEFAULT_PERSONA_SET if personas is None else personas)
    given = None if personas is None else load_personas(personas)
    recorded: PersonaSet | None
    if source.kind == "published":
        export = read_export(source.path)
        recorded = (
            load_personas(DEFAULT_PERSONA_SET)
            if export is None
            else _recorded_set(export.record.get("persona_set"), export.where)
        )
    else:
        recorded = _recorded_personas(_manifest_of(source.kind, source.path))
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


def _manifest_of(kind: str, path: Path) -> Path:
    if kind != "run":
        return path / FOLDER_MANIFEST
    return (path if _is_run(path) else scenarios_folder(path)) / RUN_MANIFEST


def _recorded_personas(manifest: Path) -> PersonaSet | None:
    """The persona set in the manifest of a run or folder; None where there is none, or one that cannot be read."""
    if not manifest.is_file():
        return None
    try:
        tree = json.loads(manifest.read_bytes())
        record = tree["personas"].get("record") if manifest.name == RUN_MANIFEST else tree.get("persona_set")
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        logger.warning("The persona set of these answers is unknown: %s cannot be read (%r).", manifest, error)
        return None
    return _recorded_set(record, manifest)


def _recorded_set(record: object, where: Path) -> PersonaSet | None:
    """The persona set of a record; None where it has none, or one that cannot be read, which is logged."""
    # Before sets were recorded whole, there was a name here, which may mean another set by now.
    if not isinstance(record, dict):
        return None
    try:
        return recorded_personas(record, str(where))
    except (KeyError, TypeError, AttributeError) as error:
        logger.warning("The persona set of these answers is unknown: %s cannot be read (%r).", where, error)
    except ValueError as error:
        logger.warning("The persona set of these answers is unknown: %s", error)
    return None


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


def _run_scenarios(source: AnswerSource, run: Path) -> Answers | None:
    """The answers to a run's scenarios; None where no scenario has all its answers yet, which is logged."""
    folder = scenarios_folder(run)
    preferences = _without_folders(load_run(folder, load_scenario_questions(run)), folder)
    if not len(preferences):
        logger.warning("The scenarios of %s have no answers yet: they are left out. Run `fairpp scenarios` again.", run)
        return None
    origin = source_origin(source)._replace(answered_on=answered_on(folder))
    return _checked(preferences, np.ones(len(preferences), dtype=np.bool_), folder, origin)


def _without_folders(preferences: pa.Table, run: Path) -> pa.Table:
    """A run's records, its respondent without the folder of a model that a server has by its path."""
    manifest = read_manifest(run)
    assert manifest is not None  # its records were read
    respondent = manifest["respondent"]
    name = without_folders(respondent["name"], respondent["settings"])
    at = preferences.column_names.index("respondent")
    column = pa.repeat(pa.scalar(name, preferences.schema.field(at).type), len(preferences))
    return preferences.set_column(at, preferences.schema.field(at), column)


def _folder(folder: Path, config: str) -> Answers:
    """The records of a dataset folder's config; scenarios are all of them test questions."""
    tables = {
        split: [checked_columns(pq.read_table(file, partitioning=None), folder) for file in files]
        for split, files in _parquet_files(folder, config).items()
    }
    lengths = {split: sum(map(len, tables[split])) for split in tables}
    # Files without raw replies get nulls beside files that have some.
    preferences = pa.concat_tables([table for split in tables for table in tables[split]], promote_options="default")
    is_test = np.repeat([split == "test" for split in lengths], list(lengths.values()))
    origin = read_origin(folder / FOLDER_MANIFEST, "scenario_origin" if config == "scenarios" else "origin")
    return _checked(preferences, is_test, folder, origin)


def _published(source: AnswerSource, path: Path, *, scenarios: bool = False) -> Answers:
    """The published tables as answers; what was counted at import is told in the log."""
    origin = source_origin(source)
    if origin.licence == PUBLISHED_LICENCE:
        show_licence()
    imported = import_tables(path, scenarios=scenarios)
    # What was counted when answers were first imported goes with an export of them.
    origin = origin._replace(notes=tuple(dict.fromkeys((*origin.notes, *imported.notes))))
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
