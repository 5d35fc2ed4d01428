"""The quality of a run on one page: a table, JSON and Markdown."""

from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.evaluation.forms import json_text, to_json
from fairpp_hf.evaluation.quality.identification import Identification
from fairpp_hf.evaluation.quality.quality import RunQuality
from fairpp_hf.markdown import bullets, code, counted, table
from fairpp_hf.statistics.bootstrap import Measure

HEADS = ("what", "value [95%]", "by chance", "n")
SIMULATED_NOTE = (
    "The answers are simulated: nobody was asked. The numbers are about how a model plays its roles, not about people."
)
SURVEY_NOTE = (
    "The survey did not ask these questions: its leanings are those of a model with parameters from survey figures, or from "
    "a prior where no figure bears on them."
)
_NOTES = (
    "In brackets: 95% interval, bootstrap over (problem, group) clusters of questions; none where there are fewer than 30. "
    "n: what the number is counted over.",
    "Recognised: share of bundles of so many answers that are attributed to the persona that gave them. Within the run: "
    "by each persona's answer shares by dimension, group type and form, learnt on other (problem, group) pairs. By "
    "the survey: by the shares that its model expects of each persona.",
    "Distance of leanings: mean absolute difference of P(B | A or B), 0 to 1; by chance: answers divided evenly between A "
    "and B. Noise alone: what so many answers of exactly these leanings would show.",
    "Contradictory: opposite poles in the two forms of a (problem, group, dimension), where both are A or B; by chance: "
    "with the forms independent, given the persona's leaning. The forms are no paraphrases, so that some is to be expected; "
    "at chance, the answers follow the persona's general leaning alone.",
    "Position bias: P(first option) - P(second option), over questions asked in both orders.",
)


class Row(NamedTuple):
    """A measure with its name and the form of its numbers."""

    what: str
    measure: Measure
    form: str = ".1%"

    def cells(self) -> tuple[str, str, str, str]:
        """The row in the columns of `HEADS`."""
        measure = self.measure
        chance = "" if measure.chance is None else format(measure.chance, self.form)
        return self.what, _cell(measure, self.form), chance, f"{measure.n:,} {measure.of}"


def measures_of(quality: RunQuality) -> list[Row]:
    """Every measure over the whole run, those that could not be measured included."""
    survey, forms, order = quality.survey, quality.forms, quality.order
    rows = _recognised("persona recognised within the run", quality.identification)
    if survey is not None:
        rows += _recognised("persona recognised by the survey's leanings", survey.identification)
        for basis, distance in (("figures", survey.from_figures), ("a prior", survey.from_priors)):
            noise = "" if distance.lean_noise is None else f"; noise alone {distance.lean_noise:.3f}"
            rows.append(Row(f"distance of leanings that rest on {basis}{noise}", distance.lean, ".3f"))
    sampling = order.changed_by_samples
    noise = "" if sampling is None else f" (two samples of one order differ: {sampling:.1%})"
    return [
        *rows,
        Row("two samples of a request agree", quality.sample_agreement.overall),
        Row(f"answer differs between the orders{noise}", order.changed.overall),
        Row("position bias, P(first) - P(second)", order.gap.overall, "+.3f"),
        Row("contradictory forms", forms.contradictory.overall),
        *([Row("... minus chance", forms.excess, "+.3f")] if forms.excess.value is not None else []),
    ]


def rows_of(quality: RunQuality) -> list[tuple[str, str, str, str]]:
    """The main table, of what could be measured, in the columns of `HEADS`."""
    return [row.cells() for row in measures_of(quality) if row.measure.value is not None]


def not_measured_of(quality: RunQuality) -> list[str]:
    """What could not be measured, and why."""
    missing = [f"{row.what}: {row.measure.note}" for row in measures_of(quality) if row.measure.value is None]
    return missing + ["beside the survey: the run's personas have no survey figures on record"] * (
        quality.survey is None
    )


def to_dict(quality: RunQuality, run: str) -> dict[str, Any]:
    """Everything, as JSON takes it; an interval is a list of two."""
    return {"run": run, "simulated": SIMULATED_NOTE, "survey_note": SURVEY_NOTE, **to_json(quality)}


