"""`fairpp quality`: is a run any good? Persona fidelity, consistency and statuses, on one page."""

import argparse
from pathlib import Path

from fairpp_hf.cli.terminal import print_table

SUMMARY = "measure a run's quality: are the personas recognisable, consistent, and near their survey?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "Reads the journal alone and asks nothing. Consistency over samples needs a run with --samples, that over the "
        "orders of the options one with --swap."
    )
    parser.add_argument("--run", required=True, type=Path, metavar="RUN", dest="run_path", help="folder of the run")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for quality.json, .md and .png")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="look at a fixed random sample of N questions (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of folds, bundles and intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write and print."""
    if arguments.sample is not None and arguments.sample < 1:
        raise ValueError(f"--sample must be at least 1; got {arguments.sample}.")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0; got {arguments.seed}.")
    from fairpp_hf.drawing import draw_quality
    from fairpp_hf.evaluation.quality import run_quality
    from fairpp_hf.evaluation.quality.report import HEADS, SIMULATED_NOTE, not_measured_of, rows_of, write_quality

    quality = run_quality(arguments.run_path, sample=arguments.sample, seed=arguments.seed)
    name = arguments.run_path.resolve().name
    files = write_quality(quality, name, arguments.out)
    files.append(draw_quality(quality, name, arguments.out / "quality.png"))
    print(f"{quality.respondent}. {SIMULATED_NOTE}\n")
    print_table(HEADS, rows_of(quality))
    if missing := not_measured_of(quality):
        print("\nNot measured:", *(f"  {what}" for what in missing), sep="\n")
    print("\nFiles:", *(f"  {file}" for file in files), sep="\n")
    return 0
