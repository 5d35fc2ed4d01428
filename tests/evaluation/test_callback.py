"""Alignment while a model trains: what is logged, that training does not notice, and the best checkpoint by it."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import aligned_trainers
import numpy as np
import pyarrow as pa
import pytest
import torch
from aligned_trainers import ANSWERS, QUESTIONS, aligned_trainer, texts_of_target
from peft import LoraConfig
from tiny_models import tiny_tokenizer
from tiny_trainers import make_pairs, make_trainer, parameters, sequence_logp
from transformers import TrainerCallback
from two_processes import run_on_two_processes

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.evaluation.callback import PersonaAlignmentCallback, alignment_for_training, average_orders
from fairpp_hf.questions import heldout_labels, load_questions, render_prompt
from fairpp_hf.scoring import OptionScorer
from fairpp_hf.statistics.alignment import alignment_metrics
from fairpp_hf.training import ReweightedDPOConfig
from fairpp_hf.training.arguments import PairArguments

LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.2, task_type="CAUSAL_LM")
NEAREST = {"metric_for_best_model": "js_distance/target", "greater_is_better": False}


def aligned(entries):
    return [entry for entry in entries if "eval_js_distance/target" in entry]


def test_what_is_logged_is_what_the_plainest_scoring_gives(tmp_path):
    """Oracle: one sequence at a time, full softmax, both orders; `alignment_metrics` of the mean."""
    trainer = aligned_trainer(tmp_path)
    returned = trainer.evaluate()
    tokenizer, probabilities = tiny_tokenizer(), []
    for row in QUESTIONS.to_pylist():
        texts = [row["option_a"], row["option_b"], row["option_c"]]
        mean = np.zeros(3)
        for order in ([0, 1, 2], [1, 0, 2]):
            lines = [f"{letter}. {texts[at]}" for letter, at in zip("ABC", order, strict=True)]
            prompt = [{"role": "user", "content": "\n".join([row["question_id"], *lines])}]
            replies = [[{"role": "assistant", "content": line}] for line in lines]
            with torch.no_grad():
                logps = torch.stack([sequence_logp(trainer.model, tokenizer, prompt, reply) for reply in replies])
            mean[order] += torch.softmax(logps, dim=0).numpy() / 2
        probabilities.append(mean)
    expected = alignment_metrics(np.array(probabilities), ANSWERS, "first")
    (logged,) = aligned(trainer.state.log_history)
    for name in (
        *(f"js_distance/{persona}" for persona in ANSWERS),
        *("js_distance/target", "js_distance/nearest_other", "js_distance/margin", "agreement/target"),
    ):
        assert returned[f"eval_{name}"] == logged[f"eval_{name}"] == pytest.approx(expected[name], abs=1e-6), name
    assert {type(value) for value in logged.values()} <= {float, int}


def test_with_a_constant_skill_is_logged(tmp_path):
    """The constant's distance is the same at every step; to answers, skill is that of Brier scores."""
    constant = np.tile([1 / 8, 7 / 8, 0], (len(QUESTIONS), 1))
    settings = {"metric_for_best_model": "skill/target", "greater_is_better": True}
    trainer = aligned_trainer(tmp_path, constant=constant, **settings)
    found = trainer.evaluate()
    of_constant = alignment_metrics(constant, ANSWERS, "first")
    assert found["eval_question_js_distance/constant"] == of_constant["question_js_distance/target"]
    asked = PersonaAlignmentCallback(trainer, QUESTIONS, ANSWERS, "first", constant=constant)._sample
    scores = OptionScorer(trainer.model, trainer.processing_class).score(asked.messages, asked.options)
    ours = alignment_metrics(average_orders(scores.probabilities), ANSWERS, "first")
    expected = 1 - ours["brier/target"] / of_constant["brier/target"]
    assert found["eval_skill/target"] == pytest.approx(expected, abs=1e-4)
    assert "eval_skill/target" not in aligned_trainer(tmp_path).evaluate()


