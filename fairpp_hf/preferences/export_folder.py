"""Writes exported rows into a folder that `load_dataset` reads: Parquet files, a card with their licence, and a manifest."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fairpp_hf.markdown import code, one_line
from fairpp_hf.personas import PersonaSet
from fairpp_hf.preferences import SCHEMES, PairSettings
from fairpp_hf.preferences.exports import EXPORT_MANIFEST, FORMATS
from fairpp_hf.preferences.label_model import LabelModel
from fairpp_hf.questions import SPLITS, heldout_labels

CARD = "README.md"

RECORD_KEY = b"fairpp_export"
"""In the metadata of each Parquet file's schema: `personas`, `persona_set` and `origin` of the manifest, as JSON. A file may
be copied, and a wide one does not say in its columns whose answers they hold, nor on what terms."""


class ExportFacts(NamedTuple):
    """What an export says of itself, on its card and in its manifest."""

    version: str
    """Of this package."""
    format: str
    """A key of `FORMATS`."""
    target: str | None
    """Persona that the rows are made for; None for a wide table without weights."""
    pairs: PairSettings | None
    """How the target's pairs or weights were made; None without a target."""
    heldout: str | None
    """What is in the test file alone, see `heldout_labels`; None for the usual division."""
    personas: tuple[str, ...]
    """Who answered; the n-th is the n-th role of a wide table."""
    persona_set: PersonaSet | None
    """The set that they belong to; None where it is not known."""
    respondents: tuple[str, ...]
    simulated: bool
    """Whether every respondent is a simulation."""
    origin: Mapping[str, Any]
    """Where the answers were first given, and on what terms: an `Origin` as a dict."""
    label_model: LabelModel | None = None
    """Of the target's answers, with `labels="fitted"`."""


class ExportedFile(NamedTuple):
    """A file that `write_export` wrote."""

    path: str
    """Relative to the folder."""
    split: str | None
    """None for the card, as are its rows."""
    rows: int | None
    size: int
    """Bytes."""
    sha256: str


def write_export(out: str | Path, tables: Mapping[str, pa.Table], facts: ExportFacts) -> list[ExportedFile]:
    """Write train.parquet and test.parquet, those that have rows, and their card into a folder that `load_dataset` reads.

    The folder is made beside its place and then moved there whole: an interruption leaves the old files or none. The
    same tables and facts give the same bytes. A Parquet file by itself still says whose answers it holds, see `RECORD_KEY`.

    Args:
        out: the folder: new, empty, or written by an earlier call, whose files are then replaced.
        tables: a table for `"train"`, `"test"` or both.
        facts: for the card and the manifest `fairpp_export.json`.

    Returns:
        The files, the card last. The manifest is not among them.

    Raises:
        ValueError: `out` holds files of other origin, or files of an earlier call that were changed since; or no table
            has rows.
    """
    out = Path(out).expanduser().resolve()
    _check_out(out)
    filled = {split: tables[split] for split in SPLITS if split in tables and len(tables[split])}
    if not filled:
        raise ValueError(f"An export must have at least one row; got none for {', '.join(tables)}. Use other answers.")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.exporting-", dir=out.parent))
    try:
        # The scratch folder is for its owner alone; one inside of it has the usual permissions.
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        files = []
        manifest = _manifest([], facts)
        record = json.dumps({name: manifest[name] for name in ("personas", "persona_set", "origin")}).encode()
        for split, table in filled.items():
            file = new / f"{split}.parquet"
            # As a dataset folder's files: what the Hub stores of a new version is what changed.
            pq.write_table(
                _with_record(table, record),
                file,
                compression="zstd",
                use_content_defined_chunking=True,
                write_page_index=True,
            )
            files.append(ExportedFile(file.name, split, len(table), file.stat().st_size, _digest(file)))
        columns = next(iter(filled.values())).column_names
        (new / CARD).write_text(render_export_card(files, columns, facts), encoding="utf-8", newline="\n")
        files.append(ExportedFile(CARD, None, None, (new / CARD).stat().st_size, _digest(new / CARD)))
        text = json.dumps(_manifest(files, facts), indent=2, ensure_ascii=False) + "\n"
        (new / EXPORT_MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        try:
            if out.exists():
                out.rename(old)
            new.rename(out)
        except BaseException:
            if old.exists() and not out.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(scratch)
    return files


def _with_record(table: pa.Table, record: bytes) -> pa.Table:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), RECORD_KEY: record})


