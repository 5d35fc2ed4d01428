"""What must not change the gradient, and what must: against one pair at a time, and against stock TRL."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from peft import LoraConfig, get_peft_model
from tiny_architectures import tiny
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import (
    assert_same,
    make_pairs,
    make_trainer,
    oracle_gradient,
    parameters,
    question_pairs,
    sequence_logp,
    step_gradient,
)
from trl import DPOConfig, DPOTrainer
from two_processes import run_on_two_processes

# Four questions with 3, 2, 2 and 1 pairs.
WEIGHTS = [[0.1, 0.4, 0.7], [0.0, 0.9], [0.3, 0.3], [2.0]]
PAIRS = question_pairs(WEIGHTS)
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
FLAT = np.array([weight for weights in WEIGHTS for weight in weights])


COEFFICIENTS = {
    "dataset": FLAT / FLAT.mean() / len(FLAT),
    "batch": FLAT / FLAT.sum(),
    "none": FLAT / len(FLAT),
}


@pytest.mark.parametrize("normalization", COEFFICIENTS)
@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("micro_batch", [8, 3, 1])
def test_gradient_is_that_of_one_pair_at_a_time(tmp_path, normalization, share_prefix, micro_batch):
    """Whatever way 8 pairs are cut into micro-batches, 3 + 3 + 2 among them, and whether or not prompts are shared."""
    ours = step_gradient(
        tmp_path,
        PAIRS,
        weight_normalization=normalization,
        share_prefix=share_prefix,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=-(-8 // micro_batch),
    )
    assert_same(ours, oracle_gradient(PAIRS, COEFFICIENTS[normalization]))


@pytest.mark.parametrize("normalization", COEFFICIENTS)
@pytest.mark.parametrize("micro_batch", [8, 3])
def test_sft_is_a_weighted_mean_over_the_tokens_of_the_step(tmp_path, normalization, micro_batch):
    """Oracle: one chosen completion at a time, divided by all their tokens or by those times their weights."""
    settings = {"loss_type": ["sft"], "weight_normalization": normalization}
    ours = step_gradient(
        tmp_path,
        PAIRS,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=-(-8 // micro_batch),
        **settings,
    )
    model, tokenizer = tiny_model(), tiny_tokenizer()
    logps = torch.stack([sequence_logp(model, tokenizer, pair["prompt"], pair["chosen"]) for pair in PAIRS])
    trainer = make_trainer(tmp_path, PAIRS, per_device_eval_batch_size=3, **settings)
    tokens = np.array([len(ids) for ids in trainer.train_dataset["chosen_ids"]])
    coefficients = {
        "dataset": FLAT / FLAT.mean() / tokens.sum(),
        "batch": FLAT / (FLAT @ tokens),
        "none": FLAT / tokens.sum(),
    }
    loss = -(torch.tensor(coefficients[normalization]) * logps).sum()
    loss.backward()
    assert_same(ours, torch.cat([p.grad.reshape(-1) for p in model.parameters()]))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(loss.item(), rel=1e-5)
    first = np.array(PAIRS["tier"]) == 1
    of_tier = -(FLAT * logps.detach().numpy())[first].sum() / (FLAT * tokens)[first].sum()
    assert metrics["eval_tiers/1/loss"] == pytest.approx(of_tier, rel=1e-5)


def test_soft_labels_divide_sft_between_the_two_completions(tmp_path):
    """A label of 1/4 is the pair with weight 1/4 and its opposite with 3/4."""
    settings = {"loss_type": ["sigmoid", "sft"], "weight_normalization": "batch"}
    pairs = PAIRS.select([0, 3, 5]).remove_columns(["weight", "label_probability"])
    soft = pairs.add_column("weight", [1.0] * 3).add_column("label_probability", [0.25] * 3)
    opposite = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"}).select_columns(pairs.column_names)
    both = concatenate_datasets([pairs, opposite]).add_column("weight", [0.25] * 3 + [0.75] * 3)
    assert_same(step_gradient(tmp_path, soft, soft_labels=True, **settings), step_gradient(tmp_path, both, **settings))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_mixture_of_experts_is_balanced_as_in_trl(tmp_path, steps):
    """All tokens of a sequence count, its last one too. The balance is a tenth of the gradient or more."""
    pairs = make_pairs([1.0] * 6)
    batches = {"per_device_train_batch_size": 6 // steps, "gradient_accumulation_steps": steps}
    gradients = []
    for coefficient in (1.0, 0.0):
        for kind in ({}, {"trainer": DPOTrainer, "config": DPOConfig}):
            models = {
                name: tiny("mixtral", num_local_experts=4, sliding_window=None) for name in ("model", "ref_model")
            }
            settings = {"router_aux_loss_coef": coefficient, **batches, **models, **kind}
            gradients.append(step_gradient(tmp_path, pairs, **settings))
    with_balance, theirs, without_balance, theirs_without = gradients
    assert_same(with_balance, theirs, tolerance=1e-5)
    assert_same(without_balance, theirs_without, tolerance=1e-5)
    assert (with_balance - without_balance).norm() > 0.1 * theirs.norm()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_type": ["ipo"]},
        {"loss_type": ["sft"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
        {"loss_type": ["sft", "sigmoid"], "loss_weights": [1.0, 0.2], "ld_alpha": 0.4},
        {"loss_type": ["exo_pair"], "label_smoothing": 0.1},
        {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [0.8, 0.3]},
        {"f_divergence_type": "forward_kl"},
        {"f_divergence_type": "js_divergence"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        {"ld_alpha": 0.4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
        {"peft": LORA},
        {"gradient_checkpointing": True},
        {"max_length": 24, "truncation_mode": "keep_start"},
        {"max_length": 24, "truncation_mode": "keep_end"},
        {"precompute_ref_log_probs": True},
        {"precompute_ref_log_probs": True, "ld_alpha": 0.4},
    ],
    ids=lambda settings: " ".join(settings) or "plain",
)
def test_equal_weights_on_shared_prompts_are_stock_dpo(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("FAIRPP_HOME", str(tmp_path / "home"))
    pairs = question_pairs([[1.0] * 3, [1.0] * 2, [1.0]])
    theirs = step_gradient(tmp_path, pairs, trainer=DPOTrainer, config=DPOConfig, **settings)
    assert_same(step_gradient(tmp_path, pairs, share_prefix=True, **settings), theirs)


def test_weight_2_is_the_pair_twice(tmp_path):
    pairs = PAIRS.remove_columns("weight")
    twice = concatenate_datasets([pairs, pairs.select([1, 4])]).add_column("weight", [1.0] * 10)
    doubled = pairs.add_column("weight", [1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    of_twice = step_gradient(tmp_path, twice, weight_normalization="none")
    of_doubled = step_gradient(tmp_path, doubled, weight_normalization="none")
    # the divisor is the number of pairs: 10 and 8
    assert_same(of_doubled * 8, of_twice * 10)


@pytest.mark.parametrize("normalization", ["dataset", "batch"])
def test_scaling_all_weights_changes_nothing(tmp_path, normalization):
    scaled = PAIRS.remove_columns("weight").add_column("weight", 1000 * FLAT)
    ours = [step_gradient(tmp_path, pairs, weight_normalization=normalization) for pairs in (PAIRS, scaled)]
    assert_same(*ours, tolerance=1e-6)


def test_batch_normalization_over_a_step_of_zero_weights_is_no_step(tmp_path):
    pairs = question_pairs([[0.0, 0.0], [1.0, 1.0]])
    settings = {"weight_normalization": "batch", "per_device_train_batch_size": 2}
    gradient = step_gradient(tmp_path, pairs, train_sampling_strategy="sequential", **settings)
    assert gradient.abs().max() == 0


def test_precomputed_reference_is_the_live_one(tmp_path):
    """Also with a setting that changes it, whose values are not those that are stored for another."""
    for settings in ({}, {"ld_alpha": 0.5}):
        live = step_gradient(tmp_path, PAIRS, **settings)
        assert_same(step_gradient(tmp_path, PAIRS, precompute_ref_log_probs=True, **settings), live, tolerance=1e-6)


def test_stored_reference_values_are_those_of_the_same_computation(tmp_path):
    """Equal weights with other positions, or with an adapter of another scale, are another reference."""

    def first_reward(*, theta=10_000.0, alpha=8):
        model = tiny_model()
        model.config.rope_parameters["rope_theta"] = theta
        model = type(model)(model.config)  # which positions are computed with
        model.load_state_dict(tiny_model().state_dict())
        torch.manual_seed(0)
        model = get_peft_model(model, dataclasses.replace(LORA, lora_alpha=alpha))
        trainer = make_trainer(tmp_path, PAIRS, model=model, ref_model=None, precompute_ref_log_probs=True)
        return trainer.evaluate()["eval_rewards/chosen"]

    for settings in ({}, {"theta": 100.0}, {"alpha": 64}):
        assert first_reward(**settings) == pytest.approx(0, abs=1e-6), settings


def test_lora_without_its_adapter_is_a_separate_reference(tmp_path):
    """The reference of a fresh adapter is the base model; given explicitly, it must give the same gradient."""
    implicit = step_gradient(tmp_path, PAIRS, peft=LORA)
    explicit = step_gradient(tmp_path, PAIRS, peft=LORA, ref_model=tiny_model())
    assert_same(implicit, explicit, tolerance=1e-5)


def test_a_trained_adapter_is_its_own_reference(tmp_path):
    """As after a first stage: the adapter that training starts from, and not the bare base, is the reference."""
    trainer = make_trainer(tmp_path, PAIRS, model=get_peft_model(tiny_model(), LORA), ref_model=None)
    assert trainer.evaluate()["eval_rewards/chosen"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_application": "sampling"},
        {"group_column": "group", "group_step_size": 0.5},
        {"precompute_ref_log_probs": True},
        {"reference": "none", "ref_model": None, "soft_labels": True},
    ],
    ids=str,
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, settings):
    """12 pairs in steps of 2 x 2, three epochs of 3 steps, stopped after step 4, in the middle of the second epoch."""
    pairs = question_pairs([[0.1, 0.4], [0.0, 0.9], [2.0, 2.0], [0.5, 0.5], [1.0, 1.0], [0.2, 0.2]])
    settings = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_dataset": None,
        **settings,
    }
    whole = make_trainer(tmp_path, pairs, **settings)
    whole.train()
    resumed = make_trainer(tmp_path, pairs, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    torch.testing.assert_close(parameters(resumed), parameters(whole), rtol=1e-6, atol=1e-7)
    if whole.groups is not None:
        assert not torch.allclose(whole.groups.alpha, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-3)
        torch.testing.assert_close(resumed.groups.alpha, whole.groups.alpha)


def test_two_processes_are_one(tmp_path):
    """2 processes x 4 pairs against 1 x 8, for each way of weighing, and eval_loss over 7 pairs, which do not divide."""
    cases = {
        "dataset": {},
        "batch": {"weight_normalization": "batch"},
        "groups": {"group_column": "group", "group_step_size": 0.5},
        "tokens": {"loss_type": ["sigmoid", "sft"]},
        "precomputed": {"precompute_ref_log_probs": True},
    }
    out = tmp_path / "two.pt"
    PAIRS.save_to_disk(tmp_path / "pairs")
    run_on_two_processes(
        Path(__file__).parent / "two_trainers.py", [str(out), json.dumps(cases), str(tmp_path / "pairs")], tmp_path
    )
    two = torch.load(out)
    for name, settings in cases.items():
        assert_same(two[name]["gradient"], step_gradient(tmp_path, PAIRS, **settings), tolerance=1e-5)
    one = make_trainer(tmp_path, PAIRS, eval_dataset=PAIRS.select(range(7)), weight_normalization="batch")
    assert two["batch"]["eval_loss"] == pytest.approx(one.evaluate()["eval_loss"], rel=1e-5)
    assert two["unequal"]["loss"] > 0
    trained = make_trainer(tmp_path, PAIRS, **cases["groups"], per_device_train_batch_size=8, max_steps=1)
    trained.train()
    torch.testing.assert_close(two["groups"]["alpha"], trained.groups.alpha)