def to_markdown(quality: RunQuality, run: str) -> str:
    """One page; `run` is the run's name."""
    of = "" if quality.requests is None else f" of {quality.requests:,}"
    asked = "both orders of the options" if quality.orders == 2 else "one order of the options"
    missing = not_measured_of(quality)
    parts = [
        f"# Quality of the run {code(run)}",
        f"**{SIMULATED_NOTE}** Respondent: {code(quality.respondent)}.",
        f"{quality.replies:,}{of} replies to {counted(quality.questions, 'question')} on "
        f"{counted(quality.clusters, '(problem, group) pair')} by {counted(len(quality.personas), 'persona')}; {asked}, "
        f"{counted(quality.samples, 'sample')}; {quality.valid / quality.replies:.1%} valid.",
        table(HEADS, rows_of(quality)),
        *([f"Not measured:\n\n{bullets(missing)}"] if missing else []),
        "## By persona",
        _used_columns([_persona_row(quality, persona) for persona in quality.personas]),
        "## Statuses",
        _statuses(quality),
        "## How to read this",
        bullets([*_NOTES, SURVEY_NOTE] if quality.survey else _NOTES),
    ]
    return "\n\n".join(parts) + "\n"


def write_quality(quality: RunQuality, run: str, out: Path) -> list[Path]:
    """Write quality.json and quality.md into a folder, and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"quality.{suffix}" for suffix in ("json", "md")]
    paths[0].write_text(json_text(to_dict(quality, run)), encoding="utf-8")
    paths[1].write_text(to_markdown(quality, run), encoding="utf-8")
    return paths


def _recognised(what: str, identification: Identification) -> list[Row]:
    """One row a size that could be measured; one that says why, if none could."""
    measures = identification.by_size
    known = {size: measure for size, measure in measures.items() if measure.value is not None}
    if not known:
        return [Row(what, next(iter(measures.values())))]
    return [
        Row(f"{what}, from {counted(size, 'answer')}" if index == 0 else f"... from {size:,}", measure)
        for index, (size, measure) in enumerate(known.items())
    ]


def _cell(measure: Measure | None, form: str = ".1%") -> str:
    if measure is None or measure.value is None:
        return "-"
    shown = [format(value + 0.0, form) for value in (measure.value, *(measure.interval or ()))]
    return shown[0] if measure.interval is None else f"{shown[0]} [{', '.join(shown[1:])}]"


def _chance(measure: Measure | None, form: str = ".1%") -> str:
    return "-" if measure is None or measure.chance is None else format(measure.chance, form)


def _used_columns(rows: list[dict[str, str]]) -> str:
    """A table of rows with the same columns, without those that have nothing in them."""
    heads = [head for head in rows[0] if any(row[head] != "-" for row in rows)]
    return table(heads, [[row[head] for head in heads] for row in rows])


def _persona_row(quality: RunQuality, persona: str) -> dict[str, str]:
    identification, survey, order = quality.identification, quality.survey, quality.order
    counts = quality.statuses.by_persona[persona]
    contradictory = quality.forms.contradictory.by_persona.get(persona)
    size = identification.size
    return {
        "persona": persona,
        "valid": f"{counts['ok'] / sum(counts.values()):.1%}",
        f"recognised from {size}" if size else "recognised": _cell(identification.by_persona.get(persona)),
        "most often taken for": _taken_for(identification, persona),
        "distance from survey": _cell(survey.by_persona.get(persona) if survey else None, ".3f"),
        "samples agree": _cell(quality.sample_agreement.by_persona.get(persona)),
        "orders differ": _cell(order.changed.by_persona.get(persona)),
        "position bias": _cell(order.gap.by_persona.get(persona), "+.3f"),
        "contradictory": _cell(contradictory),
        "by chance": _chance(contradictory),
    }


def _taken_for(identification: Identification, persona: str) -> str:
    if identification.size is None:
        return "-"
    shares = identification.confusion[identification.personas.index(persona)]
    others = [
        (share, other)
        for other, share in zip(identification.personas, shares, strict=True)
        if share is not None and other != persona
    ]
    share, other = max(others, default=(0.0, ""))
    return f"{other} ({share:.1%})" if share else "nobody"


def _statuses(quality: RunQuality) -> str:
    """All counts, and for each status but `ok` where it is most frequent."""
    statuses = quality.statuses
    shown = [f"{', '.join(f'{status} {count:,}' for status, count in statuses.counts.items() if count)}."]
    most = []
    for status, count in statuses.counts.items():
        if status == "ok" or not count:
            continue
        said = []
        for among, by_name in (("persona", statuses.by_persona), ("group", statuses.by_group)):
            rates = {
                name: counts[status] / sum(counts.values()) for name, counts in by_name.items() if any(counts.values())
            }
            name = max(rates, key=lambda name: rates[name])
            said.append(f"{among} {name} {rates[name]:.1%}")
        most.append(f"{status}: {count / quality.replies:.1%} of all replies; most for {' and '.join(said)}")
    return "\n\n".join([*shown, *([bullets(most)] if most else [])])
