"""Writes a dataset folder in Hub layout: README.md with YAML configs, its figures, and a Parquet file for each config and
split.

The folder loads with `load_dataset("./folder", "preferences")`, without this package, and its bytes depend on the input
alone.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features
from tqdm.auto import tqdm

from fairpp_hf import __version__
from fairpp_hf.dataset.answer_pairs import answer_pairs
from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.folder_facts import (
    FolderFacts,
    SplitFacts,
    TargetFacts,
    agreement_matrix,
    answers_are_ours,
    count_answers,
    count_statuses,
    dimensions_of,
    over_dimensions,
    parquet_path,
    target_facts,
)
from fairpp_hf.dataset.sources import (
    SURVEY,
    AnswerSource,
    NameOrPath,
    NoRecords,
    resolve_answers,
)
from fairpp_hf.hub.cards import draw_dataset_card
from fairpp_hf.hub.owned_folder import CARD, WrittenFile, write_owned_folder, written
from fairpp_hf.naming import check_name
from fairpp_hf.personas import PersonaSet
from fairpp_hf.preferences import PairSettings
from fairpp_hf.provenance import FOLDER_MANIFEST
from fairpp_hf.questions import SPLITS, load_questions
from fairpp_hf.schema import NO_ANSWER, PAIR_FEATURES, QUESTION_FEATURES, SOFT_PAIR_FEATURES

logger = logging.getLogger(__name__)


def build_dataset_folder(
    out: NameOrPath,
    *,
    answers: NameOrPath = SURVEY,
    personas: NameOrPath | None = None,
    published_revision: str | None = None,
    targets: Sequence[str] | None = None,
    pairs: PairSettings | None = None,
    progress: bool = True,
) -> list[WrittenFile]:
    """Write a dataset folder with its card and figures.

    Args:
        out: The folder: new, empty, or written by an earlier call, whose files are then replaced. Files that an earlier
            call did not write are left alone, and what people wrote on the card stays, see `merge_cards`.
        answers: `"survey"`, `"published"`, or the path of a run, a dataset folder or a published table.
        personas: See `load_answers`.
        published_revision: See `load_answers`; for the answers, not for the scenarios.
        targets: Personas that get a config `pairs-<persona>`; by default all that have a valid answer and are not named
            in `pairs.comparison`.
        pairs: How pairs are made; `PairSettings()` by default. Shares are those of the persona set.
        progress: Show a progress bar.

    Returns:
        The files, in the order of the configs, then the figures, the card last. The build's manifest is not among them.

    Raises:
        ValueError: `out` holds files of other origin, a text is not valid UTF-8, a target cannot name a config, or as
            `load_answers` and `preference_weights` do.
    """
    settings = PairSettings() if pairs is None else pairs
    source = resolve_answers(answers, published_revision)
    # What was resolved once is what is loaded and recorded, wherever a branch points by then.
    loaded = source.load(personas)
    for persona in settings.named:
        check_name("comparison", persona, loaded.personas)
    if targets is None:
        targets = _possible_targets(loaded, settings)
    for target in targets:
        check_name("target", target, loaded.personas)
        _check_config_name(target)
    # The published scenarios are a dataset of their own, which does not have the revisions of the answers'.
    scenes = resolve_answers(answers, scenarios=True)
    contents = _Contents(
        loaded,
        _load_scenarios(scenes, personas),
        source.persona_set(personas),
        tuple(dict.fromkeys(targets)),
        settings,
        {},
    )

    def build(folder: Path) -> tuple[Mapping[str, Any], list[WrittenFile]]:
        files, splits = _write_parquet(folder, Path(out).name, contents, progress)
        facts = _facts(contents, splits)
        card = draw_dataset_card(facts)
        for name in sorted(card, key=lambda name: (name == CARD, name)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(card[name])
            files.append(written(folder, name))
        return _manifest(facts, source), files

    return write_owned_folder(out, FOLDER_MANIFEST, "fairpp build", build)


def _load_scenarios(source: AnswerSource, personas: NameOrPath | None) -> Answers | None:
    """The answers to scenarios; None where there are none, or none yet."""
    if not source.has_scenarios():
        return None
    try:
        return source.load(personas)
    except NoRecords as error:
        logger.warning("The scenarios have no answers yet and are left out: %s", error)
        return None


class _Contents(NamedTuple):
    """What goes into a folder, in compact form: its tables are laid out one at a time."""

    answers: Answers
    scenarios: Answers | None
    persona_set: PersonaSet | None
    targets: Sequence[str]
    pairs: PairSettings
    target_facts: dict[str, TargetFacts]
    """Of the targets whose pairs were laid out."""

    def features(self) -> dict[str, Features]:
        """Config to its columns, in the order of the configs."""
        features = {"questions": QUESTION_FEATURES, "preferences": self.answers.features}
        if self.scenarios is not None:
            features["scenarios"] = self.scenarios.features
        of_pairs = SOFT_PAIR_FEATURES if self.pairs.soft else PAIR_FEATURES
        return features | {f"pairs-{target}": of_pairs for target in self.targets}

    def tables(self) -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
        """Config, split and the tables of its file; a split without rows, as in a run over the test split, has none."""
        answers = self.answers
        if answers_are_ours(answers.questions):
            for split in SPLITS:
                yield "questions", split, iter([load_questions(split)])
        else:
            # Others' questions: ours would go by the same ids, under another licence and with other words.
            for split, rows in (("train", ~answers.is_test), ("test", answers.is_test)):
                yield "questions", split, iter([answers.questions.filter(pa.array(rows))])
        for split in SPLITS:
            yield "preferences", split, answers.preferences(split)
        if self.scenarios is not None:
            for split in SPLITS:
                yield "scenarios", split, self.scenarios.preferences(split)
        for target in self.targets:
            yield from self._pair_tables(target)

    def _pair_tables(self, target: str) -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
        made = answer_pairs(self.answers, target, self.pairs, self.persona_set)
        for note in made.notes:
            logger.warning(note)
        if not any(map(len, made.tables.values())):
            raise ValueError(f"target must have at least one valid answer; got none of {target!r}. Leave it out.")
        self.target_facts[target] = target_facts(self.answers, target, made)
        for split in SPLITS:
            yield f"pairs-{target}", split, iter([made.tables[split]])


def _possible_targets(answers: Answers, settings: PairSettings) -> tuple[str, ...]:
    """Personas with a valid answer that are not compared with; none where there is nobody to compare with."""
    if len(answers.personas) < 2:
        return ()
    return tuple(
        persona
        for persona, column in answers.matrix().items()
        if persona not in settings.named and (column != NO_ANSWER).any()
    )


def _check_config_name(target: str) -> None:
    """A target names a config and with it a folder; a persona of a folder from elsewhere may be called anything."""
    if not re.fullmatch(r"\w[\w.-]*", target, re.ASCII):
        raise ValueError(
            f"target must be made of letters, digits, '_', '-' and '.' to name a config; got {target!r}. Leave it out of "
            "targets."
        )


def _write_parquet(
    folder: Path, name: str, contents: _Contents, progress: bool
) -> tuple[list[WrittenFile], dict[str, dict[str, SplitFacts]]]:
    files = []
    splits: dict[str, dict[str, SplitFacts]] = {}
    jobs = len(SPLITS) * len(contents.features())
    with tqdm(total=jobs, desc=f"Writing {name}", unit=" files", disable=not progress) as bar:
        for config, split, tables in contents.tables():
            bar.set_description(f"Writing {config}/{split}")
            first = next(tables, None)
            if first is not None and len(first):
                path = str(parquet_path(config, split))
                (folder / config).mkdir(exist_ok=True)
                rows, num_bytes = _write_tables(folder / path, first, tables)
                file = written(folder, path, config, split, rows)
                files.append(file)
                splits.setdefault(config, {})[split] = SplitFacts(rows, num_bytes, file.size, file.sha256)
            bar.update()
    return files, splits


def _write_tables(path: Path, first: pa.Table, rest: Iterable[pa.Table]) -> tuple[int, int]:
    """Write tables of one schema as a row group each, so that one can be read without the others.

    Returns:
        Rows, and bytes in memory.
    """
    rows = num_bytes = 0
    # In memory first: where a disk is full, Arrow would end the process, and leave what it has built.
    sink = pa.BufferOutputStream()
    # Chunk borders that follow the content let the Hub store only what a new version changes.
    with pq.ParquetWriter(
        sink, first.schema, compression="zstd", use_content_defined_chunking=True, write_page_index=True
    ) as writer:
        for table in chain([first], rest):
            _check_texts(table, path.parent.name)
            writer.write_table(table, row_group_size=len(table))
            rows += len(table)
            num_bytes += table.nbytes
    path.write_bytes(sink.getvalue())
    return rows, num_bytes


def _check_texts(table: pa.Table, config: str) -> None:
    """Check that all texts of a table are valid UTF-8, which Arrow leaves to whoever reads them."""
    if _is_valid(table):
        return
    row = next(row for row in range(len(table)) if not _is_valid(table.slice(row, 1)))
    faulty = table.slice(row, 1)
    column = next(name for name in table.column_names if not _is_valid(faulty.select([name])))
    names = [
        repr(faulty[name].cast(pa.binary())[0].as_py().decode("utf-8", "backslashreplace"))
        for name in ("question_id", "persona")
        if name in table.column_names
    ]
    raise ValueError(
        f"Column {column!r} must be valid UTF-8; got a text that is not, such as half of a surrogate pair, at "
        f"{' of '.join(names)} of {config}. Other tools cannot read it. Correct the text where the answers come from."
    )


def _is_valid(table: pa.Table) -> bool:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _facts(contents: _Contents, splits: dict[str, dict[str, SplitFacts]]) -> FolderFacts:
    answers, scenarios = contents.answers, contents.scenarios
    scenario_counts = count_answers(scenarios) if scenarios else {}
    return FolderFacts(
        version=__version__,
        provenance=replace(answers.provenance, respondents=answers.respondents),
        scenarios=scenarios.provenance if scenarios else None,
        persona_set=contents.persona_set,
        personas=answers.personas,
        dimensions=dimensions_of(answers.questions),
        own_questions=answers_are_ours(answers.questions),
        question_count=len(answers.questions),
        answer_counts=count_answers(answers),
        status_counts=count_statuses(answers),
        agreement=agreement_matrix(answers.matrix()),
        scenario_counts={persona: over_dimensions(counts) for persona, counts in scenario_counts.items()},
        pairs=contents.pairs,
        targets=contents.target_facts,
        splits=splits,
        features={config: features for config, features in contents.features().items() if config in splits},
    )


def _manifest(facts: FolderFacts, source: AnswerSource) -> dict[str, Any]:
    # The persona set and the run are in the provenance of the answers.
    scenarios = replace(facts.scenarios, persona_set=None, run=None).to_dict() if facts.scenarios else None
    return {
        "version": facts.version,
        "answers": {"kind": source.kind, "fingerprint": source.fingerprint()},
        "provenance": facts.provenance.to_dict(),
        "scenarios": scenarios,
        "personas": facts.personas,
        "targets": tuple(facts.targets),
        "pairs": facts.pairs.as_dict(),
        "answer_counts": {persona: over_dimensions(counts) for persona, counts in facts.answer_counts.items()},
        "status_counts": facts.status_counts,
    }
