"""A tokenizer with tokens that the embedding has no row for: said before one is looked up."""

import re

import pytest
from tiny_models import tiny_model, tiny_tokenizer

from fairpp_hf.scoring import OptionScorer


def test_more_tokens_than_rows_are_refused():
    tokenizer = tiny_tokenizer()
    rows = len(tokenizer)
    OptionScorer(tiny_model(), tokenizer)
    tokenizer.add_tokens(["<one>", "<two>"])
    message = (
        f"The embedding must have a row for each token of the tokenizer; got {rows} rows for {rows + 2} tokens. Use the "
        f"tokenizer that the model was saved with, or save the model after model.resize_token_embeddings({rows + 2})."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OptionScorer(tiny_model(), tokenizer)
    model = tiny_model()
    model.resize_token_embeddings(rows + 64)
    OptionScorer(model, tokenizer)
