"""`ReweightedDPOTrainer` against `trl.DPOTrainer`, against the plainest oracle, and against bad input."""

import inspect
import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import make_pairs, make_trainer, parameters
from trl import DPOConfig, DPOTrainer

from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer
from fairpp_hf.training.losses import LOSSES


@pytest.mark.parametrize("loss_type", sorted([*LOSSES, "sft"]))
def test_equal_weights_train_as_trl_does(tmp_path, loss_type):
    pairs = make_pairs([0.25] * 8)
    settings = {"loss_type": [loss_type], "label_smoothing": 0.1}
    ours = make_trainer(tmp_path, pairs, **settings)
    theirs = make_trainer(tmp_path, pairs, trainer=DPOTrainer, config=DPOConfig, **settings)
    start = parameters(ours)
    our_loss, their_loss = ours.train().training_loss, theirs.train().training_loss
    assert our_loss == pytest.approx(their_loss, rel=1e-6)
    assert not torch.allclose(parameters(ours), start, atol=1e-5)
    torch.testing.assert_close(parameters(ours), parameters(theirs), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"f_divergence_type": "forward_kl"},
        {"f_divergence_type": "js_divergence"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        {"ld_alpha": 0.5},
        {"precompute_ref_log_probs": True},
        {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [0.8, 0.3]},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"gradient_checkpointing": True},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_equal_weights_train_as_trl_does_in_other_settings(tmp_path, settings):
    pairs = make_pairs([3.0] * 8)
    ours = make_trainer(tmp_path, pairs, **settings)
    theirs = make_trainer(tmp_path, pairs, trainer=DPOTrainer, config=DPOConfig, **settings)
    ours.train()
    theirs.train()
    torch.testing.assert_close(parameters(ours), parameters(theirs), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("accumulation", "count"), [(1, 10), (4, 12)])
def test_equal_weights_log_what_trl_logs(tmp_path, accumulation, count):
    """Batches of 4: of 10 pairs the last batch is short, and of 12 the last window of 4 batches is.

    Of batches that are logged together, TRL logs the mean of their means. Ours is the mean over their pairs or tokens, so
    that the pairs are of one length and evaluation is in one batch here.
    """
    pairs = make_pairs([1.0] * count)
    if accumulation > 1:
        pairs = pairs.select([0] * count)
    settings = {"gradient_accumulation_steps": accumulation, "per_device_eval_batch_size": count}
    ours = make_trainer(tmp_path, pairs, **settings)
    theirs = make_trainer(tmp_path, pairs, trainer=DPOTrainer, config=DPOConfig, **settings)
    logs = []
    for trainer in (ours, theirs):
        trainer.train()
        trainer.evaluate()
        logs.append({key: value for entry in trainer.state.log_history for key, value in entry.items()})
    untimed = {key for key in logs[1] if not re.search("runtime|per_second|flos", key)}
    assert untimed <= set(logs[0])
    assert logs[0]["weights/effective_sample_size"] == pytest.approx(12 if accumulation == 4 else 2)
    for key in untimed:
        assert logs[0][key] == pytest.approx(logs[1][key], rel=1e-4, abs=1e-6), key


def test_lora_trains_as_trl_does(tmp_path):
    pairs = make_pairs([1.0] * 8)
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    ours = make_trainer(tmp_path, pairs, peft=lora)
    theirs = make_trainer(tmp_path, pairs, trainer=DPOTrainer, config=DPOConfig, peft=lora)
    ours.train()
    theirs.train()
    torch.testing.assert_close(parameters(ours), parameters(theirs), rtol=1e-5, atol=1e-7)


def test_raising_a_weight_raises_that_pairs_margin(tmp_path):
    margins = []
    for weight in (0.1, 5.0):
        trainer = make_trainer(tmp_path, make_pairs([weight, 1.0, 1.0, 1.0]), num_train_epochs=10)
        trainer.train()
        margins.append(trainer.evaluate(make_pairs([1.0]))["eval_rewards/margins"])
    assert margins[1] > margins[0] + 0.01


