"""The card of a trained model: facts from the trainer and its data, in a template with the prose.

`collect_facts` asks the trainer, and `render_model_card` fills `model_card_template.md`. The card says that a fact is not
recorded if nobody recorded it; nothing is guessed.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import yaml
from accelerate.utils import is_peft_model
from datasets import Dataset
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from trl.trainer.utils import get_config_model_id

from fairpp_hf import __version__
from fairpp_hf.naming import check_name
from fairpp_hf.personas import PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.preferences.schemes import SCHEMES, scheme_name
from fairpp_hf.provenance import CITATION, PUBLISHED_LICENCE, Provenance, without_provenance
from fairpp_hf.training.columns import TIER, column_of, weights_of
from fairpp_hf.training.losses import PROMPT_LOSSES

TEMPLATE = Path(__file__).with_name("model_card_template.md")

CARD_FACTS = {
    "target": "id of the persona to align with",
    "persona_set": "a PersonaSet, or the name of one",
    "answers": "'survey', or the name or path of a run or dataset folder",
    "simulated": "bool: whether all answers were given in the personas' place, and none by a person",
    "licence": "Hub id of the answers' licence, such as 'cc-by-4.0'",
    "comparison": "ids of the personas to move away from, 'nearest', or None for all others",
    "weighting": "the weighting scheme: a name, or a function",
    "alpha": "the scheme's exponent of a tier's number",
    "beta": "the scheme's exponent of a tier's size",
    "labels": "where the labels of pairs come from: 'answers', 'respondent' or 'fitted'",
    "divergence": "how far soft labels lean away from the comparison personas; 0 is the target itself",
    "dataset_name": "'fairpp', a dataset of the Hub, or the path of a folder",
    "base_model": "Hub name or path of the first model, if the trainer was given a later one",
    "after_sft": "bool: whether the trainer was given a model from a stage of weighted supervised fine-tuning",
}
"""Facts that a trainer cannot know: the keys of its `card_facts`. The card says of the others that they are not recorded."""

_SETTINGS = (
    *("loss_type", "loss_weights", "reference", "beta", "label_smoothing", "f_divergence_type", "ld_alpha"),
    *("soft_labels", "group_column", "group_step_size", "precompute_ref_log_probs", "max_length", "truncation_mode"),
    *("optim", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "bf16", "fp16", "seed", "data_seed"),
)
"""Fields of the configurations that decide what comes of training."""


class WeightFacts(NamedTuple):
    """The weights of the training data, as the loss gets them."""

    rows: int
    total: float
    largest: float
    effective_sample_size: float
    """(sum w)^2 / sum w^2, in rows."""
    tiers: tuple[tuple[int, int, float], ...]
    """(tier, rows, sum of their weights) in ascending order; empty without a column `tier`."""


@dataclass(frozen=True)
class ModelCardFacts:
    """Everything that a model's card says."""

    model_name: str
    model_id: str | None
    """Name on the Hub, where it has one."""
    base_model: str | None
    """Hub name; of a local path only the last part, because the rest is private."""
    base_on_hub: bool
    base_revision: str | None
    stage: str
    """`dpo` or `sft`."""
    reference: str | None
    """`model` or `none`, see `ReweightedDPOConfig`; None in stage `sft`."""
    tags: Sequence[str]
    adapter: str | None
    """Kind and size of the PEFT adapter; None for a whole model."""
    given: Mapping[str, Any]
    """`card_facts` of the trainer."""
    target: str | None
    dataset_name: str | None
    """Shortened as `base_model` is."""
    dataset_on_hub: bool
    dataset_description: str
    """What the dataset says of itself, in one line; may be empty."""
    weights: WeightFacts | None
    """None if the training data is not known."""
    weight_normalization: str
    weight_application: str
    group_column: str | None
    settings: Mapping[str, str]
    step: int
    max_steps: int
    train: Mapping[str, float] | None
    """The metrics of the last log and its `step`, under TRL's names."""
    evaluation: Mapping[str, float] | None
    """Likewise, without `eval_`."""
    versions: Mapping[str, str]
    method_citation: str | None
    """BibTeX of the paper that TRL names for its trainer."""


