"""Whole maps: known worlds, the promised share of 95% regions, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from placed_world import ANCHORS, MODELS, drawn, drawn_clusters, respondents, true_probabilities
from scipy.stats import binom

from fairpp_hf.evaluation.intervals import clusters_of
from fairpp_hf.evaluation.positioning import Positions, Respondent, check_anchors, pca, position_respondents
from fairpp_hf.evaluation.positioning.alignment import aligned
from fairpp_hf.evaluation.positioning.counts import Template, cluster_counts, resampled_counts, templates_of
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
        assert twin is not None
        assert own is not None
        assert between is not None
        assert other is not None
        across = np.linalg.norm(own.xy - other.xy)
        assert twin.nearest == "persona 0"
        assert np.linalg.norm(twin.xy - own.xy) < 0.1 * across
        assert np.linalg.norm(between.xy - (own.xy + other.xy) / 2) < 0.15 * across
    assert points["twin"].nearest_js == "persona 0"


def test_who_does_not_answer_has_no_place_and_who_abstains_no_ideal_point(positions: Positions) -> None:
    points = {point.name: point for point in positions.points}
    refuses, abstains = points["refuses"], points["abstains"]
    assert refuses.places == {"pca": None, "ideal_point": None}
    assert (refuses.answered, refuses.abstention, refuses.nearest_js, refuses.on_map) == (0, None, None, None)
    assert abstains.places["pca"] is not None
    assert abstains.places["ideal_point"] is None
    assert abstains.abstention == 1.0
    assert abstains.abstention_interval == pytest.approx((1.0, 1.0))


def test_axes_are_said_in_words_and_the_maps_agree_on_directions(positions: Positions) -> None:
    for method in METHODS:
        right, up = positions.axes[method]
        assert right.startswith("to the right: ")
        assert up.startswith("upwards: ")
        assert " over " in right
    first = np.array([point.places["pca"].xy for point in positions.points[:7]])  # type: ignore[union-attr]
    second = np.array([point.places["ideal_point"].xy for point in positions.points[:7]])  # type: ignore[union-attr]
    assert ((first * second).sum(axis=0) > 0).all()
    assert sum(positions.explained_variance) <= 1.0 + 1e-9
    assert sum(positions.spread) == pytest.approx(1.0)


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
    assert "| refuses | too few answers | - |" in text
    assert "(simulated)" in text
    table = pq.read_table(paths[2])
    assert table["name"].to_pylist() == [point.name for point in positions.points]
    assert table["pca/xy"][7].as_py() == twin["xy"]
    assert paths[3].stat().st_size > 50_000


def test_an_ellipse_is_the_95_percent_outline_of_its_covariance(positions: Positions) -> None:
    """Each point of it is at the same distance, chi-square of 2 degrees of freedom: 5.99."""
    found = positions.points[0].places["pca"]
    assert found is not None
    np.testing.assert_allclose(found.distances(found.ellipse()), 5.9915, atol=1e-3)


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
    templates: tuple[Template, ...]
    template: np.ndarray
    cluster: np.ndarray
    frame: _Frame

    @classmethod
    def of_the_survey(cls) -> "World":
        truth = np.concatenate([true_probabilities(ANCHORS), true_probabilities(MODELS)[:3]])
        templates, template = templates_of(load_questions())
        return cls(truth, templates, template, clusters_of(load_questions()), _Frame(np.arange(len(truth)), 7))


_POLES = _poles(load_questions())


def components(world: World, totals: np.ndarray, replicates: np.ndarray) -> _Map:
    return _principal_components(totals, replicates, world.frame, world.templates, _POLES)


def ideal(world: World, totals: np.ndarray, replicates: np.ndarray) -> _Map:
    return _ideal_points(
        totals[..., :2], replicates[..., :2], world.frame, world.templates, _POLES, np.ones((world.frame.personas, 2))
    )


def covered(
    estimate: Callable[[World, np.ndarray, np.ndarray], _Map], worlds: int, clusters: int, resamples: int
) -> np.ndarray:
    """In how many worlds the 95% region of each respondent holds the truth, (r,).

    Truth: the place by the true probabilities over all 28,420 questions. In each world, clusters are drawn from them and an
    answer from each probability, of personas and models alike.
    """
    world = World.of_the_survey()
    names = [str(row) for row in world.frame.rows]
    rng = np.random.default_rng(0)
    everything = np.zeros((len(world.truth), len(world.templates), 3))
    np.add.at(everything, (slice(None), world.template), world.truth)
    true = estimate(world, everything, everything[None]).estimate
    hits = np.zeros(len(world.truth), dtype=int)
    for number in range(worlds):
        rows, draw = drawn_clusters(world.cluster, clusters, rng)
        table = pa.table({"problem": draw, "group": np.zeros_like(draw)})
        counts = cluster_counts(drawn(world.truth[:, rows], rng), table, world.template[rows])
        places = _places(
            estimate(world, counts.sum(axis=0), resampled_counts(counts, resamples, number)), world.frame, names
        )
        anchors = np.stack([places[row].xy for row in range(7)])
        turned = aligned(true[None], true[None, :7], anchors - anchors.mean(axis=0))[0]
        hits += [places[row].distances(turned[[row]])[0] <= 5.9915 for row in range(len(hits))]
    return hits


@pytest.mark.parametrize(("by", "clusters"), [(("dimension", "topic"), 300), (("dimension",), 100)])
def test_regions_of_principal_components_hold_the_truth_as_often_as_promised(
    by: tuple[str, ...], clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 worlds. Each respondent within the binomial band of 95% that 1 in 2,000 would leave by chance."""
    monkeypatch.setattr(pca, "DIVISIONS", ((by, 0),))  # the truth's cells, and every world's
    hits = covered(components, worlds=200, clusters=clusters, resamples=80)
    low, high = binom.ppf([0.0005, 0.9995], 200, 0.95)
    assert ((low <= hits) & (hits <= high)).all(), hits


