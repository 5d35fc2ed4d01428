"""`fairpp report`: an evaluated folder as one page to read, and pictures to show."""

import argparse
from pathlib import Path

SUMMARY = "write one page, report.html, and pictures from an evaluated folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "Reads what `fairpp evaluate --out DIR` wrote, and the map that `fairpp position --out DIR` adds. The page needs no "
        "network; the pictures are in DIR/report."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of an evaluation")


def run(arguments: argparse.Namespace) -> int:
    """Read, draw, write and say where."""
    from fairpp_hf.drawing import write_report

    page, *pictures = write_report(arguments.folder)
    print(f"{page}\n{len(pictures)} pictures in {pictures[0].parent}")
    return 0
