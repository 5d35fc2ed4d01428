"""What a run has, at a glance: progress, statuses, money, and how much the answers vary by order, sample and persona."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.generation.batch.ledger import Unfinished, unfinished_in
from fairpp_hf.generation.database import is_damage
from fairpp_hf.generation.journal import Journal, Spending, text_of
from fairpp_hf.generation.manifest import ways_in
from fairpp_hf.generation.records import (
    ANSWER_COLUMNS,
    answer_arrays,
    check_set_up,
    combine_replies,
    intact_parts,
    manifest_of,
    tied,
    votes,
)
from fairpp_hf.generation.run_folder import command_for
from fairpp_hf.generation.shards import parse_shard
from fairpp_hf.generation.summary import dollars, known_cost, on_clamped
from fairpp_hf.respondents.ladder import Way
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, STATUSES
from fairpp_hf.text_table import in_columns

_QUANTILES = (0.5, 0.9, 0.99)
_MODEL = "CASE WHEN json_valid(detail) THEN json_extract(detail, '$.model') END"
_ASKED = "CASE WHEN json_valid(detail) THEN json_extract(detail, '$.asked.ask') END"
_CONTRADICTED = "CASE WHEN json_valid(detail) THEN json_extract(detail, '$.contradicted') END"
_LONGEST = 200
"""Characters of a reply that the table shows."""


class Example(NamedTuple):
    """A reply, to be looked at."""

    question_id: str
    persona: str
    status: str
    answer: int
    """0..2 with A for pole A, or -1."""
    swapped: bool
    raw: str | None


class OrderEffect(NamedTuple):
    """How much the options' places matter; over the records with a valid reply in both orders."""

    records: int
    gap: float
    """Mean over the records and orders of P(option listed first) - P(option listed second), from -1 to 1; 0 is no bias."""
    changed: float | None
    """Share of the records with one most probable option in either order, in which these are different options; None where
    there are none."""


