"""Sums over weighted clusters against a plain loop that lays the drawn questions side by side."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from survey_worlds import TARGET, Population

from fairpp_hf.statistics.alignment import FEWEST_GROUP_CLUSTERS, alignment_metrics, metric_values
from fairpp_hf.statistics.bootstrap import drawn_weights
from fairpp_hf.statistics.question_sums import clusters_of, numbered, question_sums


def test_a_resample_has_the_metrics_of_its_questions_laid_side_by_side() -> None:
    """Of a cluster that is drawn twice, a copy with another problem, so that the copies' forms are not mixed up.

    Which groups count among the groups is decided once, for all resamples, and is tested by itself.
    """
    population = Population((TARGET, "backbone_conservatives", "civic_pragmatists"), every=7)
    model = population.blend({TARGET: 0.5, "civic_pragmatists": 0.5})
    world = population.draw(model, 12, np.random.default_rng(0), unanswered=0.2)
    world.references["civic_pragmatists"][:60] = -1
    clusters = clusters_of(world.questions)
    sums = question_sums(world.predictions, world.references, TARGET, world.questions, clusters)
    weights = drawn_weights(12, 5, seed=3)
    values = metric_values(sums, sums.totals(weights))
    for number, drawn in enumerate(weights.astype(int)):
        copies = [np.flatnonzero(clusters == cluster) for cluster in np.repeat(np.arange(12), drawn)]
        rows = np.concatenate(copies)
        problem = np.repeat(np.arange(12), [len(copy) for copy in copies]).astype(str)
        questions = world.questions.take(pa.array(rows))
        questions = questions.set_column(questions.column_names.index("problem"), "problem", pa.array(problem))
        references = {persona: answers[rows] for persona, answers in world.references.items()}
        expected = alignment_metrics(world.predictions[rows], references, TARGET, questions)
        for name, value in values.items():
            if name == "worst_group/target":
                assert np.isnan(value[number])
                continue
            assert value[number] == pytest.approx(expected[name], abs=1e-9), name


def test_every_resample_has_the_groups_that_count_in_the_estimate() -> None:
    """Two groups of ten problems; a resample without some of them has the same groups, over fewer questions."""
    population = Population((TARGET, "backbone_conservatives"), every=15)
    world = population.draw(population.probabilities[TARGET], 40, np.random.default_rng(0))
    clusters = clusters_of(world.questions)
    sums = question_sums(world.predictions, world.references, TARGET, world.questions, clusters)
    first, second = (int(place) for place in np.argsort(-sums.group_problems)[:2])
    assert sums.group_problems.tolist() == [
        len(set(clusters[world.questions["group"].to_numpy() == name].tolist())) for name in sums.groups
    ]
    assert sums.group_problems[second] >= FEWEST_GROUP_CLUSTERS
    only = replace(sums, group_problems=np.where(np.arange(len(sums.group_problems)) == first, 10, 9))
    weights = drawn_weights(40, 20, seed=0)
    assert np.isnan(metric_values(only, only.totals(weights))["worst_group/target"]).all()
    counts, agreement = np.moveaxis(sums.totals(weights)["groups"][:, [first, second]], -1, 0)
    worst = metric_values(sums, sums.totals(weights))["worst_group/target"]
    np.testing.assert_allclose(worst, (agreement / counts).min(axis=1))


def test_questions_may_be_a_mapping_of_columns() -> None:
    population = Population((TARGET, "backbone_conservatives"), every=15)
    world = population.draw(population.probabilities[TARGET], 10, np.random.default_rng(0))
    columns = {name: world.questions[name].to_pylist() for name in world.questions.column_names}
    given = world.predictions, world.references, TARGET
    assert alignment_metrics(*given, columns) == alignment_metrics(*given, world.questions)


def test_columns_are_numbered_by_their_values_together() -> None:
    questions = {"dimension": [2, 1, 2, 2], "form": ["a", "a", "b", "a"]}
    first, other, third, again = numbered(questions, ("dimension", "form")).tolist()
    assert first == again
    assert sorted((first, other, third)) == [0, 1, 2]
