"""`fairpp train`: align a causal language model with one persona, by preference optimisation, weighted SFT, or both.

By default, pairs have soft labels that are fitted to the persona's answers, and there is no reference model: training ends
at the persona's option probabilities. `--divergence 0.5` leans away from the other personas.

A configuration of this package by its name, or a path, with any field overridden on the command line:

    fairpp train --config smollm2_135m_lora --target loyal_nationals

The paper's way, weighted SFT first, and DPO from there with the SFT model as its reference:

    fairpp train --config smollm2_135m_sft_then_dpo

The same code under Accelerate, here on two processes without a GPU:

    accelerate launch --config_file trainer_configs/accelerate/cpu_2_processes.yaml train.py --use_cpu true \\
        --config smollm2_135m_lora

With the distances to all personas at each evaluation, on 100 held-out questions, and the nearest checkpoint in the end:

    fairpp train --config smollm2_135m_lora --alignment_questions 100 \\
        --load_best_model_at_end true --metric_for_best_model js_distance/target --greater_is_better false

From the last complete checkpoint after an interruption, in whichever stage:

    fairpp train --config smollm2_135m_lora --resume_from_checkpoint last

`fairpp train --help` lists every field: those of `PairArguments` (which pairs), `StageArguments` (which stages),
`ReweightedDPOConfig` (training; all of TRL's) and TRL's `ModelConfig` (model, LoRA, quantization).
"""

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.training import ReweightedDPOTrainer, ReweightedSFTTrainer

SUMMARY = "align a model with a persona: preference optimisation, weighted SFT, or both"

_PARSER = "trl.scripts."
"""Modules that parse arguments: errors that pass through them are about arguments."""


def main(argv: Sequence[str] | None = None, prog: str = "fairpp train") -> int:
    """Train, and print errors in the arguments or from this package without a traceback; 130 after Ctrl-C.

    Args:
        argv: Arguments without the program's name; `sys.argv` by default.
        prog: Name of the program in messages.
    """
    from fairpp_hf.cli import shown_lines

    try:
        with plain_errors(prog), shown_lines():
            train_model(argv, prog)
    except KeyboardInterrupt:
        print(
            f"\n{prog}: stopped. The same command with --resume_from_checkpoint last goes on from the last checkpoint.",
            file=sys.stderr,
        )
        return 130
    return 0


def train_model(
    argv: Sequence[str] | None = None, prog: str = "fairpp train"
) -> "ReweightedDPOTrainer | ReweightedSFTTrainer":
    """Train as a command line says. Here the alignment callback of the evaluation joins the training."""
    from fairpp_hf.evaluation.callback import alignment_for_training
    from fairpp_hf.training.arguments import parse_arguments
    from fairpp_hf.training.run import train

    arguments = parse_arguments(argv, prog)
    return train(arguments, alignment_for_training(arguments.pairs, arguments.training))


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Within this context, errors in the arguments or from this package are printed without a traceback.

    The exit status is 1. Errors from elsewhere keep their traceback, because nothing else says where they come from.

    Args:
        name: The program's name, for the message.

    Raises:
        SystemExit: Instead of such an error.
    """
    try:
        yield
    except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
        passed = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
        if not passed[-1].startswith("fairpp_hf.") and not any(module.startswith(_PARSER) for module in passed):
            raise
        sys.exit(f"\n{name}: {error}")  # on its own line, also after a progress bar
