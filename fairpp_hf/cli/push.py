"""`fairpp push`: a dataset folder to the Hub, in one commit."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.hub.push import Push

SUMMARY = "publish a dataset folder on the Hub, in one commit that can be repeated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp push`."""
    parser.description = (
        "Sends what `fairpp build` wrote and the Hub does not have yet. Other files there, and what people wrote on the "
        "card, stay. The token is the one of `hf auth login`, or HF_TOKEN."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="written by `fairpp build`")
    parser.add_argument("--repo-id", required=True, metavar="USER/NAME", help="made if there is none")
    parser.add_argument("--private", action="store_true", help="make a new repo private")
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")


def run(arguments: argparse.Namespace) -> int:
    """Push, and say what was done, where it is and how to load it."""
    from fairpp_hf.hub.push import push_dataset

    push = push_dataset(
        arguments.folder, arguments.repo_id, private=arguments.private or None, dry_run=arguments.dry_run
    )
    print(_report(push, arguments.dry_run))
    return 0


def _report(push: "Push", dry_run: bool) -> str:
    changes = [file for file in push.files if file.action != "keep"]
    width = max((len(file.path) for file in changes), default=0)
    lines = [
        f"{file.action:<8} {file.path:<{width}}  {f'{file.size / 1e6:8.2f} MB' if file.action != 'delete' else ''}".rstrip()
        for file in changes
    ]
    same = len(push.files) - len(changes)
    size = sum(file.size for file in changes) / 1e6
    sent = "would be sent" if dry_run else "sent"
    lines.append(
        f"{len(changes)} changes {sent}, {size:.2f} MB; {same} files were on the Hub before."
        if changes
        else f"Nothing to send: all {same} files are on the Hub already."
    )
    if push.edited_on_card:
        lines.append("Kept on the card, as people wrote it: " + "; ".join(push.edited_on_card) + ".")
    if push.renewed_on_card:
        lines.append("Made anew on the card, although it was edited: " + "; ".join(push.renewed_on_card) + ".")
    if push.left_out:
        more = f" and {len(push.left_out) - 5} more" if len(push.left_out) > 5 else ""
        lines.append(f"Not sent, since `fairpp build` did not write them: {', '.join(push.left_out[:5])}{more}.")
    if dry_run:
        new = "" if push.commit else " (it would be made)"
        lines.append(f"A dry run: nothing was done at {push.url}{new}")
    else:
        lines += [push.url, f"Load it with: {push.load_line}"]
    return "\n".join(lines)
