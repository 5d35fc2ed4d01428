"""Who may share prompts: known by name, found out by a check that could have failed, and how long that holds."""

import logging
import math
import re

import pytest
import torch
from tiny_architectures import OWN_SIZES, SHARING, SIZES, tiny
from tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from fairpp_hf.scoring import shared_prefix, sharing
from fairpp_hf.scoring.sharing import KNOWN, PrefixSharing


class OwnLlama(LlamaForCausalLM):
    """A model of one's own that calls itself llama."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


def own_llama(initializer_range=0.02):
    """As it comes fresh: what it says hardly depends on what it reads."""
    torch.manual_seed(0)
    config = tiny_model().config
    config.initializer_range = initializer_range
    return OwnLlama(config)


def fresh(kind, **settings):
    return tiny(kind, initializer_range=0.02, **settings)


def causal(segment, cached=0):
    """A mask that lets completions see those before them."""
    width = segment.size(1)
    return torch.ones(len(segment), 1, width, cached + width, dtype=torch.bool).tril(cached)


def test_known_by_name_needs_no_forward(caplog):
    model = tiny_model()
    model.forward = None
    decision = PrefixSharing(model)
    with caplog.at_level(logging.INFO, logger="fairpp_hf"):
        assert decision.reason_against(10_000, 5_000) is None
        assert decision.reason_against(10, 5) is None
    assert caplog.messages == ["Prompts are shared: llama is known to take such rows."]
    assert decision.way == "shared rows 1, known"


@pytest.mark.parametrize("caches", [False, True])
@pytest.mark.parametrize("kind", ["roformer", "mpt", "bart", "camembert"])
def test_positions_by_place_are_found_in_a_fresh_model(kind, caches):
    """RoFormer as it comes says the same wherever a token stands, so that rows agree to a thousandth of a nat."""
    model = fresh(
        kind,
        **({"d_model": 16, "decoder_ffn_dim": 32, "decoder_layers": 2, "encoder_layers": 0} if kind == "bart" else {}),
    )
    model.eval()
    decision = PrefixSharing(model, caches=caches)
    if kind == "roformer":
        with torch.no_grad():
            assert decision._differences(64).difference < 1e-3
    assert re.match(
        rf"log-probabilities of {kind} differ from those of separate sequences by .* nats a token, with enlarged weights",
        decision.reason_against(40, 20),
    )
    assert decision.off
    assert decision.way == "separate"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["own llama", "persimmon", "biogpt", "xglm", "gpt_bigcode", "granitemoe"])
def test_others_that_are_right_pass(kind, dtype, caplog):
    model = own_llama() if kind == "own llama" else fresh(kind)
    decision = PrefixSharing(model.to(dtype), caches=kind != "biogpt")
    with caplog.at_level(logging.INFO, logger="fairpp_hf"):
        assert decision.reason_against(40, 20) is None
    (said,) = caplog.messages
    assert re.fullmatch(
        rf"Prompts are shared: {model.config.model_type} passed a check with enlarged weights, which is repeated when rows "
        r"grow \(difference \S+ nats a token, \S+ with a wrong mask\)\.",
        said,
    )
    assert decision.way == "shared rows 1, checked"


# fmt: off
OTHERS = (
    "bart", "beam", "bert", "big_bird", "biogpt", "bitnet", "camembert", "cpmant", "ctrl", "cwm",
    "data2vec-text", "diffllama", "doge", "electra", "falcon", "git", "gpt_bigcode", "gpt_neox_japanese", "hrm_text",
    "jetmoe", "llama4_text", "marian", "mbart", "modernbert-decoder", "moshi", "mpt", "mvp", "nanochat", "pegasus",
    "persimmon", "rembert", "roberta", "roc_bert", "roformer", "trocr", "xlm-roberta",
)
# fmt: on
GENERIC_SIZES = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "n_embd", "d_model", "ffn_dim"), 64),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_key_value_heads"), 2),
    **{"head_dim": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "is_decoder": True, "layer_types": None},
    **{name: SIZES[name] for name in ("vocab_size", "max_position_embeddings", "pad_token_id", "bos_token_id")},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_what_passes_fresh_is_right_once_weights_are_large(kind):
    """The verdict on a model as it comes, and the truth: its own weights enlarged in float64, nothing else touched."""
    plain = AutoConfig.for_model(kind)
    named = {*plain.to_dict(), *plain.attribute_map, "is_decoder"}
    torch.manual_seed(0)
    sizes = {name: size for name, size in GENERIC_SIZES.items() if name in named}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes), dtype=torch.float32).eval()
    verdicts = {}
    for dtype in (torch.bfloat16, torch.float32):
        decision = PrefixSharing(model.to(dtype), caches=True)
        assert decision.obstacle is None
        verdicts[dtype] = decision.reason_against(40, 20) is None
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and parameter.std() > 0:
                parameter.mul_(2 / parameter.std() / parameter.size(1) ** 0.5)
        found = PrefixSharing(model, caches=True)._differences(64)
    assert found.of_wrong > 1e-3
    assert verdicts[torch.float32] is (found.difference < 1e-8)
    # Rounding may be too much in 16 bits, and a fault may not.
    assert verdicts[torch.float32] or not verdicts[torch.bfloat16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leaking_mask_is_found_in_a_fresh_model(monkeypatch, dtype):
    monkeypatch.setattr(shared_prefix, "attention_mask", causal)
    reason = PrefixSharing(own_llama().to(dtype)).reason_against(40, 20)
    assert reason.startswith("log-probabilities of llama differ from those of separate sequences")


def test_a_wrong_cache_is_found(monkeypatch):
    """Positions after the cached tokens that start from 0 again: only where there is a cache."""
    given = sharing.model_inputs

    def wrong(rows, *, cached=0, **form):
        inputs = given(rows, cached=cached, **form)
        return inputs | ({"position_ids": inputs["position_ids"] - cached} if cached else {})

    monkeypatch.setattr(sharing, "model_inputs", wrong)
    assert PrefixSharing(own_llama()).reason_against(40, 20) is None
    assert PrefixSharing(own_llama(), caches=True).reason_against(40, 20) is not None


# -- how long a verdict holds ------------------------------------------------------------------------------------------


def test_rows_that_grow_are_checked_at_doublings(monkeypatch):
    """1000 lengths up to 3000 tokens, and 3000 at once: 64, 128, 256, 512, 1024, 2048, 4096."""
    model = own_llama()
    model.config.max_position_embeddings = 10**6
    decision = PrefixSharing(model)
    sizes = []
    monkeypatch.setattr(decision, "_differences", lambda size: sizes.append(size) or sharing._Found(0.0, 1.0))
    for width in range(3, 3000, 3):
        assert decision.reason_against(width, width - 1) is None
        assert sizes[-1] * 3 // 4 >= width
    assert sizes == [64, 128, 256, 512, 1024, 2048, 4096]
    again = PrefixSharing(model)
    monkeypatch.setattr(again, "_differences", lambda size: sizes.append(size) or sharing._Found(0.0, 1.0))
    again.reason_against(3000, 2999)
    assert sizes[:7] == sizes[7:]


def test_a_window_that_nothing_names_is_found_when_rows_grow(caplog):
    """GPT-Neo again, its configuration silent about the window: rows of up to 48 tokens are right, others separate."""
    model = tiny("gpt_neo", window_size=64).eval()
    model.config.window_size = 10**6
    decision = PrefixSharing(model, caches=True)
    assert decision.reason_against(40, 20) is None
    reason = decision.reason_against(70, 20)
    assert reason.startswith("log-probabilities of gpt_neo differ")
    assert caplog.messages == [
        f"Prompts are computed for each completion in rows of more than 48 tokens, which is slower: {reason}."
    ]
    assert decision.reason_against(48, 20) is None
    assert decision.reason_against(49, 20) == reason
    assert not decision.off


def test_rows_end_where_positions_end_unless_positions_are_known_to_go_by_id():
    """Positions by place would be looked up beyond their table, which ends a process on a GPU."""
    assert (
        PrefixSharing(tiny("xglm", max_position_embeddings=80)).reason_against(81, 20) == "the model has 80 positions"
    )
    assert PrefixSharing(tiny("gpt2", max_position_embeddings=80)).reason_against(200, 80) is None


WINDOWS = {
    "mistral": ({"sliding_window": 100}, 100),
    "mistral without": ({"sliding_window": None}, math.inf),
    "qwen2": ({}, math.inf),
    "qwen2 with": ({"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}, 100),
    "gemma2": ({"sliding_window": 100}, 100),
    "gpt_oss": ({"sliding_window": 100}, 100),
    "llama4_text": ({"attention_chunk_size": 100}, 100),
    "modernbert-decoder": ({"local_attention": 100}, 50),
    "gpt_neo": ({"window_size": 100}, 100),
    "gpt_neo of global layers": ({"window_size": 100, "attention_types": [[["global"], 2]]}, math.inf),
    "llama of scaled positions": ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, 512),
    "phi3 of long positions": (
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
                "rope_theta": 1e4,
            },
            "original_max_position_embeddings": 100,
        },
        100,
    ),
    "llama": ({}, math.inf),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_by_configuration(name):
    kind = name.split()[0]
    settings, expected = WINDOWS[name]
    config = AutoConfig.for_model(kind, **{**SIZES, **OWN_SIZES.get(kind, {}), **settings})
    limit, reason = sharing._limit(config, rows=False)
    assert limit == expected
    if limit < math.inf:
        scaled = "positions" in name
        assert reason == (
            f"positions are scaled beyond {limit} tokens" if scaled else f"attention reaches back {limit} tokens"
        )


# -- nothing is left behind --------------------------------------------------------------------------------------------


def test_a_check_leaves_the_model_and_the_random_numbers_as_they_were():
    model = own_llama().train()
    model.config.attention_dropout = 0.5
    before = {name: (tensor.clone(), tensor._version) for name, tensor in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    PrefixSharing(model, caches=True).reason_against(40, 20)
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(tensor, before[name][0], rtol=0, atol=0)
        assert tensor._version == before[name][1], "kept prefixes would be dropped"
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_check_does_not_touch_weights_of_4_bits():
    """Where the processor has AVX-512, bitsandbytes repacks them for good in evaluation mode; training then crashes."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    model = OwnLlama(type(tiny_model().config)(**{**SIZES, "hidden_size": 64, "intermediate_size": 64, "head_dim": 32}))
    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            old = getattr(layer.self_attn, name)
            new = bitsandbytes.nn.LinearNF4(old.in_features, old.out_features, bias=False, compute_dtype=torch.float32)
            new.load_state_dict({"weight": old.weight.data})
            setattr(layer.self_attn, name, new.to("cpu"))
    model.train()
    quantised = model.model.layers[0].self_attn.q_proj
    before = quantised.weight.data.clone()
    assert PrefixSharing(model).reason_against(40, 20) is None
    assert torch.equal(quantised.weight.data, before)
    assert quantised.weight.data.shape == before.shape
    assert quantised.training


