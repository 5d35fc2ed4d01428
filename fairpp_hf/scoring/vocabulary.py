"""Whether a model has an embedding for every token of its tokenizer."""

from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Refuse a tokenizer with tokens that the model's embedding has no row for, before one of them is looked up."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if rows is not None and tokens > rows:
        raise ValueError(
            f"The embedding must have a row for each token of the tokenizer; got {rows:,} rows for {tokens:,} tokens. Use "
            f"the tokenizer that the model was saved with, or save the model after model.resize_token_embeddings({tokens})."
        )
