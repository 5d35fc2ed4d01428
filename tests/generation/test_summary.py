from pathlib import Path

import pytest

from fairpp_hf.generation.journal import Spending
from fairpp_hf.generation.summary import RunSummary, dollars, known_cost


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "$0.00"),
        (0.000017, "$0.0000170"),
        (0.0123, "$0.0123"),
        (0.1, "$0.10"),
        (1.005, "$1.00"),
        (1234.5, "$1,234.50"),
    ],
)
def test_small_amounts_have_more_digits(amount: float, text: str) -> None:
    assert dollars(amount) == text


def test_replies_without_tokens_are_said_too() -> None:
    summary = RunSummary(
        *(1, 0, 0, {}, {}, {}, 0, 0),
        cost_usd=None,
        unpriced=3,
        input_tokens=0,
        output_tokens=0,
        seconds=0.0,
        path=Path("run"),
    )
    assert summary.spending() == "0 input and 0 output tokens in the whole run, at unknown cost."
    assert summary._replace(unpriced=0).spending() == ""


@pytest.mark.parametrize(("cost", "unpriced", "known"), [(0.0, 0, 0.0), (1.5, 0, 1.5), (1.5, 3, 1.5), (0.0, 3, None)])
def test_a_cost_is_unknown_where_no_price_is(cost: float, unpriced: int, known: float | None) -> None:
    assert known_cost(Spending(cost, 10, 10, 5, unpriced)) == known