def test_every_known_architecture_is_tested():
    assert set(SHARING) >= KNOWN
    assert {PrefixSharing(SHARING[kind]()).known for kind in sorted(KNOWN)} == {True}


def test_code_of_its_own_is_not_known(monkeypatch):
    assert not PrefixSharing(own_llama()).known
    patched = tiny_model()
    assert PrefixSharing(patched).known
    monkeypatch.setattr(type(patched.model.layers[0].self_attn), "forward", causal)
    assert not PrefixSharing(patched).known
    both_ways = tiny("gemma2", use_bidirectional_attention=True)
    assert not PrefixSharing(both_ways).known


ADAPTERS = ["LoraConfig", "AdaLoraConfig", "IA3Config", "LoHaConfig", "LoKrConfig", "OFTConfig"]


@pytest.mark.parametrize("kind", [*ADAPTERS, "DoRA", "LNTuningConfig"])
def test_adapters_that_change_each_token_by_itself_are_known(kind):
    """And are right: the check, which need not be made, passes."""
    import peft

    settings = {
        "DoRA": {"use_dora": True, "init_lora_weights": False},
        "LoraConfig": {"init_lora_weights": False},
        "AdaLoraConfig": {"init_lora_weights": False, "total_step": 10},
        "IA3Config": {"init_ia3_weights": False, "feedforward_modules": []},
        "OFTConfig": {"init_weights": False, "oft_block_size": 4, "r": 0},
        "LNTuningConfig": {},
    }.get(kind, {"init_weights": False})
    config = getattr(peft, "LoraConfig" if kind == "DoRA" else kind)(
        target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **settings
    )
    decision = PrefixSharing(peft.get_peft_model(tiny_model(), config), caches=True)
    assert decision.known is (kind != "LNTuningConfig")
    assert not isinstance(decision._compared(64), str)