def _manifest(files: Sequence[ExportedFile], facts: ExportFacts) -> dict[str, Any]:
    return {
        "about": "Written by `fairpp export`. It replaces the files listed here if they are unchanged.",
        **facts._asdict(),
        "label_model": facts.label_model.quality if facts.label_model else None,
        "pairs": facts.pairs.as_dict() if facts.pairs else None,
        "persona_set": facts.persona_set.as_dict() if facts.persona_set else None,
        "files": [file._asdict() for file in files],
    }


def _check_out(out: Path) -> None:
    """Refuse a folder with anything in it but what an earlier export wrote."""
    rule = f"The output folder must be new, empty, or written by `fairpp export`; got {out}"
    advice = "Nothing was changed there. Choose another folder, or move the file away."
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{rule}, which is a file. {advice}")
    names = {entry.name for entry in out.iterdir()}
    if names and EXPORT_MANIFEST not in names:
        raise ValueError(f"{rule}, which holds {min(names)!r} and no {EXPORT_MANIFEST}. {advice}")
    digests = {}
    if names:
        try:
            files = json.loads((out / EXPORT_MANIFEST).read_bytes())["files"]
            digests = {str(file["path"]): str(file["sha256"]) for file in files}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{rule}, whose {EXPORT_MANIFEST} cannot be read ({error!r}). {advice}") from error
    for name in sorted(names - {EXPORT_MANIFEST}):
        if name not in digests:
            raise ValueError(f"{rule}, which holds {name!r} besides. {advice}")
        if not (out / name).is_file() or _digest(out / name) != digests[name]:
            raise ValueError(f"{rule}, where {name!r} was edited since. {advice}")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# The card


def render_export_card(files: Sequence[ExportedFile], columns: Sequence[str], facts: ExportFacts) -> str:
    """README.md of an export: a YAML header with licence and files, and a few words.

    Args:
        files: the Parquet files.
        columns: their columns.
        facts: what it is of.
    """
    header = yaml.safe_dump(_metadata(files, facts), sort_keys=False, allow_unicode=True, width=100)
    known = FORMATS[facts.format]
    asked = "**Simulated answers.**" if facts.simulated else "**Mixed or unmarked answers.**"
    body = [
        f"# {_title(facts, as_code=True)}",
        f"> {asked} {_who_answered(facts, as_code=True)}",
        f"A row is {known.rows}. {how_to_use(facts)}",
        f"Columns: {', '.join(map(code, columns))}.",
        '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("path/to/this/folder")\n```',
        f"## How it was made\n\n{_how(facts)}",
        f"## Licence\n\n{_licence(facts)}",
    ]
    return f"---\n{header}---\n\n" + "\n\n".join(body) + "\n"


def how_to_use(facts: ExportFacts) -> str:
    """What to do with the rows."""
    if facts.pairs is not None and facts.pairs.soft:
        return (
            "Train with fairpp_hf.ReweightedDPOTrainer and ReweightedDPOConfig(soft_labels=True, reference='none'): other "
            "trainers would take each chosen text for the preferred one, whatever its label probability."
        )
    return FORMATS[facts.format].use


