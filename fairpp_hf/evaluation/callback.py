"""Alignment while a model trains: its distances to all personas at each evaluation, and the best checkpoint by them."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from accelerate.utils import broadcast_object_list
from numpy.typing import ArrayLike, NDArray
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fairpp_hf.dataset.sources import resolve_answers
from fairpp_hf.evaluation.baselines import FEWEST_ANSWERS, constant_rows
from fairpp_hf.evaluation.evaluate import questions_to_score
from fairpp_hf.evaluation.model_scores import Speaker
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.naming import check_name
from fairpp_hf.scoring import OptionScorer
from fairpp_hf.statistics.alignment import alignment_metrics
from fairpp_hf.statistics.skill import skill

if TYPE_CHECKING:
    from fairpp_hf.training.arguments import PairArguments

logger = logging.getLogger(__name__)

_LESS_IS_BETTER = ("js_distance/target", "question_js_distance/target")
_MORE_IS_BETTER = ("skill/target", "agreement/target", "js_distance/margin", "question_js_distance/margin")
_FAMILIES = {name.split("/")[0] for name in (*_LESS_IS_BETTER, *_MORE_IS_BETTER)}


class PersonaAlignmentCallback(TrainerCallback):
    """Scores a fixed sample of questions at each evaluation of a training, and logs how near the model is to each persona.

    Logged with the prefix `eval_`, and so in the history, in the trackers, in the model's card and for
    `metric_for_best_model`: `js_distance/<persona>` for every persona, `js_distance/target`, `js_distance/nearest_other`,
    `js_distance/margin`, `question_js_distance/target`, `question_js_distance/margin` and `agreement/target`, as
    `alignment_metrics` defines them; with a constant also `question_js_distance/constant`, its distance to the target, and
    `skill/target` (`evaluation.skill`): above 0 the model has learnt more than the target's mean shares. To keep the
    nearest checkpoint:

        load_best_model_at_end=True, metric_for_best_model="question_js_distance/target", greater_is_better=False

    Every question is asked with the options of its poles in both orders and the probabilities are averaged, as `fairpp
    evaluate` does: a model may learn a letter instead of a stance, and one order cannot tell these apart. For half the
    cost take half the questions.

    Training goes on as it would without the callback: nothing random is drawn, and no gradient is computed. On several
    processes each one scores all questions, since a model that is divided among them (FSDP, ZeRO-3) needs all of them in
    every forward, and all then take the scores of the first one, so that they agree on which checkpoint is best.

    Of several evaluation datasets, scores go with the first; an evaluation under another prefix than `eval` has none.
    A callback that reads these metrics, such as `EarlyStoppingCallback`, must be added after this one.

    Args:
        trainer: Any `Trainer` of a causal language model whose tokenizer has a chat template.
        questions: The n questions, with the columns of `QUESTION_FEATURES`; such as were not trained on.
        references: Persona id to its answers, integers (n,), 0..2 or -1 for none; or to its option probabilities, floats
            (n, 3), where these are known: a distance by question to drawn answers rewards mere confidence.
        target: Persona that the model is to come near to.
        constant: Option probabilities of a constant answer to the questions, (n, 3), of `constant_rows`; None for no skill.
        batch_size: Questions in one order a forward at most. By default as many as fit, see `OptionScorer`; on several
            processes the trainer's `per_device_eval_batch_size`.

    Raises:
        ValueError: no evaluation in the trainer's settings, a metric for the best model that there is not or that is to be
            taken the wrong way round, questions that cannot be asked in both orders, or references that are not answers
            to them.

    Example:
        ```python
        from fairpp_hf.dataset.sources import load_answers
        from fairpp_hf.evaluation.baselines import constant_rows
        from fairpp_hf.evaluation.callback import PersonaAlignmentCallback
        from fairpp_hf.evaluation.evaluate import questions_to_score

        answers, target = load_answers(), "loyal_nationals"
        questions, references = questions_to_score(answers, "test", limit=200, for_selection=True)
        constant = constant_rows(answers, questions, target)
        trainer = ReweightedDPOTrainer(...)  # with eval_strategy="steps" and an eval_dataset
        trainer.add_callback(PersonaAlignmentCallback(trainer, questions, references, target, constant=constant))
        trainer.train()
        ```
    """

    def __init__(
        self,
        trainer: Trainer,
        questions: pa.Table,
        references: Mapping[str, ArrayLike],
        target: str,
        *,
        constant: ArrayLike | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._sample = _Sample(questions, references, target, constant)
        _check_settings(trainer.args, self._sample.names)
        self.trainer = trainer
        if batch_size is None and trainer.args.world_size > 1:
            # All must do the same forwards where the model is divided among them (FSDP, ZeRO-3). Batches are alike on all,
            # until one alone runs out of memory and goes on with smaller ones, while the others wait for it for ever. This
            # size is known to fit beside the optimizer. A process on its own recovers, and larger batches are faster.
            batch_size = trainer.args.per_device_eval_batch_size
        self.batch_size = batch_size

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Score the model, log, and add to the metrics that the trainer chooses the best checkpoint by."""
        metrics, datasets = kwargs["metrics"], self.trainer.eval_dataset
        prefix = f"eval_{next(iter(datasets))}" if isinstance(datasets, dict) else "eval"
        if f"{prefix}_runtime" not in metrics:
            return
        scores = {f"eval_{name}": value for name, value in self.score().items()}
        # The trainer has logged its own metrics by now, and looks for the best one among these afterwards.
        self.trainer.log(dict(scores))
        metrics.update(scores)

    def score(self) -> dict[str, float]:
        """The metrics of the trainer's model as it is, by name without `eval_`; all NaN where its probabilities are."""
        trainer = self.trainer
        bar = not trainer.args.disable_tqdm and trainer.is_world_process_zero()
        processor = trainer.processing_class
        tokenizer = getattr(processor, "tokenizer", processor)
        # Trainer has put the model in evaluation mode, and puts it back in training mode at its next step. A scorer is
        # made each time, since the model may have been replaced by one that is divided among processes.
        scorer = OptionScorer(cast(Any, trainer.model), cast(Any, tokenizer), batch_size=self.batch_size)
        with trainer.accelerator.autocast():
            shown = scorer.score(
                self._sample.messages, self._sample.options, progress="alignment" if bar else None
            ).probabilities
        # Processes that differ in a last digit might choose different checkpoints, and then wait for each other for ever.
        (shown,) = broadcast_object_list([shown])
        if np.isnan(shown).any():
            logger.warning(
                "The model gives no probabilities for %d of %d prompts (NaN), so that its alignment is not known. Training "
                "has most likely diverged; lower the learning rate.",
                np.isnan(shown).any(axis=1).sum(),
                len(shown),
            )
            return dict.fromkeys(self._sample.names, math.nan)
        return self._sample.metrics(average_orders(shown))


