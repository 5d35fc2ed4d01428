"""Exports: rows worked out by hand, a plain loop over pairs, and a step in each of TRL's trainers."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, load_dataset
from export_facts import export_facts
from small_runs import some_questions
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import QUICK, message

from fairpp_hf.hub.export_folder import write_export
from fairpp_hf.preferences import PairSettings, preference_weights
from fairpp_hf.preferences.exports import (
    FORMATS,
    KTO_FEATURES,
    REWARD_FEATURES,
    SFT_FEATURES,
    kto_rows,
    reward_rows,
    sft_rows,
    wide_rows,
)
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.schema import PAIR_FEATURES, QUESTION_FEATURES
from fairpp_hf.training.columns import chosen_texts

ODD = "naïve 🏳️‍🌈 \u202eright-to-left\u202c e\u0301 \x00 'quoted', \"twice\"\tand 中文"


def refused(message: str):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def questions() -> pa.Table:
    """12 training and 6 test questions; the first option B has odd characters in it."""
    table = some_questions(12, 6)
    texts = table["option_b"].to_pylist()
    return table.set_column(
        table.column_names.index("option_b"), "option_b", pa.array([ODD, *texts[1:]], pa.string())
    ).cast(QUESTION_FEATURES.arrow_schema)


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    """The target's first four answers are A, B, C and none."""
    rng = np.random.default_rng(0)
    answers = {name: rng.integers(-1, 3, 18) for name in ("target", "b", "c")}
    answers["target"][:4] = [0, 1, 2, -1]
    answers["b"][:4] = [0, 0, 0, 0]
    answers["c"][:4] = [0, 1, -1, 0]
    return answers


@pytest.fixture(scope="module")
def pairs(questions, answers) -> pa.Table:
    return build_pairs(questions, answers, "target")["train"]


def lines(question: dict) -> list[str]:
    return [f"{letter}. {question[f'option_{letter.lower()}']}" for letter in "ABC"]


def test_the_first_questions_rows_by_hand(questions, answers, pairs):
    """All agree on question 0: tier 1 of K = 3, margin 0 / 2. On question 1 one of two differs: tier 2, margin 1 / 2. On
    question 2 the one who answered differs: tier 2. Question 3 has no answer of the target, and no rows."""
    asked = questions.to_pylist()
    weights = preference_weights(answers, "target").weight
    keys = [row["question_id"] for row in asked[:4]]
    kept = [
        {"weight": weights[number], "tier": tier, "question_id": keys[number], "persona": "target"}
        for number, tier in enumerate((1, 2, 2))
    ]
    prompts = [message("user", row["prompt"]) for row in asked[:3]]
    options = [[message("assistant", line) for line in lines(row)] for row in asked[:3]]
    assert sft_rows(pairs).to_pylist()[:3] == [
        {"prompt": prompts[number], "completion": options[number][number], **kept[number]} for number in range(3)
    ]
    assert reward_rows(pairs, 2).to_pylist()[:6] == [
        {
            **{"prompt": prompts[number], "chosen": options[number][number], "rejected": options[number][other]},
            **{"margin": margin, **kept[number]},
        }
        for number, margin in enumerate((0.0, 0.5, 0.5))
        for other in range(3)
        if other != number
    ]
    unpaired = kto_rows(pairs).to_pylist()
    assert not any(row["question_id"] == keys[3] for row in unpaired)
    for number in range(3):
        mine = sorted((row for row in unpaired if row["question_id"] == keys[number]), key=lambda row: str(row))
        assert mine == [
            {
                **{"prompt": prompts[number], "completion": options[number][option], "label": option == number},
                **kept[number],
            }
            for option in range(3)
        ]
    assert message("assistant", f"B. {ODD}") in [row["completion"] for row in unpaired]


def plain_kto(pairs: list[dict]) -> list[dict]:
    """Three rows a question, in the order of the pairs: the plainest loop."""
    rows, seen = [], set()
    for pair in pairs:
        kept = {name: pair[name] for name in ("prompt", "weight", "tier", "question_id", "persona")}
        if (pair["question_id"], pair["persona"]) not in seen:
            seen.add((pair["question_id"], pair["persona"]))
            rows.append({**kept, "completion": pair["chosen"], "label": True})
        rows.append({**kept, "completion": pair["rejected"], "label": False})
    return rows