@pytest.mark.parametrize(
    ("processes", "given", "taken"), [(1, None, None), (1, 3, 3), (2, None, 4), (2, 3, 3)], ids=str
)
def test_batches_are_as_large_as_fit_unless_all_processes_must_have_the_same(processes, given, taken):
    args = SimpleNamespace(
        eval_strategy="epoch", metric_for_best_model=None, world_size=processes, per_device_eval_batch_size=4
    )
    callback = PersonaAlignmentCallback(SimpleNamespace(args=args), QUESTIONS, ANSWERS, "first", batch_size=given)
    assert callback.batch_size == taken


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_every_evaluation_is_logged_everywhere(tmp_path, method):
    """The history, the trackers, the returned metrics and the card; at the start, too."""
    seen = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append((state.global_step, dict(logs)))

    trainer = aligned_trainer(tmp_path, method=method, eval_on_start=True, eval_steps=1, max_steps=2)
    trainer.add_callback(Tracker())
    trainer.train()
    assert [entry["step"] for entry in aligned(trainer.state.log_history)] == [0, 1, 2]
    assert [step for step, logs in seen if "eval_js_distance/target" in logs] == [0, 1, 2]
    values = [entry["eval_js_distance/target"] for entry in aligned(trainer.state.log_history)]
    assert len(set(values)) == 3
    # In steps of their own: training metrics do not end up among those of evaluation.
    assert not [entry for entry in aligned(trainer.state.log_history) if "loss" in entry]
    trainer.save_state()
    saved = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert aligned(saved["log_history"]) == aligned(trainer.state.log_history)
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert re.search(rf"\| `js_distance/target` \| +\| {values[-1]:.4g} \|", card)
    assert "`fairpp evaluate` gives those. They do not say what it lost on the way." in " ".join(card.split())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"peft": LORA, "gradient_checkpointing": True},
        {"weight_application": "sampling", "share_prefix": False},
        {"bf16": True, "use_cpu": True},
        {"method": "sft", "peft": LORA},
    ],
    ids=["whole", "lora", "sampling", "bf16", "sft"],
)
def test_training_does_not_notice(tmp_path, settings):
    """The same weights, to the last bit, with a dropout that draws at random; and the same model in the same mode."""
    outcomes = []
    for on in (True, False):
        trainer = aligned_trainer(
            tmp_path, on=on, eval_on_start=True, eval_steps=1, max_steps=2, optim="adamw_torch", **settings
        )
        trainer.train()
        outcomes.append((parameters(trainer), torch.random.get_rng_state()))
        assert bool(aligned(trainer.state.log_history)) == on
    (with_it, random_with), (without, random_without) = outcomes
    assert torch.equal(with_it, without)
    assert torch.equal(random_with, random_without)


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_the_distance_of_a_model_that_learns_the_targets_answers_falls(tmp_path, method):
    trainer = aligned_trainer(
        tmp_path,
        texts_of_target(),
        method=method,
        eval_on_start=True,
        eval_steps=32,
        max_steps=32,
        optim="adamw_torch",
    )
    trainer.train()
    first, *_, last = aligned(trainer.state.log_history)
    assert last["eval_js_distance/target"] < 0.5 * first["eval_js_distance/target"]
    assert last["eval_agreement/target"] > first["eval_agreement/target"] + 0.2
    assert last["eval_js_distance/margin"] > first["eval_js_distance/margin"] + 0.1


def test_the_best_checkpoint_is_the_nearest(tmp_path):
    """The model begins near the target, and goes away from it."""
    trainer = aligned_trainer(
        tmp_path,
        target="third",
        eval_steps=1,
        save_strategy="best",
        max_steps=4,
        learning_rate=2.0,
        load_best_model_at_end=True,
        **NEAREST,
    )
    trainer.train()
    distances = {entry["step"]: entry["eval_js_distance/target"] for entry in aligned(trainer.state.log_history)}
    best = min(distances, key=distances.get)
    assert distances[best] < distances[4] - 0.05
    assert trainer.state.best_global_step == best
    assert trainer.state.best_metric == distances[best]
    assert trainer.evaluate()["eval_js_distance/target"] == pytest.approx(distances[best], abs=1e-6)


def test_of_several_evaluation_datasets_scores_go_with_the_first(tmp_path):
    pairs = make_pairs([1.0] * 4)
    trainer = aligned_trainer(tmp_path, eval_dataset={"near": pairs, "far": pairs}, eval_steps=1, max_steps=1)
    trainer.train()
    assert len(aligned(trainer.state.log_history)) == 1
    assert {"eval_js_distance/target", "eval_near_loss", "eval_far_loss"} <= set(trainer.evaluate())
    assert "eval_js_distance/target" not in trainer.evaluate(pairs, metric_key_prefix="test")


def test_a_model_that_has_diverged_does_not_stop_the_training(tmp_path, caplog):
    trainer = aligned_trainer(tmp_path, **NEAREST)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(math.nan)
    assert math.isnan(trainer.evaluate()["eval_js_distance/target"])
    assert caplog.messages[-1] == (
        "The model gives no probabilities for 16 of 16 prompts (NaN), so that its alignment is not known. Training has most "
        "likely diverged; lower the learning rate."
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"eval_strategy": "no"},
            "eval_strategy must be 'steps' or 'epoch' to score alignment; got 'no'. The model is scored at each "
            "evaluation. Add eval_strategy: epoch.",
        ),
        (
            {"metric_for_best_model": "js_distance/frist"},
            "metric_for_best_model must be one of {names}; got 'js_distance/frist'. Did you mean 'js_distance/first'?",
        ),
        (
            {"metric_for_best_model": "eval_js_distance/target"},
            "greater_is_better must be False with metric_for_best_model='js_distance/target'; got True. The smaller it is, "
            "the nearer the model is to the target. Add greater_is_better: false.",
        ),
        (
            {"metric_for_best_model": "agreement/target", "greater_is_better": False},
            "greater_is_better must be True with metric_for_best_model='agreement/target'; got False. The greater it is, "
            "the nearer the model is to the target. Add greater_is_better: true.",
        ),
    ],
)
def test_settings_that_do_not_go_with_it_are_refused(tmp_path, settings, message):
    names = [
        name.removeprefix("eval_") for name in aligned_trainer(tmp_path).evaluate() if re.search("js_dist|agree", name)
    ]
    message = message.format(names=", ".join(map(repr, names)))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        aligned_trainer(tmp_path, **settings)


