"""What the commands that ask models share: who answers which questions, prices, a cap, and batches."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.arguments import server_options

if TYPE_CHECKING:
    import pyarrow as pa

    from fairpp_hf.generation import BatchLimits, Prices
    from fairpp_hf.respondents import OpenAIRespondent, TransformersRespondent


def add_money_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --max-cost, --price, --prices, --batch and --batch-tokens."""
    money = parser.add_argument_group(
        "money (openai)",
        "List prices are those of genai-prices, by model and provider. A model on a server of your own has no price but "
        "that of --price or --prices: what has an OpenAI model's name there may be another.",
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
    """What --price (or the `option` in its place), --prices and the package's table say of a model at its server.

    Raises:
        ValueError: The prices are wrong, or --max-cost has none to count by.
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
    """`BatchLimits` of --batch and --batch-tokens, or None without --batch."""
    tokens = arguments.batch_tokens
    if tokens is not None and not arguments.batch:
        raise ValueError("--batch-tokens must come with --batch; got it alone. Add --batch, or leave it out.")
    if tokens is not None and tokens < 1:
        raise ValueError(f"--batch-tokens must be at least 1; got {tokens}.")
    if not arguments.batch:
        return None
    from fairpp_hf.generation import BatchLimits

    return BatchLimits(**({} if tokens is None else {"enqueued_tokens": tokens}))


def check_options(arguments: argparse.Namespace, only_for: Mapping[str, Sequence[str]]) -> None:
    """Check --limit, --samples, and the options that go with some respondents only."""
    for option, respondents in only_for.items():
        if getattr(arguments, option) is not None and arguments.respondent not in respondents:
            raise ValueError(
                f"--{option.replace('_', '-')} must come with --respondent {' or '.join(respondents)}; "
                f"got --respondent {arguments.respondent}. Leave it out."
            )
    if arguments.model is None and arguments.respondent in ("transformers", "openai"):
        raise ValueError(f"--respondent {arguments.respondent} must have a model; got none. Add --model MODEL.")
    for option in ("limit", "samples"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option} must be at least 1; got {value}.")
    if arguments.samples is not None and arguments.samples > 1 and not arguments.temperature:
        raise ValueError(
            f"--samples above 1 must come with a --temperature above 0; got {arguments.samples} samples at temperature 0, "
            "which are paid for one by one and all alike. Add --temperature 0.7, or leave out --samples."
        )


def sampled_questions(split: str | None, limit: int | None) -> "pa.Table":
    """The questions of a split, or a fixed random sample of `limit` of them."""
    import pyarrow as pa

    from fairpp_hf.questions import load_questions, sample_questions

    questions = load_questions(split)
    return questions if limit is None else questions.take(pa.array(sample_questions(questions, limit)))


def model_respondent(arguments: argparse.Namespace) -> "TransformersRespondent | OpenAIRespondent":
    """The model that --respondent transformers or openai names, as its options say."""
    from fairpp_hf.respondents import OpenAIRespondent, TransformersRespondent

    if arguments.respondent == "transformers":
        options = {name: getattr(arguments, name) for name in ("adapter", "batch_size", "system_as_user")}
        return TransformersRespondent(
            arguments.model, **{name: value for name, value in options.items() if value is not None}
        )
    options = server_options(arguments)
    if arguments.dry_run:
        options["api_key"] = "none, since nothing is asked"
    return OpenAIRespondent(arguments.model, **options)
