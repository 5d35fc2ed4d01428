"""`ReweightedSFTTrainer` against `trl.SFTTrainer`, against the plainest oracle, and against bad input."""

import inspect
import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig
from tiny_models import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from tiny_trainers import QUICK
from trl import SFTConfig, SFTTrainer

from fairpp_hf.training import (
    DataCollatorForWeightedLanguageModeling,
    ReweightedSFTConfig,
    ReweightedSFTTrainer,
)

LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
WORDS = ["fair", "share", "rule", "energy", "people", "custom", "law", "equal"]
MARKED_TEMPLATE = CHAT_TEMPLATE.replace("'<|end|>' }}", "'' }}{% generation %}{{ '<|end|>' }}{% endgeneration %}")


def make_rows(weights, seed=0):
    """One conversational row per weight, with completions of 1 to 9 words."""
    rng = np.random.default_rng(seed)
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": " ".join(rng.choice(WORDS, rng.integers(3, 8)))}],
                "completion": [{"role": "assistant", "content": " ".join(rng.choice(WORDS, rng.integers(1, 10)))}],
                "weight": weight,
            }
            for weight in weights
        ]
    )


def make_trainer(tmp_path, rows, *, trainer=ReweightedSFTTrainer, config=ReweightedSFTConfig, peft=None, **settings):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = settings.pop("chat_template", CHAT_TEMPLATE)
    args = config(
        **{
            "output_dir": str(tmp_path / "out"),
            **QUICK,
            "max_grad_norm": 0.0,
            **settings,
        }
    )
    return trainer(
        model=tiny_model(),
        args=args,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        peft_config=peft,
    )


def parameters(trainer):
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters() if p.requires_grad])


def plain_nll(row, model):
    """Negative log-likelihood and token count of a completion: one sequence, full softmax, one token at a time."""
    tokenizer = tiny_tokenizer()
    context = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
    full = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"]
    logp = torch.log_softmax(model(torch.tensor([full])).logits[0].double(), dim=-1)
    return -sum(logp[at - 1, full[at]] for at in range(len(context), len(full))), len(full) - len(context)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
        {"gradient_checkpointing": True},
        {"max_length": 25},
        {"assistant_only_loss": True, "chat_template": MARKED_TEMPLATE},
        {"peft": LORA},
    ],
    ids=lambda settings: ",".join(settings) or "plain",
)
@pytest.mark.parametrize("normalization", ["dataset", "batch"])
def test_equal_weights_train_and_log_as_trl_does(tmp_path, settings, normalization):
    """10 rows, so that the last batch is short, and with accumulation the last window is; completions of unequal lengths."""
    rows = make_rows([0.25] * 10)
    ours = make_trainer(tmp_path, rows, weight_normalization=normalization, **settings)
    theirs = make_trainer(tmp_path, rows, trainer=SFTTrainer, config=SFTConfig, **settings)
    start = parameters(ours)
    logs = []
    for trainer in (ours, theirs):
        trainer.train()
        logs.append(
            {(entry["step"], key): value for entry in trainer.state.log_history for key, value in entry.items()}
        )
    assert not torch.allclose(parameters(ours), start, atol=1e-5)
    torch.testing.assert_close(parameters(ours), parameters(theirs), rtol=1e-6, atol=1e-7)
    for step, key in logs[1]:
        if not re.search("runtime|per_second|flos", key):
            assert logs[0][step, key] == pytest.approx(logs[1][step, key], rel=1e-5, abs=1e-7), (step, key)


@pytest.mark.parametrize("normalization", ["dataset", "batch", "none"])
def test_gradient_is_the_weighted_sum_over_rows(tmp_path, normalization):
    """Oracle: one row at a time, w * nll, divided by the tokens of all 4, or by the sum of w times tokens.

    The weights are so small that the sum of w times tokens is far below 1.
    """
    weights = 1e-3 * np.array([0.1, 2.0, 0.0, 0.7])
    rows = make_rows(weights.tolist())
    trainer = make_trainer(
        tmp_path,
        rows,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        learning_rate=1.0 if normalization == "none" else 1e-2,
        weight_normalization=normalization,
    )
    start = parameters(trainer)
    loss = trainer.train().training_loss
    step = (start - parameters(trainer)) / trainer.args.learning_rate

    model = tiny_model()
    nlls, tokens = zip(*(plain_nll(row, model) for row in rows), strict=True)
    factor = {
        "dataset": weights / weights.mean() / sum(tokens),
        "batch": weights / (weights @ np.array(tokens)),
        "none": weights / sum(tokens),
    }[normalization]
    expected = sum(w * nll for w, nll in zip(factor, nlls, strict=True))
    expected.backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(step, gradient, rtol=1e-3, atol=2e-4 * gradient.abs().max().item())


