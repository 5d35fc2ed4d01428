"""A tiny random Llama and its tokenizer, made on the spot: the real classes, nothing downloaded."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_CORPUS = (
    "Which criterion is fairer when it comes to the issue of energy and clean water for elderly people and war refugees?",
    "A. Everyone keeps what they have earned.",
    "B. Everyone receives an equal share.",
    "C. Neither of the two.",
    "Reply with A or B or C, one option and nothing else, and not A and B and C.",
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of some 400 tokens; any text can be encoded and comes back byte for byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|end|>", chat_template=CHAT_TEMPLATE
    )


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """A Llama with 2 layers and 20 thousand random parameters, in float32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        initializer_range=0.3,  # wide enough that options differ visibly
    )
    return LlamaForCausalLM(config)


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Save model and tokenizer the way a Hub model folder has them."""
    tiny_model(seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_adapter(folder: Path, model: LlamaForCausalLM | None = None) -> Path:
    """Save a LoRA of a model, by default of the tiny one, that changes what it says."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model or tiny_model(), lora).save_pretrained(folder)
    return folder
