"""What tokens cost: the list prices of genai-prices, which a file or two figures override.

A model without a price costs an unknown amount, never nothing.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.respondents.base import Reply
from fairpp_hf.respondents.completion import MOST_TOKENS

OPENAI = "https://api.openai.com/v1"
_UNIT = "per million tokens"
_AMOUNTS = {"input", "cached_input", "output", "batch_factor"}
_DATED = re.compile(r"(.+)-\d{4}-?\d{2}-?\d{2}")

OPENAI_BATCH_FACTOR = 0.5
"""What OpenAI's Batch API takes for a token, as a share of the price of one asked at once."""


class Prices(NamedTuple):
    """The prices of one model, in USD per million tokens.

    Example:
        >>> prices = Prices(input=0.15, cached_input=0.075, output=0.6, batch_factor=0.5, source="a price list")
        >>> prices.cost({"prompt_tokens": 1_000_000, "completion_tokens": 100_000})
        0.21
        >>> prices.cost({"prompt_tokens": 1_000_000, "completion_tokens": 100_000}, batch=True)
        0.105
    """

    input: float
    cached_input: float
    """Of input tokens that the server has cached from an earlier request."""
    output: float
    """Of output tokens; a model's thinking is among them."""
    batch_factor: float
    """What a token in a batch costs, as a share of the price of one asked at once."""
    source: str
    """Where the prices are from, in words."""

    def cost(self, usage: Mapping[str, Any] | None, *, batch: bool = False) -> float | None:
        """What a reply cost.

        Args:
            usage: Tokens as the server counts them: `prompt_tokens`, `completion_tokens`, and
                `prompt_tokens_details.cached_tokens` where some were cached.
            batch: Whether the reply came by the Batch API. Cached tokens are then priced as others, since not every model
                has a lower price for them there: the true cost may be below this one, never above.

        Returns:
            USD, or None where the server gave no such counts.
        """
        if usage is None:
            return None
        asked, written = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if asked is None or written is None:
            return None
        details = usage.get("prompt_tokens_details")
        cached = _count(details, "cached_tokens") if isinstance(details, Mapping) and not batch else None
        return self.of_tokens(asked, written, cached=min(cached or 0, asked), batch=batch)

    def cost_of(self, reply: Reply) -> float | None:
        """What a reply cost in USD, by the Batch API or without; None where the server gave no counts."""
        return self.cost(reply.usage, batch=in_batch(reply))

    def of_tokens(self, asked: float, written: float, *, cached: float = 0, batch: bool = False) -> float:
        """USD of input tokens, `cached` ones among them, and output tokens."""
        whole = ((asked - cached) * self.input + cached * self.cached_input + written * self.output) / 1e6
        return whole * self.batch_factor if batch else whole


def in_batch(reply: Reply) -> bool:
    """Whether a reply came by the Batch API: its detail then has the batch's id."""
    return "batch" in (reply.detail or {})


def load_prices(
    model: str,
    file: str | Path | None = None,
    given: Sequence[float] | None = None,
    address: str | None = None,
) -> Prices | None:
    """The prices of a model.

    A dated name, such as `gpt-4o-mini-2024-07-18`, has the prices of `gpt-4o-mini` unless it has its own.

    Args:
        model: Its name.
        file: A table to use instead of the list prices: JSON with the keys `date`, `currency` ("USD"), `unit` ("per million
            tokens") and `models`, an object of `{"input": ..., "cached_input": ..., "output": ..., "batch_factor": ...}`
            by name. `input` and `output` must be there; without `cached_input`, cached tokens cost as much as others, and
            without `batch_factor`, batches cost as much as single requests.
        given: USD per million input and output tokens, instead of a table; cached tokens and batches cost no less.
        address: The server that will be asked; OpenAI's by default. The same name may be another's model elsewhere.

    Returns:
        Prices, or None where none are known for the model at that server.

    Raises:
        ValueError: `file` is not such a table, `given` are not two amounts, or there are both.
        OSError: `file` cannot be read.
    """
    if given is not None:
        if file is not None:
            raise ValueError("Prices must come from one place; got both --price and --prices. Leave one of them out.")
        if len(given) != 2 or not all(_is_amount(value) for value in given):
            raise ValueError(
                "--price must be two amounts of at least 0, USD per million input and output tokens; "
                f"got {' '.join(map(str, given))}."
            )
        return Prices(given[0], given[0], given[1], 1.0, "--price")
    if file is None:
        return _listed(model, address or OPENAI)
    table = _read(Path(file))
    models = table["models"]
    dated = _DATED.fullmatch(model)
    name = model if model in models or not dated else dated[1]
    if name not in models:
        return None
    row = models[name]
    return Prices(
        row["input"],
        row.get("cached_input", row["input"]),
        row["output"],
        row.get("batch_factor", 1.0),
        f"{Path(file).name} of {table['date']}",
    )


def _listed(model: str, address: str) -> Prices | None:
    """The list prices of a model at a server."""
    import genai_prices  # a second to import
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, found = get_snapshot().find_provider_model(model, None, None, address)
    except LookupError:
        return None
    # Names are matched loosely there; a variant that is not listed may cost more.
    dated = _DATED.fullmatch(model)
    if found.id.casefold() not in {model.casefold(), dated[1].casefold() if dated else None}:
        return None
    listed = found.get_prices(datetime.now(UTC))
    # Above a hundred thousand tokens and more, some cost more; no question here is that long.
    asked, cached, written = (
        None if price is None else float(getattr(price, "base", price))
        for price in (getattr(listed, f"{name}_mtok", None) for name in ("input", "cache_read", "output"))
    )
    if asked is None or written is None:
        return None
    return Prices(
        asked,
        asked if cached is None else cached,
        written,
        OPENAI_BATCH_FACTOR if provider.id == "openai" else 1.0,
        f"list prices of genai-prices {genai_prices.__version__}, to be checked",
    )


def _read(path: Path) -> dict[str, Any]:
    """A table of prices, checked whole: a slip in another model's row is found before it matters."""
    try:
        table = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"A table of prices must be JSON; got {error} at {path}. Mend the file.") from error
    shape = {"currency": "USD", "unit": _UNIT}
    wrong = [name for name, value in shape.items() if not isinstance(table, dict) or table.get(name) != value]
    if not wrong and not (isinstance(table.get("date"), str) and isinstance(table.get("models"), dict)):
        wrong = ["date, models"]
    for model, row in ({} if wrong else table["models"]).items():
        amounts = {"input": None, "output": None, **(row if isinstance(row, dict) else {})}
        if not all(_is_amount(amounts[name]) for name in amounts.keys() & _AMOUNTS):
            wrong.append(f"model {model!r}")
    if wrong:
        raise ValueError(
            f"A table of prices must have a date, currency USD, unit {_UNIT!r} and models with input and output; got "
            f"something else in {', '.join(wrong)} at {path}. Mend the file."
        )
    return table


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    # A count without bounds is none: what it would cost is unknown.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS else None
