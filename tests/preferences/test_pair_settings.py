"""The settings that all who make pairs have in common: defaults, equal forms, and one error for each fault."""

import json
import re

import numpy as np
import pytest

from fairpp_hf.preferences import PairSettings


def by_tier(facts):
    return facts.tier


def test_the_weighting_follows_the_labels():
    """A weight that depends on the drawn answer would only add noise to soft labels."""
    assert PairSettings().scheme == "tier"
    assert PairSettings(labels="fitted").scheme == PairSettings(labels="respondent").scheme == "uniform"
    assert PairSettings(labels="fitted", weighting="surprisal").scheme == "surprisal"
    assert (PairSettings(by_tier).scheme, PairSettings(by_tier).scheme_name) == (by_tier, "by_tier")


def test_the_same_in_other_words_is_equal():
    assert PairSettings(alpha=1, divergence=0) == PairSettings(alpha=1.0, divergence=0.0)
    assert PairSettings(comparison=["c", "b", "c"]) == PairSettings(comparison=("b", "c"))
    assert PairSettings(weighting="tier").as_dict() == PairSettings().as_dict()
    assert PairSettings(weighting="tier").as_dict() != PairSettings(weighting="uniform").as_dict()


def test_settings_are_written_as_json():
    settings = PairSettings(by_tier, comparison=["c", "b"], labels="fitted", divergence=np.float32(0.5), seed=3)
    assert json.loads(json.dumps(settings.as_dict())) == {
        "weighting": "by_tier",
        "alpha": 1.0,
        "beta": 1.0,
        "comparison": ["b", "c"],
        "random_third_pair": False,
        "option_order": "written",
        "labels": "fitted",
        "divergence": 0.5,
        "seed": 3,
    }
    assert [PairSettings(comparison=given).as_dict()["comparison"] for given in (None, "nearest")] == [None, "nearest"]
    assert [PairSettings(comparison=given).named for given in (None, "nearest", ["b"])] == [(), (), ("b",)]


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({}, False),
        ({"weighting": "surprisal"}, True),
        ({"weighting": by_tier}, True),
        ({"labels": "fitted"}, False),
        ({"labels": "fitted", "divergence": 0.5}, True),
    ],
)
def test_who_uses_the_shares_of_a_population(settings, used):
    assert PairSettings(**settings).uses_shares is used


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"divergence": 0.5}, "divergence must be 0 with labels='answers'; got 0.5."),
        ({"random_third_pair": True, "labels": "fitted"}, "random_third_pair must be False with labels='fitted'; got"),
        ({"labels": "soft"}, "labels must be one of 'answers', 'respondent', 'fitted'; got 'soft'."),
        *(
            ({"labels": "fitted", "divergence": value}, f"must be a finite number of at least 0; got {value!r}.")
            for value in (-0.1, np.inf, "1", True, None)
        ),
        ({"random_third_pair": 1}, "random_third_pair must be True or False; got 1."),
        ({"seed": True}, "seed must be a whole number; got True."),
        ({"option_order": "mix"}, "got 'mix'. Did you mean 'mixed'?"),
        ({"comparison": "b"}, "or 'nearest'; got 'b'. Write ['b'] for one persona."),
        (
            {"labels": "fitted", "beta": 2.0},
            "beta must be left at 1.0 with weighting 'uniform', which has no exponents;",
        ),
    ],
)
def test_what_will_not_do_is_refused(settings, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        PairSettings(**settings)
