"""The text of a dataset card: each field of the template, filled from the facts."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from datasets import Features

from fairpp_hf.dataset.builder import CITATION
from fairpp_hf.dataset.folder_facts import NONE, FolderFacts, over_dimensions, share_of, statuses_in
from fairpp_hf.drawing.card_figures import CardFigure
from fairpp_hf.hub import card_prose as prose
from fairpp_hf.markdown import bullets, code, counted, one_line, row, table
from fairpp_hf.personas import PersonaSet
from fairpp_hf.schema import OPTION_LETTERS, PAIR_FEATURES, QUESTION_FEATURES, SOFT_PAIR_FEATURES, STATUSES

DEFAULT_CONFIG = "preferences"
TITLE = "Fair-PP: whose idea of fairness?"
REPO_ID = "USER/fairpp"
"""Stands on a card for the name of its repo, which `push_dataset` puts in its place."""

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
    "raw_reply": "the reply that the answer was read from; null where it was not kept",
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
_SOFT_PAIR_COLUMNS = {
    **_PAIR_COLUMNS,
    "chosen": "one assistant message: an option line, the target's if it is one of the two",
    "label_probability": "how likely `chosen` is of the two, 0 to 1",
}

_STATUS_HEADS = {"ok": "valid", "empty": "empty reply", "truncated": "cut off", "failed": "failed call"}


def row_of(config: str) -> str:
    """What a row of a config is."""
    if config.startswith("pairs-"):
        return f"a preference pair of {config.removeprefix('pairs-')}"
    return {
        "questions": "a question",
        DEFAULT_CONFIG: "a persona's answer to a question",
        "scenarios": "a persona's answer to a question told as scenes",
    }[config]


def card_fields(facts: FolderFacts, figures: Sequence[CardFigure]) -> dict[str, str]:
    """The template's fields.

    Args:
        facts: counted from the data.
        figures: those that the card shows.
    """
    shown = {figure.path.rsplit("/", 1)[-1]: f"![{one_line(figure.alt)}]({figure.path})" for figure in figures}
    banner_title, banner = prose.banner(facts)
    more = [prose.scenarios_made(facts)] if facts.scenario_counts else []
    more += [prose.pairs_made(facts)] if facts.targets else []
    return {
        "title": TITLE,
        "banner_title": banner_title,
        "banner": banner,
        "intro": _intro(facts),
        "config_rows": _config_rows(facts),
        "load_lines": _load_lines(facts),
        "answers": _answers(facts, shown),
        "columns": _columns(facts),
        "personas": _personas(facts),
        "questions_made": prose.questions_made(facts),
        "answers_made": prose.answers_made(facts),
        "more_made": "".join(f"\n{number}. {text}" for number, text in enumerate(more, 3)),
        "simulated": bullets(prose.simulated(facts)),
        "limits": bullets(prose.limits(facts)),
        "provenance": _provenance(facts),
        "licence": prose.licence(facts),
        "citations": "\n\n".join([CITATION, *([_set_citation(facts.persona_set)] if facts.persona_set else [])]),
    }


def _intro(facts: FolderFacts) -> str:
    asked = sum(split.rows for split in facts.splits["questions"].values())
    verb = "answers" if len(facts.personas) == 1 else "answer"
    answered = "them" if facts.question_count == asked else f"{facts.question_count:,} of them"
    texts = [
        "What do different people hold to be fair when something scarce is given out? This dataset asks "
        f"{counted(asked, 'multiple-choice question')}: problems of public life (who should get a lower energy bill, a "
        "place in child care, protection from online harassment, ...), for one group of people after another, along 5 "
        "dimensions of fairness, each in 2 forms. Every question has option A (the first pole of its dimension), B (the "
        f"second pole) and C (neither). {counted(len(facts.personas), 'persona')} {verb} {answered}."
    ]
    if facts.targets:
        texts.append(
            "From the answers come weighted preference pairs for aligning a language model with one persona in particular."
        )
    if prose.published(facts):
        texts.append("Questions and answers are those of the published Fair-PP tables, brought into other columns.")
    return " ".join(texts)


def _config_rows(facts: FolderFacts) -> str:
    lines = []
    for config, splits in facts.splits.items():
        what = row_of(config) + (" (default)" if config == DEFAULT_CONFIG else "")
        counts = [f"{splits[split].rows:,}" if split in splits else "none" for split in ("train", "test")]
        lines.append(row(code(config), what, *counts))
    return "\n".join(lines)


def _load_lines(facts: FolderFacts) -> str:
    lines = [f'preferences = load_dataset("{REPO_ID}", "preferences")  # or the path of the folder, such as "./fairpp"']
    if facts.targets:
        lines.append(f'pairs = load_dataset("{REPO_ID}", "pairs-{list(facts.targets)[-1]}")')
    return "\n".join(lines)


# Answers


def _answers(facts: FolderFacts, shown: Mapping[str, str]) -> str:
    parts = [
        f"Respondent: {prose.names(facts)}. {_when(facts)}",
        shown.get("answer_shares.png", ""),
        _share_table({persona: over_dimensions(counts) for persona, counts in facts.answer_counts.items()}),
        "By dimension, as A / B / C in percent of all records:",
        _dimension_table(facts),
        _status_part(facts),
    ]
    if "agreement.png" in shown:
        parts += ["How often two personas give the same answer, of the questions that both answered:"]
        parts += [shown["agreement.png"]]
    if facts.targets:
        parts += [
            "Number of questions by how many of the personas that a target is compared with answered differently:",
            shown.get("tiers.png", ""),
            _tier_table(facts),
            *_label_models(facts),
        ]
    if facts.scenario_counts:
        parts += ["Answers to the scenarios:", _share_table(facts.scenario_counts)]
    return "\n\n".join(part for part in parts if part)


def _when(facts: FolderFacts) -> str:
    first, _, last = (facts.origin.answered_on or "").partition("/")
    if last:
        return f"Answered from {first} to {last}."
    if first:
        return f"Answered on {first}."
    return (
        "The answers are computed and have no date."
        if prose.by_survey(facts)
        else "When they answered is not recorded."
    )


def _share_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    keys = (*OPTION_LETTERS, NONE)
    return table(
        ("persona", "records", *OPTION_LETTERS, "no valid answer"),
        (
            (code(persona), f"{sum(row.values()):,}", *(f"{share_of(row, key):.1%}" for key in keys))
            for persona, row in counts.items()
        ),
    )


def _dimension_table(facts: FolderFacts) -> str:
    heads = [f"{number}: {poles.pole_a} (A) or {poles.pole_b} (B)" for number, poles in facts.dimensions.items()]
    return table(
        ("persona", *heads),
        (
            (code(persona), *(_shares(counts[number]) for number in facts.dimensions))
            for persona, counts in facts.answer_counts.items()
        ),
    )


def _shares(counts: Mapping[str, int]) -> str:
    if not sum(counts.values()):
        return "not asked"
    return " / ".join(f"{100 * share_of(counts, letter):.0f}" for letter in OPTION_LETTERS)


def _status_part(facts: FolderFacts) -> str:
    """Missing, refused and invalid answers by persona."""
    statuses = statuses_in(facts.status_counts, STATUSES)
    records = {persona: sum(counts.values()) for persona, counts in facts.status_counts.items()}
    missing = {persona: facts.question_count - count for persona, count in records.items()}
    if statuses == ["ok"] and not any(missing.values()):
        return f"All {sum(records.values()):,} records hold a valid answer, and no question was left out."
    listed = table(
        ("persona", *(_STATUS_HEADS.get(status, status) for status in statuses), "missing"),
        (
            (code(persona), *(f"{counts.get(status, 0):,}" for status in statuses), f"{missing[persona]:,}")
            for persona, counts in facts.status_counts.items()
        ),
    )
    return (
        "Records by outcome. An answer that is not valid is kept as -1 with its `status`, and never counted as C. A "
        f"question is missing where another persona has a record of it and this one has none.\n\n{listed}"
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


def _label_models(facts: FolderFacts) -> list[str]:
    """How good the label models are that soft labels come from; nothing where there are none."""
    models = {target: found.label_model for target, found in facts.targets.items() if found.label_model is not None}
    if not models:
        return []
    return [
        "How well the label model of each target predicts held-out answers: log-likelihood in nats per answer, beside that "
        "of the constant, the target's shares of A, B and C. Where it is no better, the labels are the constant. The last "
        "column is how much the target's own answer to a question counts.",
        table(
            ("target", "label model", "constant", "own answer"),
            (
                (
                    code(target),
                    f"{model.log_likelihood:.4f}",
                    f"{model.constant_log_likelihood:.4f}",
                    f"{model.own_weight:.0%}",
                )
                for target, model in models.items()
            ),
        ),
    ]


# Columns and personas


def _columns(facts: FolderFacts) -> str:
    answered = facts.features[DEFAULT_CONFIG]
    added = Features({name: answered[name] for name in answered if name not in QUESTION_FEATURES})
    like_preferences = " and `scenarios`" if facts.scenario_counts else ""
    sections = [
        ("`questions`", QUESTION_FEATURES, _COLUMNS),
        (f"`preferences`{like_preferences}: those of `questions`, and", added, _COLUMNS),
    ]
    if facts.targets:
        of_pairs = (SOFT_PAIR_FEATURES, _SOFT_PAIR_COLUMNS) if facts.pairs.soft else (PAIR_FEATURES, _PAIR_COLUMNS)
        sections.append(("`pairs-<persona>`", *of_pairs))
    tables = [
        f"{title}\n\n"
        + table(
            ("column", "type", "content"),
            ((code(name), _type_name(feature), texts[name]) for name, feature in features.items()),
            left=3,
        )
        for title, features, texts in sections
    ]
    if facts.scenario_counts and "raw_reply" in added and "raw_reply" not in facts.features["scenarios"]:
        tables.append("`scenarios` has no `raw_reply`.")
    if facts.scenario_counts:
        tables.append(
            "In `scenarios`, the options are the scenes, `question` is the closing question, and `prompt` is all of it; "
            "`question_id` joins with the question that was told."
        )
    return "\n\n".join(tables)


def _type_name(feature: Any) -> str:
    if hasattr(feature, "names"):
        return "class label"
    if not hasattr(feature, "feature"):
        return str(feature.dtype)
    inner = feature.feature
    return f"list of {inner.dtype}" if hasattr(inner, "dtype") else "list of messages"


def _personas(facts: FolderFacts) -> str:
    personas = facts.persona_set
    if personas is None:
        return f"{', '.join(code(persona) for persona in facts.personas)}; of no set that this package knows."
    known = [persona for persona in personas if persona.id in facts.personas]
    plural = "persona below is a segment" if len(known) == 1 else "personas below are segments"
    parts = [
        f"The {len(known)} {plural} of *{one_line(personas.title)}* "
        f"({one_line(personas.publisher)}, {personas.year}, {one_line(personas.country)}). Survey sample: "
        f"{one_line(personas.sample)}",
        table(
            ("persona", "segment", "share of the survey's population"),
            ((code(persona.id), persona.name, f"{persona.share:.0%}") for persona in known),
            left=2,
        ),
    ]
    others = [persona for persona in facts.personas if persona not in personas.ids]
    if others:
        parts.append(f"Not of this set: {', '.join(code(persona) for persona in others)}.")
    if personas.sources:
        sources = "\n".join(f"- <{source}>" for source in personas.sources)
        parts.append(
            f"<details><summary>Sources of the figures used ({len(personas.sources)})</summary>\n\n{sources}\n\n</details>"
        )
    return "\n\n".join(parts)


# Provenance and citation


def _provenance(facts: FolderFacts) -> str:
    origin, personas, published = facts.origin, facts.persona_set, prose.published(facts)
    kinds = {
        "survey": "the survey respondent of `fairpp_hf`",
        "run": "a run of `fairpp generate`",
        "published": f"published tables, {code(origin.repo or 'a local file')}",
        "folder": "a dataset folder that does not say where it has them from",
    }
    rows = [("answers", kinds[origin.kind]), ("respondent", prose.names(facts)), ("date", _when(facts))]
    # A folder has one record of where its answers come from, which then is that of its scenarios, too.
    of_scenarios = facts.scenario_origin if facts.scenario_origin != origin else None
    for what, found in (("answers", origin), ("scenarios", of_scenarios)):
        if found is not None and found.commit:
            rows.append((f"commit of the {what}", f"{code(found.commit)} of {code(found.repo or 'an unnamed repo')}"))
    if personas is not None:
        of_what = (
            "over figures and portraits, which are not the authors'" if published else "over figures and portraits"
        )
        rows.append(("persona set", f"{code(personas.id)}, digest {code(personas.digest)} {of_what}"))
    rows.append(("built with", f"`fairpp_hf` {facts.version}"))
    parts = [table(("what", "value"), rows, left=2)]
    if origin.notes:
        parts.append("Counted at import:\n\n" + bullets(map(one_line, origin.notes)))
    if of_scenarios is not None and of_scenarios.notes:
        parts.append("Counted at import of the scenarios:\n\n" + bullets(map(one_line, of_scenarios.notes)))
    if personas is not None and origin.kind == "run":
        parts.append(_portrait_digests(personas, facts.personas))
    prompts = [
        (code(config), split, code(found.prompts_sha256))
        for config, splits in facts.splits.items()
        for split, found in splits.items()
        if found.prompts_sha256 is not None
    ]
    parts.append(
        "Prompts, SHA-256 of the column `prompt` in order, each followed by a line feed: "
        '`sha256("".join(p + "\\n" for p in rows["prompt"]).encode()).hexdigest()`'
    )
    parts.append(table(("config", "split", "sha256"), prompts, left=3))
    return "\n\n".join(parts)


def _portrait_digests(personas: PersonaSet, asked: Sequence[str]) -> str:
    listed = table(
        ("persona", "sha256 of its portrait"),
        (
            (code(persona.id), code(hashlib.sha256(persona.portrait.encode()).hexdigest()))
            for persona in personas
            if persona.id in asked
        ),
        left=2,
    )
    return f"Portraits, the system messages:\n\n{listed}"


def _set_citation(personas: PersonaSet) -> str:
    """The survey behind a persona set as BibTeX."""
    hosts = dict.fromkeys(urlsplit(source).netloc.removeprefix("www.") for source in personas.sources)
    places = ", ".join(host for host in hosts if host)
    fields = [
        f"  title   = {{{_bibtex(personas.title)}}}",
        f"  author  = {{{{{_bibtex(personas.publisher)}}}}}",
        f"  year    = {{{personas.year}}}",
        *([f"  note    = {{Figures as given at {_bibtex(places)}}}"] if places else []),
    ]
    return f"@misc{{{personas.id},\n" + ",\n".join(fields) + "\n}"


def _bibtex(text: str) -> str:
    for special in "&%#_$":
        text = text.replace(special, f"\\{special}")
    return one_line(text)
