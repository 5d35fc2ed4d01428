import pyarrow.parquet as pq
import pytest

from fairpp_hf.cli import main


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
    assert main(["weights", "--target", "loyal_nationals", "--scheme", scheme]) == 0
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
