"""`fairpp export`."""

import argparse
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from published_tables import write_published
from small_runs import make_run

from fairpp_hf.cli import export
from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings, preference_weights
from fairpp_hf.preferences.exports import kto_rows, reward_rows, sft_rows

TARGET = "loyal_nationals"


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def command(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return export.run(parser.parse_args(list(map(str, arguments))))


def exported(out: Path) -> dict[str, list[dict]]:
    loaded = load_dataset(str(out), cache_dir=str(out.parent / "cache"))
    return {split: rows.to_list() for split, rows in loaded.items()}


def refused(message: str):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    ("form", "export_rows"),
    [
        ("dpo", lambda pairs: pairs),
        ("kto", kto_rows),
        ("reward", lambda pairs: reward_rows(pairs, 6)),
        ("sft", sft_rows),
    ],
)
def test_rows_are_made_of_the_pairs_that_load_dataset_gives(form, export_rows, run_path, tmp_path) -> None:
    options = {"weighting": "tier_from_zero", "alpha": 0.5, "beta": 2.0}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert (
        command("--format", form, "--target", TARGET, "--answers", run_path, "--out", tmp_path / "out", *arguments) == 0
    )
    pairs = load_dataset("fairpp", "pairs", target=TARGET, answers=run_path, cache_dir=str(tmp_path / "c"), **options)
    expected = {split: export_rows(rows.with_format("arrow")[:]).to_pylist() for split, rows in pairs.items()}
    assert exported(tmp_path / "out") == expected


