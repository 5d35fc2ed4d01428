"""The methods that are compared, and how each trains: from one model, on the same pairs, with the same compute."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from worlds import World

from fairpp_hf.naming import check_name
from fairpp_hf.preferences import preference_weights
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.preferences.schemes import WeightingFacts, tier_weights
from fairpp_hf.training import (
    ReweightedDPOConfig,
    ReweightedDPOTrainer,
    ReweightedSFTConfig,
    ReweightedSFTTrainer,
)
from fairpp_hf.training.run import with_group_column


@dataclass(frozen=True)
class Method:
    """A way of training; the defaults are those of plain DPO."""

    stages: tuple[str, ...] = ("dpo",)
    """`"sft"`, `"dpo"`, or both one after the other, each with half of the compute; none for a model as it is."""
    weighting: str = "uniform"
    """A weighting scheme of `fairpp_hf`, or one of `OWN_SCHEMES`."""
    alpha: float = 1.0
    beta: float = 1.0
    application: str = "loss"
    """`"loss"` or `"sampling"`; of the dpo stage."""
    soft_labels: bool = False
    group_column: str | None = None
    option_order: str = "mixed"
    dpo_beta: float = 1.0
    learning_rate_factor: float = 1.0
    """on the budget's learning rates"""
    with_portrait: bool = False
    """Whether the target's portrait is the system prompt when the model is asked."""


PAPERS_BETA = 0.1
"""Of DPO: the paper's, and TRL's default. Other methods have 1, see the page."""

METHODS: dict[str, Method] = {
    "plain": Method(stages=()),
    "role_play": Method(stages=(), with_portrait=True),
    "sft": Method(stages=("sft",)),
    "tier_sft": Method(stages=("sft",), weighting="tier"),
    "paper_dpo": Method(dpo_beta=PAPERS_BETA),
    "paper_tier_dpo": Method(weighting="tier", dpo_beta=PAPERS_BETA),
    "paper_shuffled_tier_dpo": Method(weighting="shuffled_tier", dpo_beta=PAPERS_BETA),
    "paper_sft_dpo": Method(stages=("sft", "dpo"), dpo_beta=PAPERS_BETA),
    "paper_weighted_sft_dpo": Method(stages=("sft", "dpo"), weighting="tier", dpo_beta=PAPERS_BETA),
    "paper_weighted_sft_dpo_sampling": Method(
        stages=("sft", "dpo"), weighting="tier", application="sampling", dpo_beta=PAPERS_BETA
    ),
    "dpo": Method(),
    "tier_dpo": Method(weighting="tier"),
    "tier_dpo_sampling": Method(weighting="tier", application="sampling"),
    "surprisal_dpo": Method(weighting="surprisal"),
    "soft_dpo": Method(soft_labels=True),
    "group_dpo": Method(group_column="group_type"),
    "tier_soft_dpo": Method(weighting="tier", soft_labels=True),
    "surprisal_soft_dpo": Method(weighting="surprisal", soft_labels=True),
    "tier_beta0_dpo": Method(weighting="tier", beta=0.0),
    "expected_tier_dpo": Method(weighting="expected_tier"),
    "twin_tier_dpo": Method(weighting="twin_tier"),
    "shuffled_tier_dpo": Method(weighting="shuffled_tier"),
    "written_order_dpo": Method(option_order="written"),
}
"""By the names that the configuration uses."""

LABELS = {
    "plain": "plain model",
    "role_play": "role-play prompt",
    "sft": "SFT",
    "tier_sft": "weighted SFT",
    "paper_dpo": "DPO, beta 0.1",
    "paper_tier_dpo": "reweighted DPO, beta 0.1",
    "paper_shuffled_tier_dpo": "DPO, weights shuffled, beta 0.1",
    "paper_sft_dpo": "SFT, then DPO, beta 0.1",
    "paper_weighted_sft_dpo": "weighted SFT, then reweighted DPO, beta 0.1",
    "paper_weighted_sft_dpo_sampling": "the same, DPO by sampling",
    "dpo": "DPO",
    "tier_dpo": "reweighted DPO",
    "tier_dpo_sampling": "reweighted DPO by sampling",
    "surprisal_dpo": "DPO, surprisal weights",
    "soft_dpo": "DPO, soft labels (true probabilities)",
    "group_dpo": "group-robust DPO",
    "tier_soft_dpo": "reweighted DPO, soft labels (true probabilities)",
    "surprisal_soft_dpo": "DPO, surprisal weights, soft labels (true probabilities)",
    "tier_beta0_dpo": "reweighted DPO, sizes of tiers left out",
    "expected_tier_dpo": "DPO, weights by expected tier (true probabilities)",
    "twin_tier_dpo": "DPO, weights of the question's other form",
    "shuffled_tier_dpo": "DPO, weights shuffled",
    "written_order_dpo": "DPO, pole A always shown as A",
}


