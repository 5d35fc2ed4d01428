import random
from collections import Counter
from pathlib import Path

import pytest
from generation_fixtures import FakeRespondent, ask, by_number, damage, not_ok, ok, personas, questions, shown_questions

from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.respondents import Reply, Request, RespondentStopped
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.overview import Example, overview
from fairpp_hf.runs.shards import Shard


def vote(answer: int, *probabilities: float) -> Reply:
    return Reply(answer, probabilities or None, "ok", "ABC"[answer], None, 0.01)


def test_a_run_at_a_glance(tmp_path: Path) -> None:
    """Ann, Bob and Cat: Cat always says C, the others the same; one of them refuses question 4."""

    def reply(request: Request) -> Reply:
        number = int(request.question_id[1:])
        if (request.persona, number) == ("bob", 4):
            return not_ok("refusal")
        answer = 2 if request.persona == "cat" else number % 2
        usage = {"prompt_tokens": 10, "completion_tokens": 1}
        return vote(answer)._replace(usage=usage, detail={"model": "m-1"}, latency_s=0.1 * (number + 1))

    ask(tmp_path, FakeRespondent(reply), personas("ann", "bob", "cat"), questions(5))
    found = overview(tmp_path, examples=1)
    assert found.asked == found.answered == {"ann": 5, "bob": 5, "cat": 5}
    assert found.counts["bob"] == {"ok": 4, "invalid": 0, "refusal": 1, "empty": 0, "truncated": 0, "failed": 0}
    # Ann against Bob and Cat: they differ on q0 to q3, so that only q4 has a majority: Cat's.
    assert found.against_majority == {"ann": 1.0, "bob": None, "cat": 1.0}
    # Ann and Bob agree on four questions, each differs from Cat on all.
    assert found.pairwise == {"ann": 0.5, "bob": 0.5, "cat": 1.0}
    # Of 15 in order, 0.01, then three each of 0.1 to 0.4, then two of 0.5: places 7, 12.6 and 13.86 from 0.
    assert found.latency_s == pytest.approx({0.5: 0.3, 0.9: 0.46, 0.99: 0.5})
    assert found.table() == (
        f"{tmp_path}: fake:fake (simulated); 1 sample, one order. The answers are simulated.\n"
        "15 of 15 requests have a final reply (100.0%).\n"
        "\n"
        "persona  answered  ok  refusal  against majority  pairwise\n"
        "ann           5/5   5        0            100.0%     50.0%\n"
        "bob           5/5   4        1                 -     50.0%\n"
        "cat           5/5   5        0            100.0%    100.0%\n"
        "\n"
        "Spent: unknown cost; 140 input and 14 output tokens, in 15 replies that were ever received.\n"
        "Latency: 0.30 s (50%), 0.46 s (90%), 0.50 s (99%).\n"
        "Model by its server: m-1 (14 replies)\n"
        "\n"
        f"{_line(found.examples[0])}\n"
        "refusal (bob, q4): 'raw refusal'"
    )


def _line(example: Example) -> str:
    pole = ("pole A", "pole B", "option C")[example.answer]
    return f"ok, {pole} ({example.persona}, {example.question_id}): {example.raw!r}"


def random_reply(request: Request) -> Reply:
    drawn = random.Random(f"{request.persona} {request.question_id} {request.swapped} {request.sample}")
    status = drawn.choice(("ok", "ok", "ok", "ok", "invalid", "failed"))
    if status != "ok":
        return not_ok(status)
    answer = drawn.randrange(3)
    return vote(answer) if drawn.random() < 0.5 else ok(answer)


def plain_disagreement(answers: dict[str, list[int]], persona: str) -> tuple[float, float]:
    """The plainest reading of `against_majority` and `pairwise`."""
    others = {name: row for name, row in answers.items() if name != persona}
    differs = []
    for number, own in enumerate(answers[persona]):
        counts = Counter(row[number] for row in others.values() if row[number] != -1).most_common()
        if own != -1 and counts and (len(counts) == 1 or counts[0][1] > counts[1][1]):
            differs.append(counts[0][0] != own)
    shares = []
    for row in others.values():
        both = [(a, b) for a, b in zip(answers[persona], row, strict=True) if a != -1 and b != -1]
        shares.append(sum(a != b for a, b in both) / len(both))
    return sum(differs) / len(differs), sum(shares) / len(shares)


def test_disagreement_of_a_random_run(tmp_path: Path) -> None:
    who, table = personas("ann", "bob", "cat", "dan"), questions(30)
    ask(tmp_path, FakeRespondent(random_reply), who, table)
    found = overview(tmp_path)
    answers: dict[str, list[int]] = {}
    for request in RequestPlan(who, table):
        answers.setdefault(request.persona, []).append(random_reply(request).answer)
    for persona in answers:
        assert (found.against_majority[persona], found.pairwise[persona]) == pytest.approx(
            plain_disagreement(answers, persona)
        )


