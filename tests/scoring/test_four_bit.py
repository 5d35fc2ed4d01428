"""4-bit layers that evaluation leaves as they are: what bitsandbytes does to them on a CPU with AVX-512 (bf16)."""

import pytest
import torch
from tiny_models import save_tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from fairpp_hf.scoring import OptionScorer
from fairpp_hf.scoring.four_bit import keep_four_bit_layout

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the extra 'quantized'")


@pytest.fixture
def avx512(monkeypatch):
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)


@pytest.mark.usefixtures("avx512")
def test_weights_that_were_repacked_are_put_back_and_stay():
    """A layer of 64 x 32, whose width the kernel takes: what evaluation computes is what training computes."""
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(64, 32, bias=False, compute_dtype=torch.float32, compress_statistics=False)
    layer.weight.data.copy_(torch.randn(32, 64))
    layer = layer.to("cpu")
    inputs = torch.randn(3, 64)
    trained = layer(inputs)
    kept = layer.weight.data.clone()
    state = layer.weight.quant_state
    layer.weight.data, layer.weight.quant_state = bitsandbytes.nn.modules._convert_weight_packed_for_cpu(
        layer.weight.data, state
    )
    assert not torch.equal(layer.weight.data.flatten(), kept.flatten())
    keep_four_bit_layout(torch.nn.Sequential(layer))
    assert torch.equal(layer.weight.data.flatten(), kept.flatten())
    layer.eval()
    torch.testing.assert_close(layer(inputs), trained, rtol=0.02, atol=0.02)  # its scales had been rounded to 16 bits
    needs_gradient = inputs.clone().requires_grad_()
    layer(needs_gradient).sum().backward()
    assert needs_gradient.grad.abs().max() > 0


@pytest.mark.usefixtures("avx512")
def test_a_model_of_any_width_is_scored(tmp_path):
    """16 and 8 wide: "N must be divisible by block_n" where its weights are repacked."""
    quantization = BitsAndBytesConfig(load_in_4bit=True)
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path), quantization_config=quantization)
    scorer = OptionScorer(model, tiny_tokenizer())
    scores = scorer.score([[{"role": "user", "content": "Which?"}]], [("one", "two", "three")])
    assert scores.probabilities.sum() == pytest.approx(1)
