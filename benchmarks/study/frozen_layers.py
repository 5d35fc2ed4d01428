"""Layers below an adapter compute the same for every method, target and epoch: each row is computed once and kept.

An adapter on the topmost layers leaves the ones below as they are, and no gradient reaches them. Cells that train the same
model on the same questions, one after the other in one process, then pay for the topmost layers only. The numbers are the
same but for the rounding of a row that was first computed in another batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_KEPT: dict[tuple[str, bytes], Tensor] = {}
"""Model and embedded row to the states above the frozen layers, (T, hidden); padding left out."""


@contextmanager
def frozen_states_kept(model: PreTrainedModel, name: str, top: int) -> Iterator[None]:
    """In training, have the layers below the topmost ones look up what they have computed before.

    Args:
        model: with `model.layers` and a padding token; without dropout, and not trained below the topmost layers.
        name: of its weights, to tell models apart.
        top: number of the topmost layers, which are computed as ever.
    """
    layers = model.model.layers
    lower = [layer.forward for layer in layers[: len(layers) - top]]

    def cached(hidden_states: Tensor, **others: Any) -> Tensor:
        rows = hidden_states.detach()
        padding = model.get_input_embeddings()(torch.tensor([model.config.pad_token_id])).detach()
        is_token = (rows != padding.to(rows.dtype)).any(dim=2)
        # Rows are padded at their ends.
        lengths = (is_token * torch.arange(1, rows.size(1) + 1)).amax(dim=1).tolist()
        # What is embedded tells the tokens; mask and positions follow from these.
        keys = [(name, row[:length, :4].float().numpy().tobytes()) for row, length in zip(rows, lengths, strict=True)]
        if any(key not in _KEPT for key in keys):
            with torch.no_grad():
                states = rows
                for forward in lower:
                    states = forward(states, **others)
            for key, row, length in zip(keys, states, lengths, strict=True):
                _KEPT[key] = row[:length].clone()
        found = rows.new_zeros(rows.shape)
        for place, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            found[place, :length] = _KEPT[key]
        return found

    layers[0].forward = cached
    for layer in layers[1 : len(lower)]:
        layer.forward = lambda hidden_states, **others: hidden_states
    try:
        yield
    finally:
        for layer in layers[: len(lower)]:
            del layer.forward  # the class's own comes back
