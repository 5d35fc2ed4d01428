"""The card of a dataset folder: Hub metadata, tables counted in the data, and figures; its prose is in `dataset_card/`."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import yaml
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from fairpp_hf.dataset.folder_facts import (
    FolderFacts,
    SplitFacts,
    over_dimensions,
    parquet_path,
    share_of,
)
from fairpp_hf.drawing.card_figures import CardFigure, draw_figures
from fairpp_hf.hub.owned_folder import CARD
from fairpp_hf.markdown import code, counted, escaped, link, one_line, row, table
from fairpp_hf.personas import PERSONA_SETS
from fairpp_hf.preferences.schemes import SCHEMES
from fairpp_hf.provenance import CITATION, SIMULATED, Provenance
from fairpp_hf.schema import OPTION_LETTERS, RAW_REPLY, STATUSES

DEFAULT_CONFIG = "preferences"
TITLE = "Fair-PP: whose idea of fairness?"
REPO_ID = "USER/fairpp"
"""Stands on a card for the name of its repo, which `push_dataset` puts in its place."""

UNKNOWN_LICENCE = "unknown"
"""What the Hub calls a licence that nobody wrote down."""

_SIZE_STEPS = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_STATUS_HEADS = {"ok": "valid", "empty": "empty reply", "truncated": "cut off", "failed": "failed call"}


def draw_dataset_card(facts: FolderFacts) -> dict[str, bytes]:
    """README.md and the figures that it shows: path relative to the folder to content."""
    figures = draw_figures(facts)
    return {figure.path: figure.png for figure in figures} | {CARD: render_dataset_card(facts, figures).encode()}


def render_dataset_card(facts: FolderFacts, figures: Sequence[CardFigure] = ()) -> str:
    """The text of README.md for a dataset folder.

    Args:
        facts: Counted from the data.
        figures: Of `draw_figures`; the card shows those that are given.
    """
    shown = {figure.path.rsplit("/", 1)[-1]: f"![{escaped(figure.alt)}]({figure.path})" for figure in figures}
    provenance, scenarios, personas, pairs = facts.provenance, facts.scenarios, facts.persona_set, facts.pairs
    respondents = ", ".join(map(code, facts.respondents))
    published = provenance.kind == "published"
    by_survey = all(name.startswith("survey:") for name in facts.respondents)
    answered, told = facts.features[DEFAULT_CONFIG], facts.features.get("scenarios", {})
    run, sources = provenance.run, personas.sources if personas else ()
    return render_card(
        "README_TEMPLATE.md",
        dataset_metadata(facts).to_dict(),
        title=TITLE,
        repo_id=REPO_ID,
        facts=facts,
        pairs=pairs,
        scheme=SCHEMES.get(pairs.scheme) if isinstance(pairs.scheme, str) else None,
        by_survey=by_survey,
        published=published,
        licence=provenance.licence,
        respondents=respondents,
        machines=[name for name in facts.respondents if name.endswith(SIMULATED)],
        where=code(provenance.source or "the published tables")
        + (f" at commit {code(provenance.revision[:12])}" if provenance.revision else ""),
        when=_when(provenance, by_survey),
        asked=sum(split.rows for split in facts.splits["questions"].values()),
        records=sum(sum(counts.values()) for counts in facts.status_counts.values()),
        figure=lambda name: shown.get(name, ""),
        answer_counts=over_dimensions(facts.answer_counts),
        dimensions=_dimension_table(facts),
        statuses=_status_table(facts),
        tiers=_tier_table(facts) if facts.targets else "",
        label_models={target: found.label_model for target, found in facts.targets.items() if found.label_model},
        has_replies=RAW_REPLY in answered,
        no_scenario_replies=RAW_REPLY in answered and RAW_REPLY not in told,
        persona_set=personas,
        shipped=PERSONA_SETS,
        known=[persona for persona in personas or () if persona.id in facts.personas],
        others=[persona for persona in facts.personas if personas is not None and persona not in personas.ids],
        run=run,
        scenes=run.get("scenarios") if run and scenarios else None,
        shares_known=all(target.shares_known for target in facts.targets.values()),
        origin=_origin(provenance),
        notes=list(dict.fromkeys((*provenance.notes, *(scenarios.notes if scenarios else ())))),
        citation=CITATION,
        hosts=", ".join(filter(None, dict.fromkeys(urlsplit(one).netloc.removeprefix("www.") for one in sources))),
    )


# Metadata


def dataset_metadata(facts: FolderFacts) -> DatasetCardData:
    """The card's Hub metadata: `configs` and `dataset_info` for each config, `preferences` as the default."""
    provenance = facts.provenance
    on_hub = provenance.kind == "published" and provenance.revision
    data = DatasetCardData(
        pretty_name=TITLE,
        license=provenance.licence or UNKNOWN_LICENCE,
        language=["en"],
        annotations_creators=["machine-generated"],
        language_creators=["found" if provenance.kind == "published" else "machine-generated"],
        multilinguality=["monolingual"],
        size_categories=[_size_category(sum(split.rows for split in facts.splits[DEFAULT_CONFIG].values()))],
        source_datasets=[provenance.source] if on_hub and provenance.source else ["original"],
        task_categories=["text-generation", "multiple-choice"],
        tags=[
            *("preference", "dpo", "trl", "alignment", "fairness", "social-equity", "personas", "synthetic"),
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
        if provenance.licence is not None:
            entry["license"] = provenance.licence
        if entry["config_name"] != "questions":
            entry["description"] = _description(facts, entry["config_name"])
    return data


def _description(facts: FolderFacts, config: str) -> str:
    provenance = facts.scenarios if config == "scenarios" and facts.scenarios else facts.provenance
    made = f", {facts.pairs.words}" if config.startswith("pairs-") else ""
    what = row_of(config)
    return f"{what[0].upper()}{what[1:]}{made}; answers by {provenance.line}.\n\n{provenance.text}"


def row_of(config: str) -> str:
    """What a row of a config is."""
    if config.startswith("pairs-"):
        return f"a preference pair of {config.removeprefix('pairs-')}"
    return {
        "questions": "a question",
        DEFAULT_CONFIG: "a persona's answer to a question",
        "scenarios": "a persona's answer to a question told as scenes",
    }[config]


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


# Tables


def _when(provenance: Provenance, by_survey: bool) -> str:
    first, _, last = (provenance.created or "").partition("/")
    if not first:
        return "The answers are computed and have no date." if by_survey else "When they answered is not recorded."
    return f"Answered from {first} to {last}." if last else f"Answered on {first}."


def _origin(provenance: Provenance) -> str:
    return {
        "survey": "the survey respondent of `fairpp_hf`",
        "model": "a run of `fairpp generate`",
        "published": f"published tables, {code(provenance.source or 'a local file')}",
        "human": "people",
        "unknown": "a dataset folder that does not say where it has them from",
    }[provenance.kind]


def _dimension_table(facts: FolderFacts) -> str:
    heads = [
        f"{number}: {escaped(poles.pole_a)} (A) or {escaped(poles.pole_b)} (B)"
        for number, poles in facts.dimensions.items()
    ]
    return table(
        ("persona", *heads),
        (
            (code(persona), *(_percentages(counts[number]) for number in facts.dimensions))
            for persona, counts in facts.answer_counts.items()
        ),
    )


def _percentages(counts: Mapping[str, int]) -> str:
    if not sum(counts.values()):
        return "not asked"
    return " / ".join(f"{100 * share_of(counts, letter):.0f}" for letter in OPTION_LETTERS)


def _status_table(facts: FolderFacts) -> str:
    """Missing, refused and invalid answers by persona; empty where all answers are valid and none is missing."""
    found = {status for counts in facts.status_counts.values() for status in counts}
    statuses = [status for status in STATUSES if status in found] + sorted(found - set(STATUSES))
    missing = {persona: facts.question_count - sum(counts.values()) for persona, counts in facts.status_counts.items()}
    if statuses == ["ok"] and not any(missing.values()):
        return ""
    return table(
        ("persona", *(_STATUS_HEADS.get(status, escaped(status)) for status in statuses), "missing"),
        (
            (code(persona), *(f"{counts.get(status, 0):,}" for status in statuses), f"{missing[persona]:,}")
            for persona, counts in facts.status_counts.items()
        ),
    )


def _tier_table(facts: FolderFacts) -> str:
    most = max(len(target.disagreements) for target in facts.targets.values())
    nearest = facts.pairs.comparison == "nearest"
    return table(
        (
            *(("target", "compared with") if nearest else ("target",)),
            *(f"{count} disagree{'s' if count == 1 else ''}" for count in range(most)),
        ),
        (
            (code(target), *([code(found.comparison[0])] if nearest else []), *(f"{n:,}" for n in found.disagreements))
            for target, found in facts.targets.items()
        ),
        left=2 if nearest else 1,
    )


# Templates


def render_card(template: str, metadata: dict[str, Any], **values: Any) -> str:
    """The text of a card by its template in `dataset_card/`, whose names are the values, without blank lines in a row."""
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    text = _environment().get_template(template).render(metadata=header, **values)
    # In the header, a blank line may be part of a text.
    head, body = text[: len(header) + 8], text[len(header) + 8 :]
    return head + re.sub(r"\n{3,}", "\n\n", body)


@cache
def _environment() -> jinja2.Environment:
    # A wheel carries the folder inside this package; a checkout has it at its top.
    inside = Path(__file__).parent / "dataset_card"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "dataset_card"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "code": code,
        "codes": lambda names: ", ".join(map(code, names)),
        "counted": counted,
        "escaped": escaped,
        "link": link,
        "letters": OPTION_LETTERS,
        "row": row,
        "row_of": row_of,
        "share_of": share_of,
        "bibtex": _bibtex,
    }
    return environment


def _bibtex(text: str) -> str:
    for special in "&%#_$":
        text = text.replace(special, f"\\{special}")
    return one_line(text)
