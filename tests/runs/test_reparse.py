from pathlib import Path

import pyarrow.parquet as pq
import pytest
from generation_fixtures import (
    FakeRespondent,
    ask,
    by_number,
    damage,
    not_ok,
    personas,
    questions,
    replies_in,
    shown_questions,
    transactions_at_most,
)
from loopback_openai import Call, LoopbackServer, Served

from fairpp_hf.respondents import OpenAIRespondent, Reply, Request, reading
from fairpp_hf.runs import load_run
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.overview import overview
from fairpp_hf.runs.records import load_replies
from fairpp_hf.runs.reparse import ParseSummary, parse_run

QUESTIONS = shown_questions(6)


class ApiRespondent(FakeRespondent):
    """Its replies are those of a model over an API: `fairpp parse` reads them."""

    def __init__(self, *args, **more) -> None:
        super().__init__(*args, **more)
        self.settings = {**self.settings, "kind": "openai"}


def by_question(call: Call) -> Served:
    """One reply of each kind, by the number of the question."""
    letters = (("A", -0.5), ("B", -1.5), ("C", -2.5))
    return (
        Served("A", first_token=letters),
        Served("**Option_a 1.**"),
        Served("Let me think, first of all", finish_reason="length"),
        Served(None, refusal="I cannot say."),
        Served("B"),
        Served("Neither."),
    )[int(call.user[len("Prompt ")])]


def no_rules(raw: str, *_: object) -> reading.Reading:
    return reading.Reading(-1, "invalid" if raw else "empty")


