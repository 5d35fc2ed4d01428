"""Chats and options as tokens."""

import re
from pathlib import Path

import pytest
import trl
from plain_scoring import CHATS, OPTIONS
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import QUICK, make_pairs

from fairpp_hf.scoring.encoding import ChatEncoder
from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer


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


def template(name):
    """One of the chat templates that TRL ships."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text("utf-8")


MISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}"
    "<|end|>{% endif %}{% endfor %}"
)
OPENINGS = {
    "qwen3": (template("qwen3"), {"before": "<think>\n\n</think>\n\n"}),
    "qwen3_6": (template("qwen3_6"), {"before": "\n</think>\n\n"}),
    "gptoss": (template("gptoss"), {"before": "<|channel|>final<|message|>"}),
    "nemotron": (template("nemotron_3_nano"), {"cut": "\n", "before": "</think>"}),
    "llama3": (template("llama3"), {}),
    "mistral": (MISTRAL, {"before": " "}),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_what_is_scored_is_what_training_trains_on(name, tmp_path):
    """An empty thought, a channel or a space before the reply, and a prompt that is cut where TRL cuts it."""
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<pad>"
    tokenizer.chat_template, opening = OPENINGS[name]
    pairs = make_pairs([1.0])
    args = ReweightedDPOConfig(output_dir=str(tmp_path), **QUICK)
    trainer = ReweightedDPOTrainer(
        model=tiny_model(), ref_model=tiny_model(), args=args, train_dataset=pairs, processing_class=tokenizer
    )
    trained = trainer.train_dataset[0]
    options = ["x", "y", "z"]
    for side in ("chosen", "rejected"):
        letter, text = pairs[0][side][0]["content"].split(". ")
        options["ABC".index(letter)] = text
    encoder = ChatEncoder(tokenizer, "line")
    (question,) = encoder.encode([pairs[0]["prompt"]], [options], None)
    assert encoder.opening == opening
    assert list(question.prompt) == trained["prompt_ids"]
    for side in ("chosen", "rejected"):
        letter = pairs[0][side][0]["content"][0]
        assert list(question.replies["ABC".index(letter)]) == trained[f"{side}_ids"]
    (letters,) = ChatEncoder(tokenizer, "letter").encode([pairs[0]["prompt"]], [options], None)
    assert letters.prompt == question.prompt
    assert [tokenizer.decode(ids) for ids in letters.replies] == [opening.get("before", "") + each for each in "ABC"]


def test_a_prompt_that_merges_with_the_reply_is_cut_before_the_merger():
    """A prompt that ends in a space, which the tokenizer has in one token with what follows, as TRL has it."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ ' ' if m['role'] == 'assistant' }}{{ m['content'] }}<|end|>{% endfor %}"
        "{{ ' ' if add_generation_prompt }}"
    )
    chat, lines = CHATS[0], [f"{letter}. {text}" for letter, text in zip("ABC", OPTIONS[0], strict=True)]
    encoder = ChatEncoder(tokenizer, "line")
    (question,) = encoder.encode([chat], OPTIONS[:1], None)
    assert encoder.opening == {}
    assert tokenizer.decode(question.prompt) == "Which is fairer?<|end|>"
    assert [tokenizer.decode(reply) for reply in question.replies] == [f" {line}<|end|>" for line in lines]


REFUSED = {
    "tokenizer must have a chat template; got none in ''. Use an instruction-tuned model, or set "
    "tokenizer.chat_template.": None,
    "The chat template must take messages of system, user; it says: System role not supported. Use a model whose template "
    "does, or leave out what it does not take, such as a system message.": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    ),
    "The chat template must write what is said; got 'user: assistant: ' for the reply 'the reply' to 'a question'. It may "
    "be one for pictures, which takes a list of parts. Use a model of text, or another template.": (
        "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
    ),
    "The chat template must write a question alike before and after its reply; got 'Answer: a question<|end|>' and 'a "
    "question<|end|>the reply<|end|>'. Use another template.": (
        "{{ 'Answer: ' if add_generation_prompt }}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_templates_that_are_missing_or_cannot_be_used_are_refused(message):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = REFUSED[message]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChatEncoder(tokenizer, "line").encode(CHATS[1:2], OPTIONS[1:2], None)
