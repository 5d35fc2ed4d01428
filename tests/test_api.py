"""`fairpp_hf.evaluate`, on a tiny model: the numbers of `fairpp evaluate`, in forms for Python and notebooks."""

import pandas as pd
import pytest
from tiny_models import save_tiny_model

import fairpp_hf
from fairpp_hf.cli import main
from fairpp_hf.evaluation.results import read_results

TARGET = "loyal_nationals"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def found(model):
    return fairpp_hf.evaluate(model, target=TARGET, limit=40)


def test_it_has_the_numbers_of_the_command(model, found, tmp_path):
    assert main(["evaluate", "--model", str(model), "--target", TARGET, "--limit", "40", "--out", str(tmp_path)]) == 0
    pd.testing.assert_frame_equal(found.to_pandas(), read_results(tmp_path).to_pandas())


def test_it_is_shown_in_short(found):
    assert found.table().index[0] == "constant"
    assert {"plain", "role-play", "label model"} <= set(found.table().index)
    assert (found.table().columns[0], found.table().loc["constant", "skill"]) == ("skill", 0)
    assert max(map(len, repr(found).splitlines()[1:])) <= 100
    assert "simulated" in repr(found)
    assert "<td>" in found._repr_html_()
    assert found.plot().size[0] > 300


def test_what_is_kept_is_not_scored_again(model, tmp_path, monkeypatch):
    first = fairpp_hf.evaluate(model, target=TARGET, limit=5, role_play=False, out=tmp_path)
    monkeypatch.setattr("fairpp_hf.scoring.OptionScorer.score", None)
    monkeypatch.setattr("fairpp_hf.scoring.OptionScorer.iterate_encoded", None)
    again = fairpp_hf.evaluate(model, target=TARGET, limit=5, role_play=False, out=tmp_path)
    pd.testing.assert_frame_equal(first.to_pandas(), again.to_pandas())
    assert (tmp_path / "results.csv").is_file()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"target": "loyal_national"}, "loyal_nationals"), ({"target": TARGET, "limit": 0}, "limit must be at least 1")],
)
def test_bad_arguments_are_named_before_anything_is_loaded(options, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        fairpp_hf.evaluate(tmp_path / "none", **options)
