"""The positions as JSON and Markdown."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fairpp_hf.evaluation.forms import json_text, to_json
from fairpp_hf.evaluation.positioning.pca import MIN_ANSWERS
from fairpp_hf.evaluation.positioning.positions import FEW_QUESTIONS, MIN_DECIDED, Place, Positions
from fairpp_hf.evaluation.results import POSITIONS, POSITIONS_FORMAT
from fairpp_hf.markdown import bullets, counted, table

FILES = (POSITIONS, "positions.md")

TITLES = {"pca": "Principal components", "ideal_point": "Ideal points"}
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


def to_dict(positions: Positions) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    shares = {"pca": "explained_variance", "ideal_point": "spread"}
    methods = {
        method: {shares[method]: axes.shares, "axes": axes.words, "cells": {"by": axes.by, "count": axes.cells}}
        for method, axes in positions.axes.items()
    }
    points = []
    for point in positions.points:
        fields = point._asdict()
        places = fields.pop("places")
        points.append({**fields, **{method: _place_dict(place) for method, place in places.items()}})
    same = {name: getattr(positions, name) for name in ("questions", "division", "reference")}
    return dict(to_json({"format": POSITIONS_FORMAT, **same, "methods": methods, "points": points}))


def _place_dict(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "xy": place.xy.tolist(),
        "intervals_95": place.intervals(),
        "ellipse_95": place.ellipse().round(6).tolist(),
        "nearest": place.nearest,
        "nearest_share": place.nearest_share,
    }


def to_markdown(positions: Positions) -> str:
    """A table for each map, and what they mean."""
    heads = ["name", "kind", "region", "nearest on the map", "nearest ideal point", "nearest by JS"]
    heads += ["JS distance", "abstention", "on the map", "answered"]
    overview = [
        [
            point.name,
            point.kind,
            point.region or "-",
            *(
                "-" if place is None else f"{place.nearest} ({place.nearest_share:.0%})"
                for place in point.places.values()
            ),
            point.nearest_by_js or "-",
            "-" if point.js_distance is None else f"{point.js_distance:.3f}",
            "-" if point.abstention is None else f"{point.abstention:.1%}",
            "-" if point.on_map is None else f"{point.on_map:.0%}",
            f"{point.answered:,}",
        ]
        for point in positions.points
    ]
    parts = [
        "# Positions among the personas",
        f"{counted(positions.questions, 'question')} ({positions.division}); answers of the personas: "
        f"{positions.reference}. "
        "The personas are segments of a survey as they are simulated here: their places say nothing about real people.",
        *([_SMALL] if positions.questions < FEW_QUESTIONS else []),
        "## Who stands where",
        table(heads, overview, left=6),
        *_map_section(positions, "pca", "cell", "sample variance", 3),
        *_map_section(positions, "ideal_point", "template", "points' sample variance", 2),
        "## How to read this",
        notes(),
    ]
    return "\n\n".join(parts)


def summary_rows(positions: Positions) -> tuple[tuple[str, ...], list[list[str]]]:
    """Headings and rows of the table that matters most: who is nearest to whom, and how far."""
    rows = [
        [
            point.name,
            point.kind,
            point.places["pca"].nearest if point.places["pca"] is not None else "-",
            point.nearest_by_js or "-",
            "-" if point.js_distance is None else f"{point.js_distance:.3f}",
        ]
        for point in positions.points
    ]
    return ("name", "kind", "nearest on the map", "nearest by shares", "distance"), rows


def cautions(positions: Positions) -> list[str]:
    """What the reader of the table must know."""
    asked = f"{counted(positions.questions, 'question')} ({positions.division}); answers: {positions.reference}."
    return [asked, *([_SMALL] if positions.questions < FEW_QUESTIONS else [])]


def notes() -> str:
    """What a map and its numbers are."""
    return (files("fairpp_hf.evaluation.positioning") / "notes.md").read_text(encoding="utf-8")


def _map_section(positions: Positions, method: str, cell: str, of: str, digits: int) -> list[str]:
    by, count, shares, words = positions.axes[method]
    points = [
        f"{counted(count, cell)}{' by ' + ' and '.join(by) if by else ''}; the axes have {shares[0]:.1%} and "
        f"{shares[1]:.1%} of the personas' {of}.",
        *(f"{axis[0].upper()}{axis[1:]}." for axis in words),
        *([] if by else [_ONE_CELL]),
    ]
    rows = []
    for point in positions.points:
        place = point.places[method]
        if place is None:
            rows.append([point.name, f"too few answers ({_NEEDED[method]})", "-"])
            continue
        numbers = zip(place.xy, *zip(*place.intervals(), strict=True), strict=True)
        shown = [[f"{number + 0.0:+.{digits}f}" for number in three] for three in numbers]
        rows.append([point.name, *(f"{value} [{low}, {high}]" for value, low, high in shown)])
    return [f"## {TITLES[method]}", bullets(points), table(["name", "right", "up"], rows)]


def write_positions(positions: Positions, out: Path) -> list[Path]:
    """Write `FILES` into a folder, and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in FILES]
    paths[0].write_text(json_text(to_dict(positions)), encoding="utf-8")
    paths[1].write_text(to_markdown(positions), encoding="utf-8")
    return paths