def test_it_ends_with_a_table_and_with_what_to_do_next(run_path, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("--format", "kto", "--target", TARGET, "--answers", run_path, "--out", "data/kto") == 0
    printed = capsys.readouterr().out.splitlines()
    matrix = load_answers(run_path).matrix()[TARGET]
    asked, left_out = int((matrix >= 0).sum()), int((matrix < 0).sum())
    *cells, card = [re.split(r" {2,}", line.strip()) for line in printed[:4]]
    assert card[0] == "data/kto/README.md"
    assert cells[0] == ["config", "split", "rows", "file", "size"]
    assert [row[:2] for row in cells[1:]] == [["default", "train"], ["default", "test"]]
    assert [row[3] for row in cells[1:]] == ["data/kto/train.parquet", "data/kto/test.parquet"]
    assert sum(int(row[2]) for row in cells[1:]) == 3 * asked
    assert printed[4:] == [
        "Answers: known (simulated). All of them are simulated; nobody was asked.",
        "Licence of the answers: cc-by-4.0.",
        f"{left_out} of 40 questions have no valid answer of {TARGET} and give no pair.",
        'Load it with: load_dataset("./data/kto")',
        "Train with trl.KTOTrainer and KTOConfig(desirable_weight=2.0): there are two undesirable texts to each desirable "
        "one. It does not use the weights.",
    ]
    assert left_out > 0
    loaded = eval(printed[-2].removeprefix("Load it with: "), {"load_dataset": load_dataset})
    assert {split: f"{len(rows)}" for split, rows in loaded.items()} == {row[1]: row[2] for row in cells[1:]}
    record = json.loads(Path("data/kto/fairpp_export.json").read_text("utf-8"))
    assert {name: record[name] for name in ("format", "target", "pairs", "heldout")} == {
        "format": "kto",
        "target": TARGET,
        "pairs": PairSettings().as_dict(),
        "heldout": None,
    }
    assert (record["provenance"]["kind"], record["provenance"]["respondents"]) == ("model", ["known (simulated)"])
    assert record["personas"] == list(load_personas().ids)
    assert record["provenance"]["persona_set"] == load_personas().as_dict()


@pytest.mark.parametrize("labels", ["respondent", "fitted"])
def test_soft_labels(labels, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    options = ("--labels", labels, "--divergence", "0.5", "--heldout", "topics")
    assert command("--format", "dpo", "--target", TARGET, "--out", out, *options) == 0
    printed = capsys.readouterr().out
    recorded = json.loads((out / "fairpp_export.json").read_text("utf-8"))["label_model"]
    assert (f"Label model: {recorded}." in printed) == (labels == "fitted")
    assert (recorded is None) == (labels == "respondent")
    assert "ReweightedDPOConfig(soft_labels=True, reference='none')" in printed
    pairs = load_dataset(
        "fairpp", "pairs", target=TARGET, labels=labels, divergence=0.5, heldout="topics", split="test[:50]"
    )
    loaded = load_dataset(str(out), split="test[:50]", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == pairs.features
    assert loaded.to_list() == pairs.to_list()


def test_margins_follow_the_comparison(run_path, tmp_path) -> None:
    """With one comparison persona, a margin is 0 or 1, and 0 with the nearest, whose answers are the same in this run. With
    two, whoever is named twice counts once; here both differ, and only one where the other did not answer."""
    two = ("civic_pragmatists", "backbone_conservatives", "civic_pragmatists")
    expected = {("nearest",): {0.0}, ("civic_pragmatists",): {0.0, 1.0}, two: {0.5, 1.0}}
    for number, (comparison, margins) in enumerate(expected.items()):
        out = tmp_path / f"{number}"
        arguments = ("--format", "reward", "--target", TARGET, "--answers", run_path, "--out", out)
        assert command(*arguments, "--comparison", *comparison) == 0
        assert {row["margin"] for row in exported(out)["train"]} == margins


# -- the wide table ----------------------------------------------------------------------------------------------------


def test_the_wide_table_reads_back_as_the_answers_it_was_made_of(run_path, tmp_path) -> None:
    out = tmp_path / "out"
    assert command("--format", "wide", "--answers", run_path, "--out", out) == 0
    answers, again = load_answers(run_path), load_answers(out)
    assert again.questions.equals(answers.questions)
    assert (again.is_test == answers.is_test).all()
    assert again.personas == answers.personas
    assert again.respondents == answers.respondents
    for persona, column in answers.matrix().items():
        assert (again.matrix()[persona] == column).all()
    assert -1 in answers.matrix()[TARGET]
    rows = exported(out)["train"]
    assert not {"Tier", "weight"} & set(rows[0])
    # Reading it back and writing it again comes to the same table.
    assert command("--format", "wide", "--answers", out, "--out", tmp_path / "again") == 0
    assert exported(tmp_path / "again") == exported(out)


def test_raw_replies_come_back_as_they_were(tmp_path) -> None:
    """From a table in the published shape, whose replies count before the answers beside them."""
    published, out = write_published(tmp_path / "published"), tmp_path / "out"
    assert command("--format", "wide", "--answers", published, "--out", out) == 0
    answers, again = load_answers(published), load_answers(out)
    assert again.questions.equals(answers.questions)
    assert list(again.records) == list(answers.records)
    for persona, records in answers.records.items():
        assert {*records["status"].to_pylist()} == {"ok", "invalid", "refusal", "empty"}
        assert again.records[persona].select(records.column_names).equals(records)


def test_the_wide_table_has_tiers_and_weights_of_a_target(run_path, tmp_path) -> None:
    """Tiers count from 0 in it, and are missing where the target has no answer."""
    out = tmp_path / "out"
    arguments = ("--format", "wide", "--answers", run_path, "--out", out)
    assert command(*arguments, "--target", TARGET, "--weighting", "surprisal") == 0
    answers = load_answers(run_path)
    shares = {persona.id: persona.share for persona in load_personas()}
    tier, weight = preference_weights(answers.matrix(), TARGET, scheme="surprisal", shares=shares)
    for split, of_split in (("train", ~answers.is_test), ("test", answers.is_test)):
        rows = exported(out)[split]
        assert [row["Tier"] for row in rows] == [None if number == 0 else number - 1 for number in tier[of_split]]
        assert [row["weight"] for row in rows] == [
            None if number == 0 else value for number, value in zip(tier[of_split], weight[of_split], strict=True)
        ]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--format", "kto"], "--target must be given with --format kto; got none."),
        (["--format", "wide", "--alpha", "2"], "--alpha must be left out without --target; got 2.0."),
        (
            ["--format", "sft", "--target", TARGET, "--labels", "fitted"],
            "--labels must be answers with --format sft; got",
        ),
        (["--format", "sft", "--target", TARGET, "--published-revision", "v1"], "got 'v1' with answers='survey'."),
    ],
)
def test_arguments_without_effect_are_refused(arguments, named, tmp_path) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        command(*arguments, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_wide_table_has_one_respondent(run_path, tmp_path) -> None:
    """The columns are named after it."""
    (tmp_path / "two" / "preferences").mkdir(parents=True)
    for number, table in enumerate(load_answers(run_path).preferences("train")):
        name = pa.repeat(pa.scalar(f"model {number % 2} (simulated)"), len(table))
        renamed = table.set_column(table.column_names.index("respondent"), "respondent", name)
        pq.write_table(renamed, tmp_path / "two" / "preferences" / f"train-{number}.parquet")
    with refused(
        "The answers must be of one respondent for a wide table; got 'model 0 (simulated)', 'model 1 (simulated)'. The "
        "columns have its name. Export each respondent's run on its own."
    ):
        command("--format", "wide", "--answers", tmp_path / "two", "--out", tmp_path / "out")