def test_eval_loss_and_metrics_are_weighted(tmp_path):
    """eval_loss over the whole set = sum(w l) / sum(w), from the losses of the pairs one at a time."""
    weights = [0.5, 0.0, 3.0, 1.5, 1.0]
    pairs = make_pairs(weights)
    trainer = make_trainer(tmp_path, pairs, per_device_eval_batch_size=2)
    metrics = trainer.evaluate()
    alone = [trainer.evaluate(pairs.select([i]).map(lambda row: {"weight": 1.0})) for i in range(5)]
    losses = np.array([entry["eval_loss"] for entry in alone])
    margins = np.array([entry["eval_rewards/margins"] for entry in alone])
    assert metrics["eval_loss"] == pytest.approx(np.average(losses, weights=weights), rel=1e-4)
    assert metrics["eval_rewards/weighted_margins"] == pytest.approx(np.average(margins, weights=weights), rel=1e-3)
    assert metrics["eval_rewards/weighted_accuracies"] == pytest.approx(np.average(margins > 0, weights=weights))
    assert metrics["eval_weights/mean"] == pytest.approx(1.0)
    assert metrics["eval_weights/max"] == pytest.approx(3.0 / 1.2)
    # (sum w)^2 / sum w^2 = 36 / 12.5
    assert metrics["eval_weights/effective_sample_size"] == pytest.approx(36 / 12.5)


def test_weights_none_takes_them_as_they_are(tmp_path):
    trainer = make_trainer(tmp_path, make_pairs([2.0, 2.0]), weight_normalization="none")
    normalized = make_trainer(tmp_path, make_pairs([2.0, 2.0]))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(2 * normalized.evaluate()["eval_loss"], rel=1e-6)


