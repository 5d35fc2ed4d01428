import numpy as np
import pyarrow.parquet as pq
import pytest

from fairpp_hf.cli import main
from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.preferences import preference_weights
from fairpp_hf.questions.heldout import is_held_out

TARGET = "loyal_nationals"


def tier_rows(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines() if line[:4].strip().isdigit()]


def test_prints_tiers_and_writes_the_weights(tmp_path, capsys):
    out = tmp_path / "deep" / "weights.parquet"
    assert main(["weights", "--target", "loyal_nationals", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "survey:britains_choice_2020 (simulated)" in printed
    rows = [line.split() for line in printed.splitlines() if line[:4].strip().isdigit()]
    assert [row[0] for row in rows] == list("1234567")
    assert sum(int(row[1].replace(",", "")) for row in rows) == 22_751
    # With beta = 1 a tier's share of the mass is its number over 1 + ... + 7 = 28.
    assert [row[3] for row in rows] == [f"{i / 28:.1%}" for i in range(1, 8)]
    table = pq.read_table(out)
    assert table.column_names == ["question_id", "tier", "weight"]
    assert table.num_rows == 28_420


@pytest.mark.parametrize(
    ("scheme", "shares"),
    [("tier", [i / 28 for i in range(1, 8)]), ("tier_from_zero", [i / 21 for i in range(7)]), ("uniform", None)],
)
def test_effective_sample_size(scheme, shares, capsys):
    """Tier i has N_i rows of weight s_i / N_i, where s_i is its share of the mass: the sum of weights is 1 and that of
    their squares is sum(s_i^2 / N_i). Tiers from zero: s_i = (i - 1) / (0 + 1 + ... + 6). Uniform: all rows count."""
    assert main(["weights", "--target", "loyal_nationals", "--weighting", scheme]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line[:4].strip().isdigit()]
    sizes = [int(row[1].replace(",", "")) for row in rows]
    assert sum(sizes) == 22_751
    if shares is None:
        shares = [size / 22_751 for size in sizes]
    assert [row[3] for row in rows] == [f"{share:.1%}" for share in shares]
    effective = 1 / sum(share**2 / size for share, size in zip(shares, sizes, strict=True))
    assert lines[-1] == f"Effective sample size {effective:,.0f} of 22,751 questions ((sum w)^2 / sum w^2)."
    if scheme == "tier_from_zero":
        assert rows[0][2:] == ["0", "0.0%"]
        assert effective < 22_751 / 1.5


def test_weights_are_fitted_without_what_is_held_out(tmp_path, capsys):
    out = tmp_path / "weights.parquet"
    assert main(["weights", "--target", TARGET, "--heldout", "topics", "--out", str(out)]) == 0
    answers = load_answers()
    fit = ~is_held_out(answers.questions, "topics")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:4].strip().isdigit()]
    assert sum(int(row[1].replace(",", "")) for row in rows) == fit.sum() < 28_420
    expected = preference_weights(answers.matrix(), TARGET, fit_rows=fit)
    np.testing.assert_array_equal(pq.read_table(out)["weight"].to_numpy(), expected.weight)


def test_shows_how_weights_tilt_the_answers(capsys):
    """Tiers stress what others seldom answer, such as C; without weights both lines say the same."""
    answers = load_answers()
    own = answers.matrix()[TARGET][~answers.is_test]
    weight = preference_weights(answers.matrix(), TARGET, fit_rows=~answers.is_test).weight[~answers.is_test]
    plain, tilted = ([each[own == option].sum() / each.sum() for option in range(3)] for each in (own >= 0, weight))
    assert main(["weights", "--target", TARGET]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "Answers by share of questions: A {:.1%}, B {:.1%}, C {:.1%}.".format(*plain)
    assert lines[-2] == "Answers by share of mass: A {:.1%}, B {:.1%}, C {:.1%}.".format(*tilted)
    assert tilted[2] > 2 * plain[2]
    assert main(["weights", "--target", TARGET, "--weighting", "uniform"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split(": ")[1] == lines[-2].split(": ")[1]


def test_nearest_is_named_and_compared_with(capsys):
    assert main(["weights", "--target", TARGET, "--comparison", "nearest"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"Comparison: backbone_conservatives, the persona that agrees with {TARGET} most often."
    assert main(["weights", "--target", TARGET, "--comparison", "backbone_conservatives"]) == 0
    assert capsys.readouterr().out.splitlines() == rest
    assert [row[3] for row in tier_rows("\n".join(rest))] == ["33.3%", "66.7%"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--weighting", "surprise"],
            "weighting must be one of 'tier', 'tier_from_zero', 'uniform', 'surprisal'; got 'surprise'. Did you mean "
            "'surprisal'?",
        ),
        (
            ["--weighting", "uniform", "--alpha", "2"],
            "alpha must be left at 1.0 with weighting 'uniform', which has no exponents; got 2.0. Leave it out, or use "
            "weighting 'tier' or 'tier_from_zero'.",
        ),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert main(["weights", "--target", TARGET, *arguments]) == 1
    assert capsys.readouterr().err == f"fairpp weights: {message}\n"
