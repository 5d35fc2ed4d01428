"""`load_dataset("fairpp", ...)`: the contract, values against plain oracles, the cache, and every error."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset, load_dataset_builder
from published_tables import write_published, write_scenarios
from small_runs import answer_of, make_run, some_questions

import fairpp_hf.personas
from fairpp_hf.dataset import builder as builder_module
from fairpp_hf.dataset.answer_pairs import answer_pairs
from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import SCHEMES, PairSettings, WeightingFacts, preference_weights
from fairpp_hf.provenance import Provenance
from fairpp_hf.questions import HELDOUT, is_held_out, load_questions
from fairpp_hf.schema import (
    OPTION_LETTERS,
    PAIR_FEATURES,
    PREFERENCE_FEATURES,
    QUESTION_FEATURES,
    SOFT_PAIR_FEATURES,
)

TARGET = "loyal_nationals"

CONTRACT = """
import json, logging, os, sys
logging.basicConfig(stream=sys.stdout, format="LOG %(message)s")
import fairpp_hf
from datasets import load_dataset

result = {}
for directory in sys.argv[1:]:
    os.chdir(directory)
    counts = {}
    for name, arguments, options in [
        ("default", (), {}),
        ("questions", ("questions",), {}),
        ("pairs", ("pairs",), {"target": "loyal_nationals"}),
        ("run", ("pairs",), {"target": "loyal_nationals", "answers": os.environ["RUN"]}),
    ]:
        loaded = load_dataset("fairpp", *arguments, **options)
        counts[name] = {split: len(rows) for split, rows in loaded.items()}
        streamed = load_dataset("fairpp", *arguments, streaming=True, **options)
        assert {split: next(iter(rows)) for split, rows in streamed.items()} == {
            split: rows[0] for split, rows in loaded.items()
        }
    result[directory] = counts
