"""Tiny trainers with `PersonaAlignmentCallback`; run in two processes, what each of them logs and comes to."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import QUICK, make_pairs, make_trainer, message, parameters

from fairpp_hf.evaluation.callback import PersonaAlignmentCallback
from fairpp_hf.training import ReweightedSFTConfig, ReweightedSFTTrainer

SUBJECTS = ("energy", "people", "custom", "law", "share", "rule", "equal", "fair")
QUESTIONS = pa.table(
    {
        "question_id": SUBJECTS,
        "prompt": [f"{subject}\nA. everyone keeps\nB. an equal share\nC. Neither" for subject in SUBJECTS],
        "option_a": ["everyone keeps"] * len(SUBJECTS),
        "option_b": ["an equal share"] * len(SUBJECTS),
        "option_c": ["Neither"] * len(SUBJECTS),
    }
)
"""8 short questions."""
ANSWERS = {
    "first": np.array([1, 1, 1, 1, 1, 1, 1, 0]),
    "second": np.array([0, 0, 0, 0, 0, 0, 0, 1]),
    "third": np.array([2, 2, 2, 2, -1, 2, 2, 2]),
}


def aligned_trainer(
    tmp_path, pairs=None, *, method="dpo", target="first", on=True, peft=None, constant=None, **settings
):
    """A trainer of a tiny model, by "dpo" or "sft", that is scored at each evaluation; with `on=False`, without scores."""
    if pairs is None:
        pairs = make_pairs([1.0] * 8)
    settings = {"eval_strategy": "steps", "per_device_eval_batch_size": 4, "per_device_train_batch_size": 4, **settings}
    if method == "sft":
        trainer = ReweightedSFTTrainer(
            model=tiny_model(),
            args=ReweightedSFTConfig(**{"output_dir": str(tmp_path / "out"), **QUICK, **settings}),
            train_dataset=pairs,
            eval_dataset=pairs,
            processing_class=tiny_tokenizer(),
            peft_config=peft,
        )
    else:
        trainer = make_trainer(tmp_path, pairs, peft=peft, **settings)
    if on:
        trainer.add_callback(PersonaAlignmentCallback(trainer, QUESTIONS, ANSWERS, target, constant=constant))
    return trainer


def texts_of_target():
    """Pairs of each question in both orders: the answer of "first" against that of "second", by its text."""
    rows = []
    for number, question in enumerate(QUESTIONS.to_pylist()):
        written = [question["option_a"], question["option_b"], question["option_c"]]
        for order in ([0, 1, 2], [1, 0, 2]):
            lines = [f"{letter}. {written[at]}" for letter, at in zip("ABC", order, strict=True)]
            chosen, rejected = (lines[order.index(ANSWERS[persona][number])] for persona in ("first", "second"))
            rows.append(
                {
                    "prompt": message("user", "\n".join([question["question_id"], *lines])),
                    "chosen": message("assistant", chosen),
                    "rejected": message("assistant", rejected),
                    "weight": 1.0,
                }
            )
    return Dataset.from_list(rows)


def _main(out: Path) -> None:
    weights, logged = {}, []
    for on in (True, False):
        trainer = aligned_trainer(
            Path(tempfile.mkdtemp()),
            on=on,
            use_cpu=True,
            eval_on_start=True,
            eval_steps=1,
            max_steps=2,
            per_device_train_batch_size=2,
        )
        if trainer.accelerator.num_processes != 2:
            raise RuntimeError(f"Two processes are wanted; got {trainer.accelerator.num_processes}.")
        trainer.train()
        weights[on] = parameters(trainer)
        logged += [entry for entry in trainer.state.log_history if "eval_js_distance/target" in entry]
    result = {"weights": weights[True], "without": weights[False], "logged": logged}
    torch.save(result, out / f"process {trainer.args.process_index}.pt")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