def _metadata(files: Sequence[ExportedFile], facts: ExportFacts) -> dict[str, Any]:
    """Hub metadata; `dataset_info` is what `load_dataset` gives as `info`."""
    known, licence = FORMATS[facts.format], facts.origin["licence"]
    digest = hashlib.sha256("".join(f"{file.split} {file.sha256}\n" for file in files).encode())
    tags = ["preference", "alignment", "fairness", "social-equity", "personas", "synthetic", "fair-pp"]
    tags += [] if facts.format == "wide" else ["trl", facts.format]
    return {
        "pretty_name": _title(facts),
        # What the Hub calls a licence that nobody wrote down.
        "license": licence or "unknown",
        "language": ["en"],
        "task_categories": [known.task],
        "tags": [*tags, *(["simulated"] if facts.simulated else []), "arxiv:2505.11861"],
        "configs": [
            {
                "config_name": "default",
                # By its last name and this header alone, `datasets` finds a folder again in its cache: the digest keeps it
                # from giving out the rows of an earlier export.
                "description": f"{known.rows}; content {digest.hexdigest()[:16]}",
                "data_files": [{"split": file.split, "path": file.path} for file in files],
            }
        ],
        "dataset_info": {
            "description": f"{_title(facts)}. {_who_answered(facts)}",
            **({"license": licence} if licence else {}),
        },
    }


def _title(facts: ExportFacts, *, as_code: bool = False) -> str:
    written = code if as_code else one_line
    return f"Fair-PP: {facts.format} rows" + (f" for {written(facts.target)}" if facts.target is not None else "")


def _who_answered(facts: ExportFacts, *, as_code: bool = False) -> str:
    """In the words of the builder's pairs, by which a model's card knows that they are simulated."""
    names = ", ".join(map(code if as_code else one_line, facts.respondents))
    if facts.simulated:
        return f"Answers by {names}. All of them are simulated; nobody was asked."
    return f"Answers by {names}. Those whose name ends in (simulated) were given by a machine in the role of a persona."


def _how(facts: ExportFacts) -> str:
    sentences = [f"By `fairpp export --format {facts.format}` of `fairpp_hf` {facts.version}, from {_source(facts)}."]
    sentences.append(f"Personas that answered: {', '.join(map(code, facts.personas))}.")
    if (chosen := facts.pairs) is not None:
        compared = "all other personas"
        if chosen.comparison == "nearest":
            compared = "the persona that agrees with it most often"
        elif chosen.named:
            compared = ", ".join(map(code, chosen.named))
        exponents = ""
        if isinstance(chosen.scheme, str) and SCHEMES[chosen.scheme].has_exponents:
            exponents = f", alpha = {chosen.alpha:g}, beta = {chosen.beta:g}"
        sentences.append(f"The target is compared with {compared}; weighting {code(chosen.scheme_name)}{exponents}.")
        if chosen.soft:
            sentences.append(f"Labels: {code(chosen.labels)}, divergence {chosen.divergence:g}.")
    if facts.label_model is not None:
        sentences.append(f"Label model: {facts.label_model.quality}.")
    if facts.heldout is not None:
        labels = ", ".join(map(str, heldout_labels(facts.heldout)))
        sentences.append(f"In the test file alone: {facts.heldout} ({labels}).")
    sentences.append(f"All of this is in `{EXPORT_MANIFEST}` as well. The idea is that of Fair-PP (arXiv:2505.11861).")
    return " ".join(sentences)


def _source(facts: ExportFacts) -> str:
    origin = facts.origin
    if origin["kind"] == "published":
        commit = f" at commit {code(origin['commit'][:12])}" if origin["commit"] else ""
        return f"the published Fair-PP tables, {code(origin['repo'] or 'a local file')}{commit}"
    return {
        "survey": "the survey respondent's answers, which a choice model drew whose parameters come from published survey "
        "figures, and from stated guesses where there are none",
        "run": "a run of `fairpp generate`",
        "folder": "a dataset folder that does not say where its answers come from",
    }[origin["kind"]]


def _licence(facts: ExportFacts) -> str:
    licence = facts.origin["licence"]
    if licence is None:
        return "The licence of the answers is not recorded. Ask whoever made them before you pass these files on."
    said = f"These files are under {code(licence)}, the licence of the answers that they are made of."
    if facts.origin["kind"] == "published":
        said += (
            " The authors of the published tables chose it, and what is derived from them inherits it: name the authors, no "
            "commercial use, share alike."
        )
    return (
        f"{said} To publish them, upload the folder whole, `hf upload USER/NAME . --repo-type dataset`: "
        "`Dataset.push_to_hub` sends the rows without this page, its licence and its tags."
    )