print("RESULT", json.dumps(result))
"""


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def load(*arguments: Any, **options: Any) -> Any:
    return load_dataset("fairpp", *arguments, **options)


def test_the_contract_holds_in_a_fresh_process_from_any_directory(tmp_path: Path, run: Path) -> None:
    """22,751 and 5,669 questions; 7 times as many preferences; 2 times as many pairs; 2 for each valid answer of a run."""
    contents = {
        "empty": {},
        "junk": {"a.csv": "x\n1\n", "b.json": "{", "c.parquet": "no", "README.md": "---\nconfigs: no\n---"},
        "named": {"fairpp/train.csv": "x\n1\n", "fairpp/README.md": "text"},
    }
    for directory, files in contents.items():
        (tmp_path / directory).mkdir()
        for name, text in files.items():
            (tmp_path / directory / name).parent.mkdir(exist_ok=True)
            (tmp_path / directory / name).write_text(text)
    directories = [str(tmp_path / directory) for directory in contents]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "RUN": str(run)}
    done = subprocess.run(
        [sys.executable, "-c", CONTRACT, *directories], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    log = [line for line in done.stdout.splitlines() if line.startswith("LOG")]
    simulated, *rest = log
    assert simulated == (
        "LOG fairpp: these answers are simulated from survey figures (answers='survey'); nobody was asked. They must not be "
        "read as the views of real people."
    )
    # Of the run's pairs, in each directory: loaded and streamed.
    missing = sum(answer_of(i, TARGET) < 0 for i in some_questions()["question_id"].to_pylist())
    assert rest == [f"LOG {missing} of 40 questions have no valid answer of {TARGET} and give no pair."] * 6
    train, test = (
        2 * sum(answer_of(i, TARGET) >= 0 for i in table["question_id"].to_pylist())
        for table in (some_questions(test=0), some_questions(train=0))
    )
    expected = {
        "default": {"train": 7 * 22_751, "test": 7 * 5_669},
        "questions": {"train": 22_751, "test": 5_669},
        "pairs": {"train": 2 * 22_751, "test": 2 * 5_669},
        "run": {"train": train, "test": test},
    }
    result = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    assert result == dict.fromkeys(directories, expected)


def test_preferences_of_the_survey() -> None:
    loaded = load()
    assert loaded["train"].features == loaded["test"].features == PREFERENCE_FEATURES
    assert loaded["train"].features["answer"].names == ["A", "B", "C"]
    answers = load_answers()
    for split, rows in loaded.items():
        questions = load_questions(split)
        assert len(rows) == 7 * len(questions)
        # Persona by persona in the order of the set, questions in their order.
        assert rows["persona"][:] == [persona for persona in load_personas().ids for _ in range(len(questions))]
        third = rows.with_format("arrow")[2 * len(questions) : 3 * len(questions)]
        assert third.select(questions.column_names).equals(questions)
        in_split = answers.is_test == (split == "test")
        assert third["answer"].to_pylist() == answers.matrix()["disengaged_battlers"][in_split].tolist()
    assert set(loaded["test"]["status"][:]) == {"ok"}
    assert set(loaded["test"]["respondent"][:]) == {"survey:britains_choice_2020 (simulated)"}


def test_questions() -> None:
    loaded = load("questions")
    assert loaded["train"].features == QUESTION_FEATURES
    for split, rows in loaded.items():
        assert rows.with_format("arrow")[:].equals(load_questions(split))


def naive_pairs(run: Path, split: str, **options: Any) -> list[dict[str, Any]]:
    """Pairs of a run, one by one; the weights come from `preference_weights`, which has an oracle of its own."""
    answers = load_answers(run)
    weights = preference_weights(answers.matrix(), TARGET, fit_rows=~answers.is_test, **options)
    pairs = []
    for row, question in enumerate(answers.questions.to_pylist()):
        own = answer_of(question["question_id"], TARGET)
        if own < 0 or bool(answers.is_test[row]) != (split == "test"):
            continue
        lines = [f"{letter}. {question[f'option_{letter.lower()}']}" for letter in OPTION_LETTERS]
        pairs += [
            {
                "prompt": [{"role": "user", "content": question["prompt"]}],
                "chosen": [{"role": "assistant", "content": lines[own]}],
                "rejected": [{"role": "assistant", "content": lines[other]}],
                "weight": weights.weight[row],
                "tier": weights.tier[row],
                "question_id": question["question_id"],
                "persona": TARGET,
            }
            for other in range(3)
            if other != own
        ]
    return pairs


SHARES = {persona.id: persona.share for persona in load_personas()}


def distinguishing(facts: WeightingFacts) -> np.ndarray:
    return (facts.tier - 1) / facts.tier_count * facts.shares[0]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {}),
        (
            {"weighting": "tier_from_zero", "alpha": 2, "beta": 0.5, "comparison": ["backbone_conservatives"]},
            {"scheme": "tier_from_zero", "alpha": 2.0, "beta": 0.5, "comparison": ["backbone_conservatives"]},
        ),
        *(({"weighting": scheme}, {"scheme": scheme}) for scheme in SCHEMES if scheme != "surprisal"),
        ({"weighting": "surprisal"}, {"scheme": "surprisal", "shares": SHARES}),
        ({"weighting": distinguishing}, {"scheme": distinguishing, "shares": SHARES}),
        ({"comparison": "nearest"}, {"comparison": "nearest"}),
    ],
)
def test_pairs_are_those_of_a_plain_loop(given: dict[str, Any], meant: dict[str, Any], run: Path, cache: str) -> None:
    loaded = load("pairs", target=TARGET, answers=run, cache_dir=cache, **given)
    for split, rows in loaded.items():
        assert rows.features == PAIR_FEATURES
        assert rows.to_list() == naive_pairs(run, split, **meant)


def test_the_third_pair_comes_when_asked_for_and_depends_on_the_seed(run: Path) -> None:
    options = {"target": TARGET, "answers": run, "streaming": True, "split": "train"}
    two = list(load("pairs", **options))
    first, same, other = (list(load("pairs", random_third_pair=True, seed=seed, **options)) for seed in (0, 0, 1))
    assert len(first) == len(two) * 3 // 2
    assert [row for number, row in enumerate(first) if number % 3 < 2] == two
    assert first == same
    assert [row["chosen"] for row in first] != [row["chosen"] for row in other]


def test_options_come_in_either_order_when_asked_for(cache: str) -> None:
    written = load("pairs", target=TARGET, split="test", cache_dir=cache)
    mixed = load("pairs", target=TARGET, option_order="mixed", split="test", cache_dir=cache)
    assert written["question_id"] == mixed["question_id"]
    moved = [before != after for before, after in zip(written["prompt"], mixed["prompt"], strict=True)]
    assert 0.45 < np.mean(moved) < 0.55
    assert "in either order" in mixed.info.description
    assert "order" not in written.info.description
    with pytest.raises(ValueError, match="option_order must be one of 'written', 'mixed'"):
        load("pairs", target=TARGET, option_order="mix")


def test_soft_labels_of_the_survey_are_those_of_a_plain_loop(cache: str) -> None:
    """`soft_labels=True` is `labels="respondent"`: the pairs of `labels="answers"`, all of weight 1, and a third each."""
    options = {"target": TARGET, "split": "test", "cache_dir": cache}
    soft = load("pairs", soft_labels=True, **options)
    assert soft.features == SOFT_PAIR_FEATURES
    assert load("pairs", labels="respondent", **options).cache_files == soft.cache_files
    with_answer = soft.select([row for row in range(len(soft)) if row % 3 < 2]).remove_columns("label_probability")
    assert with_answer.to_list() == load("pairs", weighting="uniform", **options).to_list()
    preferences = load(split="test").filter(lambda persona: persona == TARGET, input_columns="persona")
    of_question = dict(zip(preferences["question_id"][:], preferences["probabilities"][:], strict=True))
    for pair in soft.select(range(0, len(soft), 7)):
        letters = pair["chosen"][0]["content"][0], pair["rejected"][0]["content"][0]
        chosen, rejected = (of_question[pair["question_id"]]["ABC".index(letter)] for letter in letters)
        assert pair["label_probability"] == pytest.approx(chosen / (chosen + rejected), rel=1e-6)


def test_fitted_labels_and_what_is_said_of_them(run: Path, cache: str, fresh_log: pytest.LogCaptureFixture) -> None:
    """The known respondent gives letters without regard to labels: the label model is the constant, and the log says so."""
    options = {"target": TARGET, "answers": run, "labels": "fitted", "divergence": 0.5}
    loaded = load("pairs", cache_dir=cache, **options)
    answers = load_answers(run)
    expected = answer_pairs(answers, TARGET, PairSettings(labels="fitted", divergence=0.5), load_personas())
    for split, rows in loaded.items():
        assert rows.features == SOFT_PAIR_FEATURES
        assert rows.with_format("arrow")[:].equals(expected.tables[split])
        assert set(rows["weight"]) == {1.0}
        assert list(load("pairs", streaming=True, split=split, **options)) == rows.to_list()
    assert "The label model is the constant." in fresh_log.text
    provenance = loaded["train"].info.description.split("\n\n")[1]
    assert expected.label_model is not None
    assert provenance == (
        f"Pairs for {TARGET}, weighting uniform, labels fitted, divergence 0.5, answers by known (simulated). Label model: "
        f"{expected.label_model.quality}."
    )


@pytest.mark.parametrize(
    ("config", "options"),
    [("questions", {}), ("preferences", {"answers": "run"}), ("pairs", {"answers": "run", "target": TARGET})],
)
def test_streaming_gives_the_same_rows(config: str, options: dict[str, Any], run: Path, cache: str) -> None:
    options = {name: run if value == "run" else value for name, value in options.items()}
    loaded = load(config, split="test", cache_dir=cache, **options)
    streamed = load(config, split="test", streaming=True, **options)
    assert streamed.features == loaded.features
    assert list(streamed) == loaded.to_list()


def test_personas_are_the_shards_of_preferences(run: Path, cache: str) -> None:
    assert load(answers=run, streaming=True, split="train").num_shards == 7
    one = load(answers=run, split="train", cache_dir=cache)
    two = load(answers=run, split="train", cache_dir=cache + "2", num_proc=2)
    assert one.to_list() == two.to_list()


def test_a_run_over_the_test_split_alone_has_only_that(tmp_path: Path, cache: str) -> None:
    """Its tiers are fitted on the test questions: there are no others."""
    run = make_run(tmp_path / "run", train=0, test=12)
    assert list(load(answers=run, cache_dir=cache)) == ["test"]
    pairs = load("pairs", answers=run, target=TARGET, cache_dir=cache)
    assert list(pairs) == ["test"]
    weights = preference_weights(load_answers(run).matrix(), TARGET)
    assert pairs["test"]["weight"][::2] == weights.weight[weights.tier > 0].tolist()


def test_a_target_without_a_valid_answer_is_refused(tmp_path: Path) -> None:
    """One question, answered -1 by the target: sum of bytes + 7 x 15 letters + version = 0 mod 4."""
    question = some_questions(train=1, test=0)["question_id"][0].as_py()
    version = next(version for version in range(4) if answer_of(question, TARGET, version) == -1)
    run = make_run(tmp_path / "run", version=version, train=1, test=0)
    message = (
        f"target must have at least one valid answer; got none of 'loyal_nationals' in '{run}'. Choose another target or "
        "other answers."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load("pairs", answers=str(run), target=TARGET)


# The cache


def test_a_second_load_comes_from_the_cache(run: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(answers=run, cache_dir=cache)

    def refuse(*_: Any) -> None:
        raise AssertionError("the answers were loaded again")

    monkeypatch.setattr(builder_module.FairPPConfig, "load", refuse)
    second = load(answers=run, cache_dir=cache)
    assert second["train"].cache_files == first["train"].cache_files
    assert second["train"]._fingerprint == first["train"]._fingerprint


def test_a_run_that_goes_on_gives_fresh_data(tmp_path: Path, cache: str) -> None:
    path = make_run(tmp_path / "run", train=2, test=0)
    before = load(answers=path, cache_dir=cache, split="train")
    make_run(path, version=1, train=2, test=0)
    after = load(answers=path, cache_dir=cache, split="train")
    asked = zip(before["question_id"][:], before["persona"][:], strict=True)
    assert before["answer"][:] != after["answer"][:]
    assert after["answer"][:] == [answer_of(question, persona, 1) for question, persona in asked]


def config_id(*arguments: Any, **options: Any) -> str:
    identifier: str = load_dataset_builder("fairpp", *arguments, **options).config_id
    return identifier


def test_the_cache_key_is_the_same_for_the_same_data(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    assert config_id(answers="run") == config_id(answers=run) == config_id(answers=str(run.resolve()))
    assert config_id() == config_id(answers="survey", personas="britains_choice_2020") == "preferences"
    assert config_id("questions") == "questions"
    pairs = {"target": TARGET}
    both = ["backbone_conservatives", "civic_pragmatists"]
    assert config_id("pairs", comparison=both, **pairs) == config_id("pairs", comparison=both[::-1] + both, **pairs)
    assert config_id("pairs", **pairs) == config_id("pairs", alpha=1, beta=1.0, weighting="tier", seed=0, **pairs)
    assert config_id("pairs", soft_labels=False, labels="answers", **pairs) == config_id("pairs", **pairs)
    soft = config_id("pairs", soft_labels=True, labels="respondent", **pairs)
    assert soft == config_id("pairs", labels="respondent", weighting="uniform", divergence=0, **pairs)
    assert config_id("pairs", alpha=2, **pairs) == config_id("pairs", alpha=2.0, **pairs)


def test_the_cache_key_differs_for_different_data(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    shipped = Path(fairpp_hf.personas.__file__).parent / "britains_choice_2020.json"
    file.write_bytes(shipped.read_bytes())
    keys = [
        config_id(),
        config_id(answers=run),
        config_id(answers=run, personas="britains_choice_2020"),
        config_id(personas="hidden_tribes_2018"),
        config_id(personas=file),
        config_id(features=datasets.Features({**PREFERENCE_FEATURES, "answer": datasets.Value("int64")})),
        *(
            config_id("pairs", **options)
            for options in (
                {"target": TARGET},
                {"target": "backbone_conservatives"},
                {"target": TARGET, "answers": run},
                {"target": TARGET, "alpha": 0.5},
                {"target": TARGET, "beta": 0.5},
                {"target": TARGET, "weighting": "uniform"},
                {"target": TARGET, "comparison": ["backbone_conservatives"]},
                {"target": TARGET, "random_third_pair": True},
                {"target": TARGET, "random_third_pair": True, "seed": 1},
                {"target": TARGET, "weighting": "surprisal"},
                {"target": TARGET, "weighting": distinguishing},
                {"target": TARGET, "comparison": "nearest"},
                {"target": TARGET, "soft_labels": True},
                {"target": TARGET, "labels": "fitted"},
                {"target": TARGET, "labels": "fitted", "weighting": "tier"},
                {"target": TARGET, "labels": "fitted", "divergence": 0.5},
                {"target": TARGET, "labels": "fitted", "divergence": 0.5, "comparison": "nearest"},
                {"target": TARGET, "labels": "respondent", "divergence": 0.5},
                {"target": TARGET, "option_order": "mixed"},
                {"target": TARGET, "heldout": "topics"},
                {"target": TARGET, "heldout": "groups"},
            )
        ),
        config_id("questions"),
        config_id("questions", heldout="dimensions"),
        config_id(heldout="dimensions"),
        config_id(answers=write_published(tmp_path / "tables")),
        config_id(answers=write_scenarios(tmp_path / "told")),
        config_id("scenarios", answers=tmp_path / "told"),
    ]
    assert len(set(keys)) == len(keys)
    changed = json.loads(shipped.read_text("utf-8"))
    changed["personas"][0]["choice"]["abstention"]["value"] = 0.5
    file.write_text(json.dumps(changed), "utf-8")
    assert config_id(personas=file) not in keys


def test_a_changed_function_gives_fresh_data(
    tmp_path: Path, run: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function in a module, where it is known by its name: its own text changes, then what it calls."""
    monkeypatch.syspath_prepend(tmp_path)
    function = "from my_help import factor\n\ndef mine(facts):\n    return facts.tier * factor() + {}\n"
    weights = []
    for factor, added in ((2, 0), (2, 0), (2, 1), (3, 1)):
        (tmp_path / "my_help.py").write_text(f"def factor():\n    return {factor}\n")
        (tmp_path / "my_weighting.py").write_text(function.format(added))
        # As a new process would: what was compiled within the same second must not be taken for the new text.
        for name in ("my_help", "my_weighting"):
            sys.modules.pop(name, None)
            (tmp_path / "__pycache__" / f"{name}.{sys.implementation.cache_tag}.pyc").unlink(missing_ok=True)
        importlib.invalidate_caches()
        mine = importlib.import_module("my_weighting").mine
        rows = load("pairs", target=TARGET, answers=run, weighting=mine, split="train", cache_dir=cache)
        assert rows["weight"][:] == [tier * factor + added for tier in rows["tier"][:]]
        weights.append((rows.cache_files, rows["weight"][:]))
    assert weights[0] == weights[1]
    assert len({str(files) for files, _ in weights}) == 3


