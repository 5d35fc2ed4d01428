import json
import random
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest
from generation_fixtures import FakeRespondent, ask, by_number, damage, not_ok, ok, personas, questions, shown_questions

from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.respondents import Reply, Request, RespondentStopped
from fairpp_hf.runs import load_run, run_fingerprint
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.layout import RunError
from fairpp_hf.runs.records import REPLY_SCHEMA, load_replies
from fairpp_hf.schema import PREFERENCE_FEATURES, STATUSES


def mixed(request: Request) -> Reply:
    """Question 1 is refused, question 3 has an answer without probabilities; the others as by number."""
    if request.question_id == "q1":
        return not_ok("refusal")
    reply = by_number(request)
    return reply._replace(probabilities=None) if request.question_id == "q3" else reply


def run_with(run: Path, respondent: FakeRespondent, table: pa.Table) -> None:
    ask(run, respondent, personas(), table)


def test_records_join_the_questions_and_keep_their_order(tmp_path: Path) -> None:
    """The oracle: the plainest loop over personas and questions."""
    table = questions(6)
    run_with(tmp_path, FakeRespondent(mixed), table)
    # A longer table in another order: the run's own order counts.
    records = load_run(tmp_path, questions(9).take([8, 2, 0, 7, 1, 5, 4, 3, 6]))
    expected = []
    for persona in ("ann", "bob"):
        for row in table.to_pylist():
            reply = mixed(Request(row["question_id"], persona, [], ("", "", "")))
            expected.append(
                {
                    **row,
                    "persona": persona,
                    "respondent": "fake:fake (simulated)",
                    "answer": reply.answer,
                    "probabilities": None if reply.probabilities is None else list(reply.probabilities),
                    "status": reply.status,
                }
            )
    assert records.to_pylist() == expected
    assert records.schema == PREFERENCE_FEATURES.arrow_schema


def random_reply(seed: int) -> Callable[[Request], Reply]:
    """Mostly valid, some with probabilities; the same for the same request."""

    def reply(request: Request) -> Reply:
        drawn = random.Random(f"{seed} {request.persona} {request.question_id} {request.swapped} {request.sample}")
        status = drawn.choice(("ok", "ok", "ok", "invalid", "refusal", "empty", "truncated", "failed"))
        if status != "ok":
            return not_ok(status)
        if drawn.random() < 0.5:
            return Reply(drawn.randrange(3), None, "ok", "?", None, 0.01)
        parts = [drawn.randrange(4) for _ in range(3)]
        total = sum(parts) or 3
        probabilities = [part / total for part in parts] if sum(parts) else [1 / 3] * 3
        return Reply(probabilities.index(max(probabilities)), (*probabilities,), "ok", "?", None, 0.01)

    return reply


def combined(replies: Sequence[tuple[bool, Reply]], samples: int) -> tuple[int, str, list[Fraction] | None]:
    """The plainest reading of the rules of `combine_replies`, in exact arithmetic: (answer, status, probabilities)."""
    of_orders, silent = [], []
    for swapped in sorted({swapped for swapped, _ in replies}):
        votes = []
        statuses = []
        for was_swapped, reply in replies:
            if was_swapped != swapped:
                continue
            statuses.append(reply.status)
            if reply.status == "ok":
                vote = [Fraction(int(option == reply.answer)) for option in range(3)]
                if samples == 1 and reply.probabilities is not None:
                    vote = [Fraction(p).limit_denominator(1000) for p in reply.probabilities]
                votes.append([vote[1], vote[0], vote[2]] if swapped else vote)
        if votes:
            of_orders.append([sum(column) / len(votes) for column in zip(*votes, strict=True)])
        else:
            silent += statuses
    if silent:
        return -1, max(STATUSES, key=lambda status: (silent.count(status), -STATUSES.index(status))), None
    mean = [sum(column) / len(of_orders) for column in zip(*of_orders, strict=True)]
    if mean.count(max(mean)) > 1:
        return -1, "invalid", mean
    return mean.index(max(mean)), "ok", mean


@pytest.mark.parametrize(("samples", "swap"), [(1, True), (2, False), (2, True), (3, True), (5, False)])
def test_several_replies_become_one_record(tmp_path: Path, samples: int, swap: bool) -> None:
    """The oracle: plain Python over the requests of each persona and question."""
    table, reply = shown_questions(40), random_reply(samples)
    ask(tmp_path, FakeRespondent(reply), personas(), table, samples=samples, swap=swap)
    records = load_run(tmp_path, table).select(["persona", "question_id", "answer", "status", "probabilities"])
    asked: dict[tuple[str, str], list[tuple[bool, Reply]]] = {}
    for request in RequestPlan(personas(), table, samples=samples, swap=swap):
        asked.setdefault((request.persona, request.question_id), []).append((request.swapped, reply(request)))
    assert len(records) == 80
    seen = set()
    for row, (of, replies) in zip(records.to_pylist(), asked.items(), strict=True):
        answer, status, probabilities = combined(replies, samples)
        assert (row["persona"], row["question_id"], row["answer"], row["status"]) == (*of, answer, status)
        assert row["probabilities"] == (
            None if probabilities is None else pytest.approx([float(p) for p in probabilities], abs=1e-6)
        )
        seen.add((status, probabilities is None))
    assert {("ok", False), ("invalid", False)} <= seen
    assert any(without for _, without in seen)


