import numpy as np

from fairpp_hf.questions import load_questions, sample_questions


def test_a_larger_sample_contains_the_smaller():
    questions = load_questions("test")
    small, large = sample_questions(questions, 20), sample_questions(questions, 200)
    assert set(small) < set(large)
    assert len(large) == 200
    np.testing.assert_array_equal(large, np.sort(large))


def test_a_question_is_sampled_by_its_id_whatever_its_row():
    questions = load_questions("test").slice(0, 500)
    reversed_questions = questions.take(np.arange(500)[::-1])
    chosen = questions.take(sample_questions(questions, 30))["question_id"].to_pylist()
    assert chosen == reversed_questions.take(sample_questions(reversed_questions, 30))["question_id"].to_pylist()[::-1]


def test_samples_spread_over_the_labels():
    questions = load_questions()
    sample = questions.take(sample_questions(questions, 200))
    assert len(set(sample["group"].to_pylist())) > 25
    assert len(set(sample["topic"].to_pylist())) == 5


def test_a_sample_for_selection_shares_no_question_with_one_for_judging():
    questions = load_questions("test").slice(0, 100)
    judged, chosen_by = sample_questions(questions, 60), sample_questions(questions, 40, for_selection=True)
    assert sorted([*judged, *chosen_by]) == list(range(100))
