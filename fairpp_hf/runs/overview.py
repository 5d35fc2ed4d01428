"""What a run has, at a glance: progress, statuses, money, and how much the personas disagree."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.respondents.ladder import Way
from fairpp_hf.runs.journal import Asked, Unfinished, served_model_in
from fairpp_hf.runs.layout import command_for
from fairpp_hf.runs.manifest import ways_in
from fairpp_hf.runs.records import open_run, read_replies, records_of
from fairpp_hf.runs.shards import parse_shard
from fairpp_hf.runs.spending import Spending
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, STATUSES
from fairpp_hf.statistics.options import first_choices
from fairpp_hf.text_table import in_columns

_QUANTILES = (0.5, 0.9, 0.99)
_READ = (
    "position",
    "question_id",
    "persona",
    "swapped",
    "status",
    "answer",
    "probabilities",
    "raw",
    "detail",
    "latency_s",
)
# Characters of a reply that the table shows.
_LONGEST = 200


class Example(NamedTuple):
    """A reply, to be looked at."""

    question_id: str
    persona: str
    status: str
    answer: int
    """0..2 with A for pole A, or -1."""
    swapped: bool
    raw: str | None


class Overview(NamedTuple):
    """What a run has; all answers are simulated."""

    path: Path
    manifest: dict[str, Any]
    asked: dict[str, int]
    """Persona to number of requests, those of the shard where there is one."""
    answered: dict[str, int]
    """Persona to number of these with a final reply."""
    counts: dict[str, dict[str, int]]
    """Persona to status to number of replies, every status of `STATUSES`; those to other shards' requests included."""
    damaged: int
    """Records that do not match their checksum, and are not counted here."""
    spending: Spending
    against_majority: dict[str, float | None]
    """Persona to the share of questions on which its answer is not the most frequent one of the other personas; over those
    with a valid answer and such a majority, None where there are none."""
    pairwise: dict[str, float | None]
    """Persona to its mean, over the other personas, of the share of questions that they answer differently."""
    latency_s: dict[float, float]
    """Quantile to seconds, over the replies that took time."""
    asked_how: Asked
    contradicted: int
    """Replies whose text names another option than their log-probabilities favour: they have no probabilities."""
    models: dict[str, int]
    """Names that servers gave their model, to number of replies."""
    unfinished: Unfinished
    """Batches at the provider, and the requests in them."""
    elsewhere: tuple[tuple[str, int], ...]
    """Runs merged into this one that wait for batches, and how many of this one's requests are in them."""
    examples: tuple[Example, ...]

    def table(self) -> str:
        """All of it as text."""
        return "\n\n".join("\n".join(part) for part in self._parts() if part)

    def _parts(self) -> Iterator[list[str]]:
        asked, answered = sum(self.asked.values()), sum(self.answered.values())
        samples, shard = self.manifest["samples"], self.manifest["shard"]
        how = f"{samples} samples" if samples > 1 else "1 sample"
        how += ", both orders" if self.manifest["swap"] else ", one order"
        how += f", shard {shard}" if shard else ""
        share = f"{answered / asked:.1%}" if asked else "none"
        head = [
            f"{self.path}: {self.manifest['respondent']['name']}; {how}. The answers are simulated.",
            f"{answered:,} of {asked:,} requests have a final reply ({share}).",
        ]
        if self.unfinished.requests:
            head.append(
                f"{self.unfinished.requests:,} requests are in {self.unfinished.batches:,} batches at the provider. "
                f"`{command_for(self.path)} --batch` collects them."
            )
        head += [
            f"{count:,} requests are in batches of {part}, which was merged into this run. Once that has collected them, "
            "merge it again."
            for part, count in self.elsewhere
        ]
        if self.damaged:
            head.append(
                f"{self.damaged:,} damaged records are not counted. `{command_for(self.path)}` asks them again."
            )
        yield head
        yield [self._personas()]
        yield list(self._figures())
        yield [_shown(example) for example in self.examples]

    def _personas(self) -> str:
        shown = [status for status in STATUSES if status == "ok" or any(row[status] for row in self.counts.values())]
        differs = any(share is not None for share in self.against_majority.values())
        rows = [["persona", "answered", *shown, *(["against majority", "pairwise"] if differs else [])]]
        for persona, counts in self.counts.items():
            row = [persona, f"{self.answered[persona]:,}/{self.asked[persona]:,}"]
            row += [f"{counts[name]:,}" for name in shown]
            if differs:
                row += [_percent(self.against_majority[persona]), _percent(self.pairwise[persona])]
            rows.append(row)
        return in_columns(rows)

    def _figures(self) -> Iterator[str]:
        if spent := self.spending.words():
            yield f"Spent: {spent}"
        if self.manifest["swap"] or self.manifest["samples"] > 1:
            yield f"`fairpp quality --run {self.path} --out DIR` says how far the answers vary by order and sample."
        if self.latency_s:
            times = ", ".join(f"{seconds:.2f} s ({quantile:.0%})" for quantile, seconds in self.latency_s.items())
            yield f"Latency: {times}."
        yield from (f"Server: {server} ({name})" for name, server in self.manifest["servers"].items())
        for server, facts in ways_in(self.manifest).items():
            if way := Way.of(facts):
                yield f"Asked at {server} ({self.manifest['respondent']['name']}): {way.words()}."
        if self.asked_how.choices:
            replies = sum(sum(row.values()) for row in self.counts.values())
            yield (
                f"Constrained choices: {self.asked_how.choices:,} of {replies:,} replies; "
                f"{self.asked_how.constrained_probabilities:,} have probabilities under a constrained choice."
            )
        if self.contradicted:
            yield (
                f"Contradictions: {self.contradicted:,} replies name another option than their log-probabilities favour; "
                "they have no probabilities."
            )
        yield from (f"Model by its server: {model} ({count:,} replies)" for model, count in self.models.items())


