import math

import pytest

from fairpp_hf.respondents.base import Reply, check_reply
from fairpp_hf.schema import STATUSES

WHOSE = "for persona 'p' and question 'q'"


def reply(answer: int, status: str, probabilities: tuple[float, float, float] | None = None) -> Reply:
    return Reply(answer, probabilities, status, None, None, 0.0)


@pytest.mark.parametrize("status", STATUSES)
def test_an_answer_goes_with_ok_and_with_nothing_else(status: str) -> None:
    good, bad = (reply(2, status), reply(-1, status)) if status == "ok" else (reply(-1, status), reply(0, status))
    check_reply(good, WHOSE)
    with pytest.raises(ValueError, match="must have an answer") as error:
        check_reply(bad, WHOSE)
    assert str(error.value) == (
        "A reply must have an answer in 0..2 with status 'ok', or -1 with another status; "
        f"got {bad.answer} with {status!r} for persona 'p' and question 'q'."
    )


@pytest.mark.parametrize(("answer", "status"), [(3, "ok"), (-2, "failed"), (0, "okay"), (-1, "")])
def test_other_answers_and_statuses_are_none(answer: int, status: str) -> None:
    with pytest.raises(ValueError, match=r"must have an answer in 0\.\.2"):
        check_reply(reply(answer, status), WHOSE)


@pytest.mark.parametrize(
    "probabilities", [(0.5, 0.5, 0.5), (-0.1, 0.6, 0.5), (math.nan, 0.5, 0.5), (0.5, 0.5, math.nan)]
)
def test_probabilities_are_a_distribution(probabilities: tuple[float, float, float]) -> None:
    check_reply(reply(0, "ok", (0.2, 0.3, 0.5)), WHOSE)
    with pytest.raises(ValueError, match="must be at least 0") as error:
        check_reply(reply(0, "ok", probabilities), WHOSE)
    assert str(error.value) == f"A reply's probabilities must be at least 0 and sum to 1; got {probabilities} {WHOSE}."
