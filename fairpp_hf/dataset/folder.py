"""Writes a dataset folder in Hub layout: README.md with YAML configs, its figures, and a Parquet file for each config and
split.

The folder loads with `load_dataset("./folder", "preferences")`, without this package, and its bytes depend on the input
alone. It is built beside its place and then moved there, so that an interruption leaves the old folder or none.
"""

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features
from tqdm.auto import tqdm

from fairpp_hf import __version__
from fairpp_hf.dataset.answer_pairs import answer_pairs
from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.card_merge import card_history, merge_cards
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
from fairpp_hf.dataset.folder_manifest import (
    CARD,
    FOLDER_MANIFEST,
    Recorded,
    check_place,
    file_digest,
    manifest_bytes,
    move_into_place,
    read_card,
)
from fairpp_hf.dataset.run_record import KEY as RUN_RECORD
from fairpp_hf.dataset.sources import (
    SURVEY,
    AnswerSource,
    NameOrPath,
    load_source,
    load_source_scenarios,
    resolve_answers,
    resolve_scenarios,
    source_personas,
    source_run_record,
)
from fairpp_hf.naming import check_name
from fairpp_hf.personas import PersonaSet
from fairpp_hf.preferences import PairSettings
from fairpp_hf.questions import SPLITS, load_questions
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import NO_ANSWER, PAIR_FEATURES, QUESTION_FEATURES, SOFT_PAIR_FEATURES

logger = logging.getLogger(__name__)


class WrittenFile(NamedTuple):
    """A file of a dataset folder."""

    path: PurePosixPath
    """Relative to the folder."""
    config: str | None
    """None for the card and its figures."""
    split: str | None
    rows: int | None
    size: int
    """Bytes."""
    sha256: str


def write_dataset_folder(
    out: NameOrPath,
    *,
    card: Callable[[FolderFacts], Mapping[str, bytes]],
    answers: NameOrPath = SURVEY,
    personas: NameOrPath | None = None,
    published_revision: str | None = None,
    targets: Sequence[str] | None = None,
    pairs: PairSettings | None = None,
    progress: bool = True,
) -> list[WrittenFile]:
    """Write a dataset folder with its card; `fairpp_hf.hub.build_dataset_folder` is this with our own card.

    Args:
        out: the folder: new, empty, or written by an earlier call, whose files are then replaced. Files that an earlier
            call did not write are left alone, and what people wrote on the card is kept, see `merge_cards`.
        card: makes README.md, YAML header included, and the figures that it shows: path relative to the folder to content.
        answers: `"survey"`, `"published"`, or the path of a run, a dataset folder or a published table.
        personas: see `load_answers`.
        published_revision: see `load_answers`; of the answers, not of the scenarios.
        targets: personas that get a config `pairs-<persona>`; by default all that have a valid answer and are not named
            in `pairs.comparison`.
        pairs: how pairs are made; `PairSettings()` by default. Shares are those of the persona set.
        progress: show a progress bar.

    Returns:
        The files, in the order of the configs, then the figures, the card last. The build's manifest is not among them.

    Raises:
        ValueError: `out` holds files of other origin, a text is not valid UTF-8, a target cannot name a config, or as
            `load_answers` and `preference_weights` do.
    """
    out = Path(out).expanduser().absolute()
    recorded = check_place(out)
    settings = PairSettings() if pairs is None else pairs
    source = resolve_answers(answers, published_revision)
    # What was resolved once is what is loaded and recorded, wherever a branch points by then.
    loaded = load_source(source, personas)
    for persona in settings.named:
        check_name("comparison", persona, loaded.personas)
    if targets is None:
        targets = _possible_targets(loaded, settings)
    else:
        targets = tuple(check_name("target", target, loaded.personas) for target in dict.fromkeys(targets))
    for target in targets:
        _check_config_name(target)
    contents = _Contents(
        loaded,
        # The published scenarios are a dataset of their own, which does not have the revisions of the answers'.
        load_source_scenarios(source if source.repo is None else resolve_scenarios(answers), personas),
        source_personas(source, personas),
        targets,
        settings,
        source_run_record(source),
        {},
    )

    # Beside `out`, so that the move is a rename.
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.building-", dir=out.parent))
    try:
        # The scratch folder is for its owner alone; one inside of it has the usual permissions.
        built = scratch / "folder"
        built.mkdir()
        files, splits = _write_parquet(built, out.name, contents, progress)
        facts = _facts(contents, splits)
        generated = card(facts)
        card_text = generated[CARD].decode()
        history = card_history(card_text, recorded.history)
        if (out / CARD).is_file():
            generated = {**generated, CARD: _merged_card(generated[CARD], out / CARD, recorded)}
        files += _write_card(built, generated)
        (built / FOLDER_MANIFEST).write_bytes(manifest_bytes(_manifest(facts, source, files, card_text, history)))
        move_into_place(built, out, {str(file.path): file.sha256 for file in files}, recorded)
    finally:
        shutil.rmtree(scratch)
    return files


