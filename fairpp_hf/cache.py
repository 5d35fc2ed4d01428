"""Where the package keeps what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$FAIRPP_HOME`, or `~/.cache/fairpp_hf`: converted models and reference log-probabilities."""
    return Path(os.environ.get("FAIRPP_HOME") or Path.home() / ".cache" / "fairpp_hf")