GROUP_STEP_SIZE = 0.5
"""The groups' weights move once a step: with the package's default of 0.01, some tens of steps would hardly move them."""


class Budget(NamedTuple):
    """How much every method trains."""

    questions: int = 800
    """training questions, the same for all methods; each gives two pairs"""
    epochs: float = 2.0
    """visits to each of them in DPO; SFT, whose rows are shorter, makes as many more as cost the same"""
    batch_questions: int = 16
    """visited at a step"""
    sft_learning_rate: float = 1e-3
    dpo_learning_rate: float = 5e-4


class Trained(NamedTuple):
    """A trained model, and what it cost."""

    model: PreTrainedModel
    computed_tokens: int
    """that went through the policy forwards and backwards, in all stages"""
    effective_share: float
    """(sum w)^2 / sum w^2 of the training questions' weights, as a share of their number; 1 without weights"""


def expected_tiers(truth: dict[str, NDArray[np.float64]], target: str) -> NDArray[np.float64]:
    """1 + the number of other personas who are expected to answer unlike the target, (n,).

    With p the option probabilities of the target and q those of another persona, these two answer differently with
    probability 1 - sum_k p_k q_k.

    Args:
        truth: persona id to option probabilities, (n, 3).
        target: persona id.
    """
    others = [other for persona, other in truth.items() if persona != target]
    return 1 + np.sum([1 - (truth[target] * other).sum(axis=1) for other in others], axis=0)


def _expected(facts: WeightingFacts, world: World, target: str, method: Method, seed: int) -> NDArray[np.float64]:
    return (expected_tiers(world.truth, target) / facts.tier_count) ** method.alpha


def _twin(facts: WeightingFacts, world: World, target: str, method: Method, seed: int) -> NDArray[np.float64]:
    # The two forms of a (problem, group, dimension) stand next to each other, in the same split with one exception.
    twin = np.arange(len(facts.own)) ^ 1
    unit = world.questions.select(["problem", "group", "dimension"])
    if not unit.take(pa.array(twin)).equals(unit):
        raise ValueError("twin_tier must have both forms of every question, one after the other; got other questions.")
    return tier_weights(facts, method.alpha, method.beta)[twin]


def _shuffled(facts: WeightingFacts, world: World, target: str, method: Method, seed: int) -> NDArray[np.float64]:
    weights = tier_weights(facts, method.alpha, method.beta)
    rows = np.flatnonzero(facts.fit)
    weights[rows] = weights[np.random.default_rng(seed).permutation(rows)]
    return weights


OWN_SCHEMES: dict[str, Callable[[WeightingFacts, World, str, Method, int], NDArray[np.float64]]] = {
    "expected_tier": _expected,
    "twin_tier": _twin,
    "shuffled_tier": _shuffled,
}
"""Schemes that only the study has, to find out what does what.

`expected_tier`: (i / K)^alpha of the expected tier i in the place of that of drawn answers, see `expected_tiers`.
`twin_tier`: the tier weight of the question's other form, whose answers say as much about how much the target differs
there, and were drawn apart from those that are trained on. `shuffled_tier`: tier weights handed out at random, which leaves
nothing of them but that some pairs count more than others.
"""


def training_pairs(
    world: World, method: Method, target: str, is_train: NDArray[np.bool_], rows: NDArray[np.int64], seed: int
) -> Dataset:
    """The pairs of some training questions under a method's weights.

    Args:
        world: whose answers.
        method: weights, labels, order of the options.
        target: persona id.
        is_train: (n,), the questions that tiers are counted on.
        rows: numbers of the questions to train on.
        seed: of the order of options.
    """
    table = build_pairs(
        world.questions,
        world.training_answers,
        target,
        is_train=is_train,
        **_scheme(method, world, target, seed),
        option_order=method.option_order,  # type: ignore[arg-type]
        probabilities=world.truth[target] if method.soft_labels else None,
        seed=seed,
    )["train"]
    wanted = pc.is_in(
        table["question_id"], value_set=world.questions["question_id"].take(pa.array(rows)).combine_chunks()
    )
    return Dataset(table.filter(wanted).combine_chunks())


