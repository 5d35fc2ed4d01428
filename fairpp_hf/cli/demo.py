"""`fairpp demo`: the main job, end to end, with a small real model and without a hub, a key or a GPU."""

import argparse
import warnings
from pathlib import Path

SUMMARY = "run the main job once with a small real model, some minutes on two cores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--dataset",
        type=Path,
        default=Path("fairpp"),
        metavar="DIR",
        help="dataset folder to write (default: %(default)s)",
    )
    parser.add_argument("--target", default="loyal_nationals", help="persona to align with (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs drawn and of training (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Check the target, then run the demo."""
    from fairpp_hf.personas import load_personas

    load_personas().get(arguments.target)
    # What the libraries below will rename in versions to come is news for developers, and not for whoever sees a demo.
    warnings.filterwarnings("ignore", category=FutureWarning)
    from fairpp_hf.demo.main_job import DemoSettings, run_demo

    run_demo(arguments.out, arguments.dataset, DemoSettings(target=arguments.target, seed=arguments.seed))
    return 0
