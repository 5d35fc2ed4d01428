"""The command line as a whole: help, wrong commands, errors without tracebacks."""

import io
import os
import re
import subprocess
import sys

import pytest

import fairpp_hf
from fairpp_hf.cli import COMMANDS, main


def test_help_lists_every_command_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    listed = re.findall(r"^  (\w+) +\w", printed.partition("options:")[0], flags=re.MULTILINE)
    assert listed == [*COMMANDS]
    assert main([]) == 0
    assert capsys.readouterr().out == printed


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"fairpp_hf {fairpp_hf.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: fairpp {command}" in capsys.readouterr().out


def test_a_wrong_command_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evalute", "--model", "m"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f"fairpp: the command must be one of {', '.join(COMMANDS)}; got 'evalute'. Did you mean 'evaluate'?\n"
        "See `fairpp --help`.\n"
    )


def test_a_wrong_option_names_the_nearest(capsys):
    """Also where a required one is missing because of it."""
    with pytest.raises(SystemExit) as stop:
        main(["weights", "--targte", "loyal_nationals"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "fairpp weights: unknown option --targte. Did you mean --target?\nSee `fairpp weights --help`.\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    assert stop.value.code == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (*COMMANDS, "--max-cost", "--divergence"))


def test_bad_input_is_one_sentence_and_exit_status_1(capsys):
    assert main(["weights", "--target", "loyal_national"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fairpp weights: target must be one of 'progressive_activists', ")
    assert error.endswith("got 'loyal_national'. Did you mean 'loyal_nationals'?\n")


def test_a_closed_pipe_is_no_error():
    finished = subprocess.run(
        f"{sys.executable} -m fairpp_hf questions --sample 2000 | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert finished.stderr == ""


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("fairpp_hf.cli.weights.run", interrupted)
    assert main(["weights", "--target", "loyal_nationals"]) == 130
    assert capsys.readouterr().err == "fairpp weights: stopped\n"


@pytest.mark.parametrize(("theirs", "found"), [(None, "passive"), ("active", "active")])
def test_threads_wait_asleep_unless_told_otherwise(theirs, found):
    """In a process of its own: torch reads the variable when it is imported, which must not be before."""
    code = (
        "import os, sys; from fairpp_hf.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    variables |= {} if theirs is None else {"OMP_WAIT_POLICY": theirs}
    printed = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines()[-1] == f"{found} False"


def test_a_console_without_every_letter_is_no_reason_to_fail(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stderr", console)
    assert main(["show", "--run", "模型"]) == 1
    console.flush()
    assert rb"\u6a21\u578b" in console.buffer.getvalue()
