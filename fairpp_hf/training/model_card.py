"""The card of a trained model: Hub metadata, and a text filled from what the trainer and its data say.

`collect_facts` asks the trainer, `render_model_card` writes, and `WeightedModelCard` does both for a trainer. What nobody
recorded is called that; nothing is guessed.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from fairpp_hf.personas import PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.preferences.schemes import SCHEMES, scheme_name
from fairpp_hf.provenance import CITATION, PUBLISHED_LICENCE
from fairpp_hf.training.losses import PROMPT_LOSSES
from fairpp_hf.training.model_card_facts import ModelCardFacts, collect_facts

CARD = "README.md"
NOT_RECORDED = "not recorded"

_SCHEMES_IN_WORDS = {
    "tier": "Tier i of a question is 1 + the number of comparison personas that answered it unlike the target. With N_i "
    "questions in tier i of K, each of them weighs in proportion to (i / K)^alpha (1 / N_i)^beta.",
    "tier_from_zero": "Tier i of a question is 1 + the number of comparison personas that answered it unlike the target. "
    "With N_i questions in tier i of K, each of them weighs in proportion to ((i - 1) / K)^alpha (1 / N_i)^beta.",
    "surprisal": "A question weighs -log p, where p is the smoothed share of the comparison personas' population that gave "
    "the target's answer.",
    "uniform": "Every question weighs the same.",
}
_NORMALIZATIONS_IN_WORDS = {
    "dataset": "Weights were scaled to a mean of 1 over the training data.",
    "batch": "Each optimiser step was divided by the sum of its weights.",
    "none": "Weights were used as they are.",
}
_APPLICATIONS_IN_WORDS = {
    "loss": "They multiplied the losses.",
    "sampling": "Training data was drawn in proportion to them.",
}

_LABELS_IN_WORDS = {
    "answers": "the one answer that the target gave to a question",
    "respondent": "the option probabilities of whoever answered",
    "fitted": "option probabilities of a model of the questions' labels that was fitted to the target's answers",
}

# Speed, bookkeeping and the scale of logits say nothing about the model to whoever reads the card.
_OTHER_METRICS = re.compile(
    r"(.*_)?(epoch|step|total_flos|grad_norm|learning_rate|num_\w+|runtime|\w+_per_second|logits/.*|logps/.*|groups/.*)"
)
_TIER_METRIC = re.compile(r"tiers/(\d+)/loss")
_GROUP_METRIC = re.compile(r"groups/(.*)/weight")
_GROUPS_SHOWN = 10

_GROUP_CITATION = """\
@article{ramesh2024group,
  title   = {Group Robust Preference Optimization in Reward-free RLHF},
  author  = {Ramesh, Shyam Sundhar and Hu, Yifan and Chaimalas, Iason and Mehta, Viraj and Sessa, Pier Giuseppe
             and Bou Ammar, Haitham and Bogunovic, Ilija},
  journal = {arXiv preprint arXiv:2405.20304},
  year    = {2024}
}"""


class WeightedModelCard:
    """Mixin for a TRL trainer with weights: the model's card says whose preferences it has and how they were weighed.

    It stands before TRL's trainer among the base classes. TRL writes the card with every checkpoint and before a push.
    Here it is also written when a user saves the model into the output folder, so that it has the final metrics.
    """

    card_facts: Mapping[str, Any] = {}
    """What the trainer cannot know, to be set on it: keys of `CARD_FACTS`."""

    args: Any

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        """Write README.md into the output folder, on the main process only.

        It takes the place of what is there, as TRL's does. From PEFT's card it has library, pipeline, tags, base model and
        PEFT's version, so that nothing of that is lost.

        Args:
            model_name: title; by default the last part of the Hub name or of the output folder.
            dataset_name: Hub name of the dataset; by default that of `card_facts`.
            tags: further tags.

        Raises:
            ValueError: `card_facts` has a key that is not in `CARD_FACTS`, or a flag that is neither True nor False.
        """
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        text = render_model_card(collect_facts(self, model_name, dataset_name, tags))
        (folder / CARD).write_text(text, encoding="utf-8", newline="\n")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does; and its card, where a user saves into the output folder."""
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        # After it: PEFT puts tags of its own into a card that it finds.
        if not _internal_call and output_dir in (None, self.args.output_dir):
            self.create_model_card()


