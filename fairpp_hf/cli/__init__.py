"""The command line, `fairpp`: one file a command, each with `SUMMARY`, `add_arguments` and `run`."""

import argparse
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import shtab

from fairpp_hf import __version__
from fairpp_hf.naming import nearest

GROUPS = {
    "data": ("questions", "build", "weights", "export"),
    "generate": ("generate", "scenarios", "parse", "merge", "show", "quality"),
    "train": ("train", "demo"),
    "evaluate": ("evaluate", "position", "report"),
    "publish": ("push",),
}
"""Commands by what they are for. A command is imported when it is asked for, so that none slows down another."""

COMMANDS = tuple(name for names in GROUPS.values() for name in names)
"""All commands, in the order of the help."""


_SHOWN = ("fairpp_hf.scoring.sharing",)
"""Loggers whose information is shown as well: one line on whether prompts are shared, which decides the running time."""

_QUIET = ("bitsandbytes.backends.cpu.ops",)
"""Loggers whose warnings are not: it misses a faster kernel for 4 bits, whether or not anybody wants 4 bits."""


@contextmanager
def shown_lines() -> Iterator[None]:
    """Within this context, stderr has the line on how prompts are computed, and not what says nothing to the user."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    loggers = [logging.getLogger(name) for name in _SHOWN]
    # As Python shows warnings. All other loggers stay at the root's level.
    handler: Any = logging.lastResort
    if handler is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    shown: list[logging.Handler | logging.Logger] = [handler, *loggers]
    before = [one.level for one in shown]
    for one in shown:
        one.setLevel(logging.INFO)
    try:
        yield
    finally:
        for one, level in zip(shown, before, strict=True):
            one.setLevel(level)


class _ByGroup(argparse.RawDescriptionHelpFormatter):
    """Leaves out argparse's own list of commands: the description has them by group."""

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from ()


class _Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest command, and prints errors without the usage in front."""

    def error(self, message: str) -> None:  # type: ignore[override]
        wrong = re.match(r"argument COMMAND: invalid choice: '(.*)' \(choose from", message)
        if wrong:
            close = nearest(wrong[1], COMMANDS)
            hint = f" Did you mean {close!r}?" if close else ""
            message = f"the command must be one of {', '.join(COMMANDS)}; got {wrong[1]!r}.{hint}"
        self.exit(2, f"{self.prog}: {message}\nSee `{self.prog} --help`.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0 on success, 1 on bad input, 2 on bad arguments, 130 after Ctrl-C."""
    # Torch's threads wait for each other at the end of every matrix product. By default they spin, and where others use the
    # machine, too, they take the cores from those that they wait for. To be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        # A Windows console does not have every letter, and a name in another script is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments_list = list(sys.argv[1:] if argv is None else argv)
    if arguments_list[:1] == ["train"]:
        # Its options are the fields of configurations, which TRL's parser reads.
        from fairpp_hf.cli.train import main as train

        return train(arguments_list[1:])
    chosen = next((argument for argument in arguments_list if argument in COMMANDS), None)
    parser = build_parser(COMMANDS if chosen is None else (chosen,))
    if not arguments_list:
        parser.print_help()
        return 0
    if chosen is not None:
        _check_options(parser, chosen, arguments_list)
    arguments = parser.parse_args(arguments_list)
    try:
        with shown_lines():
            return int(arguments.run(arguments))
    except KeyboardInterrupt as interruption:
        # A run says what it kept and how to go on; other commands have nothing to say.
        print(f"fairpp {arguments.command}: {str(interruption) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(interruption, "signal_number", 2)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        # Bad input and a full disk are the user's to mend: a sentence helps, a traceback does not.
        print(f"fairpp {arguments.command}: {error}{_way_on(error)}", file=sys.stderr)
        return 1


def _check_options(parser: argparse.ArgumentParser, command: str, words: Sequence[str]) -> None:
    """Exit with the nearest name where an option is none of the command's, before argparse misses what was misspelt."""
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    options = commands.choices[command]._option_string_actions
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and not any(option.startswith(name) for option in (*options, "--version")):
            close = nearest(name, options)
            commands.choices[command].error(f"unknown option {name}." + (f" Did you mean {close}?" if close else ""))


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        commands: Commands whose arguments are wanted; the others are known by name only, since their modules would have
            to be imported. The fields that `fairpp train` takes are left to its own parser.
    """
    modules = {name: importlib.import_module(f"fairpp_hf.cli.{name}") for name in COMMANDS if name in commands}
    listed = [
        f"{group}:\n" + "\n".join(f"  {name:<11} {modules[name].SUMMARY}" for name in names if name in modules)
        for group, names in GROUPS.items()
    ]
    parser = _Parser(
        prog="fairpp",
        usage="fairpp COMMAND [options]",
        description="Align language models with the preferences of particular people, and measure it honestly.\n\n"
        + "\n\n".join(listed),
        formatter_class=_ByGroup,
        epilog="`fairpp COMMAND --help` explains a command. Answers of simulated personas are called simulated "
        "wherever\nthey appear.",
    )
    parser.add_argument("--version", action="version", version=f"fairpp_hf {__version__}")
    shtab.add_argument_to(parser, "--print-completion", help="print a completion script for this shell")
    subparsers = parser.add_subparsers(
        prog="fairpp", title="command", metavar="COMMAND", dest="command", required=True, help="one of those above"
    )
    for name in COMMANDS:
        summary = modules[name].SUMMARY if name in modules else None
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name in modules and name != "train":
            modules[name].add_arguments(subparser)
            subparser.set_defaults(run=modules[name].run)
    return parser


def _way_on(error: Exception) -> str:
    """The command that mends an error which continuing a run mends; empty for others."""
    run = getattr(error, "run", None)
    if run is None:
        return ""
    from fairpp_hf.runs.layout import command_for

    return f" Run `{command_for(run)}` again."