def test_activated_lora_is_off():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[5, 6])
    assert (
        PrefixSharing(get_peft_model(tiny_model(), config)).obstacle
        == "an activated LoRA sets in at a place of the row"
    )


def test_layers_that_carry_a_state_are_off():
    """LFM2 does not say that it carries a state; its layers do."""
    model = tiny("lfm2", layer_types=["conv", "full_attention"])
    assert PrefixSharing(model).obstacle == "layers of type conv carry a state from token to token"


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_what_is_rounding(monkeypatch, dtype, allowed):
    for difference, expected in ((0.9 * allowed, True), (1.1 * allowed, False), (float("nan"), False)):
        decision = PrefixSharing(own_llama().to(dtype))
        monkeypatch.setattr(decision, "_differences", lambda size, found=difference: sharing._Found(found * 2, 2.0))
        assert (decision.reason_against(40, 20) is None) is expected


def test_rows_may_be_as_wide_as_a_window_and_no_wider():
    decision = PrefixSharing(tiny("gpt_neo", window_size=50))
    assert decision.reason_against(50, 20) is None
    assert decision.reason_against(51, 20) == "attention reaches back 50 tokens"


def test_an_error_in_the_check_leaves_nothing_behind():
    model = own_llama().train()
    modes = [module.training for module in model.modules()]

    def fail(*arguments):
        raise ValueError("no such rows")

    model.model.layers[1].register_forward_pre_hook(fail)
    decision = PrefixSharing(model)
    assert decision.reason_against(40, 20) == "the model does not take such rows (ValueError: no such rows)"
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_a_divided_model_is_known_or_off(monkeypatch):
    monkeypatch.setattr(sharing, "is_divided", lambda model: True)
    assert PrefixSharing(tiny_model()).obstacle is None
    reason = "llama is not known to take such rows, and a model that processes divide is not checked"
    assert PrefixSharing(own_llama()).obstacle == reason


@pytest.mark.parametrize("settings", [{"obstacle": "of the caller's"}, {}])
def test_obstacles(settings):
    model = tiny_model()
    assert PrefixSharing(model, **settings).obstacle == settings.get("obstacle")
    model.config._attn_implementation = "flash_attention_2"
    expected = settings.get("obstacle") or "attention 'flash_attention_2' takes no mask of its own for each row"
    assert PrefixSharing(model, **settings).obstacle == expected


def test_a_model_that_does_not_read_shows_nothing():
    """What is said does not depend on what is read even with larger weights, so that no comparison counts."""
    model = own_llama()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    reason = PrefixSharing(model).reason_against(40, 20)
    assert reason == "llama is not known to take such rows, and too little of what it says depends on what it reads"


def test_autocast_rounds_as_16_bits(monkeypatch):
    decision = PrefixSharing(own_llama())
    monkeypatch.setattr(decision, "_differences", lambda size: sharing._Found(0.02, 2.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert decision.reason_against(40, 20) is None
    decision = PrefixSharing(own_llama())
    with torch.autocast("cpu", torch.bfloat16):
        assert decision.reason_against(40, 20) is None
    assert decision.reason_against(40, 20) is None
