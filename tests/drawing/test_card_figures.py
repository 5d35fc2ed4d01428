"""The figures of a dataset card: the same bytes every time, for one persona and for many, whatever their names."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
from card_facts import facts
from PIL import Image

from fairpp_hf.dataset.folder_facts import DimensionFacts, FolderFacts, TargetFacts
from fairpp_hf.drawing.card_figures import CardFigure, draw_figures, labels_of, source_of


def of_personas(*personas: str, **changes: Any) -> FolderFacts:
    """All give the answers of the first persona of `facts`; no two share a question."""
    counts = facts().answer_counts["progressive_activists"]
    count = len(personas)
    return facts(
        personas=personas,
        answer_counts=dict.fromkeys(personas, counts),
        agreement=np.full((count, count), np.nan),
        targets={name: TargetFacts(personas[1:], tuple(range(count)), True) for name in personas if count > 1},
        **changes,
    )


def image(figure: CardFigure) -> Image.Image:
    opened = Image.open(io.BytesIO(figure.png))
    opened.load()
    return opened


def test_the_figures_are_named_and_told_in_words() -> None:
    figures = draw_figures(facts())
    assert [figure.path for figure in figures] == [
        f"figures/{name}.png" for name in ("answer_shares", "agreement", "tiers")
    ]
    for figure, words in zip(figures, ("2 personas on each of 2 dimensions", "0%.", "1 target persona"), strict=True):
        assert words in figure.alt
        assert figure.alt.endswith(" The answers are simulated.")
    unmarked = draw_figures(facts(simulated=False))
    assert not any("simulated" in figure.alt for figure in unmarked)
    assert all(ours.png != theirs.png for ours, theirs in zip(figures, unmarked, strict=True))


def test_the_alternative_text_names_the_pairs_that_agree_most_and_least() -> None:
    """Pairs: a and b 0.5, a and c 0.25, b and c 0.75."""
    agreement = np.array([[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]])
    _, figure, _ = draw_figures(of_personas("a", "b", "c")._replace(agreement=agreement))
    assert figure.alt == (
        "Heat map: how often 3 personas give the same answer, pair by pair. Most: b and c, 75%. Least: a and c, 25% of the "
        "questions that both answered. The answers are simulated."
    )


@pytest.mark.parametrize("respondent", ["openai:some-model", f"openai:{'some-org/some-long-model-name-' * 2}"])
def test_the_background_is_opaque(respondent: str) -> None:
    """On a dark page, black text on no background would not be seen."""
    for figure in draw_figures(facts(respondents=(f"{respondent} (simulated)",))):
        pixels = np.asarray(image(figure).convert("RGBA"))
        assert pixels[..., 3].min() == 255
        # A white frame: nothing is cut off at an edge.
        assert all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


@pytest.mark.parametrize(
    "names",
    [
        [f"a_persona_with_quite_a_long_name_{number}" for number in range(12)],
        ["$x$", "$y_"],
        ["忠诚者", "مواطن"],
        ["\U0001f9d1\u200d\U0001f33e", "line\nbreak\ttab", "nul\x00", "\u202ea", "ŉ", "\ud800"],
    ],
)
def test_many_personas_and_odd_names(names: list[str]) -> None:
    with warnings.catch_warnings():
        # Such as a layout that does not fit.
        warnings.simplefilter("error")
        odd = {1: DimensionFacts("自由", "平等"), 3: DimensionFacts("a\nb", "c")}
        draw_figures(facts(dimensions=odd, respondents=("模型 (simulated)",)))
        figures = draw_figures(of_personas(*names))
    small = draw_figures(of_personas("a", "b"))
    assert len(figures) == 3
    # One persona has nobody to agree with.
    assert [figure.path for figure in draw_figures(of_personas("alone"))] == ["figures/answer_shares.png"]
    if len(names) == 12:
        assert all(image(big).height > image(little).height for big, little in zip(figures, small, strict=True))


def test_what_the_font_lacks_is_called_by_its_number() -> None:
    """And a note says so: the font comes with matplotlib, and has no Chinese."""
    found = of_personas("loyal_nationals", "忠诚者", "ångström\nand_son")
    assert labels_of(found) == ["Loyal Nationals", "Persona 2", "Ångström And Son"]
    note = " Persona n: row n of the first table of answers."
    assert source_of(found) == f"Simulated answers by openai:some-model; no person was asked.{note}"
    assert source_of(of_personas("a", "b")) == "Simulated answers by openai:some-model; no person was asked."
    assert source_of(facts(simulated=False, respondents=("我", "me"))) == "Answers by somebody, me."


def test_a_dimension_that_a_persona_was_not_asked_about() -> None:
    counts = {persona: dict(rows) for persona, rows in facts().answer_counts.items()}
    counts["loyal_nationals"][3] = {"none": 0, "A": 0, "B": 0, "C": 0}
    drawn = draw_figures(facts(answer_counts=counts))[0]
    assert drawn.png != draw_figures(facts())[0].png
