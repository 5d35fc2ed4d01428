"""What a run would cost, before anything is asked: calls, tokens and a price."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.generation.options import DEFAULT_OPTIONS, RunOptions
from fairpp_hf.generation.plan import RequestPlan, check_respondent
from fairpp_hf.generation.prices import Prices
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.base import HasAddress, Request, Respondent, tells_stories
from fairpp_hf.respondents.completion import MOST_TOKENS
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import JOURNAL, check_directory, check_journal_exists
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.spending import dollars
from fairpp_hf.text_table import in_columns

BYTES_PER_TOKEN = 4.5
"""Bytes of UTF-8 a token. SmolLM2's tokenizer, whose 49,152 tokens are few, has 4.67 on the portraits and prompts of the
package (4.34 to 4.86 over their pairs), 4.56 on option lines; larger vocabularies have more. Bytes and not characters, since
texts in other scripts take more tokens a character about as they take more bytes."""

TOKENS_AROUND = 14
"""What a chat template puts around a system and a user message: 14 with SmolLM2, 10 or so with OpenAI's models."""

STORY_TOKENS = 300
"""Of a story: two scenes of four sentences in JSON, with room for a third in some."""

_SAMPLE = 5000

# In the order of the requests, since those that come first may be all there is.
_MEASURED = f"""
SELECT question_id, persona, json_extract(usage, '$.prompt_tokens') AS asked,
    json_extract(usage, '$.completion_tokens') AS written
FROM answered
WHERE json_valid(usage) AND typeof(asked) = 'integer' AND typeof(written) = 'integer'
    AND asked BETWEEN 1 AND {MOST_TOKENS - 1} AND written BETWEEN 0 AND {MOST_TOKENS - 1}
ORDER BY position LIMIT {_SAMPLE}
"""


class MeasuredTokens(NamedTuple):
    """Tokens of replies that a run has."""

    replies: int
    input_per_byte: float
    """Input tokens, further tries included, a byte of the portrait and the prompt."""
    output: float
    """Mean output tokens a reply."""


