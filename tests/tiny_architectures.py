"""Tiny random models of many architectures, to see which of them take rows that share a prompt."""

import torch
import transformers
from tiny_models import tiny_tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel


def tiny(kind: str, **settings: object) -> PreTrainedModel:
    """A tiny random model of an architecture."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **settings})
    return AutoModelForCausalLM.from_config(config)


SHARING = {
    "llama": lambda: tiny("Llama"),
    "llama, eager": lambda: tiny("Llama", attn_implementation="eager"),
    "qwen2": lambda: tiny("Qwen2"),
    "qwen3": lambda: tiny("Qwen3"),
    "mistral": lambda: tiny("Mistral", sliding_window=None),
    "gemma2": lambda: tiny("Gemma2", sliding_window=2048),
    "gpt2": lambda: tiny("GPT2", n_embd=16, n_head=2, n_layer=2, n_positions=512),
    "gpt_neox": lambda: tiny("GPTNeoX"),
    "phi": lambda: tiny("Phi"),
}
