"""`fairpp_hf.evaluate`: where a model stands among the personas, by one call."""

import html
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from fairpp_hf.dataset.sources import NameOrPath
    from fairpp_hf.evaluation.results import Results


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found; in a notebook, it is shown as a table.

    Attributes:
        results: Everything, as `fairpp evaluate` writes it: systems, intervals, comparisons and probabilities.
    """

    results: "Results"

    def to_pandas(self) -> "pd.DataFrame":
        """Every metric: a row a system, a column a metric, as in results.csv."""
        return self.results.to_pandas()

    def table(self) -> "pd.DataFrame":
        """The metrics that matter most, see `Results.headline`: `skill` first, the constant first and then the best."""
        return self.results.headline()

    def plot(self) -> "Image":
        """The picture of `fairpp evaluate`, as an image that notebooks show and that has `save(path)`."""
        from PIL import Image

        from fairpp_hf.drawing.pictures import draw_evaluation

        with tempfile.TemporaryDirectory() as folder:
            content = draw_evaluation(self.results, Path(folder) / "results.png").read_bytes()
        return Image.open(BytesIO(content))

    def __repr__(self) -> str:
        """The table of what matters most."""
        return f"{self._title()}\n{self.table().round(3).to_string(na_rep='')}"

    def _repr_html_(self) -> str:
        table = self.table().round(3).to_html(na_rep="", border=0)
        return f"<p>{html.escape(self._title())}</p>{table}"

    def _title(self) -> str:
        found = self.results
        return f"Target: {found.target}; {len(found.questions):,} questions; answers of the personas: {found.reference}"


def evaluate(
    model: str | Path,
    *,
    target: str,
    adapter: str | Path | None = None,
    limit: int | None = None,
    answers: "NameOrPath" = "survey",
    personas: "NameOrPath | None" = None,
    split: Literal["train", "test"] = "test",
    role_play: bool = True,
    out: str | Path | None = None,
) -> Evaluation:
    """Score a model on held-out questions against all personas, beside baselines.

    The model is scored as it is, with the target's portrait as system prompt, and with the adapter, each in both orders of
    the options. It is what `fairpp evaluate` does, which also takes several models, servers and scenarios.

    Args:
        model: Name or path of a causal language model with a chat template.
        target: Id of the persona that the model is meant to match.
        adapter: Name or path of a PEFT adapter trained on the model.
        limit: Size of a fixed random sample of the questions; all by default.
        answers: `"survey"` (simulated), `"published"`, or the path of a run, dataset folder or published table.
        personas: Name or file of the persona set behind the answers, where they do not record it.
        split: Split of the questions.
        role_play: Whether to score the model with the target's portrait as well.
        out: Folder for scores and results. The same call continues from what is there. By default nothing is kept.

    Returns:
        The systems beside the baselines `constant`, `label model`, `majority of the others` and `uniform`.

    Raises:
        ValueError: An argument is wrong, or the target has no answers; nothing has been scored.
        OSError: The model or a file cannot be found.

    Example:
        ```python
        result = fairpp_hf.evaluate("my-model", target="loyal_nationals", adapter="outputs/taste", limit=200)
        result.to_pandas()["skill/target"]
        ```
    """
    from fairpp_hf.dataset.sources import resolve_answers
    from fairpp_hf.evaluation.evaluate import (
        check_portraits,
        check_references,
        evaluate_models,
        questions_to_score,
    )
    from fairpp_hf.evaluation.model_scores import score_models
    from fairpp_hf.evaluation.models import ModelSpec

    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1; got {limit}. Leave it out to ask all questions.")
    models = [ModelSpec("plain", str(model))]
    if role_play:
        models.append(ModelSpec("role-play", str(model), persona=target, before="plain"))
    if adapter is not None:
        models.append(ModelSpec("adapter", str(model), adapter=str(adapter), before="plain"))
    source = resolve_answers(answers)
    known = source.load(personas)
    persona_set = source.persona_set(personas)
    questions, references = questions_to_score(known, split, limit)
    check_references(references, target)
    check_portraits(models, persona_set, answers, "Pass personas=..., or role_play=False.")
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        results = evaluate_models(
            score_models(models, questions, Path(folder), personas=persona_set),
            known,
            questions,
            references,
            target,
            division=f"{split} split",
            personas=persona_set,
        )
        if out is not None:
            results.write(Path(out))
    return Evaluation(results)
