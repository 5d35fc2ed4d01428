"""Completions of one prompt in one row, the prompt computed once.

Stock DPO runs [prompt, chosen] and [prompt, rejected] for every pair: a question with three options, in three pairs, has
its prompt computed six times. Here it is one row

    p1 ... p(n-1) | pn a1 ... a(k-1) | pn b1 ... b(l-1) | pn c1 ... c(m-1)

for a prompt p and completions a, b, c. Every part after the first sees the first and itself, and its position ids go on
from where the first part ends, so that each token has the context and the position that it has in a sequence of its own.
A part starts with the prompt's last token, which predicts the completion's first, and leaves out the completion's last
token, which predicts nothing: of every position exactly one token is predicted, or none.

Equal to separate sequences up to rounding where attention takes a mask of its own for each row, positions go by position
id, and nothing is carried from token to token outside attention; `sharing` decides where that is so.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

PADDING = -1
SHARED = 0


class Completion(NamedTuple):
    """Token ids of a completion and of the prompt that it completes."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


def lay_out(
    completions: Sequence[Completion],
    *,
    share_prefix: bool,
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
    groups: Sequence[int] | None = None,
    keep_last: bool = False,
) -> dict[str, Tensor]:
    """Lay C completions out in R rows of S tokens, padded on the right.

    Args:
        completions: Those of a row all different.
        share_prefix: Completions of the same prompt in one row; otherwise a row each.
        pad_token_id: Token that fills the rows up.
        pad_to_multiple_of: Rounds S up.
        groups: A number for each completion, to keep those of other numbers out of its row; None where only the prompt
            decides.
        keep_last: Keeps the last token of a completion, which predicts nothing, for what counts all tokens.

    Returns:
        - `input_ids`, `position_ids` (R, S).
        - `segment` (R, S): `SHARED` for the prompt, k >= 1 for the row's k-th completion, `PADDING`.
        - `place` (C, 2): row and segment of each completion.
        - `completion_mask` (C, L), bool: which of its L places a completion has a predicted token at.
        - `predicted_by` (N,): for each predicted token, completion by completion, the position that predicts it, in the
          rows end to end.
        - `target_ids` (N,): the predicted tokens.
        - `completion_length`, `sequence_length` (C,): tokens of the completion, and with its prompt.
    """
    of_row: dict[Any, list[int]] = {}
    for number, (prompt, _) in enumerate(completions):
        # Of a prompt of one token nothing is left to share.
        group = None if groups is None else groups[number]
        of_row.setdefault((prompt, group) if share_prefix and len(prompt) > 1 else number, []).append(number)

    rows: list[tuple[list[int], list[int], list[int]]] = []
    place = [(0, 0)] * len(completions)
    start = [0] * len(completions)
    for numbers in of_row.values():
        shared = completions[numbers[0]].prompt[:-1]
        ids, positions, segments = list(shared), list(range(len(shared))), [SHARED] * len(shared)
        for segment, number in enumerate(numbers, start=1):
            prompt, completion = completions[number]
            own = prompt[-1:] + completion
            # A sequence of a single token keeps it: a row of padding alone has no attention.
            own = own if keep_last else own[:-1] or own
            place[number], start[number] = (len(rows), segment), len(ids)
            ids += own
            positions += range(len(shared), len(shared) + len(own))
            segments += [segment] * len(own)
        rows.append((ids, positions, segments))

    width = max(len(ids) for ids, _, _ in rows)
    if pad_to_multiple_of:
        width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
    # Without a prompt, a completion's first token has nothing to be predicted from.
    targets = [completion if prompt else completion[1:] for prompt, completion in completions]
    predicted_by = [
        place[number][0] * width + start[number] + offset
        for number, predicted in enumerate(targets)
        for offset in range(len(predicted))
    ]
    counts = torch.tensor([len(predicted) for predicted in targets])
    return {
        "input_ids": _padded([ids for ids, _, _ in rows], width, pad_token_id),
        "position_ids": _padded([positions for _, positions, _ in rows], width, 0),
        "segment": _padded([segments for _, _, segments in rows], width, PADDING),
        "place": torch.tensor(place),
        "completion_mask": torch.arange(int(counts.max())) < counts.unsqueeze(1),
        "predicted_by": torch.tensor(predicted_by, dtype=torch.long),
        "target_ids": torch.tensor([token for predicted in targets for token in predicted], dtype=torch.long),
        "completion_length": torch.tensor([len(completion) for _, completion in completions]),
        "sequence_length": torch.tensor([len(prompt) + len(completion) for prompt, completion in completions]),
    }


