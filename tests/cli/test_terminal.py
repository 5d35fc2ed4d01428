"""Tables in the terminal fit it, and nothing in a cell steers it."""

import pytest

from fairpp_hf.cli.terminal import print_table

LONG = "majority of the others, weighted by their shares of the population"


@pytest.mark.parametrize("columns", ["80", "200"])
def test_a_table_fits_and_holds_every_word(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    print_table(
        ("system", "skill [95%]", "margin"), [("plain", "-1.011 [-1.36, -0.77]", "0.045"), (LONG * 3, "", "")], bold=[0]
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(int(columns), 100)
    assert any("plain" in line and "-1.011 [-1.36, -0.77]" in line and "0.045" in line for line in lines)
    assert "".join("".join(lines).split()).count("weightedbytheirshares") == 3
    assert "\x1b" not in "".join(lines)  # no colour in a pipe


def test_control_characters_and_markup_are_shown_as_they_are(capsys):
    print_table(("name",), [("\x1b[31mred\x07 [bold]b[/bold]\nnext\u202e",)])
    printed = capsys.readouterr().out
    assert "\ufffd[31mred\ufffd [bold]b[/bold] next\ufffd" in printed