_NEXT_STEP = (
    "Add it, for instance from fairpp_hf.preference_weights, or load pairs that have it: "
    'load_dataset("fairpp", "pairs", target=...).'
)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1.0, -0.5, -2.0],
            "train_dataset must have finite weights of at least 0; got -0.5 at row 1 (2 such of 3 rows). "
            "Drop or mend these rows.",
        ),
        (
            [1.0, math.nan],
            "train_dataset must have finite weights of at least 0; got nan at row 1 (1 such of 2 rows). "
            "Drop or mend these rows.",
        ),
        (
            [math.inf],
            "train_dataset must have finite weights of at least 0; got inf at row 0 (1 such of 1 rows). "
            "Drop or mend these rows.",
        ),
        (
            [None, 1.0],
            "train_dataset must have finite weights of at least 0; got nan at row 0 (1 such of 2 rows). "
            "Drop or mend these rows.",
        ),
        (
            [0.0, 0.0],
            "train_dataset must have a weight above 0; got 0 in all 2 rows, from which nothing is learnt.",
        ),
        (["heavy"], "train_dataset must have numbers in its 'weight' column; got string."),
    ],
)
def test_bad_weights_are_refused_before_anything_is_loaded(tmp_path, weights, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedDPOTrainer(
            model="a model that does not exist",
            args=ReweightedDPOConfig(str(tmp_path), report_to="none", bf16=False),
            train_dataset=make_pairs(weights),
        )


def test_a_missing_weight_column_is_refused(tmp_path):
    pairs = make_pairs([1.0])
    message = (
        "eval_dataset['heldout'] must have a 'weight' column; got columns ['prompt', 'chosen', 'rejected', 'tier', "
        "'question_id', 'label_probability', 'group']. " + _NEXT_STEP
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedDPOTrainer(
            model="a model that does not exist",
            args=ReweightedDPOConfig(str(tmp_path), report_to="none", bf16=False),
            train_dataset=pairs,
            eval_dataset={"heldout": pairs.remove_columns("weight")},
        )


def test_unsupported_settings_are_refused_all_at_once(tmp_path):
    with pytest.raises(ValueError, match="loss_type must be a sum over pairs; got 'aot'") as error:
        ReweightedDPOConfig(
            str(tmp_path), loss_type=["aot"], use_weighting=True, padding_free=True, weight_normalization="sum"
        )
    assert [line.split(" ")[0] for line in str(error.value).splitlines()] == [
        "weight_normalization", "loss_type", "use_weighting", "padding_free",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"truncation_mode": "keep_middle"},
            "truncation_mode must be 'keep_start' or 'keep_end'; got 'keep_middle'. Set one of the two, or max_length=None.",
        ),
        (
            {"label_smoothing_factor": 0.3},
            "label_smoothing_factor must be 0; got 0.3. It smooths the tokens of a language model's loss, which preference "
            "losses do not have. For noisy preferences use soft_labels, or label_smoothing with loss_type 'robust'.",
        ),
        (
            {"accelerator_config": {"dispatch_batches": True}},
            "dispatch_batches of accelerator_config must be False; got True. The tensors of a batch have lengths of their "
            "own and cannot be cut alike. Remove the setting.",
        ),
        (
            {"group_column": "group", "restore_callback_states_from_checkpoint": True},
            "restore_callback_states_from_checkpoint must be False with group_column; got True. The groups' weights are "
            "taken up from the checkpoint without it. Remove the setting.",
        ),
        (
            {"weight_application": "sampling", "train_sampling_strategy": "sequential"},
            "train_sampling_strategy must be 'random' with weight_application='sampling'; got 'sequential'. The weights "
            "decide what is drawn. Remove one of the two.",
        ),
        *(
            (
                {"train_sampling_strategy": strategy},
                f"train_sampling_strategy must be 'random' or 'sequential'; got '{strategy}'. It orders pairs by length, "
                "which pulls those apart whose prompt is computed once. Remove the setting.",
            )
            for strategy in ("group_by_length", "batch_rebalance")
        ),
        (
            {"max_length": 1, "truncation_mode": "keep_end"},
            "max_length must be at least 2; got 1. In a sequence of one token, none is predicted. Set it to what a prompt "
            "and a completion take, or to None.",
        ),
        ({"group_step_size": 0.0}, "group_step_size must be a finite number above 0; got 0.0."),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedDPOConfig(str(tmp_path), **settings)


def test_label_smoothing_that_does_nothing_is_mentioned(tmp_path, caplog):
    make_trainer(tmp_path, make_pairs([1.0]), label_smoothing=0.2)
    assert "label_smoothing=0.2 has no effect on loss_type ['sigmoid'], as in TRL" in caplog.text


def test_a_stream_can_be_evaluated_on(tmp_path):
    pairs = make_pairs([0.5, 1.5, 2.0])
    stream = pairs.to_iterable_dataset()
    settings = {"weight_normalization": "batch", "per_device_eval_batch_size": 2}
    streamed = make_trainer(tmp_path, pairs, eval_dataset=stream, **settings).evaluate()
    mapped = make_trainer(tmp_path, pairs, **settings).evaluate()
    assert streamed["eval_loss"] == pytest.approx(mapped["eval_loss"], rel=1e-6)


def test_predict_gives_the_loss(tmp_path):
    pairs = make_pairs([0.5, 1.5, 2.0])
    trainer = make_trainer(tmp_path, pairs)
    predicted = trainer.predict(trainer.eval_dataset)
    assert predicted.metrics["test_loss"] == pytest.approx(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize("precomputed", [True, False])
def test_predict_takes_a_raw_dataset(tmp_path, monkeypatch, precomputed):
    """As `evaluate` does, with its metrics; and what was predicted is not taken for a part of the next evaluation."""
    monkeypatch.setenv("FAIRPP_HOME", str(tmp_path))
    pairs = make_pairs([0.5, 1.5, 2.0])
    settings = {"precompute_ref_log_probs": precomputed, "per_device_eval_batch_size": 2}
    trainer = make_trainer(tmp_path, pairs, **settings)
    before = trainer.evaluate()
    predicted = trainer.predict(pairs).metrics
    other = trainer.predict(make_pairs([1.0], seed=5)).metrics
    again = trainer.evaluate()
    for name, value in before.items():
        if name.startswith("eval_") and not re.search("time|per_second", name):
            assert again[name] == pytest.approx(value), name
            assert predicted[name.replace("eval_", "test_", 1)] == pytest.approx(value), name
    assert other["test_logps/chosen"] != pytest.approx(before["eval_logps/chosen"])


def test_predict_says_that_the_reference_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPP_HOME", str(tmp_path))
    pairs = make_pairs([0.5, 1.5])
    trainer = make_trainer(tmp_path, pairs, precompute_ref_log_probs=True, ref_model=None, model=tiny_model())
    trainer.train()
    assert trainer.predict(trainer.eval_dataset).metrics["test_loss"] > 0
    with pytest.raises(
        ValueError, match=r"^precompute_ref_log_probs must be False to predict on another dataset after"
    ):
        trainer.predict(pairs)


@pytest.mark.parametrize("prompt", ["empty", "implicit"])
@pytest.mark.parametrize("share_prefix", ["auto", False])
def test_prompts_without_a_token_train_as_in_trl(tmp_path, prompt, share_prefix):
    """Completions of one token too, of which nothing is predicted then."""
    texts = [("fair share", "rule"), ("law", "equal people"), ("energy", "custom law")]
    rows = [{"chosen": chosen, "rejected": rejected, "weight": 1.0} for chosen, rejected in texts]
    if prompt == "empty":
        rows = [{**row, "prompt": ""} for row in [*rows, {**rows[0], "chosen": ""}, {**rows[0], "rejected": ""}]]
    settings = {"per_device_train_batch_size": 5, "num_train_epochs": 2}
    ours = make_trainer(tmp_path, Dataset.from_list(rows), share_prefix=share_prefix, **settings)
    theirs = make_trainer(tmp_path, Dataset.from_list(rows), trainer=DPOTrainer, config=DPOConfig, **settings)
    start = parameters(ours)
    ours.train()
    theirs.train()
    assert not torch.allclose(parameters(ours), start, atol=1e-5)
    torch.testing.assert_close(parameters(ours), parameters(theirs), rtol=1e-5, atol=1e-7)


def test_more_tokens_than_the_embedding_has_rows_are_refused(tmp_path):
    """Before the reference is computed, too, which TRL does in its __init__."""
    tokenizer = tiny_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<another>"])
    args = ReweightedDPOConfig(str(tmp_path), report_to="none", precompute_ref_log_probs=True)
    message = (
        f"The embedding must have a row for each token of the tokenizer; got {rows} rows for {rows + 1} tokens. Use the "
        f"tokenizer that the model was saved with, or save the model after model.resize_token_embeddings({rows + 1})."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedDPOTrainer(model=tiny_model(), args=args, train_dataset=make_pairs([1.0]), processing_class=tokenizer)


def test_metrics_of_several_sets_keep_their_names(tmp_path):
    """The best checkpoint is chosen by the set that is named, and not by the one that came last."""
    pairs = make_pairs([1.0] * 4)
    sets = {"near": pairs, "far": pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})}
    trainer = make_trainer(
        tmp_path,
        pairs,
        eval_dataset=sets,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_near_rewards/margins",
        greater_is_better=True,
    )
    trainer.train()
    logged = {name for entry in trainer.state.log_history for name in entry if name.startswith("eval_")}
    assert {name.split("_")[1] for name in logged} == {"near", "far"}
    metrics = trainer.evaluate()
    assert metrics["eval_near_rewards/margins"] == pytest.approx(-metrics["eval_far_rewards/margins"], rel=1e-4)
    for name, dataset in sets.items():
        alone = {key for key in trainer.evaluate(dataset) if key.startswith("eval_")}
        assert {key.replace("eval_", f"eval_{name}_", 1) for key in alone} <= set(metrics)
    margins = [entry["eval_near_rewards/margins"] for entry in trainer.state.log_history if "eval_near_loss" in entry]
    assert margins[0] < margins[1] < margins[2]
    assert trainer.state.best_metric == pytest.approx(margins[2], rel=1e-4)


def test_a_dataset_that_was_prepared_before_can_be_evaluated_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPP_HOME", str(tmp_path))
    trainer = make_trainer(tmp_path, make_pairs([0.5, 1.5, 2.0]), group_column="group", precompute_ref_log_probs=True)
    assert trainer.evaluate(trainer.eval_dataset)["eval_loss"] == pytest.approx(trainer.evaluate()["eval_loss"])


def test_columns_that_nobody_asked_for_do_not_reach_the_model(tmp_path):
    pairs = make_pairs([0.5, 1.5]).remove_columns("label_probability")
    pairs = pairs.add_column("label_probability", ["high", None]).add_column("group_number", [7, 8])
    assert make_trainer(tmp_path, pairs).train().training_loss > 0


def test_deepspeed_leaves_weights_and_log_probabilities_in_float32(tmp_path, monkeypatch):
    """`Trainer` casts all floats of a batch to DeepSpeed's 16 bits: -130.483 would become -130."""
    trainer = make_trainer(tmp_path, make_pairs([0.1234567]), weight_normalization="none")
    batch = trainer.data_collator(
        [{**trainer.train_dataset[0], "ref_chosen_logps": -130.483, "ref_rejected_logps": -1.0}]
    )

    def in_16_bits(self, inputs):
        return {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}

    monkeypatch.setattr(DPOTrainer, "_prepare_inputs", in_16_bits)
    prepared = trainer._prepare_inputs(batch)
    for name, value in (("weight", 0.1234567), ("ref_chosen_logps", -130.483)):
        assert prepared[name].dtype == torch.float32
        assert prepared[name].item() == pytest.approx(value, rel=1e-6)


def test_a_stream_that_nobody_chose_a_normalization_for_is_weighted_by_the_step(tmp_path, caplog):
    pairs = make_pairs([0.5, 1.5, 0.5, 1.5])
    settings = {"max_steps": 1, "eval_strategy": "no"}
    chosen = {"train_sampling_strategy": "sequential", "weight_normalization": "batch", "eval_dataset": None}
    mapped = make_trainer(tmp_path, pairs, **settings, **chosen)
    streamed = make_trainer(tmp_path, pairs.to_iterable_dataset(), eval_dataset=None, **settings)
    said = [record.getMessage() for record in caplog.records if "weight_normalization" in record.getMessage()]
    assert said == [
        "weight_normalization is 'batch': weights are divided by their sum over a step, since their mean over a streaming "
        "train_dataset is not known beforehand."
    ]
    mapped.train()
    streamed.train()
    torch.testing.assert_close(parameters(streamed), parameters(mapped), rtol=1e-4, atol=1e-6)


def test_all_that_a_stream_cannot_have_is_said_at_once(tmp_path):
    stream = make_pairs([1.0, 2.0]).to_iterable_dataset()
    settings = {"weight_normalization": "dataset", "weight_application": "sampling", "group_column": "group"}
    args = ReweightedDPOConfig(str(tmp_path), report_to="none", precompute_ref_log_probs=True, **settings)
    plain = make_pairs([1.0]).remove_columns("weight")
    with pytest.raises(ValueError, match=r"^max_steps must be above 0 for a streaming train_dataset; got -1") as error:
        ReweightedDPOTrainer(model="a model that does not exist", args=args, train_dataset=stream, eval_dataset=plain)
    assert [line.split(" ")[0] for line in str(error.value).splitlines()] == [
        "max_steps", "weight_normalization", "weight_application", "group_column", "precompute_ref_log_probs",
        "eval_dataset",
    ]  # fmt: skip


def test_a_stream_trains_with_weights_as_they_are(tmp_path):
    pairs = make_pairs([0.5, 1.5, 0.5, 1.5])
    settings = {"max_steps": 1, "weight_normalization": "none", "eval_strategy": "no"}
    mapped = make_trainer(tmp_path, pairs, train_sampling_strategy="sequential", **settings)
    streamed = make_trainer(tmp_path, pairs.to_iterable_dataset(), **settings)
    mapped.train()
    streamed.train()
    torch.testing.assert_close(parameters(streamed), parameters(mapped), rtol=1e-4, atol=1e-6)


def test_prompts_that_fill_max_length_are_counted(tmp_path):
    pairs = make_pairs([1.0, 1.0, 1.0, 1.0])
    lengths = sorted(len(ids) for ids in make_trainer(tmp_path, pairs).train_dataset["prompt_ids"])
    assert lengths[-2] < lengths[-1]
    with pytest.warns(
        UserWarning, match=rf"1 of 4 pairs of the train dataset are left out: .*max_length={lengths[-1]}"
    ):
        make_trainer(tmp_path, pairs, max_length=lengths[-1])


def test_the_call_is_that_of_dpo_trainer():
    ours, theirs = (inspect.signature(trainer.__init__).parameters for trainer in (ReweightedDPOTrainer, DPOTrainer))
    assert [(name, item.kind, item.default) for name, item in ours.items()] == [
        (name, item.kind, item.default) for name, item in theirs.items()
    ]


def test_images_are_refused(tmp_path):
    pairs = make_pairs([1.0]).add_column("images", [["picture"]])
    message = "train_dataset must hold text only; got column 'images'. Use trl.DPOTrainer for images."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_trainer(tmp_path, pairs, eval_dataset=None)


def test_plain_dpo_config_is_accepted(tmp_path):
    trainer = make_trainer(tmp_path, make_pairs([1.0, 3.0]), config=DPOConfig)
    assert trainer.train().training_loss > 0
