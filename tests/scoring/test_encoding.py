"""Chats and options as tokens."""

import hashlib
import re

import numpy as np
import pytest
from plain_scoring import CHATS, OPTIONS, plain_logprobs
from tiny_models import CHAT_TEMPLATE, tiny_model, tiny_tokenizer

from fairpp_hf.scoring import OptionScorer
from fairpp_hf.scoring.encoding import ChatEncoder


def test_a_question_in_tokens():
    """The prompt ends where the assistant is to speak; a reply is the line and the end of the turn, or the letter."""
    tokenizer = tiny_tokenizer()
    lines = ["A. the rule<|end|>", "B. the need<|end|>", "C. none of them<|end|>"]
    for rule, replies in (("line", lines), ("letter", ["A", "B", "C"])):
        (question,) = ChatEncoder(tokenizer, rule).encode(CHATS[1:2], OPTIONS[1:2], None)
        assert tokenizer.decode(question.prompt) == (
            "<|system|>You are thrifty, and wary of what is new.<|end|>"
            "<|user|>Which rule is fairer for people?<|end|><|assistant|>"
        )
        assert [tokenizer.decode(reply) for reply in question.replies] == replies
        assert question.system == "You are thrifty, and wary of what is new."
        lengths = [len(reply) for reply in question.replies]
        assert question.longest == len(question.prompt) + max(lengths)
        assert question.in_one_row == len(question.prompt) + sum(lengths)


def test_the_template_hash_is_that_of_its_text():
    scorer = OptionScorer(tiny_model(), tiny_tokenizer())
    assert scorer.template_hash == hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()


def test_a_tokenizer_without_a_chat_template_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    message = (
        "tokenizer must have a chat template; got none in ''. "
        "Use an instruction-tuned model, or set tokenizer.chat_template."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChatEncoder(tokenizer, "line")


def test_unequal_inputs_are_refused():
    with pytest.raises(ValueError, match=r"^options must have one triple a question; got 1 for 6 questions\.$"):
        ChatEncoder(tiny_tokenizer(), "line").encode(CHATS, OPTIONS[:1], None)


def test_a_template_that_renders_the_last_turn_in_its_own_way_is_scored_as_the_model_sees_it():
    """As Mistral's: the system text goes before the user's turn only while that is the last."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{% set s = m['content'] %}{% elif m['role'] == 'user' %}"
        "<|user|>{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }} {% endif %}"
        "{{ m['content'] }}<|assistant|>{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    model = tiny_model()
    scores = OptionScorer(model, tokenizer).score(CHATS[1:2], OPTIONS[1:2])
    expected = plain_logprobs(model, tokenizer, CHATS[1:2], OPTIONS[1:2])
    np.testing.assert_allclose(scores.logprobs, expected, rtol=1e-4)


def test_a_template_that_refuses_a_system_message_says_so():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    )
    message = (
        "The chat template must take messages of system, user; it says: System role not supported. "
        "Use a model whose template does, or leave out what it does not take, such as a system message."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChatEncoder(tokenizer, "line").encode(CHATS[1:2], OPTIONS[1:2], None)


def test_a_prompt_that_merges_with_the_reply_is_refused():
    """A prompt that ends in a space: the tokenizer has " A" as one token."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %} "
    message = (
        "The chat template's prompt must end on a token boundary; got 'Which is fairer?<|end|> ', "
        "whose last token changes when 'A. equal<|' follows. Use another template."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChatEncoder(tokenizer, "line").encode(CHATS[:1], OPTIONS[:1], None)