def test_questions_and_answers_are_those_of_the_training():
    """Of a dimension that is held out of training, each question in both orders; the answers of the personas asked for."""
    args = ReweightedDPOConfig("unused", eval_strategy="epoch")
    arguments = PairArguments("loyal_nationals", heldout="dimensions", alignment_questions=5)
    callback = alignment_for_training(arguments, args)(SimpleNamespace(args=args))
    questions = {row["prompt"]: row for row in load_questions().to_pylist()}
    prompts = [chat[-1]["content"] for chat in callback._sample.messages]
    asked = [questions[prompt] for prompt in prompts[::2]]
    assert len(prompts) == 10
    assert {row["dimension"] for row in asked} == set(heldout_labels("dimensions"))
    for row, swapped in zip(asked, prompts[1::2], strict=True):
        assert swapped == render_prompt(row["question"], row["option_b"], row["option_a"], row["option_c"])
    answers = load_answers()
    at = [answers.questions["question_id"].to_pylist().index(row["question_id"]) for row in asked]
    for persona, rows in callback._sample.references.items():
        np.testing.assert_array_equal(rows, answers.probabilities(persona)[at])
    dimensions = answers.questions["dimension"].to_numpy()
    trained_on = ~np.isin(dimensions, heldout_labels("dimensions"))
    constant = np.tile(answers.probabilities("loyal_nationals")[trained_on].mean(axis=0), (5, 1))
    expected = alignment_metrics(constant, callback._sample.references, "loyal_nationals")
    assert callback._sample.constant_distance == pytest.approx(expected["question_js_distance/target"])


def test_a_metric_that_nothing_computes_is_refused():
    args = ReweightedDPOConfig("unused", eval_strategy="epoch", **NEAREST)
    message = (
        "alignment_questions must be above 0 with metric_for_best_model='js_distance/target'; got 0. Nothing else computes "
        "it. Add alignment_questions: 100."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        alignment_for_training(PairArguments("loyal_nationals"), args)
    for metric in (None, "loss", "rewards/margins"):
        args.metric_for_best_model = metric
        assert alignment_for_training(PairArguments("loyal_nationals"), args) is None


# -- two processes -----------------------------------------------------------------------------------------------------


def test_two_processes_score_alike_and_train_as_without(tmp_path):
    """Both log the same numbers, which are those of one process, and the weights are those of a training without it."""
    run_on_two_processes(Path(aligned_trainers.__file__), [str(tmp_path)], tmp_path)
    first, second = (torch.load(tmp_path / f"process {rank}.pt", weights_only=False) for rank in (0, 1))
    assert [entry["step"] for entry in first["logged"]] == [0, 1, 2]
    assert first["logged"] == second["logged"]
    assert torch.equal(first["weights"], first["without"])
    assert torch.equal(second["weights"], first["weights"])

    one = aligned_trainer(tmp_path, eval_on_start=True, eval_steps=1, max_steps=2)
    one.train()
    for ours, theirs in zip(aligned(one.state.log_history), first["logged"], strict=True):
        assert ours["eval_js_distance/target"] == pytest.approx(theirs["eval_js_distance/target"], abs=1e-5)


def test_what_is_wrong_with_questions_and_answers_is_said_at_once(tmp_path):
    trainer = make_trainer(tmp_path, make_pairs([1.0] * 2), eval_strategy="epoch")
    with pytest.raises(
        ValueError, match=r"^target must be one of 'first', 'second', 'third'; got 'fist'. Did you mean"
    ):
        PersonaAlignmentCallback(trainer, QUESTIONS, ANSWERS, "fist")
    message = "references['first'] must answer the same questions as predictions; got 8 for 3."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PersonaAlignmentCallback(trainer, QUESTIONS.slice(0, 3), ANSWERS, "first")
    other = QUESTIONS.set_column(1, "prompt", pa.array(["another"] * len(QUESTIONS)))
    with pytest.raises(ValueError, match=r"^A prompt must show its options once, "):
        PersonaAlignmentCallback(trainer, other, ANSWERS, "first")


def test_a_persona_without_answers_is_left_out(tmp_path):
    trainer = make_trainer(tmp_path, make_pairs([1.0] * 2), eval_strategy="epoch")
    silent = {**ANSWERS, "silent": np.full(len(QUESTIONS), -1)}
    trainer.add_callback(PersonaAlignmentCallback(trainer, QUESTIONS, silent, "first"))
    logged = trainer.evaluate()
    assert "eval_js_distance/second" in logged
    assert "eval_js_distance/silent" not in logged