def overview(run: str | Path, *, examples: int = 3) -> Overview:
    """Look at a run, finished or not, also while another process writes it.

    Args:
        run: Directory that `generate` has written, or is writing.
        examples: How many replies to show, of each status.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: Its set-up was interrupted, or `examples` is negative.
        OSError: Its journal is damaged.
    """
    if examples < 0:
        raise ValueError(f"examples must be at least 0; got {examples}.")
    run = Path(run)
    with open_run(run) as (journal, manifest):
        shard = parse_shard(manifest["shard"]) if manifest["shard"] else None
        mine = np.array([shard is None or shard.has(request.key) for request in journal.requests()], bool)
        replies, damaged = read_replies(journal, _READ)
        spending, unfinished, elsewhere = journal.spending(), journal.unfinished(), journal.elsewhere()
        asked = journal.asked()
    personas = list(manifest["personas"]["portraits"])
    frame = replies.select(["persona", "status"]).to_pandas()
    final = mine[replies["position"].to_numpy()] & (frame["status"] != "failed").to_numpy()
    counts = pd.crosstab(frame["persona"], frame["status"]).reindex(index=personas, columns=STATUSES, fill_value=0)
    answered = frame["persona"][final].value_counts().reindex(personas, fill_value=0)
    record, _, answer, _ = records_of(replies, manifest)
    answers = np.full(len(mine) // (manifest["samples"] * (1 + manifest["swap"])), NO_ANSWER)
    answers[record] = answer
    against, pairwise = (
        {persona: None if np.isnan(share) else share for persona, share in zip(personas, shares.tolist(), strict=True)}
        for shares in _disagreement(answers.reshape(len(personas), -1))
    )
    latency = replies["latency_s"].to_numpy()
    latency = latency[latency > 0]
    details = [json.loads(detail) if detail else {} for detail in replies["detail"].to_pylist()]
    models = Counter(model for detail in details if (model := served_model_in(detail)))
    return Overview(
        path=run,
        manifest=manifest,
        asked=dict(zip(personas, mine.reshape(len(personas), -1).sum(axis=1).tolist(), strict=True)),
        answered=answered.to_dict(),
        counts=counts.to_dict("index"),
        damaged=damaged,
        spending=spending,
        against_majority=against,
        pairwise=pairwise,
        latency_s=dict(zip(_QUANTILES, np.quantile(latency, _QUANTILES).tolist(), strict=True)) if len(latency) else {},
        asked_how=asked,
        contradicted=sum(bool(detail.get("contradicted")) for detail in details),
        models=dict(models.most_common()),
        unfinished=unfinished,
        elsewhere=tuple(elsewhere),
        examples=_examples(replies, examples),
    )


def _examples(replies: pa.Table, number: int) -> tuple[Example, ...]:
    """Some replies of each status by chance, the same ones every time."""
    statuses = np.array(replies["status"].to_pylist())
    chosen: list[int] = []
    for status in STATUSES:
        places = np.flatnonzero(statuses == status)
        chosen += sorted(np.random.default_rng(0).permutation(places)[:number].tolist())
    rows = replies.select(list(Example._fields)).take(pa.array(chosen, pa.int64()))
    return tuple(Example(**row) for row in rows.to_pylist())


def _disagreement(answers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`against_majority` and `pairwise` of each persona, NaN where there is none.

    Args:
        answers: (personas, questions). 0..K-1, or -1 where there is no valid answer.
    """
    chosen = (answers[:, :, None] == np.arange(len(OPTION_LETTERS))).astype(float)
    valid = (answers != NO_ANSWER).astype(float)
    majority = first_choices(chosen.sum(axis=0) - chosen)
    counted = (answers != NO_ANSWER) & (majority != NO_ANSWER)
    both = valid @ valid.T
    same = np.einsum("pqk,rqk->pr", chosen, chosen)
    others = (both > 0) & ~np.eye(len(answers), dtype=bool)
    with np.errstate(invalid="ignore"):
        against = ((answers != majority) & counted).sum(axis=1) / counted.sum(axis=1)
        pairwise = np.where(others, 1 - same / both, 0.0).sum(axis=1) / others.sum(axis=1)
    return against, pairwise


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _shown(example: Example) -> str:
    read_as = {NO_ANSWER: "", 0: ", pole A", 1: ", pole B", 2: ", option C"}[example.answer]
    order = ", shown swapped" if example.swapped else ""
    raw = "no text" if example.raw is None else repr(example.raw)
    raw = raw if len(raw) <= _LONGEST else f"{raw[: _LONGEST - 4]}...{raw[-1]}"
    return f"{example.status}{read_as}{order} ({example.persona}, {example.question_id}): {raw}"