def canonical(rows: list[dict]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def test_unpaired_rows_are_those_of_a_plain_loop(questions, answers, pairs):
    """Also with two targets in one table, in any order and sliced."""
    both = pa.concat_tables([pairs, build_pairs(questions, answers, "b")["train"]])
    shuffled = both.take(np.random.default_rng(0).permutation(len(both)))
    for table in (pairs, both, shuffled, shuffled.slice(3, 20)):
        rows = kto_rows(table)
        assert Features.from_arrow_schema(rows.schema) == KTO_FEATURES
        assert canonical(rows.to_pylist()) == canonical(plain_kto(table.to_pylist()))
        assert kto_rows(table).equals(rows)
    assert len(kto_rows(pairs)) == 3 * (answers["target"] >= 0).sum()


def test_unpaired_rows_are_mixed(pairs):
    """Of neighbours in a random order of 3 m rows, 2 / (3 m - 1) are of one question: for m = 1,000, about 2 of 2,999."""
    many = pa.concat_tables([pairs.slice(0, 2)] * 1000)
    ids = pa.array(np.repeat(np.arange(1000), 2)).cast(pa.string())
    rows = kto_rows(many.set_column(many.column_names.index("question_id"), "question_id", ids))
    question = np.array(rows["question_id"].to_pylist())
    assert (question[1:] == question[:-1]).sum() < 12
    label = rows["label"].to_numpy()
    assert abs(label[:1500].sum() - 500) < 65  # 5 standard deviations, sqrt(1500 * (1/3) * (2/3) / 2) = 12.9 each


def test_demonstrations_are_the_texts_that_the_sft_trainer_would_make(pairs):
    """`chosen_texts` looks at the texts themselves, and keeps each once."""
    rows = Dataset(sft_rows(pairs))
    assert rows.features == SFT_FEATURES
    expected = chosen_texts(Dataset(pairs)).to_list()
    assert rows.to_list() == [{name: row[name] for name in SFT_FEATURES} for row in expected]


def test_margins(pairs):
    rows = reward_rows(pairs, 4)
    assert Features.from_arrow_schema(rows.schema) == REWARD_FEATURES
    assert rows["margin"].to_pylist() == [(tier - 1) / 4 for tier in pairs["tier"].to_pylist()]
    assert rows.drop_columns("margin").select(pairs.column_names).equals(pairs)
    assert set(reward_rows(pairs, 2)["margin"].to_pylist()) == {0.0, 0.5, 1.0}
    assert set(reward_rows(pairs.filter(pa.array(pairs["tier"].to_numpy() < 3)), 1)["margin"].to_pylist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("export", "features"),
    [(kto_rows, KTO_FEATURES), (lambda pairs: reward_rows(pairs, 6), REWARD_FEATURES), (sft_rows, SFT_FEATURES)],
)
def test_no_pairs_give_no_rows(export, features, pairs):
    for empty in (pairs.slice(0, 0), PAIR_FEATURES.arrow_schema.empty_table()):
        rows = export(empty)
        assert len(rows) == 0
        assert Features.from_arrow_schema(rows.schema) == features


def test_further_columns_and_another_order_make_no_difference(pairs):
    soft = pairs.append_column("label_probability", pa.array(np.full(len(pairs), 0.9)))
    soft = soft.select(soft.column_names[::-1])
    for export in (kto_rows, sft_rows, lambda table: reward_rows(table, 2)):
        assert export(soft).equals(export(pairs))


def test_pairs_that_will_not_do_are_refused(questions, answers, pairs):
    for export in (kto_rows, sft_rows, lambda table: reward_rows(table, 2)):
        with refused(
            "pairs must have the columns prompt, chosen, rejected, weight, tier, question_id, persona; got none named "
            "chosen, tier among ['prompt', 'rejected', 'weight', 'question_id', 'persona']. Load them with "
            'load_dataset("fairpp", "pairs", target=...).'
        ):
            export(pairs.drop_columns(["chosen", "tier"]))
    third = build_pairs(questions, answers, "target", PairSettings(random_third_pair=True))["train"]
    for export in (kto_rows, sft_rows):
        with refused(
            f"The pairs of a question must have the same chosen text; got another at row 2, for "
            f"{questions['question_id'][0].as_py()!r}. Third pairs choose what the target did not. Make the pairs with "
            "labels='answers' and random_third_pair=False."
        ):
            export(third)
    row = int(np.flatnonzero(pairs["tier"].to_numpy() == 3)[0])
    for count, got in ((0, "tier 2 at row "), (1, f"tier 3 at row {row}. Give the number of personas")):
        with pytest.raises(
            ValueError, match=f"^Tiers must be in 1..{count + 1} with {count} comparison personas, .*; got {got}"
        ):
            reward_rows(pairs, count)
    with pytest.raises(ValueError, match="got no such persona"):
        reward_rows(pairs.slice(0, 0), 0)


# -- the wide table ----------------------------------------------------------------------------------------------------


def plain_wide(question: dict, topics: list[str]) -> dict:
    """The columns of a question, one at a time."""
    letter = "a" if question["form"] == "criterion" else "b"
    return {
        "Topic": question["topic"],
        "Problem Category": question["category"],
        "Specific Problem": question["problem"],
        "Group Type": question["group_type"],
        "Group": question["group"],
        "Perspective": float(f"{topics.index(question['topic']) + 1}.{question['dimension']}"),
        "Option": question[f"pole_{letter}"],
        "Question": "\n".join([question["question"], *lines(question)]),
    }


def test_the_wide_table_is_that_of_a_plain_loop(questions, answers):
    from fairpp_hf.questions.taxonomy import load_taxonomy

    topics = list(load_taxonomy().topics)
    raw = {name: pa.array([None if value < 0 else f"{'ABC'[value]}." for value in answers[name]]) for name in answers}
    weights = preference_weights(answers, "target")
    table = wide_rows(questions, answers, "gpt-x", raw_replies=raw, weights=weights)
    assert table.column_names[8:] == [
        *("gpt-x_role_1", "gpt-x_role_2", "gpt-x_role_3"),
        *("gpt-x_role_1_answer", "gpt-x_role_2_answer", "gpt-x_role_3_answer"),
        *("Tier", "weight"),
    ]
    types = ["string"] * 5 + ["double", "string", "string"] + ["string"] * 3 + ["double"] * 3 + ["int64", "double"]
    assert [str(field.type) for field in table.schema] == types
    for number, (row, question) in enumerate(zip(table.to_pylist(), questions.to_pylist(), strict=True)):
        expected = plain_wide(question, topics)
        for place, name in enumerate(answers, start=1):
            answer = int(answers[name][number])
            expected[f"gpt-x_role_{place}"] = None if answer < 0 else f"{'ABC'[answer]}."
            expected[f"gpt-x_role_{place}_answer"] = None if answer < 0 else float(answer)
        asked = answers["target"][number] >= 0
        expected["Tier"] = weights.tier[number] - 1 if asked else None
        expected["weight"] = weights.weight[number] if asked else None
        assert row == expected
    assert table["Tier"].to_pylist()[:4] == [0, 1, 1, None]
    assert {row["Option"] for row in table.to_pylist()} > {questions["pole_a"][0].as_py()}


def test_without_weights_and_raw_replies_there_are_no_such_columns(questions, answers):
    table = wide_rows(questions, answers, "m")
    assert table.column_names[8:] == ["m_role_1_answer", "m_role_2_answer", "m_role_3_answer"]
    assert wide_rows(questions.slice(0, 0), {name: column[:0] for name, column in answers.items()}, "m").num_rows == 0


def test_all_perspectives_are_the_numbers_that_are_written_so():
    from fairpp_hf.questions import load_questions

    everything = load_questions()
    table = wide_rows(everything, {"a": np.zeros(len(everything), dtype=np.int8)}, "m")
    written = sorted(set(table["Perspective"].to_pylist()))
    assert written == [float(f"{topic}.{dimension}") for topic in range(1, 6) for dimension in range(1, 6)]


def test_a_topic_that_is_not_ours_is_refused(questions, answers):
    topics = questions["topic"].to_pylist()
    topics[3] = topics[3].upper() + "!"
    changed = questions.set_column(questions.column_names.index("topic"), "topic", pa.array(topics))
    with pytest.raises(ValueError, match=rf"^topic at row 3 must be one of .*; got '{topics[3]}'\. Did you mean "):
        wide_rows(changed, answers, "m")


# -- TRL's trainers ----------------------------------------------------------------------------------------------------


def exported(tmp_path: Path, table: pa.Table) -> Dataset:
    """Written, and read back without any code of ours."""
    write_export(tmp_path / "data", {"train": table}, export_facts())
    return load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))


