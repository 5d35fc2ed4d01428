"""`ReweightedSFTTrainer` against `trl.SFTTrainer`, against the plainest oracle, and against bad input."""

import re

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig
from tiny_models import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from tiny_trainers import make_trainer as make_any_trainer
from tiny_trainers import parameters, sequence_logp
from trl import SFTConfig, SFTTrainer

from fairpp_hf.training import ReweightedSFTConfig, ReweightedSFTTrainer

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


def make_trainer(tmp_path, rows, *, trainer=ReweightedSFTTrainer, config=ReweightedSFTConfig, **settings):
    return make_any_trainer(tmp_path, rows, trainer=trainer, config=config, **{"max_grad_norm": 0.0, **settings})


def plain_nll(row, model):
    """Negative log-likelihood and token count of a completion: one sequence, full softmax, one token at a time."""
    tokenizer = tiny_tokenizer()
    context, full = (
        tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=True)["input_ids"]
        for messages, prompt in ((row["prompt"], True), (row["prompt"] + row["completion"], False))
    )
    return -sequence_logp(model, tokenizer, row["prompt"], row["completion"]), len(full) - len(context)


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
