"""What the commands that ask servers share: prices, a cap, batches and samples."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.generation import BatchLimits, Prices
    from fairpp_hf.respondents import OpenAIRespondent


def add_money_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --max-cost, --price, --prices, --batch and --batch-tokens."""
    money = parser.add_argument_group(
        "money (openai)",
        "OpenAI's list prices of the usual models are known, by a dated table. A model on a server of your own has no price "
        "but that of --price or --prices: what has an OpenAI model's name there may be another.",
    )
    money.add_argument(
        "--max-cost",
        type=float,
        metavar="USD",
        help="stop before the run, earlier calls included, costs more; holds to within what is in flight",
    )
    money.add_argument(
        "--price",
        type=float,
        nargs=2,
        metavar=("IN", "OUT"),
        help="USD per million input and output tokens; with --batch, those of batches",
    )
    money.add_argument("--prices", type=Path, metavar="FILE", help="a table of prices, JSON as the package's own")
    money.add_argument(
        "--batch", action="store_true", default=None, help="ask by the OpenAI Batch API: half price, within a day"
    )
    money.add_argument(
        "--batch-tokens",
        type=int,
        metavar="N",
        help="input tokens in batches at a time, by your account's limit (default: 2,000,000)",
    )


def prices_for(
    arguments: argparse.Namespace, model: str, respondent: "OpenAIRespondent", option: str = "--price"
) -> "Prices | None":
    """What --price, --prices and the package's table say of a model at its server; None where they say nothing.

    Args:
        arguments: with `max_cost`, `price` and `prices`.
        model: whose prices.
        respondent: whoever asks it.
        option: the one that `price` is given by.

    Raises:
        ValueError: the prices are wrong, or --max-cost has none to count by.
        OSError: the file of --prices cannot be read.
    """
    from fairpp_hf.generation.budget import check_max_cost
    from fairpp_hf.generation.prices import load_prices

    prices = load_prices(model, arguments.prices, arguments.price, respondent.address)
    if prices is None and arguments.max_cost is not None:
        raise ValueError(
            f"--max-cost must come with the price of every model; got none for {respondent.name}. Add {option} IN OUT, USD "
            "per million input and output tokens, or --prices FILE."
        )
    check_max_cost(arguments.max_cost, prices, respondent.name)
    return prices


def batch_limits(arguments: argparse.Namespace) -> "BatchLimits | None":
    """`BatchLimits` of --batch and --batch-tokens, or None without --batch.

    Raises:
        ValueError: --batch-tokens is below 1 or comes without --batch.
    """
    if arguments.batch_tokens is not None:
        if not arguments.batch:
            raise ValueError("--batch-tokens must come with --batch; got it alone. Add --batch, or leave it out.")
        if arguments.batch_tokens < 1:
            raise ValueError(f"--batch-tokens must be at least 1; got {arguments.batch_tokens}.")
    if not arguments.batch:
        return None
    from fairpp_hf.generation import BatchLimits

    return BatchLimits(**({} if arguments.batch_tokens is None else {"enqueued_tokens": arguments.batch_tokens}))


def check_samples(samples: int | None, temperature: float | None) -> None:
    """Check that --samples is at least 1, and has a --temperature at which the samples differ.

    Raises:
        ValueError: it is not so.
    """
    if samples is None:
        return
    if samples < 1:
        raise ValueError(f"--samples must be at least 1; got {samples}.")
    if samples > 1 and not temperature:
        raise ValueError(
            f"--samples above 1 must come with a --temperature above 0; got {samples} samples at temperature 0, which are "
            "paid for one by one and all alike. Add --temperature 0.7, or leave out --samples."
        )