def test_a_run_that_is_being_written_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    seen = []

    def looks(request: Request) -> Reply:
        if request.persona == "bob" and not seen:
            seen.append(overview(tmp_path))
        return by_number(request)

    ask(tmp_path, FakeRespondent(looks), personas(), questions(4))
    assert seen[0].asked == {"ann": 4, "bob": 4}
    assert seen[0].answered["bob"] == 0
    assert overview(tmp_path).answered == {"ann": 4, "bob": 4}


@pytest.mark.parametrize("options", [{}, {"samples": 2, "swap": True}])
def test_a_run_without_any_reply_is_shown(tmp_path: Path, options: dict) -> None:
    def stops(request: Request) -> Reply:
        raise RespondentStopped("No key.")

    with pytest.raises(RespondentStopped):
        ask(tmp_path, FakeRespondent(stops), personas(), shown_questions(2), **options)
    found = overview(tmp_path)
    assert (found.answered, found.examples) == ({"ann": 0, "bob": 0}, ())
    assert found.table().startswith(f"{tmp_path}: fake:fake (simulated); ")
    assert ("fairpp quality" in found.table()) == bool(options)


def test_a_shard_counts_what_is_its_own(tmp_path: Path) -> None:
    shard = Shard(1, 3)
    ask(tmp_path, FakeRespondent(), personas(), questions(20), shard=shard)
    keys = RequestPlan(personas(), questions(20)).keys(FakeRespondent().settings)
    own = [shard.has(key) for key in keys]
    found = overview(tmp_path)
    assert found.asked == found.answered == {"ann": sum(own[:20]), "bob": sum(own[20:])}
    assert f"; 1 sample, one order, shard 1/3. The answers are simulated.\n{sum(own)} of {sum(own)} " in found.table()


def test_replies_that_never_came_and_replies_without_tokens_are_told_apart(tmp_path: Path) -> None:
    """Of five requests two had tokens, two a reply without any, and one no reply."""

    def reply(request: Request) -> Reply:
        number = int(request.question_id[1:])
        if number == 4:
            return not_ok("failed")._replace(raw=None, detail={"error": "refused"})
        usage = {"prompt_tokens": 10, "completion_tokens": 1} if number < 2 else None
        return ok(0)._replace(usage=usage, detail={"finish_reason": "stop"})

    ask(tmp_path, FakeRespondent(reply), personas("ann"), questions(5))
    assert ("\nSpent: unknown cost; 20 input and 2 output tokens, in 4 replies that were ever received.\n") in overview(
        tmp_path
    ).table()
    with Journal(tmp_path) as journal, journal.transaction() as connection:
        connection.execute("UPDATE replies SET cost_usd = 1.5 WHERE usage IS NOT NULL")
    assert "\nSpent: $3.00 and 2 replies of unknown price; 20 input" in overview(tmp_path).table()


def test_damaged_records_are_counted(tmp_path: Path) -> None:
    ask(tmp_path, FakeRespondent(), personas(), questions(4))
    damage(tmp_path)
    found = overview(tmp_path)
    assert (found.damaged, found.answered) == (2, {"ann": 3, "bob": 3})
    assert (
        f"\n2 damaged records are not counted. `fairpp generate --run {tmp_path}` asks them again.\n" in found.table()
    )


def test_examples_are_of_every_status_and_show_odd_characters(tmp_path: Path) -> None:
    raws = ["\u202bB\u202c", "lone \ud800", "line\nbreak", "x" * 300]

    def reply(request: Request) -> Reply:
        number = int(request.question_id[1:])
        return by_number(request) if number < 20 else not_ok("invalid")._replace(raw=raws[number % 4])

    ask(tmp_path, FakeRespondent(reply), personas("ann"), questions(24))
    found = overview(tmp_path, examples=4)
    assert Counter(example.status for example in found.examples) == {"ok": 4, "invalid": 4}
    assert overview(tmp_path, examples=4).examples == found.examples
    lines = found.table().splitlines()[-4:]
    assert lines == [
        r"invalid (ann, q20): '\u202bB\u202c'",
        "invalid (ann, q21): 'lone \ufffd\ufffd\ufffd'",
        r"invalid (ann, q22): 'line\nbreak'",
        f"invalid (ann, q23): '{'x' * 195}...'",
    ]
    assert overview(tmp_path, examples=0).examples == ()


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run must be a directory that"):
        overview(tmp_path)
    with pytest.raises(ValueError, match="examples must be at least 0; got -1"):
        overview(tmp_path, examples=-1)
