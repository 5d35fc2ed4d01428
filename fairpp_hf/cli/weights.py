"""`fairpp weights`: which questions distinguish a persona, and how much they weigh."""

import argparse
from pathlib import Path

SUMMARY = "show or write the tier and weight of every question for a target persona"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--target", required=True, help="persona to align with")
    parser.add_argument(
        "--answers", default="survey", help="'survey' (default), or the path of a run or dataset folder"
    )
    parser.add_argument("--personas", help="name or file of the persona set")
    parser.add_argument("--comparison", nargs="+", metavar="PERSONA", help="personas to move away from (default: all)")
    parser.add_argument("--scheme", default="tier", help="weighting scheme: tier (default), tier_from_zero, uniform")
    parser.add_argument("--alpha", type=float, default=1.0, help="exponent of a tier's number (default: 1)")
    parser.add_argument("--beta", type=float, default=1.0, help="exponent of a tier's size (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.parquet", help="write question_id, tier and weight")


def run(arguments: argparse.Namespace) -> int:
    """Compute the weights on all answered questions, tier masses fitted on the training split; print them by tier."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fairpp_hf.dataset.answers import load_answers
    from fairpp_hf.preferences import preference_weights

    answers = load_answers(arguments.answers, arguments.personas)
    # Without a training split (a run over test questions) the masses come from what there is.
    train = ~answers.is_test
    tier, weight = preference_weights(
        answers.matrix(),
        arguments.target,
        comparison=arguments.comparison,
        scheme=arguments.scheme,
        alpha=arguments.alpha,
        beta=arguments.beta,
        fit_rows=train if train.any() else None,
    )
    rows = train & (tier > 0) if train.any() else tier > 0
    total = weight[rows].sum()
    print(f"Target {arguments.target}; answers: {', '.join(answers.respondents)}; scheme {arguments.scheme}.")
    print(f"{'tier':>4}  {'questions':>9}  {'weight':>10}  {'share of mass':>13}")
    for number in range(1, tier.max() + 1):
        mine = rows & (tier == number)
        if mine.any():
            mass = weight[mine].sum() / total if total else 0.0
            print(f"{number:>4}  {mine.sum():>9,}  {weight[mine][0]:>10.3g}  {mass:>13.1%}")
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
