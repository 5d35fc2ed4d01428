"""The scorer against the plainest oracle: one whole sequence at a time, no cache, no padding."""

import re

import numpy as np
import pytest
import torch
from tiny_models import tiny_model, tiny_tokenizer

from fairpp_hf.scoring import OptionScorer

CHATS = [
    [{"role": "user", "content": "Which is fairer?"}],
    [
        {"role": "system", "content": "You are thrifty."},
        {"role": "user", "content": "Which rule is fairer for people?"},
    ],
    [{"role": "user", "content": "Émile asks: fair? ⚖️"}],
]
OPTIONS = [
    ("equal", "what each has earned, and a good deal more", "neither"),
    ("the rule", "the need", "none of them"),
    ("a", "b", "c"),
]


def plain_logprob(model, tokenizer, chat, reply, *, closed):
    """Sum of log p(token | all before), from a forward pass over the whole text."""
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    text = prompt + reply + ("<|end|>" if closed else "")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logp = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
    return sum(logp[position - 1, ids[position]].item() for position in range(start, len(ids)))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("rule", ["line", "letter"])
def test_matches_the_plain_oracle(rule, batch_size):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    scores = OptionScorer(model, tokenizer, rule=rule, batch_size=batch_size).score(CHATS, OPTIONS)
    expected = [
        [
            plain_logprob(
                model, tokenizer, chat, f"{letter}. {text}" if rule == "line" else letter, closed=rule == "line"
            )
            for letter, text in zip("ABC", texts, strict=True)
        ]
        for chat, texts in zip(CHATS, OPTIONS, strict=True)
    ]
    np.testing.assert_allclose(scores.logprobs, expected, rtol=1e-4, atol=1e-4)
    weights = np.exp(expected)
    np.testing.assert_allclose(scores.probabilities, weights / weights.sum(axis=1, keepdims=True), rtol=1e-3)


def test_probabilities_survive_long_options():
    """Lines of hundreds of tokens have probabilities that underflow; the shares among them do not."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    options = [("fair " * 300, "rule " * 300, "law " * 300)]
    scores = OptionScorer(model, tokenizer).score(CHATS[:1], options)
    assert scores.logprobs.max() < -750
    assert scores.probabilities.sum() == pytest.approx(1.0)


def test_no_questions_give_no_rows():
    scores = OptionScorer(tiny_model(), tiny_tokenizer()).score([], [])
    assert scores.probabilities.shape == (0, 3)


def test_an_adapter_changes_the_scores(tiny_model_path, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(tiny_model(), lora).save_pretrained(tmp_path)
    plain = OptionScorer.from_pretrained(tiny_model_path).score(CHATS, OPTIONS)
    adapted = OptionScorer.from_pretrained(tiny_model_path, adapter=tmp_path).score(CHATS, OPTIONS)
    assert np.abs(plain.logprobs - adapted.logprobs).max() > 1e-3


def test_a_tokenizer_without_a_chat_template_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    message = (
        "tokenizer must have a chat template; got none in ''. "
        "Use an instruction-tuned model, or set tokenizer.chat_template."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OptionScorer(tiny_model(), tokenizer)


def test_unequal_inputs_are_refused():
    with pytest.raises(ValueError, match=r"^options must have one triple a question; got 1 for 3 questions\.$"):
        OptionScorer(tiny_model(), tiny_tokenizer()).score(CHATS, OPTIONS[:1])


def test_a_template_that_renders_prompts_unlike_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}:{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    with pytest.raises(
        ValueError, match=r"^The chat template must give a prompt the same tokens with and without a reply"
    ):
        OptionScorer(tiny_model(), tokenizer).score(CHATS[:1], OPTIONS[:1])