class _Contents(NamedTuple):
    """What goes into a folder, in compact form: its tables are laid out one at a time."""

    answers: Answers
    scenarios: Answers | None
    persona_set: PersonaSet | None
    targets: Sequence[str]
    pairs: PairSettings
    run: Mapping[str, Any] | None
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
    built: Path, name: str, contents: _Contents, progress: bool
) -> tuple[list[WrittenFile], dict[str, dict[str, SplitFacts]]]:
    files = []
    splits: dict[str, dict[str, SplitFacts]] = {}
    jobs = len(SPLITS) * len(contents.features())
    with tqdm(total=jobs, desc=f"Writing {name}", unit=" files", disable=not progress) as bar:
        for config, split, tables in contents.tables():
            bar.set_description(f"Writing {config}/{split}")
            first = next(tables, None)
            if first is not None and len(first):
                path = parquet_path(config, split)
                (built / config).mkdir(exist_ok=True)
                rows, num_bytes, prompts_sha256 = _write_tables(built / path, first, tables)
                file = _written(built, path, config, split, rows)
                files.append(file)
                facts = SplitFacts(rows, num_bytes, file.size, file.sha256, prompts_sha256)
                splits.setdefault(config, {})[split] = facts
            bar.update()
    return files, splits


def _write_tables(path: Path, first: pa.Table, rest: Iterable[pa.Table]) -> tuple[int, int, str | None]:
    """Write tables of one schema as a row group each, so that one can be read without the others.

    Returns:
        Rows, bytes in memory, and the digest of the prompts as in `SplitFacts`.
    """
    rows = num_bytes = 0
    prompts = hashlib.sha256() if pa.types.is_string(first.schema.field("prompt").type) else None
    # Chunk borders that follow the content let the Hub store only what a new version changes.
    with pq.ParquetWriter(
        path, first.schema, compression="zstd", use_content_defined_chunking=True, write_page_index=True
    ) as writer:
        for table in chain([first], rest):
            check_texts(table, path.parent.name)
            writer.write_table(table, row_group_size=len(table))
            rows += len(table)
            num_bytes += table.nbytes
            if prompts is not None:
                _add_texts(prompts, table["prompt"])
    return rows, num_bytes, None if prompts is None else prompts.hexdigest()


