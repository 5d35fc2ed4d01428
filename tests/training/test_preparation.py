"""Preparation by distinct texts against TRL's, row by row."""

import logging

import numpy as np
import pytest
from datasets import Dataset
from tiny_models import tiny_tokenizer
from tiny_trainers import message, question_pairs
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

from fairpp_hf.training import preparation
from fairpp_hf.training.preparation import CHECKED_ROWS, ConversationTokenizer, prepare_pairs

# The prompt ends with a thought that a finished reply does not have, as Gemma 4 writes it.
DIVERGING = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>no thought' }}{% endif %}"
)
# No special token stands between a prompt and its reply, whose tokens may merge.
MERGING = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A' }}{% endif %}"
)


class Preparer:
    """TRL's preparation, and nothing else of its trainer."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, dataset, args):
        return DPOTrainer._prepare_dataset(self, dataset, self._tokenizer, args, "train")


def arguments(tmp_path, **settings):
    return DPOConfig(str(tmp_path), bf16=False, report_to="none", **settings)


def prepared(dataset, args, tokenizer=None):
    """By texts and by rows, and how many rows TRL has prepared for the former."""
    tokenizer = tokenizer or tiny_tokenizer()
    trl = Preparer(tokenizer)
    asked = []

    def by_row(rows):
        asked.append(rows)
        return trl(rows, args)

    ours = prepare_pairs(dataset, tokenizer, args, "train", by_row)
    return ours, trl(dataset, args), sum(len(rows) for rows in asked if isinstance(rows, Dataset))


def assert_identical(ours, theirs):
    assert ours.features == theirs.features
    assert ours[:] == theirs[:]


@pytest.mark.parametrize("pairs_of_question", [1, 3])
@pytest.mark.parametrize("template", [None, DIVERGING, MERGING])
@pytest.mark.parametrize("selected", [False, True])
def test_pairs_are_prepared_as_trl_prepares_them(tmp_path, template, pairs_of_question, selected):
    """Also rows in any order, and a selection of them."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    pairs = question_pairs([[1.0] * pairs_of_question] * 40)
    if selected:
        pairs = pairs.shuffle(seed=0).select(range(10, 38))

    ours, theirs, asked = prepared(pairs, arguments(tmp_path), tokenizer)

    assert_identical(ours, theirs)
    assert asked == CHECKED_ROWS


def test_longer_chats_and_further_fields_and_what_looks_like_a_special_token(tmp_path):
    rows = [
        {
            "prompt": [
                {"role": "system", "content": f"You are{'' if number % 2 else ' <|user|>'}.", "name": None},
                {"role": "user", "content": f"Question {number}<|end|>", "name": "me"},
                {"role": "assistant", "content": "", "name": None},
                {"role": "user", "content": "And now?", "name": None},
            ],
            "chosen": message("assistant", f"yes {number % 3}"),
            "rejected": message("assistant", "no"),
        }
        for number in range(30)
    ]

    ours, theirs, asked = prepared(Dataset.from_list(rows), arguments(tmp_path))

    assert_identical(ours, theirs)
    assert asked == CHECKED_ROWS


@pytest.mark.parametrize("truncation_mode", ["keep_start", "keep_end"])
def test_prompts_that_fill_max_length_are_left_out(tmp_path, truncation_mode):
    pairs = question_pairs([[1.0] * 3] * 20)
    lengths = [len(prompt) for prompt in Preparer(tiny_tokenizer())(pairs, arguments(tmp_path))["prompt_ids"]]
    args = arguments(tmp_path, max_length=int(np.median(lengths)), truncation_mode=truncation_mode)

    ours, theirs, _ = prepared(pairs, args)

    assert_identical(ours, theirs)
    assert (len(ours) < len(pairs)) == (truncation_mode == "keep_start")


def plain_texts(pairs):
    texts = {name: [row[0]["content"] for row in pairs[name]] for name in ("prompt", "chosen", "rejected")}
    return Dataset.from_dict({**texts, "weight": pairs["weight"]})