class Overview(NamedTuple):
    """What a run has; all answers are simulated."""

    path: Path
    respondent: str
    samples: int
    swap: bool
    shard: str | None
    asked: dict[str, int]
    """Persona to number of requests, those of the shard where there is one."""
    answered: dict[str, int]
    """Persona to number of these with a final reply."""
    counts: dict[str, dict[str, int]]
    """Persona to status to number of replies, every status of `STATUSES`; those to other shards' requests included."""
    damaged: int
    """Records that do not match their checksum, and are not counted here."""
    cut_short: bool
    """Whether the journal's file is damaged, so that only the replies before the damage are counted."""
    spending: Spending | None
    """None where the journal's file is damaged."""
    order_effect: OrderEffect | None
    """None where no record has valid replies in both orders."""
    sample_agreement: float | None
    """Probability that two samples of the same request, drawn at random, agree; mean over the requests with two valid
    samples or more, None where there are none."""
    against_majority: dict[str, float | None]
    """Persona to the share of questions on which its answer is not the most frequent one of the other personas; over those
    with a valid answer and such a majority, None where there are none."""
    pairwise: dict[str, float | None]
    """Persona to its mean, over the other personas, of the share of questions that they answer differently."""
    latency_s: dict[float, float]
    """Quantile to seconds, over the replies that took time."""
    servers: dict[str, str]
    ways: dict[str, str]
    """Server to how it is asked, in words, for those that have settled."""
    system_as_user: bool
    """Whether portraits are in the user's message, by the respondent's settings."""
    choices: int
    """Replies to a constrained choice."""
    constrained: int
    """Those of them with option probabilities, which are then probabilities under the constraint."""
    contradicted: int
    """Replies whose text names another option than their log-probabilities favour: they have no probabilities."""
    models: dict[str, int]
    """Names that servers gave their model, to number of replies."""
    unfinished: Unfinished | None
    """Batches at the provider, and the requests in them; None where the journal's file is damaged."""
    elsewhere: tuple[tuple[str, int], ...]
    """Runs merged into this one that wait for batches, and how many of this one's requests are in them."""
    examples: tuple[Example, ...]

    def table(self) -> str:
        """All of it as text."""
        return "\n\n".join("\n".join(part) for part in self._parts() if part)

    def _parts(self) -> Iterator[list[str]]:
        asked, answered = sum(self.asked.values()), sum(self.answered.values())
        command = command_for(self.path)
        how = f"{self.samples} samples" if self.samples > 1 else "1 sample"
        how += ", both orders" if self.swap else ", one order"
        how += f", shard {self.shard}" if self.shard else ""
        share = f"{answered / asked:.1%}" if asked else "none"
        head = [
            f"{self.path}: {self.respondent}; {how}. The answers are simulated.",
            f"{answered:,} of {asked:,} requests have a final reply ({share}).",
        ]
        if self.unfinished and self.unfinished.requests:
            head.append(
                f"{self.unfinished.requests:,} requests are in {self.unfinished.batches:,} batches at the provider. "
                f"`{command} --batch` collects them."
            )
        head += [
            f"{count:,} requests are in batches of {part}, which was merged into this run. Once that has collected them, "
            "merge it again."
            for part, count in self.elsewhere
        ]
        if self.damaged:
            head.append(f"{self.damaged:,} damaged records are not counted. `{command}` asks them again.")
        if self.cut_short:
            head.append(
                f"The journal's file is damaged: only the replies before the damage are counted. `{command}` saves what can "
                "be read and asks the rest."
            )
        yield head
        yield [self._personas()]
        yield self._figures()
        yield [_shown(example) for example in self.examples]

    def _personas(self) -> str:
        shown = [status for status in STATUSES if status == "ok" or any(row[status] for row in self.counts.values())]
        differs = any(share is not None for share in self.against_majority.values())
        rows = [["persona", "answered", *shown, *(["against majority", "pairwise"] if differs else [])]]
        for persona, counts in self.counts.items():
            row = [
                persona,
                f"{self.answered[persona]:,}/{self.asked[persona]:,}",
                *(f"{counts[name]:,}" for name in shown),
            ]
            if differs:
                row += [_percent(self.against_majority[persona]), _percent(self.pairwise[persona])]
            rows.append(row)
        return in_columns(rows)

    def _figures(self) -> list[str]:
        spent = self.spending
        lines = []
        if spent and (spent.input_tokens or spent.output_tokens or spent.unpriced):
            cost = known_cost(spent)
            price = "at unknown cost" if cost is None else dollars(cost)
            more = f" and {spent.unpriced:,} replies of unknown price" if spent.unpriced and cost is not None else ""
            lines.append(
                f"Spent: {price}{more}; {spent.input_tokens:,} input and {spent.output_tokens:,} output tokens, "
                f"in {spent.replies:,} replies that were ever received.{on_clamped(spent.clamped)}"
            )
        if self.swap:
            effect = self.order_effect
            lines.append(
                "Order of options: no record has valid replies in both orders yet."
                if effect is None
                else f"Order of options: P(listed first) - P(listed second) is {effect.gap:+.3f} on average, and the answer "
                f"changes with the order in {_percent(effect.changed)} of {effect.records:,} records."
            )
        if self.samples > 1:
            lines.append(f"Samples: two of the same request agree in {_percent(self.sample_agreement)}.")
        if self.latency_s:
            times = ", ".join(f"{seconds:.2f} s ({quantile:.0%})" for quantile, seconds in self.latency_s.items())
            lines.append(f"Latency: {times}.")
        lines += [f"Server: {server} ({name})" for name, server in self.servers.items()]
        lines += [f"Asked at {server} ({self.respondent}): {way}." for server, way in self.ways.items()]
        if self.system_as_user:
            lines.append("Portraits: at the beginning of the user's message, without a system message.")
        if self.choices:
            replies = sum(sum(row.values()) for row in self.counts.values())
            lines.append(
                f"Constrained choices: {self.choices:,} of {replies:,} replies; {self.constrained:,} have probabilities "
                "under a constrained choice."
            )
        if self.contradicted:
            lines.append(
                f"Contradictions: {self.contradicted:,} replies name another option than their log-probabilities favour; "
                "they have no probabilities."
            )
        lines += [f"Model by its server: {model} ({count:,} replies)" for model, count in self.models.items()]
        return lines


