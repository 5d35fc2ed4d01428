"""The positions as JSON, Markdown and Parquet."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairpp_hf.evaluation.positioning.pca import MIN_ANSWERS
from fairpp_hf.evaluation.positioning.positions import FEW_QUESTIONS, METHODS, MIN_DECIDED, Place, Point, Positions
from fairpp_hf.markdown import bullets, counted, table

FORMAT = 1
FILES = ("positions.json", "positions.md", "positions.parquet")

TITLES = {"pca": "Principal components", "ideal_point": "Ideal points"}
_DIGITS = {"pca": 3, "ideal_point": 2}
_NEEDED = {"pca": f"under {MIN_ANSWERS} in a cell", "ideal_point": f"under {MIN_DECIDED} of A or B"}
"""What leaves a respondent without a place."""
_SMALL = (
    f"Regions are not to be relied on under {FEW_QUESTIONS} questions: on simulated respondents, those of principal "
    "components are too small (the truth in 88% to 94% of samples, and not in 95%), and those of ideal points too large (in "
    "up to 100%)."
)
_ONE_CELL = (
    f"There are too few questions to tell the dimensions apart, which takes {MIN_ANSWERS} answers of each persona on each. "
    "All are thrown together here, and the axes show no more than shares of A, B and C. Ask more questions; some 300 do."
)
_NOTES = (
    "Places: in brackets the 95% interval of each coordinate, by a bootstrap over (problem, group) clusters of questions "
    "that repeats the whole estimate, axes included. It covers the questions and the drawing of answers, and not what "
    "another training seed or another wording would change. On simulated respondents, whose true places are known, regions "
    "hold the truth in about 94% of samples of 1,000 questions and more. Of smaller samples, regions of principal "
    f"components hold it in about 93%, and in about 90% for a model with only {MIN_ANSWERS} answers in a cell; those of "
    "ideal points in up to 100% (benchmarks/position_coverage.py).",
    "Principal components: of the square roots of the shares of A, B and C in cells of questions. The axes are the "
    "personas' alone. Distances are Hellinger's, 0 to 1, a close relative of Jensen-Shannon's. On the map: how much of the "
    "squared distance from the personas' mean the plane shows; where it is low, the respondent differs mostly in ways that "
    "no axis shows, and its nearest persona on the map says little.",
    "Ideal points: log-odds of pole A against pole B, by a spatial model fitted on the personas (Clinton, Jackman and "
    "Rivers 2004); answers C do not count there. The distance of two points is the root mean square difference of fitted "
    "log-odds.",
    "Nearest: the persona whose point is nearest; in brackets, in what share of the bootstrap it is. Of a persona, "
    "another one. Nearest by JS: by the Jensen-Shannon distance (natural logarithm) of the shares of A, B and C over all "
    "questions, which is blind to who answers what.",
    "Abstention: share of C among the answers.",
)


_BASELINES = (
    "Constant and label model: what the target's answers to other questions say about these, as the same shares for every "
    "question, and from the questions' labels. A place near the target does not show that a model knows more than these "
    "shares; its skill does, see `fairpp evaluate`."
)


def to_dict(positions: Positions) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    return {
        "format": FORMAT,
        "questions": positions.questions,
        "division": positions.division,
        "reference": positions.reference,
        "methods": {
            method: {
                **({"explained_variance": list(positions.explained_variance)} if method == "pca" else {}),
                **({"spread": list(positions.spread)} if method == "ideal_point" else {}),
                "axes": list(positions.axes[method]),
                "cells": {"by": list(positions.cells[method][0]), "count": positions.cells[method][1]},
            }
            for method in METHODS
        },
        "points": [
            {
                "name": point.name,
                "kind": point.kind,
                "region": point.region,
                "before": point.before,
                "answered": point.answered,
                "abstention": point.abstention,
                "abstention_95": None if point.abstention_interval is None else list(point.abstention_interval),
                "nearest_by_js": point.nearest_js,
                "js_distance": point.js_distance,
                "on_map": point.on_map,
                **{method: _place_dict(point.places[method]) for method in METHODS},
            }
            for point in positions.points
        ],
    }


def _place_dict(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "xy": place.xy.tolist(),
        "intervals_95": [list(interval) for interval in place.intervals()],
        "ellipse_95": place.ellipse().round(6).tolist(),
        "nearest": place.nearest,
        "nearest_share": place.nearest_share,
    }


def to_markdown(positions: Positions) -> str:
    """A table for each map, and what they mean."""
    parts = [
        "# Positions among the personas",
        f"{counted(positions.questions, 'question')} ({positions.division}); answers of the personas: "
        f"{positions.reference}. "
        "The personas are segments of a survey as they are simulated here: their places say nothing about real people.",
        *([_SMALL] if positions.questions < FEW_QUESTIONS else []),
        "## Who stands where",
        _overview(positions),
    ]
    for method in METHODS:
        by, count = positions.cells[method]
        what = "cell" if method == "pca" else "template"
        first, second = positions.explained_variance if method == "pca" else positions.spread
        share = (
            "of the personas' sample variance" if method == "pca" else "of the sample variance of the personas' points"
        )
        parts += [
            f"## {TITLES[method]}",
            bullets(
                [
                    f"{counted(count, what)}{' by ' + ' and '.join(by) if by else ''}; the axes have {first:.1%} and "
                    f"{second:.1%} {share}.",
                    *(f"{axis[0].upper()}{axis[1:]}." for axis in positions.axes[method]),
                    *([] if by else [_ONE_CELL]),
                ]
            ),
            _places_table(positions, method),
        ]
    notes = [*_NOTES, _BASELINES] if any(point.kind == "baseline" for point in positions.points) else _NOTES
    return "\n\n".join([*parts, "## How to read this", bullets(notes)]) + "\n"


def _overview(positions: Positions) -> str:
    heads = ["name", "kind", "region", "nearest on the map", "nearest ideal point", "nearest by JS"]
    heads += ["JS distance", "abstention", "on the map", "answered"]
    return table(heads, (_overview_row(point) for point in positions.points), left=6)


def _overview_row(point: Point) -> list[str]:
    interval = point.abstention_interval
    return [
        point.name,
        point.kind,
        point.region or "-",
        *(_nearest(point.places[method]) for method in METHODS),
        point.nearest_js or "-",
        "-" if point.js_distance is None else f"{point.js_distance:.3f}",
        "-"
        if point.abstention is None or interval is None
        else f"{point.abstention:.1%} [{interval.low:.1%}, {interval.high:.1%}]",
        "-" if point.on_map is None else f"{point.on_map:.0%}",
        f"{point.answered:,}",
    ]


def _nearest(place: Place | None) -> str:
    return "-" if place is None else f"{place.nearest} ({place.nearest_share:.0%})"


def _places_table(positions: Positions, method: str) -> str:
    rows = []
    for point in positions.points:
        place = point.places[method]
        if place is None:
            rows.append([point.name, f"too few answers ({_NEEDED[method]})", "-"])
        else:
            rows.append([point.name, *(_coordinate(place, axis, _DIGITS[method]) for axis in (0, 1))])
    return table(["name", "right", "up"], rows)


def _coordinate(place: Place, axis: int, digits: int) -> str:
    low, high = place.intervals()[axis]
    return f"{place.xy[axis] + 0.0:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def to_table(positions: Positions) -> pa.Table:
    """One row a point, with the columns of positions.json laid flat."""
    rows = []
    for point in to_dict(positions)["points"]:
        flat = {name: value for name, value in point.items() if name not in METHODS}
        for method in METHODS:
            place = point[method] or {}
            flat |= {f"{method}/{name}": place.get(name) for name in _PLACE_COLUMNS}
        rows.append(flat)
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_PAIR = pa.list_(pa.float64())
_PLACE_COLUMNS = {
    "xy": _PAIR,
    "intervals_95": pa.list_(_PAIR),
    "ellipse_95": pa.list_(_PAIR),
    "nearest": pa.string(),
    "nearest_share": pa.float64(),
}
_SCHEMA = pa.schema(
    {
        **{name: pa.string() for name in ("name", "kind", "region", "before")},
        "answered": pa.int64(),
        "abstention": pa.float64(),
        "abstention_95": _PAIR,
        "nearest_by_js": pa.string(),
        "js_distance": pa.float64(),
        "on_map": pa.float64(),
        **{f"{method}/{name}": kind for method in METHODS for name, kind in _PLACE_COLUMNS.items()},
    }
)


def write_positions(positions: Positions, out: Path) -> list[Path]:
    """Write `FILES` into a folder, and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in FILES]
    text = json.dumps(to_dict(positions), indent=2, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    paths[1].write_text(to_markdown(positions), encoding="utf-8")
    pq.write_table(to_table(positions), paths[2])
    return paths