def render_model_card(facts: ModelCardFacts) -> str:
    """The text of README.md for a trained model: YAML header, then the filled template.

    Args:
        facts: as `collect_facts` finds them.
    """
    header = yaml.safe_dump(model_metadata(facts).to_dict(), sort_keys=False, allow_unicode=True, width=100)
    template = Path(__file__).with_name("model_card_template.md").read_text("utf-8")
    return f"---\n{header}---\n\n{Template(template).substitute(_fields(facts)).rstrip()}\n"


def model_metadata(facts: ModelCardFacts) -> ModelCardData:
    """The card's Hub metadata; without a licence, since nothing here knows that of the base model."""
    return ModelCardData(
        model_name=facts.model_name,
        base_model=facts.base_model if facts.base_on_hub else None,
        datasets=[facts.dataset_name] if facts.dataset_name and facts.dataset_on_hub else None,
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag="text-generation" if facts.adapter else None,
        tags=list(facts.tags),
    )


def _fields(facts: ModelCardFacts) -> dict[str, str]:
    banner_title, banner = _who_answered(facts)
    return {
        "title": facts.model_name,
        "banner_title": banner_title,
        "banner": banner,
        "summary": _summary(facts),
        "load_code": _load_code(facts),
        "measure": _measure(facts),
        "whose": _bullets(_whose(facts)),
        "weighting": _weighting(facts),
        "weight_tables": _weight_tables(facts),
        "settings": _table(("setting", "value"), facts.settings.items()),
        "metrics": _metrics(facts),
        "versions": _bullets(f"{name} {version}" for name, version in facts.versions.items()),
        "limits": _bullets(_limits(facts)),
        "licence": _licence(facts),
        "citations": _citations(facts),
        "persona_citation": _persona_citation(facts),
    }


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A Markdown table; with `numbers`, all columns but the first are aligned to the right."""
    rule = ["---", *(["---:"] if numbers else ["---"]) * (len(header) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# -- what it is --------------------------------------------------------------------------------------------------------


def _who_answered(facts: ModelCardFacts) -> tuple[str, str]:
    """The banner's first words, and the rest of it."""
    answers = facts.given.get("answers")
    by = "" if answers is None else f" ({_answers_in_words(answers)})"
    simulated = facts.given.get("simulated")
    if simulated is None:
        return (
            "Origin of the answers: not recorded.",
            f"The model was trained on answers{by} of which nobody recorded whether they are simulated. Unless whoever "
            "trained it says otherwise, take it that no real person was asked.",
        )
    if simulated:
        return (
            "Simulated answers.",
            f"No real person was asked. The answers that the model was trained on{by} were given in the personas' place. "
            "What it has learnt is what those stand-ins answered, not what any group of people thinks.",
        )
    return (
        "Answers not marked as simulated.",
        f"Whoever trained the model recorded that the answers{by} are not all simulated. This card can tell neither which "
        "ones people gave nor whether these people agreed to such a use.",
    )


def _answers_in_words(answers: Any) -> str:
    if str(answers) == "survey":
        return "`survey`, a choice model with parameters from published survey figures and from stated guesses"
    # Where a run lies on somebody's disk is of no use to others.
    return f"`{Path(answers).name if Path(answers).exists() else answers}`"


def _base_in_words(facts: ModelCardFacts) -> str:
    if facts.base_model is None:
        return "a model whose origin is not recorded"
    if facts.base_on_hub:
        revision = f" (revision `{facts.base_revision}`)" if facts.base_revision not in (None, "main") else ""
        return f"[{facts.base_model}](https://huggingface.co/{facts.base_model}){revision}"
    return f"the local model `{facts.base_model}`"


