"""Mixed precision by default only where there is something to gain from it."""

import torch


def default_bf16(bf16: bool | None) -> bool | None:
    """A config's `bf16` as it was given, or False where it was not and there is no accelerator.

    TRL turns bf16 on by default and then stops on a machine without an accelerator; on a CPU it is also slower.
    """
    return False if bf16 is None and not torch.accelerator.is_available() else bf16