def collect_facts(
    trainer: Any,
    model_name: str | None = None,
    dataset_name: str | None = None,
    tags: str | Iterable[str] | None = None,
) -> ModelCardFacts:
    """Ask a trainer for the facts of its model's card.

    Args:
        trainer: A `ReweightedDPOTrainer` or `ReweightedSFTTrainer`. Its `card_facts`, with keys of `CARD_FACTS`, say what
            it cannot know.
        model_name: Title of the card; by default the last part of the Hub name or of the output folder.
        dataset_name: Hub name of the dataset; by default that of `card_facts`.
        tags: Further tags.

    Raises:
        ValueError: `card_facts` has a key that is not in `CARD_FACTS`, or a flag that is neither True nor False.
    """
    for name in trainer.card_facts:
        check_name("A key of card_facts", name, CARD_FACTS)
    given = dict(trainer.card_facts)
    for name in ("simulated", "after_sft"):
        if not isinstance(given.get(name, False), bool):
            raise ValueError(
                f"{name} of card_facts must be True or False; got {given[name]!r}. Leave it out if it is not known."
            )
    args, model, state = trainer.args, trainer.model, trainer.state
    data = trainer.train_dataset
    told = data.info.description if data is not None else ""
    description = " ".join(without_provenance(told).split())
    if (provenance := Provenance.in_text(told)) is not None and provenance.simulated:
        given.setdefault("simulated", True)
    if data is not None and data.info.license:
        given.setdefault("licence", " ".join(data.info.license.split()))
    stage = "sft" if "sft" in trainer._tag_names else "dpo"
    base = given.get("base_model") or get_config_model_id(model.config)
    base_on_hub = _may_be_on_hub(base)
    adapter = model.active_peft_config if is_peft_model(model) else None
    group_column = getattr(trainer, "group_column", None)
    dataset_name = dataset_name or given.get("dataset_name")
    all_tags = [
        "generated_from_trainer",
        *([tags] if isinstance(tags, str) else tags or ()),
        *trainer._tag_names,
        *("fair-pp", "alignment"),
        *(["simulated"] if given.get("simulated") else []),
        "arxiv:2505.11861",
        *(["arxiv:2305.18290"] if stage == "dpo" else []),
        *(["arxiv:2405.20304"] if group_column else []),
        # As PEFT sets them in its card, which this one takes the place of.
        *(["transformers", adapter.peft_type.value.lower()] if adapter else []),
        *([f"base_model:adapter:{base}"] if adapter and base_on_hub else []),
    ]
    return ModelCardFacts(
        model_name=model_name or (trainer.hub_model_id or Path(args.output_dir).resolve().name).split("/")[-1],
        model_id=trainer.hub_model_id,
        base_model=_public_name(base),
        base_on_hub=base_on_hub,
        base_revision=(args.model_init_kwargs or {}).get("revision"),
        stage=stage,
        reference=getattr(trainer, "reference", None),
        tags=tuple(dict.fromkeys(all_tags)),
        adapter=_adapter_in_words(adapter) if adapter else None,
        given=given,
        target=given.get("target") or _only_persona(data),
        dataset_name=_public_name(dataset_name),
        # What has no owner is no dataset of the Hub, but ours.
        dataset_on_hub="/" in (dataset_name or "") and _may_be_on_hub(dataset_name),
        dataset_description=description,
        weights=_weight_facts(data),
        weight_normalization=trainer.weight_normalization,
        weight_application=getattr(trainer, "weight_application", "loss"),
        group_column=group_column,
        settings=_settings(trainer, group_column),
        step=state.global_step,
        max_steps=state.max_steps,
        train=_last_metrics(state.log_history, prefix="", mark="loss"),
        evaluation=_last_metrics(state.log_history, prefix="eval_", mark="eval_"),
        versions=_versions(adapter is not None, _quantization(model) is not None),
        method_citation=trainer._paper.get("citation"),
    )


