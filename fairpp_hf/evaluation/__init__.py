"""Where models stand among the personas, and how sure that is."""

from pathlib import Path


def metric_path() -> str:
    """The folder that `evaluate.load` takes the alignment metric from, without the Hub.

    Example:
        >>> import evaluate
        >>> metric = evaluate.load(metric_path(), personas=["a", "b"], target="a")
        >>> metric.compute(predictions=[0, 1], references=[[0, 1], [1, 1]])["agreement/target"]
        1.0
    """
    return str(Path(__file__).parent / "alignment_metric")
