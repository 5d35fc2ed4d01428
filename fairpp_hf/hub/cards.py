"""The card of a dataset folder: Hub metadata and a text filled from what was counted in the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml
from datasets import Features
from huggingface_hub import DatasetCardData

from fairpp_hf.dataset.builder import CITATION
from fairpp_hf.dataset.folder import FolderFacts
from fairpp_hf.schema import OPTION_LETTERS, PAIR_FEATURES, PREFERENCE_FEATURES, QUESTION_FEATURES

DEFAULT_CONFIG = "preferences"
LICENSE = "cc-by-4.0"
TITLE = "Fair-PP: whose idea of fairness?"

_SIZE_STEPS = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_COLUMNS = {
    "question_id": "readable name of the question, `problem.group.dimension.form`",
    "topic": "one of 5",
    "category": "one of 15 problem categories",
    "problem": "one of 98 problems",
    "group_type": "one of 6 types of group",
    "group": "one of 29 groups",
    "dimension": "1 to 5",
    "pole_a": "first pole of the dimension, which option A takes",
    "pole_b": "second pole, which option B takes",
    "form": "`criterion`: which rule is fairer; `explanation`: which reason for a given outcome is fairer",
    "question": "the question's text, without its options",
    "option_a": "text of option A, without its letter",
    "option_b": "text of option B",
    "option_c": "text of option C: neither",
    "prompt": "the whole message to a model: question, three option lines, what to reply",
    "persona": "id of the persona that answers",
    "respondent": "who answered in the persona's place",
    "answer": "class label A, B, C; -1 where there is no valid answer",
    "probabilities": "of A, B and C, sum 1; null where the respondent gives none",
    "status": "`ok`, `invalid`, `refusal`, `empty`, `truncated` or `failed`",
}

_PAIR_COLUMNS = {
    "prompt": "one user message: the question's prompt",
    "chosen": "one assistant message: the target's option line",
    "rejected": "one assistant message: another option line",
    "weight": "at least 0, not normalised over rows",
    "tier": "1 + number of comparison personas that answered differently",
    "question_id": "joins with the other configs",
    "persona": "id of the target persona",
}


def render_dataset_card(facts: FolderFacts) -> str:
    """The text of README.md for a dataset folder: YAML header, then the filled template.

    Args:
        facts: counted from the data by `write_dataset_folder`.
    """
    metadata = dataset_metadata(facts)
    header = yaml.safe_dump(metadata.to_dict(), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{header}---\n\n{Template(_template()).substitute(_fields(facts))}"


def dataset_metadata(facts: FolderFacts) -> DatasetCardData:
    """The card's Hub metadata, with a config for each of the folder's and `preferences` as the default."""
    configs = []
    for config, splits in facts.rows.items():
        entry: dict[str, Any] = {
            "config_name": config,
            "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in splits],
        }
        if config == DEFAULT_CONFIG:
            entry["default"] = True
        configs.append(entry)
    return DatasetCardData(
        pretty_name=TITLE,
        license=LICENSE,
        language=["en"],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        multilinguality=["monolingual"],
        size_categories=[_size_category(sum(facts.rows[DEFAULT_CONFIG].values()))],
        source_datasets=["original"],
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
        configs=configs,
    )


def _size_category(rows: int) -> str:
    return next((name for limit, name in _SIZE_STEPS if rows < limit), "1M<n<10M")


def _template() -> str:
    # A wheel carries the folder inside this package; a checkout has it at its top.
    inside = Path(__file__).parent / "dataset_card"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "dataset_card"
    return (folder / "README_TEMPLATE.md").read_text("utf-8")


def _fields(facts: FolderFacts) -> dict[str, str]:
    banner_title, banner, how_answered = _who_answered(facts)
    return {
        "title": TITLE,
        "banner_title": banner_title,
        "banner": banner,
        "how_answered": how_answered,
        "persona_count": str(len(facts.personas)),
        "config_rows": _config_rows(facts),
        "load_lines": _load_lines(facts),
        "respondents": ", ".join(f"`{name}`" for name in facts.respondents),
        "answer_rows": _answer_rows(facts.answer_counts),
        "statuses": ", ".join(f"{status} {count:,}" for status, count in facts.status_counts.items()),
        "schema_sections": _schema_sections(bool(facts.targets)),
        "persona_section": _persona_section(facts),
        "version": facts.version,
        "limits": "\n".join(f"- {limit}" for limit in _limits(facts)),
        "licence_note": _licence_note(facts),
        "citation": CITATION,
        "persona_citation": _persona_citation(facts),
    }


def _by_survey(facts: FolderFacts) -> bool:
    return all(name.startswith("survey:") for name in facts.respondents)


def _who_answered(facts: FolderFacts) -> tuple[str, str, str]:
    """The banner's first words, the rest of it, and the paragraph on how the answers came about."""
    if _by_survey(facts):
        return (
            "Simulated answers.",
            "Nobody was asked these questions, neither a person nor a language model. A choice model with parameters set "
            "from published survey figures, and from stated guesses where there are none, drew every answer. Use it to "
            "build and test methods; draw no conclusion from it on what any group of people wants.",
            "a documented choice model gives each persona a position on every dimension and a leaning towards types of "
            "group, from the figures of a survey where it has some and from a stated prior where it has none; a softmax "
            "over A, B and C gives `probabilities`, and a draw seeded by persona and question gives `answer`. The same "
            "version draws the same answers on every machine.",
        )
    names = ", ".join(f"`{name}`" for name in facts.respondents)
    if facts.simulated:
        return (
            "Simulated answers.",
            f"No person was asked these questions. {names} answered them in the role of each persona. What a model says "
            "in a role is not what the people behind the persona think.",
            f"{names} got each persona's portrait as system message and the question's prompt as user message. Replies "
            "that are not one of the options are kept as such.",
        )
    return (
        "Mixed or unmarked answers.",
        f"Answers come from {names}. Those whose name ends in (simulated) were given by a machine in the role of a persona.",
        f"by {names}.",
    )


