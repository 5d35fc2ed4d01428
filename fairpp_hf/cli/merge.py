"""`fairpp merge`: one run of the parts that several machines have asked."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.runs.merge import MergeSummary

SUMMARY = "unite runs of the same requests, such as the shards of several machines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp merge`."""
    parser.description = (
        "Brings every reply of the runs into RUN: nothing is lost, nothing is counted twice, and the runs are only read. "
        "The same command again, also with more runs, adds what is new. Scenarios come along."
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="RUN", help="folder of the result, new or merged before"
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="PART", help="folders that `fairpp generate` has written")


def run(arguments: argparse.Namespace) -> int:
    """Merge, and say what came and what is left to ask.

    Raises:
        ValueError: The runs asked different things, or a folder does not fit.
        RuntimeError: Another process is writing to one of them.
        OSError: One is no run, or its journal is damaged.
    """
    from fairpp_hf.scenarios.rebuild import merge_with_scenarios

    parts = {what: part for what, part in merge_with_scenarios(arguments.out, arguments.runs).items() if part.requests}
    for what, part in parts.items():
        print(_report(part, what))
    print(f"Next: {_next(list(parts.values()), arguments.out)}")
    return 0


def _next(parts: Sequence["MergeSummary"], out: Path) -> str:
    from fairpp_hf.runs.layout import command_for

    waiting = {run: number for part in parts for run, number in part.in_batches}
    if waiting:
        runs = "; ".join(
            f"{number:,} replies to come with `{command_for(Path(run))} --batch`" for run, number in waiting.items()
        )
        return f"{runs}; then this command again. Until then {out} cannot ask, since they are bought already"
    for part in parts:
        if part.remaining:
            rest = f"`{command_for(part.path)}`"
            return f"the other parts with this command again, or the rest with {rest}"
    if parts[0].path == out:
        return f"fairpp build --run {out} --out fairpp"
    return f'load_dataset("fairpp", "scenarios", answers="{out}")'


def _report(summary: "MergeSummary", what: str) -> str:
    parts = [f"{summary.added:,} {what} added"]
    if summary.known:
        parts.append(f"{summary.known:,} were there before")
    if summary.improved:
        parts.append(f"{summary.improved:,} took the place of a failed or later one")
    if summary.duplicates:
        parts.append(f"{summary.duplicates:,} were bought twice: the earlier counts")
    if summary.damaged:
        parts.append(f"{summary.damaged:,} damaged records left out")
    done = summary.requests - summary.remaining
    return f"{'; '.join(parts)}. {summary.path} has {done:,} of {summary.requests:,}."
