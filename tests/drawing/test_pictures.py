"""The pictures beside the results, whatever systems and personas are called."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluated_folder import positions_of, small_evaluation, write_evaluated_folder
from PIL import Image
from quality_tables import survey_replies, whole_clusters

from fairpp_hf.drawing import draw_evaluation, draw_positions, draw_quality
from fairpp_hf.drawing.canvas import svg
from fairpp_hf.drawing.position_map import methods_of, position_chart
from fairpp_hf.drawing.theme import system_looks
from fairpp_hf.evaluation.quality.quality import replies_quality
from fairpp_hf.evaluation.results import Results, read_results
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions

ODD = ("$x^2_{$", "模型", "model 🦄", *(f"model {number}" for number in range(6)))


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """Such as one of a box for a letter."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Results:
    evaluation = small_evaluation(60, ODD, personas=())
    return read_results(write_evaluated_folder(tmp_path_factory.mktemp("odd"), evaluation))


def image(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def test_a_picture_of_an_evaluation_with_odd_names(odd: Results, tmp_path: Path) -> None:
    path = draw_evaluation(odd, tmp_path / "new" / "results.png")
    assert np.asarray(image(path)).std() > 10


def test_a_map_of_many_models_has_numbers_and_a_legend(odd: Results, tmp_path: Path) -> None:
    assert odd.positions is not None
    draw_positions(odd.positions, tmp_path / "positions.png")
    chart = position_chart("pca", odd.positions)
    numbers, names = zip(*(row[0].split(" ", 1) for row in chart.rows if row[1] == "model"), strict=True)
    assert (numbers, set(names)) == (tuple("123456789"), set(ODD))
    assert "🦄" not in re.sub("<title>.*?</title>", "", svg(chart))
    assert chart.notes[0] == "Egalitarian to libertarian."


def test_a_map_of_few_models_has_names_arrows_and_regions() -> None:
    positions = positions_of(small_evaluation())
    chart = position_chart("pca", positions)
    assert ["aligned model", "model", "North America", "plain model"] in [list(row[:4]) for row in chart.rows]
    assert chart.notes[-2:] == (
        "Arrows lead from before to after alignment.",
        "Shaded: 95% regions, which are not to be relied on under 200 questions. Distances: Hellinger distance.",
    )
    assert "aligned model, North America" in svg(chart)
    nowhere = json.loads(json.dumps(positions).replace('"ideal_point"', '"other"'))
    assert (methods_of(positions), methods_of(nowhere)) == (["pca", "ideal_point"], ["pca"])


def test_a_system_has_the_same_colour_on_the_map_and_beside_it() -> None:
    """The map of one model alone would give it the first colour."""
    positions = positions_of(small_evaluation(names=("plain model",)))
    color = system_looks(["aligned model", "plain model"])["plain model"].color.lower()
    assert color in svg(position_chart("pca", positions, ["plain model", "aligned model"])).lower()
    assert color not in svg(position_chart("pca", positions)).lower()


@pytest.mark.parametrize("known", [True, False])
def test_a_picture_of_a_runs_quality(known: bool, tmp_path: Path) -> None:
    """Three charts; without survey figures, two."""
    replies = survey_replies(whole_clusters(40), samples=2, orders=2)
    personas = load_personas() if known else None
    quality = replies_quality(replies, load_questions(), personas, respondent="模型 (simulated)")
    path = draw_quality(quality, "my | run", tmp_path / "new" / "quality.png")
    assert image(path).width > 1000
