"""The card of a dataset folder: Hub metadata, a text filled from what was counted in the data, and its figures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from fairpp_hf.dataset.builder import NOBODY_ASKED, pairs_in_words
from fairpp_hf.dataset.folder_facts import FolderFacts, SplitFacts, parquet_path
from fairpp_hf.dataset.folder_manifest import CARD
from fairpp_hf.drawing.card_figures import CardFigure, draw_figures
from fairpp_hf.hub.card_text import DEFAULT_CONFIG, TITLE, card_fields, row_of

UNKNOWN_LICENCE = "unknown"
"""What the Hub calls a licence that nobody wrote down."""

_SIZE_STEPS = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def draw_dataset_card(facts: FolderFacts) -> dict[str, bytes]:
    """README.md and the figures that it shows: path relative to the folder to content.

    Args:
        facts: counted from the data by `write_dataset_folder`.
    """
    figures = draw_figures(facts)
    return {figure.path: figure.png for figure in figures} | {CARD: render_dataset_card(facts, figures).encode()}


def render_dataset_card(facts: FolderFacts, figures: Sequence[CardFigure] = ()) -> str:
    """The text of README.md for a dataset folder: YAML header, then the filled template.

    Args:
        facts: counted from the data by `write_dataset_folder`.
        figures: of `draw_figures`; the card shows those that are given.
    """
    metadata = dataset_metadata(facts)
    header = yaml.safe_dump(metadata.to_dict(), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{header}---\n\n{Template(_template()).substitute(card_fields(facts, figures))}"


def dataset_metadata(facts: FolderFacts) -> DatasetCardData:
    """The card's Hub metadata: `configs` and `dataset_info` for each config, `preferences` as the default."""
    published = facts.origin.kind == "published"
    data = DatasetCardData(
        pretty_name=TITLE,
        license=facts.origin.licence or UNKNOWN_LICENCE,
        language=["en"],
        annotations_creators=["machine-generated"],
        language_creators=["found" if published else "machine-generated"],
        multilinguality=["monolingual"],
        size_categories=[_size_category(sum(split.rows for split in facts.splits[DEFAULT_CONFIG].values()))],
        source_datasets=[facts.origin.repo]
        if published and facts.origin.repo and facts.origin.commit
        else ["original"],
        task_categories=["text-generation", "multiple-choice"],
        tags=[
            "preference",
            "dpo",
            "trl",
            "alignment",
            "fairness",
            "social-equity",
            "personas",
            "synthetic",
            *(["simulated"] if facts.simulated else []),
            "arxiv:2505.11861",
        ],
        configs=[_config_entry(config, splits) for config, splits in facts.splits.items()],
    )
    infos = {config: _dataset_info(config, splits, facts.features[config]) for config, splits in facts.splits.items()}
    DatasetInfosDict(infos).to_dataset_card_data(data)
    # Read back as `info.license` and `info.description`, by which the card of a model trained on it knows whose answers they
    # are and on what terms. `datasets` would not write them there.
    listed = data["dataset_info"]
    for entry in listed if isinstance(listed, list) else [listed]:
        if facts.origin.licence is not None:
            entry["license"] = facts.origin.licence
        if entry["config_name"] != "questions":
            entry["description"] = _provenance(facts, entry["config_name"])
    return data


def _provenance(facts: FolderFacts, config: str) -> str:
    made = f", {pairs_in_words(facts.pairs)}" if config.startswith("pairs-") else ""
    what = row_of(config)
    sentence = f"{what[0].upper()}{what[1:]}{made}; answers by {', '.join(facts.respondents)}."
    return f"{sentence} {NOBODY_ASKED}" if facts.simulated else sentence


def _config_entry(config: str, splits: dict[str, SplitFacts]) -> dict[str, Any]:
    digest = hashlib.sha256("".join(f"{name} {split.sha256}\n" for name, split in splits.items()).encode())
    entry: dict[str, Any] = {
        "config_name": config,
        # `datasets` finds a local folder again in its cache by the folder's last name and a hash over the fields here, which
        # would otherwise stay the same when rows change: the digest keeps it from giving out the rows of an earlier build.
        "description": f"{row_of(config)}; content {digest.hexdigest()[:16]}",
        # By name: a pattern would also take in what others put beside it, such as the shards of `Dataset.push_to_hub`.
        "data_files": [{"split": split, "path": str(parquet_path(config, split))} for split in splits],
    }
    if config == DEFAULT_CONFIG:
        entry["default"] = True
    return entry


def _dataset_info(config: str, splits: dict[str, SplitFacts], features: Features) -> DatasetInfo:
    """What `Dataset.push_to_hub` would write."""
    infos = SplitDict()
    for name, split in splits.items():
        infos.add(SplitInfo(name, num_bytes=split.num_bytes, num_examples=split.rows))
    return DatasetInfo(
        config_name=config,
        features=features,
        splits=infos,
        download_size=sum(split.size for split in splits.values()),
        dataset_size=sum(split.num_bytes for split in splits.values()),
    )


def _size_category(rows: int) -> str:
    return next((name for limit, name in _SIZE_STEPS if rows < limit), "1M<n<10M")


def _template() -> str:
    # A wheel carries the folder inside this package; a checkout has it at its top.
    inside = Path(__file__).parent / "dataset_card"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "dataset_card"
    return (folder / "README_TEMPLATE.md").read_text("utf-8")
