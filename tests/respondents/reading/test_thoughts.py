import pytest

from fairpp_hf.respondents.reading.thoughts import without_thoughts
from fairpp_hf.respondents.reading.visible_text import visible


@pytest.mark.parametrize(
    ("raw", "reply", "before"),
    [
        ("B", "B", ""),
        ("<think>A</think>B", "B", ""),
        ("B <think>A", "B ", ""),
        ("A</think>B", "B", "A"),
        ("A</think>B</think>C", "C", "B"),
        ("<think>a<think>b</think>B", "B", ""),
        ("[THINK]A[/THINK]B", "B", ""),
        ("◁think▷A◁/think▷B", "B", ""),
        ("analysisIt is A.assistantfinalB", "B", ""),
        ("<|channel|>analysis<|message|>A<|channel|>final<|message|>B", "B", ""),
        ("An analysis of A", "An analysis of A", ""),
        ("Thinking... A", "Thinking... A", ""),
    ],
)
def test_thoughts_are_cut_out(raw: str, reply: str, before: str) -> None:
    kept, was_before = without_thoughts(visible(raw))
    assert (kept.text, was_before.text) == (reply, before)
    assert [raw[place] for place in kept.origin] == list(kept.text)
