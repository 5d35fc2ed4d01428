"""The scorer against the plainest oracle, `plain_logprobs`."""

import itertools
import logging
import re

import numpy as np
import pytest
import torch
from plain_scoring import CHATS, OPTIONS, asks, plain_logprobs, plain_probabilities
from tiny_architectures import ENDS, SHARING, tiny
from tiny_models import tiny_model, tiny_tokenizer

from fairpp_hf.scoring import OptionScorer, option_scorer
from fairpp_hf.scoring.encoding import ChatEncoder, TooLongError
from fairpp_hf.scoring.option_scorer import option_scores


def assert_close(scores, expected):
    np.testing.assert_allclose(scores.logprobs, expected, rtol=1e-4, atol=1e-4)
    weights = np.exp(expected)
    np.testing.assert_allclose(scores.probabilities, weights / weights.sum(axis=1, keepdims=True), rtol=1e-3)


def count_tokens(scorer):
    """A list that grows by the rows and the tokens of a row of every forward from now on."""
    shapes = []
    scorer._sharing.causal_lm.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("rule", ["line", "per_token", "letter"])
def test_matches_the_plain_oracle(rule, batch_size, caplog):
    """Prompts with and without system messages, of different ones, and of unequal lengths."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    with caplog.at_level(logging.INFO, logger="fairpp_hf"):
        scores = OptionScorer(model, tokenizer, rule=rule, batch_size=batch_size).score(CHATS, OPTIONS)
    np.testing.assert_allclose(scores.logprobs, plain_logprobs(model, tokenizer, rule=rule), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores.probabilities, plain_probabilities(model, tokenizer, rule=rule), rtol=1e-3)
    np.testing.assert_allclose(scores.letter_logprobs, plain_logprobs(model, tokenizer, rule="letter"), rtol=1e-4)
    lengths = [
        [len(reply) for reply in question.replies]
        for question in ChatEncoder(tokenizer, rule).encode(CHATS, OPTIONS, None)
    ]
    assert scores.tokens.tolist() == lengths
    assert caplog.messages == ["Prompts are shared: llama is known to take such rows."]


def shares_prompts(scorer):
    return scorer._sharing.reason_against(1, 1) is None


@pytest.mark.parametrize("kind", SHARING)
def test_architectures_that_are_known_to_share_prompts(kind):
    """Two questions after one system message, whose keys and values are computed once; attention tells them apart."""
    model, tokenizer = SHARING[kind]().eval(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer)
    chats, options = [CHATS[1], CHATS[4]], [OPTIONS[1], OPTIONS[4]]
    assert_close(scorer.score(chats, options), plain_logprobs(model, tokenizer, chats, options))
    assert scorer._sharing.known
    assert len(scorer._prefixes._kept) == 1
    if "window" in kind or "few positions" in kind:
        questions = scorer.encode(chats, options)
        assert (
            max(question.longest for question in questions) <= ENDS < max(question.in_one_row for question in questions)
        )


CANNOT = {
    "a short sliding window": (
        lambda: tiny("mistral", sliding_window=16),
        " in sequences of more than 16 tokens, which is slower: attention reaches back 16 tokens",
    ),
    "sliding layers": (
        lambda: tiny("gemma2", sliding_window=16),
        " in sequences of more than 16 tokens, which is slower: attention reaches back 16 tokens",
    ),
    "local layers by place in the row": (
        lambda: tiny("gpt_neo", window_size=16),
        " in rows of more than 16 tokens, which is slower: attention reaches back 16 tokens",
    ),
    "recurrent": (
        lambda: tiny("mamba", state_size=4, num_heads=2),
        ", which is slower: the model carries a state from token to token",
    ),
    "a mask for all rows": (
        lambda: tiny("bloom", n_head=2, n_layer=2),
        r", which is slower: the model does not take such rows \(.*\)",
    ),
    "positions by distance in the row": (
        lambda: tiny("mpt"),
        ", which is slower: log-probabilities of mpt differ from those of separate sequences by .* nats a token, .*",
    ),
}


@pytest.mark.parametrize("kind", CANNOT)
def test_others_are_scored_in_whole_sequences(kind, caplog):
    """The same numbers, and the reason said once."""
    make, reason = CANNOT[kind]
    model, tokenizer = make().eval(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer, batch_size=4)
    expected = plain_logprobs(model, tokenizer)
    for _ in range(2):
        np.testing.assert_allclose(scorer.score(CHATS, OPTIONS).logprobs, expected, rtol=1e-3, atol=1e-3)
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("fairpp_hf")]
    assert re.fullmatch(f"Prompts are computed for each completion{reason}\\.", said)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_prompts_are_shared_in_16_bits(kind):
    """bfloat16 has 8 bits of precision: options of up to 60 nats are right to a few tenths, of tokens to hundredths."""
    model, tokenizer = SHARING[kind]().to(torch.bfloat16).eval(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer)
    scores = scorer.score(CHATS, OPTIONS)
    assert shares_prompts(scorer)
    tokens = np.array([list(map(len, question.replies)) for question in scorer.encode(CHATS, OPTIONS)])
    assert np.max(np.abs(scores.logprobs - plain_logprobs(model, tokenizer)) / tokens) < 0.1


# -- adapters ----------------------------------------------------------------------------------------------------------


def lora_model():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(tiny_model(), lora).eval()


def test_an_adapter_changes_the_scores(tiny_model_path, tmp_path):
    adapted, tokenizer = lora_model(), tiny_tokenizer()
    adapted.save_pretrained(tmp_path)
    scorer = OptionScorer.from_pretrained(tiny_model_path, adapter=tmp_path)
    scores = scorer.score(CHATS, OPTIONS)
    assert_close(scores, plain_logprobs(adapted, tokenizer))
    assert shares_prompts(scorer)
    plain = OptionScorer.from_pretrained(tiny_model_path).score(CHATS, OPTIONS)
    assert np.abs(plain.logprobs - scores.logprobs).max() > 1e-3


def test_adapters_that_are_switched_are_taken_up():
    from peft import LoraConfig

    model, tokenizer = lora_model(), tiny_tokenizer()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False))
    scorer, found = OptionScorer(model, tokenizer), []
    for adapter in ("default", "other"):
        model.set_adapter(adapter)
        found.append(scorer.score(CHATS, OPTIONS))
        assert_close(found[-1], plain_logprobs(model, tokenizer))
    with model.disable_adapter():
        found.append(scorer.score(CHATS, OPTIONS))
        assert_close(found[-1], plain_logprobs(model, tokenizer))
    assert all(np.abs(one.logprobs - other.logprobs).max() > 1e-3 for one, other in itertools.combinations(found, 2))


def test_an_adapter_is_no_model(tmp_path):
    adapted = lora_model()
    adapted.peft_config["default"].base_model_name_or_path = "org/base"
    adapted.save_pretrained(tmp_path)
    message = (
        f"model must be a whole model; got the adapter {str(tmp_path)!r}. Pass it as the adapter, and as the model "
        "org/base that it was trained on."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OptionScorer.from_pretrained(tmp_path)


def test_prompt_learning_adapters_are_scored_as_they_run(caplog):
    """Virtual tokens stand before the prompt, and not once more before the options."""
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model(), PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")).eval()
    assert_close(OptionScorer(model, tiny_tokenizer()).score(CHATS, OPTIONS), plain_logprobs(model, tiny_tokenizer()))
    assert "a prompt-learning adapter puts virtual tokens before every row" in caplog.text


# -- what is computed once ---------------------------------------------------------------------------------------------


def test_what_prompts_start_with_is_computed_once():
    """Three questions of ten words after a portrait of 300: once 300, and three rows of a few."""
    portrait = {"role": "system", "content": "You are thrifty. " * 60}
    chats = [[portrait, asks(f"{text} Which is fairer?")] for text in ("One.", "Two of them.", "Three of them all.")]
    model, tokenizer = tiny_model(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer)
    scorer.score(CHATS[:1], OPTIONS[:1])
    shapes = count_tokens(scorer)
    scores = scorer.score(chats, OPTIONS[:3])
    questions = scorer.encode(chats, OPTIONS[:3])
    (_, prefix), (rows, width) = shapes
    assert shapes[0] == (1, prefix)
    assert all(question.prompt[:prefix] == questions[0].prompt[:prefix] for question in questions)
    assert len({question.prompt[prefix] for question in questions}) > 1
    # A row holds the rest of the prompt, whose last token each option has for itself, without the options' last tokens.
    assert (rows, width) == (3, max(question.in_one_row for question in questions) - prefix - 1)
    assert_close(scores, plain_logprobs(model, tokenizer, chats, OPTIONS[:3]))

    shapes.clear()
    np.testing.assert_allclose(scorer.score(chats, OPTIONS[:3]).logprobs, scores.logprobs, rtol=1e-5)
    assert shapes == [(rows, width)], "the portrait is there from the call before"

    # Of another question, all but the portrait is computed.
    shapes.clear()
    other = [[portrait, asks("Or else?")]]
    found = scorer.score(other, OPTIONS[:1])
    assert sum(rows * width for rows, width in shapes) < scorer.encode(other, OPTIONS[:1])[0].in_one_row - prefix + 10
    assert_close(found, plain_logprobs(model, tokenizer, other, OPTIONS[:1]))


# -- batches and memory ------------------------------------------------------------------------------------------------


def test_rows_come_batch_by_batch_the_longest_first():
    scorer = OptionScorer(tiny_model(), tiny_tokenizer(), batch_size=2)
    chats, options = CHATS[:1] * 5, [(f"{'fair ' * number}a", "b", "c") for number in range(5)]
    batches = list(scorer.iterate(chats, options))
    assert [rows.tolist() for rows, _ in batches] == [[4, 3], [2, 1], [0]]
    expected = scorer.score(chats, options)
    for rows, scores in batches:
        np.testing.assert_allclose(scores.logprobs, expected.logprobs[rows], rtol=1e-5)
        np.testing.assert_allclose(scores.probabilities, expected.probabilities[rows], rtol=1e-5)


class SmallMemory:
    """A model's forward that fails beyond a number of padded tokens, as an allocator does."""

    def __init__(self, model, tokens, error):
        self.forward, self.tokens, self.error, self.tried = model.forward, tokens, error, []
        model.forward = self

    def __call__(self, **inputs):
        self.tried.append(inputs["input_ids"].numel())
        if self.tried[-1] > self.tokens:
            raise self.error
        return self.forward(**inputs)


CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "9663676416 bytes. Error code 12 (Cannot allocate memory)\nframe #0"
)
GPU_ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")


@pytest.mark.parametrize("error", [CPU_ERROR, GPU_ERROR, MemoryError()], ids=["CPU", "GPU", "Python"])
def test_batches_halve_until_memory_holds_them_and_stay_so(error, caplog):
    chats = [[asks(f"Which is fairer, {number}?")] for number in range(24)]
    options = OPTIONS[:1] * 24
    model, tokenizer = tiny_model(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer)
    scorer.score(chats[:1], options[:1])
    memory = SmallMemory(model, 400, error)
    scores = scorer.score(chats, options)
    refused = [tokens for tokens in memory.tried if tokens > 400]
    assert refused
    assert_close(scores, plain_logprobs(tiny_model(), tokenizer, chats, options))
    assert re.fullmatch(r"Out of memory at \d+ questions a batch; going on with half as many\.", caplog.messages[0])
    memory.tried.clear()
    scorer.score(chats, options)
    assert max(memory.tried) <= 400, "what did not fit is not tried again"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be reported at some other call", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)", True),
        ("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory: you tried to allocate", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_what_devices_say_when_memory_is_full(message, expected):
    assert option_scorer._is_out_of_memory(RuntimeError(message)) is expected


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_probabilities_survive_long_options():
    """Lines of hundreds of tokens have probabilities that underflow; the shares among them do not."""
    scores = OptionScorer(tiny_model(), tiny_tokenizer()).score(
        CHATS[:1], [("fair " * 300, "rule " * 300, "law " * 300)]
    )
    assert scores.logprobs.max() < -750
    assert scores.probabilities.sum() == pytest.approx(1.0)


def test_a_model_of_no_numbers_gives_rows_of_none():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    scores = OptionScorer(model, tiny_tokenizer()).score(CHATS, OPTIONS)
    assert np.isnan(scores.logprobs).all()
    assert np.isnan(scores.probabilities).all()


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_is_named(tmp_path, tiny_model_path):
    path = tmp_path / "nothing"
    for what, arguments in {"model": {"model": path}, "adapter": {"model": tiny_model_path, "adapter": path}}.items():
        message = f"{what} must be a Hub name or an existing folder; got {str(path)!r}. Check the path."
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            OptionScorer.from_pretrained(**arguments)


def test_questions_beyond_the_context_are_refused_before_any_is_scored():
    model = tiny("llama", max_position_embeddings=100)
    scorer = OptionScorer(model, tiny_tokenizer())
    chats = [*CHATS[:2], [asks("fair " * 60)], [asks("law " * 70)]]
    tokens = [question.longest for question in OptionScorer(tiny_model(), tiny_tokenizer()).encode(chats, OPTIONS[:4])]
    assert [length > 100 for length in tokens] == [False, False, True, True]
    model.forward = None
    message = (
        f"A prompt with its longest option must have at most 100 tokens, the model's context; got {tokens[2]} at row 2 "
        f"('{('fair ' * 60)[:60]}'), and more than that many in 2 of 4 rows. Shorten the prompt or the system message, or "
        "use a model with a longer context."
    )
    with pytest.raises(TooLongError, match=f"^{re.escape(message)}$") as error:
        scorer.score(chats, OPTIONS[:4])
    assert (error.value.tokens, error.value.limit) == ({2: tokens[2], 3: tokens[3]}, 100)


def test_per_token_is_the_line_among_options_of_one_length_and_favours_long_ones_else():
    """By hand: log-probabilities -2, -4, -4 over 2, 4, 8 tokens are -1, -1, -1/2 a token, times 14/3 on average."""
    logprobs, letters = np.array([[-2.0, -4.0, -4.0]]), np.zeros((1, 3))
    alike = [option_scores(logprobs, letters, np.full((1, 3), 5), rule).probabilities for rule in ("line", "per_token")]
    np.testing.assert_allclose(*alike)
    (found,) = option_scores(logprobs, letters, np.array([[2, 4, 8]]), "per_token").probabilities
    powers = np.exp(np.array([-14 / 3, -14 / 3, -7 / 3]))
    np.testing.assert_allclose(found, powers / powers.sum())


def test_scores_say_which_part_of_a_line_is_its_letter():
    """The first token in which they differ, also where they say the same."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    scores = OptionScorer(model, tokenizer).score(CHATS[:1], [("same", "same", "same")])
    np.testing.assert_allclose(
        scores.letter_logprobs, plain_logprobs(model, tokenizer, CHATS[:1], [("",) * 3], "letter"), rtol=1e-4
    )
    assert (scores.letter_logprobs > scores.logprobs).all()


def test_changed_weights_are_taken_up():
    """The keys and values of a system message are those of the weights that they are asked with."""
    model, tokenizer = lora_model(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer)
    before = scorer.score(CHATS, OPTIONS).logprobs
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.mul_(2)
    expected = plain_logprobs(model, tokenizer)
    assert np.abs(before - expected).max() > 1e-3
    assert_close(scorer.score(CHATS, OPTIONS), expected)


def test_a_model_in_training_is_scored_without_dropout():
    model, tokenizer = tiny("llama", attention_dropout=0.5).eval(), tiny_tokenizer()
    expected = plain_logprobs(model, tokenizer)
    scorer = OptionScorer(model, tokenizer)
    model.train()
    assert_close(scorer.score(CHATS, OPTIONS), expected)


def test_rows_of_all_lengths_are_right_where_windows_go_by_place_in_the_row():
    """GPT-Neo with a window of 64: rows that fit in it are shared, then longer ones are not, then shorter ones are again."""
    model, tokenizer = tiny("gpt_neo", window_size=64).eval(), tiny_tokenizer()
    scorer = OptionScorer(model, tokenizer)
    short, long = [asks("fair?")], [asks("Which rule is fairer for elderly people? " * 4)]
    scorer.score([short], OPTIONS[:1])
    rows = []
    model.transformer.wte.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    for chats, expected in (([short], [1]), ([long], [3]), ([short], [1]), ([short, long], [3, 1])):
        options = [("the rule", "a", "c")] * len(chats)
        rows.clear()
        scores = scorer.score(chats, options)
        assert rows == expected
        assert_close(scores, plain_logprobs(model, tokenizer, chats, options))


def test_one_prompt_with_other_options_is_another_row():
    """One row of all would have a mask of its length squared."""
    scorer = OptionScorer(tiny_model(), tiny_tokenizer())
    scorer.score(CHATS[:1], OPTIONS[:1])
    shapes = count_tokens(scorer)
    chats, options = CHATS[:1] * 20, [(f"one {number}", f"two {number}", "neither") for number in range(20)]
    assert_close(scorer.score(chats, options), plain_logprobs(tiny_model(), tiny_tokenizer(), chats, options))
    longest = max(question.in_one_row for question in scorer.encode(chats, options))
    assert max(width for _, width in shapes) < longest


def test_one_question_that_does_not_fit_is_one_error():
    model = tiny_model()
    scorer = OptionScorer(model, tiny_tokenizer())
    SmallMemory(model, 1, GPU_ERROR)
    tokens = scorer.encode(CHATS[:1], OPTIONS[:1])[0].longest
    message = (
        f"Memory must hold one question at a time; got none left for one of {tokens} tokens with its longest option. "
        "CUDA out of memory. Tried to allocate 9.00 GiB. Use a device with more memory, a smaller model, or one of fewer "
        "bits a weight (dtype)."
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        scorer.score(CHATS[:1], OPTIONS[:1])


def test_a_divided_model_says_so_when_memory_runs_out(monkeypatch):
    """Halving on one process alone would leave the others waiting for ever."""
    model = tiny_model()
    scorer = OptionScorer(model, tiny_tokenizer())
    scorer.score(CHATS[:1], OPTIONS[:1])
    monkeypatch.setattr(option_scorer, "is_divided", lambda model: True)
    SmallMemory(model, 1, GPU_ERROR)
    message = (
        "Memory must hold a batch of a model that is divided among processes; got none left for 2 questions. CUDA out of "
        "memory. Tried to allocate 9.00 GiB. Set a smaller batch_size."
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        scorer.score(CHATS[:1] * 2, OPTIONS[:1] * 2)


def test_other_errors_of_a_forward_are_not_taken_for_memory():
    model = tiny_model()
    scorer = OptionScorer(model, tiny_tokenizer())
    SmallMemory(model, 0, RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match=r"^CUDA error: device-side assert triggered$"):
        scorer.score(CHATS, OPTIONS)


def test_a_model_may_load_an_adapter_into_itself(tmp_path):
    lora_model().save_pretrained(tmp_path)
    model, tokenizer = tiny_model().eval(), tiny_tokenizer()
    model.load_adapter(str(tmp_path))
    scorer = OptionScorer(model, tokenizer)
    assert_close(scorer.score(CHATS, OPTIONS), plain_logprobs(lora_model(), tokenizer))
    assert shares_prompts(scorer)


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
