"""The quality of a run on one page: a table, JSON and Markdown."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from fairpp_hf.evaluation.quality.identification import Identification
from fairpp_hf.evaluation.quality.quality import RunQuality
from fairpp_hf.evaluation.quality.replies import Measure
from fairpp_hf.evaluation.quality.statuses import Difference
from fairpp_hf.evaluation.quality.survey import Distance
from fairpp_hf.markdown import bullets, code, counted, table
from fairpp_hf.statistics.intervals import Interval

HEADS = ("what", "value [95%]", "by chance", "n")
SIMULATED_NOTE = (
    "The answers are simulated: nobody was asked. The numbers are about how a model plays its roles, not about people."
)
SURVEY_NOTE = (
    "The survey did not ask these questions: its leanings are those of a model with parameters from survey figures, or from "
    "a prior where no figure bears on them."
)
_NOTES = (
    "In brackets: 95% interval, bootstrap over (problem, group) clusters of questions; none where there are fewer than 10. "
    "n: what the number is counted over.",
    "Recognised: share of bundles of so many answers that are attributed to the persona that gave them. Within the run: "
    "by each persona's answer shares by dimension, group type and form, learnt on other (problem, group) pairs. By "
    "the survey: by the shares that its model expects of each persona.",
    "Distance of leanings: mean absolute difference of P(B | A or B), 0 to 1; by chance: answers divided evenly between A "
    "and B. Noise alone: what so many answers of exactly these leanings would show.",
    "Order of the personas: Spearman's rank correlation with the survey; beside it, what 1 of 20 random orders reaches.",
    "Contradictory: opposite poles in the two forms of a (problem, group, dimension), where both are A or B; by chance: "
    "with the forms independent, given the persona's leaning. The forms are no paraphrases, so that some is to be expected; "
    "at chance, the answers follow the persona's general leaning alone.",
    "Position bias: P(first option) - P(second option), over questions asked in both orders.",
)


_Line: TypeAlias = tuple[str, Measure, Callable[[float], str]]


def rows_of(quality: RunQuality) -> list[tuple[str, str, str, str]]:
    """The main table, of what could be measured, in the columns of `HEADS`."""
    return [
        (
            what,
            _cell(measure, shown),
            "" if measure.chance is None else shown(measure.chance),
            f"{measure.n:,} {measure.of}",
        )
        for what, measure, shown in _lines(quality)
        if measure.value is not None
    ]


def not_measured_of(quality: RunQuality) -> list[str]:
    """What could not be measured, and why."""
    missing = [f"{what}: {measure.note}" for what, measure, _ in _lines(quality) if measure.value is None]
    return missing + ["beside the survey: the run's personas have no survey figures on record"] * (
        quality.survey is None
    )


def _lines(quality: RunQuality) -> list[_Line]:
    own, survey, forms = quality.identification, quality.survey, quality.forms
    lines: list[_Line] = [
        *_recognised("persona recognised within the run", own),
        *([("... from all of a fold's answers", own.over_all, _share)] if own.over_all.value is not None else []),
    ]
    if survey is not None:
        lines += _recognised("persona recognised by the survey's leanings", survey.identification)
        for basis, distance in (("figures", survey.from_figures), ("a prior", survey.from_priors)):
            lines += _distances(basis, distance)
    sampling = quality.order.changed_by_samples
    noise = "" if sampling is None else f" (two samples of one order differ: {_share(sampling)})"
    return [
        *lines,
        ("two samples of a request agree", quality.sample_agreement.overall, _share),
        (f"answer differs between the orders{noise}", quality.order.changed.overall, _share),
        ("position bias, P(first) - P(second)", quality.order.gap.overall, _signed),
        ("contradictory forms", forms.contradictory.overall, _share),
        *([("... minus chance", forms.excess, _signed)] if forms.excess.value is not None else []),
        ("intransitive preferences", forms.intransitive, _share),
    ]


def to_dict(quality: RunQuality, run: str) -> dict[str, Any]:
    """Everything, as JSON takes it; an interval is a list of two."""
    return {"run": run, "simulated": SIMULATED_NOTE, "survey_note": SURVEY_NOTE, **_plain(quality)}


def to_markdown(quality: RunQuality, run: str) -> str:
    """One page; `run` is the run's name."""
    parts = [
        f"# Quality of the run {code(run)}",
        f"**{SIMULATED_NOTE}** Respondent: {code(quality.respondent)}.",
        _extent(quality),
        table(HEADS, rows_of(quality)),
        *([f"Not measured:\n\n{bullets(missing)}"] if (missing := not_measured_of(quality)) else []),
        "## By persona",
        _persona_table(quality),
        "## By dimension",
        _dimension_table(quality),
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
    text = json.dumps(to_dict(quality, run), indent=2, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    paths[1].write_text(to_markdown(quality, run), encoding="utf-8")
    return paths


def _recognised(what: str, identification: Identification) -> list[_Line]:
    """One row a size that could be measured; one that says why, if none could."""
    measures = identification.by_size
    known = {size: measure for size, measure in measures.items() if measure.value is not None}
    if not known:
        return [(what, next(iter(measures.values())), _share)]
    return [
        (f"{what}, from {counted(size, 'answer')}" if index == 0 else f"... from {size:,}", measure, _share)
        for index, (size, measure) in enumerate(known.items())
    ]


def _distances(basis: str, distance: Distance) -> list[_Line]:
    def noise(value: float | None) -> str:
        return "" if value is None else f"; noise alone {value:.3f}"

    return [
        (f"distance of leanings that rest on {basis}{noise(distance.lean_noise)}", distance.lean, _number),
        (f"... of shares of A, B, C, by Jensen-Shannon{noise(distance.shares_noise)}", distance.shares, _number),
    ]


def _cell(measure: Measure | None, shown: Callable[[float], str]) -> str:
    if measure is None or measure.value is None:
        return "-"
    interval = "" if measure.interval is None else f" [{', '.join(map(shown, measure.interval))}]"
    return shown(measure.value) + interval


def _share(value: float) -> str:
    return f"{value:.1%}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value + 0.0:+.3f}"


def _extent(quality: RunQuality) -> str:
    of = "" if quality.requests is None else f" of {quality.requests:,}"
    asked = "both orders of the options" if quality.orders == 2 else "one order of the options"
    return (
        f"{quality.replies:,}{of} replies to {counted(quality.questions, 'question')} on "
        f"{counted(quality.clusters, '(problem, group) pair')} by {counted(len(quality.personas), 'persona')}; {asked}, "
        f"{counted(quality.samples, 'sample')}; {quality.valid / quality.replies:.1%} valid."
    )


def _persona_table(quality: RunQuality) -> str:
    identification, survey = quality.identification, quality.survey
    size = identification.size
    heads = ["persona", "valid", f"recognised from {size}" if size else "recognised", "most often taken for"]
    heads += ["distance from survey", "samples agree", "orders differ", "position bias", "contradictory", "by chance"]
    rows = []
    for persona in quality.personas:
        counts = quality.statuses.by_persona[persona]
        contradictory = quality.forms.contradictory.by_persona.get(persona)
        rows.append(
            [
                persona,
                _share(counts["ok"] / sum(counts.values())),
                _cell(identification.by_persona.get(persona), _share),
                _taken_for(identification, persona),
                _cell(survey.by_persona.get(persona), _number) if survey else "-",
                _cell(quality.sample_agreement.by_persona.get(persona), _share),
                _cell(quality.order.changed.by_persona.get(persona), _share),
                _cell(quality.order.gap.by_persona.get(persona), _signed),
                _cell(contradictory, _share),
                "-" if contradictory is None or contradictory.chance is None else _share(contradictory.chance),
            ]
        )
    # A column without a number in it says nothing.
    used = [column for column in range(len(heads)) if any(row[column] != "-" for row in rows)]
    return table([heads[column] for column in used], [[row[column] for column in used] for row in rows])


def _taken_for(identification: Identification, persona: str) -> str:
    """The other candidate that gets most of a persona's bundles."""
    if persona not in identification.personas or not identification.confusion:
        return "-"
    row = identification.personas.index(persona)
    others = [
        (share, other)
        for other, share in zip(identification.personas, identification.confusion[row], strict=True)
        if share is not None and other != persona
    ]
    share, other = max(others, default=(0.0, ""))
    return f"{other} ({_share(share)})" if share else "nobody"


def _dimension_table(quality: RunQuality) -> str:
    survey, forms = quality.survey, quality.forms
    heads = [
        "dimension",
        "order of the personas",
        "1 random order in 20",
        "leanings from figures",
        "contradictory",
        "by chance",
    ]
    numbers = sorted({*(survey.order if survey else ()), *forms.by_dimension})
    if not numbers:
        return "Nothing could be measured by dimension."
    rows = []
    for number in numbers:
        contradictory = forms.by_dimension.get(number)
        order = survey.order.get(number) if survey else None
        leanings = [of[number] for of in survey.leanings.values() if number in of] if survey else []
        figures = sum(leaning.from_figures for leaning in leanings)
        rows.append(
            [
                str(number),
                _cell(order, _signed),
                "-" if order is None or order.chance is None else _signed(order.chance),
                f"{figures} of {len(leanings)} personas" if leanings else "-",
                _cell(contradictory, _share),
                "-" if contradictory is None or contradictory.chance is None else _share(contradictory.chance),
            ]
        )
    return table(heads, rows)


def _statuses(quality: RunQuality) -> str:
    counts = ", ".join(f"{status} {count:,}" for status, count in quality.statuses.counts.items() if count)
    return "\n\n".join(
        [f"{counts}.", *([bullets(map(_difference, quality.statuses.largest))] * bool(quality.statuses.largest))]
    )


def _difference(difference: Difference) -> str:
    measure = difference.difference
    interval = "" if measure.interval is None else f" [{', '.join(map(_points, measure.interval))}]"
    return (
        f"{difference.status}, largest difference by {difference.among}: {difference.name} {_share(difference.rate)}, "
        f"others {_share(difference.rate_elsewhere)}, so {_points(measure.value or 0.0)}{interval} points, n {measure.n:,}; "
        f"by chance, 1 time in 20, more than {_points(measure.chance or 0.0).lstrip('+')}."
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _plain(value: Any) -> Any:
    """Named tuples as objects, intervals as lists."""
    if isinstance(value, tuple) and hasattr(value, "_fields") and not isinstance(value, Interval):
        return {name: _plain(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