def test_a_config_does_not_take_over_what_another_found_out(run: Path) -> None:
    """`datasets` makes a config by copying the default one, which may have been used before."""
    for options in ({}, {"answers": run}, {}):
        builder = load_dataset_builder("fairpp", **options)
        assert builder.config.source.kind == ("run" if options else "survey")
        assert builder.config_id.startswith("preferences-" if options else "preferences")


# Held-out labels


@pytest.mark.parametrize("kind", HELDOUT)
def test_held_out_questions(kind: str) -> None:
    loaded = load("questions", heldout=kind)
    held_out = pa.array(is_held_out(load_questions(), kind))
    assert loaded["test"].with_format("arrow")[:].equals(load_questions().filter(held_out))
    assert loaded["train"].with_format("arrow")[:].equals(load_questions().filter(pc.invert(held_out)))


@pytest.mark.parametrize("source", ["run", "folder", "published"])
@pytest.mark.parametrize("streaming", [False, True])
def test_held_out_labels_override_the_splits_of_every_source(
    source: str, streaming: bool, run: Path, tmp_path: Path, cache: str
) -> None:
    """No topic is on both sides, and weights are those that the training side alone gives."""
    path = run if source == "run" else tmp_path / "answers"
    if source == "folder":
        plain_folder(run, path)
    elif source == "published":
        write_published(path)
    options = {"answers": path, "heldout": "topics", "cache_dir": cache, "streaming": streaming}
    topics = {split: {row["topic"] for row in rows} for split, rows in load(**options).items()}
    assert topics["test"] == {"fair treatment"}
    assert topics["train"] == {"fair essentials", "fair opportunities", "fair rewards", "fair exchange"}
    matrix = load_answers(path)
    fitted = preference_weights(matrix.matrix(), TARGET, fit_rows=~is_held_out(matrix.questions, "topics"))
    of_id = dict(zip(matrix.questions["question_id"].to_pylist(), fitted.weight, strict=True))
    topic_of = dict(
        zip(matrix.questions["question_id"].to_pylist(), matrix.questions["topic"].to_pylist(), strict=True)
    )
    pairs = load("pairs", target=TARGET, **options)
    for split in ("train", "test"):
        rows = list(pairs[split])
        assert [row["weight"] for row in rows] == [of_id[row["question_id"]] for row in rows]
        assert {topic_of[row["question_id"]] == "fair treatment" for row in rows} == {split == "test"}
    if not streaming:
        assert " Held out of training: topics (fair treatment)." in pairs["train"].info.description