@pytest.mark.parametrize("normalization", ["dataset", "batch", "none"])
def test_accumulated_micro_batches_equal_one_batch(tmp_path, normalization):
    rows = make_rows([0.1, 0.4, 0.0, 0.9, 0.3, 0.3, 0.2, 0.8])
    runs = []
    for micro_batch in (8, 1):
        trainer = make_trainer(
            tmp_path,
            rows,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=8 // micro_batch,
            weight_normalization=normalization,
        )
        trainer.train()
        runs.append(parameters(trainer))
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalization", ["dataset", "batch"])
def test_scaling_all_weights_changes_nothing(tmp_path, normalization):
    weights = np.array([0.1, 0.4, 0.0, 0.9, 0.3, 0.3, 0.2, 0.8])
    runs = []
    for scale in (1e-6, 1.0, 1000.0):
        trainer = make_trainer(tmp_path, make_rows((weights * scale).tolist()), weight_normalization=normalization)
        trainer.train()
        runs.append(parameters(trainer))
    for run in runs[1:]:
        torch.testing.assert_close(run, runs[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("normalization", ["dataset", "batch", "none"])
def test_eval_loss_is_one_weighted_mean_over_all_rows(tmp_path, normalization):
    """5 rows in batches of 2: neither the short last batch nor a row's length counts more than it should."""
    weights = np.array([0.5, 0.0, 3.0, 1.5, 1.0])
    rows = make_rows(weights.tolist())
    trainer = make_trainer(tmp_path, rows, per_device_eval_batch_size=2, weight_normalization=normalization)
    metrics = trainer.evaluate()
    with torch.no_grad():
        nlls, tokens = (
            np.array(values) for values in zip(*(plain_nll(row, tiny_model()) for row in rows), strict=True)
        )
    used = weights if normalization == "none" else weights / weights.mean()
    divisor = used @ tokens if normalization == "batch" else tokens.sum()
    assert metrics["eval_loss"] == pytest.approx(used @ nlls / divisor, rel=1e-6)
    assert metrics["eval_weights/mean"] == pytest.approx(used.mean())
    assert metrics["eval_weights/max"] == pytest.approx(used.max())
    # (sum w)^2 / sum w^2 = 36 / 12.5
    assert metrics["eval_weights/effective_sample_size"] == pytest.approx(36 / 12.5)
    # Another evaluation begins anew, and a set that is handed over is prepared as at the start.
    assert trainer.evaluate()["eval_loss"] == metrics["eval_loss"]
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-6)
    by_name = trainer.evaluate({"all": rows, "one": rows.select([2])})
    assert by_name["eval_all_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-6)
    for dataset in (trainer.eval_dataset, rows):
        predicted = trainer.predict(dataset).metrics
        for name in ("loss", "entropy", "weights/max"):
            assert predicted[f"test_{name}"] == pytest.approx(metrics[f"eval_{name}"], rel=1e-6)


def test_metrics_of_several_sets_keep_their_names(tmp_path):
    rows = make_rows([1.0, 2.0, 1.0, 1.0])
    trainer = make_trainer(tmp_path, rows)
    trainer.eval_dataset = {name: trainer.eval_dataset.select(of) for name, of in {"one": [1], "all": range(4)}.items()}
    metrics = trainer.evaluate()
    assert {name.split("_")[1] for name in metrics if name.startswith("eval_")} == {"one", "all"}
    assert (metrics["eval_one_weights/max"], metrics["eval_all_weights/mean"]) == pytest.approx((1.6, 1.0))
    logged = {name for entry in trainer.state.log_history for name in entry if name.startswith("eval_")}
    assert {name.split("_")[1] for name in logged} == {"one", "all"}
    assert metrics["eval_one_entropy"] != metrics["eval_all_entropy"]


def test_batches_of_unequal_sizes_are_refused_on_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(ReweightedSFTConfig, "world_size", 2)
    with pytest.raises(ValueError, match=r"^train_sampling_strategy must not be 'batch_rebalance' on several"):
        ReweightedSFTConfig(str(tmp_path), report_to="none", train_sampling_strategy="batch_rebalance")


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_rows_can_be_ordered_by_length(tmp_path, strategy):
    rows = make_rows([0.1, 0.4, 1.0, 0.9, 0.3, 0.3])
    trainer = make_trainer(tmp_path, rows, train_sampling_strategy=strategy, per_device_train_batch_size=2)
    trainer.train()
    assert trainer.state.global_step == 3


def test_weights_are_logged_over_the_rows_since_the_last_log(tmp_path):
    """Weights 1, 0, 2, 1 and then 0, 0, 0, 4 normalised to a mean of 1: 8 rows that sum to 8."""
    rows = make_rows([1.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 4.0])
    trainer = make_trainer(
        tmp_path,
        rows,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    logged = [
        [entry[f"weights/{name}"] for name in ("mean", "max", "effective_sample_size")]
        for entry in trainer.state.log_history
        if "weights/mean" in entry and "loss" in entry
    ]
    assert logged == [pytest.approx([1.0, 2.0, 16 / 6]), pytest.approx([1.0, 4.0, 1.0])]


def test_a_step_of_zero_weights_changes_nothing(tmp_path):
    rows = make_rows([0.0, 0.0, 1.0, 1.0])
    trainer = make_trainer(
        tmp_path,
        rows,
        per_device_train_batch_size=2,
        train_sampling_strategy="sequential",
        weight_normalization="batch",
        max_steps=1,
    )
    start = parameters(trainer)
    trainer.train()
    assert torch.equal(parameters(trainer), start)
    first = trainer.state.log_history[0]
    assert (first["loss"], first["weights/mean"]) == (0.0, 0.0)
    assert "weights/effective_sample_size" not in first


def test_pairs_train_as_their_chosen_texts(tmp_path):
    pairs = load_dataset("fairpp", "pairs", target="loyal_nationals", split="train[:16]")
    rows = pairs.select(range(0, 16, 2)).remove_columns("rejected").rename_column("chosen", "completion")
    runs = []
    for dataset in (pairs, rows):
        trainer = make_trainer(tmp_path, dataset)
        assert len(trainer.train_dataset) == 8
        trainer.train()
        runs.append((parameters(trainer), trainer.evaluate()["eval_loss"]))
    torch.testing.assert_close(runs[0][0], runs[1][0], rtol=0, atol=0)
    assert runs[0][1] == runs[1][1]


def test_raising_a_weight_lowers_that_texts_loss(tmp_path):
    losses = []
    for weight in (0.1, 5.0):
        trainer = make_trainer(tmp_path, make_rows([weight, 1.0, 1.0, 1.0]), num_train_epochs=5)
        trainer.train()
        losses.append(trainer.evaluate(make_rows([1.0]))["eval_loss"])
    assert losses[1] < losses[0] - 0.01


def test_collator_carries_the_weights():
    collator = DataCollatorForWeightedLanguageModeling(pad_token_id=0)
    examples = [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "weight": 0.5},
        {"input_ids": [4, 5], "labels": [-100, 5], "weight": 1.5},
    ]
    batch = collator(examples)
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[1, 2, 3], [4, 5, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[-100, 2, 3], [-100, 5, -100]],
        "weight": [0.5, 1.5],
    }
    assert batch["weight"].dtype == torch.float32
    for wrong in (-1.5, math.nan, math.inf, 1e-40, 1e31):
        message = f"weight must be 0, or between 1e-30 and 1e+30; got [0.5, {wrong}] in one batch. "
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            collator([examples[0], {**examples[1], "weight": wrong}])
    assert collator([{**examples[0], "weight": 0}])["weight"].tolist() == [0.0]


def test_a_collator_without_weights_is_refused(tmp_path):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    trainer = make_trainer(tmp_path, make_rows([1.0]))
    trainer.data_collator = DataCollatorForLanguageModeling(pad_token_id=0)
    message = (
        "A batch must have 'weight'; got ['attention_mask', 'input_ids', 'labels']. The data_collator left it out. Use "
        "fairpp_hf.training.DataCollatorForWeightedLanguageModeling, or the default collator."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        trainer.train()


# -- refusals ----------------------------------------------------------------------------------------------------------


def refused(message, tmp_path, train_dataset, args=None, error=ValueError, **arguments):
    """The message comes before any model is loaded."""
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ReweightedSFTTrainer(
            model="a model that does not exist",
            args=args or ReweightedSFTConfig(str(tmp_path), report_to="none"),
            train_dataset=train_dataset,
            **arguments,
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1.0, -0.5, math.nan],
            "train_dataset must have finite weights of at least 0; got -0.5 at row 1 (2 such of 3 rows). "
            "Drop or mend these rows.",
        ),
        (
            [0.0, 0.0],
            "train_dataset must have a weight above 0; got 0 in all 2 rows, from which nothing is learnt.",
        ),
        (["heavy"], "train_dataset must have numbers in its 'weight' column; got string."),
    ],
)
def test_bad_weights_are_refused(tmp_path, weights, message):
    refused(message, tmp_path, make_rows(weights))