def settings(tmp_path: Path) -> dict:
    return {"output_dir": str(tmp_path / "out"), **QUICK, "max_steps": 2}


def trained(trainer) -> list[dict]:
    """Logs of the steps; the model has moved."""
    start = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    assert trainer.state.global_step == 2
    assert any(not a.equal(b) for a, b in zip(start, trainer.model.parameters(), strict=True))
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_dpo_trains(pairs, tmp_path):
    from trl import DPOConfig, DPOTrainer

    rows = exported(tmp_path, pairs)
    assert rows.features == PAIR_FEATURES
    args = DPOConfig(**settings(tmp_path))
    trainer = DPOTrainer(tiny_model(), tiny_model(), args=args, train_dataset=rows, processing_class=tiny_tokenizer())
    logs = trained(trainer)
    assert logs[0]["loss"] == pytest.approx(np.log(2), rel=1e-4)  # policy and reference are the same


def test_kto_trains(pairs, tmp_path):
    from trl import KTOConfig, KTOTrainer

    rows = exported(tmp_path, kto_rows(pairs))
    assert rows.features == KTO_FEATURES
    args = KTOConfig(**settings(tmp_path), desirable_weight=2.0)
    trainer = KTOTrainer(tiny_model(), tiny_model(), args=args, train_dataset=rows, processing_class=tiny_tokenizer())
    assert trainer.train_dataset["label"][:] == rows["label"][:]
    logs = trained(trainer)
    # At the start, rewards and KL are 0, so that a desirable row loses 2 * (1 - 1/2), an undesirable one 1/2.
    assert logs[0]["loss"] == pytest.approx(np.mean([1.0 if label else 0.5 for label in rows["label"][:4]]), rel=1e-4)