class _Sample:
    """Questions in both orders, and the personas' answers to them; all that is wrong with them is said at once."""

    def __init__(
        self, questions: pa.Table, references: Mapping[str, ArrayLike], target: str, constant: ArrayLike | None
    ) -> None:
        asked = list(RequestPlan(cast(Any, [Speaker()]), questions, swap=True))
        self.messages = [request.messages for request in asked]
        """2n chats: each question as it is written and after it with the options of its poles swapped."""
        self.options = [request.options for request in asked]
        """2n triples, as the chats show them."""
        self.references = references
        self.target = target
        self.constant = constant
        self.constant_distance: float | None = None
        if constant is not None:
            of_constant = alignment_metrics(constant, references, target)
            self.constant_distance = of_constant["question_js_distance/target"]
        # Metrics of anything have the names that all others have.
        self.names = tuple(self.metrics(np.full((len(asked) // 2, 3), 1 / 3)))

    def metrics(self, probabilities: NDArray[np.float64]) -> dict[str, float]:
        """What is logged of option probabilities, (n, 3); without personas that answered none of the questions."""
        found = alignment_metrics(probabilities, self.references, self.target)
        if self.constant is not None:
            found["question_js_distance/constant"] = self.constant_distance
            no_clusters = np.arange(len(probabilities))
            ours = skill(probabilities, self.constant, self.references[self.target], no_clusters, resamples=0)
            found["skill/target"] = None if ours is None else ours.value
        logged = [f"js_distance/{persona}" for persona in self.references]
        logged += [*_LESS_IS_BETTER, "question_js_distance/constant", "js_distance/nearest_other", *_MORE_IS_BETTER]
        return {name: found[name] for name in logged if found.get(name) is not None}


def average_orders(shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """Option probabilities over both orders, (n, 3), over A, B, C as they are written.

    `shown` has them in the order in which a prompt shows them, (2n, 3); each question as it is written, and after it with
    its first two options swapped.
    """
    written, swapped = shown[0::2], shown[1::2]
    return (written + swapped[:, [1, 0, 2]]) / 2


def _check_settings(args: TrainingArguments, names: Sequence[str]) -> None:
    """Refuse a training in which scores would not be computed, or the wrong checkpoint kept.

    `names` are those of the metrics, without `eval_`.
    """
    if args.eval_strategy == "no":
        raise ValueError(
            "eval_strategy must be 'steps' or 'epoch' to score alignment; got 'no'. The model is scored at each evaluation. "
            "Add eval_strategy: epoch."
        )
    best = _best_metric(args)
    if best is None:
        return
    check_name("metric_for_best_model", best, names)
    for wanted, of_this_kind in ((False, _LESS_IS_BETTER), (True, _MORE_IS_BETTER)):
        if best in of_this_kind and args.greater_is_better is not wanted:
            raise ValueError(
                f"greater_is_better must be {wanted} with metric_for_best_model={best!r}; got {args.greater_is_better}. "
                f"The {'greater' if wanted else 'smaller'} it is, the nearer the model is to the target. Add "
                f"greater_is_better: {str(wanted).lower()}."
            )


def _best_metric(args: TrainingArguments) -> str | None:
    """The metric that the best checkpoint is chosen by, without `eval_`, if it is of the kinds that are computed here."""
    best = (args.metric_for_best_model or "").removeprefix("eval_")
    return best if best.split("/")[0] in _FAMILIES else None


def alignment_for_training(
    arguments: "PairArguments", args: TrainingArguments
) -> Callable[[Trainer], PersonaAlignmentCallback] | None:
    """The callback that `fairpp train` adds: `alignment_questions` test questions, and the answers to them.

    The questions are a fixed random sample of the test split, or of what `heldout` keeps out of training, and the answers
    those that the pairs are built from. The sample is another one than that of `fairpp evaluate --limit`, so that a
    checkpoint is not judged on the questions it was chosen by.

    Args:
        arguments: Arguments that say which pairs are trained on.
        args: Settings of the training.

    Returns:
        What makes the callback of a trainer; None with `alignment_questions=0`.

    Raises:
        ValueError: `PersonaAlignmentCallback` would refuse the settings or the answers, which is said before a model is
            loaded; or the metric for the best model is one that only alignment has, without it.
    """
    if not arguments.alignment_questions:
        if _best_metric(args) is not None:
            raise ValueError(
                f"alignment_questions must be above 0 with metric_for_best_model={args.metric_for_best_model!r}; got 0. "
                "Nothing else computes it. Add alignment_questions: 100."
            )
        return None
    answers = resolve_answers(arguments.answers, arguments.published_revision).load(arguments.personas)
    if arguments.heldout is not None:
        answers = answers.held_out(arguments.heldout)
    questions, references = questions_to_score(answers, "test", arguments.alignment_questions, for_selection=True)
    constant = constant_rows(answers, questions, arguments.target)
    if constant is None:
        logger.warning(
            "No skill is logged: a constant answer takes at least %d answers of %s to other questions, and there are fewer.",
            *(FEWEST_ANSWERS, arguments.target),
        )
    _check_settings(args, _Sample(questions, references, arguments.target, constant).names)

    def callback(trainer: Trainer) -> PersonaAlignmentCallback:
        return PersonaAlignmentCallback(trainer, questions, references, arguments.target, constant=constant)

    return callback