def test_samples_are_averaged_before_orders(tmp_path: Path) -> None:
    """Plain order: A twice and one refusal, so (1, 0, 0). Swapped: the letters A, B, B, which are B, A, A: (2/3, 1/3, 0).

    The mean of the orders is (5/6, 1/6, 0), whatever the number of valid samples of each.
    """

    def reply(request: Request) -> Reply:
        if request.swapped:
            return ok((0, 1, 1)[request.sample])._replace(probabilities=None)
        return not_ok("refusal") if request.sample == 2 else ok(0)._replace(probabilities=None)

    table = shown_questions(1)
    ask(tmp_path, FakeRespondent(reply), personas("ann"), table, samples=3, swap=True)
    (record,) = load_run(tmp_path, table).to_pylist()
    assert (record["answer"], record["status"]) == (0, "ok")
    assert record["probabilities"] == pytest.approx([5 / 6, 1 / 6, 0])


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("empty", "empty", "refusal"), "empty"),
        (("failed", "refusal", "invalid"), "invalid"),
        (("truncated", "failed", "failed"), "failed"),
    ],
)
def test_an_answer_in_one_order_alone_is_none(tmp_path: Path, statuses: tuple[str, ...], expected: str) -> None:
    """It would carry the bias of the options' places. Statuses that are equally frequent: the earlier of `STATUSES`."""

    def reply(request: Request) -> Reply:
        return not_ok(statuses[request.sample]) if request.swapped else ok(1)

    table = shown_questions(1)
    ask(tmp_path, FakeRespondent(reply), personas("ann"), table, samples=3, swap=True)
    (record,) = load_run(tmp_path, table).to_pylist()
    assert (record["answer"], record["status"], record["probabilities"]) == (-1, expected, None)


def test_a_record_needs_all_of_its_replies(tmp_path: Path) -> None:
    def stops(request: Request) -> Reply:
        if (request.persona, request.question_id, request.swapped) == ("bob", "q1", True):
            raise RespondentStopped("No more.")
        return by_number(request)

    table = shown_questions(3)
    with pytest.raises(RespondentStopped):
        ask(tmp_path, FakeRespondent(stops), personas(), table, swap=True)
    assert load_run(tmp_path, table).select(["persona", "question_id"]).to_pylist() == [
        {"persona": persona, "question_id": f"q{number}"}
        for persona, number in (("ann", 0), ("ann", 1), ("ann", 2), ("bob", 0))
    ]
    assert len(load_replies(tmp_path)) == 9


# --- Replies ---


def test_replies_are_the_requests_in_order_with_pole_a_first(tmp_path: Path) -> None:
    table, reply = shown_questions(8), random_reply(1)
    ask(tmp_path, FakeRespondent(reply), personas(), table, samples=2, swap=True)
    expected = []
    for request in RequestPlan(personas(), table, samples=2, swap=True):
        made = reply(request)
        answer, probabilities = made.answer, made.probabilities
        if request.swapped:
            answer = {0: 1, 1: 0}.get(answer, answer)
            probabilities = probabilities and (probabilities[1], probabilities[0], probabilities[2])
        expected.append(
            {
                **{"question_id": request.question_id, "persona": request.persona, "sample": request.sample},
                **{"swapped": request.swapped, "status": made.status, "answer": answer, "raw": made.raw},
                "probabilities": None if probabilities is None else list(probabilities),
                **{"usage": None, "detail": None, "latency_s": 0.01, "cost_usd": None},
            }
        )
    replies = load_replies(tmp_path)
    assert replies.schema == REPLY_SCHEMA
    assert replies.drop(["created_at"]).select(list(expected[0])).to_pylist() == expected
    assert time.time() - 60 < min(replies["created_at"].to_pylist()) <= max(replies["created_at"].to_pylist())


def test_replies_keep_what_came_with_them(tmp_path: Path) -> None:
    def reply(request: Request) -> Reply:
        raw = {"q0": "lone \ud800 surrogate", "q1": "NUL \x00 \u202b 😀\r\n", "q2": None}[request.question_id]
        return ok(0)._replace(raw=raw, usage={"prompt_tokens": 3}, detail={"model": "m", "error": "\ud800"})

    ask(tmp_path, FakeRespondent(reply), personas("ann"), questions(3))
    with Journal(tmp_path) as journal:
        (key,) = [request for request in journal.requests() if request.question_id == "q2"]
        with journal.transaction() as connection:
            connection.execute("UPDATE replies SET cost_usd = 0.25 WHERE key = ?", (key.key,))
    replies = load_replies(tmp_path, questions(3))
    assert replies["raw"].to_pylist() == ["lone \ufffd\ufffd\ufffd surrogate", "NUL \x00 \u202b 😀\r\n", None]
    assert replies["usage"].to_pylist() == ['{"prompt_tokens": 3}'] * 3
    assert [json.loads(detail) for detail in replies["detail"].to_pylist()] == [{"model": "m", "error": "\ud800"}] * 3
    assert replies["cost_usd"].to_pylist() == [None, None, 0.25]


