"""Pairs and trainers that the tests of training share."""

import numpy as np
import torch
from datasets import Dataset
from tiny_models import tiny_model, tiny_tokenizer
from trl import SFTConfig

from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer

WORDS = ["fair", "share", "rule", "energy", "people", "custom", "law", "equal"]


QUICK = {
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "num_train_epochs": 1,
    "report_to": "none",
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "logging_steps": 1,
    "save_strategy": "no",
    "optim": "sgd",
    "lr_scheduler_type": "constant",
}
"""Settings of a training that takes no time, logs every step, and takes plain steps along the gradient."""


def message(speaker, content):
    return [{"role": speaker, "content": content}]


def make_pairs(weights, seed=0):
    """One conversational pair per weight, with completions of unequal lengths."""
    return question_pairs([[weight] for weight in weights], seed)


def question_pairs(weights, seed=0):
    """For each question its pairs, a weight each: the first option against the others, then the second against the third."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, of_question in enumerate(weights):
        question = " ".join(rng.choice(WORDS, rng.integers(3, 8)))
        options = [f"{letter}. {' '.join(rng.choice(WORDS, rng.integers(1, 6)))}" for letter in "ABC"]
        for weight, (chosen, rejected) in zip(of_question, [(0, 1), (0, 2), (1, 2)], strict=False):
            rows.append(
                {
                    "prompt": message("user", question),
                    "chosen": message("assistant", options[chosen]),
                    "rejected": message("assistant", options[rejected]),
                    "weight": weight,
                    "tier": 1 + number % 3,
                    "question_id": f"question {number}",
                    "label_probability": [0.9, 0.6, 0.25][number % 3],
                    "group": ["north", "south", "south"][number % 3],
                }
            )
    return Dataset.from_list(rows)


def make_trainer(tmp_path, pairs, *, trainer=ReweightedDPOTrainer, config=ReweightedDPOConfig, peft=None, **settings):
    """A trainer of a tiny model whose reference is another one, unless `peft` or a setting says otherwise."""
    models = {"model": settings.pop("model", None) or tiny_model()}
    if not issubclass(config, SFTConfig):
        models["ref_model"] = settings.pop("ref_model", None if peft else tiny_model(seed=1))
    eval_dataset, tokenizer = settings.pop("eval_dataset", pairs), tiny_tokenizer()
    tokenizer.chat_template = settings.pop("chat_template", tokenizer.chat_template)
    return trainer(
        **models,
        args=config(**{"output_dir": str(tmp_path / "out"), **QUICK, **settings}),
        train_dataset=pairs,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        peft_config=peft,
    )


def parameters(trainer):
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters() if p.requires_grad])


def step_gradient(tmp_path, pairs, **settings):
    """The gradient of one optimiser step over all pairs, unclipped: one step of SGD at a learning rate of 1 back."""
    settings = {
        "learning_rate": 1.0,
        "max_grad_norm": 0.0,
        "max_steps": 1,
        "per_device_train_batch_size": len(pairs),
        "eval_dataset": None,
        **settings,
    }
    trainer = make_trainer(tmp_path, pairs, **settings)
    start = parameters(trainer)
    trainer.train()
    return start - parameters(trainer)


def sequence_logp(model, tokenizer, prompt, completion):
    """Plainest log-probability of a completion: one sequence, full softmax, one token at a time."""
    context = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    full = tokenizer.apply_chat_template(prompt + completion, return_dict=True)["input_ids"]
    logp = torch.log_softmax(model(torch.tensor([full])).logits[0].double(), dim=-1)
    return sum(logp[position - 1, full[position]] for position in range(len(context), len(full)))


def oracle_gradient(pairs, coefficients, *, beta=0.1, label_probability=None, reference=True):
    """The plainest gradient of sum_i c_i l_i: one pair and one sequence at a time, -log sigmoid of beta times the margin.

    With label probabilities q, l = -q log sigmoid(m) - (1 - q) log sigmoid(-m). Without a reference, the margin is that of
    the policy's own log-probabilities.
    """
    model, ref_model, tokenizer = tiny_model(), tiny_model(seed=1), tiny_tokenizer()
    label_probability = [1.0] * len(pairs) if label_probability is None else label_probability
    for pair, coefficient, probability in zip(pairs, coefficients, label_probability, strict=True):
        margin = 0.0
        for side, sign in (("chosen", 1), ("rejected", -1)):
            with torch.no_grad():
                before = sequence_logp(ref_model, tokenizer, pair["prompt"], pair[side]) if reference else 0.0
            margin = margin + sign * beta * (sequence_logp(model, tokenizer, pair["prompt"], pair[side]) - before)
        log_sigmoid = torch.nn.functional.logsigmoid
        loss = -probability * log_sigmoid(margin) - (1 - probability) * log_sigmoid(-margin)
        (coefficient * loss).backward()
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()])


def assert_same(ours, theirs, tolerance=1e-4):
    """Relative to the size of the whole gradient."""
    assert theirs.norm() > 1e-3
    assert ((ours - theirs).norm() / theirs.norm()).item() < tolerance