def test_a_missing_weight_column_is_refused(tmp_path):
    rows = make_rows([1.0])
    message = (
        "eval_dataset['heldout'] must have a 'weight' column; got columns ['prompt', 'completion']. Add it, for instance "
        'from fairpp_hf.preference_weights, or load pairs that have it: load_dataset("fairpp", "pairs", target=...).'
    )
    refused(message, tmp_path, rows, eval_dataset={"heldout": rows.remove_columns("weight")})


def test_more_tokens_than_the_embedding_has_rows_are_refused(tmp_path):
    tokenizer = tiny_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<another>"])
    arguments = {"model": tiny_model(), "train_dataset": make_rows([1.0]), "processing_class": tokenizer}
    with pytest.raises(ValueError, match=rf"^The embedding must have .*; got {rows} rows for {rows + 1} tokens\."):
        ReweightedSFTTrainer(args=ReweightedSFTConfig(str(tmp_path), report_to="none"), **arguments)


def test_texts_without_prompts_are_refused(tmp_path):
    rows = Dataset.from_dict({"text": ["A text."], "weight": [1.0]})
    message = (
        "train_dataset must have the columns 'prompt' and 'completion', or 'prompt' and 'chosen'; got columns "
        "['text', 'weight']. Rename yours, or load pairs that have them: "
        'load_dataset("fairpp", "pairs", target=...).'
    )
    refused(message, tmp_path, rows)


