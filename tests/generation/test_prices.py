import json
from pathlib import Path
from typing import Any

import genai_prices
import pytest

from fairpp_hf.generation.prices import Prices, load_prices

MINI = Prices(0.15, 0.075, 0.6, 0.5, f"list prices of genai-prices {genai_prices.__version__}, to be checked")


def write(path: Path, **changed: Any) -> Path:
    table = {
        "date": "2026-01-02",
        "currency": "USD",
        "unit": "per million tokens",
        "models": {"m": {"input": 1, "cached_input": 0.5, "output": 4, "batch_factor": 0.25}},
        **changed,
    }
    path.write_text(json.dumps({name: value for name, value in table.items() if value is not None}))
    return path


def test_the_cost_of_a_reply() -> None:
    """2,000 input tokens at 0.15 a million are 0.0003, 100 output tokens at 0.6 are 0.00006; of the input, 1,000 cached ones
    at 0.075 cost 0.000075 less."""
    usage = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}
    assert MINI.cost(usage) == pytest.approx(0.00036)
    assert MINI.cost({**usage, "prompt_tokens_details": {"cached_tokens": 1000}}) == pytest.approx(0.000285)
    assert MINI.cost({**usage, "prompt_tokens_details": {"cached_tokens": None}}) == pytest.approx(0.00036)
    assert MINI.cost({**usage, "prompt_tokens_details": None}) == pytest.approx(0.00036)
    # No more can be cached than were sent: the price of 2,000 cached ones.
    assert MINI.cost({**usage, "prompt_tokens_details": {"cached_tokens": 5000}}) == pytest.approx(0.00021)


def test_a_batch_is_half_price_and_its_cached_tokens_are_as_others() -> None:
    usage = {"prompt_tokens": 2000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 1000}}
    assert MINI.cost(usage, batch=True) == pytest.approx(0.00018)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"total_tokens": 8},
        {"prompt_tokens": 7},
        {"prompt_tokens": "7", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 2**63 - 1, "completion_tokens": 1},
        {"prompt_tokens": 7, "completion_tokens": 10**400},
    ],
)
def test_what_is_not_counted_has_an_unknown_cost_and_not_none_at_all(usage: dict[str, Any] | None) -> None:
    assert MINI.cost(usage) is None


def test_a_dated_name_has_the_prices_of_its_family() -> None:
    assert load_prices("gpt-4o-mini") == load_prices("gpt-4o-mini-2024-07-18") == MINI
    # The first gpt-4o cost twice as much, and has a row of its own.
    dear = load_prices("gpt-4o-2024-05-13")
    assert dear is not None
    assert (dear.input, dear.cached_input, dear.output) == (5.0, 5.0, 15.0)


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini-audio", "gpt-4o-mini-2024", "gpt-4o-mini-2024-07-18-x", "ft:gpt-4o-mini", ""]
)
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert load_prices(model) is None


def test_a_list_price_holds_at_its_server_alone() -> None:
    assert load_prices("gpt-4o-mini", address="https://api.openai.com/v1") == MINI
    assert load_prices("gpt-4o-mini", address="http://localhost:8000/v1") is None
    # Elsewhere, a batch is not known to be cheaper.
    other = load_prices("meta-llama/Llama-3.2-3B-Instruct", address="https://openrouter.ai/api/v1")
    assert other is not None
    assert other.batch_factor == 1.0


def test_a_file_and_two_figures_hold_everywhere(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.json")
    here = "http://localhost:8000/v1"
    assert load_prices("m", file, address=here) == Prices(1, 0.5, 4, 0.25, "mine.json of 2026-01-02")
    assert load_prices("gpt-4o-mini", file, address=here) is None
    assert load_prices("m", given=(0.5, 2.0), address=here) == Prices(0.5, 0.5, 2.0, 1.0, "--price")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"models": None}, "date, models"),
        ({"currency": "EUR"}, "currency"),
        ({"unit": "per thousand tokens"}, "unit"),
        ({"date": None}, "date, models"),
        ({"models": {"m": {"input": 1}}}, "model 'm'"),
        ({"models": {"m": {"input": 1, "output": "4"}}}, "model 'm'"),
        ({"models": {"m": {"input": 1, "output": 4}, "other": {"input": -1, "output": 4}}}, "model 'other'"),
        ({"models": {"m": {"input": 1, "output": float("nan")}}}, "model 'm'"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    file = write(tmp_path / "mine.json", **changed)
    with pytest.raises(ValueError, match="A table of prices must have a date") as error:
        load_prices("m", file)
    assert f"got something else in {named} at {file}" in str(error.value)


@pytest.mark.parametrize("given", [(1.0, -1.0), (1.0, float("inf")), (1.0,)])
def test_wrong_figures_are_an_error(given: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="--price must be") as error:
        load_prices("m", given=given)
    assert str(error.value) == (
        "--price must be two amounts of at least 0, USD per million input and output tokens; "
        f"got {' '.join(map(str, given))}."
    )
