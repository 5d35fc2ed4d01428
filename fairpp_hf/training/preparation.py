"""Conversations as token ids, as TRL's trainers prepare them row by row, in a fraction of the time.

The pairs of a question have its prompt in common, and its options. A batch of rows is therefore rendered and tokenised by
its distinct conversations, and a rendered conversation by its distinct segments: a special token always starts a new one,
since tokenizers cut texts there before anything else. What differs from one row to another is tokenised once.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from accelerate import PartialState
from datasets import Dataset, List, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig
from trl.data_utils import common_prefix_length

from fairpp_hf.training.columns import column_parts

logger = logging.getLogger(__name__)

Messages: TypeAlias = list[dict[str, str]]
Tokens: TypeAlias = list[int]

CHECKED_ROWS = 16
"""So many rows are prepared by TRL too, before the others are trusted to be what TRL makes of them."""
TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
_KEPT_TOKENS = 4_000_000


def prepare_pairs(
    dataset: Any,
    tokenizer: Any,
    args: DPOConfig,
    dataset_name: str,
    by_row: Callable[[Any], Any],
) -> Any:
    """`DPOTrainer._prepare_dataset` of preference pairs, by distinct texts where that gives the same.

    Conversations of plain messages are prepared here. Everything else is left to TRL: streams, texts without roles,
    implicit prompts, tools, other template arguments, formatted datasets, few rows, slow tokenizers, and a dataset of
    which some rows, evenly spread, come out differently here.

    `by_row` is TRL's preparation. As there, pairs whose prompts fill `max_length` are left out.
    """
    columns = ["prompt", "chosen", "rejected"]
    if not _holds_plain_conversations(dataset, columns) or not getattr(tokenizer, "is_fast", False):
        return by_row(dataset)

    def by_text(pairs: Dataset) -> Dataset:
        with PartialState().main_process_first():
            tokens = pairs.map(
                partial(_pair_tokens, tokenize=ConversationTokenizer(tokenizer)),
                batched=True,
                input_columns=columns,
                num_proc=args.dataset_num_proc,
                desc=f"Tokenizing {dataset_name} dataset",
            )
        prepared = concatenate_datasets([pairs, tokens], split=pairs.split, axis=1)
        if args.max_length is None or args.truncation_mode != "keep_start":
            return prepared
        lengths = [part.value_lengths() for part in column_parts(prepared, "prompt_ids")]
        short = np.concatenate(lengths) < args.max_length
        return prepared if short.all() else prepared.select(np.flatnonzero(short))

    rows = np.linspace(0, len(dataset) - 1, CHECKED_ROWS, dtype=np.int64)
    some = Dataset.from_dict(dataset[rows], features=dataset.features)
    ours, theirs = by_text(some), by_row(some)
    # What a user's own columns hold is no matter: a missing number is not even equal to itself.
    if ours.features != theirs.features or any(ours[name][:] != theirs[name][:] for name in TOKEN_COLUMNS):
        logger.warning(
            "The %s dataset is tokenised row by row, since its tokenizer does not treat texts in parts as it treats them "
            "whole. The result is the same; it takes longer.",
            dataset_name,
        )
        return by_row(dataset)
    return by_text(dataset)


def _holds_plain_conversations(dataset: Any, columns: list[str]) -> bool:
    """Whether the columns are all there and hold messages of strings, and nothing else decides how they are rendered."""
    if not isinstance(dataset, Dataset) or len(dataset) <= CHECKED_ROWS or dataset.format["type"] is not None:
        return False
    if {"tools", "chat_template_kwargs"} & set(dataset.column_names):
        return False
    for feature in map(dataset.features.get, columns):
        fields = getattr(feature, "feature", None)
        if not isinstance(feature, List) or not isinstance(fields, dict) or "role" not in fields:
            return False
        if any(not isinstance(field, Value) or field.dtype != "string" for field in fields.values()):
            return False
    return True


def _pair_tokens(
    prompts: list[Messages],
    chosen: list[Messages],
    rejected: list[Messages],
    tokenize: "ConversationTokenizer",
) -> pa.Table:
    """The columns of token ids of a batch of pairs; a completion starts where both differ from the prompt at the latest."""
    columns: dict[str, list[Tokens]] = {name: [] for name in TOKEN_COLUMNS}
    for prompt, *sides in zip(*tokenize(prompts, chosen, rejected), strict=True):
        # Prompt and completion nearly always begin with the whole prompt.
        whole = all(side[: len(prompt)] == prompt for side in sides)
        shared = len(prompt) if whole else min(common_prefix_length(prompt, side) for side in sides)
        for column, ids in zip(columns.values(), (prompt[:shared], *(side[shared:] for side in sides)), strict=True):
            column.append(ids)
    return pa.table({name: pa.array(ids, type=pa.list_(pa.int64())) for name, ids in columns.items()})


class ConversationTokenizer:
    """Renders and tokenises conversations, each distinct one once.

    Args:
        tokenizer: A fast tokenizer with a chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # Those that swallow the blanks beside them, or are only found in normalised text, are no borders.
        borders = [
            str(token)
            for token in tokenizer.added_tokens_decoder.values()
            if token.special and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
        ]
        # The longest first, as tokenizers prefer it. Without borders, the expression finds nothing.
        self._border = re.compile("|".join(map(re.escape, sorted(borders, key=len, reverse=True))) or "(?!)")
        self._known: dict[str, Tokens] = {}
        self._known_tokens = 0
        # A call sets the backend to its defaults, among them no padding; the faster way below takes it as it is.
        tokenizer("")

    def __call__(self, prompts: list[Messages], *completions: list[Messages]) -> tuple[list[Tokens], ...]:
        """Token ids of n prompts, as they end before an answer, and of each with n completions, once for each list of them.

        Args:
            prompts: Lists of messages, n of them.
            *completions: Lists of n lists of messages each.
        """
        alone: dict[Any, Messages] = {}
        answered: dict[Any, Messages] = {}
        keys: list[tuple[Any, ...]] = []
        for prompt, *sides in zip(prompts, *completions, strict=True):
            # What tells messages of the same fields apart.
            key, *of_sides = (tuple([tuple(message.values()) for message in part]) for part in (prompt, *sides))
            alone[key] = prompt
            for of_side, side in zip(of_sides, sides, strict=True):
                if (key, of_side) not in answered:
                    answered[key, of_side] = prompt + side
            keys.append((key, *((key, of_side) for of_side in of_sides)))
        render = partial(self.tokenizer.apply_chat_template, tokenize=False)
        texts = [*render(list(alone.values()), add_generation_prompt=True), *render(list(answered.values()))]
        ids = dict(zip(chain(alone, answered), self.texts(texts), strict=True))
        return tuple([ids[conversation] for conversation in column] for column in zip(*keys, strict=True))

    def texts(self, texts: list[str]) -> list[Tokens]:
        """Token ids of each rendered text, as `tokenizer(text, add_special_tokens=False)` has them."""
        segments = [self._segments(text) for text in texts]
        if self._known_tokens > _KEPT_TOKENS:
            self._known.clear()
            self._known_tokens = 0
        new = list({segment for of_text in segments for segment in of_text} - self._known.keys())
        encodings = self.tokenizer.backend_tokenizer.encode_batch_fast(new, add_special_tokens=False)
        self._known |= {segment: encoding.ids for segment, encoding in zip(new, encodings, strict=True)}
        self._known_tokens += sum(map(len, encodings))
        return [list(chain.from_iterable([self._known[segment] for segment in of_text])) for of_text in segments]

    def _segments(self, text: str) -> list[str]:
        borders = [0, *(match.start() for match in self._border.finditer(text)), len(text)]
        return [text[start:end] for start, end in pairwise(borders)]
