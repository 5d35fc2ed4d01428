"""Which checkpoints are whole: a process that is killed while it writes one leaves a folder that looks like the others."""

import json
import logging
import re
import struct
import zipfile
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)

_WEIGHTS = ("model", "adapter_model", "pytorch_model")


def flaw_of(checkpoint: Path) -> str | None:
    """What is missing from a checkpoint or cut off, in words; None where training can go on from it as it was.

    Only the ends and the headers of files are read. The trainer's state is written last of all by the first process.
    """
    if not checkpoint.is_dir():
        return "it is no folder"
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json is missing or cut off"
    names = {path.name for path in checkpoint.iterdir()}
    sharded = [name for name in names if re.fullmatch(r"pytorch_model_fsdp_\d+|optimizer_\d+|global_step\d+", name)]
    for what, files in (
        ("weights", [*(f"{name}.safetensors" for name in _WEIGHTS), *(f"{name}.bin" for name in _WEIGHTS)]),
        ("optimizer", ["optimizer.pt", "optimizer.bin"]),
        ("scheduler", ["scheduler.pt"]),
        ("random state", ["rng_state.pth", "rng_state_0.pth"]),
    ):
        indexed = what == "weights" and any(name.endswith(".index.json") for name in names)
        if not (names & set(files) or indexed or (sharded and what in ("weights", "optimizer"))):
            return f"{files[0]} is missing"
    for index in sorted(checkpoint.glob("*.index.json")):
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return f"{index.name} is cut off"
        if lost := sorted(shards - names):
            return f"{lost[0]} is missing"
    for path in sorted(checkpoint.iterdir()):
        if path.suffix == ".safetensors" and not _is_whole_safetensors(path):
            return f"{path.name} is cut off"
        # What torch.save writes is a zip archive, whose table of contents comes last.
        if path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path):
            return f"{path.name} is cut off"
    for name in sharded:
        # Written last, by torch's distributed checkpoints; DeepSpeed has a file `latest` of its own.
        if not name.startswith("global_step") and not (checkpoint / name / ".metadata").is_file():
            return f"{name}/.metadata is missing"
    return None


def _is_whole_safetensors(path: Path) -> bool:
    """Whether a file is as long as its header says."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return False
        (length,) = struct.unpack("<Q", start)
        if 8 + length > path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)


def last_checkpoint(folder: Path, *, main_process: bool = True) -> tuple[str | None, dict[str, str]]:
    """The last complete checkpoint of a training, said in one line.

    Args:
        folder: output folder of the training.
        main_process: whether this process is the one that says so.

    Returns:
        Its path, or None; and what is wrong with the later ones, or with all, by name.
    """
    flaws: dict[str, str] = {}
    numbered = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_dir() and (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name))
    }
    for _, path in sorted(numbered.items(), reverse=True):
        flaw = flaw_of(path)
        if flaw is None:
            if main_process:
                passed_over = "".join(f"; {name} is incomplete ({flaw})" for name, flaw in flaws.items())
                logger.warning("Training goes on from %s%s.", path, passed_over)
            return str(path), flaws
        flaws[path.name] = flaw
    return None, flaws


def checkpoint_to_resume(asked: str, folder: Path, *, main_process: bool = True) -> str:
    """The checkpoint that a training goes on from.

    None is no fresh start: whoever asks to go on has something to lose, and may have named the wrong folder.

    Args:
        asked: `"last"`, `"true"` or the folder of a checkpoint.
        folder: output folder of the training.
        main_process: whether this process is the one that says so.

    Raises:
        ValueError: there is none, or it is incomplete.
    """
    if asked.lower() not in ("last", "true"):
        if flaw := flaw_of(Path(asked)):
            raise ValueError(
                f"resume_from_checkpoint must be a complete checkpoint; got {asked!r}: {flaw}. Training would "
                "go on to other weights, or not at all. Set it to 'last' for the last complete one."
            )
        return asked
    found, flaws = last_checkpoint(folder, main_process=main_process)
    if found is None:
        incomplete = "".join(f"; {name} is incomplete ({flaw})" for name, flaw in flaws.items())
        raise ValueError(
            f"resume_from_checkpoint must find a complete checkpoint; got none in {str(folder)!r}{incomplete}. Leave it out "
            "to start from the beginning."
        )
    return found
