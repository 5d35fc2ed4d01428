"""Where the answers of a dataset come from: the survey respondent, a run, a dataset folder, or the published tables.

`resolve_answers` finds out which of them the argument `answers` means, so that what is wrong with it is said before
anything is read. Each is an `AnswerSource`, which loads into the same compact form, `Answers`.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers, checked_columns, compact, warn_once
from fairpp_hf.dataset.published import has_raw_replies, has_scenarios, import_tables
from fairpp_hf.dataset.published_files import (
    PUBLISHED_REPO,
    SCENARIOS_REPO,
    download_tables,
    is_table_source,
    read_export,
    tables_fingerprint,
)
from fairpp_hf.dataset.run_record import answered_on, run_record, without_folders
from fairpp_hf.naming import nearest
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.provenance import FOLDER_MANIFEST, OUR_LICENCE, PUBLISHED_LICENCE, UNKNOWN, Provenance, read_provenance
from fairpp_hf.questions import SPLITS, load_questions, split_of
from fairpp_hf.respondents.survey import SurveyRespondent, all_survey_answers
from fairpp_hf.runs.layout import JOURNAL, scenarios_folder
from fairpp_hf.runs.layout import MANIFEST as RUN_MANIFEST
from fairpp_hf.runs.manifest import provenance_of, read_manifest
from fairpp_hf.runs.records import load_run, run_fingerprint
from fairpp_hf.scenarios.files import has_answered_scenarios
from fairpp_hf.schema import PREFERENCE_FEATURES, RAW_REPLY, REPLIED_PREFERENCE_FEATURES

NameOrPath: TypeAlias = str | Path

SURVEY = "survey"
PUBLISHED = "published"


class NoRecords(ValueError):
    """A source holds no answer yet."""


class AnswerSource(Protocol):
    """Something that answers come from: to questions, or to scenarios, which are questions told as vignettes."""

    kind: ClassVar[str]

    def load(self, personas: NameOrPath | None = None) -> Answers:
        """Load the answers.

        Args:
            personas: Name or file of a persona set, whose personas are chosen. All that answered by default.

        Raises:
            ValueError: There are no records, a record is malformed, or a persona of the set is not among the answers.
        """

    def provenance(self) -> Provenance:
        """What is known of the answers' provenance before they are loaded."""

    def persona_set(self, personas: NameOrPath | None = None) -> PersonaSet | None:
        """The persona set that the answers belong to.

        A run, a folder and an export carry theirs whole, whatever is installed; a set of the same name is not it. The
        published tables are of the seven personas of `britains_choice_2020`.

        Args:
            personas: Name or file of a persona set. It is the survey respondent's, and that of a source without a record
                of its own; beside a record it only chooses among the personas.

        Returns:
            None where there is no record and `personas` is not given.
        """

    def features(self) -> datasets.Features:
        """What `Answers.features` will be; read off the names of columns, without the answers."""
        return PREFERENCE_FEATURES

    def fingerprint(self) -> str:
        """Changes whenever the answers change; empty for the survey respondent, whose answers are part of the code."""
        return ""

    def has_scenarios(self) -> bool:
        """Whether there are answers to scenarios; read off the names of files and columns."""
        return False


# Finding