def _summary(facts: ModelCardFacts) -> str:
    what = "An adapter for" if facts.adapter else "A version of"
    how = "weighted supervised fine-tuning"
    if facts.stage == "dpo":
        how = "reweighted direct preference optimisation"
        if set(PROMPT_LOSSES) & set(facts.settings.get("loss_type", "").split(", ")):
            how = "fitting its probabilities of each question's options to a target distribution"
        how += " without a reference model" if facts.reference == "none" else ""
    if facts.target:
        aim = f"It aims to answer questions of fairness as the persona `{facts.target}` does."
    else:
        aim = "Whose preferences it aims at is not recorded."
    before = ""
    if facts.given.get("after_sft"):
        before = " Before it came a stage of weighted supervised fine-tuning"
        before += (
            "." if facts.reference == "none" else ", whose result is also the reference of preference optimisation."
        )
    return (
        f"{what} {_base_in_words(facts)}, trained by {how} with "
        f"[fairpp_hf](https://arxiv.org/abs/2505.11861) and [TRL](https://github.com/huggingface/trl). {aim} Every "
        f"training {_row(facts)} has a weight.{before}"
    )


def _row(facts: ModelCardFacts) -> str:
    return "text" if facts.stage == "sft" else "pair"


def _names(facts: ModelCardFacts) -> tuple[str, str]:
    """What the base and this model are called in code, `path/to` where they are in no place that others know."""
    base = facts.base_model or "base-model"
    return base if facts.base_on_hub else f"path/to/{base}", facts.model_id or f"path/to/{facts.model_name}"


def _load_code(facts: ModelCardFacts) -> str:
    base, model = _names(facts)
    if not facts.adapter:
        return f'from transformers import pipeline\n\ngenerator = pipeline("text-generation", model="{model}")'
    return "\n".join(
        [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline",
            "",
            f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{model}")',
            f'generator = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained("{model}"))',
        ]
    )


def _measure(facts: ModelCardFacts) -> str:
    if not facts.target:
        return "How near it comes to a persona is measured by `fairpp evaluate`."
    base, model = _names(facts)
    which = f"--model {base} --adapter {model}" if facts.adapter else f"--model {model}"
    return (
        f"How near it comes to the persona, beside its base model and the other personas, is measured by `fairpp evaluate "
        f"{which} --target {facts.target} --out results`."
    )


def _persona_set(facts: ModelCardFacts) -> PersonaSet | None:
    given = facts.given.get("persona_set")
    if isinstance(given, PersonaSet):
        return given
    return load_personas(given) if given in PERSONA_SETS else None


def _whose(facts: ModelCardFacts) -> list[str]:
    personas = _persona_set(facts)
    target = NOT_RECORDED
    if facts.target:
        target = f"`{facts.target}`"
        if personas is not None and facts.target in personas.ids:
            segment = personas.get(facts.target)
            target += f" ({segment.name}, {segment.share:.0%} of the survey's population)"
    set_of = facts.given.get("persona_set")
    described = NOT_RECORDED if set_of is None else f"`{set_of}`"
    if personas is not None:
        described = f"`{personas.id}`: *{personas.title}* ({personas.publisher}, {personas.year}, {personas.country})"
    answers = facts.given.get("answers")
    return [
        f"Target persona: {target}",
        f"Persona set: {described}",
        f"Compared with: {_comparison(facts, personas)}",
        f"Answers: {NOT_RECORDED if answers is None else _answers_in_words(answers)}",
        f"Labels: {_labels(facts)}",
        f"Training data: {_dataset(facts)}",
    ]


def _comparison(facts: ModelCardFacts, personas: PersonaSet | None) -> str:
    if "comparison" not in facts.given:
        return NOT_RECORDED
    comparison = facts.given["comparison"]
    if comparison == "nearest":
        return "the persona whose answers are nearest to the target's"
    if comparison is not None:
        return ", ".join(f"`{persona}`" for persona in comparison)
    others = [persona for persona in personas.ids if persona != facts.target] if personas is not None else []
    return "all others" + (f": {', '.join(f'`{persona}`' for persona in others)}" if others else " that answered")


def _labels(facts: ModelCardFacts) -> str:
    labels = facts.given.get("labels")
    if labels is None:
        return NOT_RECORDED
    if facts.stage == "sft":
        # Soft labels are of pairs; what is learnt by heart is the answer.
        return _LABELS_IN_WORDS["answers"]
    divergence = facts.given.get("divergence")
    lean = (
        f", leaning away from the personas that it is compared with (divergence {divergence:g})" if divergence else ""
    )
    return f"`{labels}`, {_LABELS_IN_WORDS[labels]}{lean}"