class RequestTokens:
    """How many tokens a plan's requests and their replies are thought to have.

    Without tokens `measured` in earlier replies, the lengths of the texts decide: a request has `TOKENS_AROUND` tokens and
    one every `BYTES_PER_TOKEN` bytes, and its reply as many as its longest option written out, or a story `STORY_TOKENS`.
    """

    def __init__(self, plan: RequestPlan, measured: MeasuredTokens | None = None, *, stories: bool = False) -> None:
        self.measured = measured
        self._per_byte = measured.input_per_byte if measured else 1 / BYTES_PER_TOKEN
        self._around = 0 if measured else TOKENS_AROUND
        self._portraits = np.array([len(text.encode()) for text in plan.portraits.values()])
        self._prompts = _bytes(plan.questions, "prompt")
        # "A. " in front of each.
        options = np.max([_bytes(plan.questions, f"option_{letter}") for letter in "abc"], axis=0) + 3
        self._outputs: NDArray[np.float64] = np.ceil(options / BYTES_PER_TOKEN)
        if measured or stories:
            self._outputs = np.full(len(options), measured.output if measured else float(STORY_TOKENS))
        self._variants = len(plan) // (len(self._portraits) * len(self._prompts))

    def at(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Input and output tokens of some requests, each float64 (n,)."""
        persona, row = np.divmod(positions // self._variants, len(self._prompts))
        size = self._portraits[persona] + self._prompts[row]
        return (size * self._per_byte + self._around).astype(np.float64), self._outputs[row]

    def of(self, request: Request) -> int:
        """Input tokens of one request, rounded up."""
        size = sum(len(message["content"].encode()) for message in request.messages)
        return int(np.ceil(size * self._per_byte + self._around))


class Estimate(NamedTuple):
    """What `generate` would ask, and what it would cost."""

    calls: int
    """Requests to be asked."""
    reused: int
    """Requests that have a final reply from before."""
    in_batches: int
    """Requests whose answers are bought already: they are in batches at the provider, of this run or of one that was merged
    into it. Where a run does not know which, all that have no final reply."""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where no price is known."""
    batch_cost_usd: float | None
    """The same by the Batch API."""
    spent_usd: float | None
    """What all replies of the run have cost so far; None where no price of theirs is known."""
    measured: MeasuredTokens | None
    """Earlier replies that the tokens are estimated from; None where they are estimated from the lengths of the texts."""
    prices: Prices | None
    paid: bool
    """Whether a server is asked, which may cost something; without one, tokens cost nothing."""

    def table(self, *, batch: bool = False) -> str:
        """A short text table, and where its figures are from; with `batch`, the price of batches beside the other."""
        rows = [
            ("calls to make", f"{self.calls:,}"),
            ("kept from before", f"{self.reused:,}"),
            *([("in batches, bought already", f"{self.in_batches:,}")] if self.in_batches else []),
        ]
        if not self.paid:
            return f"{in_columns(rows)}\nNo server is asked, so that nothing is paid."
        rows += [
            ("input tokens", _rounded(self.input_tokens)),
            ("output tokens", _rounded(self.output_tokens)),
            ("cost", _about(self.cost_usd)),
        ]
        if batch:
            rows.append(("cost in batches", _about(self.batch_cost_usd)))
        if self.spent_usd is None or self.spent_usd > 0:
            rows.append(("spent before", "unknown" if self.spent_usd is None else dollars(self.spent_usd)))
        lines = [in_columns(rows)]
        lines.append(
            f"Tokens as in {self.measured.replies:,} replies of this run."
            if self.measured
            else "Tokens by the lengths of the texts; a model that thinks before it answers writes more."
        )
        lines.append(
            f"Prices: {self.prices.source}; ${self.prices.input:g} a million input tokens, ${self.prices.output:g} output."
            if self.prices
            else "No price is known for this model at this server: give its prices in USD per million tokens."
        )
        return "\n".join(lines)


def estimate(
    run: str | Path,
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table,
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    again: Collection[str] = (),
    give_up_batches: bool = False,
) -> Estimate:
    """Count what `generate` with the same arguments would ask, and price it. Nothing is asked, and nothing is written.

    Args:
        run: Directory, of an earlier run or not there yet.
        respondent: Whoever would answer.
        personas: Persona set.
        questions: Rows of `load_questions`, or a table with its columns.
        options: How the questions would be asked.
        again: Keys of requests that would be asked again though they have a final reply.
        give_up_batches: Whether the run's batches would be given up before, and so bought again.

    Returns:
        `Estimate`.

    Raises:
        ValueError: Something about the arguments is wrong, as with `generate`.
        OSError: The run's journal cannot be read.
    """
    run = Path(run)
    check_respondent(respondent)
    plan = RequestPlan(personas, questions, samples=options.samples, swap=options.swap)
    check_directory(run)
    previous = read_manifest(run)
    check_journal_exists(run, previous)
    keys = plan.keys(respondent.settings)
    final: set[str] = set()
    in_batches: set[str] = set()
    spent: float | None = 0.0
    measured = None
    if (run / JOURNAL).exists():
        with Journal(run, read_only=True) as journal:
            with journal.snapshot() as connection:
                spent = journal.spending().known_cost
                final = {key for (key,) in connection.execute("SELECT key FROM replies WHERE status <> 'failed'")}
                if not give_up_batches:
                    in_batches.update(key for (key,) in connection.execute("SELECT key FROM elsewhere"))
                    in_batches.update(journal.keys_in_batches())
            measured = measured_tokens(journal, plan, previous, respondent)
        final -= set(again)
    shard, prices = options.shard, options.prices
    asked = np.fromiter((shard is None or shard.has(key) for key in keys), bool, len(keys))
    done = np.fromiter((key in final for key in keys), bool, len(keys))
    bought = ~done & np.fromiter((key in in_batches for key in keys), bool, len(keys))
    tokens = RequestTokens(plan, measured, stories=tells_stories(respondent))
    to_ask = asked & ~done & ~bought
    inputs, outputs = (float(part.sum()) for part in tokens.at(np.flatnonzero(to_ask)))
    return Estimate(
        calls=int(to_ask.sum()),
        reused=int((asked & done).sum()),
        in_batches=int((asked & bought).sum()),
        input_tokens=round(inputs),
        output_tokens=round(outputs),
        cost_usd=prices.of_tokens(inputs, outputs) if prices else None,
        batch_cost_usd=prices.of_tokens(inputs, outputs, batch=True) if prices else None,
        spent_usd=spent,
        measured=measured,
        prices=prices,
        paid=isinstance(respondent, HasAddress),
    )


def measured_tokens(
    journal: Journal, plan: RequestPlan, previous: Mapping[str, Any] | None, respondent: Respondent
) -> MeasuredTokens | None:
    """Tokens of the first `_SAMPLE` replies that a run has from this respondent; None where its manifest has another."""
    if previous is None or previous["respondent"]["settings"] != respondent.settings:
        return None
    with journal.snapshot() as connection:
        rows = connection.execute(_MEASURED).fetchall()
    if not rows:
        return None
    ids, personas, asked, written = zip(*rows, strict=True)
    portraits = {persona: len(portrait.encode()) for persona, portrait in plan.portraits.items()}
    row = pc.index_in(pa.array(ids, pa.string()), plan.questions["question_id"].combine_chunks())
    known = row.is_valid().to_numpy(zero_copy_only=False) & np.isin(personas, list(portraits))
    if not known.any():
        return None
    rows_known = row.filter(pa.array(known)).to_numpy(zero_copy_only=False)
    size = _bytes(plan.questions, "prompt")[rows_known].sum()
    size += sum(portraits[persona] for persona, is_known in zip(personas, known.tolist(), strict=True) if is_known)
    return MeasuredTokens(
        int(known.sum()), float(np.array(asked)[known].sum() / size), float(np.array(written)[known].mean())
    )


def _bytes(questions: pa.Table, name: str) -> NDArray[np.int64]:
    """Bytes of UTF-8 of each text of a column, int64 (n,)."""
    lengths: NDArray[np.int64] = pc.binary_length(questions[name]).to_numpy().astype(np.int64)
    return lengths


def _about(amount: float | None) -> str:
    return "unknown" if amount is None else f"about {dollars(amount)}"


def _rounded(tokens: int) -> str:
    return f"about {tokens / 1e6:,.1f} million" if tokens >= 1e6 else f"about {tokens:,}"
