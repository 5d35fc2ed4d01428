"""`fairpp merge`: one run of the parts that several machines have asked."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.generation.merge import MergeSummary

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
        ValueError: the runs asked different things, or a folder does not fit.
        RuntimeError: another process is writing to one of them.
        OSError: one is no run, or its journal is damaged.
    """
    from fairpp_hf.generation.merge import merge_runs

    summary = merge_runs(arguments.out, arguments.runs)
    print(_report(summary, "replies"))
    if summary.stories is not None:
        print(_report(summary.stories, "stories"))
    if summary.scenarios is not None:
        print(_report(summary.scenarios, "answers to scenarios"))
    if summary.remaining:
        print(f"Next: the other parts with this command again, or the rest with `fairpp generate --run {summary.path}`")
    else:
        print(f"Next: fairpp build --run {summary.path} --out fairpp")
    return 0


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
