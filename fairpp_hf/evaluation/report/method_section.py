"""How the numbers were made: hashes, models, settings and counts, whom to cite, and what the answers are not."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fairpp_hf import __version__
from fairpp_hf.dataset.builder import CITATION
from fairpp_hf.evaluation.report.folder import Evaluated, System
from fairpp_hf.evaluation.report.markup import Section, name, paragraph, scrolled, section, text

NOTICE = (
    "The answers in this report are simulated: models, or a statistical model with parameters from survey figures, stand in "
    "for segments of a survey. Nobody was asked, and the answers speak for nobody."
)


def method_section(evaluated: Evaluated) -> Section:
    """The end of the page."""
    kind = "scenarios" if evaluated.scenarios else "questions"
    computed = f"fairpp_hf {evaluated.version}" if evaluated.version else "a version that the folder does not name"
    facts = [
        (kind, f"{len(evaluated.questions):,}, {evaluated.division}"),
        ("answers of the personas", evaluated.reference),
        ("orders of the options", str(evaluated.orders)),
        ("numbers computed by", computed),
        ("page drawn by", f"fairpp_hf {__version__}"),
    ]
    return section(
        "method",
        "How it was made",
        paragraph(text(NOTICE)),
        scrolled(f'<table class="facts">{_lines(facts)}</table>', "The evaluation"),
        *(_system(system) for system in evaluated.systems),
        "<h3>Citation</h3>",
        paragraph("Please cite Fair-PP, and the survey behind the persona set."),
        f"<pre>{text(CITATION)}</pre>",
    )


def _system(system: System) -> str:
    facts = list(_flat(system.facts))
    replies = ", ".join(f"{status} {count:,}" for status, count in system.statuses.items())
    facts.append(("replies", replies))
    if system.prompts_hash is not None:
        facts += [("different prompts", f"{system.prompts:,}"), ("SHA-256 of their hashes", system.prompts_hash)]
    return (
        f"<details><summary>{name(system.name)}</summary>"
        + scrolled(f'<table class="facts">{_lines(facts)}</table>', f"Facts of {system.name}")
        + "</details>"
    )


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots, and values as JSON has them but for texts; what is not given is left out."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        elif value is not None and value != {}:
            yield f"{before}{key}".replace("_", " "), value if isinstance(value, str) else json.dumps(value)


def _lines(facts: list[tuple[str, str]]) -> str:
    return (
        "<tbody>"
        + "".join(f'<tr><th scope="row">{text(key)}</th><td>{text(value)}</td></tr>' for key, value in facts)
        + "</tbody>"
    )