def test_images_are_refused(tmp_path):
    rows = make_rows([1.0]).add_column("images", [["picture"]])
    refused("train_dataset must hold text only; got column 'images'. Use trl.SFTTrainer for images.", tmp_path, rows)


def test_functions_that_the_weights_would_not_reach_are_refused_all_at_once(tmp_path):
    message = (
        "compute_loss_func must be None; got a function. The weighted loss is the trainer's own. Leave it out.\n"
        "compute_metrics must be None; got a function. The trainer does not keep the logits that it would need. "
        "Leave it out.\n"
        "preprocess_logits_for_metrics must be None; got a function. The trainer does not keep the logits. "
        "Leave it out.\n"
        "formatting_func must be None; got a function. It makes one text of prompt and completion. Leave it out."
    )
    names = ("compute_loss_func", "compute_metrics", "preprocess_logits_for_metrics", "formatting_func")
    refused(message, tmp_path, make_rows([1.0]), **dict.fromkeys(names, print))


def test_arguments_of_another_class_are_refused(tmp_path):
    from trl import DPOConfig

    refused(
        "args must be a ReweightedSFTConfig or a trl.SFTConfig; got DPOConfig. Pass one of the two.",
        tmp_path,
        make_rows([1.0]),
        DPOConfig(str(tmp_path), bf16=False),
        error=TypeError,
    )


