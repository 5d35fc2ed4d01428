"""Statuses by persona and group, and the largest differences."""

import numpy as np
import pyarrow as pa
import pytest
from quality_tables import survey_replies, whole_clusters

from fairpp_hf.evaluation.quality.replies import Replies
from fairpp_hf.evaluation.quality.statuses import count_statuses


def with_statuses(table: pa.Table, bad: np.ndarray, status: str) -> pa.Table:
    answer = np.where(bad, -1, table["answer"].to_numpy())
    table = table.set_column(table.column_names.index("answer"), "answer", pa.array(answer))
    statuses = pa.array(np.where(bad, status, "ok").tolist())
    return table.set_column(table.column_names.index("status"), "status", statuses)


def test_the_persona_and_the_group_that_refuse_most_are_named() -> None:
    """One persona refuses 3 in 10 questions and the others 1 in 20; about one group, all refuse another half of the rest."""
    questions = whole_clusters(290)
    table = survey_replies(questions)
    rng = np.random.default_rng(0)
    is_one = np.array(table["persona"].to_pylist()) == "loyal_nationals"
    group = np.tile(np.array(questions["group"].to_pylist()), 7)
    name = group[0]
    bad = (rng.random(len(table)) < np.where(is_one, 0.3, 0.05)) | ((group == name) & (rng.random(len(table)) < 0.5))
    statuses = count_statuses(Replies.of(with_statuses(table, bad, "refusal"), questions), seed=0)
    assert statuses.counts["refusal"] == bad.sum()
    assert statuses.by_persona["loyal_nationals"]["refusal"] == (bad & is_one).sum()
    assert statuses.by_group[name]["refusal"] == (bad & (group == name)).sum()
    assert statuses.by_group[name]["ok"] == (~bad & (group == name)).sum()
    by_persona, by_group = statuses.largest
    assert (by_persona.status, by_persona.among, by_persona.name) == ("refusal", "persona", "loyal_nationals")
    assert by_persona.rate == pytest.approx(bad[is_one].mean())
    assert by_persona.rate_elsewhere == pytest.approx(bad[~is_one].mean())
    assert by_persona.difference.value == pytest.approx(by_persona.rate - by_persona.rate_elsewhere)
    assert by_persona.difference.interval.low > 2 * by_persona.difference.chance
    assert (by_group.among, by_group.name) == ("group", name)
    assert by_group.rate_elsewhere == pytest.approx(bad[group != name].mean())
    assert by_group.difference.value > 2 * by_group.difference.chance


def test_a_status_that_strikes_at_random_differs_by_no_more_than_chance() -> None:
    questions = whole_clusters(120)
    table = survey_replies(questions)
    bad = np.random.default_rng(1).random(len(table)) < 0.1
    for difference in count_statuses(Replies.of(with_statuses(table, bad, "invalid"), questions), seed=0).largest:
        assert abs(difference.difference.value) < 1.2 * difference.difference.chance


def test_without_anything_unusable_nothing_is_named() -> None:
    questions = whole_clusters(5)
    statuses = count_statuses(Replies.of(survey_replies(questions), questions), seed=0)
    assert statuses.largest == ()
    assert statuses.counts == {"ok": 350, **dict.fromkeys(("invalid", "refusal", "empty", "truncated", "failed"), 0)}


def test_one_persona_and_one_group_have_nobody_to_differ_from() -> None:
    questions = whole_clusters(1)
    table = survey_replies(questions).slice(0, 10)
    replies = Replies.of(with_statuses(table, np.arange(10) < 3, "empty"), questions)
    assert count_statuses(replies, seed=0).largest == ()