def test_no_reply_is_an_empty_table(tmp_path: Path) -> None:
    def stops(request: Request) -> Reply:
        raise RespondentStopped("No key.")

    for options in ({}, {"samples": 2, "swap": True}):
        with pytest.raises(RespondentStopped):
            ask(tmp_path, FakeRespondent(stops), personas(), shown_questions(2), **options)
        assert load_replies(tmp_path).equals(REPLY_SCHEMA.empty_table())
        records = load_run(tmp_path, shown_questions(2))
        assert (len(records), records.schema) == (0, PREFERENCE_FEATURES.arrow_schema)


# --- What is refused ---


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    seen = []

    def looks(request: Request) -> Reply:
        if request.persona == "bob" and not seen:
            seen.append(len(load_run(tmp_path, table)))
        return by_number(request)

    table = questions(4)
    run_with(tmp_path, FakeRespondent(looks), table)
    assert seen[0] <= 4
    assert len(load_run(tmp_path, table)) == 8


def test_the_fingerprint_changes_with_the_answers_and_only_then(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run_with(first, FakeRespondent(mixed), questions(4))
    run_with(second, FakeRespondent(mixed), questions(4))
    before = run_fingerprint(first)
    assert run_fingerprint(second) == before  # other times, other places, same answers
    run_with(first, FakeRespondent(), questions(4))
    assert run_fingerprint(first) == before  # nothing was asked
    others = [run_fingerprint(first)]
    run_with(first, FakeRespondent(mixed), questions(5))
    others.append(run_fingerprint(first))
    run_with(first, FakeRespondent(mixed, model="other"), questions(4))
    others.append(run_fingerprint(first))
    run_with(second, FakeRespondent(model="third"), questions(4))
    others.append(run_fingerprint(second))
    assert len(set(others)) == 4


@pytest.mark.parametrize("read", [load_run, run_fingerprint])
def test_what_is_no_run_is_named(tmp_path: Path, read) -> None:
    with pytest.raises(FileNotFoundError) as error:
        read(tmp_path)
    assert str(error.value) == (
        "run must be a directory that `fairpp generate` or `fairpp scenarios` has written; got "
        f"{tmp_path} without manifest.json."
    )
    with pytest.raises(FileNotFoundError, match="which is no directory"):
        read(tmp_path / "missing")


@pytest.mark.parametrize(
    ("table", "got"),
    [
        (questions(3), "unknown ones such as 'q3'"),
        (questions(4).set_column(14, "prompt", pa.array(["Other?"] * 4)), "another wording"),
    ],
)
def test_other_questions_than_those_asked_are_refused(tmp_path: Path, table: pa.Table, got: str) -> None:
    run_with(tmp_path, FakeRespondent(), questions(4))
    with pytest.raises(ValueError, match="must be those of this table") as error:
        load_run(tmp_path, table)
    assert str(error.value) == (
        f"A run's questions must be those of this table; got {got} in {tmp_path}. The answers belong to what was asked. "
        "Pass the table that the run asked as `questions`."
    )


def test_an_interrupted_set_up_is_told(tmp_path: Path) -> None:
    """Killed after the journal had the new requests and before the manifest was written."""
    run_with(tmp_path, FakeRespondent(), questions(4))
    with Journal(tmp_path) as journal:
        journal.set_requests([AskedRequest("key", "q0", "ann")], "other digest")
    for read in (load_run, run_fingerprint):
        with pytest.raises(RunError, match="must be of the same requests") as error:
            read(tmp_path)
        assert error.value.run == tmp_path
    respondent = FakeRespondent()
    run_with(tmp_path, respondent, questions(4))
    assert respondent.asked == []
    assert len(load_run(tmp_path, questions(4))) == 8


def test_damaged_records_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_with(tmp_path, FakeRespondent(), questions(4))
    damage(tmp_path)
    assert len(load_run(tmp_path, questions(4))) == 6
    assert caplog.messages == [f"2 damaged records of {tmp_path} are left out. Continuing the run asks them again."]


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    run_with(tmp_path, FakeRespondent(lambda r: by_number(r)._replace(raw="x" * 3000)), questions(50))
    path = tmp_path / "journal.sqlite"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(OSError, match="The journal must be a sound SQLite file"):
        load_run(tmp_path, questions(50))
