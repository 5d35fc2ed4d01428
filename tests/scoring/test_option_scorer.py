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
    expected = [
        plain_logprob(model, tokenizer, CHATS[1], f"{letter}. {text}", closed=True)
        for letter, text in zip("ABC", OPTIONS[1], strict=True)
    ]
    np.testing.assert_allclose(scores.logprobs[0], expected, rtol=1e-4)


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
        OptionScorer(tiny_model(), tokenizer).score(CHATS[1:2], OPTIONS[1:2])


def test_a_prompt_that_merges_with_the_reply_is_refused():
    """A prompt that ends in a space: the tokenizer has " A" as one token."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %} "
    message = (
        "The chat template's prompt must end on a token boundary; got 'Which is fairer?<|end|> ', "
        "whose last token changes when 'A. equal<|' follows. Use another template."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OptionScorer(tiny_model(), tokenizer).score(CHATS[:1], OPTIONS[:1])


@pytest.mark.parametrize("rule", ["line", "letter"])
def test_whole_sequences_give_what_shared_prompts_give(rule):
    scorer = OptionScorer(tiny_model(), tiny_tokenizer(), rule=rule, batch_size=2)
    shared = scorer.score(CHATS, OPTIONS)
    scorer._shares_prompt = False
    np.testing.assert_allclose(scorer.score(CHATS, OPTIONS).logprobs, shared.logprobs, rtol=1e-4, atol=1e-4)


def test_prompt_learning_adapters_are_scored_as_they_run():
    """Virtual tokens stand before the prompt, and not once more before the options."""
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model(), PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")).eval()
    tokenizer = tiny_tokenizer()
    scores = OptionScorer(model, tokenizer).score(CHATS[:1], OPTIONS[:1])
    prompt = tokenizer.apply_chat_template(CHATS[0], add_generation_prompt=True, tokenize=False)
    start = len(tokenizer(prompt)["input_ids"])
    for option, letter in enumerate("ABC"):
        ids = tokenizer(f"{prompt}{letter}. {OPTIONS[0][option]}<|end|>")["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0][-len(ids) :]
        logp = torch.log_softmax(logits.double(), dim=-1)
        expected = sum(logp[position - 1, ids[position]].item() for position in range(start, len(ids)))
        assert scores.logprobs[0, option] == pytest.approx(expected, rel=1e-4)


def test_recurrent_models_are_scored_too():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=2)
    model = MambaForCausalLM(config).eval()
    scores = OptionScorer(model, tokenizer, batch_size=3).score(CHATS, OPTIONS)
    for row, chat in enumerate(CHATS):
        expected = [
            plain_logprob(model, tokenizer, chat, f"{letter}. {text}", closed=True)
            for letter, text in zip("ABC", OPTIONS[row], strict=True)
        ]
        np.testing.assert_allclose(scores.logprobs[row], expected, rtol=1e-3, atol=1e-3)


def test_a_path_that_does_not_exist_is_named(tmp_path, tiny_model_path):
    path = tmp_path / "nothing"
    for what, arguments in {"model": {"model": path}, "adapter": {"model": tiny_model_path, "adapter": path}}.items():
        message = f"{what} must be a Hub name or an existing folder; got {str(path)!r}. Check the path."
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            OptionScorer.from_pretrained(**arguments)