def scheme_weights(
    world: World, method: Method, target: str, is_train: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    """The weight that a method gives each question, (n,); arguments as those of `training_pairs`."""
    scheme = _scheme(method, world, target, seed)
    return preference_weights(world.training_answers, target, fit_rows=is_train, **scheme).weight


def _scheme(method: Method, world: World, target: str, seed: int) -> dict[str, Any]:
    """The arguments of a weighting scheme."""
    if method.weighting in ("tier", "tier_from_zero"):
        return {"scheme": method.weighting, "alpha": method.alpha, "beta": method.beta}
    if method.weighting not in OWN_SCHEMES:
        return {"scheme": method.weighting}
    own = OWN_SCHEMES[method.weighting]
    return {"scheme": lambda facts: own(facts, world, target, method, seed)}


def train(
    method: Method,
    pairs: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    budget: Budget,
    *,
    seed: int,
    output_dir: str,
    callbacks: list[TrainerCallback] | None = None,
    peft_config: Any = None,
) -> Trained:
    """Train a model by a method.

    Args:
        method: with at least one stage.
        pairs: of `training_pairs`.
        model: what all methods start from; it is changed.
        tokenizer: its tokenizer.
        budget: how much.
        seed: of the order of the questions.
        output_dir: for what a Trainer writes; nothing is saved there.
        callbacks: of the last stage.
        peft_config: of an adapter to train; None for the whole model.

    Raises:
        ValueError: an adapter in more than one stage.
    """
    if peft_config is not None and len(method.stages) > 1:
        raise ValueError(f"A method must have one stage with an adapter; got {method.stages}. Leave out lora_rank.")
    weight = np.asarray(pairs["weight"])
    tokens, share, reference = 0, 1 / len(method.stages), None
    for stage in method.stages:
        check_name("stage", stage, ("sft", "dpo"))
        settings: dict[str, Any] = {
            "output_dir": output_dir,
            "per_device_train_batch_size": budget.batch_questions * (2 if stage == "dpo" else 1),
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "logging_strategy": "steps",
            "logging_steps": 1_000_000,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": seed,
            "bf16": False,
            "use_cpu": True,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "max_length": None,
        }
        common: dict[str, Any] = {
            "model": model,
            "processing_class": tokenizer,
            "peft_config": peft_config,
            "callbacks": callbacks if stage == method.stages[-1] else None,
        }
        visits = budget.questions * budget.epochs * share
        if stage == "sft":
            visits *= tokens_a_visit(pairs, tokenizer, "dpo") / tokens_a_visit(pairs, tokenizer, "sft")
            args: Any = ReweightedSFTConfig(
                learning_rate=budget.sft_learning_rate * method.learning_rate_factor,
                max_steps=round(visits / budget.batch_questions),
                **settings,
            )
            trainer: Any = ReweightedSFTTrainer(args=args, train_dataset=pairs, **common)
        else:
            dataset = with_group_column(pairs, method.group_column) if method.group_column else pairs
            args = ReweightedDPOConfig(
                learning_rate=budget.dpo_learning_rate * method.learning_rate_factor,
                max_steps=round(visits / budget.batch_questions),
                beta=method.dpo_beta,
                weight_application=method.application,
                soft_labels=method.soft_labels,
                group_column=method.group_column,
                group_step_size=GROUP_STEP_SIZE,
                **settings,
            )
            trainer = ReweightedDPOTrainer(args=args, train_dataset=dataset, ref_model=reference, **common)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        counted = "num_computed_tokens" if stage == "dpo" else "num_tokens"
        tokens += int(next(entry[counted] for entry in reversed(trainer.state.log_history) if counted in entry))
        model = trainer.model
        # By itself, a trainer loads its reference from the folder that the model once came from.
        reference = copy.deepcopy(model)
    return Trained(model.eval(), tokens, float(weight.sum() ** 2 / (weight**2).sum() / len(weight)))


def tokens_a_visit(pairs: Dataset, tokenizer: PreTrainedTokenizerBase, stage: str) -> float:
    """Tokens that a visit to a question computes on average: its prompt once, and the chosen option or all three.

    Args:
        pairs: two a question, one after the other.
        tokenizer: the model's.
        stage: `"sft"` or `"dpo"`.
    """
    first, second = pairs.select(range(0, len(pairs), 2)), pairs.select(range(1, len(pairs), 2))
    columns = [first["prompt"], first["chosen"]]
    if stage == "dpo":
        columns += [first["rejected"], second["rejected"]]
    texts = [message["content"] for column in columns for (message,) in column]
    return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) / len(first)
