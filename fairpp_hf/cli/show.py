"""`fairpp show`: what a run has, at a glance."""

import argparse
from pathlib import Path

SUMMARY = "show what a run has: progress, statuses, costs, disagreement and examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp show`."""
    parser.description = (
        "Reads RUN, also while another process on this machine writes it. 'against majority' is the share of questions on "
        "which a persona's answer is not that of most others; 'pairwise' its mean share of other answers than another's."
    )
    parser.add_argument("--run", required=True, type=Path, metavar="RUN", dest="run_path", help="folder of the run")
    parser.add_argument(
        "--examples", type=int, default=3, metavar="N", help="replies to show, of each status (default: 3)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the run, and its scenarios where it has some.

    Raises:
        ValueError: Its set-up was interrupted.
        OSError: It is no run, or nothing in its journal can be read.
    """
    from fairpp_hf.runs.layout import scenarios_folder, stories_folder
    from fairpp_hf.runs.manifest import read_manifest
    from fairpp_hf.runs.overview import overview

    run_path, examples = arguments.run_path, arguments.examples
    # An example of a story would fill the screen: `fairpp scenarios` says what is wrong with them.
    parts = {run_path: examples, scenarios_folder(run_path): examples, stories_folder(run_path): 0}
    present = [part for part in parts if part.is_dir() and read_manifest(part) is not None]
    # Where there is none, `overview` says so.
    print("\n\n".join(overview(part, examples=parts[part]).table() for part in present or [run_path]))
    return 0