def _may_be_on_hub(name: str | None) -> bool:
    if not name or os.path.isdir(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _public_name(name: str | None) -> str | None:
    if not name:
        return None
    return name if _may_be_on_hub(name) else Path(name).name


def _only_persona(data: Dataset | None) -> str | None:
    if data is None or "persona" not in data.column_names:
        return None
    personas = data.unique("persona")
    return personas[0] if len(personas) == 1 else None


def _weight_facts(data: Dataset | None) -> WeightFacts | None:
    if data is None:
        return None
    weights = weights_of(data)
    tiers: tuple[tuple[int, int, float], ...] = ()
    if TIER in data.column_names:
        numbers, tier_of = np.unique(column_of(data, TIER).to_numpy(), return_inverse=True)
        rows, sums = np.bincount(tier_of), np.bincount(tier_of, weights=weights)
        tiers = tuple(zip(numbers.tolist(), rows.tolist(), sums.tolist(), strict=True))
    total, squares = float(weights.sum()), float((weights**2).sum())
    return WeightFacts(len(weights), total, float(weights.max()), total**2 / squares, tiers)


def _last_metrics(entries: Iterable[Mapping[str, Any]], prefix: str, mark: str) -> dict[str, float] | None:
    """The metrics of the last step among logs that have a `mark`; each of several evaluation datasets makes a log."""
    logs = [entry for entry in entries if any(name.startswith(mark) for name in entry)]
    last = [entry for entry in logs if entry["step"] == logs[-1]["step"]]
    found = {
        name.removeprefix(prefix): value
        for entry in last
        for name, value in entry.items()
        if name.startswith(prefix) or name == "step"
    }
    return found or None


def _settings(trainer: Any, group_column: str | None) -> dict[str, str]:
    """The settings that training the same model again needs, by name; a setting that is off is left out."""
    args, model = trainer.args, trainer.model
    values = {name: getattr(args, name, None) for name in _SETTINGS if group_column or name != "group_step_size"}
    values |= {
        "share_prefix": getattr(trainer, "share_prefix", None),
        "processes": trainer.accelerator.num_processes,
        "dtype of the model": str(model.dtype).removeprefix("torch."),
        "quantization": _quantization(model),
        "adapter": _adapter_in_words(model.active_peft_config) if is_peft_model(model) else None,
        "epochs": round(trainer.state.epoch or 0, 3),
        "optimiser steps": trainer.state.global_step,
    }
    return {name: _setting(value) for name, value in values.items() if value}


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))


def _adapter_in_words(config: Any) -> str:
    if config.peft_type != "LORA":
        return str(config.peft_type.value)
    modules = config.target_modules or ()
    where = modules if isinstance(modules, str) else ", ".join(sorted(modules))
    return f"LoRA, r = {config.r}, alpha = {config.lora_alpha}, dropout {config.lora_dropout:g}, on {where}"


def _quantization(model: Any) -> str | None:
    config = getattr(model.config, "quantization_config", None)
    if config is None:
        return None
    settings = config if isinstance(config, dict) else config.to_dict()
    if settings.get("load_in_4bit"):
        return f"4 bits ({settings['bnb_4bit_quant_type']})"
    return "8 bits" if settings.get("load_in_8bit") else str(settings["quant_method"])


def _versions(adapter: bool, quantized: bool) -> dict[str, str]:
    names = ["TRL", "Transformers", "PyTorch", "Datasets", "Accelerate", "Tokenizers"]
    names += ["PEFT"] * adapter + ["bitsandbytes"] * quantized
    return {"fairpp_hf": __version__, **{name: version({"PyTorch": "torch"}.get(name, name.lower())) for name in names}}


# -- the text ----------------------------------------------------------------------------------------------------------


# Speed, bookkeeping and the scale of logits say nothing about the model to a reader of the card.
_OTHER_METRICS = re.compile(
    r"(.*_)?(epoch|step|total_flos|grad_norm|learning_rate|num_\w+|runtime|\w+_per_second|logits/.*|logps/.*|groups/.*)"
)
_TIER_METRIC = re.compile(r"tiers/(\d+)/loss")
_GROUP_METRIC = re.compile(r"groups/(.*)/weight")


