"""Models in 4 bits compute alike on every processor."""

from torch import nn


def keep_four_bit_layout(model: nn.Module) -> None:
    """Have the 4-bit layers of a model stay as they were quantised; without effect on any other layer.

    On a CPU with AVX-512 (bf16), bitsandbytes 0.50 repacks the weights of a layer at its first forward in evaluation mode:
    for good, so that whatever is trained afterwards has no gradient through the layer, with scales rounded to 16 bits, and
    with an error where the output width is no multiple of 32. What it gains is speed at a few tokens a forward, which
    neither training nor scoring has.

    Args:
        model: Any model; its layers are changed in place, and weights that have been repacked are put back.
    """
    for layer in model.modules():
        if getattr(layer, "support_avx512bf16_for_cpu", False):
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
            layer.state_dict()  # as bitsandbytes does before saving: repacked weights are put back
