import pytest

from fairpp_hf.runs.spending import Spending, dollars


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


@pytest.mark.parametrize(
    ("spending", "known", "words"),
    [
        (Spending(0.0, 0, 0, 0, 0), 0.0, ""),
        (
            Spending(1.5, 2000, 10, 5, 0),
            1.5,
            "$1.50; 2,000 input and 10 output tokens, in 5 replies that were ever received.",
        ),
        (
            Spending(1.5, 10, 10, 5, 3),
            1.5,
            "$1.50 and 3 replies of unknown price; 10 input and 10 output tokens, in 5 replies that were ever received.",
        ),
        (
            Spending(0.0, 0, 0, 3, 3),
            None,
            "unknown cost; 0 input and 0 output tokens, in 3 replies that were ever received.",
        ),
    ],
)
def test_a_cost_is_unknown_where_no_price_is(spending: Spending, known: float | None, words: str) -> None:
    assert (spending.known_cost, spending.words()) == (known, words)