def render_model_card(facts: ModelCardFacts) -> str:
    """The text of README.md for a trained model: YAML header and the filled template.

    Args:
        facts: Facts as `collect_facts` finds them.
    """
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"cell": lambda text: str(text).replace("|", "\\|"), "number": _number}
    given = facts.given
    personas = given.get("persona_set")
    if not isinstance(personas, PersonaSet):
        personas = load_personas(personas) if personas in PERSONA_SETS else None
    answers = given.get("answers")
    if answers is not None and Path(answers).exists():
        answers = Path(answers).name  # the rest of a local path is of no use to others
    scheme = None if given.get("weighting") is None else scheme_name(given["weighting"])
    text = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        vars(facts)
        | {
            **{name: given.get(name) for name in CARD_FACTS if name not in ("target", "base_model", "dataset_name")},
            "answers": answers,
            "given": given,
            "personas": personas,
            "segment": personas.get(facts.target) if personas is not None and facts.target in personas.ids else None,
            "scheme": scheme,
            "meaning": SCHEMES[scheme].meaning if scheme in SCHEMES and isinstance(given["weighting"], str) else None,
            "has_exponents": scheme in SCHEMES and SCHEMES[scheme].has_exponents,
            "fits_options": bool(set(PROMPT_LOSSES) & set(facts.settings.get("loss_type", "").split(", "))),
            "metric_names": _metric_names(facts),
            "groups": _heaviest_groups(facts),
            "published_licence": PUBLISHED_LICENCE,
            "citation": CITATION,
        }
    )
    header = yaml.safe_dump(model_metadata(facts).to_dict(), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{header}---\n\n{text.strip()}\n"


def model_metadata(facts: ModelCardFacts) -> ModelCardData:
    """The card's Hub metadata; without a licence, because that of the base model is not known here."""
    return ModelCardData(
        model_name=facts.model_name,
        base_model=facts.base_model if facts.base_on_hub else None,
        datasets=[facts.dataset_name] if facts.dataset_name and facts.dataset_on_hub else None,
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag="text-generation" if facts.adapter else None,
        tags=list(facts.tags),
        eval_results=_eval_results(facts) or None,
    )


_RESULTS = {
    "question_js_distance/target": "Distance to the target by question (Jensen-Shannon, lower is nearer)",
    "question_js_distance/constant": "Distance to the target by question of the baseline, a constant answer",
    "skill/target": "Skill (1 - error / the constant answer's, above 0 is nearer than it)",
    "js_distance/target": "Distance of answer shares to the target's (Jensen-Shannon, lower is nearer)",
    "agreement/target": "Agreement with the target",
}
"""What the Hub shows of the last evaluation against the target, and the name of each metric there."""


def _eval_results(facts: ModelCardFacts) -> list[EvalResult]:
    """The last evaluation against the target, and the baseline's, for the metadata's `model-index`."""
    if facts.target is None or facts.evaluation is None:
        return []
    values = {name: facts.evaluation.get(name, math.nan) for name in _RESULTS}
    simulated = " (simulated)" if facts.given.get("simulated") else ""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=str(facts.dataset_name) if facts.dataset_on_hub else "fairpp",
            dataset_name=f"Fair-PP questions, answers of {facts.target}{simulated}",
            dataset_config="preferences",
            dataset_split="test",
            dataset_args={"target": facts.target},
            metric_type=name,
            metric_value=round(value, 4),
            metric_name=_RESULTS[name],
        )
        for name, value in values.items()
        if math.isfinite(value)
    ]


def _metric_names(facts: ModelCardFacts) -> list[str]:
    """Names of the metrics that the card shows, tiers in their order."""
    logged = {**(facts.train or {}), **(facts.evaluation or {})}
    shown = [name for name in logged if not _OTHER_METRICS.fullmatch(name)]
    # A batch may lack a tier, so that the order of first sight is none.
    return sorted(shown, key=lambda name: int(match[1]) if (match := _TIER_METRIC.fullmatch(name)) else -1)


def _heaviest_groups(facts: ModelCardFacts) -> list[tuple[str, float, float | None]]:
    """(group, weight, training loss) of the groups, those first that training has come to weigh most."""
    values = facts.train or {}
    weights = {match[1]: value for name, value in values.items() if (match := _GROUP_METRIC.fullmatch(name))}
    heaviest = sorted(weights, key=lambda group: -weights[group])
    return [(group, weights[group], values.get(f"groups/{group}/loss")) for group in heaviest]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