@pytest.mark.parametrize(
    "other",
    [
        plain_texts,
        lambda pairs: pairs.add_column("tools", ['[{"type": "function"}]'] * len(pairs)),
        lambda pairs: pairs.add_column("chat_template_kwargs", [{"one": 1}] * len(pairs)),
        lambda pairs: pairs.select(range(CHECKED_ROWS)),
        # The prompt is in both completions.
        lambda pairs: pairs.map(
            lambda row: {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}, remove_columns="prompt"
        ),
    ],
    ids=["plain", "tools", "template arguments", "few rows", "implicit prompts"],
)
def test_what_is_out_of_the_ordinary_is_left_to_trl(tmp_path, other):
    pairs = other(question_pairs([[1.0] * 3] * 20))

    ours, theirs, asked = prepared(pairs, arguments(tmp_path))

    assert_identical(ours, theirs)
    assert asked == len(pairs)


def test_a_tokenizer_that_reads_texts_otherwise_in_parts_is_found_out(tmp_path, monkeypatch, caplog):
    whole = ConversationTokenizer.texts
    monkeypatch.setattr(
        ConversationTokenizer, "texts", lambda self, texts: [[*ids[:-1], 0] for ids in whole(self, texts)]
    )
    monkeypatch.setattr(preparation.logger.parent, "propagate", True)
    pairs = question_pairs([[1.0] * 3] * 20)

    with caplog.at_level(logging.WARNING):
        ours, theirs, asked = prepared(pairs, arguments(tmp_path))

    assert_identical(ours, theirs)
    assert asked == CHECKED_ROWS + len(pairs)
    assert "tokenised row by row" in caplog.text


BYTES = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
PIECES = [("<unk>", 0.0), *((character, -float(number)) for number, character in enumerate("▁abAB. \n", start=1))]


def _tokenizer(model, pre_tokenizer=None, normalizer=None):
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize(
    "backend",
    [
        _tokenizer(models.BPE(BYTES, []), pre_tokenizers.ByteLevel(add_prefix_space=True)),
        _tokenizer(models.Unigram(PIECES, 0), pre_tokenizers.Metaspace(prepend_scheme="first")),
        _tokenizer(models.Unigram(PIECES, 0), pre_tokenizers.Metaspace(prepend_scheme="always")),
        _tokenizer(models.Unigram(PIECES, 0), normalizer=normalizers.Prepend("▁")),
        _tokenizer(
            models.Unigram(PIECES, 0), normalizer=normalizers.Sequence([normalizers.Strip(), normalizers.NFC()])
        ),
    ],
    ids=["prefix space", "first", "always", "prepend", "strip"],
)
def test_texts_are_tokenised_as_a_whole_text_would_be(backend):
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    flagged = [AddedToken(f"<{flag}>", special=True, **{flag: True}) for flag in flags]
    backend.add_special_tokens(["<s>", "<end>", "<end>now", *flagged])
    backend.add_tokens(["aba"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", pad_token="<s>")
    rng = np.random.default_rng(0)
    parts = ["<s>", "<end>", *map(str, flagged), *["now", "aba", "a", " ", "  ", "\n", "B.", "<", ""]]
    texts = ["".join(rng.choice(parts, rng.integers(0, 12))) for _ in range(500)]

    # What a call before has left in the backend plays no part.
    tokenizer(["a", "ab a"], padding=True, truncation=True, max_length=2)
    ours = ConversationTokenizer(tokenizer).texts(texts)

    assert ours == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_missing_numbers_in_other_columns_do_not_make_it_slow(tmp_path, caplog):
    pairs = question_pairs([[1.0]] * 40).add_column("score", [float("nan")] * 40)
    ours, theirs, asked = prepared(pairs, arguments(tmp_path))
    assert asked == CHECKED_ROWS
    assert not caplog.records
    assert_identical(ours.remove_columns("score"), theirs.remove_columns("score"))