def resolve_answers(
    answers: NameOrPath, published_revision: str | None = None, *, scenarios: bool = False
) -> AnswerSource:
    """Find out what the `answers` argument of the dataset means.

    Args:
        answers: `"survey"`, `"published"`, the path of a run, of a dataset folder, or of CSV or Parquet files in the shape
            of the published tables. `"published"` is downloaded from the Hub unless it is in its cache.
        published_revision: Branch, tag or commit of the published tables, `main` by default.
        scenarios: Look for answers to scenarios, which the source then loads; ask its `has_scenarios` first.
            `"published"` is another dataset then, with its own revisions, and a folder in which `fairpp scenarios` alone
            has run is a run, too.

    Raises:
        ValueError: It is none of these, or `published_revision` is given for other answers or is unknown.
        OSError: The published tables can neither be downloaded nor found in the cache.
    """
    if answers == PUBLISHED:
        repo = SCENARIOS_REPO if scenarios else PUBLISHED_REPO
        folder = download_tables(repo, published_revision)
        return PublishedSource(folder, scenarios, repo, folder.name)
    if published_revision is not None:
        raise ValueError(
            f"published_revision must only be given with answers='published'; got {published_revision!r} with "
            f"answers={str(answers)!r}. Leave it out."
        )
    if answers == SURVEY:
        return SurveySource()
    rule = "answers must be 'survey', 'published', or the path of a run, a dataset folder or published tables"
    path = Path(answers).expanduser().resolve()
    if not path.exists():
        close = nearest(str(answers), [SURVEY, PUBLISHED])
        hint = f" Did you mean {close!r}?" if close else ""
        raise ValueError(f"{rule}; got {str(answers)!r}, and there is nothing at {path}.{hint}")
    if _is_run(path) or (scenarios and has_answered_scenarios(path)):
        return RunSource(path, scenarios)
    if has_answered_scenarios(path):
        raise ValueError(
            f"{rule}; got {str(answers)!r}, in which only scenarios were answered. Use config 'scenarios', or ask the "
            "questions themselves in this run."
        )
    if _parquet_files(path, "preferences"):
        return FolderSource(path, scenarios)
    if is_table_source(path):
        return PublishedSource(path, scenarios)
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
        answers: See `resolve_answers`.
        personas: Name or file of a persona set. The survey respondent answers for `britains_choice_2020` by default;
            other sources give all their personas by default, otherwise those of the set.
        published_revision: See `resolve_answers`.

    Raises:
        ValueError: As `resolve_answers` and `AnswerSource.load` do.
        OSError: As `resolve_answers` does.
    """
    return resolve_answers(answers, published_revision).load(personas)


# The sources


@dataclass(frozen=True)
class SurveySource(AnswerSource):
    """The survey respondent: simulated answers that are computed whenever they are wanted. It has no scenarios."""

    kind: ClassVar[str] = SURVEY

    def load(self, personas: NameOrPath | None = None) -> Answers:
        personas = DEFAULT_PERSONA_SET if personas is None else personas
        return _shipped_survey(str(personas)) if personas in PERSONA_SETS else _survey(load_personas(personas))

    def provenance(self) -> Provenance:
        # Without the respondent, whose name depends on the persona set.
        return Provenance("survey", licence=OUR_LICENCE)

    def persona_set(self, personas: NameOrPath | None = None) -> PersonaSet | None:
        return load_personas(DEFAULT_PERSONA_SET if personas is None else personas)


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
    provenance = Provenance("survey", (respondent,), licence=OUR_LICENCE, persona_set=personas.as_dict())
    return Answers(questions, split_of(questions), records, provenance)


@dataclass(frozen=True)
class RunSource(AnswerSource):
    """A run of `generate`, or the scenarios that were answered in it, which are a run of their own.

    Args:
        path: Absolute path of the run's directory.
        scenarios: Whether the answers to scenarios are meant.
    """

    path: Path
    scenarios: bool = False
    kind: ClassVar[str] = "run"

    @property
    def _folder(self) -> Path:
        return scenarios_folder(self.path) if self.scenarios else self.path

    def load(self, personas: NameOrPath | None = None) -> Answers:
        preferences = load_run(self._folder)
        manifest = read_manifest(self._folder)
        assert manifest is not None  # its records were read
        # A server may have its model by a path on its disk, which is nobody's business.
        respondent = manifest["respondent"]
        name = without_folders(respondent["name"], respondent["settings"])
        at = preferences.column_names.index("respondent")
        field = preferences.schema.field(at)
        preferences = preferences.set_column(at, field, pa.repeat(pa.scalar(name, field.type), len(preferences)))
        is_test = np.ones(len(preferences), dtype=np.bool_) if self.scenarios else split_of(preferences)
        provenance = replace(self.provenance(), created=answered_on(self._folder), run=run_record(self.path))
        return _finished(_compact(preferences, is_test, self._folder), provenance, self, personas)

    def provenance(self) -> Provenance:
        manifest = read_manifest(self._folder)
        return UNKNOWN if manifest is None else provenance_of(manifest)

    def persona_set(self, personas: NameOrPath | None = None) -> PersonaSet | None:
        return _recorded_set(self.provenance().persona_set, self.path, personas)

    def fingerprint(self) -> str:
        return run_fingerprint(self._folder)

    def has_scenarios(self) -> bool:
        return has_answered_scenarios(self.path)


@dataclass(frozen=True)
class FolderSource(AnswerSource):
    """A dataset folder: one of ours, or any in Hub layout with the columns of `PREFERENCE_FEATURES`.

    Args:
        path: Absolute path of the folder.
        scenarios: Whether config `scenarios` is meant, instead of `preferences`.
    """

    path: Path
    scenarios: bool = False
    kind: ClassVar[str] = "folder"

    @property
    def _files(self) -> dict[str, list[Path]]:
        return _parquet_files(self.path, "scenarios" if self.scenarios else "preferences")

    def load(self, personas: NameOrPath | None = None) -> Answers:
        tables = {
            split: [checked_columns(pq.read_table(file, partitioning=None), self.path) for file in files]
            for split, files in self._files.items()
        }
        # Files without raw replies get nulls beside files that have some.
        preferences = pa.concat_tables(
            [table for split in tables for table in tables[split]], promote_options="default"
        )
        is_test = np.repeat([split == "test" for split in tables], [sum(map(len, tables[split])) for split in tables])
        return _finished(_compact(preferences, is_test, self.path), self.provenance(), self, personas)

    def provenance(self) -> Provenance:
        return read_provenance(self.path / FOLDER_MANIFEST, "scenarios" if self.scenarios else "provenance")

    def persona_set(self, personas: NameOrPath | None = None) -> PersonaSet | None:
        record = read_provenance(self.path / FOLDER_MANIFEST).persona_set
        return _recorded_set(record, self.path, personas)

    def features(self) -> datasets.Features:
        files = [file for found in self._files.values() for file in found]
        replied = any(RAW_REPLY in pq.read_schema(file).names for file in files)
        return REPLIED_PREFERENCE_FEATURES if replied else PREFERENCE_FEATURES

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for split, files in self._files.items():
            for file in files:
                digest.update(f"{split}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
        return digest.hexdigest()

    def has_scenarios(self) -> bool:
        return bool(_parquet_files(self.path, "scenarios"))


def _parquet_files(folder: Path, config: str) -> dict[str, list[Path]]:
    """Parquet files of a config of a dataset folder, by split; splits without files are left out."""
    splits = ("test",) if config == "scenarios" else SPLITS
    files = {split: sorted(folder.glob(f"{config}/{split}-*.parquet")) for split in splits}
    return {split: found for split, found in files.items() if found}


@dataclass(frozen=True)
class PublishedSource(AnswerSource):
    """The paper's tables, in the Hub's cache or on this machine, or a wide table that `fairpp export` wrote.

    Args:
        path: Absolute path of a folder or file.
        scenarios: Whether the answers to scenarios are meant.
        repo: Hub dataset of the tables; None for those that were on this machine before.
        commit: Commit of that dataset, 40 hexadecimal digits.
    """

    path: Path
    scenarios: bool = False
    repo: str | None = None
    commit: str | None = None
    kind: ClassVar[str] = PUBLISHED

    def load(self, personas: NameOrPath | None = None) -> Answers:
        provenance = self.provenance()
        if provenance.licence == PUBLISHED_LICENCE:
            show_licence()
        answers, notes = import_tables(self.path, scenarios=self.scenarios)
        # What was counted when answers were first imported goes with an export of them.
        provenance = replace(provenance, notes=tuple(dict.fromkeys((*provenance.notes, *notes))))
        return _finished(answers, provenance, self, personas)

    def provenance(self) -> Provenance:
        # A local file in this shape that is no export of ours is taken for what it looks like.
        if (export := read_export(self.path)) is not None:
            return export.provenance
        return Provenance(
            "published", licence=PUBLISHED_LICENCE, source=self.repo or self.path.name, revision=self.commit
        )

    def persona_set(self, personas: NameOrPath | None = None) -> PersonaSet | None:
        if (export := read_export(self.path)) is not None:
            return _recorded_set(export.provenance.persona_set, self.path, personas)
        return load_personas(DEFAULT_PERSONA_SET)

    def features(self) -> datasets.Features:
        replied = not self.scenarios and has_raw_replies(self.path)
        return REPLIED_PREFERENCE_FEATURES if replied else PREFERENCE_FEATURES

    def fingerprint(self) -> str:
        return self.commit or tables_fingerprint(self.path)

    def has_scenarios(self) -> bool:
        return has_scenarios(self.path)


def show_licence() -> None:
    """The licence of the published tables, once in the log of a process."""
    warn_once(
        "fairpp: the published tables of Fair-PP are licensed under CC BY-NC-SA 4.0, and so is what is derived from them: "
        "name the authors, no commercial use, share alike."
    )


# What they share


def _finished(answers: Answers, provenance: Provenance, source: AnswerSource, personas: NameOrPath | None) -> Answers:
    """Answers with their provenance, of the personas that were asked for."""
    persona_set = source.persona_set(personas)
    provenance = replace(
        provenance,
        respondents=answers.respondents,
        persona_set=None if persona_set is None else persona_set.as_dict(),
    )
    answers = replace(answers, provenance=provenance)
    return answers if personas is None else answers.select(load_personas(personas).ids)


def _compact(preferences: pa.Table, is_test: NDArray[np.bool_], path: Path) -> Answers:
    if not len(preferences):
        raise NoRecords(f"answers must hold at least one record; got none in {path}. Ask first, or use other answers.")
    return compact(preferences, is_test, where=str(path))


def _recorded_set(record: Any, where: Path, personas: NameOrPath | None) -> PersonaSet | None:
    """The persona set of a record; the given one where there is no record."""
    given = None if personas is None else load_personas(personas)
    if record is None:
        return given
    recorded = recorded_personas(json.loads(json.dumps(record)), str(where))
    if given is not None and given.digest != recorded.digest:
        warn_once(
            f"The answers of {where} were given by the persona set {recorded.id!r} as it is recorded there, which differs "
            f"from {str(personas)!r}: the record counts."
        )
    return recorded
