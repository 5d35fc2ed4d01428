"""What a run has, in figures and as short tables."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fairpp_hf.generation.journal import Journal, Spending
from fairpp_hf.respondents.completion import MOST_TOKENS
from fairpp_hf.schema import STATUSES
from fairpp_hf.text_table import in_columns


class RunSummary(NamedTuple):
    """What a run has, after `generate`."""

    asked: int
    """Requests answered now."""
    reused: int
    """Requests that had a final reply before, those of the shard where there is one."""
    remaining: int
    """Requests still to be asked, those of the shard where there is one; above 0 only where the run was stopped."""
    counts: dict[str, int]
    """Status to number of replies, every status of `STATUSES`."""
    personas: dict[str, dict[str, int]]
    """The same for each persona."""
    groups: dict[str, dict[str, int]]
    """The same for each group type, or empty where every reply is `ok`."""
    of_other_shards: int
    """How many of these replies are to requests of other shards."""
    set_aside: int
    """Damaged records that were asked again."""
    cost_usd: float | None
    """What every reply cost that the run has ever had; None where the price of none is known."""
    unpriced: int
    """Replies that a server sent and whose cost is unknown, which are not in `cost_usd`."""
    input_tokens: int
    """Of every reply that the run has ever had."""
    output_tokens: int
    seconds: float
    path: Path
    clamped: int = 0
    """Replies with a count of tokens beyond all bounds."""

    def table(self) -> str:
        """A short text table: a row a persona, a column a status that occurs.

        Where a reply is not `ok`, a second one has the shares of the group types, a row a type. A last line has the cost.
        """
        shown = [status for status in STATUSES if status == "ok" or self.counts[status]]
        rows = [["persona", *shown]]
        rows += [[persona, *(f"{counts[status]:,}" for status in shown)] for persona, counts in self.personas.items()]
        rows.append(["all", *(f"{self.counts[status]:,}" for status in shown)])
        parts = [in_columns(rows)]
        if self.groups:
            rows = [["group type", "replies", *shown[1:]]]
            for group_type, counts in self.groups.items():
                total = sum(counts.values())
                rows.append([group_type, f"{total:,}", *(f"{counts[status] / total:.1%}" for status in shown[1:])])
            parts.append(in_columns(rows))
        if self.of_other_shards:
            parts.append(f"{self.of_other_shards:,} of these replies are to requests of other shards.")
        if spending := self.spending():
            parts.append(spending)
        return "\n".join(parts)

    def spending(self) -> str:
        """Tokens and cost of the whole run in a sentence; empty where nothing was spent."""
        if not self.input_tokens and not self.output_tokens and not self.unpriced:
            return ""
        tokens = f"{self.input_tokens:,} input and {self.output_tokens:,} output tokens in the whole run"
        clamped = on_clamped(self.clamped)
        if self.cost_usd is None:
            return f"{tokens}, at unknown cost.{clamped}"
        unpriced = f", and {self.unpriced:,} replies of unknown price" if self.unpriced else ""
        return f"{tokens}: {dollars(self.cost_usd)}{unpriced}.{clamped}"


class RunInterrupted(KeyboardInterrupt):
    """The user stopped the run (Ctrl-C or SIGTERM); every reply that came is kept. Has `summary` and `signal_number`."""

    def __init__(self, summary: RunSummary, signal_number: int) -> None:
        super().__init__(
            f"stopped with {summary.remaining:,} requests left; the replies are kept in {summary.path}, and the same "
            "command or call continues"
        )
        self.summary = summary
        self.signal_number = signal_number


def status_counts(journal: Journal, personas: Sequence[str]) -> dict[str, dict[str, int]]:
    """Persona to status to number of replies to the run's requests; every persona, every status of `STATUSES`."""
    counts = journal.counts()
    return {persona: {status: counts.get(persona, {}).get(status, 0) for status in STATUSES} for persona in personas}


def status_counts_by_group(journal: Journal, questions: pa.Table) -> dict[str, dict[str, int]]:
    """Group type to status to number of replies to the run's requests, most replies that are not `ok` first.

    Args:
        journal: of the run.
        questions: the run's; empty is returned where they have no column `group_type`.
    """
    if "group_type" not in questions.column_names:
        return {}
    with journal.snapshot() as connection:
        rows = connection.execute(
            "SELECT requests.question_id, replies.status, count(*) FROM requests JOIN replies USING (key) "
            "GROUP BY requests.question_id, replies.status"
        ).fetchall()
    ids, statuses, numbers = zip(*rows, strict=True)
    at = pc.index_in(pa.array(ids, pa.string()), questions["question_id"].combine_chunks())
    replies = pa.table(
        {"group_type": questions["group_type"].take(at), "status": pa.array(statuses), "number": pa.array(numbers)}
    )
    counts: dict[str, dict[str, int]] = {}
    for row in replies.group_by(["group_type", "status"]).aggregate([("number", "sum")]).to_pylist():
        counts.setdefault(row["group_type"], dict.fromkeys(STATUSES, 0))[row["status"]] = row["number_sum"]
    return dict(sorted(counts.items(), key=lambda item: (item[1]["ok"] / sum(item[1].values()), item[0])))


def known_cost(spending: Spending) -> float | None:
    """USD, or None where there are replies of unknown price alone."""
    return None if spending.unpriced and not spending.cost_usd else spending.cost_usd


def on_clamped(replies: int) -> str:
    """What is to be said after sums of tokens with such counts in them; empty where there are none."""
    if not replies:
        return ""
    return f" {replies:,} replies have a count of tokens beyond all bounds, taken as {MOST_TOKENS:,}: no sum can be trusted."


def dollars(amount: float) -> str:
    """An amount in USD with as many digits as a small one needs.

    Example:
        >>> dollars(1234.5), dollars(0.01234), dollars(0.0)
        ('$1,234.50', '$0.0123', '$0.00')
    """
    digits = 2 - math.floor(math.log10(amount)) if 0 < amount < 0.1 else 2
    return f"${amount:,.{digits}f}"


def totals(personas: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Status to number of replies of all personas."""
    return {status: sum(counts[status] for counts in personas.values()) for status in STATUSES}
