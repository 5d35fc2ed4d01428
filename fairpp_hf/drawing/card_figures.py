"""The figures of a dataset card, as PNG bytes that depend on the data alone."""

import textwrap
from functools import partial
from typing import NamedTuple

import numpy as np

from fairpp_hf.dataset.folder_facts import NONE, FolderFacts, share_of
from fairpp_hf.drawing.canvas import Chart, png
from fairpp_hf.drawing.charts import Party, heat_map, stacked_bars
from fairpp_hf.drawing.texts import in_lines, percent, short_count
from fairpp_hf.drawing.theme import NO_ANSWER, drawable, option_fills
from fairpp_hf.markdown import counted
from fairpp_hf.naming import readable
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import OPTION_LETTERS

FOLDER = "figures"


class CardFigure(NamedTuple):
    """A picture and what stands in for it where it cannot be seen."""

    path: str
    """Relative to the folder."""
    alt: str
    png: bytes


def draw_figures(facts: FolderFacts) -> tuple[CardFigure, ...]:
    """Draw what there is to show: answer shares; with two personas or more, their agreement; with targets, the tiers."""
    figures = [_answer_shares(facts)]
    if len(facts.personas) > 1:
        figures.append(_agreement(facts))
    if facts.targets:
        figures.append(_tiers(facts))
    return tuple(figures)


def _answer_shares(facts: FolderFacts) -> CardFigure:
    """A panel for each dimension; in it, a stacked bar of 100% for each persona."""
    kinds, fills = [*OPTION_LETTERS], option_fills()
    if any(counts[NONE] for of_persona in facts.answer_counts.values() for counts in of_persona.values()):
        kinds.append(NONE)
        fills.append(NO_ANSWER)
    columns = {}
    for number, poles in facts.dimensions.items():
        pole_a, pole_b = drawable(poles.pole_a, "first pole"), drawable(poles.pole_b, "second pole")
        heading = f"Dimension {number}\nA: {in_lines(pole_a, 22, 1)}\nB: {in_lines(pole_b, 22, 1)}"
        counts = [facts.answer_counts[persona][number] for persona in facts.personas]
        columns[heading] = np.array([[share_of(of_persona, kind) for kind in kinds] for of_persona in counts])
    title = "Answers by persona and dimension, in percent"
    parties = [Party(label, label) for label in labels_of(facts)]
    chart = stacked_bars("answer-shares", title, parties, columns, fills, empty="not asked")
    alt = (
        f"Stacked bars: shares of the answers {', '.join(OPTION_LETTERS)} of {counted(len(facts.personas), 'persona')} on "
        f"each of {counted(len(facts.dimensions), 'dimension')}. The table below has the numbers."
    )
    return _figure("answer_shares", alt, facts, chart)


def _agreement(facts: FolderFacts) -> CardFigure:
    """A heat map, lower triangle, with the percentage in each cell."""
    names = labels_of(facts)
    # The first persona's row and the last one's column would be empty.
    below = np.tril(np.ones(facts.agreement.shape, dtype=bool), -1)
    shown = np.where(below, facts.agreement, np.inf)[1:, :-1]
    found = shown[np.isfinite(shown)]
    chart = heat_map(
        "agreement",
        "Questions answered alike, in percent",
        names[1:],
        names[:-1],
        shown,
        form=partial(percent, sign=""),
        limits=(float(found.min()), float(found.max())) if len(found) else None,
    )
    alt = f"Heat map: how often {counted(len(names), 'persona')} give the same answer, pair by pair."
    return _figure("agreement", f"{alt}{_extremes(facts)}", facts, chart)


def _extremes(facts: FolderFacts) -> str:
    """A sentence on the pairs that agree most and least, empty where no two personas share a question."""
    pairs = [
        (facts.agreement[row, column], facts.personas[column], facts.personas[row])
        for row in range(len(facts.personas))
        for column in range(row)
        if not np.isnan(facts.agreement[row, column])
    ]
    if len(pairs) < 2:
        return "".join(f" {share:.0%}." for share, *_ in pairs)
    most, least = max(pairs), min(pairs)
    return (
        f" Most: {most[1]} and {most[2]}, {most[0]:.0%}. Least: {least[1]} and {least[2]}, {least[0]:.0%} of the questions "
        "that both answered."
    )


def _tiers(facts: FolderFacts) -> CardFigure:
    """A row for each target, a column for each number of comparison personas that disagree with it."""
    labels = dict(zip(facts.personas, labels_of(facts), strict=True))
    most = max(len(target.disagreements) for target in facts.targets.values())
    counts = np.full((len(facts.targets), most), np.inf)
    for row, found in zip(counts, facts.targets.values(), strict=True):
        row[: len(found.disagreements)] = found.disagreements
    chart = heat_map(
        "tiers",
        "How many questions set a target apart",
        [labels[target] for target in facts.targets],
        [str(number) for number in range(most)],
        counts,
        form=short_count,
        note="Columns: how many of the comparison personas disagree with the target. In the cells: number of questions.",
    )
    alt = (
        f"Heat map for {counted(len(facts.targets), 'target persona')}: number of questions by how many comparison personas "
        "answered differently. The table below has the numbers."
    )
    return _figure("tiers", alt, facts, chart)


def _figure(name: str, alt: str, facts: FolderFacts, chart: Chart) -> CardFigure:
    said = f"{alt} The answers are simulated." if facts.simulated else alt
    return CardFigure(f"{FOLDER}/{name}.png", said, png([chart], caption=source_of(facts)))


def source_of(facts: FolderFacts) -> str:
    """Who answered, and whether they only stand in for people."""
    names = [drawable(name.removesuffix(SIMULATED) if facts.simulated else name) for name in facts.respondents]
    listed = textwrap.shorten(", ".join(name or "somebody" for name in names), 80, placeholder=" ...")
    said = f"Simulated answers by {listed}; no person was asked." if facts.simulated else f"Answers by {listed}."
    if all(map(drawable, facts.personas)):
        return said
    return f"{said} Persona n: row n of the first table of answers."


def labels_of(facts: FolderFacts) -> list[str]:
    """What each persona is called in the figures; by its number where the font lacks a letter of its name."""
    return [
        drawable(readable(drawable(persona, f"persona {place}")), f"Persona {place}")
        for place, persona in enumerate(facts.personas, 1)
    ]
