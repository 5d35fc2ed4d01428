"""The questions worth reading: those that divide the personas, and those on which models miss the target."""

import numpy as np

from fairpp_hf.evaluation.report.folder import Evaluated
from fairpp_hf.evaluation.report.markup import Section, controls, name, paragraph, section, select, text
from fairpp_hf.evaluation.report.numbers import most_divided
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

SHOWN = 100
"""Questions on the page, of however many: it has to be small enough to be sent by mail."""


def questions_section(evaluated: Evaluated) -> Section:
    """Who answers what, question by question."""
    divided = most_divided(evaluated, SHOWN)
    rows = divided.rows.tolist()
    found = evaluated.questions.take(rows).to_pylist()
    items = [
        _question(evaluated, question, row, entropy, missed)
        for question, row, entropy, missed in zip(
            found, rows, divided.entropy.tolist(), divided.disagreement.tolist(), strict=True
        )
    ]
    dimensions = sorted({(question["dimension"], question["pole_a"], question["pole_b"]) for question in found})
    groups = sorted({question["group"] for question in found})
    everything = ("", "all")
    words = '<label>words<input type="search" id="filter-words" autocomplete="off"></label>'
    return section(
        "questions",
        "Questions to read",
        paragraph(
            f"{len(rows):,} of {len(evaluated.questions):,}: half of them those that divide the personas most (by the "
            "entropy of their answers), half those on which the models give the least probability to the answer of "
            f"{name(evaluated.name(evaluated.target))}."
        ),
        controls(
            words,
            select(
                "dimension",
                {"id": "filter-dimension"},
                [everything, *((str(number), f"{number} {a} / {b}") for number, a, b in dimensions)],
            ),
            select("group", {"id": "filter-group"}, [everything, *((group, group) for group in groups)]),
            select(
                "first",
                {"id": "filter-order"},
                [("entropy", "what divides the personas"), ("missed", "where models miss the target")],
            ),
            '<span class="muted" id="filter-count" aria-live="polite"></span>',
        ),
        f'<ol class="questions">{"".join(items)}</ol>',
    )


def _question(evaluated: Evaluated, question: dict, row: int, entropy: float, missed: float) -> str:
    given = {persona: int(column[row]) for persona, column in evaluated.answers.items()}
    options = "".join(
        f"<dt>{letter}. {text(question[f'option_{letter.lower()}'])}</dt>"
        f"<dd>{_who(evaluated, [persona for persona, answer in given.items() if answer == option])}</dd>"
        for option, letter in enumerate(OPTION_LETTERS)
    )
    silent = [persona for persona, answer in given.items() if answer == NO_ANSWER]
    none = f"<dt>no valid answer</dt><dd>{_who(evaluated, silent)}</dd>" if silent else ""
    systems = "; ".join(
        f"{name(system.name)} {_probabilities(system.probabilities[row])}" for system in evaluated.systems
    )
    missing = "" if np.isnan(missed) else f", models miss the target by {100 * missed:.0f}%"
    return (
        f'<li data-dimension="{question["dimension"]}" data-group="{text(question["group"])}" '
        f'data-entropy="{entropy:.6f}" data-missed="{-1 if np.isnan(missed) else missed:.6f}">'
        f'<p class="muted">{text(question["topic"])}, {text(question["problem"])} · {text(question["group"])} · dimension '
        f"{question['dimension']}: {text(question['pole_a'])} / {text(question['pole_b'])}</p>"
        f'<p dir="auto">{text(question["question"])}</p><dl>{options}{none}</dl>'
        f'<p class="notes">Systems, A B C: {systems}. Entropy of the personas {entropy:.2f}{missing}.</p></li>'
    )


def _who(evaluated: Evaluated, personas: list[str]) -> str:
    if not personas:
        return '<span class="muted">nobody</span>'
    chips = "".join(
        f'<span class="chip{" target" if persona == evaluated.target else ""}">{name(evaluated.name(persona))}'
        f"{' (target)' if persona == evaluated.target else ''}</span>"
        for persona in personas
    )
    return f'<div class="who">{chips}</div>'


def _probabilities(row: np.ndarray) -> str:
    return "no valid answer" if np.isnan(row).any() else " ".join(f"{100 * value:.0f}%" for value in row)
