"""Whole maps: known worlds, the promised share of 95% regions, and what is refused."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from placed_world import (
    ANCHORS,
    MODELS,
    drawn,
    drawn_clusters,
    held,
    respondents,
    true_points,
    true_probabilities,
)

from fairpp_hf.evaluation.positioning import Positions, Respondent, check_anchors, pca, position_respondents
from fairpp_hf.evaluation.positioning.counts import cluster_counts, resampled_counts, templates_of
from fairpp_hf.evaluation.positioning.positions import (
    METHODS,
    _Frame,
    _ideal_points,
    _Map,
    _places,
    _poles,
    _principal_components,
)
from fairpp_hf.evaluation.positioning.report import FILES, to_markdown, write_positions
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.statistics.question_sums import clusters_of

REFERENCE = "survey:britains_choice_2020 (simulated)"


def place(items: list[Respondent], questions: pa.Table, resamples: int = 60) -> Positions:
    return position_respondents(items, questions, reference=REFERENCE, division="test split", resamples=resamples)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return sample_questions(load_questions(), 1200)


@pytest.fixture(scope="module")
def positions(rows: np.ndarray) -> Positions:
    """Seven personas by their answers; persona 0's probabilities and a mixture of 0 and 6 as models, one that refuses."""
    truth = true_probabilities(ANCHORS)[:, rows]
    items = respondents(drawn(truth, np.random.default_rng(0)), 7)
    items += [
        Respondent("twin", "model", truth[0], "Europe"),
        Respondent("between", "model", (truth[0] + truth[6]) / 2, None, "twin"),
        Respondent("refuses", "model", np.full((len(rows), 3), np.nan)),
        Respondent("abstains", "model", np.tile([0.0, 0.0, 1.0], (len(rows), 1))),
    ]
    return place(items, load_questions().take(pa.array(rows)))


def test_a_model_with_a_personas_probabilities_stands_on_it(positions: Positions) -> None:
    points = {point.name: point for point in positions.points}
    for method in METHODS:
        twin, own = points["twin"].places[method], points["persona 0"].places[method]
        between, other = points["between"].places[method], points["persona 6"].places[method]
        across = np.linalg.norm(own.xy - other.xy)
        assert twin.nearest == "persona 0"
        assert np.linalg.norm(twin.xy - own.xy) < 0.1 * across
        assert np.linalg.norm(between.xy - (own.xy + other.xy) / 2) < 0.15 * across
    assert points["twin"].nearest_by_js == "persona 0"


def test_who_does_not_answer_has_no_place_and_who_abstains_no_ideal_point(positions: Positions) -> None:
    points = {point.name: point for point in positions.points}
    refuses, abstains = points["refuses"], points["abstains"]
    assert refuses.places == {"pca": None, "ideal_point": None}
    assert (refuses.answered, refuses.abstention, refuses.nearest_by_js, refuses.on_map) == (0, None, None, None)
    assert abstains.places["pca"] is not None
    assert abstains.places["ideal_point"] is None
    assert abstains.abstention == 1.0


def test_axes_are_said_in_words_and_the_maps_agree_on_directions(positions: Positions) -> None:
    for method in METHODS:
        right, up = positions.axes[method].words
        assert right.startswith("to the right: ")
        assert up.startswith("upwards: ")
        assert " over " in right
    first = np.array([point.places["pca"].xy for point in positions.points[:7]])  # type: ignore[union-attr]
    second = np.array([point.places["ideal_point"].xy for point in positions.points[:7]])  # type: ignore[union-attr]
    assert ((first * second).sum(axis=0) > 0).all()
    assert sum(positions.axes["pca"].shares) <= 1.0 + 1e-9
    assert sum(positions.axes["ideal_point"].shares) == pytest.approx(1.0)


def test_files_hold_the_positions(positions: Positions, tmp_path: Path) -> None:
    paths = write_positions(positions, tmp_path / "deep" / "out")
    assert tuple(path.name for path in paths) == FILES
    tree = json.loads(paths[0].read_text())
    assert (tree["format"], tree["questions"], tree["division"], tree["reference"]) == (
        1,
        1200,
        "test split",
        REFERENCE,
    )
    by_name = {point["name"]: point for point in tree["points"]}
    assert by_name["between"]["before"] == "twin"
    assert by_name["twin"]["region"] == "Europe"
    assert by_name["refuses"]["pca"] is None
    twin = by_name["twin"]["pca"]
    assert len(twin["xy"]) == 2
    assert len(twin["ellipse_95"]) == 60
    for (low, high), value in zip(twin["intervals_95"], twin["xy"], strict=True):
        assert low < value < high
    assert len(tree["methods"]["pca"]["explained_variance"]) == 2
    text = to_markdown(positions)
    assert paths[1].read_text() == text
    assert "| refuses | too few answers (under 40 in a cell) | - |" in text
    assert "| abstains | too few answers (under 10 of A or B) | - |" in text
    assert "(simulated)" in text
    assert "Regions are not to be relied on" not in text


def test_the_same_call_gives_the_same_maps(rows: np.ndarray) -> None:
    few = rows[::4]
    items = respondents(drawn(true_probabilities(ANCHORS)[:4, few], np.random.default_rng(0)), 3)
    questions = load_questions().take(pa.array(few))
    first, second = (place(items, questions, 20) for _ in range(2))
    for one, other in zip(first.points, second.points, strict=True):
        np.testing.assert_array_equal(one.places["ideal_point"].xy, other.places["ideal_point"].xy)  # type: ignore[union-attr]


