"""`fairpp weights`: which questions distinguish a persona, and how much they weigh."""

import argparse
from pathlib import Path

from fairpp_hf.cli.arguments import add_answers, add_heldout, add_weighting, load_answers_of, settings_of
from fairpp_hf.cli.terminal import print_table

SUMMARY = "show or write the tier and weight of every question for a target persona"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--target", required=True, help="persona to align with")
    add_answers(parser)
    add_heldout(parser)
    add_weighting(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.parquet", help="write question_id, tier and weight")


def run(arguments: argparse.Namespace) -> int:
    """Compute the weights on all answered questions, fitted on the training split; print them by tier."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fairpp_hf.dataset.answer_pairs import answer_weights, compared, fit_rows
    from fairpp_hf.preferences import PreferenceWeights
    from fairpp_hf.schema import OPTION_LETTERS

    target, settings = arguments.target, settings_of(arguments)
    source, answers = load_answers_of(arguments)
    persona_set = source.persona_set(arguments.personas)
    matrix = answers.matrix()
    # Without a training split (a run over test questions) the weights come from what there is.
    fitted = fit_rows(answers)
    comparison = compared(answers, target, settings, persona_set)
    if settings.comparison == "nearest":
        print(f"Comparison: {comparison.personas[0]}, the persona that agrees with {target} most often.")
    if comparison.note:
        print(comparison.note)
    tier, weight = answer_weights(answers, target, settings, persona_set)
    rows = tier > 0 if fitted is None else fitted & (tier > 0)
    total = weight[rows].sum()
    print(f"Target {target}; answers: {', '.join(answers.respondents)}; weighting {settings.scheme_name}.")
    by_tier = PreferenceWeights(tier[rows], weight[rows]).by_tier()
    print_table(
        ("tier", "questions", "mean weight", "share of mass"),
        [
            (str(number), f"{row.questions:,}", f"{row.weight:.3g}", f"{mass:.1%}")
            for number, row, mass in zip(by_tier.index, by_tier.itertuples(), by_tier["share of mass"], strict=True)
        ],
    )
    own, counted = np.asarray(matrix[target])[rows], np.ones(int(rows.sum()))
    # What a scheme does to the answers themselves: weights go by what was answered, and tilt what is learnt from them.
    for name, each in (("questions", counted), ("mass", weight[rows])):
        if each.sum():
            shares_of = np.bincount(own, each, len(OPTION_LETTERS)) / each.sum()
            by_letter = ", ".join(
                f"{letter} {share:.1%}" for letter, share in zip(OPTION_LETTERS, shares_of, strict=True)
            )
            print(f"Answers by share of {name}: {by_letter}.")
    effective = total**2 / np.square(weight[rows]).sum() if total else 0.0
    unanswered = int((tier == 0).sum())
    print(f"Effective sample size {effective:,.0f} of {rows.sum():,} questions ((sum w)^2 / sum w^2).")
    if unanswered:
        print(f"{unanswered:,} questions without a valid answer of the target are left out.")
    if arguments.out:
        table = pa.table({"question_id": answers.questions["question_id"], "tier": tier, "weight": weight})
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, arguments.out)
        print(f"Wrote {len(table):,} rows to {arguments.out}.")
    return 0
