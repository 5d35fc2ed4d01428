"""The methods that are compared, and how each trains: from one model, on the same questions, with as many visits to them."""

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from worlds import World, WorldSettings, draw_world

from fairpp_hf.naming import check_name
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
from fairpp_hf.preferences import PairSettings
from fairpp_hf.preferences.label_model import LabelModel, fit_label_model, mean_answers
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.preferences.target_distribution import target_distribution
from fairpp_hf.questions.option_order import with_swapped_options
from fairpp_hf.training import (
    ReweightedDPOConfig,
    ReweightedDPOTrainer,
    ReweightedSFTConfig,
    ReweightedSFTTrainer,
)


@dataclass(frozen=True)
class Method:
    """A way of reaching a target; the defaults are those of DPO at beta = 1."""

    stages: tuple[str, ...] = ("dpo",)
    """`"sft"` (the drawn answer), `"dpo"`, or both one after the other, each with half of the visits; none for a model as it
    is."""
    baseline: str | None = None
    """`"constant"` or `"label model"`, which are no models and train nothing."""
    weighting: str = "uniform"
    labels: str = "answers"
    """`"answers"`: the drawn one. `"fitted"`: the label model. `"true"`: the probabilities that answers are drawn from."""
    fitted_to: str = "all"
    """What the label model learns from: `"all"` training answers, or those to the `"visited"` questions."""
    divergence: float = 0.0
    """lambda of the aim"""
    reference: str = "model"
    loss_type: tuple[str, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] = (1.0,)
    option_order: str = "mixed"
    """As in `build_pairs`; or `"both"`: half as many questions, each in both orders in one step."""
    dpo_beta: float = 1.0
    with_portrait: bool = False
    """Whether the target's portrait is the system prompt when the model is asked."""


def _aim(divergence: float, **others: Any) -> Method:
    return Method(labels="fitted", divergence=divergence, reference="none", **others)


BOTH = {"loss_type": ("listwise", "distillation"), "loss_weights": (1.0, 0.1)}

METHODS: dict[str, Method] = {
    "constant": Method(stages=(), baseline="constant"),
    "label_model": Method(stages=(), baseline="label model"),
    "plain": Method(stages=()),
    "role_play": Method(stages=(), with_portrait=True),
    "sft": Method(stages=("sft",)),
    "distil": _aim(0.0, loss_type=("distillation",)),
    "dpo": Method(),
    "tier_dpo": Method(weighting="tier"),
    "surprisal_dpo": Method(weighting="surprisal"),
    "paper": Method(stages=("sft", "dpo"), weighting="tier", dpo_beta=0.1),
    "soft_dpo": Method(labels="fitted"),
    "true_soft_dpo": Method(labels="true"),
    "hard_no_reference": Method(reference="none"),
    "aim_0": _aim(0.0),
    "aim_0.25": _aim(0.25),
    "aim_0.5": _aim(0.5),
    "aim_1": _aim(1.0),
    "list_0": _aim(0.0, loss_type=("listwise",)),
    "list_0.25": _aim(0.25, loss_type=("listwise",)),
    "list_0.5": _aim(0.5, loss_type=("listwise",)),
    "list_1": _aim(1.0, loss_type=("listwise",)),
    "both_0": _aim(0.0, **BOTH),
    "both_0.5": _aim(0.5, **BOTH),
    "both_1": _aim(1.0, **BOTH),
    "aim_0_true": Method(labels="true", reference="none"),
    "list_0_true": Method(labels="true", reference="none", loss_type=("listwise",)),
    "list_0_visited": _aim(0.0, loss_type=("listwise",), fitted_to="visited"),
    "aim_0_both_orders": _aim(0.0, option_order="both"),
}
"""By the names that the configuration uses."""