class World(NamedTuple):
    """All 28,420 questions, and what everybody's true probabilities for them are."""

    truth: np.ndarray
    template: np.ndarray
    cluster: np.ndarray
    frame: _Frame

    @classmethod
    def of_the_survey(cls) -> "World":
        truth = np.concatenate([true_probabilities(ANCHORS), true_probabilities(MODELS)[:3]])
        _, template = templates_of(load_questions())
        return cls(truth, template, clusters_of(load_questions()), _Frame(np.arange(len(truth)), 7))


_TEMPLATES, _ = templates_of(load_questions())
_POLES = _poles(load_questions())


def components(by: tuple[str, ...], totals: np.ndarray, replicates: np.ndarray, frame: _Frame) -> _Map:
    return _principal_components(totals, replicates, frame, pca.cells_by(_TEMPLATES, by), _POLES)


def ideal(_: tuple[str, ...], totals: np.ndarray, replicates: np.ndarray, frame: _Frame) -> _Map:
    beside = np.ones((frame.personas, 2))
    return _ideal_points(totals[..., :2], replicates[..., :2], frame, _TEMPLATES, _POLES, beside)


def coverage(method: str, by: tuple[str, ...], worlds: int, clusters: int, resamples: int) -> list[float]:
    """In what share of ten respondents the 95% region holds the truth, by world.

    Truth: the place by the true probabilities over all 28,420 questions. In each world, clusters are drawn from them and an
    answer from each probability, of personas and models alike.
    """
    world = World.of_the_survey()
    true = true_points(world.truth, 7, method, by)
    names = [str(row) for row in world.frame.rows]
    estimate = components if method == "pca" else ideal
    shares = []
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        rows, draw = drawn_clusters(world.cluster, clusters, rng)
        table = pa.table({"problem": draw, "group": np.zeros_like(draw)})
        counts = cluster_counts(drawn(world.truth[:, rows], rng), table, world.template[rows])
        found = estimate(by, counts.sum(axis=0), resampled_counts(counts, resamples, seed), world.frame)
        shares.append(held(list(_places(found, world.frame, names).values()), true, 7).mean())
    return shares


def assert_as_promised(shares: list[float], error: float) -> None:
    """The mean over worlds is near 0.95; respondents of a world share its map, so that worlds alone count in its error."""
    assert np.std(shares) / np.sqrt(len(shares)) < error
    assert 0.93 <= np.mean(shares) <= 0.965


def test_regions_of_principal_components_hold_the_truth_as_often_as_promised() -> None:
    """Pooled over 400 worlds of both divisions: a true share of 0.92 would be over two standard errors below the bound."""
    shares = coverage("pca", ("dimension", "topic"), worlds=70, clusters=300, resamples=120)
    shares += coverage("pca", ("dimension",), worlds=330, clusters=100, resamples=120)
    assert_as_promised(shares, error=0.0045)


@pytest.mark.slow
def test_regions_of_ideal_points_hold_the_truth_as_often_as_promised() -> None:
    shares = coverage("ideal_point", ("dimension", "form"), worlds=100, clusters=100, resamples=100)
    assert_as_promised(shares, error=0.008)


def test_a_model_with_few_answers_leaves_the_map_of_all_others_as_it_is(rows: np.ndarray) -> None:
    """1,200 questions: some 240 a dimension. With 150 answers, all on two dimensions, a model has no place."""
    questions = load_questions().take(pa.array(rows))
    answers = drawn(true_probabilities(ANCHORS)[:, rows], np.random.default_rng(0))
    few = np.full((len(rows), 3), np.nan)
    first = np.flatnonzero(np.isin(questions["dimension"].to_numpy(), (1, 2)))[:150]
    few[first] = answers[2, first]
    items = respondents(answers, 7)
    alone, together = place(items, questions, 20), place([*items, Respondent("few", "model", few)], questions, 20)
    divided = {"pca": (("dimension",), 5), "ideal_point": (("dimension", "form"), 10)}
    for positions in (alone, together):
        assert {method: axes[:2] for method, axes in positions.axes.items()} == divided
    for method in METHODS:
        for one, other in zip(alone.points, together.points, strict=False):
            np.testing.assert_allclose(one.places[method].xy, other.places[method].xy, atol=1e-12)  # type: ignore[union-attr]
    assert together.points[-1].places["pca"] is None
    assert together.points[-1].places["ideal_point"] is not None
    assert together.points[-1].answered == 150
    assert "| few | too few answers (under 40 in a cell) | - |" in to_markdown(together)


@pytest.mark.parametrize(
    ("answers", "count", "message"),
    [
        (
            {"a": [0, 1] * 20, "b": [1, 0] * 20},
            40,
            "A map must have at least 3 personas as anchors; got 2 (a, b). Two span a line. Use a larger set of personas.",
        ),
        (
            {"a": [0, 1] * 3, "b": [1, 0] * 3, "c": [0] * 6},
            6,
            "The questions must be on at least 10 (problem, group) pairs; got 6. The uncertainty of a place is measured "
            "over them. Ask more questions.",
        ),
        (
            {"a": [0, 1] * 20, "b": [1, 0] * 20, "c": [2] * 36 + [0] * 4},
            40,
            "Each persona must have chosen A or B for at least 10 of the questions; got 4 at 'c'. Ask more "
            "questions, or complete its answers.",
        ),
        (
            {"a": [0, 1] * 20, "b": [0, 1] * 20, "c": [0, 1] * 20},
            40,
            "The personas must differ in their answers; got the same from all 3. Nothing can be told apart by them. Use "
            "other answers.",
        ),
    ],
)
def test_what_spans_no_map_is_refused(answers: dict[str, list[int]], count: int, message: str) -> None:
    questions = load_questions().take(pa.array(np.arange(0, 11 * count, 11)))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_anchors({name: np.array(column) for name, column in answers.items()}, questions)
