"""Align a causal language model with one persona: reweighted DPO, weighted SFT, or one after the other.

A configuration file, with any field overridden on the command line:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --target loyal_nationals

Weighted SFT first, and DPO from there with the SFT model as its reference, as in the paper:

    accelerate launch train.py --config trainer_configs/smollm2_135m_sft_then_dpo.yaml

On two processes without a GPU:

    accelerate launch --config_file trainer_configs/accelerate/cpu_2_processes.yaml train.py --use_cpu true \\
        --config trainer_configs/smollm2_135m_lora.yaml

Going on from the last checkpoint after an interruption, in whichever stage:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --resume_from_checkpoint last

`python train.py --help` lists every field: those of `PairArguments` (which pairs), `StageArguments` (which stages),
`ReweightedDPOConfig` (training; all of TRL's) and TRL's `ModelConfig` (model, LoRA, quantization).
"""

from fairpp_hf.training.run import main

if __name__ == "__main__":
    main()