# The published tables


def test_published_answers_as_pairs(tmp_path: Path, cache: str, fresh_log: pytest.LogCaptureFixture) -> None:
    """With the texts of the table, not ours; the shares are those of the default set."""
    path = write_published(tmp_path / "tables")
    answers = load_answers(path)
    pairs = load("pairs", target=TARGET, answers=path, weighting="surprisal", cache_dir=cache)
    assert "population shares" not in fresh_log.text
    expected = answer_pairs(answers, TARGET, PairSettings("surprisal"), load_personas()).tables
    for split in ("train", "test"):
        assert pairs[split].with_format("arrow")[:].equals(expected[split])
    assert "C. N/A" in {row["rejected"][0]["content"] for row in pairs["train"]}
    _, made, missing, provenance = pairs["train"].info.description.split("\n\n")
    assert made == f"Pairs for {TARGET}, weighting surprisal, answers by gpt-4o-mini (simulated), from tables."
    assert provenance == answers.provenance.text
    assert missing.endswith(" of 40 questions have no valid answer of loyal_nationals and give no pair.")


# The log and the errors


def plain_folder(run: Path, folder: Path) -> Path:
    """The answers of a run as Parquet files alone, without a record of the persona set."""
    (folder / "preferences").mkdir(parents=True)
    answers = load_answers(run)
    for split in ("train", "test"):
        for number, table in enumerate(answers.preferences(split)):
            pq.write_table(table, folder / "preferences" / f"{split}-{number}.parquet")
    return folder


