"""`fairpp questions`: show, sample or write the questions."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SUMMARY = "show, sample or write the 28,420 questions"

SUFFIXES = (".parquet", ".csv", ".jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp questions`."""
    parser.description = "Without --sample and --out, prints how many questions there are of each kind."
    parser.add_argument("--split", choices=("train", "test"), help="only this split (default: both)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N questions, the same N every time; prints them")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"write the questions to FILE, which ends in {', '.join(SUFFIXES)}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print or write the chosen questions.

    Raises:
        ValueError: `--sample` is out of range, or `--out` has another suffix.
    """
    from fairpp_hf.questions import load_questions, sample_questions

    if arguments.out is not None and arguments.out.suffix not in SUFFIXES:
        raise ValueError(
            f"The file of --out must end in {', '.join(SUFFIXES)}; got {str(arguments.out)!r}. "
            "The ending decides the format. Use for example --out questions.parquet."
        )
    questions = load_questions(arguments.split)
    if arguments.sample is not None:
        if not 1 <= arguments.sample <= questions.num_rows:
            raise ValueError(
                f"--sample must be between 1 and {questions.num_rows}, the number of questions to choose from; "
                f"got {arguments.sample}."
            )
        questions = questions.take(sample_questions(questions, arguments.sample))

    if arguments.out is not None:
        _write(questions, arguments.out)
        print(f"Wrote {questions.num_rows:,} questions to {arguments.out}")
    elif arguments.sample is not None:
        for row in questions.select(["question_id", "prompt"]).to_pylist():
            print(f"[{row['question_id']}]\n{row['prompt']}\n")
    else:
        print(_summary(questions))
    return 0


def _write(questions: "pa.Table", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = questions.to_pandas()
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True, force_ascii=False)


def _summary(questions: "pa.Table") -> str:
    """Counts by topic, dimension and split, with totals."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from fairpp_hf.questions import split_of
    from fairpp_hf.questions.taxonomy import load_taxonomy

    taxonomy = load_taxonomy()
    topic = pc.index_in(questions["topic"], value_set=pa.array(taxonomy.topics)).to_numpy()
    dimension = questions["dimension"].to_numpy() - 1
    counts = np.zeros((len(taxonomy.topics), len(taxonomy.dimensions), 2), dtype=np.int64)
    np.add.at(counts, (topic, dimension, split_of(questions).astype(np.int64)), 1)
    # The totals become one more row and one more column.
    counts = np.concatenate([counts, counts.sum(axis=0, keepdims=True)])
    counts = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)

    headings = [f"dimension {item.number}" for item in taxonomy.dimensions] + ["total"]
    lines = ["Questions, train + test", f"{'':<20}" + "".join(f"{heading:>16}" for heading in headings)]
    for name, row in zip((*taxonomy.topics, "total"), counts, strict=True):
        lines.append(f"{name:<20}" + "".join(f"{f'{train:,} + {test:,}':>16}" for train, test in row))
    lines += [f"dimension {item.number}: {item.pole_a} (A) or {item.pole_b} (B)" for item in taxonomy.dimensions]
    return "\n".join(lines)
