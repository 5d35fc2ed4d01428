"""Several processes score as one."""

import re
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model, tiny_tokenizer
from two_processes import run_on_two_processes

from fairpp_hf.scoring import OptionScorer, SharedScorer, join_processes
from fairpp_hf.scoring.distributed import deal

CHATS = [
    [{"role": "system", "content": "You are thrifty."}] * (number % 2)
    + [{"role": "user", "content": f"{'Which rule is fairer? ' * number}fair?"}]
    for number in range(7)
]
OPTIONS = [("the rule", "the need" * number, "neither") for number in range(1, 8)]


def test_two_processes_score_as_one(tmp_path):
    """7 questions, which do not divide; then 1, none, calls left half-way, and one that fails on the other process.

    Before that, a model that the two divide.
    """
    run_on_two_processes(Path(__file__).parent / "two_scorers.py", [str(tmp_path)], tmp_path)
    found = np.load(tmp_path / "found.npz")
    scorer = OptionScorer(tiny_model(), tiny_tokenizer())
    expected = scorer.score(CHATS, OPTIONS).logprobs
    assert found["count"] == 2
    for name in ("logprobs", "after"):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)
    np.testing.assert_allclose(found["one"], expected[:1], rtol=1e-4)
    assert found["none"].shape == (0, 3)
    np.testing.assert_allclose(found["letters"], scorer.score(CHATS, OPTIONS).letter_logprobs, rtol=1e-4)
    assert str(found["error"]) == "Process 1 of 2 must score its 1 questions; got ValueError: this one cannot."
    assert str(found["hash"]) == scorer.template_hash
    assert np.load(tmp_path / "served.npy").tolist() == [3, 3, 0, 0, 3, 3, 1, 3]
    # Of a call that is left, the other process's share is there.
    assert len(found["left_rows"]) == 3
    assert not set(found["left_rows"]) & set(found["own_rows"])
    np.testing.assert_allclose(found["left"], expected[found["left_rows"]], rtol=1e-4)
    for process in range(2):
        # Whole, then divided.
        assert np.load(tmp_path / f"verdicts_{process}.npy").tolist() == [False, True]
        # FSDP2: prompts are shared, and nothing is computed beforehand.
        np.testing.assert_allclose(np.load(tmp_path / f"sharded_{process}.npy"), expected, rtol=1e-4)


def test_work_is_dealt_by_length():
    """Sorted 9 7 5 4 2: to the first 9 5 2, to the second 7 4."""
    shares = deal(np.array([4, 9, 2, 7, 5]), 2)
    assert [share.tolist() for share in shares] == [[1, 4, 2], [3, 0]]
    assert [share.tolist() for share in deal(np.array([3]), 2)] == [[0], []]


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() == (0, 1)
    message = (
        "Processes must have joined before they share their work; got one process on its own. Call join_processes() "
        "first, and start with `accelerate launch`."
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        SharedScorer(OptionScorer(tiny_model(), tiny_tokenizer()))