@pytest.mark.parametrize("weighting", ["surprisal", distinguishing])
def test_the_log_says_where_shares_are_not_known(
    weighting: Any, fresh_log: pytest.LogCaptureFixture, run: Path, tmp_path: Path, cache: str
) -> None:
    folder = plain_folder(run, tmp_path / "folder")
    options = {"target": TARGET, "answers": folder, "cache_dir": cache}
    missing = sum(answer_of(i, TARGET) < 0 for i in some_questions()["question_id"].to_pylist())
    name = "surprisal" if weighting == "surprisal" else "distinguishing"
    sentence = (
        f"{missing} of 40 questions have no valid answer of {TARGET} and give no pair. The population shares of these "
        f"personas are not known: weighting {name!r} counts them all alike."
    )
    # From the rows and from the cache.
    for number in (1, 2):
        unknown = load("pairs", weighting=weighting, **options)
        assert fresh_log.messages == [sentence] * number
    expected = naive_pairs(run, "train", scheme=weighting)
    assert unknown["train"].to_list() == expected
    # A set that is named is known, and a scheme without shares does not need them.
    fresh_log.clear()
    known = load("pairs", weighting=weighting, personas="britains_choice_2020", **options)
    assert known["train"]["weight"][:] != unknown["train"]["weight"][:]
    load("pairs", weighting="tier", **options)
    assert "population shares" not in fresh_log.text