def _padded(rows: Sequence[Sequence[int]], width: int, filler: int) -> Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=torch.long)


def separate_rows(batch: dict[str, Tensor], pad_token_id: int) -> dict[str, Tensor]:
    """A batch of `lay_out` with a row for each completion: the plain layout, which every causal model allows."""
    counts = batch["completion_mask"].sum(dim=1).tolist()
    last_tokens = [predicted[-1:] for predicted in batch["target_ids"].split(counts)]
    completions = []
    for number, (row, segment) in enumerate(batch["place"].tolist()):
        ids, segments = batch["input_ids"][row], batch["segment"][row]
        sequence = torch.cat([ids[segments == SHARED], ids[segments == segment], last_tokens[number]]).tolist()
        prompt_length = int(batch["sequence_length"][number] - batch["completion_length"][number])
        completions.append(Completion(tuple(sequence[:prompt_length]), tuple(sequence[prompt_length:])))
    device = batch["input_ids"].device
    plain = lay_out(completions, share_prefix=False, pad_token_id=pad_token_id)
    return {**batch, **{name: tensor.to(device) for name, tensor in plain.items()}}


def attention_mask(segment: Tensor, cached: int = 0) -> Tensor:
    """Which positions see which: those before them of their own segment and of the shared one.

    Args:
        segment: (R, S), see `lay_out`.
        cached: K tokens that stand before every row and are seen by all of it.

    Returns:
        (R, 1, S, K + S), bool; padding sees something too, since a softmax over nothing has no value.
    """
    of_query, of_key = segment.unsqueeze(2), segment.unsqueeze(1)
    before = torch.ones(segment.size(1), segment.size(1), dtype=torch.bool, device=segment.device).tril()
    mask = before & ((of_key == of_query) | (of_key == SHARED))
    return nn.functional.pad(mask, (cached, 0), value=True).unsqueeze(1)


def model_inputs(
    batch: dict[str, Tensor], *, shared: bool, eager: bool, dtype: torch.dtype, cached: int = 0
) -> dict[str, Tensor]:
    """Keyword arguments of the model for rows of a batch.

    Args:
        batch: Batch from `lay_out`.
        shared: Whether rows hold several completions.
        eager: Attention adds the mask to the scores instead of taking it as a boolean.
        dtype: Type of the attention scores.
        cached: Tokens before the rows whose keys and values the model has in a cache; shared rows only.
    """
    if not shared:
        return {"input_ids": batch["input_ids"], "attention_mask": (batch["segment"] != PADDING).long()}
    mask = attention_mask(batch["segment"], cached)
    if eager:
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return {"input_ids": batch["input_ids"], "attention_mask": mask, "position_ids": batch["position_ids"] + cached}


@contextmanager
def only_positions(backbone: nn.Module, positions: Tensor, width: int) -> Iterator[None]:
    """Within this context, the backbone returns the hidden states of some positions only.

    For TRL's fused head, which takes what the backbone returns and skips positions on GPUs alone; `only_predictions` is
    for a model's own.

    Args:
        backbone: The model without its head.
        positions: (N,), in the rows end to end.
        width: S, tokens of a row; prompt-learning adapters put virtual tokens before them.
    """

    def select(module: nn.Module, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = _selected(output.last_hidden_state, positions, width)
        return output

    handle = backbone.register_forward_hook(select)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def only_predictions(head: nn.Module, positions: Tensor, width: int) -> Iterator[None]:
    """Within this context, a model's head predicts from some positions only: its logits are (1, N, vocabulary).

    The head of a small model is a good part of its work, and most positions, those of the prompt above all, predict
    nothing that is asked for.

    Args:
        head: The model's output embeddings, a linear map.
        positions: (N,), in the rows end to end.
        width: Tokens of a row, see `only_positions`.
    """

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_selected(arguments[0], positions, width), *arguments[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def _selected(hidden: Tensor, positions: Tensor, width: int) -> Tensor:
    """(1, N, width of a state) of (R, at least S, width of a state)."""
    hidden = hidden[:, -width:]
    return hidden.reshape(-1, hidden.size(-1))[positions.to(hidden.device)].unsqueeze(0)


@contextmanager
def dropout_silenced(model: nn.Module) -> Iterator[None]:
    """Within this context nothing in a model happens at random; every module is left as it was found.

    Layers of bitsandbytes are not put into evaluation mode, in which they may repack their weights for good.
    """
    modules = [
        module
        for module in model.modules()
        if module.training and not type(module).__module__.startswith("bitsandbytes")
    ]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