@pytest.mark.slow
def test_regions_of_ideal_points_hold_the_truth_as_often_as_promised() -> None:
    hits = covered(ideal, worlds=200, clusters=300, resamples=100)
    low, high = binom.ppf([0.0005, 0.9995], 200, 0.95)
    assert ((low <= hits) & (hits <= high)).all(), hits


def test_templates_are_coarser_where_questions_are_few() -> None:
    few = sample_questions(load_questions(), 200)
    items = respondents(drawn(true_probabilities(ANCHORS)[:, few], np.random.default_rng(0)), 7)
    found = place(items, load_questions().take(pa.array(few)), 20)
    assert found.cells == {"pca": (("dimension",), 5), "ideal_point": (("dimension", "form"), 10)}


@pytest.mark.parametrize(
    ("answers", "count", "message"),
    [
        (
            {"a": [0, 1] * 20, "b": [1, 0] * 20},
            40,
            "A map must have at least 3 personas as anchors; got 2 (a, b). Two span a line. Use a larger set of --personas.",
        ),
        (
            {"a": [0, 1] * 3, "b": [1, 0] * 3, "c": [0] * 6},
            6,
            "The questions must be on at least 10 (problem, group) pairs; got 6. The uncertainty of a place is measured "
            "over them. Raise --limit.",
        ),
        (
            {"a": [0, 1] * 20, "b": [1, 0] * 20, "c": [2] * 36 + [0] * 4},
            40,
            "Each persona must have chosen A or B for at least 10 of the questions; got 4 at 'c'. Raise --limit, or "
            "complete its answers with `fairpp generate`.",
        ),
        (
            {"a": [0, 1] * 20, "b": [0, 1] * 20, "c": [0, 1] * 20},
            40,
            "The personas must differ in their answers; got the same from all 3. Nothing can be told apart by them. Use "
            "other --answers.",
        ),
    ],
)
def test_what_spans_no_map_is_refused(answers: dict[str, list[int]], count: int, message: str) -> None:
    questions = load_questions().take(pa.array(np.arange(0, 11 * count, 11)))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_anchors({name: np.array(column) for name, column in answers.items()}, questions)


def test_one_kind_of_question_is_refused() -> None:
    questions = load_questions().take(pa.array(np.arange(0, 400, 10)))
    answers = {name: np.arange(40) % 2 for name in "abc"}
    with pytest.raises(
        ValueError, match=r"^The questions must be of at least 2 dimensions or forms; got one of each\."
    ):
        check_anchors(answers, questions)
