import json
from functools import partial
from pathlib import Path

import pytest
import yaml
from tiny_models import save_tiny_adapter, save_tiny_model

from fairpp_hf.cli import main
from fairpp_hf.evaluation import positioning
from fairpp_hf.evaluation.models import read_models
from fairpp_hf.evaluation.positioning.report import FILES


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the resamples: how far regions reach is tested where maps are made."""
    monkeypatch.setattr(positioning, "position_respondents", partial(positioning.position_respondents, resamples=20))


def test_places_a_model_and_its_adapter_with_an_arrow(
    tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, adapter = tmp_path / "out", save_tiny_adapter(tmp_path / "aligned")
    arguments = ["position", "--model", str(tiny_model_path), "--adapter", str(adapter), "--out", str(out)]
    assert main([*arguments, "--limit", "150", "--one-order"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.partition("150 questions")[0].splitlines())) <= 80
    assert (
        "Regions are not to be relied on under 200 questions: on simulated respondents, those of principal components are "
        "too small (the truth in 88% to 94% of samples, and not in 95%), and those of ideal points too large (in up to "
        "100%)." in printed
    )
    for name in (*FILES, "positions.png"):
        assert f"  {out / name}\n" in printed
        assert (out / name).stat().st_size
    assert "Constant and label model:" not in printed
    tree = json.loads((out / "positions.json").read_text())
    kinds = [point["kind"] for point in tree["points"]]
    assert kinds == ["persona"] * 7 + ["majority", "model", "model"]
    assert [point["name"] for point in tree["points"][-3:]] == [
        "Majority of all personas",
        "tiny-llama",
        "tiny-llama + aligned",
    ]
    assert tree["points"][-1]["before"] == "tiny-llama"
    assert tree["points"][0]["name"] == "Progressive Activists"
    assert (tree["questions"], tree["division"]) == (150, "test split")
    assert tree["reference"] == "survey:britains_choice_2020 (simulated)"


def test_a_models_file_gives_regions_and_the_second_call_scores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny_model(tmp_path / "model")
    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump({"models": [{"name": "here", "model": str(model), "region": "Atlantis"}]}))
    arguments = ["position", "--models", str(file), "--out", str(tmp_path / "out"), "--limit", "150", "--one-order"]
    assert main(arguments) == 0
    first = (tmp_path / "out" / "positions.json").read_text()
    assert json.loads(first)["points"][-1]["region"] == "Atlantis"
    from fairpp_hf.scoring import OptionScorer

    monkeypatch.setattr(OptionScorer, "iterate", lambda *_: pytest.fail("scored again"))
    assert main(arguments) == 0
    assert (tmp_path / "out" / "positions.json").read_text() == first


def test_the_papers_six_models_have_regions() -> None:
    from importlib.resources import as_file, files

    with as_file(files("fairpp_hf.evaluation.positioning") / "paper_models.yaml") as file:
        models = read_models(file)
    assert len(models) == 6
    assert {spec.region for spec in models} == {
        *("Middle East", "North America", "South-East Asia", "Europe", "East Asia"),
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "A model must be given; got neither --models nor --model."),
        (["--model", "a", "b", "--adapter", "x"], "--adapter must come with one --model; got 2."),
        (["--model", "Loyal Nationals"], "must not be that of a persona on the map; got 'Loyal Nationals'."),
        (["--model", "a", "--limit", "5"], "must be on at least 10 (problem, group) pairs; got 5."),
    ],
)
def test_what_cannot_be_placed_is_refused_before_anything_is_scored(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = [] if "--limit" in arguments else ["--limit", "60"]
    assert main(["position", "--out", str(tmp_path / "out"), *arguments, *limit]) == 1
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