def _config_rows(facts: FolderFacts) -> str:
    lines = []
    for config, splits in facts.rows.items():
        if config == "questions":
            what = "a question"
        elif config == DEFAULT_CONFIG:
            what = "a persona's answer to a question (default)"
        else:
            what = f"a preference pair of {config.removeprefix('pairs-')}"
        counts = " | ".join(f"{splits[split]:,}" if split in splits else "none" for split in ("train", "test"))
        lines.append(f"| `{config}` | {what} | {counts} |")
    return "\n".join(lines)


def _load_lines(facts: FolderFacts) -> str:
    lines = ['preferences = load_dataset("./fairpp", "preferences")  # or "USER/fairpp" once it is on the Hub']
    if facts.targets:
        lines.append(f'pairs = load_dataset("./fairpp", "pairs-{facts.targets[-1]}")')
    return "\n".join(lines)


def _answer_rows(answer_counts: Mapping[str, Mapping[str, int]]) -> str:
    lines = []
    for persona, counts in answer_counts.items():
        total = sum(counts.values())
        cells = [f"{counts[key] / total:.1%}" for key in (*OPTION_LETTERS, "none")]
        lines.append(f"| `{persona}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _schema_sections(has_pairs: bool) -> str:
    added = Features({name: PREFERENCE_FEATURES[name] for name in PREFERENCE_FEATURES if name not in QUESTION_FEATURES})
    sections = [
        ("`questions`", QUESTION_FEATURES, _COLUMNS),
        ("`preferences`: those of `questions`, and", added, _COLUMNS),
    ]
    if has_pairs:
        sections.append(("`pairs-<persona>`", PAIR_FEATURES, _PAIR_COLUMNS))
    return "\n\n".join(
        f"{title}\n\n| column | type | content |\n|---|---|---|\n"
        + "\n".join(f"| `{name}` | {_type_name(feature)} | {texts[name]} |" for name, feature in features.items())
        for title, features, texts in sections
    )


def _type_name(feature: Any) -> str:
    if hasattr(feature, "names"):
        return "class label"
    if not hasattr(feature, "feature"):
        return str(feature.dtype)
    inner = feature.feature
    return f"list of {inner.dtype}" if hasattr(inner, "dtype") else "list of messages"


def _persona_section(facts: FolderFacts) -> str:
    personas = facts.persona_set
    if personas is None:
        return f"{', '.join(f'`{persona}`' for persona in facts.personas)}; of no set that this package knows."
    lines = [
        f"The {len(facts.personas)} personas below are segments of *{personas.title}* ({personas.publisher}, "
        f"{personas.year}, {personas.country}). Survey sample: {personas.sample}",
        "",
        "| persona | segment | share of the survey's population |",
        "|---|---|---:|",
        *(f"| `{item.id}` | {item.name} | {item.share:.0%} |" for item in personas if item.id in facts.personas),
        "",
        "Sources of the figures used: " + ", ".join(f"<{source}>" for source in personas.sources) + ".",
    ]
    return "\n".join(lines)


def _limits(facts: FolderFacts) -> Sequence[str]:
    limits = [
        "Segments are averages. People within one differ, often more than segments do.",
        "The questions are made from templates: 98 problems and 29 groups in fixed wording, in English, with British "
        "public life in mind. Some combinations are far-fetched.",
        "A question forces one of two poles or neither. Real views are mixtures, and depend on facts that it leaves out.",
    ]
    if _by_survey(facts):
        limits += [
            "Survey figures bear on the questions indirectly, and on some dimensions and groups not at all; there the "
            "model's parameter is a guess. Agreement with these answers says nothing about agreement with people.",
            "The choice model knows the dimension, the form and the group of a question. What is particular to a problem "
            "is noise to it.",
        ]
    else:
        limits.append(
            "A language model in a role exaggerates, flattens and stereotypes; the same model with another prompt may "
            "answer otherwise."
        )
    return limits


def _licence_note(facts: FolderFacts) -> str:
    if _by_survey(facts):
        return "The survey figures behind the answers are cited as facts."
    return "The terms of the language models that answered may add conditions."


def _persona_citation(facts: FolderFacts) -> str:
    personas = facts.persona_set
    if personas is None:
        return "The questions follow the design of the paper above."
    return f"Personas: {personas.publisher} ({personas.year}). *{personas.title}*."