def overview(run: str | Path, *, examples: int = 3) -> Overview:
    """Look at a run, finished or not, also while another process writes it.

    Args:
        run: a directory that `generate` has written, or is writing.
        examples: how many replies to show, of each status.

    Returns:
        `Overview`.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: its set-up was interrupted, or `examples` is negative.
        OSError: nothing in its journal can be read.
    """
    if examples < 0:
        raise ValueError(f"--examples must be at least 0; got {examples}.")
    run = Path(run)
    manifest = manifest_of(run)
    personas = list(manifest["personas"]["portraits"])
    samples, orders = manifest["samples"], 1 + manifest["swap"]
    each = manifest["requests"]["count"] // len(personas)
    with Journal(run, read_only=True) as journal, journal.snapshot() as connection:
        check_set_up(run, journal, manifest)
        asked = _asked(journal, manifest["shard"], len(personas) * each)
        read = _read(journal)
        shown = _examples(journal, read, examples)
        spending, unfinished, elsewhere = None, None, []
        try:
            spending, unfinished, elsewhere = journal.spending(), unfinished_in(connection), journal.elsewhere()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            read = read._replace(cut_short=True)
    persona = read.position // each
    counts = np.zeros((len(personas), len(STATUSES)), np.int64)
    np.add.at(counts, (persona, read.status), 1)
    final = asked[read.position] & (read.status != STATUSES.index("failed"))
    cell = read.position // samples
    record, _, answer, _ = combine_replies(
        read.position // (samples * orders),
        read.status,
        read.answer,
        read.probabilities,
        orders=orders,
        samples=samples,
    )
    answers = np.full(len(personas) * (each // (samples * orders)), NO_ANSWER)
    answers[record] = answer
    against, pairwise = _disagreement(answers.reshape(len(personas), -1))
    time = read.latency_s[read.latency_s > 0]
    return Overview(
        path=run,
        respondent=manifest["respondent"]["name"],
        samples=samples,
        swap=manifest["swap"],
        shard=manifest["shard"],
        asked=dict(zip(personas, asked.reshape(len(personas), each).sum(axis=1).tolist(), strict=True)),
        answered=dict(zip(personas, np.bincount(persona[final], minlength=len(personas)).tolist(), strict=True)),
        counts={
            name: dict(zip(STATUSES, row, strict=True)) for name, row in zip(personas, counts.tolist(), strict=True)
        },
        damaged=read.damaged,
        cut_short=read.cut_short,
        spending=spending,
        order_effect=_order_effect(cell, read, len(asked) // samples, samples) if manifest["swap"] else None,
        sample_agreement=_sample_agreement(cell, read, len(asked) // samples) if samples > 1 else None,
        against_majority=dict(zip(personas, against, strict=True)),
        pairwise=dict(zip(personas, pairwise, strict=True)),
        latency_s=dict(zip(_QUANTILES, np.quantile(time, _QUANTILES).tolist(), strict=True)) if len(time) else {},
        servers=manifest["servers"],
        ways=_ways(manifest),
        system_as_user=bool(manifest["respondent"]["settings"].get("system_as_user")),
        choices=read.choices,
        constrained=read.constrained,
        contradicted=read.contradicted,
        models=read.models,
        unfinished=unfinished,
        elsewhere=tuple(elsewhere),
        examples=shown,
    )


class _Replies(NamedTuple):
    """The n intact replies that could be read, in order."""

    position: NDArray[np.int64]
    status: NDArray[np.int64]
    answer: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    models: dict[str, int]
    choices: int
    constrained: int
    contradicted: int
    damaged: int
    cut_short: bool


def _read(journal: Journal) -> _Replies:
    cut_short = False
    models: Counter[str] = Counter()
    choices = constrained = contradicted = 0

    def readable() -> Iterator[list[tuple[Any, ...]]]:
        nonlocal cut_short
        try:
            yield from journal.rows(*ANSWER_COLUMNS, "latency_s", _MODEL, _ASKED, _CONTRADICTED)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            cut_short = True

    def convert(rows: list[tuple[Any, ...]]) -> tuple[NDArray[Any], ...]:
        nonlocal choices, constrained, contradicted
        models.update(row[-3] for row in rows if isinstance(row[-3], str))
        arrays = answer_arrays([row[:-4] for row in rows])
        is_choice = np.array([row[-2] == "choice" for row in rows], bool)
        contradicted += sum(bool(row[-1]) for row in rows)
        choices += int(is_choice.sum())
        constrained += int((is_choice & ~np.isnan(arrays[-1]).any(axis=1)).sum())
        return *arrays, np.array([row[-4] for row in rows], np.float64)

    parts, damaged = intact_parts(readable(), convert)
    columns = zip(*(parts or [convert([])]), strict=True)
    position, status, answer, probabilities, latency_s = (np.concatenate(column) for column in columns)
    names = dict(models.most_common())
    return _Replies(
        position,
        status,
        answer,
        probabilities,
        latency_s,
        names,
        choices,
        constrained,
        contradicted,
        damaged,
        cut_short,
    )


def _ways(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {server: way.words() for server, facts in ways_in(manifest).items() if (way := Way.of(facts)) is not None}


def _asked(journal: Journal, shard: str | None, count: int) -> NDArray[np.bool_]:
    """Which requests the run asks."""
    if shard is None:
        return np.ones(count, bool)
    part = parse_shard(shard)
    return np.fromiter((part.has(request.key) for request in journal.requests()), bool, count)


def _examples(journal: Journal, read: _Replies, number: int) -> tuple[Example, ...]:
    """Of each status some replies by chance, the same ones every time."""
    chosen: list[int] = []
    for code in range(len(STATUSES)):
        places = np.flatnonzero(read.status == code)
        drawn = np.random.default_rng(0).permutation(len(places))[:number]
        chosen += np.sort(places[drawn]).tolist()
    examples = []
    for place in chosen:
        columns = ("question_id", "persona", "swapped", "raw")
        ((row,),) = journal.rows(*columns, first=int(read.position[place]), at_most=1)
        question_id, persona, swapped, raw, _ = row
        status, answer = STATUSES[read.status[place]], int(read.answer[place])
        examples.append(Example(question_id, persona, status, answer, bool(swapped), text_of(raw)))
    return tuple(examples)


def _order_effect(cell: NDArray[np.int64], read: _Replies, orders: int, samples: int) -> OrderEffect | None:
    """Of the mean votes in either order.

    Args:
        cell: (n,), number of the record and order that each reply belongs to.
        read: the replies.
        orders: number of cells.
        samples: replies a cell.
    """
    valid = np.bincount(cell, read.status == STATUSES.index("ok"), orders)
    vote = votes(read.status, read.answer, read.probabilities, samples)
    sums = np.stack([np.bincount(cell, vote[:, option], orders) for option in range(len(OPTION_LETTERS))], axis=1)
    both = (valid.reshape(-1, 2) > 0).all(axis=1)
    if not both.any():
        return None
    mean = (sums / np.maximum(valid, 1)[:, None]).reshape(-1, 2, len(OPTION_LETTERS))[both]
    plain, swapped = mean[:, 0], mean[:, 1]
    gap = ((plain[:, 0] - plain[:, 1]) + (swapped[:, 1] - swapped[:, 0])) / 2
    clear = ~(tied(plain) | tied(swapped))
    differ = plain.argmax(axis=1) != swapped.argmax(axis=1)
    return OrderEffect(int(both.sum()), float(gap.mean()), float(differ[clear].mean()) if clear.any() else None)


def _sample_agreement(cell: NDArray[np.int64], read: _Replies, orders: int) -> float | None:
    """Of the n valid samples of a request, c_i of which answer i, two agree with sum c_i (c_i - 1) / (n (n - 1))."""
    valid = read.status == STATUSES.index("ok")
    options = len(OPTION_LETTERS)
    counts = np.bincount(cell[valid] * options + read.answer[valid], minlength=orders * options).reshape(-1, options)
    counts = counts[counts.sum(axis=1) > 1]
    number = counts.sum(axis=1)
    return float(((counts * (counts - 1)).sum(axis=1) / (number * (number - 1))).mean()) if len(counts) else None


def _disagreement(answers: NDArray[np.int64]) -> tuple[list[float | None], list[float | None]]:
    """`against_majority` and `pairwise` of each persona.

    Args:
        answers: (personas, questions), 0..2, or -1 where there is no valid answer.
    """
    chosen = answers[:, :, None] == np.arange(len(OPTION_LETTERS))
    together = chosen.sum(axis=0)
    valid = answers != NO_ANSWER
    against: list[float | None] = []
    pairwise: list[float | None] = []
    for number, own in enumerate(answers):
        others = together - chosen[number]
        first = others.max(axis=1)
        counted = valid[number] & (first > 0) & ((others == first[:, None]).sum(axis=1) == 1)
        against.append(_share((others.argmax(axis=1) != own)[counted]))
        shares = [
            _share((own != other)[valid[number] & valid[place]])
            for place, other in enumerate(answers)
            if place != number
        ]
        known = [share for share in shares if share is not None]
        pairwise.append(float(np.mean(known)) if known else None)
    return against, pairwise


def _share(which: NDArray[np.bool_]) -> float | None:
    return float(which.mean()) if len(which) else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _shown(example: Example) -> str:
    read_as = {NO_ANSWER: "", 0: ", pole A", 1: ", pole B", 2: ", option C"}[example.answer]
    order = ", shown swapped" if example.swapped else ""
    raw = "no text" if example.raw is None else repr(example.raw)
    raw = raw if len(raw) <= _LONGEST else f"{raw[: _LONGEST - 4]}...{raw[-1]}"
    return f"{example.status}{read_as}{order} ({example.persona}, {example.question_id}): {raw}"