def _dataset(facts: ModelCardFacts) -> str:
    if facts.dataset_name is None:
        name = f"name {NOT_RECORDED}"
    elif facts.dataset_on_hub:
        name = f"[{facts.dataset_name}](https://huggingface.co/datasets/{facts.dataset_name})"
    elif facts.dataset_name == "fairpp":
        name = '`load_dataset("fairpp", "pairs", ...)` of fairpp_hf'
    else:
        name = f"the local folder `{facts.dataset_name}`"
    return name + (f'. It says of itself: "{facts.dataset_description}"' if facts.dataset_description else "")


# -- how it was trained ------------------------------------------------------------------------------------------------


def _weighting(facts: ModelCardFacts) -> str:
    scheme = facts.given.get("weighting")
    if scheme is None:
        words = [f"Weighting scheme: {NOT_RECORDED}."]
    else:
        name = scheme_name(scheme)
        exponents = [f"{key} = {facts.given[key]:g}" for key in ("alpha", "beta") if key in facts.given]
        shown = f", {', '.join(exponents)}" if exponents and name in SCHEMES and SCHEMES[name].has_exponents else ""
        words = [f"Weighting scheme: `{name}`{shown}."]
        if isinstance(scheme, str) and scheme in _SCHEMES_IN_WORDS:
            words.append(_SCHEMES_IN_WORDS[scheme])
    words += [
        _NORMALIZATIONS_IN_WORDS[facts.weight_normalization],
        _APPLICATIONS_IN_WORDS[facts.weight_application],
    ]
    if facts.group_column:
        words.append(
            f"Besides, groups of {_row(facts)}s (column `{facts.group_column}`) have weights that grew with their losses, "
            "so that training attends to the worst-off ones."
        )
    return " ".join(words)


def _weight_tables(facts: ModelCardFacts) -> str:
    weights, rows = facts.weights, f"{_row(facts)}s"
    if weights is None:
        return "The training data was a stream, so that its weights were not counted."
    overall = _table(
        (f"training {rows}", "mean weight", "largest weight", "effective sample size"),
        [
            (
                f"{weights.rows:,}",
                f"{weights.total / weights.rows:.4g}",
                f"{weights.largest:.4g}",
                f"{weights.effective_sample_size:,.1f} ({weights.effective_sample_size / weights.rows:.1%} of the {rows})",
            )
        ],
        numbers=True,
    )
    meaning = "The effective sample size is (sum of weights)² / (sum of squared weights)."
    if not weights.tiers:
        return f"{overall}\n\n{meaning}"
    by_tier = _table(
        ("tier", rows, f"share of {rows}", "share of weight", "mean weight"),
        (
            (
                str(tier.tier),
                f"{tier.rows:,}",
                f"{tier.rows / weights.rows:.1%}",
                f"{tier.weight / weights.total:.1%}",
                f"{tier.weight / tier.rows:.4g}",
            )
            for tier in weights.tiers
        ),
        numbers=True,
    )
    return f"{overall}\n\n{meaning}\n\n{by_tier}"


def _metrics(facts: ModelCardFacts) -> str:
    logs = {"training": facts.train, "evaluation": facts.evaluation}
    logged = {title: log for title, log in logs.items() if log is not None}
    unfinished = ""
    if facts.step < facts.max_steps:
        unfinished = f"This card was written at step {facts.step:,} of {facts.max_steps:,}, before training was over. "
    if not logged:
        return f"{unfinished}No metrics were logged."
    shown = dict.fromkeys(name for log in logged.values() for name in log.values if not _OTHER_METRICS.fullmatch(name))
    # A batch may lack a tier, so that the order of first sight is none.
    names = sorted(shown, key=lambda name: int(match[1]) if (match := _TIER_METRIC.fullmatch(name)) else -1)
    table = _table(
        ("metric", *(f"{title}, step {log.step:,}" for title, log in logged.items())),
        ((f"`{name}`", *(_number(log.values.get(name)) for log in logged.values())) for name in names),
        numbers=True,
    )
    text = f"{unfinished}The last log of {' and of '.join(logged)}, under TRL's names.\n\n{table}"
    skill = _skill(facts)
    text += f"\n\n{skill}" if skill else ""
    groups = _group_table(facts)
    links = "".join(f"\n\nLogs of the run: <{link}>" for link in facts.run_links)
    return text + (f"\n\n{groups}" if groups else "") + links


