import numpy as np
import pytest
from scipy.special import softmax

from fairpp_hf.evaluation.baselines import as_scores
from fairpp_hf.evaluation.evaluate import evaluate_systems
from fairpp_hf.evaluation.length_gap import length_gap
from fairpp_hf.questions import load_questions
from fairpp_hf.scoring.option_scorer import option_scores


def lines(letters, tokens, cost, rule="line", clusters=None):
    """The gap of a model that gives letters these log-probabilities and pays `cost` nats for each further token."""
    letters, tokens = np.broadcast_arrays(np.array(letters, float), np.array(tokens))
    logprobs = letters - cost * (tokens - 1)
    flat = [array.reshape(-1, 3) for array in (logprobs, letters, tokens)]
    by_order = option_scores(*flat, rule).probabilities.reshape(letters.shape)
    scores = as_scores("m", by_order, kind="model")._replace(
        logprobs=logprobs, letter_logprobs=letters, tokens=tokens.astype(float)
    )
    return length_gap(scores, np.arange(len(letters)) if clusters is None else clusters)


THIRDS = np.zeros((1, 2, 3))


def test_one_question_by_hand():
    """Letters of 1/3 each; lines of 9, 5 and 1 tokens at ln 2 for each but the first are 2^-8 : 2^-4 : 1 = 1 : 16 : 256.

    (256 - 1) / 273 less 0. Of two shortest options, 2^-8 : 1 : 1, half counts for each: (256 - 1) / 513.
    """
    assert lines(THIRDS, [9, 5, 1], np.log(2)).gap == pytest.approx(255 / 273)
    assert lines(THIRDS, [9, 1, 1], np.log(2)).gap == pytest.approx(255 / 513)
    assert lines(THIRDS, [9, 5, 1], np.log(2)).interval is None


def test_a_choice_at_the_letter_is_no_length_gap():
    """Whoever wants the short option for what it says has a gap of 0 where the text costs nothing, and almost -1 where long
    options were favoured as much."""
    wants_short = np.log([[[0.1, 0.1, 0.8]] * 2])
    assert lines(wants_short, [9, 5, 1], 0).gap == pytest.approx(0)
    assert lines(wants_short, [9, 5, 1], 0.3).gap > 0
    assert lines(wants_short, [9, 5, 1], -5).gap == pytest.approx(0 - 1 - (0.8 - 0.1))


def test_means_over_tokens_favour_long_lines_where_text_costs_little():
    """The letter's cost is spread over more tokens; at the same cost for every token, letters included, nothing is left."""
    assert lines(THIRDS + np.log(1 / 3), [9, 5, 2], 0, "per_token").gap < -0.5
    assert lines(THIRDS - 0.4, [9, 5, 2], 0.4, "per_token").gap == pytest.approx(0)


def test_the_order_of_options_and_the_others_do_not_matter():
    rng = np.random.default_rng(0)
    letters, tokens = rng.normal(size=(50, 2, 3)), rng.integers(2, 20, (50, 2, 3))
    found = lines(letters, tokens, 0.2)
    shuffled = rng.permuted(np.tile(np.arange(3), (50, 2, 1)), axis=-1)
    again = lines(*(np.take_along_axis(array, shuffled, axis=-1) for array in (letters, tokens)), 0.2)
    assert again.gap == pytest.approx(found.gap)
    # The plainest way, one question and order after the other.
    gaps = []
    for of_question, lengths in zip(letters, tokens, strict=True):
        of_orders = []
        for row, counts in zip(of_question, lengths, strict=True):
            change = softmax(row - 0.2 * (counts - 1)) - softmax(row)
            short = np.mean([change[place] for place in range(3) if counts[place] == min(counts)])
            long = np.mean([change[place] for place in range(3) if counts[place] == max(counts)])
            of_orders.append(short - long)
        gaps.append(np.mean(of_orders))
    same_length = [len(set(counts.tolist())) == 1 for counts in tokens.reshape(-1, 3)]
    assert not any(same_length)
    assert found.gap == pytest.approx(np.mean(gaps))
    low, high = found.interval
    assert low < found.gap < high
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(gaps) / np.sqrt(50), rel=0.15)


def test_questions_without_lines_or_of_one_length_do_not_count():
    letters, tokens = np.zeros((3, 2, 3)), np.array([[[9, 5, 1]] * 2, [[4, 4, 4]] * 2, [[9, 5, 1]] * 2])
    letters[2, 1] = np.nan
    assert lines(letters, tokens, np.log(2)).gap == pytest.approx(255 / 273)
    assert lines(letters[1:], tokens[1:], np.log(2)) is None
    assert length_gap(as_scores("m", np.eye(3)), np.arange(3)) is None


def test_it_is_in_the_table_the_notes_and_the_files():
    questions = load_questions("test").take(list(range(0, 5400, 90)))
    tokens = np.tile([9, 5, 1], (60, 2, 1))
    scored = as_scores("m", softmax(-0.1 * tokens, axis=-1), kind="model")._replace(
        logprobs=-0.1 * tokens, letter_logprobs=np.full((60, 2, 3), -0.1), tokens=tokens.astype(float)
    )
    server = as_scores("server", softmax(-0.1 * tokens, axis=-1), kind="model")
    answers = {"t": np.zeros(60, int), "x": np.ones(60, int)}
    found = evaluate_systems([scored, server], questions, answers, "t", reference="", division="")
    low, *_, high = softmax(-0.1 * np.array([9.0, 5, 1]))
    assert found.to_dict()["systems"]["m"]["length_gap"] == {"gap": pytest.approx(high - low), "interval_95": None}
    assert found.to_dict()["systems"]["server"]["length_gap"] is None
    rows = found.to_markdown().splitlines()
    head = rows.index("| system | position gap | same choice in both orders | length gap |")
    assert rows[head + 2].endswith(f"| {high - low:+.3f} |")
    assert rows[head + 3].endswith("| none |")
    assert "Length gap, of models scored by whole lines" in found.notes()
    alone = evaluate_systems([server], questions, answers, "t", reference="", division="")
    assert "Length gap" not in alone.notes()