def test_reward_model_trains_with_margins(pairs, tmp_path):
    from transformers import LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    rows = exported(tmp_path, reward_rows(pairs, 2))
    assert rows.features == REWARD_FEATURES
    config = tiny_model().config
    config.num_labels, config.pad_token_id = 1, 0
    model = LlamaForSequenceClassification(config)
    model.score.weight.data.zero_()
    args = RewardConfig(**settings(tmp_path), train_sampling_strategy="sequential")
    trainer = RewardTrainer(model, args=args, train_dataset=rows, processing_class=tiny_tokenizer())
    prompt = tiny_tokenizer().apply_chat_template(rows[0]["prompt"] + rows[0]["chosen"], return_dict=True)["input_ids"]
    assert trainer.train_dataset[0]["chosen_ids"][: len(prompt)] == prompt
    logs = trained(trainer)
    # With rewards of 0, the loss is -log sigmoid(-margin).
    assert logs[0]["loss"] == pytest.approx(np.log1p(np.exp(rows["margin"][:4])).mean(), rel=1e-4)


def test_sft_trains_on_the_answers_alone(pairs, tmp_path):
    from trl import SFTConfig, SFTTrainer

    rows = exported(tmp_path, sft_rows(pairs))
    assert rows.features == SFT_FEATURES
    args = SFTConfig(**settings(tmp_path))
    trainer = SFTTrainer(tiny_model(), args=args, train_dataset=rows, processing_class=tiny_tokenizer())
    batch = trainer.data_collator([trainer.train_dataset[0]])
    learnt = batch["labels"][0][batch["labels"][0] != -100]
    text = tiny_tokenizer().decode(learnt)
    assert rows[0]["completion"][0]["content"] in text
    assert rows[0]["prompt"][0]["content"][:20] not in text
    trained(trainer)


def test_each_format_says_what_to_do_with_it():
    assert list(FORMATS) == ["dpo", "kto", "reward", "sft", "wide"]
    import trl

    for known in FORMATS.values():
        for name in re.findall(r"trl\.(\w+)", known.use):
            assert hasattr(trl, name)
