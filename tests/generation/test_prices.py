import json
from pathlib import Path
from typing import Any

import pytest

from fairpp_hf.generation.prices import TABLE, Prices, load_prices

MINI = Prices(0.15, 0.075, 0.6, 0.5, "list prices of 2025-08-31, to be checked")


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


def test_more_cached_tokens_than_input_tokens_cannot_be() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5000}}
    assert MINI.cost(usage) == pytest.approx(0.000075)


def test_a_dated_name_has_the_prices_of_its_family() -> None:
    assert load_prices("gpt-4o-mini") == load_prices("gpt-4o-mini-2024-07-18") == MINI
    # The first gpt-4o cost twice as much, and has a row of its own.
    dear = load_prices("gpt-4o-2024-05-13")
    assert dear is not None
    assert (dear.input, dear.cached_input, dear.output) == (5.0, 5.0, 15.0)


@pytest.mark.parametrize(
    "model", ["gpt-4", "gpt-4o-mini-audio", "gpt-4o-mini-2024", "gpt-4o-mini-2024-07-18-x", "ft:gpt-4o-mini", ""]
)
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert load_prices(model) is None


def test_the_table_holds_at_its_server_alone() -> None:
    assert load_prices("gpt-4o-mini", address="https://api.openai.com/v1") == MINI
    assert load_prices("gpt-4o-mini", address="http://localhost:8000/v1") is None


def test_a_file_and_two_figures_hold_everywhere(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.json")
    here = "http://localhost:8000/v1"
    assert load_prices("m", file, address=here) == Prices(1, 0.5, 4, 0.25, "mine.json of 2026-01-02")
    assert load_prices("gpt-4o-mini", file, address=here) is None
    assert load_prices("m", given=(0.5, 2.0), address=here) == Prices(0.5, 0.5, 2.0, 1.0, "--price")


def test_what_a_file_leaves_out_is_no_discount(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.json", models={"m": {"input": 1, "output": 4}})
    assert load_prices("m-2025-01-01", file) == Prices(1, 1, 4, 1.0, "mine.json of 2026-01-02")


SHAPE = " Give it the shape of the package's own: prices.json beside fairpp_hf/generation/prices.py."


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"models": None}, "A table of prices must have models, each by its name; got none at {file}."),
        ({"models": []}, "A table of prices must have models, each by its name; got none at {file}."),
        ({"currency": "EUR"}, "A table of prices must be 'USD' in 'currency'; got 'EUR' at {file}."),
        (
            {"unit": "per thousand tokens"},
            "A table of prices must be 'per million tokens' in 'unit'; got 'per thousand tokens' at {file}.",
        ),
        ({"date": None}, "A table of prices must say when the prices held, as text in 'date'; got None at {file}."),
        (
            {"models": {"m": {"input": 1}}},
            "A table of prices must have input and output for each model; got {{'input': 1}} at model 'm' in {file}.",
        ),
        (
            {"models": {"m": {"input": 1, "output": "4"}}},
            "A table of prices must have output as a number of at least 0; got '4' at model 'm' in {file}.",
        ),
        (
            {"models": {"m": {"input": 1, "output": 4}, "other": {"input": -1, "output": 4}}},
            "A table of prices must have input as a number of at least 0; got -1 at model 'other' in {file}.",
        ),
        (
            {"models": {"m": {"input": 1, "output": float("nan")}}},
            "A table of prices must have output as a number of at least 0; got nan at model 'm' in {file}.",
        ),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "mine.json", **changed)
    with pytest.raises(ValueError, match="A table of prices") as error:
        load_prices("m", file)
    assert str(error.value) == message.format(file=file) + SHAPE


def test_a_file_that_is_no_json_and_one_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    with pytest.raises(FileNotFoundError, match=r"mine\.json"):
        load_prices("m", file)
    file.write_text("input,output")
    with pytest.raises(ValueError, match="must be JSON") as error:
        load_prices("m", file)
    assert str(error.value) == (
        f"A table of prices must be JSON; got Expecting value: line 1 column 1 (char 0) at {file}. Mend the file."
    )


@pytest.mark.parametrize("given", [(1.0, -1.0), (1.0, float("inf")), (1.0,)])
def test_wrong_figures_are_an_error(given: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="--price must be") as error:
        load_prices("m", given=given)
    assert str(error.value) == (
        "--price must be two amounts of at least 0, USD per million input and output tokens; "
        f"got {' '.join(map(str, given))}."
    )


def test_prices_come_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one place") as error:
        load_prices("m", tmp_path / "mine.json", (1.0, 2.0))
    assert str(error.value) == "Prices must come from one place; got both --price and --prices. Leave one of them out."


def test_every_row_of_the_table_is_a_price() -> None:
    table = json.loads(TABLE.read_text("utf-8"))
    for model in table["models"]:
        prices = load_prices(model)
        assert prices is not None
        assert 0 < prices.cached_input <= prices.input < prices.output
        assert prices.batch_factor == 0.5
