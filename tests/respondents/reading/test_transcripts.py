import pytest

from fairpp_hf.respondents.reading.transcripts import reply_alone
from fairpp_hf.respondents.reading.visible_text import visible


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        ("B<|im_end|>\n<|im_start|>user\nA?", "B"),
        ("<|im_start|>assistant\nB", "B"),
        ("<|start_header_id|>assistant<|end_header_id|>\nB<|eot_id|>", "B"),
        ("Assistant: B", "B"),
        ("B\nHuman: A or C?", "B"),
        ("Human: which? A?\nAssistant: B", "B"),
        ("<|im_start|>user\nWhich? A.<|im_end|>\n<|im_start|>assistant", ""),
        ("B</s>", "B"),
        ("<s>A</s> B", "B"),
        ("The model: is it B?", "is it B?"),
        ("Use it: B", "Use it: B"),
    ],
)
def test_only_the_reply_is_left(raw: str, reply: str) -> None:
    assert reply_alone(visible(raw)).text.strip() == reply
