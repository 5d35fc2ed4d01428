"""Tiny random models of many architectures, to see which of them take rows that share a prompt."""

import torch
from tiny_models import tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fairpp_hf.scoring.sharing import KNOWN

SIZES = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": 16,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
OWN_SIZES = {
    "cohere": {"logit_scale": 1.0},
    "cohere2": {"logit_scale": 1.0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 2},
    "gpt2": {
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "n_embd": 16,
        "n_head": 2,
        "n_layer": 2,
        "n_positions": 512,
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 4},
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "opt": {"dropout": 0.0, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2},
    "seed_oss": {"attention_dropout": 0.0, "residual_dropout": 0.0},
    "roformer": {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "is_decoder": True},
}


def tiny(model_type: str, **settings: object) -> PreTrainedModel:
    """A tiny random model of an architecture without dropout, its weights so large that attention and positions matter."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SIZES, **OWN_SIZES.get(model_type, {}), **settings})
    return AutoModelForCausalLM.from_config(config)


ENDS = 48
"""Tokens that a window or the positions of a variant end with."""
SHARING = {
    **{kind: lambda kind=kind: tiny(kind) for kind in sorted(KNOWN)},
    "llama, eager": lambda: tiny("llama", attn_implementation="eager"),
    "qwen2, eager": lambda: tiny("qwen2", attn_implementation="eager"),
    "gemma2, eager": lambda: tiny("gemma2", attn_implementation="eager"),
    "gpt2, eager": lambda: tiny("gpt2", attn_implementation="eager"),
    "gpt2, few positions": lambda: tiny("gpt2", max_position_embeddings=ENDS),
    "opt, few positions": lambda: tiny("opt", max_position_embeddings=ENDS),
    # Rows are wider than the window, and their sequences are not: the mask that is given replaces the model's own.
    "mistral, a window": lambda: tiny("mistral", sliding_window=ENDS),
    "gemma2, windows": lambda: tiny("gemma2", sliding_window=ENDS),
    "gemma3_text, windows": lambda: tiny("gemma3_text", sliding_window=ENDS),
    "gpt_oss, windows": lambda: tiny("gpt_oss", sliding_window=ENDS),
    "olmo3, windows": lambda: tiny("olmo3", sliding_window=ENDS),
    "cohere2, windows": lambda: tiny("cohere2", sliding_window=ENDS, logit_scale=1.0),
}
"""Every architecture that is known to share prompts, and variants."""