LABELS = {
    "constant": "constant",
    "label_model": "label model",
    "plain": "plain model",
    "role_play": "role-play prompt",
    "sft": "SFT",
    "distil": "SFT distillation",
    "dpo": "DPO",
    "tier_dpo": "DPO, tier weights",
    "surprisal_dpo": "DPO, surprisal weights",
    "paper": "weighted SFT, then weighted DPO, beta 0.1 (the paper's)",
    "soft_dpo": "DPO, soft labels",
    "true_soft_dpo": "DPO, soft labels (true probabilities)",
    "hard_no_reference": "drawn answers, no reference",
    "aim_0": "aim, lambda 0",
    "aim_0.25": "aim, lambda 0.25",
    "aim_0.5": "aim, lambda 0.5",
    "aim_1": "aim, lambda 1",
    "list_0": "aim, lambda 0, listwise",
    "list_0.25": "aim, lambda 0.25, listwise",
    "list_0.5": "aim, lambda 0.5, listwise",
    "list_1": "aim, lambda 1, listwise",
    "both_0": "aim, lambda 0, listwise + 0.1 distillation",
    "both_0.5": "aim, lambda 0.5, listwise + 0.1 distillation",
    "both_1": "aim, lambda 1, listwise + 0.1 distillation",
    "aim_0_true": "aim, lambda 0 (true probabilities)",
    "list_0_true": "aim, lambda 0, listwise (true probabilities)",
    "list_0_visited": "aim, lambda 0, listwise, fitted to the visited answers alone",
    "aim_0_both_orders": "aim, lambda 0, both orders",
}


class Budget(NamedTuple):
    """How much every method trains."""

    visits: int = 1280
    """to as many different training questions, the same ones for all methods"""
    batch_questions: int = 16
    """visited at a step"""
    sft_learning_rate: float = 2e-3
    distil_learning_rate: float = 4e-3
    dpo_learning_rate: float = 5e-4
    """of drawn answers"""
    soft_learning_rate: float = 1e-3
    """of soft labels with a reference model"""
    aim_learning_rate: float = 1e-3
    """without one"""


class Trained(NamedTuple):
    """A trained model, and what it cost."""

    model: PreTrainedModel
    computed_tokens: int
    """that went through the policy forwards and backwards, in all stages"""


@lru_cache(maxsize=64)
def fitted(
    settings: WorldSettings, seed: int, target: str, answers: str, held_out: bytes
) -> tuple[LabelModel, LabelModel]:
    """Label models of the target and of the other personas as one population, fitted to the answers that training sees.

    Args:
        settings: of the world.
        seed: of the world.
        target: persona id.
        answers: see `draw_world`.
        held_out: the boolean rows to fit on as bytes, which can be a key.
    """
    world = draw_world(settings, seed, answers)
    rows = np.frombuffer(held_out, dtype=np.bool_)
    shares = {persona.id: persona.share for persona in load_personas(DEFAULT_PERSONA_SET)}
    others = {persona: column for persona, column in world.training_answers.items() if persona != target}
    return (
        fit_label_model(world.questions, world.training_answers[target], rows),
        fit_label_model(world.questions, mean_answers(others, shares), rows),
    )


class Task(NamedTuple):
    """What a cell's method is given."""

    world: World
    settings: WorldSettings
    target: str
    seed: int
    is_train: NDArray[np.bool_]
    """(n,), questions that may be learnt from."""
    rows: NDArray[np.int64]
    """Numbers of the questions to visit."""
    answers: str

    def label_models(self, fitted_to: str = "all") -> tuple[LabelModel, LabelModel]:
        """See `fitted`."""
        rows = self.is_train
        if fitted_to == "visited":
            rows = np.zeros_like(rows)
            rows[self.rows] = True
        return fitted(self.settings, self.seed, self.target, self.answers, rows.tobytes())

    def aim(self, method: Method) -> NDArray[np.float64]:
        """The distribution that a method trains towards, (n, 3)."""
        shares = {persona.id: persona.share for persona in load_personas(DEFAULT_PERSONA_SET)}
        others = [persona for persona in self.world.truth if persona != self.target]
        if method.labels == "true":
            total = sum(shares[persona] for persona in others)
            p = self.world.truth[self.target]
            q = sum(shares[persona] / total * self.world.truth[persona] for persona in others)
        else:
            own, rest = self.label_models(method.fitted_to)
            answers = {persona: self.world.training_answers[persona] for persona in others}
            p = own.with_own_answers(self.world.training_answers[self.target])
            q = rest.with_own_answers(mean_answers(answers, shares))
        return target_distribution(p, q, method.divergence)


