import math

from fairpp_hf.respondents.reading import ReadReply, read_reply, read_text

OPTIONS = ("Merit.", "Need.", "Neither.")


def kept(a: float, b: float, c: float) -> dict[str, object]:
    alternatives = [(letter, math.log(share)) for letter, share in zip("ABC", (a, b, c), strict=True)]
    return {"letters": [{"place": 0, "token": "B", "alternatives": alternatives}]}


def test_a_favourite_that_is_not_the_answer_is_told_and_gives_no_probabilities() -> None:
    assert read_reply("B", kept(0.5, 0.3, 0.2), OPTIONS) == ReadReply(1, None, "ok", contradicted=True)
    agreeing = read_reply("B", kept(0.2, 0.5, 0.3), OPTIONS)
    assert (agreeing.answer, agreeing.status, agreeing.contradicted) == (1, "ok", False)
    assert read_text("B", kept(0.2, 0.5, 0.3), OPTIONS) == agreeing[:3]
    assert not read_reply("B", {}, OPTIONS).contradicted
    assert not read_reply("A or B", kept(0.5, 0.3, 0.2), OPTIONS).contradicted
