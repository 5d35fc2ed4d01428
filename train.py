"""Align a causal language model with one persona: preference optimisation, weighted SFT, or one after the other.

By default, pairs have soft labels that are fitted to the persona's answers, and there is no reference model: training ends
where the persona's option probabilities are. `--divergence 0.5` leans away from the other personas.

A configuration file, with any field overridden on the command line:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --target loyal_nationals

The paper's way, weighted SFT first, and DPO from there with the SFT model as its reference:

    accelerate launch train.py --config trainer_configs/smollm2_135m_sft_then_dpo.yaml

On two processes without a GPU:

    accelerate launch --config_file trainer_configs/accelerate/cpu_2_processes.yaml train.py --use_cpu true \\
        --config trainer_configs/smollm2_135m_lora.yaml

With the distances to all personas at each evaluation, on 100 held-out questions, keeping the nearest checkpoint:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --alignment_questions 100 \\
        --load_best_model_at_end true --metric_for_best_model js_distance/target --greater_is_better false

Going on from the last complete checkpoint after an interruption, in whichever stage:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --resume_from_checkpoint last

`python train.py --help` lists every field: those of `PairArguments` (which pairs), `StageArguments` (which stages),
`ReweightedDPOConfig` (training; all of TRL's) and TRL's `ModelConfig` (model, LoRA, quantization).
"""

from fairpp_hf.evaluation.callback import alignment_for_training
from fairpp_hf.script import plain_errors, shown_lines
from fairpp_hf.training.run import main

if __name__ == "__main__":
    with plain_errors("train.py"), shown_lines():
        main(alignment=alignment_for_training)
