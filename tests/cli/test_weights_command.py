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


@pytest.mark.parametrize(("scheme", "expected"), [("uniform", "22,751 of 22,751"), ("tier_from_zero", "of 22,751")])
def test_effective_sample_size(scheme, expected, capsys):
    assert main(["weights", "--target", "loyal_nationals", "--scheme", scheme]) == 0
    assert expected in capsys.readouterr().out