def check_texts(table: pa.Table, config: str) -> None:
    """Check that all texts of a table are valid UTF-8, which Arrow leaves to whoever reads them.

    Raises:
        ValueError: one is not; the message names its row and column.
    """
    if _is_valid(table):
        return
    # The first faulty row, by halving: [low, high) holds a fault, and what is before low does not.
    low, high = 0, len(table)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_valid(table.slice(low, middle - low)) else (low, middle)
    row = table.slice(low, 1)
    column = next(name for name in table.column_names if not _is_valid(row.select([name])))
    names = [
        repr(row[name].cast(pa.binary())[0].as_py().decode("utf-8", "backslashreplace"))
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


def _add_texts(digest: "hashlib._Hash", column: pa.ChunkedArray) -> None:
    """Add each text and a line feed to a digest, without making Python strings of them."""
    for chunk in column.chunks:
        if len(chunk):
            together = pa.ListArray.from_arrays(pa.array([0, len(chunk)], pa.int32()), chunk)
            digest.update(pc.binary_join(together, "\n")[0].as_buffer())
            digest.update(b"\n")


def _written(
    built: Path, path: PurePosixPath, config: str | None = None, split: str | None = None, rows: int | None = None
) -> WrittenFile:
    file = built / path
    return WrittenFile(path, config, split, rows, file.stat().st_size, file_digest(file))


def _facts(contents: _Contents, splits: dict[str, dict[str, SplitFacts]]) -> FolderFacts:
    answers, scenarios = contents.answers, contents.scenarios
    respondents = sorted({*answers.respondents, *(scenarios.respondents if scenarios else ())})
    return FolderFacts(
        version=__version__,
        origin=answers.origin,
        respondents=tuple(respondents),
        simulated=all(name.endswith(SIMULATED) for name in respondents),
        persona_set=contents.persona_set,
        personas=answers.personas,
        dimensions=dimensions_of(answers.questions),
        own_questions=answers_are_ours(answers.questions),
        question_count=len(answers.questions),
        answer_counts=count_answers(answers),
        status_counts=count_statuses(answers),
        agreement=agreement_matrix(answers.matrix()),
        scenario_counts={
            persona: over_dimensions(counts)
            for persona, counts in (count_answers(scenarios) if scenarios else {}).items()
        },
        scenario_origin=scenarios.origin if scenarios else None,
        pairs=contents.pairs,
        targets=contents.target_facts,
        splits=splits,
        features={config: features for config, features in contents.features().items() if config in splits},
        run=contents.run,
    )


def _write_card(built: Path, files: Mapping[str, bytes]) -> list[WrittenFile]:
    """Write the figures and, last, the card."""
    written = []
    for name in sorted(files, key=lambda name: (name == CARD, name)):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_bytes(files[name])
        written.append(_written(built, PurePosixPath(name)))
    return written


def _merged_card(generated: bytes, existing: Path, recorded: Recorded) -> bytes:
    """The new card with what people wrote into the old one."""
    merged = merge_cards(generated.decode(), read_card(existing), recorded.history, where=str(existing))
    if merged.kept:
        logger.warning("Kept in %s, as people wrote it: %s.", existing, "; ".join(merged.kept))
    if merged.renewed:
        logger.warning("Made anew in %s, although it was edited: %s.", existing, "; ".join(merged.renewed))
    return merged.text.encode()


def _manifest(
    facts: FolderFacts, source: AnswerSource, files: Sequence[WrittenFile], card: str, history: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "about": "Written by `fairpp build`. It replaces only files listed here, and only if they are unchanged.",
        "version": facts.version,
        "answers": {"kind": source.kind, "fingerprint": source.fingerprint()},
        "origin": facts.origin._asdict(),
        "scenario_origin": facts.scenario_origin._asdict() if facts.scenario_origin else None,
        RUN_RECORD: facts.run,
        "respondents": facts.respondents,
        "simulated": facts.simulated,
        "persona_set": facts.persona_set.as_dict() if facts.persona_set else None,
        "personas": facts.personas,
        "targets": tuple(facts.targets),
        "pairs": facts.pairs.as_dict(),
        "answer_counts": {persona: over_dimensions(counts) for persona, counts in facts.answer_counts.items()},
        "status_counts": facts.status_counts,
        "files": [file._asdict() | {"path": str(file.path)} for file in files],
        # These tell what people write on the card from what was generated.
        "card": card,
        "card_history": history,
    }
