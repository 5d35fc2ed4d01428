"""The faults that a run must survive, as a user meets them: `fairpp generate`, the real client, a server that counts.

1, a kill at any moment, is in test_killed.py; 2, a kill around a batch, in batch/test_faults.py; 3, a storm of 429, in
tests/respondents/test_openai_faults.py; 13, two processes, in tests/cli/test_generate_command.py.
"""

import json
import resource
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from generation_fixtures import replies_in
from killed_processes import forkserver
from loopback_openai import Call, LoopbackServer, Served, letter_by_hash

from fairpp_hf.cli import main
from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.respondents import OpenAIRespondent
from fairpp_hf.runs import load_run

LIMIT = 5
PERSONAS = load_personas()
REQUESTS = len(PERSONAS.ids) * LIMIT
QUESTIONS = load_questions("test").take(pa.array(sample_questions(load_questions("test"), LIMIT)))


def command(run: Path, server: LoopbackServer, **options: object) -> list[str]:
    given = {"limit": LIMIT, "split": "test", "model": "m", "concurrency": 4, **options}
    words = ["generate", "--run", str(run), "--respondent", "openai", "--base-url", server.base_url]
    return words + [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def persona_file(folder: Path, changed: int | None = None, added: str = "") -> Path:
    """The default personas in a file of one's own, a text added to the portrait of one."""
    record = {name: value for name, value in PERSONAS.as_dict().items() if name != "id"}
    if changed is not None:
        record["personas"][changed]["portrait"] += added
    path = folder / "mine.json"
    path.write_text(json.dumps(record))
    return path


def is_question(call: Call, number: int) -> bool:
    return call.user == QUESTIONS["prompt"][number].as_py()


def bought(server: LoopbackServer) -> Counter[int]:
    """How many prompts were bought how often."""
    return Counter(server.calls.values())


@pytest.mark.parametrize(
    ("served", "rule"),
    [
        (Served(status=401, error={"message": "Bad key."}), "The server must accept the key"),
        (Served(status=403, error={"message": "No access for you."}), "The key must be allowed to use the model"),
        (
            Served(status=429, error={"message": "Pay first.", "code": "insufficient_quota"}),
            "The account must have quota left",
        ),
    ],
    ids=["401", "403", "quota"],
)
def test_fault_4_what_no_retry_mends_stops_at_once_and_nothing_is_lost(
    tmp_path: Path, served: Served, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackServer(lambda call: served if server.completed >= 10 else Served("B")) as server:
        assert main(command(tmp_path / "run", server)) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"fairpp generate: {rule}; got {served.status}")
        assert "The same command or call continues." in error
        kept = len(load_run(tmp_path / "run"))
        assert 10 <= kept <= server.total <= kept + 4
        refused = server.total - kept
        server.answer = lambda call: Served("B")
        assert main(command(tmp_path / "run", server)) == 0
        assert server.total == REQUESTS + refused


@pytest.mark.parametrize("fault", [Served(status=500), Served(status=503), Served(drop=True), Served("A", delay_s=0.6)])
def test_fault_5_a_row_that_keeps_failing_is_marked_and_a_resume_asks_it_again(
    tmp_path: Path, fault: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(call: Call) -> Served:
        return (
            fault if is_question(call, 2) and call.system == PERSONAS.get("loyal_nationals").portrait else Served("C")
        )

    def ask(server: LoopbackServer) -> Counter[str]:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=2, max_retries=1, timeout_s=0.3)
        generate(tmp_path / "run", respondent, PERSONAS, QUESTIONS, RunOptions(progress=False))
        return Counter(load_run(tmp_path / "run")["status"].to_pylist())

    with LoopbackServer(answer) as server:
        assert ask(server) == {"ok": REQUESTS - 1, "failed": 1}
        assert bought(server) == {1: REQUESTS - 1, 2: 1}
        server.answer = lambda call: Served("C")
        assert ask(server) == {"ok": REQUESTS}
        assert bought(server) == {1: REQUESTS - 1, 3: 1}


def test_fault_6_prose_and_json_are_read_the_raw_is_kept_and_reading_again_costs_nothing(tmp_path: Path) -> None:
    texts = [
        '```json\n{"answer": "B"}\n```',
        "I would choose option B.",
        '{"answer": ',
        "B or perhaps A",
        "**B**: yes",
    ]

    def answer(call: Call) -> Served:
        return Served(next(text for number, text in enumerate(texts) if is_question(call, number)))

    with LoopbackServer(answer) as server:
        assert main(command(tmp_path / "run", server)) == 0
        table = load_run(tmp_path / "run")
        assert table["status"].to_pylist() == ["ok", "ok", "invalid", "invalid", "ok"] * 7
        # A parser of before, which knew less, would have left this in the journal.
        with sqlite3.connect(tmp_path / "run" / "journal.sqlite") as journal:
            assert {raw for (raw,) in journal.execute("SELECT raw FROM replies")} == set(texts)
        assert main(["parse", "--run", str(tmp_path / "run")]) == 0
        assert load_run(tmp_path / "run") == table
        assert server.total == REQUESTS


def test_fault_7_empty_replies_are_asked_again_a_few_times_and_are_never_an_answer(tmp_path: Path) -> None:
    def answer(call: Call) -> Served:
        if is_question(call, 0):
            return Served("")
        return Served("" if is_question(call, 1) and call.number == 0 else "A")

    with LoopbackServer(answer) as server:
        assert main(command(tmp_path / "run", server)) == 0
        table = load_run(tmp_path / "run")
        assert table["status"].to_pylist() == ["empty", "ok", "ok", "ok", "ok"] * 7
        assert table["answer"].to_pylist() == [-1, 0, 0, 0, 0] * 7
        assert bought(server) == {3: 7, 2: 7, 1: 21}
        assert main(command(tmp_path / "run", server)) == 0
        assert bought(server) == {3: 7, 2: 7, 1: 21}


FINAL = [
    (8, Served(None, refusal="I cannot."), "refusal"),
    (8, Served("B", finish_reason="content_filter"), "refusal"),
    (8, Served(status=400, error={"message": "Flagged.", "code": "content_filter"}), "refusal"),
    (9, Served("On balance I", finish_reason="length"), "truncated"),  # and once with more room
    (10, Served("D"), "invalid"),
    (10, Served("A and B"), "invalid"),
    (10, Served("Neither A nor B"), "invalid"),
]


@pytest.mark.parametrize(("number", "served", "status"), FINAL)
def test_faults_8_9_10_have_statuses_of_their_own_are_counted_and_not_bought_again(
    tmp_path: Path, number: int, served: Served, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    who = PERSONAS.get("civic_pragmatists")

    def answer(call: Call) -> Served:
        return served if call.system == who.portrait else Served("A")

    with LoopbackServer(answer) as server:
        for _ in range(2):
            assert main(command(tmp_path / "run", server)) == 0
            twice = LIMIT if number == 9 else 0
            assert bought(server) == Counter({1: REQUESTS - twice, 2: twice})
    printed = capsys.readouterr().out.splitlines()
    assert ["persona", "ok", status] in [line.split() for line in printed]
    assert [who.id, "0", str(LIMIT)] in [line.split() for line in printed]
    table = load_run(tmp_path / "run").to_pylist()
    assert {(row["status"], row["answer"]) for row in table if row["persona"] == who.id} == {(status, -1)}


def tear(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size * 2 // 3 // 4096 * 4096)


def flip(journal: Path) -> None:
    with sqlite3.connect(journal) as connection:
        connection.execute("UPDATE replies SET answer = 2 - answer WHERE rowid % 7 = 0 AND answer <> 1")


@pytest.mark.parametrize("damage", [tear, flip], ids=["cut short", "changed records"])
def test_fault_11_a_damaged_journal_costs_its_damaged_records_alone(
    tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(call: Call) -> Served:
        letter = letter_by_hash(call).content or ""
        return Served(f"{letter}. {'Because. ' * 40}")

    with LoopbackServer(answer) as server:
        assert main(command(tmp_path / "run", server, limit=20)) == 0
        whole = load_run(tmp_path / "run")
        damage(tmp_path / "run" / "journal.sqlite")
        server.reset()
        assert main(command(tmp_path / "run", server, limit=20)) == 0
        again = server.total
        assert load_run(tmp_path / "run") == whole
    assert 0 < again < len(whole)
    assert f"{again:,} asked, {len(whole) - again:,} kept from before" in capsys.readouterr().out


def on_a_full_disk(words: Sequence[str], log: Path) -> None:
    """What a process does that cannot write more than 450 kB into a file; its error output goes into `log`."""
    sys.stderr = log.open("w", buffering=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (450_000, 450_000))
    raise SystemExit(main(words))


def test_fault_12_a_full_disk_stops_before_the_next_call_and_what_was_there_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: SQLite gets an error from the system as it would there."""

    def answer(call: Call) -> Served:
        return Served(f"A. {'Because. ' * 500}")

    with LoopbackServer(answer) as server:
        words = command(tmp_path / "run", server, limit=20)
        full = forkserver().Process(target=on_a_full_disk, args=(words, tmp_path / "log"))
        full.start()
        full.join(timeout=60)
        errors = (tmp_path / "log").read_text()
        assert full.exitcode == 1, errors
        assert "The journal must be writable; got " in errors
        assert "Earlier replies are kept." in errors
        assert "Traceback" not in errors
        kept = len(load_run(tmp_path / "run"))
        calls = server.total
        assert 10 < kept <= calls <= kept + 2 * 4
        assert main(words) == 0
        assert server.total == 140 + calls - kept


def test_fault_14_a_changed_persona_or_model_is_asked_anew_never_mixed_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = persona_file(tmp_path)
    with LoopbackServer() as server:
        assert main(command(tmp_path / "run", server, personas=file)) == 0
        persona_file(tmp_path, 1, " You are in a hurry today.")
        assert main(command(tmp_path / "run", server, personas=file)) == 0
        assert server.total == REQUESTS + LIMIT
        assert f"changed portraits: {PERSONAS.ids[1]}." in caplog.text
        assert main(command(tmp_path / "run", server, personas=file, model="n")) == 0
        assert server.total == 2 * REQUESTS + LIMIT
        assert "model 'm' -> 'n'" in caplog.text
    expected = [
        "ABC".index(letter_by_hash(Call(persona.portrait, prompt, 0, {})).content or "")
        for persona in load_personas(file)
        for prompt in QUESTIONS["prompt"].to_pylist()
    ]
    table = load_run(tmp_path / "run")
    assert table["answer"].to_pylist() == expected
    assert set(table["respondent"].to_pylist()) == {"openai:n (simulated)"}


def test_fault_15_duplicate_ids_cost_one_call_or_are_an_error_that_lists_them(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        twice = pa.concat_tables([QUESTIONS, QUESTIONS.slice(1, 2)])
        assert generate(tmp_path / "run", respondent, PERSONAS, twice, RunOptions(progress=False)).asked == REQUESTS
        prompt = pa.chunked_array([[f"{text} Please." for text in twice["prompt"].to_pylist()]])
        other = twice.set_column(twice.column_names.index("prompt"), "prompt", prompt)
        first, second = QUESTIONS["question_id"].to_pylist()[1:3]
        with pytest.raises(ValueError, match="question_id must be unique") as error:
            generate(
                tmp_path / "other",
                respondent,
                PERSONAS,
                pa.concat_tables([QUESTIONS, other.slice(LIMIT)]),
                RunOptions(progress=False),
            )
        assert f"{first!r}, {second!r}" in str(error.value)
        assert server.total == REQUESTS
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"personas": "britains_choise_2020"}, "Did you mean 'britains_choice_2020'?"),
        ({"limit": 0}, "--limit must be at least 1; got 0."),
        ({"personas": "empty.json"}, "empty.json"),
    ],
)
def test_fault_16_bad_input_is_named_before_any_call(
    tmp_path: Path,
    options: dict[str, object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    record = json.loads(persona_file(tmp_path).read_text())
    Path("empty.json").write_text(json.dumps({**record, "personas": []}))
    with LoopbackServer() as server:
        assert main(command(tmp_path / "run", server, **options)) == 1
        assert message in capsys.readouterr().err
        assert server.total == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["prompt", "option_b"])
def test_fault_16_a_missing_column_or_value_is_named_before_any_call(tmp_path: Path, name: str) -> None:
    with LoopbackServer() as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        for table, message in (
            (QUESTIONS.drop_columns([name]).append_column(f"{name}s", QUESTIONS[name]), f"Did you mean '{name}s'?"),
            (QUESTIONS.slice(0, 0), "A run must ask at least one question; got none."),
        ):
            with pytest.raises(ValueError, match=r"\w") as error:
                generate(tmp_path / "run", respondent, PERSONAS, table, RunOptions(progress=False))
            assert message in str(error.value)
        assert server.total == 0
    assert list(tmp_path.iterdir()) == []


STRANGE = ["🙂‍↔️ نعم، الخيار B", "line one\r\nline two\r\n", "nul \x00 inside", "lone \ud83d surrogate", "\u202eA\u202c"]


def test_fault_19_every_character_comes_back_as_it_was(tmp_path: Path) -> None:
    def answer(call: Call) -> Served:
        return Served(next(text for number, text in enumerate(STRANGE) if is_question(call, number)))

    with LoopbackServer(answer) as server:
        assert main(command(tmp_path / "run", server)) == 0
        assert server.total == REQUESTS
    from fairpp_hf.runs.journal import Journal

    with Journal(tmp_path / "run", read_only=True) as journal:
        assert Counter(reply.raw for _, reply in replies_in(journal)) == dict.fromkeys(STRANGE, 7)


def test_fault_19_what_cannot_be_sent_is_rejected_with_its_id(tmp_path: Path) -> None:
    prompts = QUESTIONS["prompt"].to_pylist()
    strange = [f"{prompts[0]} 🙂‍↔️ \u202eنص\u202c \r\n\x00", *prompts[1:]]
    table = QUESTIONS.set_column(QUESTIONS.column_names.index("prompt"), "prompt", pa.array(strange))
    with LoopbackServer() as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        generate(tmp_path / "run", respondent, PERSONAS, table, RunOptions(progress=False))
        assert {user for _, user in server.calls} == set(strange)
        file = persona_file(tmp_path, 2, " A lone \ud83d surrogate.")
        server.reset()
        with pytest.raises(ValueError, match=PERSONAS.ids[2]):
            generate(tmp_path / "other", respondent, load_personas(file), table, RunOptions(progress=False))
        assert server.total == 0
