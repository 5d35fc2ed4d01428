"""Prefixes: what is computed, what is kept, and that a part of one is one."""

import torch
from tiny_models import tiny_model

from fairpp_hf.scoring.prefix_cache import KEPT_PREFIXES, PrefixCache


@torch.inference_mode()
def test_only_what_is_not_kept_is_computed():
    """5 tokens; then 3 of them, for nothing; then these and 4 others, for 4."""
    backbone = tiny_model().eval().base_model
    computed = []
    backbone.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].tolist()[0]), with_kwargs=True
    )
    prefixes = PrefixCache()
    for tokens, expected in (
        ((5, 6, 7, 8, 9), [[5, 6, 7, 8, 9]]),
        ((5, 6, 7), []),
        ((5, 6, 7, 1, 2, 3, 4), [[1, 2, 3, 4]]),
        ((5, 6, 7, 1, 2, 3, 4), []),
    ):
        computed.clear()
        prefix = prefixes.get(backbone, "a portrait", tokens)
        assert computed == expected
        assert prefix.tokens == tokens
        fresh = PrefixCache().get(backbone, "", tokens)
        for kept, new in zip(prefix.layers, fresh.layers, strict=True):
            torch.testing.assert_close(kept, new)


@torch.inference_mode()
def test_a_forward_adds_nothing_to_a_prefix():
    model = tiny_model().eval()
    cache = PrefixCache().get(model.base_model, "", (5, 6, 7)).cache()
    logits = [model(torch.tensor([[8], [9]]), past_key_values=cache, use_cache=True).logits for _ in range(2)]
    torch.testing.assert_close(logits[0], logits[1])
    whole = model(torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])).logits[:, -1:]
    torch.testing.assert_close(logits[0], whole, rtol=1e-4, atol=1e-5)
    assert cache.get_seq_length() == 3


@torch.inference_mode()
def test_the_system_messages_last_asked_are_kept():
    backbone = tiny_model().eval().base_model
    prefixes = PrefixCache()
    for number in range(KEPT_PREFIXES):
        prefixes.get(backbone, f"portrait {number}", (5, 6))
    prefixes.get(backbone, "portrait 0", (5, 6))
    prefixes.get(backbone, "another", (5, 6))
    assert list(prefixes._kept) == [
        *(f"portrait {number}" for number in range(2, KEPT_PREFIXES)),
        "portrait 0",
        "another",
    ]
