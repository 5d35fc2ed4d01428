"""Writes a dataset folder in Hub layout: README.md with YAML configs, and a Parquet file for each config and split.

The folder loads with `load_dataset("./folder", "preferences")`, without this package, and its bytes depend on the input
alone. It is built beside its place and then moved there, so that an interruption leaves the old folder or none.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from fairpp_hf import __version__
from fairpp_hf.dataset.answers import (
    FOLDER_MANIFEST,
    SPLITS,
    SURVEY,
    Answers,
    AnswerSource,
    NameOrPath,
    load_answers,
    resolve_answers,
    source_personas,
)
from fairpp_hf.dataset.builder import answer_pairs, missing_pairs
from fairpp_hf.naming import check_name
from fairpp_hf.personas import PersonaSet
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

logger = logging.getLogger(__name__)

CARD = "README.md"


class WrittenFile(NamedTuple):
    """A file of a dataset folder."""

    path: PurePosixPath
    """Relative to the folder."""
    config: str | None
    """None for the card."""
    split: str | None
    rows: int | None
    size: int
    """Bytes."""
    sha256: str


class FolderFacts(NamedTuple):
    """What a card says about a dataset folder, all counted from the data."""

    version: str
    """Of this package."""
    kind: str
    """`survey`, `run` or `folder`: where the answers come from."""
    respondents: tuple[str, ...]
    simulated: bool
    """Whether every respondent is a simulation."""
    persona_set: PersonaSet | None
    """None where a run or folder does not say which set its personas belong to."""
    personas: tuple[str, ...]
    targets: tuple[str, ...]
    answer_counts: dict[str, dict[str, int]]
    """Persona id to counts under "A", "B", "C" and "none" (no valid answer)."""
    status_counts: dict[str, int]
    rows: dict[str, dict[str, int]]
    """Config to split to number of rows."""


def write_dataset_folder(
    out: NameOrPath,
    *,
    card: Callable[[FolderFacts], str],
    answers: NameOrPath = SURVEY,
    personas: NameOrPath | None = None,
    targets: Sequence[str] | None = None,
    progress: bool = True,
) -> list[WrittenFile]:
    """Write a dataset folder with its card; `fairpp_hf.hub.build_dataset_folder` is this with our own card.

    Args:
        out: the folder: new, empty, or written by an earlier call, whose files are then replaced. Files that an earlier
            call did not write are left alone.
        card: makes the text of README.md, YAML header included.
        answers: `"survey"`, the path of a run, or the path of a dataset folder.
        personas: see `load_answers`.
        targets: personas that get a config `pairs-<persona>`; by default all that have a valid answer.
        progress: show a progress bar.

    Returns:
        The files, in the order of the configs, the card last. The build's manifest is not among them.

    Raises:
        ValueError: `out` holds files of other origin, or as `load_answers` and `preference_weights` do.
    """
    out = Path(out).expanduser().absolute()
    recorded = _check_out(out)
    source = resolve_answers(answers)
    loaded = load_answers(answers, personas)
    if targets is None:
        targets = _possible_targets(loaded)
    else:
        targets = tuple(check_name("target", target, loaded.personas) for target in dict.fromkeys(targets))

    # Beside `out`, so that the move is a rename.
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.building-", dir=out.parent))
    try:
        # The scratch folder is for its owner alone; one inside of it has the usual permissions.
        built = scratch / "folder"
        built.mkdir()
        files = _write_parquet(built, out.name, loaded, targets, progress)
        facts = _facts(source, loaded, source_personas(source, personas), targets, files)
        (built / CARD).write_text(card(facts), encoding="utf-8", newline="\n")
        files.append(_written(built, PurePosixPath(CARD)))
        _write_manifest(built, facts, source, files)
        _move_into_place(built, out, files, recorded)
    finally:
        shutil.rmtree(scratch)
    return files


def _possible_targets(answers: Answers) -> tuple[str, ...]:
    """Personas with a valid answer; none where there is nobody to compare with."""
    if len(answers.personas) < 2:
        return ()
    return tuple(persona for persona, column in answers.matrix().items() if (column != NO_ANSWER).any())


def _write_parquet(
    built: Path, name: str, answers: Answers, targets: Sequence[str], progress: bool
) -> list[WrittenFile]:
    jobs = 2 * (2 + len(targets))
    files = []
    with tqdm(total=jobs, desc=f"Writing {name}", unit=" files", disable=not progress) as bar:
        for config, split, tables in _contents(answers, targets):
            bar.set_description(f"Writing {config}/{split}")
            first = next(tables, None)
            # A split without rows, as in a run over the test split alone, is left out.
            if first is not None and len(first):
                path = PurePosixPath(config, f"{split}-00000-of-00001.parquet")
                (built / config).mkdir(exist_ok=True)
                rows = _write_tables(built / path, first, tables)
                files.append(_written(built, path, config, split, rows))
            bar.update()
    return files


def _contents(answers: Answers, targets: Sequence[str]) -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
    for split in SPLITS:
        yield "questions", split, iter([load_questions(split)])
    for split in SPLITS:
        yield "preferences", split, answers.preferences(split)
    for target in targets:
        pairs = answer_pairs(answers, target)
        if missing := missing_pairs(answers, target):
            logger.warning(missing)
        if not any(map(len, pairs.values())):
            raise ValueError(f"target must have at least one valid answer; got none of {target!r}. Leave it out.")
        for split in SPLITS:
            yield f"pairs-{target}", split, iter([pairs[split]])


def _write_tables(path: Path, first: pa.Table, rest: Iterable[pa.Table]) -> int:
    """Write tables of one schema as a row group each, so that one can be read without the others."""
    rows = 0
    # Chunk borders that follow the content let the Hub store only what a new version changes.
    with pq.ParquetWriter(
        path, first.schema, compression="zstd", use_content_defined_chunking=True, write_page_index=True
    ) as writer:
        for table in (first, *rest):
            writer.write_table(table, row_group_size=len(table))
            rows += len(table)
    return rows


def _written(
    built: Path, path: PurePosixPath, config: str | None = None, split: str | None = None, rows: int | None = None
) -> WrittenFile:
    file = built / path
    return WrittenFile(path, config, split, rows, file.stat().st_size, _digest(file))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _facts(
    source: AnswerSource,
    answers: Answers,
    persona_set: PersonaSet | None,
    targets: Sequence[str],
    files: Sequence[WrittenFile],
) -> FolderFacts:
    answer_counts = {}
    status_counts: Counter[str] = Counter()
    for persona, table in answers.records.items():
        counts = np.bincount(table["answer"].to_numpy() - NO_ANSWER, minlength=1 + len(OPTION_LETTERS)).tolist()
        answer_counts[persona] = dict(zip(("none", *OPTION_LETTERS), counts, strict=True))
        for entry in pc.value_counts(table["status"]).to_pylist():
            status_counts[entry["values"]] += entry["counts"]
    rows: dict[str, dict[str, int]] = {}
    for file in files:
        if file.config is not None and file.split is not None and file.rows is not None:
            rows.setdefault(file.config, {})[file.split] = file.rows
    return FolderFacts(
        version=__version__,
        kind=source.kind,
        respondents=answers.respondents,
        simulated=all(name.endswith(SIMULATED) for name in answers.respondents),
        persona_set=persona_set,
        personas=answers.personas,
        targets=tuple(targets),
        answer_counts=answer_counts,
        status_counts=dict(sorted(status_counts.items())),
        rows=rows,
    )


def _write_manifest(folder: Path, facts: FolderFacts, source: AnswerSource, files: Sequence[WrittenFile]) -> None:
    content = {
        "about": "Written by `fairpp build`. It replaces only files listed here, and only if they are unchanged.",
        "version": facts.version,
        "answers": {"kind": source.kind, "fingerprint": source.fingerprint()},
        "respondents": facts.respondents,
        "simulated": facts.simulated,
        "persona_set": facts.persona_set.as_dict() if facts.persona_set else None,
        "personas": facts.personas,
        "targets": facts.targets,
        "answer_counts": facts.answer_counts,
        "status_counts": facts.status_counts,
        "files": [file._asdict() | {"path": str(file.path)} for file in files],
    }
    _save_json(folder / FOLDER_MANIFEST, content)


def _save_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _check_out(out: Path) -> dict[str, set[str]]:
    """Digests of the files that an earlier build wrote to `out`, by relative path; checks that they are unchanged."""
    rule = f"The output folder must be new, empty, or written by `fairpp build`; got {out}"
    advice = "Nothing was changed there. Choose another folder, or move the file away."
    if out.exists() and not out.is_dir():
        raise ValueError(f"{rule}, which is a file. {advice}")
    manifest = out / FOLDER_MANIFEST
    if not manifest.is_file():
        other = min((entry.name for entry in out.iterdir()), default=None) if out.is_dir() else None
        if other is not None:
            raise ValueError(f"{rule}, which holds {other!r} and no {FOLDER_MANIFEST}. {advice}")
        return {}
    try:
        entries = [(str(entry["path"]), str(entry["sha256"])) for entry in json.loads(manifest.read_bytes())["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{rule}, whose {FOLDER_MANIFEST} cannot be read ({error!r}). {advice}") from error
    recorded: dict[str, set[str]] = {}
    for name, digest in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{rule}, whose {FOLDER_MANIFEST} lists {name!r}, a path outside of it. {advice}")
        recorded.setdefault(name, set()).add(digest)
    for name, digests in recorded.items():
        if (out / name).is_file() and _digest(out / name) not in digests:
            raise ValueError(f"{rule}, where {name!r} was edited since. {advice}")
    return recorded


def _move_into_place(built: Path, out: Path, files: Sequence[WrittenFile], recorded: dict[str, set[str]]) -> None:
    if not out.exists():
        built.rename(out)
        return
    names = [str(file.path) for file in files]
    for name in names:
        if name not in recorded and (out / name).exists():
            raise ValueError(
                f"The output folder must leave room for {name!r}; got a file of other origin there in {out}. Nothing was "
                "changed. Choose another folder, or move the file away."
            )
    # Until all files are moved, the manifest lists old and new ones: an interrupted move can be repeated.
    both = [{"path": name, "sha256": digest} for name, digests in recorded.items() for digest in sorted(digests)]
    both += [{"path": str(file.path), "sha256": file.sha256} for file in files]
    _save_json(built / "moving.json", {"files": both})
    os.replace(built / "moving.json", out / FOLDER_MANIFEST)
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(built / name, out / name)
    for name in set(recorded) - set(names):
        (out / name).unlink(missing_ok=True)
        parent = (out / name).parent
        if parent != out and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    os.replace(built / FOLDER_MANIFEST, out / FOLDER_MANIFEST)
