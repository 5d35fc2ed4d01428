"""Keys and values of the tokens that prompts start with, computed once for all of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

KEPT_PREFIXES = 8
"""One for the plain model and one for each of seven personas."""


class Prefix(NamedTuple):
    """K tokens, and what a model's attention keeps of them."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]
    """keys and values of each layer, (1, heads, K, width of a head)."""

    def cut(self, length: int) -> "Prefix":
        """The first `length` tokens: no token's keys and values depend on those after it."""
        layers = tuple((keys[:, :, :length], values[:, :, :length]) for keys, values in self.layers)
        return Prefix(self.tokens[:length], layers)

    def cache(self) -> Cache:
        """A cache with these tokens before every row; a forward adds nothing to it."""
        return Cache(layers=[_PrefixLayer(keys, values) for keys, values in self.layers])


class _PrefixLayer(DynamicLayer):
    """The prefix's keys and values, the same memory for all rows."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        # The first two are what the base class measures lengths by.
        self.keys, self.values, self._prefix = keys, values, (keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        # The rows' own are needed in this forward only: keeping them would take memory for all layers at once.
        keys, values = (
            torch.cat([kept.expand(len(new), -1, -1, -1), new], dim=-2)
            for kept, new in zip(self._prefix, (key_states, value_states), strict=True)
        )
        return keys, values


class PrefixCache:
    """Computes prefixes, and keeps the last one of each system message, for the `KEPT_PREFIXES` messages last asked.

    All are dropped when the model's weights have changed, or the adapters in use.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Prefix] = {}
        self._state: object = None

    def get(self, backbone: nn.Module, system: str, tokens: tuple[int, ...]) -> Prefix:
        """The prefix of K tokens of a system message under a model without its head; what is known is not computed again."""
        state = _state(backbone)
        if state != self._state:
            self._kept.clear()
            self._state = state
        kept = self._kept.pop(system, Prefix((), ()))
        known = common_length([kept.tokens, tokens])
        prefix = kept.cut(known)
        if known < len(tokens):
            cache = DynamicCache(prefix.layers)
            device = next(backbone.parameters()).device
            backbone(
                input_ids=torch.tensor([tokens[known:]], device=device),
                position_ids=torch.arange(known, len(tokens), device=device).unsqueeze(0),
                past_key_values=cache,
                use_cache=True,
            )
            prefix = Prefix(tokens, tuple((layer.keys, layer.values) for layer in cast(Any, cache).layers))
        self._kept[system] = prefix
        if len(self._kept) > KEPT_PREFIXES:
            del self._kept[next(iter(self._kept))]
        return prefix


def _state(backbone: nn.Module) -> tuple[int, list[tuple[str, ...]]]:
    """What tells a model from itself after a training step, or with other adapters.

    What is written past autograd (`parameter.data.copy_`) is not seen.
    """
    # Counted up by each write in place, an optimiser's step or the loading of a state.
    versions = sum(parameter._version for parameter in backbone.parameters() if not parameter.is_inference())
    adapters = [
        (*layer.active_adapters, str(layer.disable_adapters), str(layer.merged_adapters))
        for layer in cast(Any, backbone.modules())
        if hasattr(layer, "merged_adapters") and hasattr(layer, "disable_adapters")
    ]
    return versions, adapters


def common_length(sequences: Sequence[tuple[int, ...]] | Sequence[str]) -> int:
    """How many tokens or characters all sequences start with."""
    # Whatever the least and the greatest have in common, those between them have, too.
    first, last = min(sequences), max(sequences)
    for length, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return length
    return min(len(first), len(last))
