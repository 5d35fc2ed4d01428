"""Which checkpoints are complete: a kill while one is written leaves a folder that looks like the others."""

import json
import logging
import re
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

TRAINER_STATE_NAME = "trainer_state.json"

logger = logging.getLogger(__name__)


def is_complete(checkpoint: Path) -> bool:
    """Whether training can go on from a checkpoint: `Trainer` writes its state last, after weights and optimizer."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def last_checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint in the output folder of a training; None if there is none."""
    numbered = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name))
    }
    return next((str(path) for _, path in sorted(numbered.items(), reverse=True) if is_complete(path)), None)


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
        if not is_complete(Path(asked)):
            raise ValueError(
                f"resume_from_checkpoint must be a complete checkpoint; got {asked!r}, whose {TRAINER_STATE_NAME} is "
                "missing or cut off. Set it to 'last' for the last complete one."
            )
        return asked
    found = last_checkpoint(folder)
    if found is None:
        raise ValueError(
            f"resume_from_checkpoint must find a complete checkpoint; got none in {str(folder)!r}. Leave it out to start "
            "from the beginning."
        )
    if main_process:
        logger.warning("Training goes on from %s.", found)
    return found