_ONE_ROW = "It lays texts of different weights end to end in one row. Remove the setting."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"weight_normalization": "sum"},
            "weight_normalization must be one of 'dataset', 'batch', 'none'; got 'sum'.",
        ),
        (
            {"loss_type": "dft"},
            "loss_type must be 'nll'; got 'dft'. It weighs tokens by the model's own probabilities, which would change "
            "what the sample weights mean. Use trl.SFTTrainer for it.",
        ),
        (
            {"label_smoothing_factor": 0.1},
            "label_smoothing_factor must be 0; got 0.1. TRL computes it from a forward pass that the weights do not reach. "
            "Remove the setting.",
        ),
        ({"packing": True}, f"packing must be False; got True. {_ONE_ROW}"),
        (
            {"eval_packing": True, "padding_free": True},
            f"eval_packing must be False; got True. {_ONE_ROW}\npadding_free must be False; got True. {_ONE_ROW}",
        ),
        (
            {"completion_only_loss": False},
            "completion_only_loss must be True; got False. A weight belongs to an answer and not to its question. Remove "
            "the setting.",
        ),
        (
            {"dataset_kwargs": {"skip_prepare_dataset": True}},
            "dataset_kwargs must not have skip_prepare_dataset; got True. The weights are normalised in preparation. "
            "Remove the setting.",
        ),
        (
            {"average_tokens_across_devices": False},
            "average_tokens_across_devices must be True; got False. The divisor is that of the whole step, on all "
            "processes. Remove the setting.",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_would_be_wrong_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedSFTConfig(str(tmp_path), **settings)
    if "weight_normalization" not in settings:
        refused(message, tmp_path, make_rows([1.0]), SFTConfig(str(tmp_path), bf16=False, **settings))


def test_all_that_a_stream_cannot_have_is_said_at_once(tmp_path):
    message = (
        "max_steps must be above 0 for a streaming train_dataset; got -1. Nobody knows beforehand how long a stream is. Set "
        "max_steps.\n"
        "weight_normalization must be 'batch' or 'none' for a streaming train_dataset; got 'dataset'. The mean weight of a "
        "stream is not known beforehand. Leave it out, or scale the weights yourself and set 'none'."
    )
    args = ReweightedSFTConfig(str(tmp_path), report_to="none", weight_normalization="dataset")
    refused(message, tmp_path, make_rows([1.0, 2.0]).to_iterable_dataset(), args)


def test_a_stream_of_pairs_is_refused(tmp_path):
    pairs = make_rows([1.0]).rename_column("completion", "chosen").to_iterable_dataset()
    message = (
        "train_dataset must have the columns 'prompt' and 'completion' to be streamed; got preference pairs, whose repeated "
        "chosen texts are only known once all are read. Load it without streaming=True."
    )
    args = ReweightedSFTConfig(str(tmp_path), report_to="none", max_steps=1, weight_normalization="none")
    refused(message, tmp_path, pairs, args)


@pytest.mark.parametrize("normalization", [None, "batch", "none"])
def test_a_stream_trains_as_the_rows_it_has(tmp_path, caplog, normalization):
    """By the step's weights where nobody chose, which is said."""
    rows = make_rows([0.5, 1.5, 0.5, 1.5])
    settings = {"max_steps": 1, "weight_normalization": normalization or "batch"}
    mapped = make_trainer(tmp_path, rows, train_sampling_strategy="sequential", **settings)
    settings = {**settings, "weight_normalization": normalization}
    streamed = make_trainer(tmp_path, rows.to_iterable_dataset(), **settings)
    assert ("weight_normalization is 'batch'" in caplog.text) == (normalization is None)
    mapped.train()
    streamed.train()
    torch.testing.assert_close(parameters(streamed), parameters(mapped), rtol=1e-4, atol=1e-6)
    assert streamed.evaluate()["eval_loss"] == pytest.approx(mapped.evaluate()["eval_loss"], rel=1e-5)


def test_prompts_that_fill_max_length_are_counted(tmp_path):
    rows = make_rows([1.0, 1.0, 1.0, 1.0])
    prompts = sorted(row["labels"].count(-100) for row in make_trainer(tmp_path, rows).train_dataset)
    assert prompts[-2] < prompts[-1]
    with pytest.warns(UserWarning, match=rf"1 of 4 rows of the train dataset are left out: .*max_length={prompts[-1]}"):
        make_trainer(tmp_path, rows, max_length=prompts[-1])


def test_the_call_is_that_of_sft_trainer():
    ours, theirs = (inspect.signature(trainer.__init__).parameters for trainer in (ReweightedSFTTrainer, SFTTrainer))
    assert [(name, item.kind, item.default) for name, item in ours.items()] == [
        (name, item.kind, item.default) for name, item in theirs.items()
    ]


def test_plain_sft_config_is_accepted(tmp_path):
    trainer = make_trainer(tmp_path, make_rows([1.0, 3.0]), config=SFTConfig)
    assert trainer.weight_normalization == "dataset"
    assert trainer.train().training_loss > 0