def test_the_log_speaks_of_simulation_only_where_answers_are_simulated_here(
    fresh_log: pytest.LogCaptureFixture, run: Path
) -> None:
    load("questions", streaming=True)
    load(answers=run, streaming=True)
    assert "simulated from survey figures" not in fresh_log.text
    load(streaming=True)
    load("pairs", target=TARGET, streaming=True)
    assert fresh_log.text.count("simulated from survey figures") == 1


def test_the_log_says_how_many_questions_give_no_pair(
    fresh_log: pytest.LogCaptureFixture, run: Path, cache: str
) -> None:
    """Once a load: a fresh one, one from the cache, by several processes, and streamed."""
    missing = sum(answer_of(i, TARGET) < 0 for i in some_questions()["question_id"].to_pylist())
    sentence = f"{missing} of 40 questions have no valid answer of {TARGET} and give no pair."
    assert missing > 0
    options = {"target": TARGET, "answers": run}
    for number, more in enumerate(({}, {}, {"split": "test", "num_proc": 2}, {"streaming": True}), 1):
        loaded = load("pairs", cache_dir=cache, **options, **more)
        assert fresh_log.messages == [sentence] * number
    description, made, missing, provenance = loaded["train"].info.description.split("\n\n")
    assert (description, missing) == (builder_module.DESCRIPTION, f"Missing: {sentence}")
    assert made == f"Pairs for {TARGET}, weighting tier, answers by known (simulated)."
    found = Provenance.in_text(provenance)
    assert found is not None
    assert found.simulated
    # Where there is nothing to say, nothing is said.
    load("preferences", answers=run, cache_dir=cache)
    load("pairs", target=TARGET, streaming=True)
    assert [message for message in fresh_log.messages if "give no pair" in message] == [sentence] * 4


