"""Which checkpoints are complete: a kill while one is written leaves a folder that looks like the others."""

import json
import logging
import re
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

TRAINER_STATE_NAME = "trainer_state.json"
PARTS = ("model", "optimizer", "scheduler")
"""Words in the names of the files or folders that a complete checkpoint has, whole, sharded or of an adapter."""

logger = logging.getLogger(__name__)


def flaw_of(checkpoint: Path) -> str | None:
    """What a checkpoint lacks for training to go on as it was; None if it is complete.

    `Trainer` writes its state last, after weights and optimizer. Without an optimizer or a scheduler, as `save_only_model`
    leaves a checkpoint, it would start new ones without a word, and come to other weights.
    """
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return f"{TRAINER_STATE_NAME} is missing or cut off"
    names = [path.name for path in checkpoint.iterdir()]
    if any(name.startswith("global_step") for name in names):  # DeepSpeed's, with all of it
        return None
    return next((f"{part} is missing" for part in PARTS if not any(part in name for name in names)), None)


def last_checkpoint(folder: Path, *, said: bool = False) -> str | None:
    """The last complete checkpoint in the output folder of a training; None if there is none.

    Args:
        folder: Output folder of the training.
        said: Whether to log which later ones are passed over.
    """
    numbered = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name))
    }
    for _, path in sorted(numbered.items(), reverse=True):
        flaw = flaw_of(path)
        if flaw is None:
            return str(path)
        if said:
            logger.warning("%s is incomplete and is passed over: its %s.", path, flaw)
    return None


def checkpoint_to_resume(asked: str, folder: Path, *, main_process: bool = True) -> str:
    """The checkpoint that a training goes on from.

    If there is none, training does not start from the beginning: a user who asks to go on has something to lose, and may
    have named the wrong folder.

    Args:
        asked: `"last"`, `"true"` or the folder of a checkpoint.
        folder: Output folder of the training.
        main_process: Whether this process logs the choice.

    Raises:
        ValueError: There is no checkpoint, or it is incomplete.
    """
    if asked.lower() not in ("last", "true"):
        if flaw := flaw_of(Path(asked)):
            raise ValueError(
                f"resume_from_checkpoint must be a complete checkpoint; got {asked!r}, whose {flaw}. Training would go on "
                "to other weights, or not at all. Set it to 'last' for the last complete one."
            )
        return asked
    found = last_checkpoint(folder, said=main_process)
    if found is None:
        raise ValueError(
            f"resume_from_checkpoint must find a complete checkpoint; got none in {str(folder)!r}. Leave it out to start "
            "from the beginning."
        )
    if main_process:
        logger.warning("Training goes on from %s.", found)
    return found
