"""`ReweightedDPOTrainer` against `trl.DPOTrainer`, against the plainest oracle, and against bad input."""

import inspect
import re

import pytest
import torch
from datasets import Dataset
from tiny_trainers import make_pairs, make_trainer, parameters
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from fairpp_hf.training import ReweightedDPOTrainer, ReweightedSFTTrainer
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


def test_a_dataset_that_was_prepared_before_can_be_evaluated_again(tmp_path):
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


def test_prompts_that_fill_max_length_are_counted(tmp_path):
    pairs = make_pairs([1.0, 1.0, 1.0, 1.0])
    lengths = sorted(len(ids) for ids in make_trainer(tmp_path, pairs).train_dataset["prompt_ids"])
    assert lengths[-2] < lengths[-1]
    with pytest.warns(UserWarning, match=rf"1 of 4 rows of the train dataset are left out: .*max_length={lengths[-1]}"):
        make_trainer(tmp_path, pairs, max_length=lengths[-1])


BOTH = pytest.mark.parametrize(
    ("trainer", "theirs", "config"),
    [(ReweightedDPOTrainer, DPOTrainer, DPOConfig), (ReweightedSFTTrainer, SFTTrainer, SFTConfig)],
    ids=["dpo", "sft"],
)


@BOTH
def test_the_call_is_that_of_trl(trainer, theirs, config):
    ours, theirs = (inspect.signature(of.__init__).parameters.values() for of in (trainer, theirs))
    assert [(item.name, item.kind, item.default) for item in ours] == [
        (item.name, item.kind, item.default) for item in theirs
    ]


@BOTH
def test_a_plain_config_is_accepted(tmp_path, trainer, theirs, config):
    made = make_trainer(tmp_path, make_pairs([1.0, 3.0]), trainer=trainer, config=config)
    assert made.weight_normalization == "dataset"
    assert made.train().training_loss > 0
