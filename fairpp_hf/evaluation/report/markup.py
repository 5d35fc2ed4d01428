"""HTML from texts that may say anything: what comes from outside passes through `text`."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from fairpp_hf.evaluation.report.charts import Chart


def text(value: object) -> str:
    """Any value as text of HTML, also within an attribute; what UTF-8 or HTML cannot hold becomes a replacement sign."""
    whole = str(value).encode("utf-8", "replace").decode()
    return html.escape(re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", whole), quote=True)


def name(value: object) -> str:
    """A name from outside, whose direction of writing does not spread to what is around it."""
    return f"<bdi>{text(value)}</bdi>"


def paragraph(*sentences: str) -> str:
    """A paragraph of HTML sentences."""
    return f"<p>{' '.join(sentence for sentence in sentences if sentence)}</p>"


def bullets(items: Iterable[str]) -> str:
    """A list of HTML items."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of plain texts that can be scrolled where it is wide; the first column names the rows."""
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return scrolled(
        f"<table><caption>{text(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", caption
    )


def scrolled(content: str, label: str) -> str:
    """What may be wider than the page, to be scrolled by touch, mouse or keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">{content}</div>'


def figure(chart: Chart, *, wide: bool = False) -> str:
    """A chart with its words and its numbers."""
    shown = ""
    if chart.shown_by is not None:
        shown = f' data-of="{text(chart.shown_by[0])}" data-value="{text(chart.shown_by[1])}"'
    notes = f'<div class="notes">{"".join(paragraph(text(note)) for note in chart.notes)}</div>' if chart.notes else ""
    return (
        f'<figure id="figure-{chart.key}"{" class=wide" if wide else ""}{shown}>'
        f"<figcaption><h3>{text(chart.title)}</h3></figcaption>"
        f'<div role="img" aria-label="{text(chart.alt)}">{place_of(chart)}</div>{notes}'
        f"<details><summary>Numbers</summary>{table(chart.heads, chart.rows, chart.title)}</details></figure>"
    )


def place_of(chart: Chart) -> str:
    """What stands in a section for a chart's drawing until that is made; no text from outside can hold such a comment."""
    return f"<!-- drawing of {chart.key} -->"


def grid(figures: Iterable[str], kind: Literal["halves", "thirds"] = "halves") -> str:
    """Figures beside each other, on a wide screen so many a row, on paper two."""
    return f'<div class="grid {kind}">{"".join(figures)}</div>'


def select(label: str, attributes: Mapping[str, str], options: Iterable[tuple[str, str]], chosen: str = "") -> str:
    """A choice of one, as (value, text)."""
    own = "".join(f' {key}="{text(value)}"' for key, value in attributes.items())
    inner = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>{text(shown)}</option>'
        for value, shown in options
    )
    return f"<label>{text(label)}<select{own}>{inner}</select></label>"


def controls(*inner: str) -> str:
    """What is there for those with scripts alone, and not on paper."""
    return f'<div class="controls">{"".join(inner)}</div>'


class Section(NamedTuple):
    """A part of the page under a heading."""

    key: str
    title: str
    html: str
    charts: tuple[Chart, ...] = ()
    """Those in it, to be written as PNG files."""


def section(key: str, title: str, *content: str, charts: Iterable[Chart] = ()) -> Section:
    """A section from its HTML, without the heading."""
    heading = f'<h2 id="{key}-title">{title}</h2>'
    inner = f'<section id="{key}" aria-labelledby="{key}-title">{heading}{"".join(content)}</section>'
    return Section(key, title, inner, tuple(charts))
