"""The module of Hugging Face's evaluate, loaded from its folder without the Hub."""

import re
from pathlib import Path

import evaluate
import numpy as np
import pytest

from fairpp_hf.evaluation import metric_path
from fairpp_hf.statistics.alignment import alignment_metrics

PREDICTIONS = [0, 1, -1, 2]
REFERENCES = [[0, 1], [1, 1], [0, -1], [1, 2]]
COLUMNS = {"persona_0": [0, 1, 0, 1], "persona_1": [1, 1, -1, 2]}


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left on the machine, and nothing there is read."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")


def test_it_computes_what_the_function_does() -> None:
    metric = evaluate.load(metric_path())
    assert metric.name == "alignment_metric"
    assert metric.compute(predictions=PREDICTIONS, references=REFERENCES) == alignment_metrics(PREDICTIONS, COLUMNS)
    assert all((metric.description, metric.citation, metric.inputs_description))


def test_batches_and_single_questions_are_collected() -> None:
    metric = evaluate.load(metric_path(), personas=["a", "b"], target="b")
    metric.add_batch(predictions=PREDICTIONS[:2], references=REFERENCES[:2])
    metric.add(prediction=PREDICTIONS[2], reference=REFERENCES[2])
    metric.add_batch(predictions=PREDICTIONS[3:], references=REFERENCES[3:])
    named = dict(zip("ab", COLUMNS.values(), strict=True))
    assert metric.compute() == alignment_metrics(PREDICTIONS, named, target="b")


def test_probabilities_on_either_side_a_single_persona_and_questions() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet([1, 1, 1], 4), rng.dirichlet([1, 1, 1], 4)
    answers = [0, 1, 2, -1]
    questions = {name: ["x"] * 4 for name in ("topic", "problem", "group_type", "group")}
    questions |= {"dimension": [1, 1, 2, 2], "form": ["criterion", "explanation"] * 2}
    metric = evaluate.load(metric_path())
    found = metric.compute(predictions=first, references=answers, personas=["a"], questions=questions)
    assert found == alignment_metrics(first, {"a": answers}, questions=questions)
    assert "forms_consistency" in found
    metric = evaluate.load(metric_path(), personas=["a", "b"])
    expected = alignment_metrics(PREDICTIONS, {"a": first, "b": second})
    assert metric.compute(predictions=PREDICTIONS, references=np.stack([first, second], axis=1).tolist()) == expected


@pytest.mark.parametrize(
    ("predictions", "references", "personas", "message"),
    [
        (PREDICTIONS, REFERENCES, ["a"], "personas must name each of the 2 columns of references once; got ['a']."),
        (
            PREDICTIONS,
            REFERENCES,
            ["a", "a"],
            "personas must name each of the 2 columns of references once; got ['a', 'a'].",
        ),
        (
            PREDICTIONS,
            [[0, 1], [1], [0, 1], [1, 2]],
            None,
            "references must hold an answer of every persona for each question; got rows of [1, 2] answers. "
            "Give -1 for an answer that is missing.",
        ),
        (
            [0.2, 1.0],
            [0, 1],
            None,
            "predictions must be whole numbers in -1..2; got 0.2 at row 0. "
            "Give probabilities as lists of 3, of A, B and C.",
        ),
        (
            [0, 1],
            [[0, 1], [0, 1.7]],
            None,
            "references['persona_1'] must be whole numbers in -1..2; got 1.7 at row 1. "
            "Give probabilities as lists of 3, of A, B and C.",
        ),
        ([0, 3], [0, 1], None, "predictions must be in -1..2 (-1 for no valid answer); got 3 at row 1."),
        ([], [], None, "predictions must hold at least one question; got none."),
    ],
)
def test_bad_input_is_refused_and_not_rounded(
    predictions: list, references: list, personas: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        evaluate.load(metric_path()).compute(predictions=predictions, references=references, personas=personas)