def training_pairs(task: Task, method: Method) -> Dataset:
    """The pairs of the questions to visit, under a method's weights and labels."""
    if method.option_order == "both":
        half = task._replace(rows=task.rows[: len(task.rows) // 2])
        orders = [_pairs(half, method, swapped) for swapped in (False, True)]
        # Both orders of a question one after the other, so that they are visited in one step.
        count = len(orders[0]) // len(half.rows)
        place = np.arange(2 * len(orders[0])).reshape(2, -1, count).transpose(1, 0, 2).reshape(-1)
        return Dataset(pa.concat_tables(orders).take(pa.array(place)))
    return Dataset(_pairs(task, method, None))


def _pairs(task: Task, method: Method, swapped: bool | None) -> pa.Table:
    questions, answers = task.world.questions, task.world.training_answers
    probabilities = None if method.labels == "answers" else task.aim(method)
    if swapped:
        questions = with_swapped_options(questions, np.full(len(questions), True))
        answers = {persona: np.array([1, 0, 2], np.int8)[column] for persona, column in answers.items()}
        probabilities = None if probabilities is None else probabilities[:, [1, 0, 2]]
    table = build_pairs(
        questions,
        answers,
        task.target,
        PairSettings(
            method.weighting,
            option_order="mixed" if swapped is None else "written",
            labels="answers" if probabilities is None else "fitted",
            seed=task.seed,
        ),
        is_train=task.is_train,
        probabilities=probabilities,
    )["train"]
    wanted = questions["question_id"].take(pa.array(task.rows)).combine_chunks()
    return table.filter(pc.is_in(table["question_id"], value_set=wanted)).combine_chunks()


def train(
    method: Method,
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    budget: Budget,
    *,
    output_dir: str,
    callbacks: list[TrainerCallback] | None = None,
    peft_config: Any = None,
    bf16: bool = False,
) -> Trained:
    """Train a model by a method.

    Args:
        method: with at least one stage.
        task: what it is given.
        model: what all methods start from; it is changed.
        tokenizer: its tokenizer.
        budget: how much.
        output_dir: for what a Trainer writes; nothing is saved there.
        callbacks: of the last stage.
        peft_config: of an adapter to train; None for the whole model.
        bf16: whether forward and backward are computed in 16 bits.

    Raises:
        ValueError: an adapter in more than one stage.
    """
    if peft_config is not None and len(method.stages) > 1:
        raise ValueError(f"A method must have one stage with an adapter; got {method.stages}. Leave out lora_rank.")
    pairs = training_pairs(task, method)
    tokens, reference = 0, None
    for stage in method.stages:
        check_name("stage", stage, ("sft", "dpo"))
        steps = budget.visits // len(method.stages) // budget.batch_questions
        settings: dict[str, Any] = {
            "output_dir": output_dir,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "max_steps": steps,
            "logging_strategy": "steps",
            "logging_steps": 1_000_000,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": task.seed,
            "bf16": bf16,
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
        if stage == "sft":
            args: Any = ReweightedSFTConfig(
                learning_rate=budget.sft_learning_rate, per_device_train_batch_size=budget.batch_questions, **settings
            )
            trainer: Any = ReweightedSFTTrainer(args=args, train_dataset=pairs, **common)
        else:
            of_question = 2 if method.labels == "answers" else 3
            args = ReweightedDPOConfig(
                learning_rate=_rate_of(method, budget),
                per_device_train_batch_size=budget.batch_questions * of_question,
                beta=method.dpo_beta,
                loss_type=list(method.loss_type),
                loss_weights=list(method.loss_weights),
                reference=method.reference,
                soft_labels=method.labels != "answers",
                **settings,
            )
            trainer = ReweightedDPOTrainer(args=args, train_dataset=pairs, ref_model=reference, **common)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        counted = "num_tokens" if stage == "sft" else "num_computed_tokens"
        tokens += int(next(entry[counted] for entry in reversed(trainer.state.log_history) if counted in entry))
        model = trainer.model
        # By itself, a trainer loads its reference from the folder that the model once came from.
        reference = copy.deepcopy(model)
    return Trained(model.eval(), tokens)


def _rate_of(method: Method, budget: Budget) -> float:
    if method.loss_type == ("distillation",):
        return budget.distil_learning_rate
    if method.reference == "none":
        return budget.aim_learning_rate
    return budget.dpo_learning_rate if method.labels == "answers" else budget.soft_learning_rate
