"""Tables for the terminal: they fit 80 columns, and have colour where somebody looks at them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fairpp_hf.evaluation.results import Results, System


_WIDEST = 100
"""Columns that a table takes at most, however wide the terminal is."""


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, bold: Iterable[int] = (), caption: str = ""
) -> None:
    """Print a table, its first column flush left and the others right; long cells are folded.

    Without a terminal, as in a pipe, there is no colour, and the width is 80 columns unless COLUMNS says otherwise.

    Args:
        heads: Headings of the columns.
        rows: Texts of the cells; they may come from anywhere.
        bold: Numbers of the rows that stand out.
        caption: A line below the table.
    """
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
        caption=caption or None,
        caption_justify="left",
    )
    cells = [[printable(cell) for cell in row] for row in rows]
    for place, head in enumerate(heads):
        table.add_column(
            Text(head),
            justify="right" if place else "left",
            overflow="fold",
            no_wrap=bool(place) and all(len(row[place]) < 22 for row in cells),
        )
    standing_out = set(bold)
    for number, row in enumerate(cells):
        table.add_row(*map(Text, row), style="bold green" if number in standing_out else "")
    console.print(table)


def printable(text: str) -> str:
    """A text from anywhere in one line, without characters that would steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def print_results(results: "Results") -> None:
    """Print the columns that matter of an evaluation: the constant first, then the best, adapted models in colour.

    Above it stands what was compared; below it, how many replies of which systems are no answers.
    """
    from fairpp_hf.evaluation.results import HEADLINE

    print(
        f"Target: {results.target}; {len(results.questions):,} {results.kind} ({printable(results.division)}); answers: "
        f"{printable(results.reference)}"
    )
    # The distance to one drawn answer a question rewards confidence.
    first = "distance" if results.compared_with == "probabilities" else "Brier score"
    rows = [
        [
            system.name,
            _with_interval(system, HEADLINE["skill"]),
            _number(system, HEADLINE[first]),
            _number(system, HEADLINE["agreement"]),
            _number(system, results.margin),
            f"{system.position_bias.gap:+.3f}" if system.position_bias else "",
        ]
        for system in results.systems
    ]
    adapted = [place for place, system in enumerate(results.systems) if system.facts.get("adapter")]
    intervals = any(system.interval(HEADLINE["skill"]) for system in results.systems)
    print_table(
        ("system", "skill [95%]" if intervals else "skill", first, "agreement", "margin", "A - B"), rows, bold=adapted
    )
    for system in results.models:
        missing = {status: count for status, count in system.statuses.items() if status != "ok"}
        if missing and not system.is_baseline:
            told = ", ".join(f"{count:,} {status}" for status, count in missing.items())
            print(f"{printable(system.name)}: {told} of {sum(system.statuses.values()):,} replies")


def _number(system: "System", metric: str) -> str:
    value = system.metrics.get(metric)
    return "" if value is None else f"{value + 0.0:.3f}"


def _with_interval(system: "System", metric: str) -> str:
    bounds = system.interval(metric)
    text = _number(system, metric)
    return text if bounds is None else f"{text} [{bounds[0]:.2f}, {bounds[1]:.2f}]"