PERSONAS = ", ".join(map(repr, load_personas().ids))
PAIRS = {"target": TARGET}


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("pears", {}, ["'preferences', 'pairs', 'scenarios'; got 'pears'. Did you mean 'pairs'?"]),
        ("pairs", {}, ["target must be given for config 'pairs'; got none.", 'target="loyal_nationals").']),
        ("pairs", {"target": "loyal_nationalists"}, [f"{PERSONAS}; got", "mean 'loyal_nationals'?"]),
        (
            "pairs",
            {**PAIRS, "comparison": ["backbone"]},
            ["comparison must be one of", "mean 'backbone_conservatives'?"],
        ),
        ("pairs", {**PAIRS, "comparison": "backbone"}, ["or 'nearest'; got 'backbone'. Write ['backbone'] for one"]),
        (
            "pairs",
            {"targt": TARGET},
            [", ".join(map(repr, builder_module.ARGUMENTS["pairs"])), "Did you mean 'target'?"],
        ),
        ("pairs", {"target": 4}, ["target must be the id of a persona; got 4."]),
        ("pairs", {**PAIRS, "alpha": "1"}, ["alpha must be a finite number of at least 0; got '1'."]),
        ("pairs", {**PAIRS, "seed": 0.5}, ["seed must be a whole number; got 0.5."]),
        ("pairs", {**PAIRS, "random_third_pair": 1}, ["random_third_pair must be True or False; got 1."]),
        ("pairs", {**PAIRS, "weighting": "tiers"}, ["'uniform', 'surprisal'; got 'tiers'. Did you mean 'tier'?"]),
        ("pairs", {**PAIRS, "soft_labels": 1}, ["soft_labels must be True or False; got 1."]),
        ("pairs", {**PAIRS, "soft_labels": True, "labels": "fitted"}, ["got True, which means labels='respondent'."]),
        ("pairs", {**PAIRS, "labels": "fit"}, ["got 'fit'. Did you mean 'fitted'?"]),
        ("pairs", {**PAIRS, "weighting": "surprisal", "alpha": 2}, ["alpha must be left at 1.0", "'tier_from_zero'."]),
        ("questions", PAIRS, ["target must only be given for config 'pairs'; got it for config 'questions'."]),
        (None, {"alpha": 1.0}, ["alpha must only be given for config 'pairs'; got it for config 'preferences'."]),
        (
            None,
            {"published_revision": "v1"},
            ["only be given with answers='published'; got 'v1' with answers='survey'"],
        ),
        ("pairs", {**PAIRS, "published_revision": 1}, ["must be a branch, tag or commit; got 1."]),
        ("questions", {"heldout": "topic"}, ["heldout must be one of", "got 'topic'. Did you mean 'topics'?"]),
        (
            "scenarios",
            {"heldout": "topics"},
            ["'questions' or 'preferences' or 'pairs'; got it for config 'scenarios'."],
        ),
        ("scenarios", {}, ["for config 'scenarios'; got 'survey', which holds none.", "'simulation_question'."]),
        (None, {"personas": "britain_choice"}, ["'seven_segments_2025'", "Did you mean 'britains_choice_2020'?"]),
    ],
)
def test_errors_name_what_is_wrong_and_the_nearest(
    config: str | None, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        load(config, streaming=True, **options)
