"""`fairpp report`: an evaluated folder as one page to read."""

import argparse
from pathlib import Path

SUMMARY = "write one page, report.html, from an evaluated folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "Reads what `fairpp evaluate --out DIR` wrote, and the map that `fairpp position --out DIR` adds. The page needs no "
        "network, and has each chart as a PNG and all metrics as CSV to download."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of an evaluation")


def run(arguments: argparse.Namespace) -> int:
    """Read, draw, write and say where."""
    from fairpp_hf.drawing import write_report

    print(write_report(arguments.folder))
    return 0
