"""Run by `test_two_processes_are_one` in two processes: the gradient of one step for each case."""

import json
import sys
import tempfile
from pathlib import Path

import torch
from datasets import load_from_disk
from tiny_trainers import make_trainer, parameters

out, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
# From disk: TRL has no place that processes share for log-probabilities of a dataset in memory.
PAIRS = load_from_disk(sys.argv[3])
results = {}
for name, settings in cases.items():
    trainer = make_trainer(
        Path(tempfile.mkdtemp()),
        PAIRS,
        **settings,
        eval_dataset=PAIRS.select(range(7)),
        use_cpu=True,
        learning_rate=1.0,
        max_grad_norm=0.0,
        max_steps=1,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=2,
    )
    if trainer.accelerator.num_processes != 2:
        raise RuntimeError(f"Two processes are wanted; got {trainer.accelerator.num_processes}.")
    loss = trainer.evaluate()["eval_loss"]
    start = parameters(trainer)
    trainer.train()
    results[name] = {"gradient": start - parameters(trainer), "eval_loss": loss}
    if trainer.groups is not None:
        results[name]["alpha"] = trainer.groups.alpha
# A pair whose completions are equal has one row, shared with nothing; the other process has a prompt to share.
unequal = [PAIRS[0], {**PAIRS[3], "rejected": PAIRS[3]["chosen"]}]
trainer = make_trainer(
    Path(tempfile.mkdtemp()),
    PAIRS.from_list(unequal),
    use_cpu=True,
    max_steps=1,
    per_device_train_batch_size=1,
    train_sampling_strategy="sequential",
    eval_dataset=None,
)
trainer.train()
results["unequal"] = {"loss": trainer.state.log_history[0]["loss"]}
if trainer.accelerator.is_main_process:
    torch.save(results, out)
