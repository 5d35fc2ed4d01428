"""Run by `test_all_processes_stop` in two processes: what one of them computes is no number, and both must stop."""

import tempfile
from pathlib import Path

import torch
from tiny_trainers import make_pairs, make_trainer
from transformers import TrainerCallback

from fairpp_hf.training import ReweightedDPOTrainer


class FirstProcessHasNaN(ReweightedDPOTrainer):
    """Of a pair, and not of the gradient."""

    def _policy_tokens(self, model, batch):
        tokens = super()._policy_tokens(model, batch)
        if not self.accelerator.is_main_process:
            return tokens
        return tokens._replace(logps=tokens.logps * torch.nan)


class SpoilOne(TrainerCallback):
    """As an error in the memory of one device would, after the step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if args.process_index == 1:
            next(model.parameters()).data[0, 0] = torch.nan


for trainer_class, callback in ((FirstProcessHasNaN, None), (ReweightedDPOTrainer, SpoilOne())):
    trainer = make_trainer(
        Path(tempfile.mkdtemp()),
        make_pairs([1.0] * 8),
        trainer=trainer_class,
        eval_dataset=None,
        use_cpu=True,
        per_device_train_batch_size=2,
        max_steps=2,
    )
    if callback is not None:
        trainer.add_callback(callback)
    try:
        trainer.train()
    except FloatingPointError as error:
        print(error)
