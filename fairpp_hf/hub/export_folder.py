"""Writes exported rows into a folder that `load_dataset` reads: Parquet files, a card with their licence, and a manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fairpp_hf.dataset.published_files import EXPORT_MANIFEST, RECORD_KEY
from fairpp_hf.hub.cards import render_card
from fairpp_hf.hub.owned_folder import CARD, WrittenFile, write_owned_folder, written
from fairpp_hf.markdown import one_line
from fairpp_hf.preferences import SCHEMES, PairSettings
from fairpp_hf.preferences.exports import FORMATS
from fairpp_hf.preferences.label_model import LabelModel
from fairpp_hf.provenance import Provenance
from fairpp_hf.questions import SPLITS, heldout_labels


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
    provenance: Provenance
    label_model: LabelModel | None = None
    """Of the target's answers, with `labels="fitted"`."""

    @property
    def use(self) -> str:
        """What to do with the rows."""
        if self.pairs is not None and self.pairs.soft:
            return (
                "Train with fairpp_hf.ReweightedDPOTrainer and ReweightedDPOConfig(soft_labels=True, reference='none'): "
                "other trainers would take each chosen text for the preferred one, whatever its label probability."
            )
        return FORMATS[self.format].use


def write_export(out: str | Path, tables: Mapping[str, pa.Table], facts: ExportFacts) -> list[WrittenFile]:
    """Write train.parquet and test.parquet, those that have rows, and their card into a folder that `load_dataset` reads.

    The same tables and facts give the same bytes. A Parquet file by itself still says whose answers it holds, see
    `RECORD_KEY`. Returns the files, the card last.

    Raises:
        ValueError: No table has rows, or as `write_owned_folder` does.
    """
    filled = {split: tables[split] for split in SPLITS if split in tables and len(tables[split])}
    if not filled:
        raise ValueError(f"An export must have at least one row; got none for {', '.join(tables)}. Use other answers.")
    record = json.dumps({"personas": facts.personas, "provenance": facts.provenance.to_dict()}).encode()

    def build(folder: Path) -> tuple[Mapping[str, Any], list[WrittenFile]]:
        files = []
        for split, rows in filled.items():
            table = rows.replace_schema_metadata({**(rows.schema.metadata or {}), RECORD_KEY: record})
            # As a dataset folder's files: what the Hub stores of a new version is what changed, and a full disk is an error.
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd", use_content_defined_chunking=True, write_page_index=True)
            (folder / f"{split}.parquet").write_bytes(sink.getvalue())
            files.append(written(folder, f"{split}.parquet", "default", split, len(table)))
        columns = next(iter(filled.values())).column_names
        (folder / CARD).write_text(render_export_card(files, columns, facts), encoding="utf-8", newline="\n")
        manifest = {
            **facts._asdict(),
            "label_model": facts.label_model.quality if facts.label_model else None,
            "pairs": facts.pairs.as_dict() if facts.pairs else None,
            "provenance": facts.provenance.to_dict(),
        }
        return manifest, [*files, written(folder, CARD)]

    return write_owned_folder(out, EXPORT_MANIFEST, "fairpp export", build)


def render_export_card(files: Sequence[WrittenFile], columns: Sequence[str], facts: ExportFacts) -> str:
    """README.md of an export of Parquet files with these columns: a YAML header with licence and files, and a few words."""
    pairs = facts.pairs
    return render_card(
        "EXPORT_TEMPLATE.md",
        _metadata(files, facts),
        title=_title(facts),
        facts=facts,
        provenance=facts.provenance,
        pairs=pairs,
        has_exponents=pairs is not None and isinstance(pairs.scheme, str) and SCHEMES[pairs.scheme].has_exponents,
        format=FORMATS[facts.format],
        use=facts.use,
        columns=columns,
        heldout_labels=", ".join(map(str, heldout_labels(facts.heldout))) if facts.heldout else "",
        manifest=EXPORT_MANIFEST,
    )


def _metadata(files: Sequence[WrittenFile], facts: ExportFacts) -> dict[str, Any]:
    """Hub metadata; `dataset_info` is what `load_dataset` gives as `info`."""
    known, licence = FORMATS[facts.format], facts.provenance.licence
    digest = hashlib.sha256("".join(f"{file.split} {file.sha256}\n" for file in files).encode())
    tags = ["preference", "alignment", "fairness", "social-equity", "personas", "synthetic", "fair-pp"]
    tags += [] if facts.format == "wide" else ["trl", facts.format]
    return {
        "pretty_name": _title(facts),
        # What the Hub calls a licence that nobody wrote down.
        "license": licence or "unknown",
        "language": ["en"],
        "task_categories": [known.task],
        "tags": [*tags, *(["simulated"] if facts.provenance.simulated else []), "arxiv:2505.11861"],
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
            "description": f"{_title(facts)}. Answers by {facts.provenance.line}.\n\n{facts.provenance.text}",
            **({"license": licence} if licence else {}),
        },
    }


def _title(facts: ExportFacts) -> str:
    return f"Fair-PP: {facts.format} rows" + (f" for {one_line(facts.target)}" if facts.target is not None else "")
