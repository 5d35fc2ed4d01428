import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from generation_fixtures import FakeRespondent, by_number, not_ok, personas, questions

from fairpp_hf.generation import generate, load_run, run_fingerprint
from fairpp_hf.generation.journal import AskedRequest, Journal
from fairpp_hf.respondents import Reply, Request, RespondentStopped
from fairpp_hf.schema import PREFERENCE_FEATURES


def mixed(request: Request) -> Reply:
    """Question 1 is refused, question 3 has an answer without probabilities; the others as by number."""
    if request.question_id == "q1":
        return not_ok("refusal")
    reply = by_number(request)
    return reply._replace(probabilities=None) if request.question_id == "q3" else reply


def run_with(run: Path, respondent: FakeRespondent, table: pa.Table) -> None:
    generate(run, respondent, personas(), table, progress=False)


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


def test_requests_without_a_reply_have_no_row(tmp_path: Path) -> None:
    def stops(request: Request) -> Reply:
        if (request.persona, request.question_id) == ("bob", "q1"):
            raise RespondentStopped("No more.")
        return by_number(request)

    table = questions(3)
    with pytest.raises(RespondentStopped):
        run_with(tmp_path, FakeRespondent(stops), table)
    records = load_run(tmp_path, table)
    assert list(zip(records["persona"].to_pylist(), records["question_id"].to_pylist(), strict=True)) == [
        ("ann", "q0"),
        ("ann", "q1"),
        ("ann", "q2"),
        ("bob", "q0"),
    ]


def test_a_run_without_any_reply_is_an_empty_table(tmp_path: Path) -> None:
    def stops(request: Request) -> Reply:
        raise RespondentStopped("No key.")

    with pytest.raises(RespondentStopped):
        run_with(tmp_path, FakeRespondent(stops), questions(3))
    records = load_run(tmp_path, questions(3))
    assert len(records) == 0
    assert records.schema == PREFERENCE_FEATURES.arrow_schema


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


def test_probabilities_are_float32_lists_or_null(tmp_path: Path) -> None:
    run_with(tmp_path, FakeRespondent(mixed), questions(6))
    column = load_run(tmp_path, questions(6))["probabilities"].combine_chunks()
    assert column.null_count == 4
    assert column.type == pa.list_(pa.float32())
    np.testing.assert_allclose(np.array(column.drop_null().to_pylist()).sum(axis=1), 1.0, rtol=1e-6)


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
        f"run must be a directory that `fairpp generate` has written; got {tmp_path} without manifest.json. "
        f"Run `fairpp generate --run {tmp_path} --respondent ...` first."
    )
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as error:
        read(missing)
    assert str(error.value) == (
        f"run must be a directory that `fairpp generate` has written; got {missing}, which is no directory. "
        f"Run `fairpp generate --run {missing} --respondent ...` first."
    )


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
        "Pass the table that the run asked as `questions`, or run `fairpp generate` on it again."
    )


def test_an_interrupted_set_up_is_told(tmp_path: Path) -> None:
    """Killed after the journal had the new requests and before the manifest was written."""
    run_with(tmp_path, FakeRespondent(), questions(4))
    with Journal(tmp_path) as journal:
        journal.set_requests([AskedRequest("key", "q0", "ann")], "other digest")
    for read in (load_run, run_fingerprint):
        with pytest.raises(ValueError, match="same requests") as error:
            read(tmp_path)
        assert str(error.value) == (
            f"A run's journal and manifest must be of the same requests; got different ones in {tmp_path}. "
            "`fairpp generate` was cut short while it set the run up. Run it again."
        )
    respondent = FakeRespondent()
    run_with(tmp_path, respondent, questions(4))
    assert respondent.asked == []
    assert len(load_run(tmp_path, questions(4))) == 8


def test_damaged_records_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_with(tmp_path, FakeRespondent(), questions(4))
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        connection.execute("UPDATE replies SET answer = (answer + 1) % 3 WHERE question_id = 'q0'")
    connection.close()
    assert len(load_run(tmp_path, questions(4))) == 6
    assert caplog.messages == [
        f"2 damaged records of {tmp_path} are left out. Run `fairpp generate` on this run again to ask them."
    ]


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    run_with(tmp_path, FakeRespondent(lambda r: by_number(r)._replace(raw="x" * 3000)), questions(50))
    path = tmp_path / "journal.sqlite"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(
        OSError, match=r"The journal must be a sound SQLite file; got .* Run `fairpp generate` on this run"
    ):
        load_run(tmp_path, questions(50))
