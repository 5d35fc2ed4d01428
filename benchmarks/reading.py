"""How many replies are read right, and is any letter read more often than another?

    python benchmarks/reading.py

The corpus is benchmarks/reading_forms/: `declared.jsonl` holds forms that declare an option, `undeclared.jsonl` forms
that do not, each with its kind and its source: reports and answer extractors of evaluation harnesses, chat templates,
and sentences written by hand in some 70 languages. `@L` is the letter that is declared, `@l` the same in lower case,
`@T` its option's text; `@M` and `@N` are the other letters and `@MT` a text of theirs. Each form is filled with every
letter and both orders of the others, so that a rule that knows a letter shows. Forms with a `letter` hold it
themselves: decorated and inflected letters.

Beside the reader stand three baselines: the first and the last capital letter that stands alone, and "answer is X" or
"answer: X" as evaluation harnesses look for it. Prints tables by kind; the result is kept in benchmarks/results/.

The corpus is no longer unseen: it was used to finish the rules. Blind figures were taken before that, on forms whose
authors had not seen the reader. With rules that were complete on two thirds of corpus 1 (`"corpus": 1`), the last third
had a recall of 88.5%, no wrong letter, and 8 of 234 undeclared forms were read as an answer. Corpus 2 was written
afterwards: 78.2%, no wrong letter, 16 of 492. With rules that read both, corpus 3, neighbours of known forms, had 99.2%,
no difference between letters, one of its 1,333 forms read wrong, and 1 of 667 undeclared forms read. A form of a new
kind is lost rather than read wrong.

Left out of the corpus: an answer before a mark that closes a thought which nothing opened (it is read only if it is
bare); homoglyphs and Arabic letters in the place of those that were shown (a Cyrillic letter that looks like B sounds
like V); Hungarian "A B-t választom", whose article cannot be told from option A; and one form that readers judged
differently ("we'd all have said A, and so do I").
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _record import environment, keep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reading_forms import OPTIONS, Reply, forms, replies

from fairpp_hf.respondents.reading import read_text

Reader = Callable[[Reply], tuple[str | None, str]]


def reader(reply: Reply) -> tuple[str | None, str]:
    """The package's own."""
    answer, _, status = read_text(reply.text, {"finish_reason": reply.finish_reason}, OPTIONS)
    return ("ABC"[answer] if answer >= 0 else None), status


def _by(pattern: str, which: int, flags: int = 0) -> Reader:
    def read(reply: Reply) -> tuple[str | None, str]:
        found = re.findall(pattern, reply.text, flags)
        return (found[which].upper() if found else None), ""

    return read


READERS: dict[str, Reader] = {
    "reader": reader,
    "first lone capital": _by(r"\b([A-C])\b", 0),
    "last lone capital": _by(r"\b([A-C])\b", -1),
    '"answer is X"': _by(r"answer(?:\s+is)?\s*:?\s*[*(\[$\"]*([A-C])\b", -1, re.IGNORECASE),
}


def measured(read: Reader) -> dict[str, Any]:
    """Recall and wrong letters over filled declared forms, by letter and kind, and how many undeclared forms are read."""
    right, wrong, total = defaultdict(int), 0, defaultdict(int)
    for row in forms("declared"):
        for reply in replies(row):
            letter = read(reply)[0]
            wrong += letter not in (None, reply.letter)
            for key in (("kind", row["kind"]), ("corpus", row["corpus"]), ("all", ""), ("letter", reply.letter)):
                if key[0] != "letter" or "letter" not in row:
                    total[key] += 1
                    right[key] += letter == reply.letter
    recall = {key: right[key] / total[key] for key in total}
    by_letter = [recall["letter", letter] for letter in "ABC"]
    undeclared = forms("undeclared")
    were_read = {row["form"] for row in undeclared if any(read(reply)[0] for reply in replies(row))}
    refusals = [row for row in undeclared if row.get("refusal")]
    return {
        "replies": total["all", ""],
        "recall": recall["all", ""],
        "wrong": wrong,
        "letter_difference": max(by_letter) - min(by_letter),
        "undeclared_forms": len(undeclared),
        "undeclared_read": len(were_read),
        "refusal_forms": len(refusals),
        "refusals_recognised": sum(all(read(reply)[1] == "refusal" for reply in replies(row)) for row in refusals),
        "recall_by_corpus": {str(key): recall["corpus", key] for key in (1, 2)},
        "recall_by_kind": {key: recall[kind, key] for kind, key in sorted(recall, key=str) if kind == "kind"},
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    results = {name: measured(read) for name, read in READERS.items()}
    print(f"{'':20} recall  wrong  difference  undeclared read  refusals")
    for name, result in results.items():
        print(
            f"{name:20} {result['recall']:6.1%} {result['wrong']:6} {result['letter_difference']:11.1%}"
            f" {result['undeclared_read']:9} of {result['undeclared_forms']}"
            f" {result['refusals_recognised']:5} of {result['refusal_forms']}"
        )
    print("\nkind                                    " + "".join(f"{name:>20}" for name in results))
    for kind in results["reader"]["recall_by_kind"]:
        print(f"{kind:40}" + "".join(f"{result['recall_by_kind'][kind]:20.1%}" for result in results.values()))
    keep("reading", environment() | {"results": results})


if __name__ == "__main__":
    main()
