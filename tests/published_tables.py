"""Made-up tables in the shape of the published ones: our own question texts, and replies that are as odd as real ones."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from small_runs import some_questions

from fairpp_hf.questions import load_questions
from fairpp_hf.questions.taxonomy import load_taxonomy

MODEL = "gpt-4o-mini"
ROLES = range(1, 8)
CLOSING = "Which of these stories is the fairest?"


def reply_of(question: dict[str, Any], role: int) -> tuple[str | None, float | None]:
    """A raw reply and what the authors' code made of it: C where it found no option, or got no reply at all."""
    number = sum(question["question_id"].encode()) + 5 * role
    letter = "ABC"[number // 12 % 3]
    line = f"{letter}. {question[f'option_{letter.lower()}']}"
    answer = float("ABC".index(letter))
    replies: list[tuple[str | None, float | None]] = [
        (letter, answer),
        (f"{letter}.", answer),
        (f"**{letter}**", answer),
        (f"Answer: {letter}", answer),
        (line, answer),
        (f"  {line}\r\n", answer),
        (f"I would choose option {letter}, since {line[3:].lower()}", answer),
        ("As an AI, I cannot take sides.", 2.0),
        ("Both A and B have merit.", 2.0),
        (None, 2.0),
        # The column beside the reply says something else, or nothing.
        (letter, (answer + 1) % 3),
        (letter, None),
    ]
    return replies[number % len(replies)]


def published_row(question: dict[str, Any], model: str = MODEL, *, raw: bool = True) -> dict[str, Any]:
    """A row of `tools-o/Fair-PP`, with the columns that nobody needs."""
    taxonomy = load_taxonomy()
    row: dict[str, Any] = {
        "Unnamed: 0": 17,
        "Topic": question["topic"],
        "Problem Category": question["category"],
        "Specific Problem": question["problem"],
        "Group Type": question["group_type"],
        "Group": question["group"],
        "Perspective": float(f"{taxonomy.topics.index(question['topic']) + 1}.{question['dimension']}"),
        "Option": question["pole_a" if question["form"] == "criterion" else "pole_b"],
        "Question": f"{question['question']}\nA. {question['option_a']}\nB. {question['option_b']}\nC. N/A",
        "Tier": 3,
        "weight": 0.25,
        "Falcon3-7B-Instruct": "A",
        "Falcon3-7B-Instruct_answer": 0.0,
    }
    for role in ROLES:
        reply, answer = reply_of(question, role)
        if raw:
            row[f"{model}_role_{role}"] = reply
        row[f"{model}_role_{role}_answer"] = answer
    return row


def scenario_row(question: dict[str, Any], model: str = MODEL) -> dict[str, Any]:
    """A row of `tools-o/Fair-PP-simulation`: vignettes with line breaks, every other time only two."""
    number = sum(question["question_id"].encode())
    third = "N/A" if number % 2 else "Nobody gets more.\nAll go home."
    row = published_row(question, model, raw=False)
    row["simulation_question"] = (
        f"A. Ada decides by {question['pole_a']}.\n\nShe is at peace.\n"
        f'B. Ben decides by {question["pole_b"]}: "so be it".\n'
        f"C. {third}\n{CLOSING}"
    )
    row |= {f"{model}_role_{role}_simulation": (number + role) % 3 for role in ROLES}
    return row


def write_table(rows: list[dict[str, Any]], path: Path) -> Path:
    """Write rows as CSV or Parquet, by the suffix; columns in the order of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def write_published(folder: Path, questions: pa.Table | None = None, suffix: str = ".parquet", **options: Any) -> Path:
    """The two splits of the published table in a folder, as `Dataset.push_to_hub` lays them out."""
    questions = some_questions() if questions is None else questions
    test = set(load_questions("test")["question_id"].to_pylist())
    for split in ("train", "test"):
        rows = [
            published_row(question, **options)
            for question in questions.to_pylist()
            if (question["question_id"] in test) == (split == "test")
        ]
        write_table(rows, folder / "data" / f"{split}-00000-of-00001{suffix}")
    return folder


def write_scenarios(folder: Path, questions: pa.Table | None = None) -> Path:
    """The table of scenarios in a folder; its only split is called train, though its questions are test questions."""
    questions = some_questions(train=0) if questions is None else questions
    rows = [scenario_row(question) for question in questions.to_pylist()]
    write_table(rows, folder / "data" / "train-00000-of-00001.parquet")
    return folder