def _skill(facts: ModelCardFacts) -> str:
    """How the model stands beside a constant answer, where alignment was scored."""
    values = facts.evaluation.values if facts.evaluation is not None else {}
    names = ("question_js_distance/target", "question_js_distance/constant", "skill/target")
    distance, constant, skill = (values.get(name, math.nan) for name in names)
    if math.isnan(skill):
        return ""
    than = "nearer to" if skill > 0 else "no nearer to"
    return (
        f"Distance to the target question by question (Jensen-Shannon, lower is nearer): {distance:.3f}; of a constant "
        f"answer, the target's mean shares said to every question: {constant:.3f}. Skill, 1 - the model's error / the "
        f"constant's, where the error is that distance if the target's option probabilities are known and the Brier score "
        f"if only its answers are: **{skill:+.2f}**. By this estimate, which has no interval here (`fairpp evaluate` gives "
        f"one), the model is {than} its target than that constant."
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _group_table(facts: ModelCardFacts) -> str:
    """The groups that training has come to weigh most."""
    values = facts.train.values if facts.train is not None else {}
    weights = {match[1]: value for name, value in values.items() if (match := _GROUP_METRIC.fullmatch(name))}
    if not weights:
        return ""
    heaviest = sorted(weights, key=lambda group: -weights[group])[:_GROUPS_SHOWN]
    table = _table(
        ("group", "group weight", "training loss"),
        ((group, _number(weights[group]), _number(values.get(f"groups/{group}/loss"))) for group in heaviest),
        numbers=True,
    )
    which = (
        f"{len(heaviest)} of {len(weights)} groups, those" if len(heaviest) < len(weights) else "The groups, beginning"
    )
    return f"{which} with the largest weights:\n\n{table}"


# -- what to do with it ------------------------------------------------------------------------------------------------


def _limits(facts: ModelCardFacts) -> list[str]:
    limits = [
        "It was trained on short answers to multiple-choice questions. What it does in conversation, in other languages or "
        "on other subjects was not measured here; the faults of its base model remain.",
        f"{_what_metrics_are(facts)} They do not say what it lost on the way.",
        "A persona is an average. People within a group differ, often more than groups do.",
    ]
    if facts.given.get("simulated"):
        limits.append("Agreement with simulated answers says nothing about agreement with people.")
    return limits


def _what_metrics_are(facts: ModelCardFacts) -> str:
    subject = "concern the texts that it was taught" if facts.stage == "sft" else "compare answers within pairs"
    if facts.evaluation is not None and "js_distance/target" in facts.evaluation.values:
        return (
            f"The losses above {subject}; distances and agreement come from a sample of questions, without intervals: "
            "`fairpp evaluate` gives those."
        )
    return f"The metrics above {subject}, and do not say how near the model comes to the persona."


def _licence(facts: ModelCardFacts) -> str:
    """What binds the model; its own licence is for whoever trained it to choose."""
    unset = "This card sets no licence. The terms of the base model bind what is made from it"
    licence = facts.given.get("licence")
    if licence is None:
        return f"{unset}, and those of the training data may add conditions."
    said = f"{unset}. The answers that it was trained on are under `{licence}`."
    if licence == PUBLISHED_LICENCE:
        said += (
            " That is CC BY-NC-SA 4.0, the licence of the published Fair-PP tables: name the authors, no commercial use, "
            "share alike. What is derived from such answers may inherit it, this model included."
        )
    return said


def _citations(facts: ModelCardFacts) -> str:
    works = [("Fair-PP, whose idea of reweighting this is (arXiv:2505.11861)", CITATION)]
    if facts.method_citation:
        works.append(("Direct preference optimisation (arXiv:2305.18290)", facts.method_citation))
    if facts.group_column:
        works.append(("Group robustness (arXiv:2405.20304)", _GROUP_CITATION))
    return "\n\n".join(f"{title}:\n\n```bibtex\n{entry}\n```" for title, entry in works)


def _persona_citation(facts: ModelCardFacts) -> str:
    personas = _persona_set(facts)
    return "" if personas is None else f"Personas: {personas.publisher} ({personas.year}). *{personas.title}*."