def test_replies_read_by_bad_rules_are_read_again_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle: the same run under the right rules from the start."""
    with LoopbackServer(by_question) as server:
        for name in ("right", "wrong"):
            respondent = OpenAIRespondent("m", base_url=server.base_url, api_key="key")
            if name == "wrong":
                monkeypatch.setattr(reading, "_read", no_rules)
            ask(tmp_path / name, respondent, personas(), QUESTIONS, swap=True)
        monkeypatch.undo()
        calls = server.total
        expected = load_run(tmp_path / "right", QUESTIONS)
        wrong = load_run(tmp_path / "wrong", QUESTIONS)
        assert set(wrong["answer"].to_pylist()) == {-1}

        # Of six questions in two orders, for two personas: "A" to q0, option_a to q1 (A, or B where swapped), "B" to q4.
        changed = {("invalid", "ok A"): 6, ("invalid", "ok B"): 6}
        read = parse_run(tmp_path / "wrong", QUESTIONS, dry_run=True)
        before = {"invalid": 16, "truncated": 4, "refusal": 4}
        now = {"ok A": 6, "ok B": 6, "truncated": 4, "refusal": 4, "invalid": 4}
        assert read == ParseSummary(24, changed, before, now, left_alone=0, damaged=0)
        assert load_run(tmp_path / "wrong", QUESTIONS).equals(wrong)
        assert parse_run(tmp_path / "wrong", QUESTIONS) == read
        assert load_run(tmp_path / "wrong", QUESTIONS).equals(expected)
        assert parse_run(tmp_path / "wrong", QUESTIONS) == ParseSummary(24, {}, now, now, 0, 0)
        assert server.total == calls
    decided = ("status", "answer", "probabilities", "raw")
    assert load_replies(tmp_path / "wrong").select(decided).equals(load_replies(tmp_path / "right").select(decided))
    # The records' checksums hold: nothing is asked again.
    with Journal(tmp_path / "wrong") as journal:
        assert (journal.set_aside, journal.pending()) == (0, [])


def test_failed_replies_and_those_without_a_text_are_left_alone(tmp_path: Path) -> None:
    def mixed(request: Request) -> Reply:
        number = int(request.question_id[1:])
        if number == 0:
            return not_ok("failed")._replace(raw="A")
        if number == 1:
            return not_ok("refusal")._replace(raw=None)
        return by_number(request)._replace(probabilities=None)

    ask(tmp_path, ApiRespondent(mixed), personas(), QUESTIONS)
    counts = {"ok A": 3, "ok B": 2, "ok C": 3}
    assert parse_run(tmp_path, QUESTIONS) == ParseSummary(8, {}, counts, counts, left_alone=4, damaged=0)


def test_probabilities_follow_what_came_with_the_text(tmp_path: Path) -> None:
    """Those of the fixture came from nowhere: the detail has none."""
    ask(tmp_path, ApiRespondent(by_number), personas("ann"), QUESTIONS)
    summary = parse_run(tmp_path, QUESTIONS)
    assert summary.changed == {(f"ok {letter}", f"ok {letter}, now without probabilities"): 2 for letter in "ABC"}
    records = load_run(tmp_path, QUESTIONS)
    assert records["probabilities"].null_count == 6
    assert records["answer"].to_pylist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("raw", ["B \ud800", "B\x00", "\u202bB\u202c 😀"])
def test_odd_characters_stay_as_they_came(tmp_path: Path, raw: str) -> None:
    """A record that was read anew still matches its checksum, so that what was paid for is not asked again."""
    reply = not_ok("empty")._replace(raw=raw)
    ask(tmp_path, ApiRespondent(lambda _: reply), personas("ann"), QUESTIONS)
    assert parse_run(tmp_path, QUESTIONS).changed
    with Journal(tmp_path) as journal:
        assert (journal.set_aside, journal.pending()) == (0, [])
        replies = [reply for _, reply in replies_in(journal)]
    assert {reply.raw for reply in replies} == {raw}
    assert {reply.status for reply in replies} == {reading.read_text(raw, None, ("a", "b", "c"))[2]}


def test_replies_to_earlier_requests_stay_as_they_are(tmp_path: Path) -> None:
    ask(tmp_path, ApiRespondent(by_number), personas("ann"), QUESTIONS)
    ask(tmp_path, ApiRespondent(by_number, model="other"), personas("ann"), QUESTIONS)
    assert parse_run(tmp_path, QUESTIONS).read == 6
    with Journal(tmp_path, read_only=True) as journal:
        assert sum(reply.probabilities is None for _, reply in replies_in(journal)) == 6


def test_damaged_records_are_counted_and_set_aside(tmp_path: Path) -> None:
    ask(tmp_path, ApiRespondent(by_number), personas("ann"), QUESTIONS)
    damage(tmp_path, "raw = 'C'")
    for dry_run in (True, False):
        summary = parse_run(tmp_path, QUESTIONS, dry_run=dry_run)
        assert (summary.read, summary.damaged) == (5, 1)
    with Journal(tmp_path) as journal:
        assert journal.pending() == [0]


def test_a_parse_that_is_killed_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairpp_hf.runs.journal._ROWS_AT_ONCE", 2)
    monkeypatch.setattr(reading, "_read", no_rules)
    respondent = ApiRespondent(lambda _: not_ok("invalid")._replace(raw="A"))
    ask(tmp_path, respondent, personas("ann"), QUESTIONS)
    monkeypatch.setattr(reading, "_read", lambda *_: reading.Reading(0, "ok"))
    with transactions_at_most(1):
        parse_run(tmp_path, QUESTIONS)
    assert load_run(tmp_path, QUESTIONS)["answer"].to_pylist() == [0, 0, -1, -1, -1, -1]
    assert parse_run(tmp_path, QUESTIONS).changed == {("invalid", "ok A"): 4}


def test_a_run_of_scenarios_brings_its_questions(tmp_path: Path) -> None:
    ask(tmp_path, ApiRespondent(by_number), personas("ann"), QUESTIONS)
    pq.write_table(QUESTIONS, tmp_path / "scenarios.parquet")
    assert parse_run(tmp_path).read == 6


def test_what_cannot_be_parsed_is_refused(tmp_path: Path) -> None:
    ask(tmp_path / "fake", FakeRespondent())
    with pytest.raises(ValueError, match=r"must have asked a model over an API; got 'fake:fake \(simulated\)'"):
        parse_run(tmp_path / "fake", questions())
    ask(tmp_path / "api", ApiRespondent(), personas(), QUESTIONS)
    with pytest.raises(ValueError, match="must be those of this table"):
        parse_run(tmp_path / "api", questions())
    with RunLock(tmp_path / "api"), pytest.raises(RuntimeError, match="by one process at a time"):
        parse_run(tmp_path / "api", QUESTIONS)
    with pytest.raises(FileNotFoundError, match="run must be a directory that"):
        parse_run(tmp_path / "none")


def test_a_contradiction_is_counted_and_gone_when_the_text_is_read_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token favours A; the text says B, until it is read as A."""
    served = Served("B", first_token=(("B", -1.5), ("A", -0.5), ("C", -2.5)))
    with LoopbackServer(lambda call: served) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, api_key="key", ask="text")
        ask(tmp_path, respondent, personas("ann"), QUESTIONS)
    found = overview(tmp_path)
    assert (found.contradicted, load_run(tmp_path, QUESTIONS)["probabilities"].null_count) == (6, 6)
    assert "Contradictions: 6 replies name another option" in found.table()
    assert parse_run(tmp_path, QUESTIONS).changed == {}
    monkeypatch.setattr(reading, "_read", lambda *_: reading.Reading(0, "ok", 0))
    assert parse_run(tmp_path, QUESTIONS).changed == {("ok B", "ok A"): 6}
    assert overview(tmp_path).contradicted == 0
    assert load_run(tmp_path, QUESTIONS)["probabilities"].null_count == 0
