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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
)
from fairpp_hf.dataset.sources import SURVEY, AnswerSource, NameOrPath, NoRecords, resolve_answers
from fairpp_hf.hub.cards import draw_dataset_card
from fairpp_hf.hub.owned_folder import CARD, WrittenFile, write_owned_folder, written
from fairpp_hf.naming import check_name
from fairpp_hf.preferences import PairSettings, preference_weights
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
    loaded, persona_set = source.load(personas), source.persona_set(personas)
    for persona in settings.named:
        check_name("comparison", persona, loaded.personas)
    chosen = dict.fromkeys(_possible_targets(loaded, settings) if targets is None else targets)
    for target in chosen:
        check_name("target", target, loaded.personas)
        # A target names a config and with it a folder; a persona of a folder from elsewhere may be called anything.
        if not re.fullmatch(r"\w[\w.-]*", target, re.ASCII):
            raise ValueError(
                f"target must be made of letters, digits, '_', '-' and '.' to name a config; got {target!r}. Leave it out "
                "of targets."
            )
    # The published scenarios are a dataset of their own, which does not have the revisions of the answers'.
    told = _load_scenarios(resolve_answers(answers, scenarios=True), personas)
    records = {"preferences": loaded} | ({"scenarios": told} if told else {})
    features = {"questions": QUESTION_FEATURES} | {config: of.features for config, of in records.items()}
    features |= {f"pairs-{target}": SOFT_PAIR_FEATURES if settings.soft else PAIR_FEATURES for target in chosen}
    found: dict[str, TargetFacts] = {}

    def tables() -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
        """Config, split and the tables of its file, laid out one at a time."""
        ours = answers_are_ours(loaded.questions)
        for split, rows in (("train", ~loaded.is_test), ("test", loaded.is_test)):
            # Of others' questions, those that were answered: ours would go by the same ids, under another licence and with
            # other words.
            yield "questions", split, iter([load_questions(split) if ours else loaded.questions.filter(pa.array(rows))])
        for config, of_config in records.items():
            for split in SPLITS:
                yield config, split, of_config.preferences(split)
        for target in chosen:
            made = answer_pairs(loaded, target, settings, persona_set)
            for note in made.notes:
                logger.warning(note)
            if not any(map(len, made.tables.values())):
                raise ValueError(f"target must have at least one valid answer; got none of {target!r}. Leave it out.")
            comparison, shares, _ = made.comparison
            tier = preference_weights(loaded.matrix(), target, comparison=comparison, scheme="uniform").tier
            disagreements = np.bincount(tier, minlength=2 + len(comparison))[1:].tolist()
            found[target] = TargetFacts(comparison, tuple(disagreements), shares is not None, made.label_model)
            for split in SPLITS:
                yield f"pairs-{target}", split, iter([made.tables[split]])

    def build(folder: Path) -> tuple[Mapping[str, Any], list[WrittenFile]]:
        bar = tqdm(
            tables(), f"Writing {Path(out).name}", len(SPLITS) * len(features), unit=" files", disable=not progress
        )
        files, splits = _write_parquet(folder, bar)
        facts = FolderFacts(
            version=__version__,
            provenance=replace(loaded.provenance, respondents=loaded.respondents),
            scenarios=told.provenance if told else None,
            persona_set=persona_set,
            personas=loaded.personas,
            dimensions=dimensions_of(loaded.questions),
            own_questions=answers_are_ours(loaded.questions),
            question_count=len(loaded.questions),
            answer_counts=count_answers(loaded),
            status_counts=count_statuses(loaded),
            agreement=agreement_matrix(loaded.matrix()),
            scenario_counts=over_dimensions(count_answers(told)) if told else {},
            pairs=settings,
            targets=found,
            splits=splits,
            features={config: columns for config, columns in features.items() if config in splits},
        )
        card = draw_dataset_card(facts)
        for name in sorted(card, key=lambda name: (name == CARD, name)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(card[name])
            files.append(written(folder, name))
        manifest = {
            "version": facts.version,
            "answers": {"kind": source.kind, "fingerprint": source.fingerprint()},
            "provenance": facts.provenance.to_dict(),
            # The persona set and the run are in the provenance of the answers.
            "scenarios": replace(facts.scenarios, persona_set=None, run=None).to_dict() if facts.scenarios else None,
            "personas": facts.personas,
            "targets": tuple(found),
            "pairs": settings.as_dict(),
            "answer_counts": over_dimensions(facts.answer_counts),
            "status_counts": facts.status_counts,
        }
        return manifest, files

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


def _possible_targets(answers: Answers, settings: PairSettings) -> tuple[str, ...]:
    """Personas with a valid answer that are not compared with; none where there is nobody to compare with."""
    if len(answers.personas) < 2:
        return ()
    return tuple(
        persona
        for persona, column in answers.matrix().items()
        if persona not in settings.named and (column != NO_ANSWER).any()
    )


def _write_parquet(
    folder: Path, tables: Iterable[tuple[str, str, Iterator[pa.Table]]]
) -> tuple[list[WrittenFile], dict[str, dict[str, SplitFacts]]]:
    """Write a file for each config and split; one without rows, as in a run over the test split, has none."""
    files = []
    splits: dict[str, dict[str, SplitFacts]] = {}
    for config, split, parts in tables:
        first = next(parts, None)
        if first is not None and len(first):
            path = str(parquet_path(config, split))
            (folder / config).mkdir(exist_ok=True)
            rows, num_bytes = _write_tables(folder / path, first, parts)
            file = written(folder, path, config, split, rows)
            files.append(file)
            splits.setdefault(config, {})[split] = SplitFacts(rows, num_bytes, file.size, file.sha256)
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
