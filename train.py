"""Align a causal language model with one persona by reweighted DPO.

A configuration file, with any field overridden on the command line:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --target loyal_nationals

On two processes without a GPU:

    accelerate launch --config_file trainer_configs/accelerate/cpu_2_processes.yaml train.py --use_cpu true \\
        --config trainer_configs/smollm2_135m_lora.yaml

Going on from the last checkpoint after an interruption:

    accelerate launch train.py --config trainer_configs/smollm2_135m_lora.yaml --resume_from_checkpoint last

`python train.py --help` lists every field: those of `PairArguments` (which pairs), `ReweightedDPOConfig` (training; all of
TRL's) and TRL's `ModelConfig` (model, LoRA, quantization).
"""

from fairpp_hf.training.run import main

if __name__ == "__main__":
    main()
